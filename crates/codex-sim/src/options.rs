//! Command-line options.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};
use codex_sim::{Scenario, SimConfig, TlsMode, TokenScenario};

/// A simulated Codex backend and identity provider. Its admin interface under /sim has no authentication:
/// do not publish the port.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Options {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, env = "CODEX_SIM_LISTEN", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Serve TLS with a certificate authority of its own, alone or beside plain HTTP on the same port.
    #[arg(long, value_enum, num_args = 0..=1, default_missing_value = "only")]
    tls: Option<Tls>,
    /// A further name for the certificate; may be given several times.
    #[arg(long = "tls-name", value_name = "NAME")]
    tls_names: Vec<String>,
    /// Write the certificate authority's certificate here.
    #[arg(long, value_name = "FILE", requires = "tls")]
    pub(crate) ca_out: Option<PathBuf>,
    /// Milliseconds between the events of a stream.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pace_ms: u64,
    /// How long issued access tokens live.
    #[arg(long, value_name = "SECONDS", default_value_t = 10 * 24 * 3600)]
    access_token_ttl: u64,
    /// Approve device logins without anybody's doing.
    #[arg(long)]
    auto_approve: bool,
    /// At which poll they are approved.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "auto_approve")]
    approve_after_polls: u32,
    /// The poll interval that device logins are told.
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    device_interval: u64,
    /// Switch device login off, as an account's settings can.
    #[arg(long)]
    no_device_login: bool,
    /// An API key that is valid under /v1; may be given several times.
    #[arg(long = "api-key", value_name = "KEY")]
    pub(crate) api_keys: Vec<String>,
    /// The scenario of all requests (see GET /sim/scenarios).
    #[arg(long, value_name = "NAME[:ARGUMENT]")]
    scenario: Option<Scenario>,
    /// How the identity provider behaves towards everyone.
    #[arg(long, value_name = "NAME[:ARGUMENT]")]
    token_scenario: Option<TokenScenario>,
    /// Accept tokens that an earlier run issued.
    #[arg(long)]
    adopt_own_tokens: bool,
    /// Do not serve /sim.
    #[arg(long)]
    no_admin: bool,
    /// How many requests are remembered.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    record_limit: usize,
}

/// What `--tls` takes.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Tls {
    /// TLS only.
    Only,
    /// TLS and plain HTTP on the same port.
    Also,
}

impl Options {
    /// The configuration that the options describe.
    pub(crate) fn config(&self) -> SimConfig {
        SimConfig {
            listen: self.listen,
            tls: self.tls.map(|tls| match tls {
                Tls::Only => TlsMode::Only,
                Tls::Also => TlsMode::AlsoPlain,
            }),
            tls_names: self.tls_names.clone(),
            pace: Duration::from_millis(self.pace_ms),
            access_token_ttl: Duration::from_secs(self.access_token_ttl),
            device_auto_approve_after: self.auto_approve.then_some(self.approve_after_polls),
            device_interval_seconds: self.device_interval,
            device_login_enabled: !self.no_device_login,
            scenario: self.scenario.clone(),
            token_scenario: self.token_scenario.clone(),
            adopt_own_tokens: self.adopt_own_tokens,
            admin: !self.no_admin,
            record_limit: self.record_limit,
            ..SimConfig::default()
        }
    }
}
