//! Model names as OpenClaw's configuration writes them, in Switchboard's names.
//!
//! One login had four names there in the course of time: `openai-codex/x`, `codex/x`, `codex-cli/x`, and `openai/x` with
//! the agent runtime `codex`. An `openai/x` without that runtime stays what it says, the platform and its API keys:
//! guessing could bill somebody.

use domain::ModelRef;
use serde_json::{Map, Value};

use super::provider;
use crate::import::{CODEX, OPENAI};

/// A model name of OpenClaw's.
pub(super) enum Reference {
    /// In our names.
    Served(String),
    /// As it was written, and why it leads nowhere here.
    Unserved(String, String),
}

impl Reference {
    /// The name, if it is served.
    pub(super) fn served(&self) -> Option<&str> {
        match self {
            Self::Served(name) => Some(name),
            Self::Unserved(..) => None,
        }
    }

    /// True for a model of this provider.
    pub(super) fn is_of(&self, provider: &str) -> bool {
        self.served().and_then(|name| name.split_once('/')).is_some_and(|(prefix, _)| prefix == provider)
    }
}

/// The tables in which a name is looked up, for one agent.
pub(super) struct Names<'a> {
    config: &'a Map<String, Value>,
    /// The agent's own table under `agents.list`, if it has one.
    agent: Option<&'a Value>,
}

impl<'a> Names<'a> {
    pub(super) fn new(config: &'a Map<String, Value>, agent: Option<&'a Value>) -> Self {
        Self { config, agent }
    }

    /// What `written` means.
    pub(super) fn resolve(&self, written: &str) -> Reference {
        let name = self.unalias(written.trim());
        let unserved = |why: String| Reference::Unserved(written.to_owned(), why);
        let Some(parsed) = ModelRef::parse(name) else { return unserved("it is no model name".to_owned()) };
        let Some(prefix) = parsed.provider.as_deref() else {
            return unserved("it names no provider".to_owned());
        };
        // A profile can be pinned behind an @; which credential serves is decided here by their order.
        let model = parsed.model.split('@').next().unwrap_or_default();
        match provider(prefix) {
            Some(CODEX) => Reference::Served(format!("{CODEX}/{model}")),
            Some(_) if self.runtime(name, model).is_some_and(|runtime| runtime == "codex") => {
                Reference::Served(format!("{CODEX}/{model}"))
            }
            Some(_) => Reference::Served(format!("{OPENAI}/{model}")),
            None => unserved(format!("the provider {prefix:?} is not served by Switchboard")),
        }
    }

    /// The tables of models that hold for the agent, its own first.
    fn model_tables(&self) -> impl Iterator<Item = &'a Map<String, Value>> {
        let own = self.agent.and_then(|agent| agent.get("models"));
        let defaults = self.defaults().and_then(|defaults| defaults.get("models"));
        own.into_iter().chain(defaults).filter_map(Value::as_object)
    }

    fn defaults(&self) -> Option<&'a Value> {
        self.config.get("agents")?.get("defaults")
    }

    fn unalias<'b>(&self, written: &'b str) -> &'b str
    where
        'a: 'b,
    {
        let is_alias = |settings: &Value| {
            let alias = settings.get("alias").and_then(Value::as_str);
            alias.is_some_and(|alias| alias.trim().eq_ignore_ascii_case(written))
        };
        self.model_tables()
            .flatten()
            .find(|(_, settings)| is_alias(settings))
            .map_or(written, |(name, _)| name.as_str())
    }

    /// The agent runtime that OpenClaw would use for a model of provider `openai`: the most specific setting first, last
    /// those for a whole agent, which old versions knew.
    fn runtime(&self, name: &str, model: &str) -> Option<&'a str> {
        let id = |settings: &'a Value| settings.get("agentRuntime")?.get("id")?.as_str();
        let wildcard = name.split_once('/').map(|(prefix, _)| format!("{prefix}/*")).unwrap_or_default();
        let in_tables = self
            .model_tables()
            .find_map(|table| [name, wildcard.as_str()].into_iter().find_map(|key| table.get(key).and_then(id)));
        in_tables
            .or_else(|| {
                let openai = self.config.get("models")?.get("providers")?.get(OPENAI)?;
                let listed = openai.get("models").and_then(Value::as_array);
                let listed =
                    listed.into_iter().flatten().find(|entry| entry.get("id").and_then(Value::as_str) == Some(model));
                listed.and_then(id).or_else(|| id(openai))
            })
            .or_else(|| self.agent.and_then(id))
            .or_else(|| self.defaults().and_then(id))
    }
}
