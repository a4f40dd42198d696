//! Model names, wherever one is given.

use super::Findings;
use crate::types::Config;

pub(super) fn check(config: &Config, findings: &mut Findings) {
    for id in config.models.keys() {
        let provider = id.split_once('/').filter(|(_, model)| !model.is_empty()).map(|(provider, _)| provider);
        // By name, not by alias: one model has one table.
        if !provider.is_some_and(|provider| config.providers.contains_key(provider)) {
            let known = config.providers.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            findings.key(&["models", id], format!("expected \"provider/model\" with a provider of {known}"));
        }
    }
    check_default(config, findings);
    for (name, agent) in &config.agents {
        for model in agent.model.iter() {
            check_reference(config, &["agents", name, "model"], model, findings);
        }
        for model in agent.fallbacks.iter().flatten() {
            check_reference(config, &["agents", name, "fallbacks"], model, findings);
        }
        for pattern in agent.allowed.iter().flatten() {
            check_pattern(config, &["agents", name, "allowed"], pattern, findings);
        }
    }
}

fn check_default(config: &Config, findings: &mut Findings) {
    let key = ["defaults", "model"];
    let model = &config.defaults.model;
    if model.contains('/') {
        check_reference(config, &key, model, findings);
    } else {
        // A name without provider means the provider of this very key.
        let message = format!("the default model names its provider: \"provider/{model}\", {}", providers(config));
        findings.text(&key, model, message);
    }
    for model in &config.defaults.fallbacks {
        check_reference(config, &["defaults", "fallbacks"], model, findings);
    }
}

/// What an agent may call: a model, or all of a provider's.
fn check_pattern(config: &Config, key: &[&str], text: &str, findings: &mut Findings) {
    match text.strip_suffix("/*") {
        Some(provider) => check_prefix(config, key, text, provider, findings),
        None if text == "*" => findings.text(key, text, "to allow every model, leave the key out"),
        None => check_reference(config, key, text, findings),
    }
}

/// One model: `provider/model`, or a model name alone.
fn check_reference(config: &Config, key: &[&str], text: &str, findings: &mut Findings) {
    let (provider, model) = text.split_once('/').map_or((None, text), |(provider, model)| (Some(provider), model));
    if text.contains('*') {
        findings.text(key, text, "a pattern can only be \"provider/*\" in an agent's `allowed`");
    } else if model.is_empty() || text.contains(char::is_whitespace) {
        findings.text(key, text, "expected \"provider/model\" or a model name");
    } else if let Some(provider) = provider {
        check_prefix(config, key, text, provider, findings);
    }
}

fn check_prefix(config: &Config, key: &[&str], text: &str, provider: &str, findings: &mut Findings) {
    if prefixes(config).all(|prefix| prefix != provider) {
        let distance = |prefix: &&str| strsim::osa_distance(prefix, provider);
        let near = prefixes(config).min_by_key(distance).filter(|prefix| distance(prefix) <= 2);
        let near = near.map_or_else(String::new, |near| format!("the nearest is \"{near}\"; "));
        findings.text(key, text, format!("no provider \"{provider}\"; {near}{}", providers(config)));
    }
}

/// Every prefix that means a provider.
fn prefixes(config: &Config) -> impl Iterator<Item = &str> {
    config
        .providers
        .iter()
        .flat_map(|(name, provider)| std::iter::once(name).chain(&provider.aliases))
        .map(String::as_str)
}

fn providers(config: &Config) -> String {
    format!("the providers are {}", prefixes(config).collect::<Vec<_>>().join(", "))
}
