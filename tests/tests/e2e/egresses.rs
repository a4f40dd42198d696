//! Several egresses: one that goes away costs no call, and a rule that requires one is kept.

use e2e::{Process, Signal, Switchboard, Topology, eventually_async};
use serde_json::Value;

use crate::second::{SECOND, SECOND_LABEL, configure_second, start_second};
use crate::support::{CODEX, World, call, status, trace_of};

async fn world(topology: Topology, rule: &str) -> (World, Switchboard, Process) {
    let (world, _) = World::with_login().await;
    configure_second(&world.home);
    world.home.set(&format!("providers.openai-codex.egress.{rule}"), format!("[\"{SECOND_LABEL}\"]"));
    world.home.set("gateway.circuit_failures", "2");
    let switchboard = world.start(topology).await;
    let second = start_second(&world.home).await;
    (world, switchboard, second)
}

/// Egress and result of every attempt.
fn ways(answer: &Value) -> Vec<(String, String)> {
    let attempts = trace_of(answer)["attempts"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    attempts.iter().map(|a| (text(&a["egress"]), text(&a["result"]))).collect()
}

fn told(parts: &[(&str, &str)]) -> Vec<(String, String)> {
    parts.iter().map(|(egress, result)| ((*egress).to_owned(), (*result).to_owned())).collect()
}

e2e::in_each_topology! {
    /// No call fails when a preferred egress is killed, each makes one upstream request, and its traces say by which
    /// egress; when it is back, it is used again.
    async fn an_egress_that_is_killed_is_left_out_until_it_is_back(topology) {
        let (world, switchboard, mut second) = world(topology, "prefer").await;
        let answer = call(&switchboard, "codex/gpt-5.5").await.ok().json();
        assert_eq!(ways(&answer), told(&[(SECOND, "success")]), "{answer}");

        second.end(Signal::KILL).await;
        let mut seen = Vec::new();
        for _ in 0..5 {
            let answer = call(&switchboard, "codex/gpt-5.5").await.ok().json();
            seen.push(ways(&answer));
        }
        let (failed, skipped) = (told(&[(SECOND, "failed"), ("local", "success")]), told(&[(SECOND, "skipped"), ("local", "success")]));
        assert!(seen.iter().all(|way| *way == failed || *way == skipped), "{seen:?}");
        assert!(seen.contains(&failed) && seen.contains(&skipped), "{seen:?}");
        assert_eq!(world.sim.state().requests_to(CODEX).len(), 6);
        let found = status(&switchboard).await;
        let egresses = found["egresses"].as_array().expect("egresses");
        let dead = egresses.iter().find(|e| e["egress"] == SECOND && e["target"] == "").expect("the egress itself");
        assert_eq!((&dead["reason"], &dead["labels"][0]), (&"PEER_UNAVAILABLE".into(), &SECOND_LABEL.into()), "{found}");
        assert_eq!(found["routes"][0]["reason"], Value::Null, "calls are answered all the same: {found}");
        let told_people = switchboard.cli(&["models", "status"]).await.ok();
        assert!(told_people.stdout.contains("PEER_UNAVAILABLE") && told_people.stdout.contains(SECOND), "{told_people}");
        assert!(world.home.logs().contains("circuit opened"));

        let _second = start_second(&world.home).await;
        eventually_async("calls leave by the second egress again", async || {
            let answer = call(&switchboard, "codex/gpt-5.5").await.ok().json();
            ways(&answer) == told(&[(SECOND, "success")])
        })
        .await;
    }

    /// A required egress that is away is not replaced by another one: the call fails and says so, and so does the status.
    async fn a_required_egress_is_not_replaced(topology) {
        let (world, switchboard, mut second) = world(topology, "require").await;
        assert_eq!(ways(&call(&switchboard, "codex/gpt-5.5").await.ok().json()), told(&[(SECOND, "success")]));
        second.end(Signal::KILL).await;
        for _ in 0..3 {
            let failed = call(&switchboard, "codex/gpt-5.5").await.exits(1).json();
            assert_eq!(failed["error"]["reason"], "PEER_UNAVAILABLE", "{failed}");
        }
        assert_eq!(world.sim.state().requests_to(CODEX).len(), 1);
        let found = status(&switchboard).await;
        assert_eq!((&found["routes"][0]["bound"], &found["routes"][0]["reason"]), (&Value::Null, &"PEER_UNAVAILABLE".into()));
    }
}
