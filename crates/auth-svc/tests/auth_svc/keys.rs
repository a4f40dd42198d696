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
        ..Default::default()
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

/// Seconds of a day.
const DAY: f64 = 86_400.0;

async fn limited(peer: &Peer, name: &str, limits: pb::KeyLimits) -> Result<pb::CreateKeyResponse, Failure> {
    let request =
        pb::CreateKeyRequest { name: name.into(), agent: "main".into(), limits: Some(limits), ..Default::default() };
    let answer = peer.keys().create_key(request).await;
    answer.map(tonic::Response::into_inner).map_err(|status| failure_from_status(&status, "auth-svc"))
}

async fn rotate(peer: &Peer, key: &str, grace_seconds: Option<f64>) -> Result<pb::RotateKeyResponse, Failure> {
    let answer = peer.keys().rotate_key(pb::RotateKeyRequest { key: key.into(), grace_seconds }).await;
    answer.map(tonic::Response::into_inner).map_err(|status| failure_from_status(&status, "auth-svc"))
}

/// Reports tokens, each time in a batch of its own.
async fn used(peer: &Peer, key_id: &str, tokens: f64, at: f64) {
    let keys = vec![pb::KeyUsage { key_id: key_id.into(), tokens, at }];
    let batch_id = uuid::Uuid::new_v4().to_string();
    let report = pb::ReportUsageRequest { batch_id, credentials: Vec::new(), keys };
    peer.binding().report_usage(report).await.expect("taken");
}

#[tokio::test]
async fn a_name_is_free_again_when_its_key_has_expired() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    let old = create(&peer, "ci", Some(60.0)).await.expect("made");
    assert!(create(&peer, "ci", None).await.is_err(), "it lives");
    rig.clock.advance_ms(60_000);
    let new = create(&peer, "ci", None).await.expect("the old one has expired");
    let refused = verify(&peer, &old.key).await.expect_err("expired");
    assert!(refused.message.contains("expired"), "{refused}");
    assert_eq!(verify(&peer, &new.key).await.expect("valid").key_id, new.info.expect("info").id);
    peer.keys().revoke_key(pb::RevokeKeyRequest { key: "ci".into() }).await.expect("revoked");
    let refused = verify(&peer, &new.key).await.expect_err("revoked");
    assert!(refused.message.contains("revoked"), "{refused}");
}

#[tokio::test]
async fn an_id_is_not_taken_for_another_keys_name() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    let first = create(&peer, "first", None).await.expect("made");
    let id = first.info.expect("info").id;
    assert!(create(&peer, &id, None).await.is_err(), "whoever revoked the one would revoke the other");
    verify(&peer, &first.key).await.expect("untouched");
}

#[tokio::test]
async fn a_rotated_key_is_the_same_key_with_another_secret() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    let limits = pb::KeyLimits { concurrent_calls: Some(3), ..Default::default() };
    let old = limited(&peer, "ci", limits).await.expect("made");
    let id = old.info.expect("info").id;
    let next = rotate(&peer, "ci", Some(60.0)).await.expect("rotated");
    let info = next.info.clone().expect("info");
    let now = rig.clock.now_s() as f64;
    assert_eq!((info.rotated_at, info.previous_until), (Some(now), Some(now + 60.0)));
    assert!(next.key.starts_with(&info.prefix) && next.key != old.key);
    let (by_old, by_new) =
        (verify(&peer, &old.key).await.expect("grace"), verify(&peer, &next.key).await.expect("new"));
    assert_eq!((by_old.expires_at, by_new.expires_at), (Some(now + 60.0), None), "gateways know when the grace ends");
    assert_eq!((&by_old.key_id, &by_new.key_id, by_new.limits), (&id, &id, Some(limits)));

    rig.clock.advance_ms(60_000);
    let refused = verify(&peer, &old.key).await.expect_err("the grace is over");
    assert_eq!(refused.reason, Reason::AgentKeyInvalid);
    assert!(refused.message.contains("\"ci\" was rotated"), "{refused}");
    assert_eq!(list(&peer).await.iter().find(|key| key.id == id).expect("listed").previous_until, None);

    let last = rotate(&peer, &id, None).await.expect("by id, at once").key;
    assert!(verify(&peer, &next.key).await.expect_err("no grace").message.contains("rotated"));
    assert!(verify(&peer, &old.key).await.expect_err("two rotations ago").message.contains("no such"));
    verify(&peer, &last).await.expect("valid");
    let with_grace = rotate(&peer, "ci", Some(3600.0)).await.expect("rotated").key;
    peer.keys().revoke_key(pb::RevokeKeyRequest { key: "ci".into() }).await.expect("revoked");
    for secret in [&last, &with_grace] {
        assert!(verify(&peer, secret).await.expect_err("both end").message.contains("revoked"));
    }
    assert_eq!(rotate(&peer, "ci", None).await.expect_err("revoked").reason, Reason::NotFound);
    create(&peer, "short", Some(5.0)).await.expect("made");
    rig.clock.advance_ms(5000);
    assert!(rotate(&peer, "short", None).await.expect_err("expired").message.contains("has expired"));
    for grace in [-1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(rotate(&peer, "default", Some(grace)).await.expect_err("refused").reason, Reason::RequestInvalid);
    }
}

