//! No duplicate work: for each point at which a peer can reset, go away, stall or cut, how many requests the upstream saw.

use codex_sim::{SimConfig, TlsMode};
use e2e::Topology;

use crate::support::{CODEX, World, streamed};

/// Scenario, HTTP status for the caller, requests seen upstream, and the reason in the record.
type Row = (&'static str, u16, usize, &'static str);

/// What follows sending is never repeated; what the status allows is, once.
const SENT: &[Row] = &[
    // After the request was sent, before headers.
    ("hangup", 502, 1, "STREAM_CUT"),
    ("no_headers", 504, 1, "UPSTREAM_TIMEOUT"),
    // After headers, before the first event.
    ("cut_before_event", 502, 1, "STREAM_CUT"),
    ("silence:0", 502, 1, "STREAM_IDLE"),
    // After lifecycle events.
    ("cut:2", 200, 1, "STREAM_CUT"),
    ("reset_stream:2", 200, 1, "STREAM_CUT"),
    ("silence:2", 200, 1, "STREAM_IDLE"),
    ("end_early:2", 200, 1, "STREAM_CUT"),
    // After content.
    ("cut:5", 200, 1, "STREAM_CUT"),
    ("end_early:5", 200, 1, "STREAM_CUT"),
    // The whole answer.
    ("ok", 200, 1, "-"),
    // A status answers: the work was not done.
    ("server_error", 502, 2, "UPSTREAM_ERROR"),
    ("overloaded", 503, 2, "UPSTREAM_OVERLOADED"),
    ("bad_gateway", 502, 2, "UPSTREAM_ERROR"),
];

/// HTTP/2 says that it was not processed: once more. HTTP/1.1 cannot say so.
const NOT_PROCESSED: &[Row] = &[("goaway", 502, 2, "UPSTREAM_ERROR"), ("refused_stream", 502, 2, "UPSTREAM_ERROR")];

async fn walk(topology: Topology, sim: SimConfig, rows: &[Row]) {
    let world = World::with(sim).await;
    let _login = world.login("acct-1", "main").await;
    // Each row is about one call; what earlier ones met must not count.
    world.home.set("gateway.circuit_failures", "1000000").set("gateway.retry_percent", "100");
    world.home.set("transport.headers_timeout", "\"1s\"").set("transport.idle_timeout", "\"1s\"");
    let switchboard = world.start(topology).await;
    for (scenario, status, requests, reason) in rows {
        world.behave("acct-1", scenario);
        let before = world.sim.state().requests_to(CODEX).len();
        let answer = switchboard.http().respond(&streamed("Reply exactly: OK")).await;
        let id = answer.header("x-switchboard-call-id").to_owned();
        let record = switchboard.cli(&["calls", "show", &id, "--json"]).await.ok().json();
        let why = record["error"]["reason"].as_str().unwrap_or("-");
        let seen = world.sim.state().requests_to(CODEX).len() - before;
        let attempts = record["executionTrace"]["attempts"].as_array().map_or(0, Vec::len);
        assert_eq!((answer.status, seen, why), (*status, *requests, *reason), "{scenario}: {record}");
        assert_eq!(attempts, *requests, "{scenario}: {record}");
        let created = answer.event_kinds().iter().filter(|kind| *kind == "response.created").count();
        assert!(created <= 1, "{scenario}: {}", answer.text());
    }
}

fn tls() -> SimConfig {
    SimConfig { tls: Some(TlsMode::AlsoPlain), ..SimConfig::default() }
}

e2e::in_each_topology! {
    /// HTTP/1.1.
    async fn over_http_1(topology) {
        walk(topology, SimConfig { http2: false, ..SimConfig::default() }, SENT).await;
    }

    /// HTTP/2 over TLS.
    async fn over_http_2(topology) {
        walk(topology, tls(), &[SENT, NOT_PROCESSED].concat()).await;
    }
}
