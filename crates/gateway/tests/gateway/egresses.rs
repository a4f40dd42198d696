//! Several egresses: which one makes an attempt, what comes after its failure, and when it is not tried at all.

use std::sync::Arc;
use std::time::Duration;

use config::Seconds;
use domain::{Failure, Reason, service};
use proto::common::v1::EgressRule;
use proto::gateway::v1::{GetStatusRequest, GetStatusResponse};
use proto::transport::v1::Sent;
use serde_json::Value;

use crate::fakes::FakeTransport;
use crate::script::{Step, answers, fails, refuses};
use crate::world::World;

const THREE: &[(&str, &[&str])] = &[("local", &["home"]), ("a", &["cloud"]), ("b", &["cloud"])];

async fn three() -> World {
    World::spread(THREE, |gateway| {
        gateway.circuit_failures = 2;
        gateway.circuit_open = Seconds::new(1);
    })
    .await
}

fn rule(require: &[&str], prefer: &[&str]) -> Option<EgressRule> {
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    Some(EgressRule { require: owned(require), prefer: owned(prefer) })
}

/// Egress, result and reason of every attempt.
fn ways(record: &Value) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let attempts = record["executionTrace"]["attempts"].as_array().cloned().unwrap_or_default();
    attempts.iter().map(|a| (text(&a["egress"]), text(&a["result"]), text(&a["reason"]))).collect()
}

fn told(parts: &[(&str, &str, &str)]) -> Vec<(String, String, String)> {
    parts.iter().map(|(e, r, why)| ((*e).to_owned(), (*r).to_owned(), (*why).to_owned())).collect()
}

fn always(transport: &Arc<FakeTransport>, steps: Vec<Step>) {
    *transport.always.lock().unwrap() = Some(steps);
}

async fn status(world: &World) -> GetStatusResponse {
    world.operator().get_status(GetStatusRequest::default()).await.unwrap().into_inner()
}

#[tokio::test]
async fn what_an_egress_cannot_do_another_one_does_with_the_same_credential() {
    for failing in [
        refuses(Reason::EdgeChallenge, 403),
        refuses(Reason::EdgeBlocked, 403),
        fails(Reason::EgressUnreachable, Sent::NotSent),
    ] {
        let world = three().await;
        always(&world.transport, failing.clone());
        let response = world.post(true).await;
        assert_eq!(response.status(), 200);
        let record = world.record_of(&response).await;
        let attempts = ways(&record);
        assert_eq!(attempts.len(), 2, "{attempts:?}");
        assert_eq!((attempts[0].0.as_str(), attempts[1].0.as_str(), attempts[1].1.as_str()), ("local", "a", "success"));
        let excluded = world.auth.binds.lock().unwrap().last().unwrap().exclude.clone();
        assert!(excluded.is_empty(), "never the credential: {excluded:?}");
        world.gateway.shutdown().await;
        assert!(world.auth.reports.lock().unwrap().is_empty());
    }
    // With none left the failure is the answer.
    let world = three().await;
    for transport in &world.transports {
        always(transport, refuses(Reason::EdgeBlocked, 403));
    }
    let response = world.post(true).await;
    assert_eq!(response.status(), 400);
    let record = world.record_of(&response).await;
    let names: Vec<String> = ways(&record).into_iter().map(|way| way.0).collect();
    assert_eq!(names, ["local", "a", "b"]);
}

