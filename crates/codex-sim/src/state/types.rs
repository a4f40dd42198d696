//! What tests and scripts hand in and get back: the shapes of the in-process interface and of `/sim`.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{config::AccountSpec, identity::fault::TokenScenario, scenario::Scenario};

/// A login to create.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedLogin {
    /// The account it belongs to; an account may have several logins.
    pub account_id: String,
    /// The owner's e-mail address.
    #[serde(default = "default_email")]
    pub email: String,
    /// The plan.
    #[serde(default = "default_plan")]
    pub plan: String,
    /// The account's scenario from now on; `None` leaves it as it is.
    #[serde(default)]
    pub scenario: Option<Scenario>,
    /// How the identity provider treats the account from now on; `None` leaves it as it is.
    #[serde(default)]
    pub token_scenario: Option<TokenScenario>,
    /// How long the first access token lives (in JSON: `access_ttl_seconds`); zero makes one that has
    /// expired. Later ones live as long as the simulator's configuration says.
    #[serde(default, rename = "access_ttl_seconds", deserialize_with = "seconds")]
    pub access_ttl: Option<Duration>,
}

impl SeedLogin {
    /// A login with defaults for all but the account.
    pub fn account(account_id: impl Into<String>) -> Self {
        Self {
            account_id: account_id.into(),
            email: default_email(),
            plan: default_plan(),
            scenario: None,
            token_scenario: None,
            access_ttl: None,
        }
    }
}

/// A login that was created, with its tokens.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SeededLogin {
    /// The login's number, as in [`LoginStats`].
    pub login_id: usize,
    /// The account it belongs to.
    pub account_id: String,
    /// The owner's e-mail address.
    pub email: String,
    /// The plan.
    pub plan: String,
    /// A JWT.
    pub access_token: String,
    /// Good for one refresh.
    pub refresh_token: String,
    /// A JWT that lives an hour.
    pub id_token: String,
    /// When the access token expires, unix seconds.
    pub expires_at: i64,
}

impl SeededLogin {
    /// The login as Codex CLI keeps it in `auth.json`.
    pub fn codex_auth_json(&self) -> Value {
        json!({
            "auth_mode": "chatgpt",
            "OPENAI_API_KEY": null,
            "tokens": {
                "id_token": self.id_token,
                "access_token": self.access_token,
                "refresh_token": self.refresh_token,
                "account_id": self.account_id,
            },
            "last_refresh": "2026-11-22T12:22:35.287407532Z",
        })
    }
}

/// Tokens from elsewhere, to be taken as those of a login. What is not given is read from the claims.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdoptTokens {
    /// The account.
    pub account_id: Option<String>,
    /// The owner's e-mail address.
    pub email: Option<String>,
    /// The plan.
    pub plan: Option<String>,
    /// Any string; a JWT's own `exp` counts unless `expires_in` is given.
    pub access_token: Option<String>,
    /// Any string; good for one refresh.
    pub refresh_token: Option<String>,
    /// Read for claims only.
    pub id_token: Option<String>,
    /// How long the access token lives from now (in JSON: `expires_in_seconds`).
    #[serde(rename = "expires_in_seconds", deserialize_with = "seconds")]
    pub expires_in: Option<Duration>,
}

/// One login, for assertions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginStats {
    /// Counts up from 0 over the simulator's life.
    pub login_id: usize,
    /// The account it belongs to.
    pub account_id: String,
    /// Whether it still gives tokens.
    pub alive: bool,
    /// Why it ended: `reused` or `revoked`.
    pub ended: Option<String>,
    /// Refreshes that succeeded.
    pub refreshes: u32,
    /// Access tokens issued or adopted so far.
    pub access_tokens: u32,
}

/// Counts for assertions and for a look from outside.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// Connections open now.
    pub live_connections: u64,
    /// Connections accepted so far.
    pub total_connections: u64,
    /// TLS handshakes that failed.
    pub failed_handshakes: u64,
    /// Event streams open now.
    pub open_streams: u64,
    /// Event streams started so far.
    pub total_streams: u64,
    /// Requests so far, those of `/sim` excluded.
    pub total_requests: u64,
    /// Requests whose client went away before the answer was complete.
    pub clients_gone: u64,
    /// All logins, ended ones included.
    pub logins: Vec<LoginStats>,
}

/// Why a change of the simulator's state was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Neither the caller nor the tokens' claims name an account.
    #[error("no account_id, and none in the tokens' claims")]
    NoAccount,
    /// No login of this account was seeded, adopted or made.
    #[error("no account '{0}'")]
    UnknownAccount(String),
    /// No device login waits with this user code.
    #[error("no pending device login with user code '{0}'")]
    UnknownUserCode(String),
}

impl From<AccountSpec> for SeedLogin {
    fn from(spec: AccountSpec) -> Self {
        Self { email: spec.email, plan: spec.plan, ..Self::account(spec.account_id) }
    }
}

fn default_email() -> String {
    AccountSpec::default().email
}

fn default_plan() -> String {
    AccountSpec::default().plan
}

fn seconds<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    Ok(Option::<u64>::deserialize(deserializer)?.map(Duration::from_secs))
}
