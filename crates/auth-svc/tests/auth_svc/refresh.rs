//! One refresh per version, durable before use, and each kind of failure by its name.

use std::time::Duration;

use codex_sim::{SeedLogin, TokenScenario};
use domain::{CandidateReason, Reason};
use sqlx::Connection;
use tokio::task::JoinSet;

use crate::support::{Peer, Rig, expired};

fn scenario(text: &str) -> Option<TokenScenario> {
    Some(text.parse().expect("a scenario"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_calls_on_an_expired_token_refresh_it_once() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    let seeded = rig.import(&peer, expired("acct"), "main").await;
    rig.sim.state().set_token_scenario("acct", scenario("delay:100"));

    let mut calls = JoinSet::new();
    for i in 0..100 {
        let mut client = peer.binding();
        let call_id = format!("call-{i}");
        calls.spawn(async move {
            let request = proto::auth::v1::BindRequest {
                call_id: call_id.clone(),
                wanted: Some(crate::support::codex()),
                ..Default::default()
            };
            (call_id, client.bind(request).await.expect("an answer").into_inner())
        });
    }
    let mut tokens = std::collections::BTreeSet::new();
    while let Some(call) = calls.join_next().await {
        let (call_id, answer) = call.expect("no panic");
        let bound = answer.bound.as_ref().expect("bound");
        assert_eq!((bound.version, bound.credential.as_str()), (2, "main"));
        tokens.insert(rig.open(&answer, &call_id));
    }
    assert_eq!(tokens.len(), 1);
    assert!(!tokens.contains(&seeded.access_token), "the new token is handed out");
    assert_eq!(rig.sim.state().refresh_count("acct"), 1);
    assert_eq!(rig.sim.state().token_requests().len(), 1);

    // The process is gone without a word; what was handed out is in the database.
    drop(peer);
    let peer = rig.start().await;
    let answer = peer.bind(None).await;
    assert!(tokens.contains(&rig.open(&answer, "call")));
    assert!(!answer.bound.expect("bound").refreshed);
    assert_eq!(rig.sim.state().token_requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_whose_caller_went_away_still_completes() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    rig.import(&peer, expired("acct"), "main").await;
    rig.sim.state().set_token_scenario("acct", scenario("delay:400"));
    let gone = tokio::time::timeout(Duration::from_millis(100), peer.bind(None)).await;
    assert!(gone.is_err(), "the caller left before the answer");
    peer.service.shutdown().await;
    drop(peer);

    let peer = rig.start().await;
    let bound = peer.bound().await;
    assert_eq!((bound.version, bound.refreshed), (2, false));
    assert_eq!(rig.sim.state().token_requests().len(), 1, "the rotated token was kept");
}

#[tokio::test]
async fn transient_failures_latch_nothing_and_are_not_hammered() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    rig.import(&peer, expired("acct"), "main").await;
    let state = rig.sim.state();
    for (fault, text) in [
        ("challenge", "challenge"),
        ("server_error", "status 500"),
        ("rate_limit:1", "status 429"),
        ("html_ok", "HTML page"),
    ] {
        state.set_token_scenario("acct", scenario(fault));
        let before = state.token_requests().len();
        let failure = peer.refused().await;
        assert_eq!(failure.reason, Reason::IdentityUnavailable, "{fault}: {failure}");
        assert!(failure.message.contains(text), "{fault}: {}", failure.message);
        assert!(failure.retryable && failure.retry_after_seconds.is_some_and(|s| s > 0.0), "{failure:?}");
        assert_eq!(failure.candidates[0].reason, Some(CandidateReason::RefreshFailed));
        assert!(!failure.message.contains("log in again"), "{}", failure.message);
        peer.refused().await;
        assert_eq!(state.token_requests().len(), before + 1, "{fault}: one request within the wait");
        rig.clock.advance_ms(31_000);
    }
    state.set_token_scenario("acct", None);
    assert!(peer.bound().await.refreshed, "and then it simply works");
}

#[tokio::test]
async fn a_living_token_is_used_while_the_provider_is_away() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    let seeded = rig.import(&peer, short(), "main").await;
    make_due(&rig);
    rig.sim.state().set_token_scenario("acct", scenario("server_error"));
    let answer = peer.bind(None).await;
    assert_eq!(rig.open(&answer, "call"), seeded.access_token);
    assert_eq!(rig.sim.state().token_requests().len(), 1, "a refresh was tried: it ends soon");
}

/// A token that lives for two minutes.
fn short() -> SeedLogin {
    SeedLogin { access_ttl: Some(Duration::from_secs(120)), ..SeedLogin::account("acct") }
}

/// More than half of them is over: it lives, and every call wants a newer one.
fn make_due(rig: &Rig) {
    rig.clock.advance_ms(70_000);
}

#[tokio::test]
async fn nobody_waits_long_for_a_newer_token_while_the_old_one_lives() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    let seeded = rig.import(&peer, short(), "main").await;
    make_due(&rig);
    rig.sim.state().set_token_scenario("acct", scenario("delay:4000"));
    let began = std::time::Instant::now();
    let answer = peer.bind(None).await;
    assert_eq!(rig.open(&answer, "call"), seeded.access_token);
    assert!(began.elapsed() < Duration::from_millis(3500), "{:?}", began.elapsed());
    let second = std::time::Instant::now();
    assert_eq!(peer.bound().await.version, 1);
    assert!(second.elapsed() < Duration::from_millis(500), "it is under way already: {:?}", second.elapsed());
    for _ in 0..100 {
        if peer.bound().await.version == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(peer.bound().await.version, 2, "the refresh went on without its caller");
    assert_eq!(rig.sim.state().token_requests().len(), 1);
}

#[tokio::test]
async fn a_living_token_is_used_while_the_database_takes_no_newer_one() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    let seeded = rig.import(&peer, short(), "main").await;
    make_due(&rig);
    break_writes(&rig, true).await;
    for _ in 0..2 {
        let answer = peer.bind(None).await;
        assert_eq!(rig.open(&answer, "call"), seeded.access_token);
    }
    assert!(ready(&peer).await.is_err(), "and the trouble shows");
    break_writes(&rig, false).await;
    for _ in 0..100 {
        if ready(&peer).await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(peer.bound().await.version, 2);
    assert_eq!(rig.sim.state().token_requests().len(), 1);
}

#[tokio::test]
async fn refused_for_good_needs_a_login_and_is_never_asked_again() {
    for (fault, text) in [("expired", "expired"), ("invalidated", "revoked"), ("invalid_grant", "invalid_grant")] {
        let rig = Rig::new().await;
        let peer = rig.start().await;
        rig.import(&peer, expired("acct"), "main").await;
        rig.sim.state().set_token_scenario("acct", scenario(fault));
        let failure = peer.refused().await;
        assert_eq!(failure.reason, Reason::CredentialNeedsLogin, "{failure}");
        assert!(failure.message.contains(text), "{}", failure.message);
        assert_eq!(failure.candidates[0].reason, Some(CandidateReason::NeedsLogin));
        assert_eq!(peer.list().await[0].state, "needs_login");
        drop(peer);

        rig.sim.state().set_token_scenario("acct", None);
        let peer = rig.start().await;
        assert_eq!(peer.refused().await.reason, Reason::CredentialNeedsLogin, "the latch survives a restart");
        assert_eq!(rig.sim.state().token_requests().len(), 1);
        // A new login of the account lifts it.
        rig.import(&peer, SeedLogin::account("acct"), "main").await;
        assert_eq!((peer.bound().await.version, peer.list().await.len()), (2, 1));
    }
}

#[tokio::test]
async fn another_holder_is_named_when_it_was_first() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    let seeded = rig.import(&peer, expired("acct"), "main").await;
    let body = serde_json::json!({ "client_id": codex_sim::CLIENT_ID, "grant_type": "refresh_token",
        "refresh_token": seeded.refresh_token });
    let url = format!("{}/oauth/token", rig.sim.base_url());
    let other = reqwest::Client::new().post(url).json(&body).send().await.expect("answered");
    assert!(other.status().is_success());
    let failure = peer.refused().await;
    assert_eq!(failure.reason, Reason::CredentialNeedsLogin);
    assert!(failure.message.contains("another program or host"), "{}", failure.message);
}

