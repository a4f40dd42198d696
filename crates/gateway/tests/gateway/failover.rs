//! What a call tries after a failure, and what it never tries.

use domain::{CandidateReason, Failure, Reason, service};
use proto::gateway::v1::{CompleteRequest, RespondRequest};
use proto::transport::v1::Sent;
use serde_json::Value;
use service_kit::{failure_from_status, trace_from_status};

use crate::fakes::{Credential, route};
use crate::script::{EARLY_FAILURE, FULL, MINIMAL, Step, answers, chunk, failed, fails, fails_early, refuses};
use crate::world::{World, outcomes};

fn told(parts: &[(&str, &str, &str)]) -> Vec<(String, String, String)> {
    parts.iter().map(|(c, r, why)| ((*c).to_owned(), (*r).to_owned(), (*why).to_owned())).collect()
}

async fn with_fallback(scripts: Vec<Vec<Step>>) -> World {
    let both = vec![Credential::new("main", "openai-codex"), Credential::new("key", "openai")];
    let world = World::with(both, scripts).await;
    world.router.routes.lock().unwrap().push(route("openai", "gpt-5.5-api", true));
    world
}

#[tokio::test]
async fn a_rejected_token_is_refreshed_once_and_tried_once_more() {
    let world = World::new(vec![refuses(Reason::CredentialRejected, 401)]).await;
    let response = world.post(true).await;
    assert_eq!(response.status(), 200);
    let record = world.record_of(&response).await;
    assert_eq!(outcomes(&record), told(&[("main", "failed", "CREDENTIAL_REJECTED"), ("main", "success", "-")]));
    let binds = world.auth.binds.lock().unwrap().clone();
    let rejected = binds[1].rejected.clone().unwrap();
    assert_eq!((binds.len(), rejected.credential_id.as_str(), rejected.version), (2, "main", 1));
    assert!(binds[1].exclude.is_empty());
    assert!(world.auth.reports.lock().unwrap().is_empty(), "the refresh has settled it");
    let versions: Vec<i32> =
        world.transport.requests.lock().unwrap().iter().map(|r| r.credential.as_ref().unwrap().version).collect();
    assert_eq!(versions, [1, 2]);
}

#[tokio::test]
async fn a_token_rejected_twice_is_reported_and_the_next_credential_tried() {
    let twice = || refuses(Reason::CredentialRejected, 401);
    let world = World::with(
        vec![Credential::new("main", "openai-codex"), Credential::new("second", "openai-codex")],
        vec![twice(), twice()],
    )
    .await;
    let response = world.post(true).await;
    assert_eq!(response.status(), 200);
    let rejected = "CREDENTIAL_REJECTED";
    let record = world.record_of(&response).await;
    assert_eq!(
        outcomes(&record),
        told(&[("main", "failed", rejected), ("main", "failed", rejected), ("second", "success", "-")])
    );
    assert_eq!(world.auth.binds.lock().unwrap()[2].exclude, ["main"]);
    assert_eq!(world.reports(1).await, [rejected]);
    assert_eq!(world.auth.reports.lock().unwrap()[0].version, 2);
}

#[tokio::test]
async fn a_refused_refresh_is_the_answer() {
    let mut dead = Credential::new("main", "openai-codex");
    dead.refresh = Some(Reason::CredentialNeedsLogin);
    let world = World::with(vec![dead], vec![refuses(Reason::CredentialRejected, 401)]).await;
    let response = world.post(true).await;
    assert_eq!(response.status(), 400);
    let error: Value = response.json().await.unwrap();
    assert_eq!(error["error"]["reason"], "CREDENTIAL_NEEDS_LOGIN");
    assert_eq!(error["error"]["candidates"][0]["reason"], "needs_login");
    assert_eq!(world.attempts(), 1);
}

#[tokio::test]
async fn a_named_fallback_is_used_and_the_trace_says_so() {
    let world = with_fallback(vec![refuses(Reason::UsageLimit, 429)]).await;
    let response = world.post(true).await;
    assert_eq!(response.status(), 200);
    let record = world.record_of(&response).await;
    let trace = &record["executionTrace"];
    assert_eq!(outcomes(&record), told(&[("main", "failed", "USAGE_LIMIT"), ("key", "success", "-")]));
    assert_eq!((&trace["fallbackUsed"], &trace["winnerProvider"]), (&true.into(), &"openai".into()));
    assert_eq!(trace["winnerModel"], "gpt-5.5-api");
    assert_eq!(world.reports(1).await, ["USAGE_LIMIT"]);
    assert_eq!(world.auth.reports.lock().unwrap()[0].resets_at, Some(2e9));
}

