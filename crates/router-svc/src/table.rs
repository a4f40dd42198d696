//! The route table: everything that routing depends on, checked once and never changed.

use std::collections::BTreeMap;

use config::Config;
use serde_json::json;

use crate::egress::Egresses;
use crate::names::{Misnamed, Named, Names};

/// A configuration that no table can be built from. `config::check` finds these and more; they are refused here too,
/// because a table with holes would answer wrongly instead of not at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {message}")]
pub struct BuildError {
    /// The dotted key at fault.
    pub key: String,
    /// What is wrong with it, and what would be right.
    pub message: String,
}

impl BuildError {
    pub(crate) fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: key.into(), message: message.into() }
    }
}

/// What one agent calls and may call, with the defaults filled in.
#[derive(Clone, Debug)]
pub(crate) struct Agent {
    pub(crate) model: Named,
    /// Where the model comes from: `default model` or `model of agent main`.
    pub(crate) model_from: String,
    pub(crate) fallbacks: Vec<Named>,
    /// Where the fallbacks come from: `the defaults` or `agent main`.
    pub(crate) fallbacks_from: String,
    /// Labels, in order; empty allows all.
    pub(crate) credentials: Vec<String>,
    /// Canonical patterns; empty allows all.
    pub(crate) allowed: Vec<String>,
    /// Egresses that may make its calls.
    pub(crate) egress: Option<config::EgressRule>,
}

/// An immutable route table.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) names: Names,
    /// The default model as the configuration writes it.
    pub(crate) configured_default: String,
    /// Agents that the configuration names.
    pub(crate) agents: BTreeMap<String, Agent>,
    /// Any other agent. Agents come into being with their keys; having no table is having an empty one.
    pub(crate) anyone: Agent,
    /// Models that the configuration lists, by canonical name.
    pub(crate) models: BTreeMap<String, (Named, config::Model)>,
    /// Names and labels of the egresses.
    pub(crate) egresses: Egresses,
    digest: String,
}

impl Table {
    /// Builds the table.
    ///
    /// # Errors
    ///
    /// The first key that the table cannot be built with.
    pub(crate) fn build(config: &Config) -> Result<Self, BuildError> {
        let names = Names::build(config)?;
        let default = &config.defaults;
        let anyone = Agent {
            model: named(&names, "defaults.model", &default.model)?,
            model_from: "default model".to_owned(),
            fallbacks: all_named(&names, "defaults.fallbacks", &default.fallbacks)?,
            fallbacks_from: "the defaults".to_owned(),
            credentials: Vec::new(),
            allowed: Vec::new(),
            egress: None,
        };
        let mut agents = BTreeMap::new();
        for (name, agent) in &config.agents {
            agents.insert(name.clone(), build_agent(&names, &anyone, name, agent)?);
        }
        let mut models = BTreeMap::new();
        for (id, model) in &config.models {
            let named = named(&names, &format!("models.\"{id}\""), id)?;
            models.insert(named.canonical().to_string(), (named, model.clone()));
        }
        let digest = digest(config, &names);
        Ok(Self {
            names,
            configured_default: default.model.clone(),
            agents,
            anyone,
            models,
            egresses: Egresses::of(config),
            digest,
        })
    }

    /// 16 hexadecimal digits that two tables share exactly when they route alike.
    pub(crate) fn digest(&self) -> &str {
        &self.digest
    }

    /// What an agent may do, be it in the configuration or not.
    pub(crate) fn agent(&self, name: &str) -> &Agent {
        self.agents.get(name).unwrap_or(&self.anyone)
    }
}

fn build_agent(names: &Names, anyone: &Agent, name: &str, agent: &config::Agent) -> Result<Agent, BuildError> {
    let key = |field: &str| format!("agents.{name}.{field}");
    let mut built = anyone.clone();
    if let Some(model) = &agent.model {
        built.model = named(names, &key("model"), model)?;
        built.model_from = format!("model of agent {name}");
    }
    if let Some(fallbacks) = &agent.fallbacks {
        built.fallbacks = all_named(names, &key("fallbacks"), fallbacks)?;
        built.fallbacks_from = format!("agent {name}");
    }
    if let Some(labels) = &agent.credentials {
        built.credentials = some_of(key("credentials"), "credential", labels)?;
    }
    if let Some(patterns) = &agent.allowed {
        let patterns = some_of(key("allowed"), "model", patterns)?;
        built.allowed = patterns.iter().map(|pattern| names.pattern(pattern)).collect();
    }
    built.egress.clone_from(&agent.egress);
    Ok(built)
}