#[tokio::test]
async fn what_the_answer_leaves_out_is_kept() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    rig.import(&peer, expired("acct"), "main").await;
    for fault in ["omit_refresh_token", "omit_id_token", "omit_expires_in"] {
        rig.sim.state().set_token_scenario("acct", scenario(fault));
        let name = peer.list().await[0].label.clone();
        let request = proto::auth::v1::RefreshCredentialRequest { credential: name };
        let answer = peer.credentials().refresh_credential(request).await.expect("answered").into_inner();
        assert_eq!(answer.failure, None, "{fault}");
    }
    assert_eq!(peer.list().await[0].version, 4);
    assert!(peer.list().await[0].expires_at.is_some());
    assert!(!peer.bound().await.refreshed);
}

#[tokio::test]
async fn a_refresh_goes_to_its_issuer_only() {
    let mut rig = Rig::new().await;
    let peer = rig.start().await;
    rig.import(&peer, expired("acct"), "main").await;
    drop(peer);
    let other = Rig::new().await;
    rig.config.auth.identity_url = other.sim.base_url();
    let peer = rig.start().await;
    let failure = peer.refused().await;
    assert_eq!(failure.candidates[0].reason, Some(CandidateReason::WrongIssuer), "{failure}");
    let request = proto::auth::v1::RefreshCredentialRequest { credential: "main".into() };
    let answer = peer.credentials().refresh_credential(request).await.expect("answered").into_inner();
    assert!(answer.failure.is_some_and(|f| f.message.contains("no other origin")));
    assert!(other.sim.state().token_requests().is_empty() && rig.sim.state().token_requests().is_empty());
}

