//! The sections of the four services and of what they share.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::Seconds;
use crate::redact::redact;

/// `[gateway]`: the front door, gRPC and HTTP on one port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gateway {
    /// `host:port` for agents; port 0 takes a free one.
    pub listen: String,
    /// `host:port` of health and metrics.
    pub admin_listen: String,
    /// `host:port` with `[tls]`, for operators elsewhere, beside the data directory's socket.
    pub control_listen: Option<String>,
    /// Whether the agents' and the admin ports may be plaintext beyond loopback.
    pub allow_plaintext: bool,
    /// PEM certificate chain for agents; present exactly when `tls_key` is.
    pub tls_cert: Option<PathBuf>,
    /// PEM private key for agents; present exactly when `tls_cert` is.
    pub tls_key: Option<PathBuf>,
    /// Largest request body in bytes, after decompression.
    pub max_body_bytes: usize,
    /// Most calls under way; not zero.
    pub max_calls: usize,
    /// Most bytes of requests and of assembled answers that are held at a time; where it is less than
    /// `max_body_bytes`, that counts.
    pub max_held_bytes: usize,
    /// How much of `max_calls` and `max_held_bytes` one agent key may take, in percent; 1 to 100.
    pub max_key_share: usize,
    /// Most connections of agents at a time; not zero.
    pub max_connections: usize,
    /// How long a client may take for the headers of a request; not zero.
    pub headers_timeout: Seconds,
    /// How long nothing of a body may come, and how much longer than at the slowest rate all of it may take; not zero.
    pub body_timeout: Seconds,
    /// How long a connection may be open without a request; not zero.
    pub idle_timeout: Seconds,
    /// How long a client may take nothing of what it is answered; not zero.
    pub reader_timeout: Seconds,
    /// Seconds that running calls get to finish at shutdown.
    pub drain_seconds: u64,
    /// After how long a silence an HTTP stream gets a comment line; zero is never.
    pub keep_alive: Seconds,
    /// Address of router-svc, `unix:///path` or `https://host:port`. None: in process or the data directory's socket.
    pub router: Option<String>,
    /// Address of auth-svc, as `router`.
    pub auth: Option<String>,
    /// Most upstream attempts of one call; at least 1.
    pub max_attempts: u32,
    /// How many attempts after a failed one a hundred calls allow together; at most 100.
    pub retry_percent: u32,
    /// Failures in a row after which a target is not tried through an egress for a while; at least 1.
    pub circuit_failures: u32,
    /// For how long at first; it doubles with each failure that follows; not zero.
    pub circuit_open: Seconds,
    /// For how long at most; not less than `circuit_open`.
    pub circuit_open_max: Seconds,
    /// Whether a timer asks where no call comes to test a circuit.
    pub circuit_probe: bool,
    /// Egresses by name.
    pub transports: BTreeMap<String, Egress>,
}

/// `[gateway.transports.<name>]`: one transport service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Egress {
    /// `in-process`, `unix:///path` or `https://host:port`.
    pub address: String,
    /// What rules may name it by, beside its name.
    pub labels: Vec<String>,
}

/// `[egresses.<name>]`: what leaves by one egress, wherever its service runs.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Way {
    /// Proxy for all that leaves by it; may hold a password. None: `[transport] proxy`, else the environment's.
    pub proxy: Option<String>,
}

/// `[auth]`: credentials and agent keys.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// `unix:///path`, or `host:port` with `[tls]`. None: `<data dir>/auth-svc.sock`.
    pub listen: Option<String>,
    /// `host:port` of health and metrics.
    pub admin_listen: String,
    /// `sqlite:<path>`. None: `<data dir>/switchboard.db`.
    pub database: Option<String>,
    /// 32 bytes that encrypt secrets at rest. None: `<data dir>/database.key`.
    pub key_file: Option<PathBuf>,
    /// 32 bytes under which access tokens are sealed for transport services. None: made in memory, in one process.
    pub seal_key_file: Option<PathBuf>,
    /// Origin of the identity provider, without a trailing slash.
    pub identity_url: String,
    /// How long before its expiry an access token is refreshed.
    pub refresh_margin: Seconds,
    /// Whether logins are refreshed unasked, at half of their access token's life.
    pub proactive_refresh: bool,
    /// Longest wait for an answer of the identity provider; not zero, and at most ten minutes.
    pub identity_timeout: Seconds,
    /// Proxy for the identity provider; may hold a password.
    pub proxy: Option<String>,
    /// How long a subscription's quota may go unheard of before it is asked for; zero is never.
    pub usage_refresh: Seconds,
    /// How long after a usage limit is met it is first asked whether it has ended; not zero.
    pub usage_probe_after: Seconds,
    /// How long what a provider says of an account's workspace is good; zero never asks.
    pub workspace_refresh: Seconds,
    /// Most questions of gateways that are being answered; not zero.
    pub max_calls: usize,
}

