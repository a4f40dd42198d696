//! What is refused before any request is made.

use domain::{Reason, new_call_id};
use proto::transport::v1::RespondRequest;
use service_kit::{UpstreamUrl, failure_from_status};

use crate::harness::{Bench, CODEX, HELLO};

async fn refused(bench: &Bench, request: RespondRequest) -> domain::Failure {
    let status = bench.bench.open(request).await.expect_err("a refusal");
    let failure = failure_from_status(&status, "transport-svc");
    assert!(!format!("{failure:?}").contains(&bench.login.access_token));
    failure
}

#[tokio::test]
async fn seals_are_refused_by_name_and_nothing_is_sent() {
    let bench = Bench::plain().await;
    let service = &bench.bench;
    let good = || service.request(CODEX, HELLO, &[]);
    let target = service.target(CODEX);
    let now = service.clock.now_ms();

    let expired = good();
    let expired = RespondRequest { credential: Some(service.seal(&expired.call_id, &target, now - 61_000)), ..expired };
    let evil = UpstreamUrl::parse("https://evil.example/backend-api/codex").expect("a URL");
    let other_target = good();
    let other_target =
        RespondRequest { credential: Some(service.seal(&other_target.call_id, &evil, now)), ..other_target };
    let other_call = RespondRequest { call_id: new_call_id(), ..good() };
    let absent = RespondRequest { credential: None, ..good() };
    // A gateway that asks for another target than the seal names.
    let asked_elsewhere = RespondRequest { target: "openai-api".into(), ..good() };
    let unknown = RespondRequest { target: "nowhere".into(), ..good() };
    let mut changed = good();
    if let Some(sealed) = changed.credential.as_mut() {
        sealed.version += 1;
    }
    for (request, text) in [
        (expired, "expired"),
        (other_target, "names another target"),
        (other_call, "names another call"),
        (absent, "no sealed credential"),
        (asked_elsewhere, "names another target"),
        (unknown, "no target \"nowhere\""),
        (changed, "cannot be opened"),
    ] {
        let failure = refused(&bench, request).await;
        assert_eq!(failure.reason, Reason::SealRefused, "{text}");
        assert!(failure.message.contains(text), "{text}: {}", failure.message);
    }
    assert!(bench.sim.state().requests().is_empty());

    let once = good();
    assert_eq!(service.send(once.clone()).await.reason(), None);
    let failure = refused(&bench, once).await;
    assert!(failure.message.contains("replayed"), "{}", failure.message);
    assert_eq!(bench.sim.state().requests().len(), 1);
}

#[tokio::test]
async fn bad_bodies_are_refused_and_nothing_is_sent() {
    let bench = Bench::plain().await;
    for (body, param) in
        [("{\"a\":", None), ("[]", None), (r#"{"a":1,"a":2}"#, Some("a")), (r#"{"include":1}"#, Some("include"))]
    {
        let failure = refused(&bench, bench.bench.request(CODEX, body, &[])).await;
        assert_eq!((failure.reason, failure.param.as_deref()), (Reason::RequestInvalid, param), "{body}");
    }
    let strange = RespondRequest { resource: 99, ..bench.bench.request(CODEX, HELLO, &[]) };
    assert_eq!(refused(&bench, strange).await.reason, Reason::RequestInvalid);
    assert!(bench.sim.state().requests().is_empty());
}
