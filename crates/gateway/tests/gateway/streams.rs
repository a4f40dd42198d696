//! Streams that break, wait or are given up.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use domain::Reason;
use futures_util::StreamExt;
use proto::gateway::v1::{CompleteRequest, ListCallsRequest, RespondRequest};
use proto::transport::v1::Sent;
use serde_json::Value;
use service_kit::{failure_from_status, trace_from_status};

use crate::fakes::{Credential, route};
use crate::script::{FULL, Step, chunk, failed, success};
use crate::world::{World, eventually};

const CREATED: &str =
    "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\"}}\n\n";
const DELTA: &str = "data: {\"type\":\"response.output_text.delta\",\"delta\":\"Hel\"}\n\n";

fn last_event(text: &str) -> Value {
    let data = text.trim_end().rsplit("data: ").next().unwrap();
    serde_json::from_str(data).unwrap()
}

#[tokio::test]
async fn a_cut_after_an_event_is_one_response_failed() {
    let mut outcome = failed(Reason::StreamCut, Some(200), Sent::Sent);
    outcome.response_id = Some("resp_1".into());
    let cut = Step::Outcome(Box::new(outcome));
    for (tail, between) in [(DELTA, ""), ("data: {\"half", "\n\n")] {
        let world = World::new(vec![vec![Step::Head, chunk(CREATED, false), chunk(tail, true), cut.clone()]]).await;
        let response = world.post(true).await;
        assert_eq!(response.status(), 200);
        let text = response.text().await.unwrap();
        assert!(text.starts_with(&format!("{CREATED}{tail}{between}event: response.failed\n")), "{text}");
        let event = last_event(&text);
        assert_eq!(event["type"], "response.failed");
        assert_eq!(event["response"]["id"], "resp_1");
        assert_eq!(event["response"]["error"]["code"], "STREAM_CUT");
        assert_eq!(text.matches("response.failed\"").count(), 1);
    }
}

#[tokio::test]
async fn a_transport_that_dies_in_mid_stream_is_named() {
    let world = World::new(vec![vec![Step::Head, chunk(CREATED, false), chunk(DELTA, true), Step::Break]]).await;
    let text = world.post(true).await.text().await.unwrap();
    let event = last_event(&text);
    assert_eq!(event["response"]["error"]["code"], "PEER_UNAVAILABLE");
    assert!(event["response"]["error"]["message"].as_str().unwrap().contains("transport-svc"));
}

#[tokio::test]
async fn a_caller_that_goes_away_ends_the_call() {
    let world = World::new(vec![vec![Step::Head, chunk(DELTA, true), Step::Hang]]).await;
    let mut stream = world.post(true).await.bytes_stream();
    assert_eq!(stream.next().await.unwrap().unwrap(), DELTA);
    assert!(!world.transport.dropped.load(Ordering::SeqCst));
    drop(stream);
    eventually(|| world.transport.dropped.load(Ordering::SeqCst)).await;
    let mut operator = world.operator();
    let calls = operator.list_calls(ListCallsRequest::default()).await.unwrap().into_inner().calls;
    assert_eq!(calls[0].error.as_ref().unwrap().reason, "CANCELLED");
    assert_eq!(calls[0].execution_trace.as_ref().unwrap().attempts[0].reason.as_deref(), Some("CANCELLED"));
}

#[tokio::test]
async fn a_caller_that_goes_away_before_any_answer_ends_the_call() {
    let world = World::new(vec![vec![Step::Hang]]).await;
    let request = world.http("POST", "/v1/responses").json(&crate::world::body(true)).send();
    assert!(tokio::time::timeout(Duration::from_millis(300), request).await.is_err());
    eventually(|| world.transport.dropped.load(Ordering::SeqCst)).await;
}

#[tokio::test]
async fn a_client_that_hangs_up_at_the_end_was_answered() {
    // Codex closes the connection at response.completed; the upstream's own end may be far behind.
    let world = World::new(vec![vec![Step::Head, chunk(FULL, true), Step::Hang]]).await;
    let mut stream = world.post(true).await.bytes_stream();
    assert_eq!(stream.next().await.unwrap().unwrap(), FULL);
    drop(stream);
    eventually(|| world.transport.dropped.load(Ordering::SeqCst)).await;
    let calls = world.operator().list_calls(ListCallsRequest::default()).await.unwrap().into_inner().calls;
    assert_eq!(calls[0].status, "ok");
    assert_eq!(calls[0].usage.map(|u| u.input_tokens), Some(11));
    assert_eq!(calls[0].execution_trace.as_ref().unwrap().winner_model.as_deref(), Some("gpt-5.5"));
}

#[tokio::test]
async fn lifecycle_events_wait_for_a_second_at_most() {
    let slow =
        || vec![Step::Head, chunk(CREATED, false), Step::Pause(Duration::from_secs(3)), chunk(DELTA, true), Step::Hang];
    let both = vec![Credential::new("main", "openai-codex"), Credential::new("second", "openai-codex")];
    let held = World::with(both, vec![slow()]).await;
    let began = Instant::now();
    let mut stream = held.post(true).await.bytes_stream();
    assert_eq!(stream.next().await.unwrap().unwrap(), CREATED);
    let waited = began.elapsed();
    assert!((Duration::from_millis(900)..Duration::from_millis(2500)).contains(&waited), "{waited:?}");
    // With nothing else to try there is nothing to wait for.
    let alone = World::new(vec![slow()]).await;
    let began = Instant::now();
    let mut stream = alone.post(true).await.bytes_stream();
    assert_eq!(stream.next().await.unwrap().unwrap(), CREATED);
    assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
    // A fallback is something to try, too.
    let world = World::new(vec![slow()]).await;
    world.router.routes.lock().unwrap().push(route("openai", "x", true));
    let began = Instant::now();
    world.post(true).await;
    assert!(began.elapsed() >= Duration::from_millis(900));
}