#[tokio::test]
async fn rules_of_route_and_credential_are_kept_and_one_that_none_satisfies_says_so() {
    let world = three().await;
    world.router.routes.lock().unwrap()[0].egress = rule(&["cloud"], &["b"]);
    for _ in 0..3 {
        assert_eq!(world.post(true).await.status(), 200);
    }
    let requests = |at: usize| world.transports[at].requests.lock().unwrap().len();
    assert_eq!((requests(0), requests(1), requests(2)), (0, 0, 3));
    *world.auth.egress.lock().unwrap() = rule(&["a"], &[]);
    assert_eq!(world.post(true).await.status(), 200);
    assert_eq!((requests(0), requests(1), requests(2)), (0, 1, 3));

    *world.auth.egress.lock().unwrap() = rule(&["home"], &[]);
    let response = world.post(true).await;
    assert_eq!(response.status(), 400);
    let record = world.record_of(&response).await;
    assert_eq!(ways(&record), told(&[("-", "skipped", "CREDENTIAL_NOT_BOUND")]));
    let error: Value = response.json().await.unwrap();
    let message = error["error"]["message"].as_str().unwrap();
    assert!(message.contains("requires cloud") && message.contains("credential main requires home"), "{message}");
    assert!(message.contains("local (home), a (cloud), b (cloud)"), "{message}");
    assert_eq!(error["error"]["candidates"][0]["reason"], "not_allowed");
    let found = status(&world).await;
    assert!(found.routes[0].bound.is_none());
    assert_eq!(found.routes[0].failure.as_ref().map(|f| f.reason.as_str()), Some("CREDENTIAL_NOT_BOUND"));
    assert_eq!((requests(0), requests(1), requests(2)), (0, 1, 3));
}

#[tokio::test]
async fn an_open_circuit_is_skipped_and_named_and_tested_by_one_call() {
    let world = three().await;
    always(&world.transport, refuses(Reason::EdgeBlocked, 403));
    for _ in 0..2 {
        assert_eq!(world.post(true).await.status(), 200);
    }
    let response = world.post(true).await;
    let record = world.record_of(&response).await;
    assert_eq!(ways(&record), told(&[("local", "skipped", "EDGE_BLOCKED"), ("a", "success", "-")]));
    assert_eq!(world.attempts(), 2, "not tried");
    let found = status(&world).await;
    let shut = found.egresses.iter().find(|e| e.egress == "local").unwrap();
    assert_eq!((shut.circuit.as_str(), shut.reason.as_deref()), ("open", Some("EDGE_BLOCKED")));
    assert!(shut.retry_at.is_some() && found.routes[0].bound.is_some(), "another one takes the calls");
    // It works again: one call finds out.
    *world.transport.always.lock().unwrap() = None;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let response = world.post(true).await;
    assert_eq!(ways(&world.record_of(&response).await), told(&[("local", "success", "-")]));
    assert_eq!(status(&world).await.egresses.iter().find(|e| e.egress == "local").unwrap().circuit, "closed");
}

#[tokio::test]
async fn with_every_circuit_open_a_call_fails_at_once_and_the_status_says_the_same() {
    let world = World::spread(&[("local", &[])], |gateway| gateway.circuit_failures = 2).await;
    always(&world.transport, refuses(Reason::UpstreamError, 500));
    assert_eq!(world.post(true).await.status(), 502);
    assert_eq!(world.attempts(), 2, "repeated once");
    let response = world.post(true).await;
    assert_eq!(response.status(), 502);
    assert!(response.headers().contains_key("retry-after"), "{response:?}");
    assert_eq!(ways(&world.record_of(&response).await), told(&[("local", "skipped", "UPSTREAM_ERROR")]));
    let text = response.text().await.unwrap();
    assert!(text.contains("egress local to target chatgpt-codex: not tried until"), "{text}");
    assert_eq!(world.attempts(), 2);
    let found = status(&world).await;
    let route = &found.routes[0];
    assert_eq!((route.bound.is_some(), route.reason.as_deref()), (false, Some("UPSTREAM_ERROR")));
    assert_eq!(found.oauth[0].status, "UPSTREAM_ERROR");
}

#[tokio::test]
async fn an_egress_that_refuses_before_sending_or_breaks_off() {
    let away = || Failure::new(Reason::PeerUnavailable, service::GATEWAY, "transport-svc does not answer");
    let world = three().await;
    always(&world.transport, vec![Step::Refuse(away())]);
    let response = world.post(true).await;
    assert_eq!(response.status(), 200, "nothing was sent");
    assert_eq!(
        ways(&world.record_of(&response).await),
        told(&[("local", "failed", "PEER_UNAVAILABLE"), ("a", "success", "-")])
    );
    let world = three().await;
    always(&world.transport, vec![Step::Break]);
    assert_eq!(world.post(true).await.status(), 503, "nobody knows what it had sent");
    assert_eq!(world.transports[1].requests.lock().unwrap().len(), 0);
}

