//! From names as people write them to names as the table knows them.

use std::collections::BTreeMap;
use std::sync::Arc;

use config::{Config, Realm};
use domain::ModelRef;
use service_kit::UpstreamUrl;

use crate::table::BuildError;

/// A provider with everything a route needs from it.
#[derive(Debug)]
pub(crate) struct Provider {
    pub(crate) name: String,
    pub(crate) target: String,
    pub(crate) realm: Realm,
    /// URL of the responses call.
    pub(crate) url: String,
    /// Whether the target is on this machine.
    pub(crate) local: bool,
    /// Egresses that may make its calls.
    pub(crate) egress: Option<config::EgressRule>,
}

/// A model at its provider, and the rule that found it there.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) provider: Arc<Provider>,
    pub(crate) model: String,
    /// E.g. `alias codex -> openai-codex`.
    pub(crate) rule: String,
}

impl Named {
    /// `provider/model`, the same for every spelling.
    pub(crate) fn canonical(&self) -> ModelRef {
        ModelRef { provider: Some(self.provider.name.clone()), model: self.model.clone() }
    }

    pub(crate) fn is_same_route(&self, other: &Named) -> bool {
        self.provider.name == other.provider.name && self.model == other.model
    }
}

/// Why a name means nothing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Misnamed {
    /// It is no model name at all; says why.
    Malformed(&'static str),
    /// No provider and no alias of that name.
    UnknownPrefix(String),
}

/// Every prefix that means a provider, and the provider that a bare name means.
#[derive(Debug)]
pub(crate) struct Names {
    prefixes: BTreeMap<String, Arc<Provider>>,
    default: Arc<Provider>,
}

impl Names {
    pub(crate) fn build(config: &Config) -> Result<Self, BuildError> {
        let mut prefixes: BTreeMap<String, Arc<Provider>> = BTreeMap::new();
        for (name, provider) in &config.providers {
            let built = Arc::new(build_provider(config, name, provider)?);
            for prefix in std::iter::once(name).chain(&provider.aliases) {
                if let Some(owner) = prefixes.insert(prefix.to_ascii_lowercase(), Arc::clone(&built)) {
                    return Err(BuildError::new(
                        format!("providers.{name}"),
                        format!("the prefix {prefix:?} means {} already: a prefix means one provider", owner.name),
                    ));
                }
            }
        }
        let text = &config.defaults.model;
        let default = ModelRef::parse(text)
            .and_then(|name| name.provider)
            .and_then(|prefix| prefixes.get(&prefix).cloned())
            .ok_or_else(|| {
                let known = prefixes.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
                let message = format!("{text:?} names no provider; expected \"provider/model\" with one of {known}");
                BuildError::new("defaults.model", message)
            })?;
        Ok(Self { prefixes, default })
    }

    /// What a name means. The provider's case does not matter, the model's does: it is the upstream's own name.
    pub(crate) fn find(&self, text: &str) -> Result<Named, Misnamed> {
        let name = ModelRef::parse(text).ok_or_else(|| Misnamed::Malformed(malformed(text)))?;
        if name.model.contains('*') {
            return Err(Misnamed::Malformed("it is a pattern; a call names one model"));
        }
        let (provider, rule) = match &name.provider {
            None => {
                let provider = Arc::clone(&self.default);
                let rule = format!("bare name -> default provider {}", provider.name);
                (provider, rule)
            }
            Some(prefix) => {
                let provider = self.prefixes.get(prefix).cloned();
                let provider = provider.ok_or_else(|| Misnamed::UnknownPrefix(prefix.clone()))?;
                let rule = if *prefix == provider.name {
                    format!("provider {prefix}")
                } else {
                    format!("alias {prefix} -> {}", provider.name)
                };
                (provider, rule)
            }
        };
        Ok(Named { provider, model: name.model, rule })
    }

