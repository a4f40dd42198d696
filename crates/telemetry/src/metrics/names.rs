//! Every metric's name, what it means, and the buckets of the histograms. Dashboards and alerts depend on them: a name
//! that is changed here is a change that the change log must tell.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Gauge, always 1; labels `service` and `version` say what runs.
pub const BUILD_INFO: &str = "switchboard_build_info";
/// Gauge: Unix seconds at which the process began.
pub const PROCESS_START: &str = "process_start_time_seconds";
/// Gauge, 1 for the state that a credential is in and 0 for the others; labels `credential` (its
/// label, by default no address: see [`Sample`](super::Sample)) and `state`.
pub const CREDENTIAL_STATE: &str = "switchboard_credential_state";
/// Gauge: seconds until a credential's access token ends, negative once it has; label `credential`. Absent for API keys.
pub const CREDENTIAL_EXPIRES: &str = "switchboard_credential_expires_seconds";
/// Counter: refreshes that ended; label `outcome`: one of [`REFRESH_OUTCOMES`].
pub const REFRESHES: &str = "switchboard_refresh_total";
/// The values of its label.
pub const REFRESH_OUTCOMES: [&str; 5] = ["refreshed", "refused", "failed", "in_doubt", "late"];
/// Gauge: seconds since which a credential's refresh fails, 0 while it does not; label `credential`.
pub const REFRESH_FAILING: &str = "switchboard_refresh_failing_seconds";
/// Histogram: seconds from the identity provider's answer to our commit of it.
pub const ANSWER_TO_COMMIT: &str = "switchboard_refresh_answer_to_commit_seconds";
/// Gauge: refreshed tokens that wait in memory for the database.
pub const PENDING_WRITES: &str = "switchboard_pending_writes";
/// Gauge: how much of a quota window is used, 1 is all of it; labels `credential`, `limit` and `window` (in seconds).
pub const QUOTA_USED: &str = "switchboard_quota_used_ratio";
/// Gauge, 1 for the state that a circuit is in and 0 for the others; labels `egress`, `target` (empty: the egress itself)
/// and `state`, one of [`CIRCUIT_STATES`].
pub const EGRESS_CIRCUIT: &str = "switchboard_egress_circuit";
/// The values of its label.
pub const CIRCUIT_STATES: [&str; 3] = ["closed", "open", "half-open"];
/// Counter: times that a circuit opened; labels `egress` and `target` (`-`: the egress itself).
pub const CIRCUIT_OPENINGS: &str = "switchboard_egress_circuit_openings_total";
/// Counter: questions that a timer has asked through a circuit that was due for a test; labels `egress`, `target` and
/// `outcome`: one of [`CIRCUIT_PROBE_OUTCOMES`].
pub const CIRCUIT_PROBES: &str = "switchboard_egress_circuit_probes_total";
/// The values of its label: it works again, it still fails, the question could not be asked or told nothing.
pub const CIRCUIT_PROBE_OUTCOMES: [&str; 3] = ["works", "fails", "nothing"];
/// Counter: attempts that were not made because the retry budget was spent.
pub const RETRIES_REFUSED: &str = "switchboard_retries_refused_total";

