//! Agent keys.

use domain::{Failure, Reason};
use proto::auth::v1 as pb;
use service_kit::failure_from_status;

use crate::support::{Peer, Rig};

async fn verify(peer: &Peer, key: &str) -> Result<pb::VerifyKeyResponse, Failure> {
    let request = pb::VerifyKeyRequest { key_hash: blake3::hash(key.as_bytes()).as_bytes().to_vec().into() };
    let answer = peer.binding().verify_key(request).await;
    answer.map(tonic::Response::into_inner).map_err(|status| failure_from_status(&status, "auth-svc"))
}

async fn create(peer: &Peer, name: &str, ttl_seconds: Option<f64>) -> Result<pb::CreateKeyResponse, Failure> {
    let request = pb::CreateKeyRequest {
        name: name.into(),
        agent: "helper".into(),
        models: vec!["openai-codex/*".into()],
        credentials: vec!["main".into()],
        ttl_seconds,
    };
    let answer = peer.keys().create_key(request).await;
    answer.map(tonic::Response::into_inner).map_err(|status| failure_from_status(&status, "auth-svc"))
}

async fn list(peer: &Peer) -> Vec<pb::AgentKey> {
    peer.keys().list_keys(pb::ListKeysRequest {}).await.expect("listed").into_inner().keys
}

#[tokio::test]
async fn a_key_names_its_agent_until_it_is_revoked() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    let made = create(&peer, "ci", None).await.expect("made");
    let info = made.info.expect("info");
    assert_eq!((made.key.len(), &made.key[..12]), (47, info.prefix.as_str()));
    assert!(made.key.starts_with("sbk_") && !made.key.contains('='));
    let who = verify(&peer, &made.key).await.expect("valid");
    assert_eq!((who.agent.as_str(), who.name.as_str(), &who.key_id), ("helper", "ci", &info.id));
    assert_eq!((who.models, who.credentials), (vec!["openai-codex/*".to_owned()], vec!["main".to_owned()]));

    let taken = create(&peer, "ci", None).await.expect_err("taken");
    assert!(taken.message.contains("ci"), "{taken}");
    peer.keys().revoke_key(pb::RevokeKeyRequest { key: "ci".into() }).await.expect("revoked");
    let revoked = verify(&peer, &made.key).await.expect_err("revoked");
    assert_eq!(revoked.reason, Reason::AgentKeyInvalid);
    assert!(revoked.message.contains("revoked") && revoked.message.contains("ci"), "{revoked}");
    create(&peer, "ci", None).await.expect("the name is free again");
    let again = peer.keys().revoke_key(pb::RevokeKeyRequest { key: info.id }).await.expect_err("dead already");
    assert_eq!(failure_from_status(&again, "auth-svc").reason, Reason::NotFound);
}

#[tokio::test]
async fn wrong_and_expired_keys_are_told_apart() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    let key = create(&peer, "short", Some(60.0)).await.expect("made").key;
    verify(&peer, &key).await.expect("valid");
    rig.clock.advance_ms(61_000);
    let expired = verify(&peer, &key).await.expect_err("expired");
    assert!(expired.message.contains("expired"), "{expired}");
    let unknown = verify(&peer, "sbk_nobody").await.expect_err("unknown");
    assert_eq!(unknown.reason, Reason::AgentKeyInvalid);
    assert!(unknown.message.contains("no such"), "{unknown}");
    for ttl in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(create(&peer, "x", Some(ttl)).await.expect_err("refused").reason, Reason::RequestInvalid);
    }
    assert_eq!(create(&peer, " ", None).await.expect_err("refused").param.as_deref(), Some("name"));
    let short = peer.binding().verify_key(pb::VerifyKeyRequest { key_hash: vec![0; 5].into() }).await;
    assert_eq!(failure_from_status(&short.expect_err("refused"), "auth-svc").reason, Reason::RequestInvalid);
}

#[tokio::test]
async fn the_first_key_is_in_its_file_and_uses_are_noted() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    let file = peer.service.first_agent_key().expect("made").to_owned();
    let text = std::fs::read_to_string(&file).expect("read");
    let key = text.strip_suffix('\n').expect("one line");
    assert_eq!(verify(&peer, key).await.expect("valid").agent, "main");
    assert_eq!(list(&peer).await[0].last_used_at, None, "off the call's path");
    peer.service.shutdown().await;
    drop(peer);
    let peer = rig.start().await;
    assert_eq!(peer.service.first_agent_key(), None);
    let keys = list(&peer).await;
    assert_eq!((keys.len(), keys[0].name.as_str()), (1, "default"));
    assert_eq!(keys[0].last_used_at, Some(rig.clock.now_s() as f64));
    assert!(!format!("{keys:?}").contains(key));
}
