//! The shape of the configuration. What a field means to its user stands in `default.toml`; what the program may rely on
//! stands here. Sections have no defaults of their own: the embedded file supplies them, so there is one place to look.

mod routes;
mod seconds;
mod services;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use routes::{Agent, Defaults, EgressRule, HoistInstructions, Model, Provider, Realm, Target, TargetKind};
pub use seconds::{ParseSecondsError, Seconds};
pub use services::{Auth, Egress, Gateway, LogFormat, Router, Telemetry, Tls, Transport, Way};

/// The whole configuration, as every service reads it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The front door for agents.
    pub gateway: Gateway,
    /// Credentials and agent keys.
    pub auth: Auth,
    /// Routes.
    pub router: Router,
    /// Upstream calls.
    pub transport: Transport,
    /// What leaves by each egress, by its name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub egresses: BTreeMap<String, Way>,
    /// Mutual TLS between services.
    pub tls: Tls,
    /// Logs.
    pub telemetry: Telemetry,
    /// What an agent gets that names no model.
    pub defaults: Defaults,
    /// Upstream servers by id: `chatgpt-codex`, `openai-api`, and the user's own.
    pub targets: BTreeMap<String, Target>,
    /// Providers by the prefix of the model names they serve.
    pub providers: BTreeMap<String, Provider>,
    /// Listed models by `provider/model`.
    pub models: BTreeMap<String, Model>,
    /// Agents by name.
    pub agents: BTreeMap<String, Agent>,
}

impl Config {
    /// The proxy of the egress that `[transport]` is: its own, else that of every transport service; `None` leaves it to
    /// the environment.
    pub fn egress_proxy(&self) -> Option<&str> {
        self.proxy_of(&self.transport.name)
    }

    /// The proxy of an egress: its own, else that of every transport service; `None` leaves it to the environment.
    pub fn proxy_of(&self, egress: &str) -> Option<&str> {
        let own = self.egresses.get(egress).and_then(|way| way.proxy.as_deref());
        own.or(self.transport.proxy.as_deref())
    }
}

impl Default for Config {
    /// The built-in defaults: [`DEFAULT_FILE`](crate::DEFAULT_FILE) and nothing else.
    fn default() -> Self {
        #[expect(clippy::expect_used, reason = "the text is a constant, and a test of this crate parses it")]
        toml::from_str(crate::DEFAULT_FILE).expect("the embedded default file fits the types")
    }
}
