//! Refreshing unasked, what is kept of a request whose answer was lost, and several processes on one database.

use std::time::Duration;

use codex_sim::{SeedLogin, SimConfig, TokenScenario};
use domain::{CandidateReason, Reason};
use proto::auth::v1 as pb;
use service_kit::DataDir;

use crate::support::{Peer, Rig, expired};

const DAY_MS: i64 = 24 * 3_600_000;

fn scenario(text: &str) -> Option<TokenScenario> {
    Some(text.parse().expect("a scenario"))
}

async fn shown(peer: &Peer) -> pb::Credential {
    peer.list().await.remove(0)
}

/// Waits for what a background task does.
async fn eventually(what: &str, mut done: impl AsyncFnMut() -> bool) {
    for _ in 0..600 {
        if done().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not after 30 s: {what}");
}

/// Time for the background task to look at the credentials and the clock, twice. What it meets for the first time when
/// it is overdue already would be put off by up to a minute.
async fn two_looks() {
    tokio::time::sleep(Duration::from_millis(2500)).await;
}

async fn refresh_now(peer: &Peer) -> pb::RefreshCredentialResponse {
    let request = pb::RefreshCredentialRequest { credential: "main".into() };
    peer.credentials().refresh_credential(request).await.expect("answered").into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_refreshed_at_half_of_its_life_with_nobody_asking() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    peer.service.keep_fresh();
    rig.import(&peer, SeedLogin::account("acct"), "main").await;
    let due = shown(&peer).await.next_refresh.expect("it is refreshed");
    let half = rig.clock.now_ms() as f64 / 1000.0 + 5.0 * 86_400.0;
    assert!((due - half).abs() < 86_400.0 + 60.0, "{due} is half of ten days, give or take one: {half}");
    rig.clock.advance_ms(3 * DAY_MS);
    two_looks().await;
    assert!(rig.sim.state().token_requests().is_empty(), "not before its time");
    rig.clock.advance_ms(3 * DAY_MS + 60_000);
    eventually("refreshed", async || shown(&peer).await.version == 2).await;
    let requests = rig.sim.state().token_requests();
    assert_eq!((requests.len(), requests[0].refresh_reason.as_deref()), (1, Some("proactive_expiry")));
    let now = shown(&peer).await;
    assert!(now.next_refresh.is_some_and(|at| at > rig.clock.now_ms() as f64 / 1000.0 + 86_400.0), "{now:?}");
    two_looks().await;
    assert_eq!(rig.sim.state().token_requests().len(), 1, "and not again, although the clock is days ahead");
    peer.service.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_may_refresh_is_left_alone() {
    let mut rig = Rig::new().await;
    rig.config.auth.proactive_refresh = false;
    let peer = rig.start().await;
    peer.service.keep_fresh();
    rig.import(&peer, SeedLogin::account("acct"), "main").await;
    let until_margin = shown(&peer).await.next_refresh.expect("by the first call that needs it");
    assert!(until_margin > rig.clock.now_ms() as f64 / 1000.0 + 9.9 * 86_400.0);
    rig.clock.advance_ms(9 * DAY_MS);
    two_looks().await;
    assert!(rig.sim.state().token_requests().is_empty(), "it is switched off");
    peer.service.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_refresh_shows_days_before_a_call_fails() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    rig.import(&peer, SeedLogin::account("acct"), "main").await;
    rig.sim.state().set_token_scenario("acct", scenario("challenge"));
    peer.service.keep_fresh();
    two_looks().await;
    rig.clock.advance_ms(6 * DAY_MS + 60_000);
    eventually("it fails", async || shown(&peer).await.refresh_problem.is_some()).await;
    let failing = shown(&peer).await;
    let problem = failing.refresh_problem.clone().expect("a problem");
    assert!(problem.contains("failed once") && problem.contains("challenge"), "{problem}");
    assert_eq!((failing.state.as_str(), failing.version), ("ready", 1));
    assert!(failing.refresh_failing_since.is_some());
    assert_eq!(peer.bound().await.version, 1, "calls go on with the token that lives");
    two_looks().await;
    assert_eq!(rig.sim.state().token_requests().len(), 1, "it waits, by the clock that stands still");
    rig.clock.advance_ms(1_000);
    eventually("tried again", async || rig.sim.state().token_requests().len() == 2).await;
    peer.service.shutdown().await;
    drop(peer);

    let peer = rig.start().await;
    let after = shown(&peer).await;
    assert!(after.refresh_problem.is_some_and(|problem| problem.contains("failed 2 times")), "a restart shows it");
    assert_eq!(after.refresh_failing_since, failing.refresh_failing_since);
    rig.sim.state().set_token_scenario("acct", None);
    peer.service.keep_fresh();
    two_looks().await;
    rig.clock.advance_ms(61_000);
    eventually("refreshed", async || shown(&peer).await.version == 2).await;
    let well = shown(&peer).await;
    assert_eq!((well.refresh_problem, well.refresh_failing_since), (None, None));
    peer.service.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_not_asked_for_again_while_the_token_lives() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    rig.import(&peer, SeedLogin::account("acct"), "main").await;
    rig.sim.state().set_token_scenario_times("acct", "drop_answer".parse().expect("a scenario"), 1);
    peer.service.keep_fresh();
    two_looks().await;
    rig.clock.advance_ms(6 * DAY_MS + 60_000);
    eventually("in doubt", async || shown(&peer).await.refresh_problem.is_some()).await;
    let doubtful = shown(&peer).await;
    let problem = doubtful.refresh_problem.clone().expect("a problem");
    assert!(problem.contains("brought no answer") && problem.contains("may be spent"), "{problem}");
    assert!(problem.contains("credentials refresh main") && problem.contains("login codex"), "{problem}");
    let margin = doubtful.expires_at.expect("an end") - 300.0;
    assert!((doubtful.next_refresh.expect("at the margin") - margin).abs() < 2.0, "{doubtful:?}");
    rig.clock.advance_ms(3 * DAY_MS);
    two_looks().await;
    assert_eq!(peer.bound().await.version, 1);
    peer.service.shutdown().await;
    drop(peer);

    let peer = rig.start().await;
    assert_eq!(shown(&peer).await.next_refresh, doubtful.next_refresh, "a restart does not forget it");
    assert_eq!(peer.bound().await.version, 1);
    assert_eq!(rig.sim.state().token_requests().len(), 1);
    // Its end is near: there is nothing to lose any more. That it is refused for good changes nothing before the end.
    rig.clock.advance_ms((margin * 1000.0) as i64 + 10_000 - rig.clock.now_ms());
    assert_eq!(peer.bound().await.version, 1);
    assert_eq!((rig.sim.state().token_requests().len(), shown(&peer).await.state.as_str()), (2, "login_due"));
    rig.clock.advance_ms(300_000);
    let refused = peer.refused().await;
    assert_eq!(refused.reason, Reason::CredentialNeedsLogin);
    let detail = refused.candidates[0].detail.clone().expect("a detail");
    for part in ["brought no answer", "next refresh token was lost", "refresh_token_reused", "log in again"] {
        assert!(detail.contains(part), "{part}: {detail}");
    }
    assert!(refused.message.contains("brought no answer"), "{}", refused.message);
    assert_eq!(rig.sim.state().token_requests().len(), 2);
    peer.service.keep_fresh();
    rig.clock.advance_ms(DAY_MS);
    two_looks().await;
    assert_eq!(peer.refused().await.reason, Reason::CredentialNeedsLogin);
    assert_eq!(rig.sim.state().token_requests().len(), 2, "and never again");
    peer.service.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unspent_token_in_doubt_works_when_an_operator_asks() {
    let mut rig = Rig::new().await;
    rig.config.auth.identity_timeout = config::Seconds::new(1);
    let peer = rig.start().await;
    rig.import(&peer, SeedLogin::account("acct"), "main").await;
    rig.sim.state().set_token_scenario_times("acct", "stall".parse().expect("a scenario"), 1);
    let answer = refresh_now(&peer).await;
    let failure = answer.failure.expect("no answer");
    assert!(failure.message.contains("did not answer within 1 s"), "{failure:?}");
    // A program that goes by these must not end the login by doing so.
    assert_eq!((failure.retryable, failure.retry_after_seconds), (false, None));
    let doubtful = answer.credential.expect("shown");
    assert!(doubtful.refresh_problem.is_some_and(|problem| problem.contains("may be spent")));
    let answer = refresh_now(&peer).await;
    assert_eq!(answer.failure, None, "the provider had not taken it");
    assert_eq!(shown(&peer).await.refresh_problem, None);
    peer.service.shutdown().await;
}

#[tokio::test]
async fn nothing_sent_is_nothing_in_doubt() {
    let mut rig = Rig::new().await;
    rig.config.auth.identity_url = "http://127.0.0.1:9".into();
    let peer = rig.start().await;
    rig.import(&peer, SeedLogin::account("acct"), "main").await;
    let answer = refresh_now(&peer).await;
    assert!(answer.failure.is_some_and(|failure| failure.message.contains("cannot be reached")));
    let problem = shown(&peer).await.refresh_problem.expect("it fails");
    assert!(problem.contains("failed once") && !problem.contains("spent"), "{problem}");
}

#[tokio::test]
async fn a_clock_that_is_ahead_of_every_token_does_not_refresh_at_every_call() {
    let rig = Rig::with(SimConfig { access_token_ttl: Duration::ZERO, ..SimConfig::default() }).await;
    let peer = rig.start().await;
    rig.import(&peer, expired("acct"), "main").await;
    for _ in 0..5 {
        let refused = peer.refused().await;
        assert!(refused.message.contains("is this host's clock right?"), "{refused}");
        assert_eq!(refused.candidates[0].reason, Some(CandidateReason::RefreshFailed));
        assert!(refused.retry_after_seconds.is_some_and(|wait| wait > 0.0), "{refused:?}");
    }
    assert_eq!(rig.sim.state().token_requests().len(), 1);
    let mut waits = Vec::new();
    for _ in 0..4 {
        let wait = peer.refused().await.retry_after_seconds.expect("a wait");
        waits.push(wait);
        rig.clock.advance_ms((wait * 1000.0) as i64);
    }
    assert!(
        waits.is_sorted() && waits[3] > waits[0],
        "they grow, although every refresh brings a new version: {waits:?}"
    );
    assert_eq!(shown(&peer).await.refresh_failing_since.map(|at| at > 0.0), Some(true));
    let latest = shown(&peer).await.version;
    assert_eq!(rig.sim.state().refresh_count("acct") + 1, u32::try_from(latest).expect("positive"), "each was stored");
}

/// A second process on the same database, with a data directory of its own.
async fn second(rig: &mut Rig, first: &str) -> Peer {
    rig.config.auth.database = Some(format!("sqlite:{}", rig.database().display()));
    rig.config.auth.key_file = Some(rig.root.path().join(first).join("database.key"));
    let data_dir = DataDir::open(&rig.root.path().join("second"), true).expect("a data directory");
    let options = auth_svc::AuthOptions {
        config: &rig.config,
        data_dir: &data_dir,
        seal_key: Some(rig.seal_key.clone()),
        create: false,
        first_agent_key: true,
        clock: rig.clock.clone(),
    };
    Peer::new(auth_svc::build(options).await.expect("auth-svc starts"))
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_on_one_database_refresh_once() {
    let mut rig = Rig::new().await;
    let one = rig.start().await;
    rig.import(&one, expired("acct"), "main").await;
    let two = second(&mut rig, "data").await;
    rig.sim.state().set_token_scenario("acct", scenario("delay:400"));
    let (first, later) = tokio::join!(one.bound(), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        two.bound().await
    });
    assert_eq!((first.version, later.version), (2, 2));
    assert_eq!(rig.sim.state().token_requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_token_request_at_a_time_for_each_client() {
    let mut rig = Rig::new().await;
    let one = rig.start().await;
    for i in 0..3 {
        rig.import(&one, expired(&format!("acct-{i}")), &format!("c{i}")).await;
    }
    let two = second(&mut rig, "data").await;
    rig.sim.state().set_token_scenario("*", scenario("delay:300"));
    let refresh = async |peer: &Peer, name: &str| {
        let request = pb::RefreshCredentialRequest { credential: name.into() };
        let answer = peer.credentials().refresh_credential(request).await.expect("answered").into_inner();
        assert_eq!(answer.failure, None, "{name}");
    };
    tokio::join!(refresh(&one, "c0"), refresh(&one, "c1"), refresh(&two, "c2"));
    let mut sent: Vec<u64> = rig.sim.state().token_requests().iter().map(|request| request.at_unix_ms).collect();
    sent.sort_unstable();
    assert_eq!(sent.len(), 3);
    assert!(sent.windows(2).all(|pair| pair[1] - pair[0] >= 300), "each after the answer to the one before: {sent:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_process_lost_or_was_refused_another_does_not_send_again() {
    let refresh = async |peer: &Peer| {
        let request = pb::RefreshCredentialRequest { credential: "main".into() };
        let answer = peer.credentials().refresh_credential(request).await.expect("answered").into_inner();
        answer.failure.expect("no newer token")
    };
    for (fault, says) in [("delay:500,drop_answer", "may be spent"), ("delay:500,invalidated", "new login")] {
        let mut rig = Rig::new().await;
        let one = rig.start().await;
        rig.import(&one, SeedLogin::account("acct"), "main").await;
        let two = second(&mut rig, "data").await;
        rig.sim.state().set_token_scenario_times("acct", fault.parse().expect("a scenario"), 1);
        let (first, later) = tokio::join!(refresh(&one), async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            refresh(&two).await
        });
        assert_eq!(rig.sim.state().token_requests().len(), 1, "{fault}");
        for failure in [first, later] {
            assert!(failure.message.contains(says), "{fault}: {}", failure.message);
        }
    }
}
