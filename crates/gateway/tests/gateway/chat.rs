//! Chat Completions over HTTP: what goes to the upstream, and what comes of its answers and failures.

use std::sync::atomic::Ordering;

use domain::Reason;
use proto::transport::v1::Sent;
use serde_json::{Value, json};

use crate::script::{FULL, MINIMAL, Step, TOOL, answers, chunk, failed, fails_early, refuses};
use crate::world::{World, eventually};

fn request(stream: bool) -> Value {
    json!({ "model": "codex/gpt-5.5", "stream": stream, "max_tokens": 100, "seed": 7,
        "messages": [{ "role": "user", "content": "Reply exactly: OK" }] })
}

async fn ask(world: &World, body: &Value) -> reqwest::Response {
    world.http("POST", "/v1/chat/completions").json(body).send().await.unwrap()
}

/// The chunks of a stream; a block that is no JSON stays text.
fn chunks(text: &str) -> Vec<Value> {
    assert!(text.ends_with("\n\n"), "{text}");
    let data = text.split_terminator("\n\n").filter_map(|block| block.strip_prefix("data: "));
    data.map(|data| serde_json::from_str(data).unwrap_or_else(|_| data.into())).collect()
}

#[tokio::test]
async fn an_answer_is_whole_or_streamed_and_says_the_same() {
    let world = World::new(vec![answers(FULL), answers(FULL)]).await;
    let response = ask(&world, &request(false)).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/json");
    for name in ["x-switchboard-call-id", "traceparent", "server-timing"] {
        assert!(response.headers().contains_key(name), "{name}");
    }
    let whole: Value = response.json().await.unwrap();
    assert_eq!((&whole["id"], &whole["object"]), (&"chatcmpl-1".into(), &"chat.completion".into()), "{whole}");
    let choice = &whole["choices"][0];
    assert_eq!((&choice["message"]["content"], &choice["finish_reason"]), (&"MOCK ANSWER".into(), &"stop".into()));
    assert_eq!(whole["usage"]["prompt_tokens_details"]["cached_tokens"], 3);

    let mut asked = request(true);
    asked["stream_options"] = json!({ "include_usage": true });
    let response = ask(&world, &asked).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(response.headers()["x-accel-buffering"], "no");
    let record = world.record_of(&response).await;
    assert_eq!(record["callId"], response.headers()["x-switchboard-call-id"].to_str().unwrap());
    let chunks = chunks(&response.text().await.unwrap());
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    let said: String = chunks.iter().filter_map(|c| c["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(said, "MOCK ANSWER");
    assert_eq!(chunks[chunks.len() - 2]["usage"], whole["usage"]);
    assert_eq!(chunks.last(), Some(&"[DONE]".into()));

    let sent: Value = serde_json::from_slice(&world.transport.requests.lock().unwrap()[0].body).unwrap();
    assert_eq!((&sent["max_output_tokens"], &sent["store"]), (&100.into(), &false.into()), "{sent}");
    assert_eq!(sent["input"][0]["content"][0], json!({ "type": "input_text", "text": "Reply exactly: OK" }));
    assert!(sent["messages"].is_null() && sent["seed"].is_null());
}

#[tokio::test]
async fn streams_of_finished_items_only_are_enough() {
    let world = World::new(vec![answers(MINIMAL), answers(TOOL)]).await;
    let whole: Value = ask(&world, &request(false)).await.json().await.unwrap();
    assert_eq!(whole["choices"][0]["message"]["content"], "MINIMAL ANSWER");
    let chunks = chunks(&ask(&world, &request(true)).await.text().await.unwrap());
    let calls: Vec<&Value> = chunks.iter().map(|c| &c["choices"][0]["delta"]["tool_calls"][0]).collect();
    assert_eq!((&calls[1]["index"], &calls[1]["id"]), (&0.into(), &"call_1".into()));
    assert_eq!(calls[2]["function"], json!({ "arguments": "{\"cmd\": \"echo hello-from-tool\"}" }));
    assert_eq!(chunks[3]["choices"][0]["finish_reason"], "tool_calls");
}

#[tokio::test]
async fn what_was_dropped_is_told_in_the_callers_words() {
    let world = World::new(vec![]).await;
    for stream in [false, true] {
        let response = ask(&world, &request(stream)).await;
        assert_eq!(response.headers()["x-switchboard-dropped"], "temperature, max_tokens, seed");
    }
}

#[tokio::test]
async fn a_failure_before_the_answer_has_a_status_and_one_within_it_an_error() {
    let cut = |text: &str| {
        let outcome = failed(Reason::StreamCut, Some(200), Sent::Sent);
        vec![Step::Head, chunk(text, true), Step::Outcome(Box::new(outcome))]
    };
    let delta = "data: {\"type\":\"response.output_text.delta\",\"delta\":\"Hal\"}\n\n";
    for stream in [true, false] {
        let failures = vec![
            refuses(Reason::RequestRejected, 400),
            fails_early(Reason::ContextTooLong),
            refuses(Reason::UsageLimit, 429),
        ];
        let world = World::new(failures).await;
        for (status, reason) in [(400, "REQUEST_REJECTED"), (400, "CONTEXT_TOO_LONG"), (429, "USAGE_LIMIT")] {
            let response = ask(&world, &request(stream)).await;
            assert_eq!(
                (response.status().as_u16(), response.headers()["content-type"].to_str().unwrap()),
                (status, "application/json"),
                "{reason} {stream}"
            );
            let error: Value = response.json().await.unwrap();
            assert_eq!(error["error"]["reason"], reason);
        }
        let world = World::new(vec![cut(delta)]).await;
        let response = ask(&world, &request(stream)).await;
        if !stream {
            assert_eq!(response.status(), 502);
            continue;
        }
        let id = response.headers()["x-switchboard-call-id"].to_str().unwrap().to_owned();
        let chunks = chunks(&response.text().await.unwrap());
        assert_eq!(chunks[1]["choices"][0]["delta"]["content"], "Hal");
        let error = &chunks.last().unwrap()["error"];
        assert_eq!((&error["reason"], &error["call_id"]), (&"STREAM_CUT".into(), &id.as_str().into()), "no [DONE]");
    }
}

#[tokio::test]
async fn mistakes_are_refused_by_name_before_anything_is_asked() {
    let world = World::new(vec![]).await;
    for (change, reason, param) in [
        (json!({ "n": 2 }), "UNSUPPORTED", "n"),
        (json!({ "messages": [] }), "REQUEST_INVALID", "messages"),
        (json!({ "tools": [{ "type": "function", "function": {} }] }), "REQUEST_INVALID", "tools[0].function.name"),
    ] {
        let mut body = request(true);
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let response = ask(&world, &body).await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()["x-should-retry"]),
            (400, &"false".parse().unwrap())
        );
        let error: Value = response.json().await.unwrap();
        assert_eq!((&error["error"]["reason"], &error["error"]["param"]), (&reason.into(), &param.into()), "{error}");
    }
    assert_eq!(world.attempts(), 0);
    let stranger = reqwest::Client::new().post(format!("{}/v1/chat/completions", world.url)).json(&request(true));
    assert_eq!(stranger.send().await.unwrap().status(), 401);
    assert_eq!(world.http("GET", "/v1/chat/completions").send().await.unwrap().status(), 405);
}

#[tokio::test]
async fn a_response_that_says_nothing_for_long_begins_all_the_same_and_ends_with_its_caller() {
    let created = FULL.split_inclusive("\n\n").next().unwrap();
    let world = World::new(vec![vec![Step::Head, chunk(created, false), Step::Hang]]).await;
    let mut response = ask(&world, &request(true)).await;
    assert_eq!(response.status(), 200);
    let first = response.chunk().await.unwrap().unwrap();
    assert_eq!(chunks(std::str::from_utf8(&first).unwrap())[0]["choices"][0]["delta"]["role"], "assistant");
    drop(response);
    eventually(|| world.transport.dropped.load(Ordering::SeqCst)).await;
}
