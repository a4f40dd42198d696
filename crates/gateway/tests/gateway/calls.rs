//! Calls that are answered, by every face.

use futures_util::StreamExt;
use proto::gateway::v1::respond_response::Event;
use proto::gateway::v1::{CompleteRequest, GetCallRequest, ListCallsRequest, RespondRequest};
use serde_json::Value;

use crate::script::{FULL, MINIMAL, TOOL, answers};
use crate::world::{World, body, outcomes};

#[tokio::test]
async fn a_stream_passes_byte_by_byte() {
    let world = World::new(vec![]).await;
    let response = world.post(true).await;
    assert_eq!(response.status(), 200);
    let header = |name: &str| response.headers().get(name).map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
    assert_eq!(header("content-type"), "text/event-stream");
    assert_eq!(header("x-request-id"), "req-1");
    assert_eq!(header("openai-model"), "gpt-5.5");
    assert_eq!(header("x-switchboard-dropped"), "temperature");
    assert!(header("server-timing").contains("router-svc.resolve;dur="), "{}", header("server-timing"));
    assert_eq!(header("traceparent").len(), 55);
    let call_id = header("x-switchboard-call-id");
    assert_eq!(response.text().await.unwrap(), FULL);

    let sent = world.transport.requests.lock().unwrap()[0].clone();
    assert_eq!(sent.body, body(true).to_string().as_bytes(), "the body is passed as it came");
    assert_eq!((sent.upstream_model.as_str(), sent.target.as_str()), ("gpt-5.5", "chatgpt-codex"));
    assert_eq!(sent.credential.unwrap().call_id, call_id);

    let record = world.record(&call_id).await;
    let trace = &record["executionTrace"];
    assert_eq!(record["status"], "ok");
    assert_eq!(trace["winnerProvider"], "openai-codex");
    assert_eq!(trace["winnerModel"], "gpt-5.5");
    assert_eq!((&trace["fallbackUsed"], &trace["routeTable"]), (&Value::Bool(false), &"digest-1".into()));
    assert_eq!(trace["requestedModel"], "codex/gpt-5.5");
    assert_eq!(outcomes(&record), [("main".into(), "success".into(), "-".into())]);
    assert_eq!(trace["attempts"][0]["upstreamRequestId"], "req-1");
    assert_eq!(record["usage"]["inputTokens"], 11);
    let hops: Vec<String> = trace["hops"]
        .as_array()
        .unwrap()
        .iter()
        .map(|h| format!("{} {}", h["service"].as_str().unwrap(), h["name"].as_str().unwrap()))
        .collect();
    assert_eq!(
        hops,
        [
            "gateway call",
            "auth-svc verify_key",
            "router-svc resolve",
            "auth-svc bind",
            "transport-svc respond",
            "upstream POST /backend-api/codex/responses"
        ]
    );
    assert_eq!(trace["hops"][5]["host"], "chatgpt.com");
    assert_eq!(trace["hops"][5]["spanId"], "00000000000000aa");
    assert_eq!(trace["hops"][2]["host"], service_kit::hostname());
}

#[tokio::test]
async fn without_stream_the_object_is_assembled() {
    let world = World::new(vec![answers(FULL), answers(MINIMAL)]).await;
    for expected in ["MOCK ANSWER", "MINIMAL ANSWER"] {
        let response = world.http("POST", "/backend-api/codex/responses").json(&body(false)).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "application/json");
        assert_eq!(response.headers()["x-switchboard-dropped"], "temperature");
        assert!(response.headers()["server-timing"].to_str().unwrap().contains("upstream;dur="));
        let object: Value = response.json().await.unwrap();
        assert_eq!(object["id"], "resp_1");
        assert_eq!(object["output"][0]["content"][0]["text"], expected);
    }
}

