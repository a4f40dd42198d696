//! No duplicate work: for each point at which a peer can reset, go away, stall or cut, how many requests the upstream saw.
//! A second credential stands ready all the time, so that a call that may not be made again could be.

use codex_sim::{SimConfig, TlsMode};
use e2e::{Switchboard, Topology, eventually};
use serde_json::Value;

use crate::support::{CODEX, MODEL, World, streamed};

/// Scenario, HTTP status for the caller, requests seen upstream, and the reason in the record.
type Row = (&'static str, u16, usize, &'static str);

/// What follows sending is never repeated; what the status allows is, once.
const SENT: &[Row] = &[
    // After a part of the request was sent.
    ("cut_upload", 502, 1, "STREAM_CUT"),
    ("stall_upload", 504, 1, "UPSTREAM_TIMEOUT"),
    // After the request was sent, before headers.
    ("hangup", 502, 1, "STREAM_CUT"),
    ("no_headers", 504, 1, "UPSTREAM_TIMEOUT"),
    ("goaway_included", 502, 1, "STREAM_CUT"),
    ("reset_request", 502, 1, "STREAM_CUT"),
    // After headers, before the first event.
    ("cut_before_event", 502, 1, "STREAM_CUT"),
    ("reset_stream:0", 502, 1, "STREAM_CUT"),
    ("silence:0", 502, 1, "STREAM_IDLE"),
    ("end_early:0", 502, 1, "STREAM_CUT"),
    // After lifecycle events, which are held back for a moment, so that there may be nothing to be ended in the stream.
    ("cut:2", 502, 1, "STREAM_CUT"),
    ("reset_stream:2", 502, 1, "STREAM_CUT"),
    ("silence:2", 200, 1, "STREAM_IDLE"),
    ("end_early:2", 502, 1, "STREAM_CUT"),
    // After content.
    ("cut:5", 200, 1, "STREAM_CUT"),
    ("reset_stream:5", 200, 1, "STREAM_CUT"),
    ("silence:5", 200, 1, "STREAM_IDLE"),
    ("end_early:5", 200, 1, "STREAM_CUT"),
    // After the terminal event: what comes then changes nothing.
    ("cut_at_end", 200, 1, "-"),
    ("reset_at_end", 200, 1, "-"),
    ("silence_at_end", 200, 1, "-"),
    ("ok", 200, 1, "-"),
    // A GOAWAY that includes the request leaves it to be answered.
    ("goaway_answered", 200, 1, "-"),
    // A status answers: the work was not done.
    ("server_error", 502, 2, "UPSTREAM_ERROR"),
    ("overloaded", 503, 2, "UPSTREAM_OVERLOADED"),
    ("bad_gateway", 502, 2, "UPSTREAM_ERROR"),
];

/// HTTP/2 says that it was not processed: once more. HTTP/1.1 cannot say so.
const NOT_PROCESSED: &[Row] = &[("goaway", 502, 2, "UPSTREAM_ERROR"), ("refused_stream", 502, 2, "UPSTREAM_ERROR")];

/// A place with two credentials, of which the first is always asked, and a switchboard that may try as often as it likes.
async fn place(topology: Topology, sim: SimConfig) -> (World, Switchboard) {
    let world = World::with(sim).await;
    let _login = world.login("acct-1", "main").await;
    let _other = world.login("acct-2", "second").await;
    world.home.set("agents.main.credentials", "[\"main\", \"second\"]");
    // Each call is about itself; what earlier ones met must not count.
    world.home.set("gateway.circuit_failures", "1000000").set("gateway.retry_percent", "100");
    world.home.set("transport.headers_timeout", "\"3s\"").set("transport.idle_timeout", "\"3s\"");
    let switchboard = world.start(topology).await;
    (world, switchboard)
}

