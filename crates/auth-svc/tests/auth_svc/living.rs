//! A login whose refresh was refused for good: its access token is used for as long as it lives, and everybody is told.

use std::time::Duration;

use codex_sim::SeedLogin;
use domain::Reason;
use proto::auth::v1 as pb;
use service_kit::failure_from_proto;

use crate::support::{Peer, Rig};

const DAY_MS: i64 = 24 * 3_600_000;

async fn refresh_now(peer: &Peer) -> domain::Failure {
    let request = pb::RefreshCredentialRequest { credential: "main".into() };
    let answer = peer.credentials().refresh_credential(request).await.expect("answered").into_inner();
    failure_from_proto(&answer.failure.expect("no newer token"))
}

/// A login of ten days whose refresh token the provider has just refused for good.
async fn refused(rig: &Rig, peer: &Peer) -> pb::Bound {
    rig.import(peer, SeedLogin::account("acct"), "main").await;
    rig.sim.state().set_token_scenario("acct", Some("invalidated".parse().expect("a scenario")));
    let failure = refresh_now(peer).await;
    assert_eq!(failure.reason, Reason::CredentialNeedsLogin);
    assert!(failure.message.contains("is used until") && failure.message.contains("revoked"), "{failure}");
    assert_eq!(rig.sim.state().token_requests().len(), 1);
    peer.bound().await
}

#[tokio::test(flavor = "multi_thread")]
async fn it_serves_calls_until_its_access_token_ends() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    let bound = refused(&rig, &peer).await;
    assert_eq!((bound.version, bound.refreshed), (1, false));
    drop(peer);

    let peer = rig.start().await;
    peer.service.keep_fresh();
    let ends_s = bound.expires_at.expect("an end") as i64;
    for before_end_s in [9 * 24 * 3600, 24 * 3600, 240, 30, 6] {
        rig.clock.advance_ms((ends_s - before_end_s) * 1000 - rig.clock.now_ms());
        let answer = peer.bind(None).await;
        assert_eq!(answer.bound.as_ref(), Some(&bound), "{before_end_s} s before its end");
        let request = pb::CheckBindingRequest { wanted: Some(crate::support::codex()), ..Default::default() };
        let status = peer.binding().check_binding(request).await.expect("an answer").into_inner();
        assert_eq!((&status.bound, &status.candidates), (&answer.bound, &answer.candidates), "status says the same");
        let detail = answer.candidates[0].detail.clone().expect("a word about its end");
        assert!(detail.contains("refused for good") && detail.contains("switchboard login codex"), "{detail}");
        let seal_ends_ms = answer.sealed.expect("sealed").expires_at_ms as i64;
        assert!(seal_ends_ms <= (ends_s * 1000).min(rig.clock.now_ms() + 60_000), "{before_end_s}");
        let shown = peer.list().await.remove(0);
        assert_eq!((shown.state.as_str(), shown.next_refresh), ("login_due", None));
        assert!(shown.refresh_failing_since.is_some() && shown.refresh_problem == Some(detail[16..].to_owned()));
    }
    rig.clock.advance_ms(1_000);
    let failure = peer.refused().await;
    assert_eq!(failure.reason, Reason::CredentialNeedsLogin);
    assert!(failure.message.contains("revoked") && failure.next_step.contains("log in again"), "{failure}");
    assert_eq!(peer.list().await[0].state, "needs_login");
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(rig.sim.state().token_requests().len(), 1, "a dead refresh token is sent once");
    rig.sim.state().set_token_scenario("acct", None);
    rig.import(&peer, SeedLogin::account("acct"), "main").await;
    assert!(peer.bound().await.version > 1 && peer.list().await[0].state == "ready");
    peer.service.shutdown().await;
}

#[tokio::test]
async fn a_rejection_by_the_upstream_is_its_end() {
    for reported in [false, true] {
        let rig = Rig::new().await;
        let peer = rig.start().await;
        let bound = refused(&rig, &peer).await;
        rig.clock.advance_ms(DAY_MS);
        let stale = peer.bind(Some((&bound.credential_id, 0))).await;
        assert_eq!(stale.bound, Some(bound.clone()), "a version that is no more says nothing");
        if reported {
            peer.report(&bound, "CREDENTIAL_REJECTED", None).await;
        } else {
            assert_eq!(peer.bind(Some((&bound.credential_id, 1))).await.bound, None);
        }
        drop(peer);
        let peer = rig.start().await;
        let failure = peer.refused().await;
        assert_eq!(failure.reason, Reason::CredentialNeedsLogin, "{failure}");
        let detail = failure.candidates[0].detail.clone().expect("why");
        assert!(detail.contains("revoked") && detail.contains("upstream has rejected its access token"), "{detail}");
        assert_eq!(peer.list().await[0].state, "needs_login");
        assert_eq!(refresh_now(&peer).await.reason, Reason::CredentialNeedsLogin);
        assert_eq!(rig.sim.state().token_requests().len(), 1);
    }
}

#[tokio::test]
async fn a_rejected_token_whose_refresh_is_refused_is_not_used_again() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    rig.import(&peer, SeedLogin::account("acct"), "main").await;
    let bound = peer.bound().await;
    rig.sim.state().set_token_scenario("acct", Some("invalidated".parse().expect("a scenario")));
    let answer = peer.bind(Some((&bound.credential_id, 1))).await;
    assert_eq!(answer.failure.expect("refused").reason, "CREDENTIAL_NEEDS_LOGIN");
    drop(peer);
    let peer = rig.start().await;
    assert_eq!(peer.refused().await.reason, Reason::CredentialNeedsLogin, "a restart does not praise it");
}

#[tokio::test]
async fn it_is_used_in_its_order_beside_others() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    let bound = refused(&rig, &peer).await;
    let longer = Duration::from_secs(20 * 24 * 3600);
    rig.import(&peer, SeedLogin { access_ttl: Some(longer), ..SeedLogin::account("other") }, "other").await;
    assert_eq!(peer.bound().await.credential, "main");
    rig.clock.advance_ms(bound.expires_at.expect("an end") as i64 * 1000 - rig.clock.now_ms());
    let other = peer.bind(None).await;
    assert_eq!(other.bound.expect("bound").credential, "other");
    assert_eq!(other.candidates[0].reason.as_deref(), Some("needs_login"));
}
