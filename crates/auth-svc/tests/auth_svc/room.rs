//! More questions than there is room for.

use std::time::Duration;

use codex_sim::TokenScenario;
use domain::Reason;
use proto::auth::v1 as pb;
use service_kit::failure_from_status;
use tokio_util::task::TaskTracker;

use crate::support::{Rig, codex, expired};

/// A binding that waits for the identity provider takes the one place there is. What else gateways ask is refused at once;
/// operators get in.
#[tokio::test]
async fn a_gateways_question_without_a_place_is_refused() {
    let mut rig = Rig::new().await;
    rig.config.auth.max_calls = 1;
    let peer = rig.start().await;
    rig.import(&peer, expired("acct-1"), "main").await;
    let stall: TokenScenario = "stall".parse().expect("a scenario");
    rig.sim.state().set_token_scenario("acct-1", Some(stall));
    let bind = || pb::BindRequest { call_id: "call".into(), wanted: Some(codex()), ..Default::default() };
    let mut waiting = peer.binding();
    let waits = TaskTracker::new().spawn(async move { waiting.bind(bind()).await });

    while rig.sim.state().token_requests().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let question = pb::CheckBindingRequest { wanted: Some(codex()), ..Default::default() };
    let refused = peer.binding().check_binding(question).await.expect_err("full");
    assert_eq!(refused.code(), tonic::Code::Unavailable);
    let failure = failure_from_status(&refused, "gateway");
    assert_eq!((failure.reason, failure.service.as_str()), (Reason::Shed, "auth-svc"));
    assert_eq!(failure.retry_after_seconds, Some(1.0));
    assert!(failure.next_step.contains("[auth] max_calls"), "{failure:?}");
    let key = pb::VerifyKeyRequest { key_hash: vec![0; 32].into() };
    let refused = peer.binding().verify_key(key.clone()).await.expect_err("full");
    assert_eq!(failure_from_status(&refused, "gateway").reason, Reason::Shed);
    assert_eq!(peer.list().await.len(), 1, "an operator has a place");

    // Whoever gives up gives their place back.
    waits.abort();
    let _ = waits.await;
    let known = peer.binding().verify_key(key).await.expect_err("no key");
    assert_eq!(failure_from_status(&known, "gateway").reason, Reason::AgentKeyInvalid);
}
