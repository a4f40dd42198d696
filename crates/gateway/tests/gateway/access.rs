//! Who may call, and who sees what.

use std::sync::atomic::Ordering;
use std::time::Duration;

use domain::Reason;
use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use proto::gateway::v1::{CompleteRequest, GetCallRequest, ListCallsRequest};
use serde_json::Value;
use service_kit::failure_from_status;
use tokio_util::task::TaskTracker;

use crate::fakes::{OTHER_KEY, route};
use crate::world::{World, body, eventually};

#[tokio::test]
async fn without_a_live_key_nothing_happens() {
    let world = World::new(vec![]).await;
    for key in [None, Some("sbk_wrong"), Some("sk-of-another-service")] {
        let request = reqwest::Client::new().post(format!("{}/v1/responses", world.url)).json(&body(true));
        let request = if let Some(key) = key { request.bearer_auth(key) } else { request };
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 401, "{key:?}");
        assert_eq!(response.headers()["x-should-retry"], "false");
        assert!(response.headers().contains_key("x-switchboard-call-id"));
        let error: Value = response.json().await.unwrap();
        assert_eq!(
            (&error["error"]["code"], &error["error"]["reason"]),
            (&"invalid_api_key".into(), &"AGENT_KEY_INVALID".into())
        );
    }
    let mut stranger = world.agent_with("sbk_wrong").await;
    let status = stranger.complete(CompleteRequest { message: "Hi".into(), ..CompleteRequest::default() }).await;
    assert_eq!(status.unwrap_err().code(), tonic::Code::Unauthenticated);
    assert_eq!(
        stranger.list_calls(ListCallsRequest::default()).await.unwrap_err().code(),
        tonic::Code::Unauthenticated
    );
    assert_eq!(world.attempts(), 0);
    // A key that is none of ours is not even asked about.
    let asked = world.auth.verified.load(Ordering::SeqCst);
    assert!((1..=3).contains(&asked), "{asked} times, though what was heard within a second is not asked again");
    let calls = world.operator().list_calls(ListCallsRequest::default()).await.unwrap().into_inner().calls;
    assert!(calls.is_empty(), "strangers fill no records");
}

#[tokio::test]
async fn a_strangers_message_is_not_even_awaited() {
    let world = World::new(vec![]).await;
    let post = async |key: &str| {
        // The frame of a message of 64 MiB that never comes.
        let frame = stream::once(async { Ok::<_, std::io::Error>(vec![0, 4, 0, 0, 0]) }).chain(stream::pending());
        let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
        let url = format!("{}/switchboard.gateway.v1.GatewayService/Complete", world.url);
        let request = client.post(url).header("content-type", "application/grpc").header("te", "trailers");
        let request = request.bearer_auth(key).body(reqwest::Body::wrap_stream(frame));
        tokio::time::timeout(Duration::from_secs(2), request.send()).await
    };
    let refused = post("sbk_wrong").await.expect("at once").unwrap();
    assert_eq!(refused.headers()["grpc-status"], "16");
    assert!(refused.headers().contains_key("x-switchboard-call-id"));
    assert!(post(crate::fakes::KEY).await.is_err(), "a caller's message is waited for");
}

