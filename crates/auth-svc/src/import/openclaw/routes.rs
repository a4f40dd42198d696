//! Routes of `openclaw.json` as a `switchboard.toml`.
//!
//! What has no meaning here stands in the text as a comment, so that nothing of the old configuration is lost silently.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::CONFIG;
use super::overrides;
use super::references::{Names, Reference};
use crate::import::plan::Item;
use crate::import::{CODEX, OPENAI};

/// How notes call what holds for all agents.
const DEFAULTS: &str = "agents.defaults";

/// The configuration that an import proposes. Rendered once the labels of the credentials are known.
#[derive(Default)]
pub(crate) struct Routes {
    defaults: Option<Models>,
    agents: BTreeMap<String, Agent>,
    /// Models of OpenClaw's list.
    listed: Vec<String>,
}

#[derive(Default)]
struct Agent {
    models: Option<Models>,
    /// Wanted labels of the only credentials that the agent has in OpenClaw.
    credentials: Option<Vec<String>>,
}

/// Primary model and fallbacks of one agent, or of all.
struct Models {
    primary: Option<Reference>,
    fallbacks: Option<Vec<Reference>>,
}

/// Reads the routes. `credentials` are those of agents that must be kept to their own. `None` where there is nothing to
/// write.
pub(super) fn read(
    config: Option<&Map<String, Value>>,
    credentials: BTreeMap<String, Vec<String>>,
    items: &[Item],
    notes: &mut Vec<String>,
) -> Option<Routes> {
    let mut routes = Routes::default();
    for (agent, labels) in credentials {
        routes.agents.entry(agent).or_default().credentials = Some(labels);
    }
    if let Some(config) = config {
        let agents = config.get("agents");
        let defaults = agents.and_then(|agents| agents.get("defaults"));
        let names = Names::new(config, None);
        routes.defaults = defaults.and_then(|defaults| models(&names, defaults, false));
        for agent in agents.and_then(|agents| agents.get("list")).and_then(Value::as_array).into_iter().flatten() {
            let Some(id) = agent.get("id").and_then(Value::as_str) else { continue };
            if let Some(models) = models(&Names::new(config, Some(agent)), agent, true) {
                routes.agents.entry(agent_name(id)).or_default().models = Some(models);
            }
        }
        let listed = defaults.and_then(|defaults| defaults.get("models")).and_then(Value::as_object);
        for name in listed.into_iter().flatten().map(|(name, _)| names.resolve(name)) {
            let name = name.served().map(str::to_owned).filter(|name| !routes.listed.contains(name));
            routes.listed.extend(name);
        }
        notes.extend(routes.notes(items));
        overrides::note(config, notes);
    }
    (routes.defaults.is_some() || !routes.agents.is_empty()).then_some(routes)
}

/// `model` of an agent or of the defaults. An agent's own model comes without the fallbacks of all, as in OpenClaw.
fn models(names: &Names<'_>, table: &Value, is_agent: bool) -> Option<Models> {
    let model = table.get("model")?;
    let (primary, fallbacks) = match model {
        Value::String(primary) => (Some(primary.as_str()), None),
        Value::Object(model) => {
            let fallbacks = model.get("fallbacks").and_then(Value::as_array);
            let fallbacks = fallbacks.map(|list| list.iter().filter_map(Value::as_str).collect::<Vec<_>>());
            (model.get("primary").and_then(Value::as_str), fallbacks)
        }
        _ => return None,
    };
    let fallbacks = fallbacks.or_else(|| (is_agent && primary.is_some()).then(Vec::new));
    let resolve = |name: &str| names.resolve(name);
    let models = Models {
        primary: primary.map(resolve),
        fallbacks: fallbacks.map(|list| list.into_iter().map(resolve).collect()),
    };
    (models.primary.is_some() || models.fallbacks.is_some()).then_some(models)
}

/// OpenClaw's own rule for the names of agents' directories.
fn agent_name(id: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c.to_ascii_lowercase() } else { '-' };
    id.trim().chars().map(plain).take(64).collect()
}

impl Routes {
    fn all_models(&self) -> impl Iterator<Item = (&str, &Models)> {
        let agents = self.agents.iter().filter_map(|(name, agent)| Some((name.as_str(), agent.models.as_ref()?)));
        self.defaults.iter().map(|models| (DEFAULTS, models)).chain(agents)
    }

