//! Where requests of an account must go: asked once for each account, followed from the first call on, and no call fails
//! for it.

use e2e::{Switchboard, Topology, eventually_async};
use serde_json::Value;

use crate::support::{CODEX, World, call};

/// Where the provider says it.
const CHECK: &str = "/backend-api/wham/accounts/check";
/// The header that a workspace demands.
const ROUTING: &str = "x-openai-account-routing-override";

/// A world in which workspaces are asked about, with one login of `acct-1` as `main`.
async fn world() -> World {
    let (world, _) = World::with_login().await;
    world.home.set("auth.workspace_refresh", "\"6h\"");
    world
}

async fn start(world: &World, topology: Topology) -> Switchboard {
    world.start(topology).await
}

fn routing(world: &World) -> Vec<Option<String>> {
    let calls = world.sim.state().requests_to(CODEX);
    calls.iter().map(|request| request.header(ROUTING).map(str::to_owned)).collect()
}

fn asked(world: &World) -> usize {
    world.sim.state().requests_to(CHECK).len()
}

async fn shown(switchboard: &Switchboard, label: &str) -> Value {
    let all = switchboard.cli(&["credentials", "list", "--json"]).await.ok().json();
    let all = all["credentials"].as_array().cloned().unwrap_or_default();
    all.into_iter().find(|one| one["label"] == label).unwrap_or_default()["workspace"].clone()
}

e2e::in_each_topology! {
    /// The first call of an account brings what its workspace demands, calls at the same time ask once, later ones not at
    /// all, and neither does a restart; a new account is asked about by its own first call.
    async fn an_account_is_asked_about_once(topology) {
        let world = world().await;
        world.sim.state().set_routing("acct-1", "NO_CONSTRAINT", "us_cr").expect("an account");
        let mut switchboard = start(&world, topology).await;
        assert_eq!(shown(&switchboard, "main").await, Value::Null);
        let calls = (0..4).map(|_| call(&switchboard, "codex/gpt-5.5"));
        for answer in futures_util::future::join_all(calls).await {
            let _ = answer.ok();
        }
        assert_eq!((asked(&world), routing(&world)), (1, vec![Some("us_cr".to_owned()); 4]));
        let known = shown(&switchboard, "main").await;
        assert_eq!((&known["routingOverride"], &known["problem"]), (&"us_cr".into(), &Value::Null), "{known}");
        assert!(known["observedAt"].is_number(), "{known}");
        let told = switchboard.cli(&["credentials", "show", "main"]).await.ok();
        assert!(told.stdout.contains("routing us_cr"), "{told}");

        switchboard.kill_all().await;
        switchboard.restart().await;
        let _ = call(&switchboard, "codex/gpt-5.5").await.ok();
        assert_eq!((asked(&world), routing(&world).len()), (1, 5), "it is known, also after a restart");

        let _ = world.login("acct-2", "second").await;
        world.sim.state().set_routing("acct-2", "NO_CONSTRAINT", "us").expect("an account");
        let _ = switchboard.cli(&["credentials", "order", "openai-codex", "second"]).await.ok();
        let _ = call(&switchboard, "codex/gpt-5.5").await.ok();
        assert_eq!(asked(&world), 2, "another account");
        assert_eq!(routing(&world).pop().flatten().as_deref(), Some("us_cr"));
        let main = shown(&switchboard, "main").await;
        assert_eq!(main, known, "nothing has changed for the first");
    }

    /// A discovery that fails fails no call, is told, and what was learned before stays when a later one fails.
    async fn a_discovery_that_fails_fails_no_call(topology) {
        let world = world().await;
        world.behave("acct-1", "server_error");
        let switchboard = start(&world, topology).await;
        let _ = call(&switchboard, "codex/gpt-5.5").await.exits(1);
        let first = asked(&world);
        assert_eq!(first, 1);
        world.sim.state().set_scenario("acct-1", None);
        let _ = call(&switchboard, "codex/gpt-5.5").await.ok();
        assert_eq!(asked(&world), 1, "it is not asked again at each call");
        let known = shown(&switchboard, "main").await;
        assert!(known["problem"].as_str().is_some_and(|why| why.contains("UPSTREAM_ERROR")), "{known}");
        let doctor = switchboard.cli(&["doctor"]).await;
        assert!(doctor.stdout.contains("workspace"), "{doctor}");
    }

    /// What was learned is refreshed beside the calls when it is old, and stays in force while that fails.
    async fn the_last_good_word_stays_in_force(topology) {
        let world = world().await;
        world.home.set("auth.workspace_refresh", "\"1s\"").set("auth.usage_probe_after", "\"1s\"");
        world.sim.state().set_routing("acct-1", "https://evil.example", "us_cr").expect("an account");
        let switchboard = start(&world, topology).await;
        let _ = call(&switchboard, "codex/gpt-5.5").await.ok();
        let known = shown(&switchboard, "main").await;
        assert!(known["problem"].as_str().is_some_and(|why| why.contains("workspace_origins")), "{known}");
        assert!(world.home.logs().contains("not all that the provider demands is followed"));
        world.behave("acct-1", "server_error");
        eventually_async("it was asked in vain", async || {
            shown(&switchboard, "main").await["problem"].as_str().is_some_and(|why| why.contains("UPSTREAM_ERROR"))
        })
        .await;
        world.sim.state().set_scenario("acct-1", None);
        let _ = call(&switchboard, "codex/gpt-5.5").await.ok();
        assert_eq!(routing(&world).pop().flatten().as_deref(), Some("us_cr"));
        let known = shown(&switchboard, "main").await;
        assert_eq!(known["routingOverride"], "us_cr", "{known}");
    }

    /// Calls of an account go to the origin that its workspace names, where the configuration allows that one.
    async fn calls_move_to_an_origin_that_is_allowed(topology) {
        let world = world().await;
        let there = codex_sim::Sim::start(codex_sim::SimConfig::default()).await.expect("a simulator");
        world.home.set("targets.chatgpt-codex.workspace_origins", format!("[\"{}\"]", there.base_url()));
        world.sim.state().set_routing("acct-1", &there.base_url(), "NO_CONSTRAINT").expect("an account");
        let switchboard = start(&world, topology).await;
        // The other server knows no such login: that it refuses the token shows where the call went.
        let _ = call(&switchboard, "codex/gpt-5.5").await.exits(1);
        assert_eq!(world.sim.state().requests_to(CODEX).len(), 0);
        assert!(!there.state().requests_to(CODEX).is_empty());
    }
}