#[tokio::test]
async fn without_fallbacks_nothing_else_is_tried() {
    let world = World::new(vec![refuses(Reason::UsageLimit, 429)]).await;
    let response = world.post(true).await;
    assert_eq!(response.status(), 429);
    assert_eq!(response.headers()["x-should-retry"], "false");
    assert_eq!(response.headers()["x-codex-primary-used-percent"], "100");
    let record = world.record_of(&response).await;
    assert_eq!(outcomes(&record), told(&[("main", "failed", "USAGE_LIMIT")]));
    let error: Value = response.json().await.unwrap();
    let error = &error["error"];
    assert_eq!((&error["type"], &error["plan_type"]), (&"usage_limit_reached".into(), &"plus".into()));
    assert_eq!(error["resets_at"], 2_000_000_000);
    assert!(error["resets_in_seconds"].as_i64().is_some_and(|s| s >= 0));
    assert_eq!(error["call_id"], record["callId"]);
    assert_eq!(world.attempts(), 1);
}

#[tokio::test]
async fn an_unbound_route_is_skipped_and_told() {
    let world = with_fallback(vec![]).await;
    world.auth.credentials.lock().unwrap()[0].flaw = Some(CandidateReason::Undecryptable);
    let response = world.post(true).await;
    let record = world.record_of(&response).await;
    assert_eq!(outcomes(&record), told(&[("-", "skipped", "CREDENTIAL_NOT_BOUND"), ("key", "success", "-")]));
    world.router.routes.lock().unwrap().pop();
    let response = world.post(true).await;
    assert_eq!(response.status(), 400);
    assert_eq!(response.headers()["x-should-retry"], "false");
    let error: Value = response.json().await.unwrap();
    assert_eq!(error["error"]["code"], "credential_not_bound");
    assert_eq!(error["error"]["candidates"][0]["reason"], "undecryptable");
    assert_eq!(world.attempts(), 1, "only the fallback of the first call");
}

#[tokio::test]
async fn rule_seven() {
    for (script, status, attempts) in [
        // Nothing was sent, or it was not processed, or the upstream refused: the fallback is tried.
        (fails(Reason::EgressUnreachable, Sent::NotSent), 200, 2),
        (fails(Reason::UpstreamError, Sent::NotProcessed), 200, 2),
        (refuses(Reason::UpstreamOverloaded, 503), 200, 2),
        (refuses(Reason::EdgeChallenge, 403), 200, 2),
        // The answer would be the same anywhere.
        (refuses(Reason::ContextTooLong, 400), 400, 1),
        (refuses(Reason::WrongEndpoint, 403), 400, 1),
        // It was sent, and nobody knows what came of it.
        (fails(Reason::UpstreamTimeout, Sent::Sent), 504, 1),
        (fails(Reason::EgressUnreachable, Sent::Sent), 502, 1),
        (fails(Reason::StreamCut, Sent::Sent), 502, 1),
        (vec![Step::Head, chunk(": nothing\n\n", false), Step::Break], 503, 1),
        (vec![Step::Refuse(Failure::new(Reason::SealRefused, service::TRANSPORT, "a stale seal"))], 400, 1),
    ] {
        let name = format!("{script:?}");
        let world = with_fallback(vec![script]).await;
        let response = world.post(true).await;
        assert_eq!((response.status().as_u16(), world.attempts()), (status, attempts), "{name}");
    }
}

#[tokio::test]
async fn what_was_not_processed_is_repeated_on_the_same_route_once() {
    let lost = || fails(Reason::UpstreamError, Sent::NotProcessed);
    let world = World::new(vec![lost(), lost(), lost()]).await;
    assert_eq!(world.post(true).await.status(), 502);
    assert_eq!(world.attempts(), 2);
}

