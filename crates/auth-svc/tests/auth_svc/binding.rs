//! What a call learns, and what outcomes do to a credential.

use codex_sim::SeedLogin;
use domain::{CandidateReason, Reason};
use proto::auth::v1 as pb;
use service_kit::{failure_from_proto, failure_from_status};

use crate::support::{Peer, Rig, codex, expired};

#[tokio::test]
async fn nothing_stored_says_how_to_begin() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    let failure = peer.refused().await;
    assert_eq!(failure.reason, Reason::CredentialNotBound);
    assert_eq!(
        (failure.candidates[0].credential.as_str(), failure.candidates[0].reason),
        ("-", Some(CandidateReason::Missing))
    );
    assert!(failure.message.contains("switchboard login codex"), "{}", failure.message);
}

#[tokio::test]
async fn a_bad_question_is_refused_by_name() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    let ask = async |wanted: Option<pb::Wanted>| {
        let request = pb::BindRequest { wanted, ..pb::BindRequest::default() };
        failure_from_status(&peer.binding().bind(request).await.expect_err("refused"), "auth-svc")
    };
    let target = ask(Some(pb::Wanted { target: "nowhere".into(), ..codex() })).await;
    assert_eq!(target.reason, Reason::RequestInvalid);
    assert!(target.message.contains("nowhere") && target.message.contains("chatgpt-codex"), "{target}");
    let realm = ask(Some(pb::Wanted { realm: "gift".into(), ..codex() })).await;
    assert!(realm.message.contains("gift"), "{realm}");
    assert_eq!(ask(None).await.reason, Reason::RequestInvalid);
}

#[tokio::test]
async fn lists_order_and_restrict() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    rig.import(&peer, SeedLogin::account("a"), "a").await;
    rig.import(&peer, SeedLogin::account("b"), "b").await;
    let check = async |agent: &[&str], key: &[&str]| {
        let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        let wanted = pb::Wanted { credentials: owned(agent), key_credentials: owned(key), ..codex() };
        let request = pb::CheckBindingRequest { wanted: Some(wanted), ..Default::default() };
        let answer = peer.binding().check_binding(request).await.expect("answered").into_inner();
        let candidates: Vec<String> = answer
            .candidates
            .iter()
            .map(|c| format!("{}:{}", c.credential, c.reason.as_deref().unwrap_or("ok")))
            .collect();
        (answer.bound.map(|b| b.credential).unwrap_or_default(), candidates.join(" "))
    };
    let expect = |bound: &str, candidates: &str| (bound.to_owned(), candidates.to_owned());
    assert_eq!(check(&[], &[]).await, expect("a", "a:ok b:ok"));
    assert_eq!(check(&["b", "a"], &[]).await, expect("b", "b:ok a:ok"));
    assert_eq!(check(&["b"], &[]).await, expect("b", "b:ok a:not_allowed"));
    assert_eq!(check(&["ghost", "b"], &[]).await, expect("b", "ghost:missing b:ok a:not_allowed"));
    assert_eq!(check(&[], &["b"]).await, expect("b", "a:not_allowed b:ok"));
    assert_eq!(check(&["a"], &["b"]).await, expect("", "a:not_allowed b:not_allowed"));

    let order = pb::OrderCredentialsRequest {
        provider: "openai-codex".into(),
        credentials: vec!["b".into()],
        by_session: false,
    };
    peer.credentials().order_credentials(order).await.expect("ordered");
    assert_eq!(check(&[], &[]).await, expect("b", "b:ok a:ok"));
}

#[tokio::test]
async fn what_failed_in_this_call_is_not_tried_again_in_it() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    rig.import(&peer, SeedLogin::account("a"), "a").await;
    rig.import(&peer, SeedLogin::account("b"), "b").await;
    let first = peer.bound().await;
    let again = async |exclude: Vec<String>| {
        let request = pb::BindRequest { call_id: "call".into(), wanted: Some(codex()), rejected: None, exclude };
        peer.binding().bind(request).await.expect("answered").into_inner()
    };
    let second = again(vec![first.credential_id.clone()]).await.bound.expect("the other one");
    assert_eq!((first.credential.as_str(), second.credential.as_str()), ("a", "b"));
    let none = again(vec![first.credential_id, second.credential_id]).await;
    let failure = failure_from_proto(&none.failure.expect("a failure"));
    assert_eq!(failure.reason, Reason::CredentialNotBound);
    assert!(failure.message.contains("already failed in this call"), "{failure}");
}

