//! What a key may use, and how long it is trusted.

use std::sync::atomic::Ordering;
use std::time::Duration;

use domain::{Clock, Failure, Reason, service};
use futures_util::StreamExt;
use futures_util::future::join_all;
use proto::auth::v1::{KeyLimits, VerifyKeyResponse};
use proto::gateway::v1::{CompleteRequest, ListCallsRequest, ListModelsRequest, RespondRequest};
use reqwest::Response;
use serde_json::Value;
use service_kit::failure_from_status;

use crate::fakes::OTHER_KEY;
use crate::script::{Step, chunk};
use crate::world::{World, body, eventually};

const DELTA: &str = "data: {\"type\":\"response.output_text.delta\",\"delta\":\"Hel\"}\n\n";
const COMPLETED: &str =
    "data: {\"type\":\"response.completed\",\"response\":{\"id\":\"resp_1\",\"status\":\"completed\"}}\n\n";

fn limited(world: &World, limits: KeyLimits) {
    let key = VerifyKeyResponse { name: "ci".into(), limits: Some(limits), ..VerifyKeyResponse::default() };
    *world.auth.key.lock().unwrap() = key;
}

fn at_once(calls: i32) -> KeyLimits {
    KeyLimits { concurrent_calls: Some(calls), ..KeyLimits::default() }
}

fn ask() -> CompleteRequest {
    CompleteRequest { message: "Hi".into(), ..CompleteRequest::default() }
}

/// Moves the gateway's timers.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

async fn refused(response: Response, code: &str) -> Value {
    assert_eq!(response.status(), 429);
    let error = response.json::<Value>().await.unwrap()["error"].clone();
    assert_eq!((&error["reason"], &error["code"]), (&"AGENT_LIMITED".into(), &code.into()), "{error}");
    error
}

#[tokio::test]
async fn requests_per_minute_count_over_both_faces() {
    let world = World::new(vec![]).await;
    limited(&world, KeyLimits { requests_per_minute: Some(2), ..KeyLimits::default() });
    assert_eq!(world.post(true).await.status(), 200);
    let mut agent = world.agent().await;
    agent.complete(ask()).await.unwrap();
    let response = world.post(false).await;
    let wait: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait) && !response.headers().contains_key("x-should-retry"), "{wait}");
    let record = world.record_of(&response).await;
    assert_eq!(record["error"]["reason"], "AGENT_LIMITED", "{record}");
    let error = refused(response, "rate_limit_exceeded").await;
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("\"ci\" has reached its limit of requests a minute at this gateway, 2"),
        "{error}"
    );
    let status = agent.complete(ask()).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::ResourceExhausted);
    assert_eq!(failure_from_status(&status, "gateway").reason, Reason::AgentLimited);
    let status = agent.respond(RespondRequest { message: "Hi".into(), ..Default::default() }).await.unwrap_err();
    assert_eq!(failure_from_status(&status, "gateway").reason, Reason::AgentLimited);

    // Questions are no requests, other keys have their own minute, and operators have no limits.
    agent.list_models(ListModelsRequest::default()).await.unwrap();
    agent.list_calls(ListCallsRequest::default()).await.unwrap();
    world.agent_with(OTHER_KEY).await.complete(ask()).await.unwrap();
    for _ in 0..3 {
        world.operator().complete(ask()).await.unwrap();
    }
    assert_eq!(world.attempts(), 6, "nothing was sent for what was refused");
    pass(Duration::from_secs(61)).await;
    assert_eq!(world.post(true).await.status(), 200);
}

