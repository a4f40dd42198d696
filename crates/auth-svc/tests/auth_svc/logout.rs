//! Logouts: what is revoked, what is only forgotten, and what is said.

use codex_sim::SeedLogin;
use domain::Reason;
use proto::auth::v1 as pb;
use serde_json::json;
use service_kit::failure_from_status;

use crate::support::{Peer, Rig, expired};

async fn logout(peer: &Peer, name: &str) -> pb::LogoutResponse {
    let request = pb::LogoutRequest { credential: name.into() };
    peer.logins().logout(request).await.expect("logged out").into_inner()
}

fn revocations(rig: &Rig) -> Vec<serde_json::Value> {
    let requests = rig.sim.state().requests_to("/oauth/revoke");
    requests.into_iter().map(|request| request.body.expect("a body")).collect()
}

#[tokio::test]
async fn a_login_is_revoked_and_forgotten() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    let ended = rig.import(&peer, SeedLogin::account("a"), "main").await;
    rig.import(&peer, SeedLogin::account("b"), "other").await;
    let done = logout(&peer, "main").await;
    assert!(done.revoked && done.credential == "main", "{done:?}");
    let sent = revocations(&rig);
    assert_eq!((sent.len(), &sent[0]["token_type_hint"]), (1, &json!("refresh_token")));
    assert_eq!(sent[0]["client_id"], "app_EMoamEEZ73f0CkXaXp7hrann");
    let logins = rig.sim.state().stats().logins;
    assert_eq!((logins[0].ended.as_deref(), logins[1].alive), (Some("revoked"), true));
    let left: Vec<String> = peer.list().await.into_iter().map(|c| c.label).collect();
    assert_eq!(left, ["other"]);
    // A file that still holds what was revoked brings nothing back.
    let dead = pb::ImportCredentialsRequest {
        format: "codex".into(),
        files: vec![pb::ImportFile { name: "auth.json".into(), content: ended.codex_auth_json().to_string().into() }],
        ..Default::default()
    };
    let answer = peer.credentials().import_credentials(dead).await.expect("answered").into_inner();
    assert!(!answer.usable && answer.credentials[0].action == "skipped", "{answer:?}");
    assert!(answer.credentials[0].detail.contains("revoked"), "{answer:?}");
    let again = peer.logins().logout(pb::LogoutRequest { credential: "main".into() }).await.expect_err("gone");
    assert_eq!(failure_from_status(&again, "auth-svc").reason, Reason::NotFound);
    let recorded = peer.acts("login.logout").await;
    assert_eq!((recorded[0].2.as_str(), recorded[1].2.as_str()), ("NOT_FOUND", "ok"));
}

#[tokio::test]
async fn what_cannot_be_revoked_stays_as_it_was() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    rig.import(&peer, SeedLogin::account("a"), "main").await;
    for (fault, reason) in [("server_error", 500), ("challenge", 403), ("html_ok", 200)] {
        rig.sim.state().set_token_scenario("*", Some(fault.parse().expect("known")));
        let request = pb::LogoutRequest { credential: "main".into() };
        let failure = failure_from_status(&peer.logins().logout(request).await.expect_err(fault), "auth-svc");
        assert_eq!(failure.reason, Reason::IdentityUnavailable, "{reason} {failure}");
        assert!(failure.message.contains("main is not logged out and stays as it was"), "{failure}");
        for says in ["switchboard logout main", "credentials remove main", "Log out of all devices"] {
            assert!(failure.next_step.contains(says), "{}", failure.next_step);
        }
        let kept = &peer.list().await[0];
        assert!(kept.state == "ready" && kept.exported_at.is_none() && kept.next_refresh.is_some(), "{kept:?}");
    }
    rig.sim.state().set_token_scenario("*", None);
    assert!(logout(&peer, "main").await.revoked, "it can be repeated");
    assert!(peer.list().await.is_empty());
    assert!(rig.sim.state().stats().logins.iter().all(|login| !login.alive));
}

#[tokio::test]
async fn what_is_not_ours_is_only_forgotten() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    let import = async |auth: serde_json::Value, label: &str, borrow: bool| {
        let file = pb::ImportFile { name: "auth.json".into(), content: auth.to_string().into_bytes().into() };
        let request = pb::ImportCredentialsRequest {
            format: "codex".into(),
            files: vec![file],
            label: Some(label.into()),
            borrow,
            ..Default::default()
        };
        peer.credentials().import_credentials(request).await.expect("imported");
    };
    let login = |account: &str| rig.sim.state().seed_login(SeedLogin::account(account)).codex_auth_json();
    import(login("a"), "borrowed", true).await;
    let mut foreign = login("b");
    foreign["tokens"]["oauth_provenance"] = json!({ "issuer": "https://id.example" });
    import(foreign, "foreign", false).await;
    import(json!({ "OPENAI_API_KEY": "sk-1" }), "key", false).await;
    import(login("c"), "exported", false).await;
    let export = pb::ExportCredentialsRequest {
        format: "codex".into(),
        credentials: vec!["exported".into()],
        ..Default::default()
    };
    peer.credentials().export_credentials(export).await.expect("exported");
    for (label, says) in [
        ("borrowed", "goes on with its owner"),
        ("foreign", "https://id.example"),
        ("key", "platform.openai.com/api-keys"),
        ("exported", "handed to"),
    ] {
        let done = logout(&peer, label).await;
        assert!(!done.revoked && done.note.contains(says), "{done:?}");
    }
    assert!(revocations(&rig).is_empty() && peer.list().await.is_empty());

    // A login without a refresh token: its access token is revoked, and names no client.
    let mut alone = login("d");
    alone["tokens"].as_object_mut().expect("tokens").remove("refresh_token");
    import(alone, "alone", false).await;
    assert!(logout(&peer, "alone").await.revoked);
    let sent = revocations(&rig);
    assert_eq!(sent[0]["token_type_hint"], "access_token");
    assert_eq!(sent[0].get("client_id"), None);
}

#[tokio::test]
async fn a_refresh_under_way_ends_first() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    rig.import(&peer, expired("a"), "main").await;
    rig.sim.state().set_token_scenario("a", Some("delay:500".parse().expect("known")));
    let bind = peer.bind(None);
    let late = async {
        while rig.sim.state().token_requests().is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        logout(&peer, "main").await
    };
    let (_, done) = tokio::join!(bind, late);
    assert!(done.revoked, "{done:?}");
    let stats = rig.sim.state().stats();
    assert_eq!((stats.logins[0].refreshes, stats.logins[0].ended.as_deref()), (1, Some("revoked")));
    assert!(peer.list().await.is_empty());
}

#[tokio::test]
async fn no_refresh_begins_once_a_logout_has() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    rig.import(&peer, expired("a"), "main").await;
    rig.sim.state().set_token_scenario("a", Some("delay:1500".parse().expect("known")));
    let late = async {
        while rig.sim.state().token_requests().is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        // While it waits for the refresh that is under way.
        let watched = async {
            loop {
                match peer.list().await.first() {
                    Some(credential) if credential.exported_at.is_some() => return true,
                    Some(_) => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
                    None => return false,
                }
            }
        };
        tokio::join!(logout(&peer, "main"), watched)
    };
    let (_, (done, fenced)) = tokio::join!(peer.bind(None), late);
    assert!(fenced, "another refresh could have begun before it was forgotten");
    assert!(done.revoked, "its own mark is no export: {done:?}");
    assert_eq!(rig.sim.state().stats().logins[0].ended.as_deref(), Some("revoked"));
}
