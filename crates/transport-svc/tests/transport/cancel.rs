//! Callers that go away, and a service that stops.

use std::time::Duration;

use domain::Reason;
use service_kit::failure_from_status;

use crate::harness::{ACCOUNT, Bench, CODEX, HELLO, eventually};

#[tokio::test]
async fn a_caller_that_goes_away_takes_the_upstream_request_with_it() {
    for bench in [Bench::plain().await, Bench::tls().await] {
        for scenario in ["long:100000:16:20", "silence:3", "no_headers"] {
            bench.sim.state().set_scenario(ACCOUNT, scenario.parse().ok());
            let mut stream = bench.bench.open(bench.bench.request(CODEX, HELLO, &[])).await.expect("a stream");
            let polled = async { while let Ok(Some(_)) = stream.message().await {} };
            // Polled, or the request would never be made.
            let _ = tokio::time::timeout(Duration::from_millis(300), polled).await;
            drop(stream);
            let took = eventually(scenario, || bench.last().client_gone()).await;
            assert!(took < Duration::from_secs(1), "{scenario}: {took:?}");
        }
        eventually("streams end", || bench.sim.state().open_streams() == 0).await;
    }
}

#[tokio::test]
async fn a_deadline_ends_the_upstream_request_too() {
    let bench = Bench::plain().await;
    bench.sim.state().set_scenario(ACCOUNT, "long:100000:16:20".parse().ok());
    let mut request = tonic::Request::new(bench.bench.request(CODEX, HELLO, &[]));
    request.set_timeout(Duration::from_millis(200));
    let mut stream = bench.bench.client.clone().respond(request).await.expect("a stream").into_inner();
    let status = loop {
        match stream.message().await {
            Ok(message) => assert!(message.is_some(), "the stream ended well"),
            Err(status) => break status,
        }
    };
    assert_eq!(failure_from_status(&status, "transport-svc").reason, Reason::Deadline);
    drop(stream);
    eventually("the client goes", || bench.last().client_gone()).await;
}

#[tokio::test]
async fn a_service_that_stops_ends_its_calls_and_says_so() {
    let bench = Bench::plain().await;
    bench.sim.state().set_scenario(ACCOUNT, "long:100000:16:20".parse().ok());
    let mut stream = bench.bench.open(bench.bench.request(CODEX, HELLO, &[])).await.expect("a stream");
    stream.message().await.expect("a head");
    assert!((bench.bench.service.readiness())().await.is_ok());
    let read = async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                other => break other,
            }
        }
    };
    let (end, ()) = tokio::join!(read, bench.bench.service.shutdown());
    let failure = failure_from_status(&end.expect_err("a status"), "transport-svc");
    assert_eq!((failure.reason, failure.service.as_str()), (Reason::PeerUnavailable, "transport-svc"));
    assert!((bench.bench.service.readiness())().await.is_err());
    drop(stream);
    eventually("the client goes", || bench.last().client_gone()).await;
}
