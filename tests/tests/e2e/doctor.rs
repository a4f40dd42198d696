//! `doctor`, `health`, the admin port and its metrics: what will go wrong is seen days before calls fail, and what is
//! wrong has a name and a next step.

use std::time::Duration;

use codex_sim::SeedLogin;
use e2e::{Http, Output, Part, Switchboard};
use serde_json::Value;

use crate::support::{World, call, streamed};

/// The findings of `doctor --json` about a subject.
fn about<'a>(doctor: &'a Value, subject: &str) -> Vec<&'a Value> {
    let all = doctor["findings"].as_array().expect("findings");
    all.iter().filter(|finding| finding["subject"] == subject).collect()
}

async fn doctor(switchboard: &Switchboard, code: i32) -> Value {
    switchboard.cli(&["doctor", "--json"]).await.exits(code).json()
}

/// A page of the admin port of the process that auth-svc runs in.
async fn admin(switchboard: &Switchboard, page: &str) -> e2e::Answer {
    Http::new(&switchboard.admin_url(Part::Auth), None).get(page).await
}

/// The value of a line of the metrics page.
fn value(page: &str, series: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}

/// One line for each finding, errors first, and no ANSI.
#[track_caller]
fn is_for_people(said: &Output) {
    let lines: Vec<&str> = said.stdout.lines().collect();
    let rank = |line: &&str| ["error  ", "warn   ", "ok     "].iter().position(|mark| line.starts_with(mark));
    let ranks: Vec<usize> = lines.iter().filter_map(rank).collect();
    assert!(ranks.is_sorted() && !ranks.is_empty(), "{said}");
    let next = lines.iter().filter(|line| line.starts_with("       next: ")).count();
    assert_eq!(ranks.len() + next, lines.len(), "{said}");
    assert!(!said.text().contains('\u{1b}'), "{said}");
}