/// An egress that is away, and one that no rule allows any more.
#[tokio::test]
async fn a_timer_finds_out_that_an_egress_is_back_where_it_may_ask() {
    let away = || Failure::new(Reason::PeerUnavailable, service::GATEWAY, "transport-svc does not answer");
    let world = three().await;
    always(&world.transport, vec![Step::Refuse(away())]);
    *world.transport.probes_fail.lock().unwrap() = Some(away());
    let ask = async || assert_eq!(world.post(true).await.status(), 200, "another one takes it");
    for _ in 0..3 {
        ask().await;
    }
    let circuit = async || status(&world).await.egresses.into_iter().find(|e| e.egress == "local").unwrap();
    assert_eq!(circuit().await.target, "", "the egress itself");
    let probes = || world.transport.probes.load(std::sync::atomic::Ordering::SeqCst);
    crate::world::eventually(|| probes() >= 2).await;
    assert_ne!(circuit().await.circuit, "closed", "it is away still");
    // No rule allows it: nothing is asked, whatever the time.
    world.router.routes.lock().unwrap()[0].egress = rule(&["cloud"], &[]);
    let asked = probes();
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert!(probes() <= asked + 1, "one may have been under way");
    assert_eq!(world.transports[1].probes.load(std::sync::atomic::Ordering::SeqCst), 0, "what works is not asked");
}

#[tokio::test]
async fn a_timer_closes_the_circuit_of_an_egress_that_is_back() {
    let away = || Failure::new(Reason::PeerUnavailable, service::GATEWAY, "transport-svc does not answer");
    let world = three().await;
    always(&world.transport, vec![Step::Refuse(away())]);
    for _ in 0..3 {
        assert_eq!(world.post(true).await.status(), 200, "another one takes it");
    }
    let attempts = world.attempts();
    let probes = || world.transport.probes.load(std::sync::atomic::Ordering::SeqCst);
    crate::world::eventually(|| probes() == 1).await;
    let mut found = status(&world).await;
    while found.egresses.iter().any(|one| one.circuit != "closed") {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        found = status(&world).await;
    }
    let told: Vec<_> =
        found.egresses.iter().filter(|one| one.egress == "local").map(|one| one.target.as_str()).collect();
    assert_eq!((told, world.attempts(), probes()), (vec!["chatgpt-codex"], attempts, 1), "by no call, and once");
}

#[tokio::test]
async fn an_outage_is_not_multiplied() {
    let world = World::spread(&[("local", &[])], |gateway| gateway.circuit_failures = u32::MAX).await;
    always(&world.transport, refuses(Reason::UpstreamError, 500));
    let client = world.http("GET", "/").build().map(|_| reqwest::Client::new()).unwrap();
    for _ in 0..20 {
        let calls = (0..10).map(|_| {
            let request = client.post(format!("{}/v1/responses", world.url)).bearer_auth(crate::fakes::KEY);
            request.json(&crate::world::body(true)).send()
        });
        let answers = futures_util::future::join_all(calls).await;
        assert!(answers.into_iter().all(|answer| answer.unwrap().status() == 502));
    }
    // 200 calls: a tenth of them, the ten at the start, and one a second.
    let attempts = world.attempts();
    assert!((201..=245).contains(&attempts), "{attempts} attempts of 200 calls");
}

#[tokio::test]
async fn a_limit_that_ends_in_a_moment_is_waited_out() {
    let limit = |seconds: f64, header: bool| {
        let mut steps = refuses(Reason::RateLimited, 429);
        if let Some(Step::Outcome(outcome)) = steps.first_mut() {
            outcome.failure.as_mut().unwrap().retry_after_seconds = Some(seconds);
            if header {
                outcome.headers.push(crate::script::header("retry-after", "1"));
            }
        }
        steps
    };
    for (script, status, attempts) in
        [(limit(0.2, true), 200, 2), (limit(0.2, false), 429, 1), (limit(60.0, true), 429, 1)]
    {
        let world = World::new(vec![script, answers(crate::script::FULL)]).await;
        assert_eq!((world.post(true).await.status().as_u16(), world.attempts()), (status, attempts));
    }
}
