//! Device-code logins against the simulated provider.

use std::time::Duration;

use codex_sim::{AccountSpec, SimConfig};
use domain::Reason;
use proto::auth::v1 as pb;
use service_kit::{failure_from_proto, failure_from_status};
use sqlx::Connection as _;

use crate::support::{Peer, Rig};

fn quick() -> SimConfig {
    SimConfig { device_interval_seconds: 0, ..SimConfig::default() }
}

async fn start(peer: &Peer, label: Option<&str>) -> pb::StartLoginResponse {
    let request = pb::StartLoginRequest {
        provider: "openai-codex".into(),
        label: label.map(str::to_owned),
        ..Default::default()
    };
    peer.logins().start_login(request).await.expect("started").into_inner()
}

async fn last_step(peer: &Peer, login_id: &str) -> (Vec<String>, pb::WatchLoginResponse) {
    let request = pb::WatchLoginRequest { login_id: login_id.to_owned() };
    let mut steps = peer.logins().watch_login(request).await.expect("followed").into_inner();
    let (mut states, mut last) = (Vec::new(), pb::WatchLoginResponse::default());
    while let Some(step) = steps.message().await.expect("a step") {
        states.push(step.state.clone());
        last = step;
    }
    (states, last)
}

#[tokio::test]
async fn a_login_is_followed_stored_and_bound() {
    let rig = Rig::with(SimConfig { device_auto_approve_after: Some(3), ..quick() }).await;
    let peer = rig.start().await;
    let login = start(&peer, None).await;
    assert_eq!(login.verification_url, format!("{}/codex/device", rig.sim.base_url()));
    assert!(!login.user_code.is_empty());
    let (states, last) = last_step(&peer, &login.login_id).await;
    assert_eq!(states, ["pending", "pending", "succeeded"]);
    assert_eq!((last.credential.as_deref(), last.email.as_deref()), (Some("main"), Some("sim@example.com")));
    assert_eq!(peer.bound().await.credential, "main");
    assert_eq!(peer.list().await[0].source, "login");
    let again = peer.logins().watch_login(pb::WatchLoginRequest { login_id: login.login_id }).await;
    assert_eq!(failure_from_status(&again.expect_err("ended"), "auth-svc").reason, Reason::NotFound);
}

#[tokio::test]
async fn the_same_account_is_renewed_and_another_one_added() {
    let rig = Rig::with(quick()).await;
    let peer = rig.start().await;
    let account =
        |id: &str, email: &str| AccountSpec { account_id: id.into(), email: email.into(), plan: "pro".into() };
    let log_in = async |label: Option<&str>, account: AccountSpec| {
        let login = start(&peer, label).await;
        rig.sim.state().approve_device_as(&login.user_code, account).expect("approved");
        last_step(&peer, &login.login_id).await.1.credential.expect("a label")
    };
    assert_eq!(log_in(None, account("a", "a@example.com")).await, "main");
    assert_eq!(log_in(None, account("a", "a@example.com")).await, "main");
    assert_eq!(log_in(None, account("b", "b@example.com")).await, "main-2");
    assert_eq!(log_in(Some("work"), account("c", "c@example.com")).await, "work");
    let labels: Vec<(String, i32)> = peer.list().await.into_iter().map(|c| (c.label, c.version)).collect();
    assert_eq!(labels, [("main".into(), 2), ("main-2".into(), 1), ("work".into(), 1)]);
    let recorded = peer.acts("login.complete").await;
    let subjects: Vec<&str> = recorded.iter().map(|(_, subject, _)| subject.as_str()).collect();
    assert_eq!(subjects, ["work", "main-2", "main", "main"], "newest first");
    assert!(recorded.iter().all(|(_, _, outcome)| outcome == "ok"), "{recorded:?}");
}

#[tokio::test]
async fn where_it_is_switched_off_the_setting_is_named() {
    let rig = Rig::with(SimConfig { device_login_enabled: false, ..quick() }).await;
    let peer = rig.start().await;
    let request = pb::StartLoginRequest { provider: "openai-codex".into(), label: None, ..Default::default() };
    let status = peer.logins().start_login(request).await.expect_err("refused");
    let failure = failure_from_status(&status, "auth-svc");
    assert!(failure.message.contains("not enabled"), "{failure}");
    assert!(failure.next_step.contains("security settings"), "{}", failure.next_step);
}

#[tokio::test]
async fn a_challenge_is_called_one() {
    let rig = Rig::with(SimConfig { token_scenario: Some("challenge".parse().expect("known")), ..quick() }).await;
    let peer = rig.start().await;
    let request = pb::StartLoginRequest { provider: "openai-codex".into(), label: None, ..Default::default() };
    let status = peer.logins().start_login(request).await.expect_err("refused");
    let failure = failure_from_status(&status, "auth-svc");
    assert_eq!(failure.reason, Reason::IdentityUnavailable);
    assert!(failure.message.contains("challenge"), "{failure}");
    // The same where only the last request meets it.
    rig.sim.state().set_token_scenario("*", None);
    let login = start(&peer, None).await;
    rig.sim.state().approve_device(&login.user_code).expect("approved");
    let account = SimConfig::default().default_account.account_id;
    rig.sim.state().set_token_scenario(&account, Some("challenge".parse().expect("known")));
    let (_, last) = last_step(&peer, &login.login_id).await;
    let failure = failure_from_proto(&last.failure.expect("why"));
    assert_eq!(failure.reason, Reason::IdentityUnavailable);
    assert!(failure.message.contains("challenge page"), "{failure}");
}

