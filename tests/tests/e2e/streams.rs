//! Bytes, text, tool calls: what the upstream says reaches the caller, and what the caller does reaches the upstream.

use std::time::{Duration, Instant};

use e2e::{Answer, Http, eventually, question, stream_question};
use futures_util::StreamExt;
use proto::gateway::v1::respond_response::Event;
use proto::gateway::v1::{CompleteRequest, RespondRequest};
use serde_json::{Value, json};

use crate::support::{CODEX, MODEL, World, streamed, whole};

/// An event stream with what differs from answer to answer made the same: random ids and times.
fn normalised(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let mut out = String::new();
    let mut rest = text.as_str();
    // Every id of the simulator's is a prefix, an underscore and letters and digits; sealed reasoning is of base64.
    let prefixes = ["resp_", "msg_", "fc_", "call_", "rs_", "\"created_at\":", "\"encrypted_content\":\""];
    while let Some((at, prefix)) = prefixes.iter().filter_map(|p| Some((rest.find(p)?, *p))).min_by_key(|(at, _)| *at) {
        let (before, after) = rest.split_at(at + prefix.len());
        out.push_str(before);
        out.push('*');
        rest = after.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || "_-.=+/:".contains(c));
    }
    out.push_str(rest);
    out
}

/// What the simulator answers to the very request that the gateway sent last.
async fn asked_directly(world: &World, token: &str, account: &str) -> Answer {
    let body = world.sim.state().requests_to(CODEX).last().and_then(|request| request.body.clone()).expect("a body");
    let request = Http::new(&world.sim.base_url(), Some(token)).request(reqwest::Method::POST, CODEX).json(&body);
    Answer::of(request.header("chatgpt-account-id", account).header("accept", "text/event-stream")).await.is(200)
}

fn tool() -> Value {
    let parameters = json!({ "type": "object", "properties": { "city": { "type": "string" } } });
    json!({ "type": "function", "name": "weather", "description": "The weather.", "parameters": parameters })
}

