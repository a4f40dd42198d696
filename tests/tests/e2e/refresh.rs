//! One owner of refresh tokens: one refresh however many ask, and what it brought is never lost.

use std::time::Duration;

use codex_sim::Sim;
use e2e::{Part, eventually, question};
use futures_util::future::join_all;

use crate::support::{CODEX, World, call, only_route, status, streamed};

/// Token requests of the simulator's, as their outcomes.
fn refreshes(sim: &Sim) -> Vec<String> {
    sim.state().token_requests().into_iter().map(|request| request.outcome).collect()
}

fn behave_at_refresh(world: &World, account: &str, scenario: &str) {
    world.sim.state().set_token_scenario(account, Some(scenario.parse().expect("a scenario")));
}

#[track_caller]
fn nothing_was_reused(sim: &Sim) {
    let logins = sim.state().stats().logins;
    assert!(logins.iter().all(|login| login.alive), "{logins:?}");
}

e2e::in_each_topology! {
    /// A hundred callers meet an expired token: one refresh, a hundred answers. Then everything is killed: what the
    /// refresh brought is there, and is used.
    async fn a_hundred_callers_cause_one_refresh_which_survives_a_crash(topology) {
        let world = World::new().await;
        world.expired("acct-1", "main").await;
        // Long enough that all of them wait for the same one.
        behave_at_refresh(&world, "acct-1", "delay:300");
        let mut switchboard = world.start(topology).await;
        let client = switchboard.grpc();
        // The key is known to the gateway before: its first look at it has a limit that a slow machine would meet.
        let _ = switchboard.http().get("/v1/models").await.is(200);
        let calls = (0..100).map(|_| {
            let mut client = client.clone();
            async move { client.complete(question("codex/gpt-5.5", "Reply exactly: OK")).await }
        });
        for answer in join_all(calls).await {
            let result = answer.expect("answered").into_inner().result.expect("a result");
            assert_eq!(result.payloads[0].text, "OK");
        }
        assert_eq!(refreshes(&world.sim), ["ok"]);
        let after_refresh = world.sim.state().requests_to(CODEX);
        assert_eq!(after_refresh.len(), 100);
        assert!(after_refresh.iter().all(|request| request.status == Some(200)), "none was sent with the old token");
        let token = after_refresh[0].header("authorization").map(str::to_owned);

        switchboard.kill_all().await;
        switchboard.restart().await;
        let _ = call(&switchboard, "codex/gpt-5.5").await.ok();
        let last = world.sim.state().requests_to(CODEX).pop().expect("a request");
        assert_eq!(last.header("authorization").map(str::to_owned), token, "the token that the refresh brought");
        assert_eq!(refreshes(&world.sim), ["ok"], "no second refresh");
        nothing_was_reused(&world.sim);
    }

    /// The caller that caused a refresh goes away while it is under way: it completes, and the next call uses it.
    async fn a_refresh_completes_when_its_caller_goes_away(topology) {
        let world = World::new().await;
        world.expired("acct-1", "main").await;
        behave_at_refresh(&world, "acct-1", "delay:1000");
        let switchboard = world.start(topology).await;
        let mut client = switchboard.grpc();
        let impatient = client.complete(question("codex/gpt-5.5", "Hello"));
        let _ = tokio::time::timeout(Duration::from_millis(400), impatient).await.expect_err("it takes a second");
        eventually("the token was asked for", || world.sim.state().token_requests().len() == 1).await;
        // Nobody waits any more. The database tells when the answer has come.
        e2e::eventually_async("the refreshed token is stored", async || {
            let kept = switchboard.cli(&["credentials", "show", "main", "--json"]).await.ok().json();
            kept["version"] == 2
        })
        .await;
        assert_eq!(world.upstream().len(), 0, "the call itself ended with its caller");
        let _ = call(&switchboard, "codex/gpt-5.5").await.ok();
        assert_eq!(refreshes(&world.sim), ["ok"]);
        nothing_was_reused(&world.sim);
    }

    /// The process that waits for a refresh is asked to stop: it stores the answer before it ends.
    async fn a_refresh_completes_when_its_service_is_stopped(topology) {
        let world = World::new().await;
        world.expired("acct-1", "main").await;
        behave_at_refresh(&world, "acct-1", "delay:800");
        let mut switchboard = world.start(topology).await;
        let mut client = switchboard.grpc();
        let asking = tokio_util::task::TaskTracker::new();
        asking.spawn(async move { client.complete(question("codex/gpt-5.5", "Hello")).await });
        eventually("the token was asked for", || world.sim.state().token_requests().len() == 1).await;
        switchboard.process(Part::Auth).end(e2e::Signal::TERM).await;
        switchboard.restart().await;
        let _ = call(&switchboard, "codex/gpt-5.5").await.ok();
        assert_eq!(refreshes(&world.sim), ["ok"]);
        nothing_was_reused(&world.sim);
    }

    /// A token that the upstream rejects although it has not expired is refreshed once, and the call goes on with it.
    async fn a_rejected_token_is_refreshed_once_within_the_call(topology) {
        let (world, _) = World::with_login().await;
        let switchboard = world.start(topology).await;
        world.behave("acct-1", "unauthorized_once");
        let answer = call(&switchboard, "codex/gpt-5.5").await.ok().json();
        let attempts = answer["result"]["meta"]["executionTrace"]["attempts"].as_array().expect("attempts").clone();
        let told: Vec<_> = attempts.iter().map(|a| (a["result"].as_str(), a["reason"].as_str())).collect();
        assert_eq!(told, [(Some("failed"), Some("CREDENTIAL_REJECTED")), (Some("success"), None)], "{answer}");
        assert_eq!(refreshes(&world.sim), ["ok"]);
        let reason = world.sim.state().token_requests().pop().and_then(|request| request.refresh_reason);
        assert_eq!(reason.as_deref(), Some("unauthorized_recovery"));
        assert_eq!(only_route(&status(&switchboard).await)["bound"]["credential"], "main");
    }

    /// One that is rejected for good is latched after that one refresh; nothing asks for it again.
    async fn a_token_that_stays_rejected_is_latched(topology) {
        let (world, _) = World::with_login().await;
        let switchboard = world.start(topology).await;
        world.behave("acct-1", "unauthorized");
        let failed = call(&switchboard, "codex/gpt-5.5").await.exits(1).json();
        assert_eq!(failed["error"]["reason"], "CREDENTIAL_REJECTED", "{failed}");
        let before = (world.upstream().len(), refreshes(&world.sim).len());
        assert_eq!(before, (2, 1));
        let again = switchboard.http().respond(&streamed("Hello")).await.is(400).json();
        assert_eq!(again["error"]["reason"], "CREDENTIAL_REJECTED", "{again}");
        assert_eq!((world.upstream().len(), refreshes(&world.sim).len()), before, "nothing more is asked of anybody");
        assert_eq!(only_route(&status(&switchboard).await)["reason"], "needs_login");
    }

    /// The identity provider's edge, its limits and its failures end no login: while the token lives it is used, and
    /// once it has expired the call says who does not answer.
    async fn a_failing_identity_provider_ends_no_login(topology) {
        let world = World::new().await;
        world.expired("acct-1", "main").await;
        let switchboard = world.start(topology).await;
        behave_at_refresh(&world, "acct-1", "challenge");
        let failed = call(&switchboard, "codex/gpt-5.5").await.exits(1).json();
        assert_eq!(failed["error"]["reason"], "IDENTITY_UNAVAILABLE", "{failed}");
        assert!(failed["error"]["retryAfterSeconds"].as_f64().is_some_and(|wait| wait > 0.0), "{failed}");
        let answer = switchboard.http().respond(&streamed("Hello")).await.is(503);
        assert!(!answer.header("retry-after").is_empty());
        assert_eq!(only_route(&status(&switchboard).await)["reason"], "refresh_failed");
        assert_eq!(world.upstream().len(), 0);
        world.sim.state().set_token_scenario("acct-1", None);
        e2e::eventually_async("it is tried again and answers", async || {
            call(&switchboard, "codex/gpt-5.5").await.code == Some(0)
        })
        .await;
        nothing_was_reused(&world.sim);
    }
}