    /// What the operator must know of the routes.
    fn notes(&self, items: &[Item]) -> Vec<String> {
        let mut notes: Vec<String> = self.all_models().flat_map(|(whose, models)| models.notes(whose)).collect();
        let leaves_no_default = |models: &Models| matches!(&models.primary, Some(Reference::Unserved(..)));
        if self.defaults.as_ref().is_some_and(leaves_no_default) {
            notes.push(format!("{CONFIG} leaves no default model: Switchboard's own holds until [defaults] names one"));
        }
        let mut primaries = self.all_models().filter_map(|(_, models)| models.primary.as_ref());
        let has_key = items.iter().filter_map(Item::taken).any(|credential| credential.provider == OPENAI);
        if !has_key && primaries.any(|primary| primary.is_of(OPENAI)) {
            notes.push(format!(
                "{CONFIG} calls openai/… models, which are the platform's and need an API key, and none came in; for the \
                 subscription's login write openai-codex/… instead"
            ));
        }
        notes
    }

    /// The text of a switchboard.toml. `label_of` knows the labels that credentials got by those they wanted.
    pub(in crate::import) fn render(&self, label_of: &dyn Fn(&str) -> Option<String>) -> String {
        let mut text = format!("# Routes of OpenClaw ({CONFIG}) in Switchboard's names.\n");
        if let Some(defaults) = &self.defaults {
            text.push_str("\n[defaults]\n");
            defaults.render(&mut text);
        }
        for (name, agent) in &self.agents {
            let _ = writeln!(text, "\n[agents.{}]", key(name));
            if let Some(models) = &agent.models {
                models.render(&mut text);
            }
            if let Some(credentials) = &agent.credentials {
                let labels: Vec<String> = credentials.iter().filter_map(|label| label_of(label)).collect();
                text.push_str("# In OpenClaw this agent has these credentials only.\n");
                let _ = writeln!(text, "credentials = {}", list(&labels));
            }
        }
        if !self.listed.is_empty() {
            text.push_str("\n# OpenClaw's list of models, as an agent's table can have it to permit these only:\n");
            let _ = writeln!(text, "# allowed = {}", list(&self.listed));
        }
        text
    }
}

impl Models {
    fn notes(&self, whose: &str) -> Vec<String> {
        let fallbacks = self.fallbacks.as_deref().unwrap_or_default();
        let mut notes = Vec::new();
        for reference in self.primary.iter().chain(fallbacks) {
            if let Reference::Unserved(written, why) = reference {
                notes.push(format!("{CONFIG}, {whose}: the model {written:?} was not taken over: {why}"));
            }
        }
        let paid: Vec<&str> =
            fallbacks.iter().filter(|fallback| fallback.is_of(OPENAI)).filter_map(Reference::served).collect();
        if self.primary.as_ref().is_some_and(|primary| primary.is_of(CODEX)) && !paid.is_empty() {
            notes.push(format!(
                "{CONFIG}, {whose}: the fallback {} leaves the subscription and bills an API key, as OpenClaw's \
                 configuration says; delete it from `fallbacks` if that is not meant",
                paid.join(", ")
            ));
        }
        notes
    }

    fn render(&self, text: &mut String) {
        match &self.primary {
            Some(Reference::Served(name)) => {
                let _ = writeln!(text, "model = {}", quoted(name));
            }
            Some(Reference::Unserved(written, why)) => {
                let _ = writeln!(text, "# model = {}  # {why}", quoted(written));
            }
            None => {}
        }
        let Some(fallbacks) = &self.fallbacks else { return };
        let mut names = Vec::new();
        for reference in fallbacks {
            match reference {
                Reference::Served(name) if !names.contains(name) => names.push(name.clone()),
                Reference::Served(_) => {}
                Reference::Unserved(written, why) => {
                    let _ = writeln!(text, "# fallback {}: {why}", quoted(written));
                }
            }
        }
        let _ = writeln!(text, "fallbacks = {}", list(&names));
    }
}

/// A TOML key, bare where it can be.
fn key(name: &str) -> String {
    let is_bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if is_bare { name.to_owned() } else { quoted(name) }
}

fn list(items: &[String]) -> String {
    format!("[{}]", items.iter().map(|item| quoted(item)).collect::<Vec<_>>().join(", "))
}

/// A TOML string. JSON's escapes are TOML's too, but for the delete character, which JSON leaves as it is.
fn quoted(text: &str) -> String {
    Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}