    /// A pattern of an allow list in canonical form. One that means nothing stays as it is and so covers nothing:
    /// dropping it could leave an empty list, which allows everything.
    pub(crate) fn pattern(&self, text: &str) -> String {
        let text = text.trim();
        match text.split_once('/') {
            None if text.is_empty() || text == "*" => text.to_owned(),
            None => format!("{}/{text}", self.default.name),
            Some((prefix, model)) => {
                let prefix = prefix.to_ascii_lowercase();
                let name = self.prefixes.get(&prefix).map_or(prefix.as_str(), |provider| &provider.name);
                format!("{name}/{model}")
            }
        }
    }

    /// Every provider; one with aliases more than once.
    pub(crate) fn providers(&self) -> impl Iterator<Item = &Provider> {
        self.prefixes.values().map(AsRef::as_ref)
    }

    /// Every prefix, in alphabetical order.
    pub(crate) fn prefixes(&self) -> impl Iterator<Item = &str> {
        self.prefixes.keys().map(String::as_str)
    }
}

fn build_provider(config: &Config, name: &str, provider: &config::Provider) -> Result<Provider, BuildError> {
    let target = config.targets.get(&provider.target).ok_or_else(|| {
        let known = config.targets.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let message = format!("no target {:?}; there are {known}", provider.target);
        BuildError::new(format!("providers.{name}.target"), message)
    })?;
    let url = UpstreamUrl::parse(&target.base_url)
        .map_err(|error| BuildError::new(format!("targets.{}.base_url", provider.target), error.to_string()))?;
    Ok(Provider {
        name: name.to_owned(),
        target: provider.target.clone(),
        realm: provider.realm,
        url: url.join("/responses"),
        local: url.is_loopback(),
        egress: provider.egress.clone(),
    })
}

fn malformed(text: &str) -> &'static str {
    let text = text.trim();
    if text.is_empty() {
        "it is empty"
    } else if text.len() > 256 {
        "it is longer than 256 bytes"
    } else if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        "it holds white space or a control character"
    } else {
        "expected \"provider/model\" or a model name"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names::build(&Config::default()).expect("the defaults are good")
    }

    #[test]
    fn every_rule_names_itself() {
        let names = names();
        for (text, canonical, rule) in [
            ("openai-codex/gpt-5.5", "openai-codex/gpt-5.5", "provider openai-codex"),
            ("codex/gpt-5.5", "openai-codex/gpt-5.5", "alias codex -> openai-codex"),
            ("CODEX-CLI/GPT-5.5", "openai-codex/GPT-5.5", "alias codex-cli -> openai-codex"),
            (" gpt-5.5 ", "openai-codex/gpt-5.5", "bare name -> default provider openai-codex"),
            ("openai/org/model", "openai/org/model", "provider openai"),
        ] {
            let named = names.find(text).expect(text);
            assert_eq!((named.canonical().to_string().as_str(), named.rule.as_str()), (canonical, rule));
        }
    }

    #[test]
    fn a_name_that_means_nothing_says_why() {
        let names = names();
        assert_eq!(names.find("opneai/x").expect_err("unknown"), Misnamed::UnknownPrefix("opneai".into()));
        for (text, why) in [
            (" ", "it is empty"),
            ("a b", "it holds white space or a control character"),
            ("/x", "expected \"provider/model\" or a model name"),
            ("codex/*", "it is a pattern; a call names one model"),
            (&"x".repeat(257), "it is longer than 256 bytes"),
        ] {
            assert_eq!(names.find(text).expect_err(text), Misnamed::Malformed(why));
        }
    }

    #[test]
    fn patterns_are_canonical() {
        let names = names();
        for (text, canonical) in [
            ("codex/*", "openai-codex/*"),
            ("Codex-CLI/gpt-5.5", "openai-codex/gpt-5.5"),
            ("openai/gpt-5*", "openai/gpt-5*"),
            ("gpt-5.5", "openai-codex/gpt-5.5"),
            ("nobody/*", "nobody/*"),
            ("*", "*"),
            ("", ""),
        ] {
            assert_eq!(names.pattern(text), canonical);
        }
    }
}
