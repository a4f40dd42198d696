//! Several credentials of one provider: which one a session keeps to, what rests, what is shown of quotas.

use e2e::{Part, Switchboard, failure_from_status, question};
use proto::auth::v1::binding_service_client::BindingServiceClient;
use proto::auth::v1::{CredentialUsage, ReportUsageRequest};
use proto::common::v1::QuotaWindow;
use serde_json::Value;

use crate::support::{World, call, only_route, status, streamed, trace_of};

const MINI: &str = "openai-codex/gpt-5.4-mini";

/// Which account answers a call of this session.
async fn answers(world: &World, switchboard: &Switchboard, session: &str) -> String {
    let request = switchboard.http().request(reqwest::Method::POST, "/v1/responses");
    let request = request.header("session_id", session).json(&streamed("Hello"));
    let _ = e2e::Answer::of(request).await.is(200);
    world.upstream().last().and_then(|request| request.credential.clone()).expect("an account")
}

async fn listed(switchboard: &Switchboard) -> Value {
    switchboard.cli(&["credentials", "list", "--json"]).await.ok().json()
}

/// The credential of this label, as listed.
async fn credential(switchboard: &Switchboard, label: &str) -> Value {
    let all = listed(switchboard).await;
    let found = all["credentials"].as_array().and_then(|all| all.iter().find(|one| one["label"] == label));
    found.unwrap_or_else(|| panic!("no {label}: {all}")).clone()
}

/// What the gateway would tell of a credential's quota.
async fn told(switchboard: &Switchboard, label: &str, windows: Vec<QuotaWindow>, allowed: Option<bool>) {
    let credential_id = credential(switchboard, label).await["id"].as_str().expect("an id").to_owned();
    let observed_at = domain::Clock::system().now_ms() as f64 / 1000.0;
    let usage = CredentialUsage { credential_id, observed_at, windows, ..CredentialUsage::default() };
    let usage = CredentialUsage { probe: allowed.is_some(), allowed, ..usage };
    let request =
        ReportUsageRequest { batch_id: domain::new_call_id(), credentials: vec![usage], ..Default::default() };
    BindingServiceClient::new(switchboard.peer(Part::Auth)).report_usage(request).await.expect("taken");
}

fn window(limit: &str, window_seconds: i32, used_percent: f64, resets_in_s: i64) -> QuotaWindow {
    let resets_at = Some((domain::Clock::system().now_s() + resets_in_s) as f64);
    QuotaWindow { limit: limit.to_owned(), window_seconds, used_percent, resets_at, limit_name: None }
}