/// Counter: what was refused with SHED; label `what`: one of [`SHED_KINDS`].
pub const SHED: &str = "switchboard_shed_total";
/// The values of its label: all places, all bytes, a key's share of each, an egress' upstream requests and the bytes of their
/// bodies, turns at asking a peer and answers that came too slowly, the calls of auth-svc and router-svc, what operators ask of auth-svc, the writes that wait for the database.
pub const SHED_KINDS: [&str; 12] = [
    "calls",
    "bytes",
    "key_calls",
    "key_bytes",
    "upstream",
    "upstream_bytes",
    "turns",
    "slow",
    "auth_calls",
    "auth_operators",
    "router_calls",
    "writes",
];
/// Counter: connections that were closed on their client, or never served; label `why`: one of [`CLOSED_REASONS`].
pub const CONNECTIONS_CLOSED: &str = "switchboard_connections_closed_total";
/// The values of its label: no place, no word or no headers in time, no TLS in time or none that works, no request for too
/// long, an answer that nobody takes (over HTTP/1: for too long, or until the caller's deadline), and what is no HTTP or an
/// attack on it.
pub const CLOSED_REASONS: [&str; 7] = ["full", "headers", "tls", "idle", "reader", "deadline", "protocol"];
/// Counter: streams of HTTP/2 that were reset because nobody took anything of them; label `why`: one of [`RESET_REASONS`].
pub const STREAMS_RESET: &str = "switchboard_streams_reset_total";
/// The values of its label: for too long, and until the caller's deadline.
pub const RESET_REASONS: [&str; 2] = ["reader", "deadline"];
/// Gauge: requests that are being answered over this process's listeners, but for the admin port.
pub const OPEN_STREAMS: &str = "switchboard_open_streams";
/// Gauge: connections that are open at them.
pub const OPEN_CONNECTIONS: &str = "switchboard_open_connections";
/// Gauge: tasks of this process that are alive.
pub const TASKS: &str = "switchboard_tasks";
/// Gauge: descriptors that this process has open.
pub const OPEN_FDS: &str = "process_open_fds";
/// Gauge: seconds until a certificate of this process's own ends, negative once it has; label `setting` (`tls.cert`,
/// `gateway.tls_cert`). Absent where none is configured.
pub const CERTIFICATE_EXPIRES: &str = "switchboard_certificate_expires_seconds";

/// Upper bounds of the histograms' buckets, in seconds.
pub const BUCKETS: &[(&str, &[f64])] = &[(
    ANSWER_TO_COMMIT,
    // A commit is an fsync: a fraction of a millisecond on a good disk, a hundred on a bad one, seconds on a full one.
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 20.0],
)];

/// What the recorder of the process counts.
pub(super) fn describe_counted() {
    describe_counter!(REFRESHES, "Refreshes that ended, by outcome");
    describe_counter!(CIRCUIT_OPENINGS, "Times that a target was no longer tried through an egress");
    describe_counter!(CIRCUIT_PROBES, "Questions of a timer whether a target works again through an egress");
    describe_counter!(RETRIES_REFUSED, "Attempts not made because the retry budget was spent");
    describe_counter!(SHED, "Refused because there was no room for it");
    describe_counter!(CONNECTIONS_CLOSED, "Connections closed on their client, or never served");
    describe_counter!(STREAMS_RESET, "Streams of HTTP/2 reset because their client took nothing of them");
    describe_histogram!(ANSWER_TO_COMMIT, Unit::Seconds, "From the identity provider's answer to its commit");
}

/// What is read at each scrape.
pub(super) fn describe_gauges() {
    describe_gauge!(BUILD_INFO, "What runs; always 1");
    describe_gauge!(PROCESS_START, Unit::Seconds, "Unix time at which the process began");
    describe_gauge!(CREDENTIAL_STATE, "1 for the state that the credential is in");
    describe_gauge!(CREDENTIAL_EXPIRES, Unit::Seconds, "Until the access token ends");
    describe_gauge!(REFRESH_FAILING, Unit::Seconds, "Since when refreshes fail; 0 while they do not");
    describe_gauge!(PENDING_WRITES, "Refreshed tokens that wait in memory for the database");
    describe_gauge!(EGRESS_CIRCUIT, "1 for the state that the circuit of egress and target is in");
    describe_gauge!(OPEN_STREAMS, "Requests that are being answered over this process's listeners");
    describe_gauge!(OPEN_CONNECTIONS, "Connections that are open at this process's listeners");
    describe_gauge!(TASKS, "Tasks that are alive");
    describe_gauge!(OPEN_FDS, "Descriptors that are open");
    describe_gauge!(CERTIFICATE_EXPIRES, Unit::Seconds, "Until this process's own certificate ends");
    describe_gauge!(QUOTA_USED, "Used part of a quota window; 1 is all of it");
}
