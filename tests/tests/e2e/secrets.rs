//! Secrets stay where they belong: not in logs, not in what commands print, not in process arguments.

use crate::support::{MODEL, World, call, streamed};

/// What no text may hold.
struct Secrets(Vec<(&'static str, String)>);

impl Secrets {
    #[track_caller]
    fn are_not_in(&self, place: &str, text: &str) {
        for (name, secret) in &self.0 {
            if let Some(at) = text.find(secret.as_str()) {
                let from = text.floor_char_boundary(at.saturating_sub(300));
                panic!("{place} holds {name}: …{}[it]…", &text[from..at]);
            }
        }
    }
}

e2e::in_each_topology! {
    /// With logs at their most talkative, after successes, failures, refreshes, rejections and a login of each kind.
    async fn no_secret_is_logged_printed_or_passed_as_an_argument(topology) {
        let (world, login) = World::with_login().await;
        let expired = world.expired("acct-2", "second").await;
        let api_key = world.api_key("paid").await;
        world.home.env("RUST_LOG", "trace");
        // Every failure below is to be met, and none to keep the next call from being made.
        world.home.set("gateway.circuit_failures", "1000");
        let mut switchboard = world.start(topology).await;
        let agent_key = switchboard.key();
        let shown_once = switchboard.cli(&["keys", "create", "mine"]).await.ok().stdout.trim().to_owned();
        let read = |name: &str| {
            std::fs::read_to_string(world.home.data_dir().join(name)).expect("a key file").trim().to_owned()
        };
        let mut secrets = vec![
            ("an access token", login.access_token.clone()),
            ("a refresh token", login.refresh_token.clone()),
            ("an id token", login.id_token.clone()),
            ("a spent refresh token", expired.refresh_token.clone()),
            ("any token of the provider's", "rt_sim.".to_owned()),
            ("any JWT", "eyJhbGciOi".to_owned()),
            ("an API key", api_key),
            ("the first agent key", agent_key.clone()),
            ("an agent key", shown_once.clone()),
            ("the database key", read("database.key")),
        ];
        assert!(login.access_token.starts_with("eyJhbGciOi") && login.refresh_token.starts_with("rt_sim."));
        if let Ok(key) = std::fs::read_to_string(world.home.path("seal.key")) {
            secrets.push(("the seal key", key.trim().to_owned()));
        }
        let secrets = Secrets(secrets);

        let mut said = Vec::new();
        said.push(call(&switchboard, "codex/gpt-5.5").await.ok().text());
        let _ = switchboard.cli(&["credentials", "order", "openai-codex", "second", "main"]).await.ok();
        said.push(call(&switchboard, MODEL).await.ok().text());
        said.push(call(&switchboard, "openai/gpt-5.5").await.ok().text());
        for scenario in ["unauthorized_once", "challenge", "server_error", "cut:4"] {
            world.behave("acct-2", scenario);
            said.push(switchboard.http().respond(&streamed("Hello")).await.text());
            said.push(call(&switchboard, MODEL).await.text());
        }
        // An upstream that repeats the token in its error must not get it into a trace.
        let _ = switchboard.cli(&["credentials", "order", "openai-codex", "main", "second"]).await.ok();
        let echo = format!("[[sim:failed:server_error:Bearer {}]]", login.access_token);
        let echoed = switchboard.http().respond(&streamed(&echo)).await;
        assert!(echoed.text().contains("response.failed"), "{}", echoed.text());
        world.home.excuse(&echoed);
        world.sim.state().set_token_scenario("*", Some("server_error".parse().expect("a scenario")));
        said.push(switchboard.cli(&["credentials", "refresh", "main", "--json"]).await.exits(1).text());
        said.push(switchboard.http_as(Some(&format!("{agent_key}x"))).respond(&streamed("Hello")).await.is(401).text());
        for args in [
            &["credentials", "list"][..],
            &["credentials", "show", "main"],
            &["keys", "list"],
            &["models", "status"],
            &["models", "status", "--probe"],
            &["models", "list"],
            &["calls", "list"],
            &["config", "show"],
            &["health"],
        ] {
            said.push(switchboard.cli(args).await.text());
            let as_json: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
            said.push(switchboard.cli(&as_json).await.text());
        }
        secrets.are_not_in("an output", &said.join("\n"));
        for process in switchboard.processes() {
            let place = format!("/proc/{}/cmdline", process.id());
            let line = std::fs::read_to_string(&place).expect("its arguments");
            secrets.are_not_in(&place, &line);
            secrets.are_not_in("standard output", &process.stdout());
        }
        for (_, status) in switchboard.stop().await {
            assert_eq!(status.code(), Some(0));
        }
        let logs = world.home.logs();
        assert!(logs.contains("TRACE") && logs.contains("call answered"), "the logs are talkative");
        secrets.are_not_in("a log", &logs);
        for (name, bytes) in crate::support::lasting_files(&world.home) {
            if name.ends_with(".db") {
                secrets.are_not_in(&name, &String::from_utf8_lossy(&bytes));
            }
        }
    }
}