async fn walk(topology: Topology, sim: SimConfig, rows: &[Row]) {
    let (world, switchboard) = place(topology, sim).await;
    for (scenario, status, requests, reason) in rows {
        world.behave("*", scenario);
        let before = world.sim.state().requests_to(CODEX).len();
        let question = if scenario.ends_with("_upload") { long_question() } else { "Reply exactly: OK".to_owned() };
        let answer = switchboard.http().respond(&streamed(&question)).await;
        let id = answer.header("x-switchboard-call-id").to_owned();
        let record = switchboard.cli(&["calls", "show", &id, "--json"]).await.ok().json();
        let why = record["error"]["reason"].as_str().unwrap_or("-");
        let seen = world.sim.state().requests_to(CODEX).len() - before;
        let attempts = record["executionTrace"]["attempts"].as_array().map_or(0, Vec::len);
        assert_eq!((answer.status, seen, why), (*status, *requests, *reason), "{scenario}: {record}");
        assert_eq!(attempts, *requests, "{scenario}: {record}");
        let count = |kind: &str| answer.event_kinds().iter().filter(|one| *one == kind).count();
        assert!(count("response.created") <= 1, "{scenario}: {}", answer.text());
        // One end for each stream that has begun, be it good or bad.
        let ends = count("response.completed") + count("response.failed");
        assert_eq!(ends, usize::from(*status == 200), "{scenario}: {}", answer.text());
    }
}

/// More than a connection takes without its peer reading.
fn long_question() -> String {
    format!("{} Reply exactly: OK", "word ".repeat(400_000))
}

/// An idle connection that the upstream has closed takes no request with it: the next call goes over another one.
async fn an_idle_connection_is_closed(topology: Topology, sim: SimConfig) {
    let (world, switchboard) = place(topology, sim).await;
    let mut connections = Vec::new();
    for _ in 0..3 {
        world.behave("*", "close_idle");
        let record = ask(&switchboard).await;
        assert_eq!(record["executionTrace"]["attempts"].as_array().map(Vec::len), Some(1), "{record}");
        eventually("the connection is gone", || world.sim.state().stats().live_connections == 0).await;
        connections.extend(world.sim.state().requests_to(CODEX).last().map(|request| request.connection_id));
    }
    connections.dedup();
    assert_eq!(connections.len(), 3, "each call had a connection of its own");
}

/// A connection that is kept, and breaks when the next request is on it: a part of that has been sent.
async fn a_kept_connection_breaks(topology: Topology, sim: SimConfig) {
    let (world, switchboard) = place(topology, sim).await;
    for scenario in ["cut_upload", "hangup"] {
        world.behave("*", "ok");
        let _ = ask(&switchboard).await;
        world.behave("*", scenario);
        let answer = switchboard.http().respond(&streamed(&long_question())).await.is(502);
        assert_eq!(answer.json()["error"]["reason"], "STREAM_CUT", "{scenario}: {}", answer.text());
        let sent = world.sim.state().requests_to(CODEX);
        let [.., before, broken] = sent.as_slice() else { panic!("{scenario}: two requests") };
        assert_eq!(before.connection_id, broken.connection_id, "{scenario}: the connection was kept");
        assert_eq!(before.status, Some(200), "{scenario}: no second try");
    }
    assert_eq!(world.sim.state().requests_to(CODEX).len(), 4);
}

/// A call that is answered; its record.
async fn ask(switchboard: &Switchboard) -> Value {
    let body = serde_json::json!({ "model": MODEL, "input": "Reply exactly: OK", "stream": true });
    let answer = switchboard.http().respond(&body).await.is(200);
    let id = answer.header("x-switchboard-call-id").to_owned();
    switchboard.cli(&["calls", "show", &id, "--json"]).await.ok().json()
}

fn http_1() -> SimConfig {
    SimConfig { http2: false, ..SimConfig::default() }
}

fn tls() -> SimConfig {
    SimConfig { tls: Some(TlsMode::AlsoPlain), ..SimConfig::default() }
}

e2e::in_each_topology! {
    /// HTTP/1.1.
    async fn over_http_1(topology) {
        walk(topology, http_1(), SENT).await;
    }

    /// HTTP/2 over TLS.
    async fn over_http_2(topology) {
        walk(topology, tls(), &[SENT, NOT_PROCESSED].concat()).await;
    }

    async fn an_idle_connection_is_closed_by_the_upstream(topology) {
        an_idle_connection_is_closed(topology, http_1()).await;
        an_idle_connection_is_closed(topology, tls()).await;
    }

    async fn a_kept_connection_breaks_under_a_request(topology) {
        a_kept_connection_breaks(topology, http_1()).await;
        a_kept_connection_breaks(topology, tls()).await;
    }
}
