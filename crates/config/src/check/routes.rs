//! Egresses, targets and providers: which credentials may go where.

use std::collections::BTreeMap;

use super::{Findings, problem, urls};
use crate::types::{Config, EgressRule, Provider, Realm, Target, TargetKind};

/// The names of one and the same API; the first is today's.
const CODEX_APIS: [&str; 3] = ["openai-responses", "openai-codex-responses", "openai-chatgpt-responses"];

pub(super) fn check(config: &Config, findings: &mut Findings) {
    for name in config.gateway.transports.keys() {
        check_name(&["gateway", "transports", name], name, findings);
    }
    check_labels(config, findings);
    for (name, provider) in &config.providers {
        check_egress(config, &["providers", name, "egress"], provider.egress.as_ref(), findings);
    }
    for (name, agent) in &config.agents {
        check_egress(config, &["agents", name, "egress"], agent.egress.as_ref(), findings);
    }
    check_targets(config, findings);
    check_aliases(config, findings);
    for (name, provider) in &config.providers {
        check_name(&["providers", name], name, findings);
        check_binding(config, name, provider, findings);
    }
}

/// A rule names an egress by its name or by a label, so a label that is another egress's name could mean either.
fn check_labels(config: &Config, findings: &mut Findings) {
    let transports = &config.gateway.transports;
    for (name, egress) in transports {
        let key = ["gateway", "transports", name, "labels"];
        for label in &egress.labels {
            check_name(&key, label, findings);
            if label != name && transports.contains_key(label) {
                findings.text(&key, label, "another egress has this name: a rule could mean either");
            }
        }
    }
}

/// What a rule names must be there, or it would mean nothing, or forbid everything.
fn check_egress(config: &Config, key: &[&str; 3], rule: Option<&EgressRule>, findings: &mut Findings) {
    let Some(rule) = rule else { return };
    let transports = &config.gateway.transports;
    let known = |word: &String| transports.iter().any(|(name, egress)| name == word || egress.labels.contains(word));
    let [section, name, _] = *key;
    for (field, words) in [("require", &rule.require), ("prefer", &rule.prefer)] {
        for word in words.iter().filter(|word| !known(word)) {
            let told: Vec<String> = transports.iter().map(|(name, egress)| told(name, &egress.labels)).collect();
            let message = format!("no egress has this name or label; there are {}", told.join(", "));
            findings.text(&[section, name, "egress", field], word, message);
        }
    }
}

/// An egress with its labels, for a person.
fn told(name: &str, labels: &[String]) -> String {
    if labels.is_empty() { name.to_owned() } else { format!("{name} ({})", labels.join(", ")) }
}

fn check_targets(config: &Config, findings: &mut Findings) {
    for (id, target) in &config.targets {
        check_name(&["targets", id], id, findings);
        check_kind(id, target.kind, findings);
        // The id decides for a built-in target: its rules cannot be escaped by calling it custom.
        let kind = TargetKind::built_in(id).unwrap_or(TargetKind::Custom);
        urls::check_base(id, kind, &target.base_url, findings);
        if let Some(backend_url) = &target.backend_url {
            urls::check_backend(id, kind, backend_url, findings);
        }
        check_api(id, kind, target, findings);
        urls::check_origins(id, kind, &target.workspace_origins, findings);
        check_headers(id, target, findings);
    }
}

fn check_kind(id: &str, kind: TargetKind, findings: &mut Findings) {
    let key = ["targets", id, "kind"];
    match TargetKind::built_in(id) {
        Some(built_in) if kind != built_in => findings.text(
            &key,
            kind.as_str(),
            format!("{id} is built in; leave its kind out, and give a server of your own another name"),
        ),
        None if kind != TargetKind::Custom => findings.text(
            &key,
            kind.as_str(),
            format!(
                "the targets of the built-in kinds are chatgpt-codex and openai-api; {id} can only be of kind \
                 \"custom\""
            ),
        ),
        _ => {}
    }
}

fn check_api(id: &str, kind: TargetKind, target: &Target, findings: &mut Findings) {
    let Some(api) = target.api.as_deref() else { return };
    let known = if kind == TargetKind::ChatgptCodex { &CODEX_APIS[..] } else { &CODEX_APIS[..1] };
    if !known.contains(&api) {
        let message =
            format!("only the Responses API is spoken to {id}; use \"{}\" or leave the key out", CODEX_APIS[0]);
        findings.text(&["targets", id, "api"], api, message);
    }
}

/// What becomes a header must be able to be one, or every call would fail.
fn check_headers(id: &str, target: &Target, findings: &mut Findings) {
    for (name, text) in [
        ("originator", Some(&target.originator)),
        ("user_agent", target.user_agent.as_ref()),
        ("version", target.version.as_ref()),
    ] {
        if let Some(text) = text
            && (text.trim().is_empty() || !text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()))
        {
            findings.text(&["targets", id, name], text, "sent as a header: expected printable ASCII");
        }
    }
}

/// A prefix means one provider, be it a name or an alias.
fn check_aliases(config: &Config, findings: &mut Findings) {
    let mut owners: BTreeMap<&str, &str> = config.providers.keys().map(|name| (name.as_str(), name.as_str())).collect();
    for (name, provider) in &config.providers {
        let key = ["providers", name.as_str(), "aliases"];
        for alias in &provider.aliases {
            check_name(&key, alias, findings);
            let Some(owner) = owners.get(alias.as_str()).copied() else {
                owners.insert(alias, name);
                continue;
            };
            let taken = |by: &str| format!("already a name of provider {by}: a prefix means one provider");
            let here = problem(&key, Some(alias), taken(owner));
            if owner == alias {
                findings.pair(here, problem(&["providers", owner], None, taken(name)));
            } else {
                findings.pair(here, problem(&["providers", owner, "aliases"], Some(alias), taken(name)));
            }
        }
    }
}

/// A subscription's token goes to the Codex backend and nowhere else, and nothing else goes there.
fn check_binding(config: &Config, name: &str, provider: &Provider, findings: &mut Findings) {
    let (target, realm) = (provider.target.as_str(), provider.realm);
    let (target_key, realm_key) = (["providers", name, "target"], ["providers", name, "realm"]);
    if !config.targets.contains_key(target) {
        let known: Vec<_> = config.targets.keys().map(String::as_str).collect();
        return findings.text(&target_key, target, format!("no such target; there are {}", known.join(", ")));
    }
    let is_codex = target == TargetKind::ChatgptCodex.as_str();
    if is_codex == (realm == Realm::Subscription) {
        return;
    }
    let message = if is_codex {
        "the target chatgpt-codex takes subscription credentials only: use realm = \"subscription\", or \
         target = \"openai-api\" for API keys"
            .to_owned()
    } else {
        format!("subscription credentials bind only to the target chatgpt-codex; with {target} use realm = \"api-key\"")
    };
    findings
        .pair(problem(&realm_key, Some(realm.as_str()), message.clone()), problem(&target_key, Some(target), message));
}

/// Names that are typed as prefixes and compared as they stand.
fn check_name(key: &[&str], name: &str, findings: &mut Findings) {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || !name.bytes().all(is_plain) {
        findings.text(key, name, "a name is made of lower-case letters, digits and \"-\"");
    }
}