e2e::in_each_topology! {
    /// Byte for byte: ordinary answers, long ones, tool calls, reasoning, and events that nobody knows yet.
    async fn streamed_bytes_are_the_upstreams_own(topology) {
        let (world, login) = World::with_login().await;
        let switchboard = world.start(topology).await;
        for text in [
            "Reply exactly: OK",
            "[[sim:unknown_events]] Reply exactly: é🙂日本語",
            "[[sim:long:300:40]]",
            "[[sim:reasoning]] Think",
            "[[sim:garbage]] Reply exactly: OK",
            "[[sim:huge_event:1500000]]",
            "[[sim:incomplete]] Hello",
            "[[sim:tool {\"city\":\"Oslo\"}]]",
        ] {
            let mut body = streamed(text);
            body["tools"] = json!([tool()]);
            let through = switchboard.http().respond(&body).await.is(200);
            let direct = asked_directly(&world, &login.access_token, "acct-1").await;
            assert!(!through.cut && !direct.cut);
            assert!(
                through.header("content-type").starts_with("text/event-stream"),
                "{}",
                through.header("content-type")
            );
            assert_eq!(through.body.len(), direct.body.len(), "{text}");
            assert!(normalised(&through.body) == normalised(&direct.body), "{text}: {}", through.text());
            assert!(!through.header("x-switchboard-call-id").is_empty());
        }
    }

    /// The same request without `stream` is one JSON object: the response as the terminal event carries it.
    async fn an_assembled_answer_is_the_upstreams_response(topology) {
        let (world, _) = World::with_login().await;
        let switchboard = world.start(topology).await;
        let mut body = whole("[[sim:reasoning]] Reply exactly: OK");
        body["temperature"] = 0.5.into();
        body["metadata"] = json!({ "a": "b" });
        let answer = switchboard.http().respond(&body).await.is(200);
        assert!(answer.header("content-type").starts_with("application/json"));
        let mut dropped: Vec<_> = answer.header("x-switchboard-dropped").split(", ").collect();
        dropped.sort_unstable();
        assert_eq!(dropped, ["metadata", "temperature"]);
        let response = answer.json();
        assert_eq!((&response["object"], &response["status"]), (&"response".into(), &"completed".into()));
        assert_eq!(
            (&response["output"][0]["type"], &response["output"][1]["type"]),
            (&"reasoning".into(), &"message".into())
        );
        assert_eq!(response["output"][1]["content"][0]["text"], "OK");
        assert_eq!(response["usage"]["input_tokens"], 11);
        let sent = world.upstream().pop().and_then(|request| request.body).expect("a body");
        assert_eq!((&sent["store"], &sent["stream"], &sent["model"]), (&false.into(), &true.into(), &"gpt-5.5".into()));
        assert!(sent["include"].as_array().expect("a list").contains(&"reasoning.encrypted_content".into()), "{sent}");
        // A failure that comes before anything else is a plain error, not a stream.
        let failed = switchboard.http().respond(&whole("[[sim:overloaded]]")).await.is(503).json();
        assert_eq!(failed["error"]["code"], "server_is_overloaded", "{failed}");
    }

    /// A tool call comes as events over HTTP, as a typed event over gRPC, and its output leads to the answer.
    async fn a_tool_call_makes_its_round_trip(topology) {
        let (world, _) = World::with_login().await;
        let switchboard = world.start(topology).await;
        let ask = json!({ "type": "message", "role": "user", "content": "sim:tool" });
        let mut body = json!({ "model": MODEL, "stream": true, "tools": [tool()], "input": [ask] });
        let answer = switchboard.http().respond(&body).await.is(200);
        let events = answer.events();
        let done = events.iter().find(|event| event.kind() == "response.output_item.done").expect("an item");
        let item: Value = serde_json::from_slice(&done.data).expect("JSON");
        assert_eq!((&item["item"]["type"], &item["item"]["name"]), (&"function_call".into(), &"weather".into()));
        let call_id = item["item"]["call_id"].clone();

        let raw = RespondRequest { body_json: body.to_string(), include_raw: true, ..RespondRequest::default() };
        let mut stream = switchboard.grpc().respond(raw).await.expect("a stream").into_inner();
        let mut typed = Vec::new();
        while let Some(message) = stream.message().await.expect("no error") {
            if matches!(message.event, Some(Event::ToolCall(_))) {
                assert!(message.raw_json.as_deref().is_some_and(|json| json.contains("weather")));
            }
            typed.extend(message.event);
        }
        assert!(matches!(&typed[0], Event::Started(started) if started.provider == "openai-codex"), "{typed:?}");
        let calls: Vec<_> =
            typed.iter().filter_map(|e| if let Event::ToolCall(call) = e { Some(call) } else { None }).collect();
        assert_eq!(calls.len(), 1, "{typed:?}");
        assert_eq!(calls[0].name, "weather");
        let Some(Event::Completed(result)) = typed.last() else { panic!("it ends with the result: {typed:?}") };
        assert_eq!(result.tool_calls.len(), 1);

        let input = body["input"].as_array_mut().expect("a list");
        input.push(item["item"].clone());
        input.push(json!({ "type": "function_call_output", "call_id": call_id, "output": "rain" }));
        body["stream"] = false.into();
        let answer = switchboard.http().respond(&body).await.is(200).json();
        assert_eq!(answer["output"][0]["content"][0]["text"], "The tool answered: rain", "{answer}");
        let request = CompleteRequest { body_json: body.to_string(), include_raw: true, ..CompleteRequest::default() };
        let answer = switchboard.grpc().complete(request).await.expect("answered").into_inner();
        assert_eq!(answer.result.expect("a result").payloads[0].text, "The tool answered: rain");
        let raw: Value = serde_json::from_str(&answer.response_json.expect("the response object")).expect("JSON");
        assert_eq!(raw["object"], "response");
    }

    /// Text over gRPC comes in pieces and ends with everything that `Complete` says.
    async fn text_is_streamed_over_grpc(topology) {
        let (world, _) = World::with_login().await;
        let switchboard = world.start(topology).await;
        let request = stream_question("codex/gpt-5.5", "Reply exactly: a longer answer than four letters");
        let messages = switchboard.grpc().respond(request).await.expect("a stream").into_inner();
        let events: Vec<Event> =
            messages.filter_map(|message| async { message.expect("no error").event }).collect().await;
        let text: String = events
            .iter()
            .filter_map(|e| if let Event::TextDelta(text) = e { Some(text.as_str()) } else { None })
            .collect();
        assert_eq!(text, "a longer answer than four letters");
        let Some(Event::Completed(result)) = events.last() else { panic!("{events:?}") };
        let meta = result.meta.clone().expect("meta");
        assert_eq!((result.payloads[0].text.as_str(), meta.usage.expect("usage").output_tokens), (text.as_str(), 7));
        let mut effort = question("codex/gpt-5.5", "Hello");
        (effort.thinking, effort.session) = ("high".into(), "session-1".into());
        switchboard.grpc().complete(effort).await.expect("answered");
        let sent = world.upstream().pop().expect("a request");
        assert_eq!(sent.body.as_ref().expect("a body")["reasoning"]["effort"], "high");
        assert_eq!(sent.body.expect("a body")["prompt_cache_key"], "session-1");
    }

    /// A stream that breaks off in the middle ends for the caller with one `response.failed` that says so.
    async fn a_broken_stream_ends_with_one_failure(topology) {
        let (world, _) = World::with_login().await;
        let switchboard = world.start(topology).await;
        for (scenario, reason) in [("cut:6", "STREAM_CUT"), ("end_early:6", "STREAM_CUT")] {
            let answer =
                switchboard.http().respond(&streamed(&format!("[[sim:long:50]] [[sim:{scenario}]]"))).await.is(200);
            assert!(!answer.cut, "{scenario}");
            let failed: Vec<Value> = answer
                .events()
                .iter()
                .filter(|event| event.kind() == "response.failed")
                .map(|event| serde_json::from_slice(&event.data).expect("JSON"))
                .collect();
            assert_eq!(failed.len(), 1, "{scenario}: {}", answer.text());
            assert_eq!(failed[0]["response"]["error"]["code"], reason);
            let created: Value = serde_json::from_slice(&answer.events()[0].data).expect("JSON");
            assert_eq!(failed[0]["response"]["id"], created["response"]["id"], "the id of the response that began");
            let status =
                switchboard.grpc().complete(question(MODEL, &format!("[[sim:long:50]] [[sim:{scenario}]]"))).await;
            let failure = e2e::failure_from_status(&status.expect_err("cut"), "gateway");
            assert_eq!(failure.reason.as_str(), reason);
        }
        // Nothing that was sent and broke off is ever sent again.
        assert_eq!(world.upstream().len(), 4);
    }

    /// A caller that goes away, over HTTP or gRPC, before the headers or in mid stream, ends the upstream request.
    async fn a_caller_that_goes_away_cancels_the_upstream(topology) {
        let (world, _) = World::with_login().await;
        let switchboard = world.start(topology).await;
        let state = world.sim.state();
        let gone = |before: usize| {
            let requests = world.upstream();
            requests.len() == before
                && requests.iter().all(|request| request.client_gone())
                && state.open_streams() == 0
        };
        let endless = "[[sim:long:100000:16:20]]";

        let mut response = switchboard.http().open(&streamed(endless)).await;
        response.chunk().await.expect("no error").expect("a chunk");
        assert_eq!(state.open_streams(), 1);
        let left = Instant::now();
        drop(response);
        eventually("the upstream request of the HTTP caller has ended", || gone(1)).await;

        let mut stream =
            switchboard.grpc().respond(stream_question(MODEL, endless)).await.expect("a stream").into_inner();
        stream.message().await.expect("no error").expect("an event");
        drop(stream);
        eventually("that of the gRPC caller has ended", || gone(2)).await;

        let silent = streamed("[[sim:no_headers]]");
        let http = switchboard.http();
        let waiting = http.open(&silent);
        let _ = tokio::time::timeout(Duration::from_millis(300), waiting).await.expect_err("there is no answer");
        eventually("that of the caller who did not wait for headers has ended", || gone(3)).await;

        // Three departures; each is to be noticed within a second. The guard leaves room for a busy machine.
        assert!(left.elapsed() < Duration::from_secs(9), "{:?}", left.elapsed());

        let calls = switchboard.cli(&["calls", "list", "--json"]).await.ok().json();
        let reasons: Vec<_> = calls["calls"]
            .as_array()
            .expect("calls")
            .iter()
            .map(|c| c["error"]["reason"].as_str().unwrap_or("-").to_owned())
            .collect();
        assert_eq!(reasons, ["CANCELLED", "CANCELLED", "CANCELLED"]);
    }

    /// A caller's deadline is honoured on every hop, ends the upstream request, and is called by its name, whichever
    /// side's clock notices first.
    async fn a_deadline_that_passes_is_called_so(topology) {
        let (world, _) = World::with_login().await;
        let switchboard = world.start(topology).await;
        let mut made = 0;
        for scenario in ["[[sim:long:100000:16:20]]", "[[sim:no_headers]]"] {
            // On a slow machine a short deadline passes before the upstream is reached, and tells nothing of that hop.
            let mut deadlines = ["1", "4", "16", "64"].into_iter();
            let before = world.upstream().len();
            while world.upstream().len() < before + 2 {
                let deadline = deadlines.next().expect("no call reaches the upstream within its deadline");
                let args = ["call", "--model", MODEL, "--message", scenario, "--timeout", deadline, "--json"];
                let (one, other) = tokio::join!(switchboard.cli(&args), switchboard.cli(&args));
                for late in [one, other] {
                    assert_eq!(late.exits(1).json()["error"]["reason"], "DEADLINE");
                    made += 1;
                }
            }
        }
        eventually("all upstream requests have ended", || {
            world.upstream().iter().all(|request| request.client_gone())
        })
        .await;
        assert!(world.upstream().len() <= made, "none is made twice");
        let calls = switchboard.cli(&["calls", "list", "--failed", "--json"]).await.ok().json();
        assert_eq!(calls["calls"].as_array().map(Vec::len), Some(made), "{calls}");
    }
}