#[tokio::test]
async fn a_gateway_that_stops_ends_its_streams_in_their_own_words() {
    let world = World::new(vec![vec![Step::Head, chunk(DELTA, true), Step::Hang], vec![Step::Hang]]).await;
    let mut begun = world.post(true).await.bytes_stream();
    assert_eq!(begun.next().await.unwrap().unwrap(), DELTA);
    let tasks = tokio_util::task::TaskTracker::new();
    let waiting = tasks.spawn(world.http("POST", "/v1/responses").json(&crate::world::body(true)).send());
    eventually(|| world.attempts() == 2).await;
    world.stop();
    let mut rest = Vec::new();
    while let Some(bytes) = begun.next().await {
        rest.extend(bytes.expect("ended, not cut"));
    }
    let event = last_event(&String::from_utf8(rest).unwrap());
    assert_eq!(event["type"], "response.failed");
    assert_eq!(event["response"]["error"]["code"], "PEER_UNAVAILABLE");
    assert_eq!(waiting.await.unwrap().expect("answered").status(), 503);
}

#[tokio::test]
async fn comment_lines_wait_for_the_first_event() {
    const COMMENT: &str = ": keep-alive\n\n";
    let lost = Step::Outcome(Box::new(failed(Reason::StreamCut, Some(200), Sent::Sent)));
    let world = World::new(vec![vec![Step::Head, chunk(COMMENT, false), lost]]).await;
    let response = world.post(true).await;
    assert_eq!(response.status(), 502, "a cut before any event is no stream");
    assert!(!response.text().await.unwrap().contains(COMMENT));
    // Longer than events are held back.
    let slow = Step::Pause(Duration::from_millis(1300));
    let mut early = crate::script::fails_early(Reason::RateLimited);
    early.splice(1..1, [chunk(COMMENT, false), slow.clone()]);
    let second = vec![Step::Head, chunk(COMMENT, false), slow, chunk(FULL, true), Step::Outcome(Box::new(success()))];
    let both = vec![Credential::new("main", "openai-codex"), Credential::new("second", "openai-codex")];
    let world = World::with(both, vec![early, second]).await;
    assert_eq!(world.post(true).await.text().await.unwrap(), format!("{COMMENT}{FULL}"));
    assert_eq!(world.attempts(), 2);
}

#[tokio::test]
async fn the_callers_deadline_reaches_every_hop() {
    // On a slow machine a short deadline passes before transport-svc is reached, or at the client before the gateway's
    // answer is here, and tells nothing of them.
    for deadline in [400, 1_600, 1_600, 1_600, 6_400, 25_600].map(Duration::from_millis) {
        if one_deadline(deadline).await && one_deadline_of_a_stream(deadline).await {
            return;
        }
    }
    panic!("no call reaches transport-svc within its deadline");
}

/// Every status of the gateway's has details; the client's own, made when its clock has seen the deadline first, has none.
fn is_from_the_client(status: &tonic::Status) -> bool {
    status.code() == tonic::Code::Cancelled && status.details().is_empty()
}

/// A call with a deadline. True if transport-svc was reached, whose work has ended then.
async fn one_deadline(deadline: Duration) -> bool {
    let world = World::new(vec![vec![Step::Hang]]).await;
    let mut ask = tonic::Request::new(CompleteRequest { message: "Hi".into(), ..CompleteRequest::default() });
    ask.set_timeout(deadline);
    let began = Instant::now();
    let status = world.agent().await.complete(ask).await.unwrap_err();
    assert!(began.elapsed() < deadline + Duration::from_secs(20));
    if is_from_the_client(&status) {
        return false;
    }
    assert_eq!(failure_from_status(&status, "gateway").reason, Reason::Deadline);
    if world.transport.requests.lock().unwrap().is_empty() {
        return false;
    }
    eventually(|| world.transport.dropped.load(Ordering::SeqCst)).await;
    let calls = world.operator().list_calls(ListCallsRequest::default()).await.unwrap().into_inner().calls;
    assert_eq!(calls[0].error.as_ref().unwrap().reason, "DEADLINE");
    true
}

/// A streamed call with a deadline. True if transport-svc was reached, which is told then.
async fn one_deadline_of_a_stream(deadline: Duration) -> bool {
    let world = World::new(vec![vec![Step::Head, chunk(DELTA, true), Step::Hang]]).await;
    let mut ask = tonic::Request::new(RespondRequest { message: "Hi".into(), ..RespondRequest::default() });
    ask.set_timeout(deadline);
    let status = match world.agent().await.respond(ask).await {
        Err(status) => status,
        Ok(stream) => {
            let mut stream = stream.into_inner();
            loop {
                match stream.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("the stream ended without a status"),
                    Err(status) => break status,
                }
            }
        }
    };
    if is_from_the_client(&status) {
        return false;
    }
    assert_eq!(failure_from_status(&status, "gateway").reason, Reason::Deadline);
    if world.transport.requests.lock().unwrap().is_empty() {
        return false;
    }
    eventually(|| world.transport.dropped.load(Ordering::SeqCst)).await;
    trace_from_status(&status).is_some_and(|trace| trace.attempts.len() == 1)
}