e2e::in_each_topology! {
    /// The identity provider fails while the token lives: calls work, and everything that an operator looks at says so.
    async fn a_failing_refresh_is_seen_while_calls_still_work(topology) {
        let (world, login) = World::with_login().await;
        let switchboard = world.start(topology).await;
        let well = doctor(&switchboard, 0).await;
        assert_eq!(well["status"], "ok", "{well}");
        assert_eq!(admin(&switchboard, "/readyz").await.is(200).json()["warnings"], serde_json::json!([]));

        world.sim.state().set_token_scenario("*", Some("server_error".parse().expect("a scenario")));
        let _ = switchboard.cli(&["credentials", "refresh", "main"]).await.exits(1);
        let _ = call(&switchboard, "codex/gpt-5.5").await.ok();

        let worried = doctor(&switchboard, 0).await;
        assert_eq!(worried["status"], "warning", "{worried}");
        let found = about(&worried, "credential main");
        assert_eq!(found.len(), 1, "{worried}");
        let message = found[0]["message"].as_str().expect("a message");
        assert!(message.contains("its refresh fails since") && message.contains("calls work until"), "{message}");
        assert_eq!(found[0]["reason"], "IDENTITY_UNAVAILABLE");
        assert!(found[0]["nextStep"].as_str().is_some_and(|step| step.contains("credentials refresh main")));
        is_for_people(&switchboard.cli(&["doctor"]).await.ok());

        let ready = admin(&switchboard, "/readyz").await.is(200).json();
        assert_eq!((&ready["status"], &ready["warnings"][0]["subject"]), (&"ready".into(), &"credential main".into()));
        let health = switchboard.cli(&["health"]).await.ok();
        assert!(health.stdout.contains("serving") && health.stdout.contains("warn   credential main: its refresh"), "{health}");
        let health = switchboard.cli(&["health", "--json"]).await.ok().json();
        assert_eq!((&health["status"], &health["warnings"][0]["severity"]), (&"ok".into(), &"warning".into()));

        let page = admin(&switchboard, "/metrics").await.is(200).text();
        let refreshes = |outcome: &str| value(&page, &format!("switchboard_refresh_total{{outcome=\"{outcome}\"}}"));
        assert!(refreshes("failed").is_some_and(|count| count >= 1.0) && refreshes("refreshed") == Some(0.0), "{page}");
        let ready = "switchboard_credential_state{credential=\"main\",state=\"ready\"}";
        assert_eq!(value(&page, ready), Some(1.0), "{page}");
        let lives = value(&page, "switchboard_credential_expires_seconds{credential=\"main\"}");
        assert!(lives.is_some_and(|seconds| seconds > 60.0), "{page}");
        assert!(value(&page, "switchboard_refresh_failing_seconds{credential=\"main\"}").is_some(), "{page}");
        assert!(!page.contains(&login.email) && !page.contains(&login.account_id), "{page}");

        world.sim.state().set_token_scenario("*", None);
        e2e::eventually_async("the refresh works again", async || {
            switchboard.cli(&["credentials", "refresh", "main"]).await.code == Some(0)
        })
        .await;
        assert_eq!(doctor(&switchboard, 0).await["status"], "ok");
        let page = admin(&switchboard, "/metrics").await.is(200).text();
        assert_eq!(value(&page, "switchboard_refresh_failing_seconds{credential=\"main\"}"), Some(0.0), "{page}");
        assert!(value(&page, "switchboard_refresh_answer_to_commit_seconds_count").is_some_and(|n| n >= 1.0), "{page}");
    }

    /// Where the models come from and how old that is; a list that cannot be read is told with its reason and what to do,
    /// and is no error: calls do without it.
    async fn a_list_of_models_that_cannot_be_read_is_told(topology) {
        let (world, _) = World::with_login().await;
        let switchboard = world.start(topology).await;
        let well = doctor(&switchboard, 0).await;
        let [found] = about(&well, "models of openai-codex")[..] else { panic!("{well}") };
        let message = found["message"].as_str().unwrap_or_default();
        assert!(message.contains("listed by the upstream for credential main, read"), "{message}");
        let shown = switchboard.cli(&["models", "list"]).await.ok();
        assert!(shown.stdout.contains("openai-codex: 2 models listed by the upstream"), "{shown}");
        let told = switchboard.cli(&["models", "list", "--json"]).await.ok().json();
        assert!(told["upstream"][0]["ageSeconds"].as_i64().is_some_and(|age| (0..300).contains(&age)), "{told}");

        // Nothing is known yet of what this one lists.
        let (world, _) = World::with_login().await;
        world.behave("*", "block");
        let switchboard = world.start(topology).await;
        let worried = doctor(&switchboard, 0).await;
        let [found] = about(&worried, "models of openai-codex")[..] else { panic!("{worried}") };
        assert_eq!((&found["severity"], &found["reason"]), (&"warning".into(), &"EDGE_BLOCKED".into()), "{worried}");
        let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
        assert!(text("message").contains("only the configured models are known"), "{worried}");
        assert!(!text("nextStep").is_empty(), "{worried}");
        let shown = switchboard.cli(&["models", "list"]).await.ok();
        assert!(shown.stdout.contains("cannot be read") && shown.stdout.contains("  next: "), "{shown}");
    }

    /// The answer to a refresh is lost, and the refresh token with it for all that anybody knows: calls work, and it is
    /// pressing from a day before the access token's end. A login ends it.
    async fn a_refresh_in_doubt_is_seen_wherever_one_looks(topology) {
        let world = World::new().await;
        for (account, label, hours) in [("acct-1", "main", 240), ("acct-2", "late", 23)] {
            let seed = SeedLogin { access_ttl: Some(Duration::from_secs(hours * 3600)), ..SeedLogin::account(account) };
            let (_, path) = world.home.codex_login(&world.sim, seed);
            let _ = world.import(&path, label).await.ok();
        }
        let switchboard = world.start(topology).await;
        for (label, account, code, severity) in [("main", "acct-1", 0, "warning"), ("late", "acct-2", 1, "error")] {
            world.sim.state().set_token_scenario_times(account, "drop_answer".parse().expect("a scenario"), 1);
            let _ = switchboard.cli(&["credentials", "refresh", label]).await.exits(1);
            let worried = doctor(&switchboard, code).await;
            assert_eq!(worried["status"], severity, "{worried}");
            let subject = format!("credential {label}");
            let [found] = about(&worried, &subject)[..] else { panic!("{worried}") };
            assert_eq!((&found["severity"], &found["reason"]), (&severity.into(), &"CREDENTIAL_NEEDS_LOGIN".into()));
            let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
            let message = text("message");
            assert!(message.contains("may be spent") && message.contains("calls work until"), "{message}");
            let step = text("nextStep");
            let ends_it = format!("`switchboard credentials refresh {label}`, which ends the login if its token is spent");
            assert!(step.starts_with("log in again before 20") && step.contains(&ends_it), "{step}");

            let ready = admin(&switchboard, "/readyz").await.is(200).json();
            let warned = ready["warnings"].as_array().is_some_and(|all| all.iter().any(|one| one["subject"] == *subject));
            assert!(ready["status"] == "ready" && warned, "{ready}");
            let page = admin(&switchboard, "/metrics").await.is(200).text();
            assert!(page.contains(&format!("switchboard_refresh_failing_seconds{{credential=\"{label}\"}} ")), "{page}");
            let listed = switchboard.cli(&["credentials", "list"]).await.ok();
            let line = listed.stdout.lines().find(|line| line.starts_with(&format!("{label}: refresh fails since")));
            assert!(line.is_some_and(|line| line.contains("its refresh token may be spent")), "{listed}");
        }
        let page = admin(&switchboard, "/metrics").await.is(200).text();
        assert_eq!(value(&page, "switchboard_refresh_total{outcome=\"in_doubt\"}"), Some(2.0), "{page}");
        let _ = call(&switchboard, "codex/gpt-5.5").await.ok();
        assert_eq!(world.sim.state().token_requests().len(), 2, "no token that may be spent is sent again unasked");
        e2e::eventually_async("the time since then is told", async || {
            let page = admin(&switchboard, "/metrics").await.is(200).text();
            value(&page, "switchboard_refresh_failing_seconds{credential=\"main\"}").is_some_and(|since| since >= 1.0)
        })
        .await;

        world.login("acct-1", "main").await;
        world.login("acct-2", "late").await;
        assert_eq!(doctor(&switchboard, 0).await["status"], "ok");
        let page = admin(&switchboard, "/metrics").await.is(200).text();
        assert_eq!(value(&page, "switchboard_refresh_failing_seconds{credential=\"main\"}"), Some(0.0), "{page}");
    }

    /// The provider refuses a refresh for good: calls go on with the access token, and everything that an operator looks
    /// at says until when. The upstream's 401 ends it.
    async fn a_refused_refresh_is_seen_while_calls_still_work(topology) {
        let (world, _) = World::with_login().await;
        let switchboard = world.start(topology).await;
        world.sim.state().set_token_scenario("*", Some("invalidated".parse().expect("a scenario")));
        let refused = switchboard.cli(&["credentials", "refresh", "main"]).await.exits(1);
        assert!(refused.text().contains("CREDENTIAL_NEEDS_LOGIN") && refused.text().contains("is used until"), "{refused}");
        for _ in 0..2 {
            let _ = call(&switchboard, "codex/gpt-5.5").await.ok();
        }
        assert_eq!(world.sim.state().token_requests().len(), 1, "the refresh token is dead, and not sent again");

        let list = switchboard.cli(&["credentials", "list"]).await.ok();
        assert!(list.stdout.contains("needs login within ") && list.stdout.contains("main: needs login by 20"), "{list}");
        assert!( list.stdout.contains("refused for good"), "{list}");
        let show = switchboard.cli(&["credentials", "show", "main", "--json"]).await.ok().json();
        assert_eq!(show["state"], "login_due", "{show}");
        let status = switchboard.cli(&["models", "status", "--check"]).await.ok();
        assert!(status.stdout.contains("credential main: its refresh was refused for good"), "{status}");
        let worried = doctor(&switchboard, 0).await;
        let [found] = about(&worried, "credential main")[..] else { panic!("{worried}") };
        assert_eq!((&found["severity"], &found["reason"]), (&"warning".into(), &"CREDENTIAL_NEEDS_LOGIN".into()));
        assert!(found["message"].as_str().is_some_and(|message| message.contains("calls work until")), "{found}");
        assert!(found["nextStep"].as_str().is_some_and(|step| step.contains("switchboard login codex")), "{found}");
        let health = switchboard.cli(&["health"]).await.ok();
        assert!(health.stdout.contains("warn   credential main: its refresh is refused for good"), "{health}");
        let ready = admin(&switchboard, "/readyz").await.is(200).json();
        assert_eq!((&ready["status"], &ready["warnings"][0]["subject"]), (&"ready".into(), &"credential main".into()));
        let page = admin(&switchboard, "/metrics").await.is(200).text();
        let due = "switchboard_credential_state{credential=\"main\",state=\"login_due\"}";
        assert_eq!(value(&page, due), Some(1.0), "{page}");

        world.behave("acct-1", "unauthorized");
        let failed = switchboard.http().respond(&streamed("Hello")).await.is(400).json();
        assert_eq!(failed["error"]["reason"], "CREDENTIAL_NEEDS_LOGIN", "{failed}");
        let over = doctor(&switchboard, 1).await;
        let [found] = about(&over, "credential main")[..] else { panic!("{over}") };
        assert_eq!((&found["severity"], &found["reason"]), (&"error".into(), &failed["error"]["reason"]));
        assert!(found["message"].as_str().is_some_and(|message| message.contains("rejected its access token")), "{found}");
        assert_eq!(world.sim.state().token_requests().len(), 1);
    }

    /// What makes calls fail is an error, with the reason that a call fails with, and `doctor` fails.
    async fn what_makes_calls_fail_is_an_error(topology) {
        let (world, _) = World::with_login().await;
        world.home.set("agents.other.credentials", "[\"nobody\"]");
        let switchboard = world.start(topology).await;
        world.behave("acct-1", "unauthorized");
        let failed = switchboard.http().respond(&streamed("Hello")).await.is(400).json();
        let found = doctor(&switchboard, 1).await;
        assert_eq!(found["status"], "error");
        let credential = about(&found, "credential main");
        assert_eq!((&credential[0]["severity"], &credential[0]["reason"]), (&"error".into(), &failed["error"]["reason"]));
        let route = |agent: &str| format!("route openai-codex/gpt-5.5 of agent {agent}");
        for agent in ["main", "other"] {
            let route = route(agent);
            let told = about(&found, &route);
            assert_eq!(told[0]["severity"], "error", "{found}");
            assert!(told[0]["nextStep"].as_str().is_some_and(|step| !step.is_empty()), "{found}");
        }
        let only = switchboard.cli(&["doctor", "--json", "--agent", "other"]).await.exits(1).json();
        assert!(about(&only, &route("main")).is_empty() && about(&only, &route("other")).len() == 1, "{only}");
        is_for_people(&switchboard.cli(&["doctor"]).await.exits(1));
        // The services serve, and to start them again would mend nothing.
        let ready = admin(&switchboard, "/readyz").await.is(200).json();
        assert_eq!((&ready["status"], &ready["warnings"][0]["severity"]), (&"ready".into(), &"warning".into()), "{ready}");
        let health = switchboard.cli(&["health"]).await.ok();
        assert!(health.stdout.contains("warn   credential main: ") && !health.stdout.contains("error  "), "{health}");
    }

    /// Without a server: what can be looked at is, and the server that is not there is an error.
    async fn without_a_server_the_files_are_looked_at(topology) {
        let world = World::new().await;
        let nothing = world.home.cli(&["doctor", "--json"]).await.exits(1).json();
        assert_eq!(about(&nothing, "data directory")[0]["severity"], "error", "{nothing}");
        assert_eq!(about(&nothing, "configuration")[0]["severity"], "ok", "{nothing}");
        assert!(!world.home.data_dir().exists(), "it makes nothing");

        world.expired("acct-1", "main").await;
        let mut switchboard = world.start(topology).await;
        let holder = switchboard.process(Part::Auth).id().to_string();
        let found = doctor(&switchboard, 0).await;
        let held = about(&found, "data directory")[0]["message"].as_str().expect("a message").to_owned();
        assert!(held.contains(&format!("held by process {holder}")), "{held}");
        switchboard.stop().await;
        let found = world.home.cli(&["doctor", "--json"]).await.exits(1).json();
        let server = about(&found, "server");
        assert_eq!(server[0]["reason"], "PEER_UNAVAILABLE", "{found}");
        assert!(server[0]["nextStep"].as_str().is_some_and(|step| step.contains("switchboard up")));
        for subject in ["credential main", "database", "database key", "agent keys", "memory"] {
            assert_eq!(about(&found, subject)[0]["severity"], "ok", "{subject}: {found}");
        }

        world.home.set("auth.refresh_marginn", "1");
        let found = world.home.cli(&["doctor", "--json"]).await.exits(1).json();
        let told = about(&found, "configuration")[0]["message"].as_str().expect("a message").to_owned();
        assert!(told.contains("refresh_marginn"), "{told}");
        world.home.unset("auth.refresh_marginn");
    }

    /// Every admin port has the page, and it says which process it is.
    async fn every_process_has_a_metrics_page(topology) {
        let (world, _) = World::with_login().await;
        let switchboard = world.start(topology).await;
        for part in Part::ALL {
            let page = Http::new(&switchboard.admin_url(part), None).get("/metrics").await.is(200);
            assert!(page.header("content-type").starts_with("text/plain"), "{:?}", page.headers);
            let name = topology.process_of(part);
            assert!(page.text().contains(&format!("switchboard_build_info{{service=\"{name}\"")), "{}", page.text());
            assert!(page.text().contains("process_start_time_seconds "), "{}", page.text());
        }
    }
}