/// `[router]`: routes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Router {
    /// `unix:///path`, or `host:port` with `[tls]`. None: `<data dir>/router-svc.sock`.
    pub listen: Option<String>,
    /// `host:port` of health and metrics.
    pub admin_listen: String,
    /// Most questions that are being answered; not zero.
    pub max_calls: usize,
}

/// `[transport]`: upstream calls.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transport {
    /// `unix:///path`, or `host:port` with `[tls]`. None: `<data dir>/transport-svc.sock`.
    pub listen: Option<String>,
    /// `host:port` of health and metrics.
    pub admin_listen: String,
    /// Name of this egress in execution traces.
    pub name: String,
    /// 32 bytes that open sealed access tokens. None: made in memory, in one process.
    pub seal_key_file: Option<PathBuf>,
    /// PEM authorities trusted for upstream servers in addition to the public ones.
    pub ca_file: Option<PathBuf>,
    /// Time for a connection to be made, TLS included; not zero.
    pub connect_timeout: Seconds,
    /// Time until the upstream's response headers; not zero.
    pub headers_timeout: Seconds,
    /// Silence allowed in the middle of a response; not zero.
    pub idle_timeout: Seconds,
    /// Most upstream requests at a time; not zero.
    pub max_calls: usize,
    /// Most bytes of request bodies that are held at a time; where it is less than a body may have, that counts.
    pub max_held_bytes: usize,
    /// Proxy for upstream calls; may hold a password.
    pub proxy: Option<String>,
}

/// `[tls]`: mutual TLS between services. All three are present or none is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM authority that signs the services' and operators' certificates.
    pub ca: Option<PathBuf>,
    /// PEM certificate chain of this service.
    pub cert: Option<PathBuf>,
    /// PEM private key of this service.
    pub key: Option<PathBuf>,
}

impl Tls {
    /// Whether mutual TLS can be spoken.
    pub fn is_complete(&self) -> bool {
        self.ca.is_some() && self.cert.is_some() && self.key.is_some()
    }
}

/// `[telemetry]`: logs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Telemetry {
    /// How log lines are written.
    pub log_format: LogFormat,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

// `Debug` by hand where a proxy's password would be printed: a debug line of the configuration must be harmless.

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth")
            .field("listen", &self.listen)
            .field("admin_listen", &self.admin_listen)
            .field("database", &self.database)
            .field("key_file", &self.key_file)
            .field("seal_key_file", &self.seal_key_file)
            .field("identity_url", &self.identity_url)
            .field("refresh_margin", &self.refresh_margin)
            .field("proactive_refresh", &self.proactive_refresh)
            .field("identity_timeout", &self.identity_timeout)
            .field("proxy", &self.proxy.as_deref().map(redact))
            .field("usage_refresh", &self.usage_refresh)
            .field("usage_probe_after", &self.usage_probe_after)
            .field("workspace_refresh", &self.workspace_refresh)
            .field("max_calls", &self.max_calls)
            .finish()
    }
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Way").field("proxy", &self.proxy.as_deref().map(redact)).finish()
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("listen", &self.listen)
            .field("admin_listen", &self.admin_listen)
            .field("name", &self.name)
            .field("seal_key_file", &self.seal_key_file)
            .field("ca_file", &self.ca_file)
            .field("connect_timeout", &self.connect_timeout)
            .field("headers_timeout", &self.headers_timeout)
            .field("idle_timeout", &self.idle_timeout)
            .field("max_calls", &self.max_calls)
            .field("max_held_bytes", &self.max_held_bytes)
            .field("proxy", &self.proxy.as_deref().map(redact))
            .finish()
    }
}
