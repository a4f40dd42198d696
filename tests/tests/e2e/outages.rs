//! A dead upstream: what calls do to it is bounded, whichever way it is dead.

use e2e::{Switchboard, Topology, question};
use futures_util::{StreamExt, stream};

use crate::support::{CODEX, World, streamed};

const CALLS: usize = 1000;
const AT_ONCE: usize = 20;

/// Makes a thousand calls, half of them over HTTP and half over gRPC; none succeeds.
async fn storm(switchboard: &Switchboard) {
    let (http, grpc) = (&switchboard.http(), &switchboard.grpc());
    let calls = stream::iter(0..CALLS).map(|n| async move {
        if n % 2 == 0 {
            assert_ne!(http.respond(&streamed("Hello")).await.status, 200);
        } else {
            let _ = grpc.clone().complete(question("codex/gpt-5.5", "Hello")).await.expect_err("failed");
        }
    });
    calls.buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
}

async fn dead(topology: Topology, scenario: &str, circuits: bool) -> (usize, World) {
    let (world, _) = World::with_login().await;
    world.home.set("transport.headers_timeout", "\"1s\"");
    if !circuits {
        world.home.set("gateway.circuit_failures", "1000000");
    }
    let switchboard = world.start(topology).await;
    world.behave("acct-1", scenario);
    storm(&switchboard).await;
    (world.sim.state().requests_to(CODEX).len(), world)
}

e2e::in_each_topology! {
    /// The retry budget alone holds it.
    async fn a_failing_upstream_gets_a_fifth_more_requests_than_calls_at_most(topology) {
        let began = std::time::Instant::now();
        let (requests, _) = dead(topology, "server_error", false).await;
        // A tenth, and one a second, of which ten may have been saved up: a fifth at any rate that is worth the name.
        let seconds = began.elapsed().as_secs() as usize;
        let most = CALLS * 11 / 10 + 10 + seconds;
        assert!((CALLS + 1..=most).contains(&requests), "{requests} requests of {CALLS} calls in {seconds} s");
        assert!(seconds > 90 || most <= CALLS * 12 / 10);
    }

    /// With circuits most calls are not even sent.
    async fn circuits_spare_an_upstream_that_fails_or_hangs_up(topology) {
        for scenario in ["server_error", "hangup", "no_headers"] {
            let (requests, world) = dead(topology, scenario, true).await;
            assert!(requests < CALLS / 4, "{scenario}: {requests} requests of {CALLS} calls");
            assert!(world.home.logs().contains("circuit opened"), "{scenario}");
        }
    }

    /// Nothing listens there: the calls fail, and as few connections are tried.
    async fn a_refused_connection_opens_the_circuit(topology) {
        let (world, _) = World::with_login().await;
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address");
        world.home.set("targets.chatgpt-codex.base_url", format!("\"http://{free}/backend-api/codex\""));
        let switchboard = world.start(topology).await;
        storm(&switchboard).await;
        let calls = switchboard.cli(&["calls", "list", "--limit", "1000", "--json"]).await.ok().json();
        let calls = calls["calls"].as_array().expect("calls").clone();
        let attempts = |call: &serde_json::Value| call["executionTrace"]["attempts"].as_array().cloned().unwrap_or_default();
        let made = calls.iter().flat_map(attempts).filter(|attempt| attempt["result"] == "failed").count();
        assert!(!calls.is_empty() && made < CALLS / 4, "{made} connections tried by {} calls", calls.len());
    }
}
