//! Where requests of an account must go: asked before its first call, once, and by the egress that its rule names.

use std::sync::atomic::Ordering;
use std::time::Duration;

use proto::auth::v1::{ClaimProbesResponse, UsageProbe};
use proto::common::v1::EgressRule;

use crate::world::{World, eventually};

#[tokio::test]
async fn calls_of_an_account_wait_for_one_answer() {
    let world = World::new(vec![]).await;
    world.auth.unknown_workspace.store(true, Ordering::SeqCst);
    *world.transport.discovers_in.lock().unwrap() = Duration::from_millis(200);
    let (one, other) = tokio::join!(world.post(true), world.post(true));
    assert_eq!((one.status().as_u16(), other.status().as_u16()), (200, 200));
    assert_eq!(world.transport.discoveries.load(Ordering::SeqCst), 1);
    let reports = world.auth.workspaces.lock().unwrap().clone();
    let told = reports[0].workspace.clone().expect("found out");
    assert_eq!(
        (reports.len(), reports[0].credential_id.as_str(), told.routing_override.as_deref()),
        (1, "main", Some("us"))
    );
    assert_eq!(world.auth.binds.lock().unwrap().len(), 4, "each is bound again, sealed as it must be");
    assert_eq!(world.post(true).await.status(), 200);
    assert_eq!(world.transport.discoveries.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_call_waits_for_a_moment_and_goes_on_without_an_answer() {
    let world = World::new(vec![]).await;
    world.auth.unknown_workspace.store(true, Ordering::SeqCst);
    *world.transport.discovers_in.lock().unwrap() = Duration::from_secs(3600);
    assert_eq!(world.post(true).await.status(), 200);
    assert_eq!((world.transport.discoveries.load(Ordering::SeqCst), world.auth.binds.lock().unwrap().len()), (1, 1));
    assert!(world.auth.workspaces.lock().unwrap().is_empty());
}

#[tokio::test]
async fn questions_about_an_account_leave_by_the_egress_of_its_credential() {
    let world = World::spread(&[("local", &[]), ("a", &["eu"]), ("b", &["eu"])], |_| {}).await;
    let rule = |require: &str| Some(EgressRule { require: vec![require.into()], prefer: vec![] });
    let question = |label: &str, egress, provider_egress| UsageProbe {
        credential_id: label.into(),
        credential: label.into(),
        target: "chatgpt-codex".into(),
        call_id: label.into(),
        sealed: None,
        egress,
        provider_egress,
    };
    let due = ClaimProbesResponse {
        probes: vec![question("tied", rule("b"), rule("eu")), question("nowhere", rule("b"), rule("local"))],
        workspaces: vec![question("again", rule("a"), None)],
        next_in_seconds: 0.0,
    };
    world.auth.due.lock().unwrap().push_back(due);
    eventually(|| world.auth.usage.lock().unwrap().len() >= 2 && !world.auth.workspaces.lock().unwrap().is_empty())
        .await;
    let asked: Vec<usize> = world.transports.iter().map(|t| t.asked.lock().unwrap().len()).collect();
    assert_eq!(asked, [0, 0, 1], "never by another egress");
    let found: Vec<usize> = world.transports.iter().map(|t| t.discoveries.load(Ordering::SeqCst)).collect();
    assert_eq!(found, [0, 1, 0]);
    let reports = world.auth.usage.lock().unwrap().clone();
    let refused = reports.iter().flat_map(|report| &report.credentials).find(|one| one.credential_id == "nowhere");
    let failure = refused.and_then(|one| one.failure.clone()).expect("refused");
    assert_eq!(failure.reason, "CREDENTIAL_NOT_BOUND");
    assert!(failure.message.contains("none satisfies both"), "{}", failure.message);
}
