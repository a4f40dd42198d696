//! What a simulator is started with.
//!
//! Every field has a default that suits a test: loopback, port 0, plain HTTP, full speed, strict rules.

use std::{net::SocketAddr, time::Duration};

use crate::{identity::fault::TokenScenario, scenario::Scenario};

/// How a simulator listens and behaves. Start from `SimConfig::default()`.
#[derive(Clone, Debug)]
pub struct SimConfig {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// `None` serves plain HTTP only.
    pub tls: Option<TlsMode>,
    /// Names for the certificate besides localhost, the loopback addresses and the three hosts that are
    /// simulated (for example the name of a container).
    pub tls_names: Vec<String>,
    /// Offer HTTP/2 (ALPN on TLS, prior knowledge on plain connections). `false` leaves HTTP/1.1.
    pub http2: bool,
    /// HTTP/2 streams that one connection may have open; `None` leaves hyper's default of 200.
    pub max_concurrent_streams: Option<u32>,
    /// Time between two events of a stream; zero is full speed.
    pub pace: Duration,
    /// How long access tokens live that the identity provider issues.
    pub access_token_ttl: Duration,
    /// Approve a device login by itself at its N-th poll; `None` waits for
    /// [`SimState::approve_device`](crate::SimState::approve_device) or `POST /sim/device/approve`.
    pub device_auto_approve_after: Option<u32>,
    /// `false` answers 404 to a request for a user code: the account has device login switched off.
    pub device_login_enabled: bool,
    /// The poll interval that is announced, in seconds. It goes out as a string, as the real one does.
    pub device_interval_seconds: u64,
    /// How long a user code can be approved. The real lifetime is 15 minutes.
    pub device_ttl: Duration,
    /// The status that says "not approved yet": 403 or 404, clients must take both.
    pub device_pending_status: u16,
    /// Whom an approved login belongs to when nobody says otherwise.
    pub default_account: AccountSpec,
    /// Origins whose `/deviceauth/callback` is accepted in a code exchange, besides
    /// `https://auth.openai.com` and the simulator's own.
    pub callback_origins: Vec<String>,
    /// Which requests to `/backend-api/codex/responses` are refused.
    pub rules: BodyRules,
    /// The scenario of every request that has none of its own.
    pub scenario: Option<Scenario>,
    /// The behaviour of the identity provider for every account that has none of its own.
    pub token_scenario: Option<TokenScenario>,
    /// Accept tokens that an earlier run of the simulator issued, although this run does not know them.
    /// `switchboard up --sim` keeps its credentials over restarts and needs it; a test does not.
    pub adopt_own_tokens: bool,
    /// Serve `/sim`. It has no authentication: anyone who reaches the port can use it.
    pub admin: bool,
    /// How many requests are remembered; 0 records nothing (for benchmarks).
    pub record_limit: usize,
    /// Bodies up to this many bytes are kept whole; of longer ones only sizes and a digest.
    pub record_body_bytes: usize,
}

impl Default for SimConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            tls: None,
            tls_names: Vec::new(),
            http2: true,
            max_concurrent_streams: None,
            pace: Duration::ZERO,
            access_token_ttl: Duration::from_secs(10 * 24 * 3600),
            device_auto_approve_after: None,
            device_login_enabled: true,
            device_interval_seconds: 5,
            device_ttl: Duration::from_secs(15 * 60),
            device_pending_status: 403,
            default_account: AccountSpec::default(),
            callback_origins: Vec::new(),
            rules: BodyRules::default(),
            scenario: None,
            token_scenario: None,
            adopt_own_tokens: false,
            admin: true,
            record_limit: 10_000,
            record_body_bytes: 64 * 1024,
        }
    }
}

/// Which schemes the port takes when it has a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// TLS only: a plain request is cut off.
    Only,
    /// TLS and plain HTTP on the same port, told apart by the first byte.
    AlsoPlain,
}

/// An account as it appears in tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountSpec {
    /// The account (workspace) id that clients send as `chatgpt-account-id`.
    pub account_id: String,
    /// The owner's e-mail address.
    pub email: String,
    /// The plan, in the provider's spelling: `plus`, `pro`, `team`, …
    pub plan: String,
}

impl Default for AccountSpec {
    fn default() -> Self {
        Self { account_id: "acct-sim-0001".into(), email: "sim@example.com".into(), plan: "plus".into() }
    }
}

/// What to say about an account header that is missing or names another account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderVerdict {
    /// Answer as if the header were right.
    Accept,
    /// Refuse with this status and a JSON error.
    Refuse(u16),
}

/// Which requests to `/backend-api/codex/responses` are refused. The real backend's rules are known from
/// reports, not from a specification: a rule that is doubtful can be turned off here.
#[derive(Clone, Debug)]
pub struct BodyRules {
    /// Refuse a body without `instructions`. Off: Codex 0.169 sends none, in 2025 they were required.
    pub require_instructions: bool,
    /// Top-level parameters answered with "Unsupported parameter: X".
    pub unsupported: Vec<String>,
    /// Answer "Unsupported parameter: X" for any top-level field that no known client sends.
    pub refuse_unknown_fields: bool,
    /// Refuse tool outputs without their call, calls without an output, and item ids with a wrong prefix.
    pub check_items: bool,
    /// Refuse sealed reasoning that this simulator gave to another account (`invalid_encrypted_content`).
    pub check_sealed_content: bool,
    /// A `chatgpt-account-id` header that is missing.
    pub account_header_missing: HeaderVerdict,
    /// A `chatgpt-account-id` header that names another account than the token.
    pub account_header_mismatch: HeaderVerdict,
    /// The models that exist.
    pub models: Vec<String>,
}

impl Default for BodyRules {
    fn default() -> Self {
        let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect();
        Self {
            require_instructions: false,
            unsupported: words(&[
                "max_output_tokens",
                "metadata",
                "temperature",
                "top_p",
                "prompt_cache_retention",
                "user",
                "previous_response_id",
                "n",
            ]),
            refuse_unknown_fields: true,
            check_items: true,
            check_sealed_content: true,
            account_header_missing: HeaderVerdict::Refuse(401),
            account_header_mismatch: HeaderVerdict::Refuse(403),
            models: words(&["gpt-5.5", "gpt-5.4-mini"]),
        }
    }
}
