//! Where requests of an account must go: who is asked to find out, and what is made of the answer.

use codex_sim::SeedLogin;
use proto::auth::v1 as pb;
use proto::common::v1::EgressRule;
use proto::transport::v1::Workspace;

use crate::support::{Peer, Rig};

async fn tell(peer: &Peer, credential_id: &str, workspace: Option<Workspace>) {
    let failure = workspace.is_none().then(|| proto::common::v1::Failure {
        reason: "EDGE_CHALLENGE".into(),
        message: "a challenge".into(),
        ..Default::default()
    });
    let request = pb::ReportWorkspaceRequest { credential_id: credential_id.to_owned(), workspace, failure };
    peer.binding().report_workspace(request).await.expect("taken");
}

async fn shown(peer: &Peer) -> pb::AccountWorkspace {
    peer.list().await[0].workspace.clone().expect("asked")
}

#[tokio::test]
async fn the_first_bind_of_an_account_asks_and_no_later_one() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    rig.import(&peer, SeedLogin::account("acct-1"), "main").await;
    let rule = EgressRule { require: vec!["local".into()], prefer: vec![] };
    let id = peer.list().await[0].id.clone();
    let set = pb::SetCredentialEgressRequest { credential: id.clone(), egress: Some(rule.clone()) };
    peer.credentials().set_credential_egress(set).await.expect("set");
    for _ in 0..2 {
        let question = peer.bind(None).await.workspace.expect("nobody has asked");
        assert_eq!((question.credential_id.as_str(), question.egress.as_ref()), (id.as_str(), Some(&rule)));
        let sealed = question.sealed.expect("sealed");
        assert_eq!((sealed.path_prefix.as_str(), sealed.call_id), ("/backend-api", question.call_id));
    }
    tell(&peer, &id, None).await;
    assert_eq!(peer.bind(None).await.workspace, None, "it was asked, and calls go on");
    let told = shown(&peer).await;
    assert!(told.problem.is_some_and(|why| why.contains("EDGE_CHALLENGE")) && told.observed_at.is_none());
    let answer = Workspace { origin: Some("https://evil.example".into()), routing_override: Some("us".into()) };
    tell(&peer, &id, Some(answer)).await;
    let bound = peer.bind(None).await;
    assert_eq!(bound.workspace, None);
    assert!(!bound.sealed.expect("sealed").origin.contains("evil"), "an origin that nobody allowed is not followed");
    let told = shown(&peer).await;
    assert_eq!(told.routing_override.as_deref(), Some("us"));
    assert!(told.problem.is_some_and(|why| why.contains("workspace_origins")));
    tell(&peer, &id, None).await;
    assert_eq!(shown(&peer).await.routing_override.as_deref(), Some("us"), "the last good word stays");
}