#[tokio::test]
async fn an_expiring_key_expires_within_the_grace_of_its_rotation() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    let old = create(&peer, "ci", Some(60.0)).await.expect("made");
    rotate(&peer, "ci", Some(3600.0)).await.expect("rotated");
    let who = verify(&peer, &old.key).await.expect("grace");
    assert_eq!(who.expires_at, Some(rig.clock.now_s() as f64 + 60.0));
}

#[tokio::test]
async fn tokens_count_by_utc_day() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    let limits = pb::KeyLimits { tokens_per_day: Some(1000.0), ..Default::default() };
    let made = limited(&peer, "ci", limits).await.expect("made");
    let id = made.info.expect("info").id;
    let now = rig.clock.now_s() as f64;
    let midnight = ((now / DAY).floor() + 1.0) * DAY;
    used(&peer, &id, 600.0, now).await;
    used(&peer, &id, 5000.0, now - DAY).await;
    used(&peer, "of-nobody", 5000.0, now).await;
    for nonsense in [0.0, -5.0, f64::NAN] {
        used(&peer, &id, nonsense, now).await;
    }
    let today = async || list(&peer).await.into_iter().find(|key| key.id == id).expect("listed").tokens_today;
    assert_eq!(today().await, 600.0);
    assert_eq!(verify(&peer, &made.key).await.expect("valid").exhausted_until, None);
    // A gateway whose clock is ahead fills no day to come.
    used(&peer, &id, 400.0, midnight + 5.0).await;
    let who = verify(&peer, &made.key).await.expect("valid");
    assert_eq!((who.exhausted_until, who.limits), (Some(midnight), Some(limits)));
    assert_eq!(today().await, 1000.0);

    rig.clock.advance_ms(((midnight - now) * 1000.0) as i64);
    assert_eq!(verify(&peer, &made.key).await.expect("valid").exhausted_until, None);
    assert_eq!(today().await, 0.0);
    used(&peer, &id, f64::INFINITY, midnight).await;
    assert!(today().await >= 1e12, "what cannot be is counted as much, not as nothing");
}

#[tokio::test]
async fn limits_that_make_no_sense_are_refused_by_name() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    let refused = async |limits| limited(&peer, "x", limits).await.expect_err("refused");
    for n in [0, -1, 100_001] {
        let limits = pb::KeyLimits { requests_per_minute: Some(n), ..Default::default() };
        assert_eq!(refused(limits).await.param.as_deref(), Some("limits.requests_per_minute"));
        let limits = pb::KeyLimits { concurrent_calls: Some(n), ..Default::default() };
        assert_eq!(refused(limits).await.param.as_deref(), Some("limits.concurrent_calls"));
    }
    for tokens in [0.0, -1.0, 0.5, f64::NAN, f64::INFINITY] {
        let limits = pb::KeyLimits { tokens_per_day: Some(tokens), ..Default::default() };
        assert_eq!(refused(limits).await.param.as_deref(), Some("limits.tokens_per_day"));
    }
    let request = pb::CreateKeyRequest {
        name: "x".into(),
        agent: "main".into(),
        credentials: vec![String::new()],
        ..Default::default()
    };
    let status = peer.keys().create_key(request).await.expect_err("refused");
    assert_eq!(failure_from_status(&status, "auth-svc").param.as_deref(), Some("credentials"));
}