#[tokio::test]
async fn a_challenge_never_touches_the_credential() {
    let world = World::new(vec![refuses(Reason::EdgeChallenge, 403)]).await;
    let response = world.post(true).await;
    assert_eq!(response.status(), 400);
    let text = response.text().await.unwrap();
    assert!(text.contains("EDGE_CHALLENGE") && !text.contains("log in"), "{text}");
    world.gateway.shutdown().await;
    assert!(world.auth.reports.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_early_failure_fails_over_unseen() {
    let world = with_fallback(vec![fails_early(Reason::RateLimited), answers(MINIMAL)]).await;
    let response = world.post(true).await;
    let record = world.record_of(&response).await;
    assert_eq!(outcomes(&record), told(&[("main", "failed", "RATE_LIMITED"), ("key", "success", "-")]));
    assert_eq!(response.text().await.unwrap(), MINIMAL, "nothing of the first attempt was sent");
}

#[tokio::test]
async fn an_early_failure_that_nothing_follows_passes_as_it_came() {
    // Relayed at once without a fallback; held back and then released with one that is not bound.
    let alone = World::new(vec![fails_early(Reason::RateLimited)]).await;
    let unbound = with_fallback(vec![fails_early(Reason::RateLimited)]).await;
    unbound.auth.credentials.lock().unwrap().pop();
    for world in [alone, unbound] {
        let response = world.post(true).await;
        assert_eq!(response.status(), 200);
        let id = response.headers()["x-switchboard-call-id"].to_str().unwrap().to_owned();
        assert_eq!(response.text().await.unwrap(), EARLY_FAILURE);
        let record = world.record(&id).await;
        assert_eq!(record["error"]["reason"], "RATE_LIMITED");
        assert_eq!(record["executionTrace"]["winnerProvider"], Value::Null);
        assert_eq!(world.reports(1).await, ["RATE_LIMITED"]);
    }
    let world = World::new(vec![fails_early(Reason::RateLimited)]).await;
    assert_eq!(world.post(false).await.status(), 429, "an assembled answer has a status to say it with");
}

#[tokio::test]
async fn a_late_failure_does_not_fail_over() {
    let (head, rest) = FULL.split_at(FULL.find("event: response.output_item.done").unwrap());
    let _ = rest;
    let outcome = failed(Reason::StreamCut, Some(200), Sent::Sent);
    let script = vec![Step::Head, chunk(head, true), Step::Outcome(Box::new(outcome))];
    let world = with_fallback(vec![script]).await;
    let text = world.post(true).await.text().await.unwrap();
    assert!(text.starts_with(head) && text[head.len()..].contains("STREAM_CUT"), "{text}");
    assert_eq!(world.attempts(), 1);
}

#[tokio::test]
async fn attempts_are_bounded() {
    let many = ["a", "b", "c", "d", "e", "f"].map(|label| Credential::new(label, "openai-codex")).to_vec();
    let world = World::with(many, (0..6).map(|_| refuses(Reason::RateLimited, 429)).collect()).await;
    assert_eq!(world.post(true).await.status(), 429);
    assert_eq!(world.attempts(), 4);
}

#[tokio::test]
async fn a_report_is_repeated_until_it_is_heard() {
    let world = World::new(vec![refuses(Reason::NotEntitled, 403)]).await;
    world.auth.deaf.store(2, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(world.post(true).await.status(), 400);
    assert_eq!(world.reports(1).await, ["NOT_ENTITLED"]);
}

#[tokio::test]
async fn grpc_failures_carry_reason_and_trace() {
    let world = World::new(vec![
        refuses(Reason::UsageLimit, 429),
        refuses(Reason::UpstreamOverloaded, 503),
        refuses(Reason::UpstreamOverloaded, 503),
    ])
    .await;
    let mut client = world.agent().await;
    let ask = CompleteRequest { message: "Hi".into(), model: "codex/gpt-5.5".into(), ..CompleteRequest::default() };
    let status = client.complete(ask).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::ResourceExhausted);
    assert_eq!(failure_from_status(&status, "gateway").reason, Reason::UsageLimit);
    let trace = trace_from_status(&status).unwrap();
    assert_eq!((trace.attempts.len(), trace.requested_model.as_str()), (1, "codex/gpt-5.5"));
    assert!(trace.hops.iter().any(|h| h.service == "upstream" && h.outcome == "USAGE_LIMIT"));

    let status =
        client.respond(RespondRequest { message: "Hi".into(), ..RespondRequest::default() }).await.unwrap_err();
    assert_eq!(failure_from_status(&status, "gateway").reason, Reason::UpstreamOverloaded);
    let status = client
        .complete(CompleteRequest { message: "Hi".into(), model: "unknown/x".into(), ..CompleteRequest::default() })
        .await
        .unwrap_err();
    assert_eq!(status.code(), tonic::Code::NotFound);
    assert!(trace_from_status(&status).unwrap().attempts.is_empty());
}