#[tokio::test]
async fn what_hinders_a_poll_is_told_and_passes() {
    let rig = Rig::with(quick()).await;
    let peer = rig.start().await;
    let login = start(&peer, None).await;
    rig.sim.state().set_token_scenario("*", Some("challenge".parse().expect("known")));
    let request = pb::WatchLoginRequest { login_id: login.login_id };
    let mut steps = peer.logins().watch_login(request).await.expect("followed").into_inner();
    let first = steps.message().await.expect("a step").expect("a step");
    assert!(first.state == "pending" && first.failure.is_none(), "{first:?}");
    let notice = failure_from_proto(&first.notice.expect("why"));
    assert!(notice.message.contains("challenge page"), "{notice}");
    let step = steps.message().await.expect("a step").expect("it goes on");
    assert!(step.state == "pending" && step.notice.is_none(), "told once: {step:?}");
    rig.sim.state().set_token_scenario("*", None);
    rig.sim.state().approve_device(&login.user_code).expect("approved");
    loop {
        let step = steps.message().await.expect("a step").expect("an outcome");
        if step.state != "pending" {
            assert_eq!(step.credential.as_deref(), Some("main"), "{step:?}");
            break;
        }
    }
}

#[tokio::test]
async fn a_busy_provider_says_how_long_to_wait() {
    let rig = Rig::with(SimConfig { token_scenario: Some("rate_limit:30".parse().expect("known")), ..quick() }).await;
    let peer = rig.start().await;
    let request = pb::StartLoginRequest { provider: "openai-codex".into(), label: None, ..Default::default() };
    let failure = failure_from_status(&peer.logins().start_login(request).await.expect_err("busy"), "auth-svc");
    assert_eq!((failure.reason, failure.retry_after_seconds), (Reason::IdentityUnavailable, Some(30.0)), "{failure}");
    assert!(failure.next_step.contains("wait 30 s") && !failure.next_step.contains("challenge"), "{failure:?}");
}

#[tokio::test]
async fn a_code_that_nobody_enters_runs_out() {
    let rig = Rig::with(quick()).await;
    let peer = rig.start().await;
    let login = start(&peer, None).await;
    rig.clock.advance_ms(15 * 60_000);
    let (states, last) = last_step(&peer, &login.login_id).await;
    assert_eq!(states, ["failed"]);
    assert!(failure_from_proto(&last.failure.expect("why")).message.contains("15 minutes"));
    let recorded = peer.acts("login.complete").await;
    assert_eq!(recorded, [("login.complete".into(), "".into(), "CREDENTIAL_NEEDS_LOGIN".into())]);
}

#[tokio::test]
async fn who_stops_watching_ends_the_login() {
    let rig = Rig::with(quick()).await;
    let peer = rig.start().await;
    let login = start(&peer, None).await;
    let request = pb::WatchLoginRequest { login_id: login.login_id };
    let mut steps = peer.logins().watch_login(request).await.expect("followed").into_inner();
    assert_eq!(steps.message().await.expect("a step").expect("one").state, "pending");
    drop(steps);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let polls = rig.sim.state().requests().len();
    rig.sim.state().approve_device(&login.user_code).expect("approved");
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(rig.sim.state().requests().len(), polls, "nothing polls for nobody");
    assert!(peer.list().await.is_empty());
    assert_eq!(peer.acts("login.end").await, [("login.end".into(), "".into(), "cancelled".into())]);

    // One that nobody has followed is over when its time is; that is noticed with the next.
    start(&peer, Some("late")).await;
    rig.clock.advance_ms(15 * 60_000);
    let login = start(&peer, None).await;
    let (states, _) = {
        rig.clock.advance_ms(15 * 60_000);
        last_step(&peer, &login.login_id).await
    };
    assert_eq!(states, ["failed"]);
    let ends = peer.acts("login.end").await;
    assert_eq!(ends.len(), 2, "what is recorded as failed is not noted twice: {ends:?}");
    assert_eq!(ends[0], ("login.end".into(), "late".into(), "expired".into()));
}

#[tokio::test]
async fn only_subscriptions_are_logged_in_to() {
    let rig = Rig::with(quick()).await;
    let peer = rig.start().await;
    let request = pb::StartLoginRequest { provider: "openai".into(), label: None, ..Default::default() };
    let status = peer.logins().start_login(request).await.expect_err("refused");
    let failure = failure_from_status(&status, "auth-svc");
    assert!(failure.message.contains("openai-codex"), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_the_database_does_not_take_at_once_are_written_later() {
    let rig = Rig::with(quick()).await;
    let peer = rig.start().await;
    let url = format!("sqlite://{}", rig.database().display());
    let mut connection = sqlx::SqliteConnection::connect(&url).await.expect("opened");
    let broken = "CREATE TRIGGER broken BEFORE INSERT ON credentials
        BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END";
    sqlx::query(broken).execute(&mut connection).await.expect("broken");
    let login = start(&peer, None).await;
    rig.sim.state().approve_device(&login.user_code).expect("approved");
    let mended = async {
        while rig.sim.state().requests_to("/oauth/token").is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        sqlx::query("DROP TRIGGER broken").execute(&mut connection).await.expect("mended");
    };
    let ((_, last), ()) = tokio::join!(last_step(&peer, &login.login_id), mended);
    assert_eq!((last.state.as_str(), last.credential.as_deref()), ("succeeded", Some("main")), "{last:?}");
    assert_eq!(rig.sim.state().requests_to("/oauth/token").len(), 1, "a grant is good once");
    assert_eq!(peer.bound().await.credential, "main");
}
