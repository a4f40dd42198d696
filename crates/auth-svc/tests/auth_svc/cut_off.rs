//! Callers that go away in the middle of an act: the act runs to its end, and stands in the audit log.

use std::time::Duration;

use codex_sim::SeedLogin;
use proto::auth::v1 as pb;

use crate::support::{Peer, Rig};

/// The outcomes of these acts, once there is one.
async fn outcomes(peer: &Peer, act: &str) -> Vec<String> {
    for _ in 0..600 {
        let acts = peer.acts(act).await;
        if !acts.is_empty() {
            return acts.into_iter().map(|(_, _, outcome)| outcome).collect();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{act} is not in the audit log");
}

/// Waits until a token request has reached the provider, whose answer is held back.
async fn asked(rig: &Rig) {
    for _ in 0..600 {
        if !rig.sim.state().requests_to("/oauth/token").is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("nobody has asked the provider");
}

#[tokio::test]
async fn a_refresh_that_nobody_waits_for_is_kept_and_recorded() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    rig.import(&peer, SeedLogin::account("a"), "main").await;
    rig.sim.state().set_token_scenario("*", Some("delay:500".parse().expect("known")));
    let mut client = peer.credentials();
    let request = pb::RefreshCredentialRequest { credential: "main".into() };
    tokio::select! {
        done = client.refresh_credential(request) => panic!("it was not held back: {done:?}"),
        () = asked(&rig) => {}
    }
    assert_eq!(outcomes(&peer, "credential.refresh").await, ["ok"]);
    assert_eq!(peer.list().await[0].version, 2, "what it brought is kept");
}

#[tokio::test]
async fn an_export_that_nobody_waits_for_is_recorded_and_can_be_had_again() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    let login = rig.import(&peer, SeedLogin::account("a"), "main").await;
    rig.sim.state().set_token_scenario("*", Some("delay:700".parse().expect("known")));
    let mut client = peer.credentials();
    let refresh = tokio_util::task::TaskTracker::new().spawn(async move {
        client.refresh_credential(pb::RefreshCredentialRequest { credential: "main".into() }).await
    });
    asked(&rig).await;
    // It waits for the refresh, having given the ownership up.
    let request = pb::ExportCredentialsRequest { format: "codex".into(), ..Default::default() };
    let mut client = peer.credentials();
    let given_up = async {
        while peer.list().await[0].exported_at.is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        done = client.export_credentials(request.clone()) => panic!("it did not wait: {done:?}"),
        () = given_up => {}
    }
    assert_eq!(outcomes(&peer, "credential.export").await, ["ok"]);
    let _ = refresh.await.expect("ended");
    let request = pb::ExportCredentialsRequest { again: true, ..request };
    let again = peer.credentials().export_credentials(request).await.expect("exported").into_inner();
    let text = String::from_utf8(again.files[0].content.to_vec()).expect("text");
    assert!(text.contains("refresh_token") && !text.contains(&login.refresh_token), "the current tokens");
}
