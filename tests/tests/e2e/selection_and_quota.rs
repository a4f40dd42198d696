//! Quotas from an answer's headers to what operators see, limits that end early, and credentials that sessions keep to.

use codex_sim::{Quota, QuotaLimit, QuotaWindow, Scenario};
use e2e::{Switchboard, eventually_async};
use serde_json::{Value, json};

use crate::support::{CODEX, World, whole};

const USAGE: &str = "/backend-api/wham/usage";

/// A login as credential `main`, and services that ask about a usage limit a second after it was met.
async fn asking_soon() -> World {
    let (world, _) = World::with_login().await;
    world.home.set("auth.usage_probe_after", "\"1s\"");
    world
}

/// One credential as `credentials list --json` shows it.
async fn credential(switchboard: &Switchboard, label: &str) -> Value {
    let all = switchboard.cli(&["credentials", "list", "--json"]).await.ok().json();
    let list = all["credentials"].as_array().expect("credentials").clone();
    list.into_iter().find(|one| one["label"] == label).unwrap_or_else(|| panic!("no {label}: {all}"))
}

/// Limit, length and use of each window, as shown.
fn windows(credential: &Value) -> Vec<(String, i64, f64)> {
    let quota = credential["quota"].as_array().cloned().unwrap_or_default();
    let one = |w: &Value| {
        (
            w["limit"].as_str().unwrap_or_default().to_owned(),
            w["windowSeconds"].as_i64().unwrap_or_default(),
            w["usedPercent"].as_f64().unwrap_or(-1.0),
        )
    };
    quota.iter().map(one).collect()
}

/// A call of `model`, its answer whatever it is.
async fn ask(switchboard: &Switchboard, model: &str) -> e2e::Answer {
    let mut body = whole("Reply exactly: OK");
    body["model"] = json!(format!("openai-codex/{model}"));
    switchboard.http().respond(&body).await
}

e2e::in_each_topology! {
    /// What any answer says of the quota is shown soon after, by length and not by slot.
    async fn a_quota_is_shown_after_a_call(topology) {
        let (world, _) = World::with_login().await;
        let switchboard = world.start(topology).await;
        let week_first = vec![QuotaWindow::new(7.5, 604_800, 5_000), QuotaWindow::new(40.0, 18_000, 600)];
        let quota = Quota { limits: vec![QuotaLimit::new("codex", week_first)], allowed: None };
        world.sim.state().set_quota("acct-1", Some(quota)).expect("an account");
        let _ = ask(&switchboard, "gpt-5.5").await.is(200);
        let expected = [("codex".to_owned(), 18_000, 40.0), ("codex".to_owned(), 604_800, 7.5)];
        eventually_async("the quota is shown", async || windows(&credential(&switchboard, "main").await) == expected).await;
        let shown = credential(&switchboard, "main").await;
        assert!(shown["quotaObservedAt"].is_number() && shown["state"] == "ready", "{shown}");
        assert!(shown["quota"][0]["resetsAt"].is_number(), "{shown}");
    }

    /// A limit that holds for some models only rests the credential for those models only.
    async fn a_further_limit_rests_its_models_alone(topology) {
        let (world, _) = World::with_login().await;
        let switchboard = world.start(topology).await;
        let other = QuotaLimit::new("codex_other", vec![QuotaWindow::new(100.0, 3_600, 900)]).of_models(&["gpt-5.4-mini"]);
        world.sim.state().set_quota("acct-1", Some(Quota::codex(10.0, 10.0).with(other))).expect("an account");
        let _ = ask(&switchboard, "gpt-5.4-mini").await.is(429);
        let _ = ask(&switchboard, "gpt-5.5").await.is(200);
        let before = world.sim.state().requests_to(CODEX).len();
        let rested = ask(&switchboard, "gpt-5.4-mini").await.is(429).json();
        assert_eq!(rested["error"]["reason"], "USAGE_LIMIT", "{rested}");
        assert_eq!(world.sim.state().requests_to(CODEX).len(), before, "it rests: nothing is asked");
    }

    /// A quota that comes back early is found by a usage request, and calls go on.
    async fn a_limit_that_ends_early_is_found(topology) {
        let world = asking_soon().await;
        let switchboard = world.start(topology).await;
        world.sim.state().set_quota("acct-1", Some(Quota::codex(100.0, 10.0))).expect("an account");
        let _ = ask(&switchboard, "gpt-5.5").await.is(429);
        assert_eq!(credential(&switchboard, "main").await["state"], "resting");
        world.sim.state().set_quota("acct-1", Some(Quota::codex(2.0, 10.0))).expect("an account");
        eventually_async("calls go on", async || ask(&switchboard, "gpt-5.5").await.status == 200).await;
        let probes = world.sim.state().requests_to(USAGE);
        assert!(!probes.is_empty() && probes.iter().all(|probe| probe.status == Some(200)), "{probes:?}");
        // While it rested no call was made to find out.
        assert_eq!(world.sim.state().requests_to(CODEX).len(), 2);
    }

    /// A usage request that the edge stops says nothing about the credential, and ends no rest either.
    async fn a_challenged_usage_request_rests_nothing(topology) {
        let world = asking_soon().await;
        world.login("acct-2", "second").await;
        let switchboard = world.start(topology).await;
        world.sim.state().set_quota("acct-1", Some(Quota::codex(100.0, 10.0))).expect("an account");
        let _ = ask(&switchboard, "gpt-5.5").await.is(200);
        world.sim.state().set_scenario("acct-1", Some(Scenario::Challenge));
        eventually_async("a usage request is challenged", async || {
            world.sim.state().requests_to(USAGE).iter().any(|request| request.status == Some(403))
        })
        .await;
        assert_eq!(credential(&switchboard, "main").await["state"], "resting", "as before");
        assert_eq!(credential(&switchboard, "second").await["state"], "ready");
        world.sim.state().set_scenario("acct-1", None);
        world.sim.state().set_quota("acct-1", Some(Quota::codex(2.0, 10.0))).expect("an account");
        eventually_async("it is used again", async || {
            let _ = ask(&switchboard, "gpt-5.5").await.is(200);
            world.sim.state().requests_to(CODEX).last().and_then(|r| r.credential.clone()).as_deref() == Some("acct-1")
        })
        .await;
    }

    /// What calls cost is counted for their key, once each.
    async fn tokens_are_counted_for_their_key(topology) {
        let (world, _) = World::with_login().await;
        let switchboard = world.start(topology).await;
        for _ in 0..3 {
            let _ = ask(&switchboard, "gpt-5.5").await.is(200);
        }
        let today = async || {
            let keys = switchboard.cli(&["keys", "list", "--json"]).await.ok().json();
            let keys = keys["keys"].as_array().cloned().unwrap_or_default();
            keys.iter().filter_map(|key| key["tokensToday"].as_f64()).sum::<f64>()
        };
        // The simulator says 11 in and 7 out for every answer.
        eventually_async("three calls are counted", async || today().await >= 54.0).await;
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        assert_eq!(today().await, 54.0, "nothing is counted twice");
    }
}