#[tokio::test]
async fn a_key_is_asked_about_once() {
    let world = World::new(vec![]).await;
    for _ in 0..3 {
        assert_eq!(world.post(true).await.status(), 200);
    }
    assert_eq!(world.auth.verified.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_agent_sees_its_own_calls_only() {
    let world = World::new(vec![]).await;
    let response = world.post(true).await;
    let call_id = response.headers()["x-switchboard-call-id"].to_str().unwrap().to_owned();
    response.bytes().await.unwrap();
    assert_eq!(world.record(&call_id).await["agent"], "main");
    let path = format!("{}/v1/switchboard/calls/{call_id}", world.url);
    let other = reqwest::Client::new().get(path).bearer_auth(OTHER_KEY).send().await.unwrap();
    assert_eq!(other.status(), 404);
    let mut other = world.agent_with(OTHER_KEY).await;
    let status = other.get_call(GetCallRequest { call_id: call_id.clone() }).await.unwrap_err();
    assert_eq!(failure_from_status(&status, "gateway").reason, Reason::NotFound);
    assert!(other.list_calls(ListCallsRequest::default()).await.unwrap().into_inner().calls.is_empty());
    let seen = world.operator().get_call(GetCallRequest { call_id }).await.unwrap().into_inner().call.unwrap();
    assert_eq!(seen.agent, "main");
}

#[tokio::test]
async fn only_an_operator_names_an_agent() {
    let world = World::new(vec![]).await;
    let ask = |agent: &str| CompleteRequest { message: "Hi".into(), agent: agent.into(), ..CompleteRequest::default() };
    let status = world.agent().await.complete(ask("other")).await.unwrap_err();
    assert_eq!(failure_from_status(&status, "gateway").reason, Reason::AgentNotAllowed);
    world.agent().await.complete(ask("main")).await.unwrap();
    world.operator().complete(ask("other")).await.unwrap();
    world.operator().complete(ask("")).await.unwrap();
    let agents: Vec<String> =
        world.auth.binds.lock().unwrap().iter().map(|b| b.wanted.as_ref().unwrap().agent.clone()).collect();
    assert_eq!(agents, ["main", "other", "main"]);
}

#[tokio::test]
async fn a_keys_own_models_count() {
    let world = World::new(vec![]).await;
    *world.router.routes.lock().unwrap() = vec![route("openai", "gpt-5.5", false)];
    let request = reqwest::Client::new().post(format!("{}/v1/responses", world.url)).json(&body(true));
    let response = request.bearer_auth(OTHER_KEY).send().await.unwrap();
    assert_eq!(response.status(), 400);
    let error: Value = response.json().await.unwrap();
    assert_eq!(error["error"]["code"], "model_not_allowed");
}

#[tokio::test]
async fn who_guesses_keys_keeps_no_key_waiting() {
    const GUESSES: usize = 600;
    let world = World::new(vec![]).await;
    // A key that is asked about at each use, as one is that was not used for some seconds.
    world.auth.key.lock().unwrap().expires_at = Some(1.0);
    assert_eq!(world.post(true).await.status(), 200);
    world.auth.strangers_wait.store(true, Ordering::SeqCst);
    let guessing = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let guess = |n: usize| {
        let request = guessing.get(format!("{}/v1/models", world.url)).bearer_auth(format!("sbk_guess{n}"));
        async move { request.send().await.map(|response| response.status().as_u16()) }
    };
    let guesses = TaskTracker::new().spawn(join_all((0..GUESSES).map(guess)));
    let asked = || world.auth.verified.load(Ordering::SeqCst);
    eventually(|| asked() > 10).await;
    // Those who guess have had the turns that they get by now, or get them while the others are answered.
    for _ in 0..3 {
        assert_eq!(world.post(true).await.status(), 200);
    }
    // A key that nobody has seen yet, from elsewhere.
    let elsewhere = reqwest::Client::builder().local_address(std::net::IpAddr::from([127, 0, 0, 2])).build().unwrap();
    let request = elsewhere.get(format!("{}/v1/models", world.url)).bearer_auth(OTHER_KEY);
    assert_eq!(request.send().await.unwrap().status(), 200);
    assert!(asked() < 128, "{} questions were under way before the good keys had their turns", asked());
    world.auth.strangers_wait.store(false, Ordering::SeqCst);
    for status in guesses.await.unwrap() {
        assert!([401, 503].contains(&status.unwrap()));
    }
}

#[tokio::test]
async fn a_key_that_is_none_is_not_asked_about_each_time() {
    let world = World::new(vec![]).await;
    let client = reqwest::Client::new();
    for _ in 0..100 {
        let request = client.get(format!("{}/v1/models", world.url)).bearer_auth("sbk_wrong");
        assert_eq!(request.send().await.unwrap().status(), 401);
    }
    let asked = world.auth.verified.load(Ordering::SeqCst);
    assert!((1..=50).contains(&asked), "{asked} of 100 times");
}