#[tokio::test]
async fn complete_answers_whole() {
    let world = World::new(vec![answers(TOOL), answers(FULL)]).await;
    let mut client = world.agent().await;
    let ask = CompleteRequest {
        model: "codex/gpt-5.5".into(),
        message: "Reply exactly: OK".into(),
        include_raw: true,
        ..CompleteRequest::default()
    };
    let response = client.complete(ask.clone()).await.unwrap();
    let call_id = response.metadata().get("x-switchboard-call-id").unwrap().to_str().unwrap().to_owned();
    let answer = response.into_inner();
    assert_eq!(answer.status, "ok");
    let result = answer.result.unwrap();
    assert_eq!(result.tool_calls[0].name, "exec_command");
    let meta = result.meta.unwrap();
    assert_eq!(meta.execution_trace.unwrap().call_id, call_id);
    assert_eq!(meta.usage.map(|u| (u.input_tokens, u.reasoning_tokens)), Some((11, 2)));
    assert_eq!((meta.response_id.as_deref(), meta.dropped), (Some("resp_1"), vec!["temperature".to_owned()]));
    let object: Value = serde_json::from_str(&answer.response_json.unwrap()).unwrap();
    assert_eq!(object["output"][0]["type"], "function_call");

    let texts = client.complete(ask).await.unwrap().into_inner().result.unwrap().payloads;
    assert_eq!(texts.iter().map(|p| p.text.as_str()).collect::<Vec<_>>(), ["MOCK ANSWER"]);
    let record = client.get_call(GetCallRequest { call_id }).await.unwrap().into_inner().call.unwrap();
    assert_eq!((record.agent.as_str(), record.face.as_str(), record.status.as_str()), ("main", "grpc", "ok"));
    let calls = client.list_calls(ListCallsRequest::default()).await.unwrap().into_inner().calls;
    assert_eq!(calls.len(), 2);
}

#[tokio::test]
async fn respond_streams_typed_events() {
    let world = World::new(vec![answers(FULL)]).await;
    let ask = RespondRequest { message: "Hi".into(), include_raw: true, ..RespondRequest::default() };
    let stream = world.agent().await.respond(ask).await.unwrap().into_inner();
    let events: Vec<_> = stream.map(Result::unwrap).collect().await;
    let Some(Event::Started(started)) = &events[0].event else { panic!("{events:?}") };
    assert_eq!((started.provider.as_str(), started.model.as_str()), ("openai-codex", "gpt-5.5"));
    let texts: Vec<_> = events
        .iter()
        .filter_map(|e| match &e.event {
            Some(Event::TextDelta(text)) => Some(text.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(texts, ["MOCK ANSWER"]);
    assert!(events[1].raw_json.as_deref().is_some_and(|raw| FULL.contains(raw)));
    let Some(Event::Completed(result)) = &events.last().unwrap().event else { panic!("{events:?}") };
    assert_eq!(result.payloads[0].text, "MOCK ANSWER");
    let trace = result.meta.as_ref().unwrap().execution_trace.as_ref().unwrap();
    assert_eq!(trace.call_id, started.call_id);
    assert_eq!(trace.requested_model, "", "the caller named none");
}

#[tokio::test]
async fn headers_pass_by_the_allow_list_and_name_the_session() {
    let world = World::new(vec![]).await;
    let request = world.http("POST", "/v1/responses").json(&body(true));
    let request = request.header("session-id", "s-1").header("x-codex-window-id", "w").header("cookie", "a=b");
    request.header("chatgpt-account-id", "stolen").header("x-stainless-os", "Linux").send().await.unwrap();
    let sent = world.transport.requests.lock().unwrap()[0].headers.clone();
    let mut names: Vec<&str> = sent.iter().map(|h| h.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["session-id", "x-codex-window-id"]);
    assert_eq!(world.auth.binds.lock().unwrap()[0].wanted.as_ref().unwrap().session, "s-1");
}

#[tokio::test]
async fn a_callers_trace_is_continued() {
    let world = World::new(vec![]).await;
    let parent = "00-99f592d9d5f315d65cc35e0c6d6e8ceb-33cb6276c9d33027-01";
    let request = world.http("POST", "/v1/responses").json(&body(true));
    let response = request.header("traceparent", parent).header("tracestate", "").send().await.unwrap();
    assert!(response.headers()["traceparent"].to_str().unwrap().starts_with(&parent[..35]));
    let record = world.record_of(&response).await;
    assert_eq!(record["executionTrace"]["traceId"], &parent[3..35]);
}
