//! A target that failed and works again is found out without a call.

use std::time::Duration;

use e2e::{Http, Part, Switchboard, Topology, eventually_async};
use serde_json::Value;

use crate::support::{CODEX, World, status, whole};

/// Where a probe goes.
const MODELS: &str = "/backend-api/codex/models";

/// A deployment whose upstream hangs up on everything, and whose circuit has opened.
async fn failing(topology: Topology, probe: bool) -> (World, Switchboard) {
    let (world, _) = World::with_login().await;
    world.home.set("gateway.circuit_failures", "2").set("gateway.circuit_open_max", "\"2s\"");
    world.home.set("gateway.circuit_probe", probe.to_string()).set("auth.usage_refresh", "\"0\"");
    let switchboard = world.start(topology).await;
    let _ = switchboard.http().respond(&whole("Reply exactly: OK")).await.is(200);
    world.behave("acct-1", "hangup");
    for _ in 0..3 {
        assert_ne!(switchboard.http().respond(&whole("Reply exactly: OK")).await.status, 200);
    }
    assert_ne!(circuit(&switchboard).await["circuit"], "closed");
    (world, switchboard)
}

/// What the status tells of the egress and the target.
async fn circuit(switchboard: &Switchboard) -> Value {
    let found = status(switchboard).await;
    let all = found["egresses"].as_array().expect("egresses");
    all.iter().find(|one| one["target"] == "chatgpt-codex").unwrap_or_else(|| panic!("{found}")).clone()
}

async fn metrics(switchboard: &Switchboard) -> String {
    Http::new(&switchboard.admin_url(Part::Gateway), None).get("/metrics").await.is(200).text()
}

fn probes(outcome: &str) -> String {
    format!(
        "switchboard_egress_circuit_probes_total{{egress=\"local\",target=\"chatgpt-codex\",outcome=\"{outcome}\"}}"
    )
}

const CLOSED: &str = "switchboard_egress_circuit{egress=\"local\",target=\"chatgpt-codex\",state=\"closed\"} 1";

e2e::in_each_topology! {
    /// It is asked while it fails, after longer and longer times, and once it answers status and metrics say so. No call is
    /// made for it, and none fails.
    async fn what_works_again_shows_without_a_call(topology) {
        let (world, switchboard) = failing(topology, true).await;
        let calls = world.sim.state().requests_to(CODEX).len();
        eventually_async("it is asked, and fails", async || metrics(&switchboard).await.contains(&probes("fails"))).await;
        let shut = circuit(&switchboard).await;
        assert_ne!(shut["circuit"], "closed", "{shut}");
        assert!(!metrics(&switchboard).await.contains(CLOSED));

        world.sim.state().set_scenario("acct-1", None);
        eventually_async("it shows that it works", async || circuit(&switchboard).await["circuit"] == "closed").await;
        let page = metrics(&switchboard).await;
        assert!(page.contains(CLOSED) && page.contains(&format!("{} 1", probes("works"))), "{page}");
        assert_eq!(circuit(&switchboard).await["lastOutcome"], "ok");
        assert_eq!(world.sim.state().requests_to(CODEX).len(), calls, "no call was made for it");
        assert!(world.home.logs().contains("circuit closed"));
        let asked = world.sim.state().requests_to(MODELS).len();
        assert!((2..=10).contains(&asked), "{asked} questions");
        // What works is not asked.
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(world.sim.state().requests_to(MODELS).len(), asked);
        let _ = switchboard.http().respond(&whole("Reply exactly: OK")).await.is(200);
    }

    /// Switched off, the next call finds out, as before.
    async fn without_the_timer_a_call_finds_out(topology) {
        let (world, switchboard) = failing(topology, false).await;
        world.sim.state().set_scenario("acct-1", None);
        eventually_async("a call may go through", async || circuit(&switchboard).await["circuit"] == "half-open").await;
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert_eq!(circuit(&switchboard).await["circuit"], "half-open");
        assert_eq!(world.sim.state().requests_to(MODELS).len(), 0);
        let _ = switchboard.http().respond(&whole("Reply exactly: OK")).await.is(200);
        assert_eq!(circuit(&switchboard).await["circuit"], "closed");
    }
}