/// An empty list says "nothing" in the file and "everything" in the protocol: nobody shall get the one for the other.
fn some_of(key: String, what: &str, list: &[String]) -> Result<Vec<String>, BuildError> {
    if list.is_empty() {
        let message = format!("an empty list would allow no {what}; leave the key out to allow all");
        return Err(BuildError::new(key, message));
    }
    Ok(list.to_vec())
}

fn all_named(names: &Names, key: &str, texts: &[String]) -> Result<Vec<Named>, BuildError> {
    texts.iter().map(|text| named(names, key, text)).collect()
}

fn named(names: &Names, key: &str, text: &str) -> Result<Named, BuildError> {
    names.find(text).map_err(|error| {
        let why = match error {
            Misnamed::Malformed(why) => why.to_owned(),
            Misnamed::UnknownPrefix(prefix) => {
                format!("no provider {prefix:?}; there are {}", names.prefixes().collect::<Vec<_>>().join(", "))
            }
        };
        BuildError::new(key, format!("{text:?}: {why}"))
    })
}

/// Over what an answer can depend on, and nothing else: a changed log format or an unused target is no other table.
fn digest(config: &Config, names: &Names) -> String {
    let urls: BTreeMap<&str, &str> =
        names.providers().map(|provider| (provider.target.as_str(), provider.url.as_str())).collect();
    let content = json!({
        "urls": urls,
        "providers": config.providers,
        "defaults": config.defaults,
        "models": config.models,
        "agents": config.agents,
        "egresses": Egresses::of(config).digested(),
    });
    let hex = blake3::hash(content.to_string().as_bytes()).to_hex();
    hex.chars().take(16).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(change: impl FnOnce(&mut Config)) -> Result<Table, BuildError> {
        let mut config = Config::default();
        change(&mut config);
        Table::build(&config)
    }

    fn refused(change: impl FnOnce(&mut Config)) -> String {
        changed(change).expect_err("refused").to_string()
    }

    #[test]
    fn the_digest_follows_what_routing_depends_on() {
        let before = changed(|_| {}).expect("good");
        assert_eq!(before.digest().len(), 16);
        let same = changed(|c| {
            c.gateway.listen = "127.0.0.1:1".into();
            c.targets.insert("unused".into(), config::Target::default());
        });
        assert_eq!(same.expect("good").digest(), before.digest());
        let other: [fn(&mut Config); 4] = [
            |c| c.defaults.fallbacks.push("openai/gpt-5.5".into()),
            |c| c.targets.get_mut("openai-api").expect("built in").base_url = "http://127.0.0.1:9/v1".into(),
            |c| c.agents.entry("main".into()).or_default().credentials = Some(vec!["a".into()]),
            |c| drop(c.models.remove("openai/gpt-5.5")),
        ];
        for change in other {
            assert_ne!(changed(change).expect("good").digest(), before.digest());
        }
    }

    #[test]
    fn a_configuration_with_holes_is_refused_by_key() {
        let provider = |c: &mut Config, change: fn(&mut config::Provider)| {
            change(c.providers.get_mut("openai").expect("built in"));
        };
        for (text, want) in [
            (refused(|c| c.defaults.model = "gpt-5.5".into()), "defaults.model: \"gpt-5.5\" names no provider"),
            (refused(|c| c.defaults.fallbacks = vec!["no/x".into()]), "defaults.fallbacks: \"no/x\": no provider"),
            (refused(|c| provider(c, |p| p.target = "none".into())), "providers.openai.target: no target \"none\""),
            (refused(|c| provider(c, |p| p.aliases = vec!["codex".into()])), "\"codex\" means"),
            (
                refused(|c| c.targets.get_mut("openai-api").expect("built in").base_url = "http://example.com".into()),
                "targets.openai-api.base_url: ",
            ),
            (
                refused(|c| c.agents.entry("a".into()).or_default().allowed = Some(vec![])),
                "agents.a.allowed: an empty list would allow no model",
            ),
            (
                refused(|c| c.agents.entry("a".into()).or_default().credentials = Some(vec![])),
                "agents.a.credentials: an empty list would allow no credential",
            ),
        ] {
            assert!(text.contains(want), "{text}");
        }
    }

    #[test]
    fn an_agent_without_a_table_has_an_empty_one() {
        let table = changed(|c| {
            c.agents.entry("own".into()).or_default().model = Some("openai/gpt-5.5".into());
        })
        .expect("good");
        assert_eq!(table.agent("own").model.canonical().to_string(), "openai/gpt-5.5");
        assert_eq!(table.agent("stranger").model.canonical().to_string(), "openai-codex/gpt-5.5");
        assert_eq!(table.agent("main").model_from, "default model");
    }
}