/// Makes every write to `credentials` fail, as a full disk would, or ends that.
async fn break_writes(rig: &Rig, broken: bool) {
    let url = format!("sqlite://{}", rig.database().display());
    let mut connection = sqlx::SqliteConnection::connect(&url).await.expect("opened");
    let sql = if broken {
        "CREATE TRIGGER broken BEFORE UPDATE ON credentials BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
    } else {
        "DROP TRIGGER broken"
    };
    sqlx::query(sql).execute(&mut connection).await.expect("done");
    connection.close().await.expect("closed");
}

async fn ready(peer: &Peer) -> Result<(), String> {
    (peer.service.readiness())().await.map_err(|failure| failure.message)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_the_database_does_not_take_is_neither_used_nor_lost() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    rig.import(&peer, expired("acct"), "main").await;
    assert_eq!(ready(&peer).await, Ok(()));
    break_writes(&rig, true).await;
    for _ in 0..3 {
        let failure = service_kit::failure_from_proto(&peer.bind(None).await.failure.expect("not handed out"));
        assert_eq!(failure.candidates[0].reason, Some(CandidateReason::RefreshFailed), "{failure}");
        assert_eq!(failure.reason, Reason::StoreUnavailable, "{failure}");
        assert!(failure.message.contains("switchboard.db") && failure.message.contains("main"), "{failure}");
    }
    let waiting = ready(&peer).await.expect_err("not ready");
    assert!(waiting.contains("main"), "{waiting}");
    break_writes(&rig, false).await;
    for _ in 0..100 {
        if ready(&peer).await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(ready(&peer).await, Ok(()), "written in the background");
    assert_eq!(peer.bound().await.version, 2);
    assert_eq!(rig.sim.state().token_requests().len(), 1, "the spent token was not sent again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_takes_no_writes_hinders_only_the_credential_that_needs_one() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    rig.import(&peer, expired("a"), "first").await;
    rig.import(&peer, SeedLogin::account("b"), "second").await;
    break_writes(&rig, true).await;
    for rejected in [false, true] {
        let first = peer.list().await.into_iter().find(|c| c.label == "first").expect("there");
        let answer = peer.bind(rejected.then_some((first.id.as_str(), first.version))).await;
        assert_eq!(answer.bound.expect("bound").credential, "second");
        let first = &answer.candidates[0];
        assert_eq!(first.reason.as_deref(), Some("refresh_failed"), "{first:?}");
        assert!(first.detail.as_ref().is_some_and(|detail| detail.contains("switchboard.db")), "{first:?}");
    }
    break_writes(&rig, false).await;
}

#[tokio::test]
async fn a_provider_behind_a_private_authority_is_trusted_by_ca_file() {
    let tls = codex_sim::SimConfig { tls: Some(codex_sim::TlsMode::Only), ..codex_sim::SimConfig::default() };
    let mut rig = Rig::with(tls).await;
    let peer = rig.start().await;
    rig.import(&peer, expired("acct"), "main").await;
    let failure = peer.refused().await;
    assert_eq!(failure.reason, Reason::IdentityUnavailable);
    assert!(failure.message.contains("certificate"), "{}", failure.message);
    drop(peer);
    let file = rig.root.path().join("ca.pem");
    std::fs::write(&file, rig.sim.ca_pem().expect("an authority")).expect("written");
    rig.config.transport.ca_file = Some(file);
    assert!(rig.start().await.bound().await.refreshed);
}

#[tokio::test]
async fn a_provider_that_is_not_there_is_told_from_one_that_refuses() {
    let mut rig = Rig::new().await;
    rig.config.auth.identity_url = "http://127.0.0.1:9".into();
    let peer = rig.start().await;
    rig.import(&peer, expired("acct"), "main").await;
    let failure = peer.refused().await;
    assert_eq!(failure.reason, Reason::IdentityUnavailable);
    assert!(failure.message.contains("cannot be reached"), "{}", failure.message);
}