#[tokio::test]
async fn a_stream_holds_its_place_until_it_is_dropped() {
    let hang = || vec![Step::Head, chunk(DELTA, true), Step::Hang];
    let world = World::new(vec![hang(), hang()]).await;
    limited(&world, at_once(1));
    let mut stream = world.post(true).await.bytes_stream();
    stream.next().await.unwrap().unwrap();
    assert_eq!(refused(world.post(true).await, "rate_limit_exceeded").await["param"], Value::Null);
    drop(stream);
    // The gateway notices that the caller has gone; then there is room, also for the other face.
    let mut agent = world.agent().await;
    let asked = RespondRequest { message: "Hi".into(), ..Default::default() };
    let mut stream = loop {
        match agent.respond(asked.clone()).await {
            Ok(stream) => break stream.into_inner(),
            Err(status) => assert_eq!(failure_from_status(&status, "gateway").reason, Reason::AgentLimited),
        }
    };
    stream.message().await.unwrap();
    let status = agent.complete(ask()).await.unwrap_err();
    assert_eq!(failure_from_status(&status, "gateway").reason, Reason::AgentLimited);
    drop(stream);
    let answered = async || agent.clone().complete(ask()).await.is_ok();
    while !answered().await {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn every_end_of_a_call_gives_its_place_back() {
    let refuse = Step::Refuse(Failure::new(Reason::EgressUnreachable, service::TRANSPORT, "no way out"));
    let broken = vec![Step::Head, chunk(DELTA, true), Step::Break];
    let world = World::new(vec![vec![refuse], broken]).await;
    limited(&world, at_once(1));
    assert_eq!(world.post(true).await.status(), 502, "refused before anything was sent");
    assert!(world.post(true).await.text().await.unwrap().contains("PEER_UNAVAILABLE"), "broken in mid stream");
    let malformed = world.http("POST", "/v1/responses").body("no JSON").send().await.unwrap();
    assert_eq!(malformed.status(), 400);
    let unknown = world.http("POST", "/v1/responses").json(&serde_json::json!({ "model": "unknown/x", "input": "x" }));
    assert_eq!(unknown.send().await.unwrap().status(), 400);
    for stream in [true, false, true] {
        let response = world.post(stream).await;
        assert_eq!(response.status(), 200);
        response.bytes().await.unwrap();
    }
}

#[tokio::test]
async fn a_call_is_over_when_its_terminal_event_is_seen() {
    // transport-svc takes its time to say how it went.
    let world = World::new(vec![vec![Step::Head, chunk(DELTA, true), chunk(COMPLETED, true), Step::Hang]]).await;
    limited(&world, at_once(1));
    let mut stream = world.post(true).await.bytes_stream();
    let mut seen = String::new();
    while !seen.contains("response.completed") {
        seen.push_str(std::str::from_utf8(&stream.next().await.unwrap().unwrap()).unwrap());
    }
    assert_eq!(world.post(true).await.status(), 200, "the caller has its answer and goes on");
    drop(stream);
}

#[tokio::test]
async fn tokens_of_the_day_end_until_the_day_does() {
    let world = World::new(vec![]).await;
    limited(&world, KeyLimits { tokens_per_day: Some(1000.0), ..KeyLimits::default() });
    let now = Clock::system().now_s();
    world.auth.key.lock().unwrap().exhausted_until = Some((now + 7200) as f64);
    let response = world.post(true).await;
    assert_eq!(response.headers()["x-should-retry"], "false");
    let wait: i64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    let error = refused(response, "usage_limit_reached").await;
    assert_eq!((&error["type"], &error["resets_at"]), (&"usage_limit_reached".into(), &(now + 7200).into()));
    let left = error["resets_in_seconds"].as_i64().unwrap();
    assert!((7100..=7200).contains(&left) && (7100..=7200).contains(&wait), "{left} {wait}");
    let status = world.agent().await.complete(ask()).await.unwrap_err();
    let failure = failure_from_status(&status, "gateway");
    assert_eq!((failure.reason, failure.resets_at), (Reason::AgentLimited, Some(now + 7200)));
}

#[tokio::test]
async fn a_key_in_use_is_asked_about_beside_its_calls() {
    let world = World::new(vec![]).await;
    let verified = || world.auth.verified.load(Ordering::SeqCst);
    assert_eq!(world.post(false).await.status(), 200);
    pass(Duration::from_millis(1600)).await;
    for response in join_all((0..10).map(|_| world.post(false))).await {
        assert_eq!(response.status(), 200);
    }
    eventually(|| verified() == 2).await;
    pass(Duration::from_millis(1600)).await;
    let gone = Failure::new(Reason::AgentKeyInvalid, service::AUTH, "agent key \"ci\" was revoked");
    *world.auth.refuses_keys.lock().unwrap() = Some(gone);
    assert_eq!(world.post(false).await.status(), 200, "trusted until the answer comes");
    let refused = async || world.post(false).await.status() == 401;
    while !refused().await {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn without_auth_svc_a_key_is_trusted_for_seconds_only() {
    let world = World::new(vec![]).await;
    assert_eq!(world.post(false).await.status(), 200);
    let away = Failure::new(Reason::PeerUnavailable, service::GATEWAY, "auth-svc does not answer");
    *world.auth.refuses_keys.lock().unwrap() = Some(away);
    for _ in 0..2 {
        pass(Duration::from_millis(1700)).await;
        assert_eq!(world.post(false).await.status(), 200);
    }
    pass(Duration::from_millis(700)).await;
    let response = world.post(false).await;
    assert_eq!(response.status(), 503);
    assert_eq!(response.json::<Value>().await.unwrap()["error"]["reason"], "PEER_UNAVAILABLE");
}

#[tokio::test]
async fn a_key_is_not_trusted_past_its_expiry() {
    let world = World::new(vec![]).await;
    world.auth.key.lock().unwrap().expires_at = Some(Clock::system().now_s() as f64 - 1.0);
    let verified = || world.auth.verified.load(Ordering::SeqCst);
    for _ in 0..3 {
        let before = verified();
        let response = world.http("POST", "/v1/responses").json(&body(false)).send().await.unwrap();
        // What auth-svc says counts; here its clock is behind the gateway's.
        assert_eq!(response.status(), 200);
        assert!(verified() > before, "asked again");
    }
}

#[tokio::test]
async fn a_slow_request_keeps_no_key_alive() {
    let world = World::new(vec![]).await;
    let (rest, body) = tokio::sync::oneshot::channel::<Vec<u8>>();
    let whole = crate::world::body(false).to_string().into_bytes();
    let (first, second) = whole.split_at(10);
    let head = futures_util::stream::once(std::future::ready(Ok::<_, std::io::Error>(first.to_vec())));
    let body = head.chain(futures_util::stream::once(async { Ok(body.await.unwrap()) }));
    let request = world.http("POST", "/v1/responses").header("content-type", "application/json");
    let request = request.body(reqwest::Body::wrap_stream(body)).send();
    let finish = async {
        eventually(|| world.auth.verified.load(Ordering::SeqCst) == 1).await;
        let gone = Failure::new(Reason::AgentKeyInvalid, service::AUTH, "agent key \"ci\" was revoked");
        *world.auth.refuses_keys.lock().unwrap() = Some(gone);
        pass(Duration::from_millis(4100)).await;
        rest.send(second.to_vec()).unwrap();
    };
    let (response, ()) = tokio::join!(request, finish);
    assert_eq!(response.unwrap().status(), 401);
    assert_eq!(world.attempts(), 0);
}