e2e::in_each_topology! {
    /// Each session keeps to one account, also over a restart, until an operator gives an order.
    async fn a_session_keeps_to_its_account(topology) {
        let (world, _) = World::with_login().await;
        world.login("acct-2", "spare").await;
        let mut switchboard = world.start(topology).await;
        let sessions: Vec<String> = (0..12).map(|i| format!("session-{i}")).collect();
        let mut homes = Vec::new();
        for session in &sessions {
            homes.push(answers(&world, &switchboard, session).await);
        }
        assert!(["acct-1", "acct-2"].iter().all(|account| homes.iter().any(|home| home == account)), "{homes:?}");
        assert_eq!(listed(&switchboard).await["selections"][0]["mode"], "session");
        switchboard.kill_all().await;
        switchboard.restart().await;
        for (session, home) in sessions.iter().zip(&homes) {
            assert_eq!(&answers(&world, &switchboard, session).await, home, "{session}");
        }
        let order = |more: &'static [&'static str]| [&["credentials", "order", "openai-codex"], more].concat();
        let _ = switchboard.cli(&order(&["spare", "main"])).await.ok();
        for session in &sessions {
            assert_eq!(answers(&world, &switchboard, session).await, "acct-2");
        }
        let told = switchboard.cli(&["credentials", "list"]).await.ok();
        assert!(told.stdout.contains("openai-codex: credentials are tried in this order"), "{told}");
        let told = switchboard.cli(&order(&["--by-session"])).await.ok();
        assert_eq!(told.stdout, "spread sessions over openai-codex\n");
        assert_eq!(&answers(&world, &switchboard, &sessions[0]).await, &homes[0]);
        let _ = switchboard.cli(&order(&[])).await.exits(2);
        let _ = switchboard.cli(&order(&["main", "--by-session"])).await.exits(2);
        // What names a session stays out of logs and databases.
        for file in std::fs::read_dir(world.home.data_dir()).expect("listed") {
            let path = file.expect("an entry").path();
            let bytes = if path.is_file() { std::fs::read(&path).expect("read") } else { Vec::new() };
            assert!(!bytes.windows(9).any(|part| part == b"session-7"), "{}", path.display());
        }
        for process in switchboard.processes() {
            assert!(!process.log().contains("session-7"), "{}", process.name());
        }
    }

    /// A session whose account has reached its limit goes to the other one, and comes back when a usage request has
    /// found the limit gone.
    async fn a_limit_ends_early_and_the_session_comes_back(topology) {
        let (world, _) = World::with_login().await;
        world.login("acct-2", "spare").await;
        let switchboard = world.start(topology).await;
        let mut session = String::new();
        for i in 0..40 {
            session = format!("s{i}");
            if answers(&world, &switchboard, &session).await == "acct-1" {
                break;
            }
        }
        world.behave("acct-1", "usage_limit:3600");
        assert_eq!(answers(&world, &switchboard, &session).await, "acct-2");
        world.behave("acct-1", "ok");
        assert_eq!(answers(&world, &switchboard, &session).await, "acct-2", "it rests until the reset");
        told(&switchboard, "main", vec![window("codex", 18_000, 0.0, 18_000)], Some(true)).await;
        assert_eq!(answers(&world, &switchboard, &session).await, "acct-1");
    }

    /// A usage limit that one model has met leaves the others alone; when all rest, the answer is the earliest reset.
    async fn a_limit_rests_its_model_only(topology) {
        let (world, _) = World::with_login().await;
        let switchboard = world.start(topology).await;
        world.behave("acct-1", "usage_limit:3600");
        let _ = call(&switchboard, "codex/gpt-5.5").await.exits(1);
        world.behave("acct-1", "ok");
        let answer = call(&switchboard, MINI).await.ok().json();
        assert_eq!(trace_of(&answer)["attempts"][0]["credential"], "main");
        let refused = call(&switchboard, "codex/gpt-5.5").await.exits(1).json();
        assert_eq!(refused["error"]["reason"], "USAGE_LIMIT", "{refused}");
        assert_eq!(trace_of(&refused)["attempts"][0]["result"], "skipped");
        assert_eq!(only_route(&status(&switchboard).await)["reason"], "resting");
        let shown = credential(&switchboard, "main").await;
        assert_eq!(shown["state"], "resting", "{shown}");
        assert!(shown["detail"].as_str().is_some_and(|detail| detail.contains("for gpt-5.5 until")), "{shown}");
    }

    /// A call that meets the limits of several credentials is told of the one that ends first, as is the call that finds
    /// them all resting, on every face.
    async fn of_several_limits_the_first_to_end_is_told(topology) {
        let (world, _) = World::with_login().await;
        world.login("acct-2", "spare").await;
        world.login("acct-3", "third").await;
        let switchboard = world.start(topology).await;
        let _ = switchboard.cli(&["credentials", "order", "openai-codex", "main", "spare", "third"]).await.ok();
        for (account, seconds) in [("acct-1", 3600), ("acct-2", 1200), ("acct-3", 7200)] {
            world.behave(account, &format!("usage_limit:{seconds}"));
        }
        for found_by in ["three attempts", "no attempt"] {
            let before = world.upstream().len();
            let refused = switchboard.http().respond(&streamed("Hello")).await.is(429);
            let error = &refused.json()["error"];
            assert_eq!(error["type"], "usage_limit_reached", "{found_by}: {error}");
            let left = error["resets_in_seconds"].as_i64().expect("a time");
            assert!((600..=1201).contains(&left), "{found_by}: {error}");
            let at = error["resets_at"].as_i64().expect("a time") - domain::Clock::system().now_s();
            assert!((600..=1201).contains(&at), "{found_by}: {error}");
            assert_eq!(world.upstream().len() - before, if found_by == "no attempt" { 0 } else { 3 }, "{found_by}");
        }
        let refused = switchboard.grpc().complete(question("codex/gpt-5.5", "Hello")).await.expect_err("refused");
        let told = failure_from_status(&refused, "gateway").retry_after_seconds.expect("a time");
        assert!((600.0..=1201.0).contains(&told), "{told}");
        let told = switchboard.cli(&["call", "--model", "codex/gpt-5.5", "--message", "Hello"]).await.exits(1);
        let first = told.stderr.lines().next().expect("a line").to_owned();
        assert!(first.contains("before 20") && !first.contains("spare"), "the time, and nothing twice: {told}");
        for label in ["main", "spare", "third"] {
            assert_eq!(told.stderr.matches(&format!("credential {label}: resting")).count(), 1, "{told}");
        }
    }

    /// An order names each credential once, and says what there is.
    async fn a_wrong_order_is_refused(topology) {
        let (world, _) = World::with_login().await;
        let switchboard = world.start(topology).await;
        let order = |more: &'static [&'static str]| [&["credentials", "order"], more].concat();
        let twice = switchboard.cli(&order(&["openai-codex", "main", "main"])).await.exits(1);
        assert!(twice.stderr.contains("main is named twice"), "{twice}");
        let unknown = switchboard.cli(&order(&["openai-codex", "ghost"])).await.exits(1);
        assert!(unknown.stderr.contains("it has main"), "{unknown}");
        let none = switchboard.cli(&order(&["openai", "ghost"])).await.exits(1);
        assert!(none.stderr.contains("there is no credential of provider \"openai\"\n"), "{none}");
    }

    /// What is known of quotas reads in a pipe, and scripts get the figures.
    async fn quotas_are_shown(topology) {
        let (world, _) = World::with_login().await;
        let switchboard = world.start(topology).await;
        let windows = vec![window("codex", 604_800, 92.0, 3 * 86_400 + 30), window("codex", 18_000, 31.0, 7830)];
        told(&switchboard, "main", windows, None).await;
        let bars = [
            "main  5 h  [######--------------]   31 %  resets in 2 h 10 min",
            "main  7 d  [##################--]   92 %  resets in 3 d",
        ];
        for args in [&["credentials", "list"][..], &["credentials", "show", "main"]] {
            let shown = switchboard.cli(args).await.ok();
            assert!(shown.stdout.contains(&bars.join("\n")), "{shown}");
            assert!(!shown.stdout.contains('\u{1b}'), "{shown}");
        }
        let shown = credential(&switchboard, "main").await;
        let first = &shown["quota"][0];
        assert_eq!((&first["limit"], &first["windowSeconds"]), (&"codex".into(), &18_000.into()), "{shown}");
        assert_eq!((&first["usedPercent"], &first["name"]), (&31.into(), &Value::Null), "{shown}");
        assert!(first["resetsAt"].is_i64() && shown["quotaObservedAt"].is_number(), "{shown}");
        assert_eq!((&shown["unconfirmed"], &shown["refreshProblem"]), (&false.into(), &Value::Null), "{shown}");
    }

    /// What answers say of quotas is shown without anybody asking, and a limit names its window.
    async fn answers_tell_of_quotas(topology) {
        let (world, _) = World::with_login().await;
        let switchboard = world.start(topology).await;
        let _ = call(&switchboard, "codex/gpt-5.5").await.ok();
        e2e::eventually_async("the quota is known", async || {
            credential(&switchboard, "main").await["quota"].as_array().is_some_and(|quota| quota.len() == 2)
        })
        .await;
        world.behave("acct-1", "usage_limit:3600");
        let refused = call(&switchboard, "codex/gpt-5.5").await.exits(1).json();
        assert_eq!(refused["error"]["reason"], "USAGE_LIMIT", "{refused}");
        let shown = switchboard.cli(&["credentials", "list"]).await.ok();
        assert!(shown.stdout.contains("(the 5 h window)"), "{shown}");
    }
}