#[tokio::test]
async fn a_rejected_token_is_refreshed_once_and_then_latched() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    rig.import(&peer, SeedLogin::account("acct"), "main").await;
    let first = peer.bound().await;
    let id = first.credential_id.as_str();

    let second = peer.bind(Some((id, 1))).await.bound.expect("bound");
    assert_eq!((second.version, second.refreshed), (2, true));
    assert_eq!(rig.sim.state().token_requests()[0].refresh_reason.as_deref(), Some("unauthorized_recovery"));
    // A second call that also met the 401 gets the newer token.
    let late = peer.bind(Some((id, 1))).await.bound.expect("bound");
    assert_eq!((late.version, late.refreshed), (2, false));

    let answer = peer.bind(Some((id, 2))).await;
    let failure = failure_from_proto(&answer.failure.expect("refused"));
    assert_eq!(failure.reason, Reason::CredentialRejected, "{failure}");
    assert_eq!(failure.candidates[0].reason, Some(CandidateReason::NeedsLogin));
    assert_eq!(rig.sim.state().token_requests().len(), 1);
    drop(peer);
    let peer = rig.start().await;
    assert_eq!(peer.refused().await.reason, Reason::CredentialRejected, "it survives a restart");

    // An operator's refresh brings a newer version, and lifts the latch.
    let request = pb::RefreshCredentialRequest { credential: "main".into() };
    let answer = peer.credentials().refresh_credential(request).await.expect("answered").into_inner();
    assert_eq!(answer.failure, None);
    assert_eq!(peer.bound().await.version, 3);
}

#[tokio::test]
async fn a_rejection_while_the_provider_is_away_is_no_login_problem() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    rig.import(&peer, SeedLogin::account("acct"), "main").await;
    let bound = peer.bound().await;
    rig.sim.state().set_token_scenario("acct", Some("challenge".parse().expect("known")));
    let answer = peer.bind(Some((&bound.credential_id, 1))).await;
    assert_eq!(answer.failure.expect("refused").reason, "IDENTITY_UNAVAILABLE");
    assert_eq!(peer.refused().await.reason, Reason::IdentityUnavailable, "status does not praise a rejected token");
    rig.sim.state().set_token_scenario("acct", None);
    rig.clock.advance_ms(2000);
    assert_eq!(peer.bound().await.version, 2);
}

#[tokio::test]
async fn limits_rest_a_credential_until_their_end_and_over_a_restart() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    rig.import(&peer, SeedLogin::account("acct"), "main").await;
    let bound = peer.bound().await;
    let resets_at = rig.clock.now_s() + 600;
    peer.report(&bound, "USAGE_LIMIT", Some(resets_at as f64)).await;
    drop(peer);
    let peer = rig.start().await;
    let failure = peer.refused().await;
    assert_eq!((failure.reason, failure.resets_at), (Reason::UsageLimit, Some(resets_at)));
    assert_eq!(failure.plan_type.as_deref(), Some("plus"));
    assert!(failure.retry_after_seconds.is_some_and(|s| (599.0..=600.0).contains(&s)), "{failure:?}");
    let shown = peer.list().await.remove(0);
    assert_eq!((shown.state.as_str(), shown.rest_until), ("resting", Some(resets_at as f64)));

    // Another credential that can be used is used.
    rig.import(&peer, SeedLogin::account("other"), "other").await;
    assert_eq!(peer.bound().await.credential, "other");
    let other = peer.bound().await;
    peer.report(&other, "RATE_LIMITED", None).await;
    let failure = peer.refused().await;
    assert_eq!(failure.reason, Reason::RateLimited, "the limit that ends first");
    rig.clock.advance_ms(1000);
    assert_eq!(peer.bound().await.credential, "other");
    rig.clock.advance_ms(600_000);
    assert_eq!(peer.bound().await.credential, "main");
}

#[tokio::test]
async fn an_entitlement_is_a_matter_of_one_model() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    rig.import(&peer, SeedLogin::account("acct"), "main").await;
    let bound = peer.bound().await;
    peer.report(&bound, "NOT_ENTITLED", None).await;
    assert_eq!(peer.refused().await.candidates[0].reason, Some(CandidateReason::NotEntitled));
    let wanted = pb::Wanted { upstream_model: "gpt-5.4-mini".into(), ..codex() };
    let request = pb::CheckBindingRequest { wanted: Some(wanted), ..Default::default() };
    assert!(peer.binding().check_binding(request).await.expect("answered").into_inner().bound.is_some());
    assert_eq!(peer.list().await[0].state, "ready");
}

#[tokio::test]
async fn what_the_edge_or_the_upstream_does_says_nothing_about_a_credential() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    rig.import(&peer, SeedLogin::account("acct"), "main").await;
    let bound = peer.bound().await;
    let blameless = Reason::ALL.iter().filter(|reason| {
        !matches!(reason, Reason::CredentialRejected | Reason::UsageLimit | Reason::RateLimited | Reason::NotEntitled)
    });
    for reason in blameless {
        peer.report(&bound, reason.as_str(), None).await;
        assert_eq!(peer.bound().await, bound, "{reason}");
    }
    peer.report(&bound, "", None).await;
    // A rejection of a version that is no more changes nothing.
    let old = pb::Bound { version: 0, ..bound.clone() };
    peer.report(&old, "CREDENTIAL_REJECTED", None).await;
    assert_eq!(peer.bound().await, bound);
    peer.report(&bound, "CREDENTIAL_REJECTED", None).await;
    let newer = peer.bound().await;
    assert_eq!(newer.version, 2, "a version that no refresh was tried for is refreshed once");
    peer.report(&newer, "CREDENTIAL_REJECTED", None).await;
    assert_eq!(peer.refused().await.reason, Reason::CredentialRejected);
}

