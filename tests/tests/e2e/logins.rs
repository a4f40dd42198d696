//! Logging in by device code, through the command line, with and without a running server.

use codex_sim::SimConfig;
use e2e::{Home, Output, eventually_async};
use serde_json::Value;

use crate::support::{World, call, only_route, status};

async fn world() -> World {
    World::with(SimConfig { device_interval_seconds: 1, ..SimConfig::default() }).await
}

/// Runs `login codex` while its owner enters the code that the simulator waits for.
async fn log_in(world: &World, args: &[&str]) -> (Output, String) {
    let all: Vec<&str> = ["login", "codex"].iter().chain(args).copied().collect();
    let owner = async {
        let mut code = String::new();
        eventually_async("a code waits for its owner", async || {
            code = world.sim.state().pending_devices().pop().unwrap_or_default();
            !code.is_empty()
        })
        .await;
        world.sim.state().approve_device(&code).expect("approved");
        code
    };
    tokio::join!(world.home.cli(&all), owner)
}

async fn kept(home: &Home) -> Value {
    home.cli(&["credentials", "list", "--json"]).await.ok().json()["credentials"].clone()
}

e2e::in_each_topology! {
    /// Lines for people, lines for programs, and a login that serves the next call.
    async fn a_device_login_serves_the_next_call(topology) {
        let world = world().await;
        // Without a server first.
        let (said, code) = log_in(&world, &["--label", "first"]).await;
        let said = said.ok();
        let lines: Vec<&str> = said.stdout.lines().collect();
        assert_eq!(lines[0], format!("open   {}/codex/device", world.sim.base_url()), "{said}");
        assert_eq!(lines[1], format!("enter  {code}"), "{said}");
        assert!(lines[2].contains("15 minutes"), "{said}");
        assert_eq!(lines[3], "logged in as sim@example.com, plan plus; credential first", "{said}");
        let first = kept(&world.home).await;
        assert_eq!(
            (&first[0]["label"], &first[0]["source"], &first[0]["state"]),
            (&"first".into(), &"login".into(), &"ready".into())
        );

        let switchboard = world.start(topology).await;
        let (said, code) = log_in(&world, &["--json"]).await;
        let said = said.ok();
        let lines: Vec<Value> = said.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let [pending, done] = lines.as_slice() else { panic!("two lines: {said}") };
        assert_eq!((&pending["status"], &pending["userCode"]), (&"pending".into(), &code.as_str().into()), "{said}");
        assert!(pending["verificationUrl"].as_str().is_some_and(|url| url.ends_with("/codex/device")), "{said}");
        assert!(pending["expiresAt"].as_f64().is_some_and(|at| at > 1.6e9), "{said}");
        assert_eq!(
            (&done["status"], &done["email"], &done["plan"]),
            (&"ok".into(), &"sim@example.com".into(), &"plus".into())
        );
        // The same account: its credential is renewed and gets no twin.
        assert_eq!(done["credential"], "first", "{said}");
        let again = kept(&world.home).await;
        assert_eq!((again.as_array().map(Vec::len), &again[0]["version"]), (Some(1), &2.into()), "{again}");
        assert_eq!(only_route(&status(&switchboard).await)["bound"]["credential"], "first");
        let _ = call(&switchboard, "codex/gpt-5.5").await.ok();
        assert!(!said.text().contains("eyJ") && !said.text().contains("rt_sim"));
    }

    /// An account that does not allow device codes is told so; nothing is stored.
    async fn a_login_that_is_not_allowed_says_so(topology) {
        let config = SimConfig { device_login_enabled: false, ..SimConfig::default() };
        let world = World::with(config).await;
        let switchboard = world.start(topology).await;
        let refused = switchboard.cli(&["login", "codex"]).await.exits(1);
        assert!(refused.stderr.contains("device"), "{refused}");
        world.sim.state().set_token_scenario("*", Some("challenge".parse().expect("a scenario")));
        let challenged = switchboard.cli(&["login", "codex", "--json"]).await.exits(1).json();
        assert_eq!(challenged["error"]["reason"], "IDENTITY_UNAVAILABLE", "{challenged}");
        assert_eq!(kept(&world.home).await.as_array().map(Vec::len), Some(0));
    }
}
