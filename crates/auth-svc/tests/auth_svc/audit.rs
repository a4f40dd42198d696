//! The audit log.

use proto::auth::v1 as pb;
use service_kit::Peer as Connection;

use crate::support::{Peer, Rig};

async fn list(peer: &Peer, act: &str, since: Option<f64>, limit: i32) -> Vec<pb::AuditEntry> {
    let request = pb::ListAuditRequest { limit, since, act: act.into() };
    peer.audit().list_audit(request).await.expect("listed").into_inner().entries
}

async fn create(peer: &Peer, name: &str) -> Result<pb::CreateKeyResponse, tonic::Status> {
    let request = pb::CreateKeyRequest { name: name.into(), agent: "main".into(), ..Default::default() };
    peer.keys().create_key(request).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn every_act_is_there_with_who_and_what_came_of_it() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    let made = create(&peer, "ci").await.expect("made");
    let id = made.info.expect("info").id;
    let _ = create(&peer, "ci").await.expect_err("taken");
    let bad = pb::CreateKeyRequest { name: "bad".into(), ttl_seconds: Some(-1.0), ..Default::default() };
    let _ = peer.keys().create_key(bad).await.expect_err("refused");
    let rotated = pb::RotateKeyRequest { key: id.clone(), grace_seconds: Some(60.0) };
    let rotated = peer.keys().rotate_key(rotated).await.expect("rotated").into_inner();
    peer.keys().revoke_key(pb::RevokeKeyRequest { key: "ci".into() }).await.expect("revoked");
    let _ = peer.keys().revoke_key(pb::RevokeKeyRequest { key: "nobody".into() }).await.expect_err("unknown");
    let _ = peer.credentials().remove_credential(pb::RemoveCredentialRequest { credential: "no".into() }).await;

    let entries = list(&peer, "", None, 0).await;
    let told: Vec<_> = entries.iter().map(|e| (e.act.as_str(), e.subject.as_str(), e.outcome.as_str())).collect();
    let expected = [
        ("credential.remove", "no", "NOT_FOUND"),
        ("key.revoke", "nobody", "NOT_FOUND"),
        ("key.revoke", "ci", "ok"),
        ("key.rotate", "ci", "ok"),
        ("key.create", "bad", "REQUEST_INVALID"),
        ("key.create", "ci", "REQUEST_INVALID"),
        ("key.create", "ci", "ok"),
    ];
    assert_eq!(told, expected);
    assert_eq!(entries[3].detail, format!("id {id}; grace 60 s"));
    for entry in &entries {
        assert_eq!(entry.actor, Connection::InProcess.describe());
        assert_eq!(entry.at, rig.clock.now_ms() as f64 / 1000.0);
    }
    let text = format!("{entries:?}");
    assert!(!text.contains(&made.key) && !text.contains(&rotated.key), "no secret is in the log");

    assert_eq!(list(&peer, "credential.", None, 0).await.len(), 1);
    assert_eq!(list(&peer, "key.r", None, 2).await.len(), 2);
    rig.clock.advance_ms(5000);
    let since = rig.clock.now_ms() as f64 / 1000.0;
    create(&peer, "later").await.expect("made");
    assert_eq!(list(&peer, "", Some(since), 0).await.len(), 1);
}

#[tokio::test]
async fn what_brought_nothing_is_not_recorded_as_done() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    let file = |content: &'static str| pb::ImportFile { name: "auth.json".into(), content: content.into() };
    let nothing = pb::ImportCredentialsRequest {
        format: "codex".into(),
        files: vec![file(r#"{"tokens":{}}"#)],
        label: Some("main".into()),
        ..Default::default()
    };
    assert!(!peer.credentials().import_credentials(nothing).await.expect("answered").into_inner().usable);
    let entry = list(&peer, "credential.import", None, 1).await.remove(0);
    assert_eq!((entry.subject.as_str(), entry.outcome.as_str()), ("main", "failed"));
    assert!(entry.detail.starts_with("from codex; no usable credential came in"), "{}", entry.detail);

    let lent = pb::ImportCredentialsRequest {
        format: "codex".into(),
        files: vec![file(r#"{"tokens":{"access_token":"a","refresh_token":"r","account_id":"acct"}}"#)],
        label: Some("main".into()),
        borrow: true,
        ..Default::default()
    };
    peer.credentials().import_credentials(lent).await.expect("borrowed");
    let export =
        pb::ExportCredentialsRequest { format: "codex".into(), credentials: vec!["main".into()], ..Default::default() };
    let answer = peer.credentials().export_credentials(export).await.expect("answered").into_inner();
    assert_eq!(answer.credentials[0].action, "skipped");
    let entry = list(&peer, "credential.export", None, 1).await.remove(0);
    assert_eq!((entry.subject.as_str(), entry.outcome.as_str()), ("main", "failed"));
    assert!(entry.detail.contains("borrowed"), "{}", entry.detail);
}

#[tokio::test]
async fn no_key_has_the_id_of_another_for_its_name() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    let id = create(&peer, "ci").await.expect("made").info.expect("info").id;
    for name in [id.as_str(), "a\u{202e}b", "", &"x".repeat(101)] {
        let _ = create(&peer, name).await.expect_err("refused");
    }
    for label in ["", "a\u{202e}b", &id] {
        let request = pb::StartLoginRequest { label: Some(label.into()), ..Default::default() };
        let _ = peer.logins().start_login(request).await.expect_err("refused");
    }
}