/// A gateway tells of a quota that it heard of just now: the token works.
async fn worked(rig: &Rig, peer: &Peer, id: &str) {
    let window = proto::common::v1::QuotaWindow {
        limit: "codex".into(),
        window_seconds: 18_000,
        used_percent: 1.0,
        ..Default::default()
    };
    let usage = pb::CredentialUsage {
        credential_id: id.to_owned(),
        observed_at: rig.clock.now_ms() as f64 / 1000.0,
        windows: vec![window],
        ..Default::default()
    };
    let batch_id = format!("{}", rig.clock.now_ms());
    let batch = pb::ReportUsageRequest { batch_id, credentials: vec![usage], ..Default::default() };
    peer.binding().report_usage(batch).await.expect("taken");
}

#[tokio::test]
async fn a_version_that_has_worked_is_refreshed_when_it_is_rejected_later() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    rig.import(&peer, SeedLogin::account("acct"), "main").await;
    let id = peer.bound().await.credential_id;
    let mut version = 1;
    for wait_ms in [2_000, 61_000, 3_600_000] {
        let recovered = peer.bind(Some((&id, version))).await.bound.expect("refreshed");
        assert_eq!(recovered.version, version + 1);
        version = recovered.version;
        rig.clock.advance_ms(wait_ms);
        if wait_ms < 60_000 {
            worked(&rig, &peer, &id).await;
        }
    }
    assert_eq!(rig.sim.state().token_requests().len(), 3, "once for each version");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_login_is_no_dead_end() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    rig.import(&peer, SeedLogin::account("acct"), "main").await;
    let id = peer.bound().await.credential_id;
    let _ = peer.bind(Some((&id, 1))).await.bound.expect("refreshed");
    let refused = failure_from_proto(&peer.bind(Some((&id, 2))).await.failure.expect("latched"));
    assert_eq!(refused.reason, Reason::CredentialRejected);
    assert!(refused.next_step.contains("`switchboard credentials refresh main`"), "{}", refused.next_step);
    let shown = peer.list().await.remove(0);
    let again = rig.clock.now_s() + 3600;
    assert_eq!((shown.state.as_str(), shown.next_refresh), ("needs_login", Some(again as f64)), "{shown:?}");
    for _ in 0..3 {
        rig.clock.advance_ms(1_000_000);
        assert_eq!(peer.refused().await.reason, Reason::CredentialRejected, "it rests");
    }
    assert_eq!(rig.sim.state().token_requests().len(), 1);
    rig.clock.advance_ms(600_000);
    let healed = peer.bound().await;
    assert_eq!((healed.version, rig.sim.state().token_requests().len()), (3, 2));
    // The upstream rejects this one as well: no storm.
    assert_eq!(peer.bind(Some((&id, 3))).await.failure.expect("latched").reason, "CREDENTIAL_REJECTED");
    assert_eq!(rig.sim.state().token_requests().len(), 2);
    // Nobody has to call for it.
    peer.service.keep_fresh();
    rig.clock.advance_ms(3_700_000 + 60_000);
    for _ in 0..600 {
        if peer.list().await[0].version == 4 {
            break;
        }
        // What is overdue when it is first seen is put off by up to a minute.
        rig.clock.advance_ms(1_000);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!((peer.list().await[0].version, peer.list().await[0].state.as_str()), (4, "ready"));
    peer.service.shutdown().await;
}

#[tokio::test]
async fn no_answer_and_no_database_shows_a_token() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    let seeded = rig.import(&peer, expired("acct"), "main").await;
    let answer = peer.bind(None).await;
    let token = rig.open(&answer, "call");
    let secrets = [&token, &seeded.access_token, &seeded.refresh_token, &seeded.id_token];
    let shown = format!("{answer:?} {:?} {:?}", peer.list().await, peer.service);
    peer.service.shutdown().await;
    let mut stored = Vec::new();
    for entry in std::fs::read_dir(rig.root.path().join("data")).expect("listed") {
        stored.extend(std::fs::read(entry.expect("entry").path()).expect("read"));
    }
    for secret in secrets {
        assert!(!shown.contains(secret.as_str()));
        assert!(!stored.windows(secret.len()).any(|window| window == secret.as_bytes()));
    }
}

#[tokio::test]
async fn removed_is_gone() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    rig.import(&peer, SeedLogin::account("acct"), "main").await;
    let request = || pb::RemoveCredentialRequest { credential: "main".into() };
    peer.credentials().remove_credential(request()).await.expect("removed");
    assert!(peer.list().await.is_empty());
    let again = peer.credentials().remove_credential(request()).await.expect_err("gone");
    assert_eq!(failure_from_status(&again, "auth-svc").reason, Reason::NotFound);
}
