//! Chat Completions end to end: asked and answered in its words, over the real rules of the upstream.

use e2e::Answer;
use serde_json::{Value, json};

use crate::support::{CODEX, MODEL, World};

const PATH: &str = "/v1/chat/completions";

/// A request with the given messages.
fn request(messages: Value, stream: bool) -> Value {
    json!({ "model": MODEL, "stream": stream, "messages": messages })
}

/// A request with one message of the user's.
fn said(text: &str, stream: bool) -> Value {
    request(json!([{ "role": "user", "content": text }]), stream)
}

/// The request with more fields.
fn with(mut request: Value, fields: Value) -> Value {
    let more = fields.as_object().expect("fields").clone();
    request.as_object_mut().expect("a request").extend(more);
    request
}

/// The chunks of a streamed answer; `[DONE]` as text.
fn chunks(answer: &Answer) -> Vec<Value> {
    let of = |event: domain::sse::Event| serde_json::from_slice(&event.data).unwrap_or_else(|_| "[DONE]".into());
    answer.events().into_iter().map(of).collect()
}

/// What the deltas of a field add up to.
fn joined(chunks: &[Value], field: &str) -> String {
    chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"][field].as_str()).collect()
}

fn tools() -> Value {
    json!({ "tools": [{ "type": "function", "function": { "name": "weather", "parameters": { "type": "object" } } }] })
}

e2e::in_each_topology! {
    /// A conversation with everything in it goes by the upstream's rules, and its answer says the same streamed and whole.
    async fn a_conversation_is_answered_whole_and_streamed(topology) {
        let (world, _) = World::with_login().await;
        let switchboard = world.start(topology).await;
        let http = switchboard.http();
        let messages = json!([
            { "role": "system", "content": "Be brief." },
            { "role": "user", "content": "Hello" },
            { "role": "assistant", "content": "Hi." },
            { "role": "system", "content": "It is late." },
            { "role": "user", "content": [{ "type": "text", "text": "Reply exactly: good night" },
                { "type": "image_url", "image_url": { "url": "data:image/png;base64,AA==", "detail": "low" } }] },
        ]);
        let every = json!({ "max_completion_tokens": 50, "temperature": 0.1, "user": "u", "safety_identifier": "s",
            "metadata": { "a": "b" }, "prompt_cache_key": "session-7", "service_tier": "auto", "verbosity": "low",
            "response_format": { "type": "text" }, "n": 1, "stop": null, "top_k": 4 });
        let whole = http.post(PATH, &with(request(messages.clone(), false), every)).await.is(200);
        let dropped = "max_completion_tokens, metadata, temperature, safety_identifier, user, top_k";
        let mut told: Vec<&str> = whole.header("x-switchboard-dropped").split(", ").collect();
        let mut expected: Vec<&str> = dropped.split(", ").collect();
        told.sort_unstable();
        expected.sort_unstable();
        assert_eq!(told, expected);
        let completion = whole.json();
        assert_eq!(completion["choices"][0]["message"]["content"], "good night", "{completion}");
        assert_eq!(completion["usage"]["prompt_tokens_details"]["cached_tokens"], 3, "{completion}");

        let sent = world.upstream().pop().expect("a request");
        assert_eq!(sent.path, CODEX);
        let body = sent.body.expect("a body");
        let roles: Vec<&Value> = body["input"].as_array().expect("items").iter().map(|item| &item["role"]).collect();
        assert_eq!((&body["instructions"], roles), (&"Be brief.".into(), vec!["user", "assistant", "developer", "user"]
            .into_iter().map(Value::from).collect::<Vec<_>>().iter().collect()), "{body}");
        assert_eq!((&body["prompt_cache_key"], &body["text"]["verbosity"]), (&"session-7".into(), &"low".into()));

        let usage = json!({ "stream_options": { "include_usage": true } });
        let streamed = http.post(PATH, &with(request(messages, true), usage)).await.is(200);
        let chunks = chunks(&streamed);
        assert_eq!(joined(&chunks, "content"), "good night", "{}", streamed.text());
        assert_eq!(chunks.last(), Some(&"[DONE]".into()));
        let counted = &chunks[chunks.len() - 2];
        assert_eq!((&counted["choices"], &counted["usage"]), (&json!([]), &completion["usage"]), "{counted}");
        let record = http.get(&format!("/v1/switchboard/calls/{}", streamed.header("x-switchboard-call-id"))).await;
        assert_eq!(record.is(200).json()["usage"]["outputTokens"], 7);
    }

    /// Calls made at once keep their numbers; their outputs go back; refusals, summaries and short answers are told.
    async fn tools_refusals_reasoning_and_limits_are_told(topology) {
        let (world, _) = World::with_login().await;
        let switchboard = world.start(topology).await;
        let http = switchboard.http();
        let asked = with(said("[[sim:parallel:3]] Ask all.", true), tools());
        let streamed = chunks(&http.post(PATH, &asked).await.is(200));
        let mut arguments = vec![String::new(); 3];
        for chunk in &streamed {
            let call = &chunk["choices"][0]["delta"]["tool_calls"][0];
            let Some(index) = call["index"].as_u64() else { continue };
            arguments[index as usize].push_str(call["function"]["arguments"].as_str().unwrap_or_default());
        }
        assert_eq!(arguments, [0, 1, 2].map(|n| format!("{{\"cmd\":\"echo {n}\",\"n\":{n}}}")));
        let whole = http.post(PATH, &with(asked.clone(), json!({ "stream": false }))).await.is(200).json();
        let message = &whole["choices"][0]["message"];
        let calls = message["tool_calls"].as_array().expect("calls");
        assert_eq!((calls.len(), &whole["choices"][0]["finish_reason"]), (3, &"tool_calls".into()), "{whole}");
        let mut messages = asked["messages"].as_array().expect("messages").clone();
        messages.push(message.clone());
        messages.extend(calls.iter().map(|call| json!({ "role": "tool", "tool_call_id": call["id"], "content": "rain" })));
        let answer = http.post(PATH, &with(request(messages.into(), false), tools())).await.is(200).json();
        assert_eq!(answer["choices"][0]["message"]["content"], "The tool answered: rain\nrain\nrain", "{answer}");

        let reasoned = with(said("Reply exactly: OK [[sim:reasoning]]", true), json!({ "reasoning_effort": "low" }));
        let reasoned = chunks(&http.post(PATH, &reasoned).await.is(200));
        assert_eq!(joined(&reasoned, "reasoning_content"), "**Thinking of it**\n\nIt is simple.");
        assert_eq!(joined(&reasoned, "content"), "OK");
        let unasked = chunks(&http.post(PATH, &said("Reply exactly: OK [[sim:reasoning]]", true)).await.is(200));
        assert_eq!(joined(&unasked, "reasoning_content"), "");

        for (scenario, field, text, finish) in [
            ("refusal", "refusal", "I cannot help with that.", "stop"),
            ("minimal", "content", "four letters", "stop"),
            ("unknown_events", "content", "four letters", "stop"),
            ("incomplete", "content", "four l", "length"),
            ("incomplete:content_filter", "content", "four l", "content_filter"),
        ] {
            let prompt = format!("Reply exactly: four letters [[sim:{scenario}]]");
            let whole = http.post(PATH, &said(&prompt, false)).await.is(200).json();
            let choice = &whole["choices"][0];
            assert_eq!((&choice["message"][field], &choice["finish_reason"]), (&text.into(), &finish.into()), "{whole}");
            let streamed = http.post(PATH, &said(&prompt, true)).await.is(200);
            let chunks = chunks(&streamed);
            assert_eq!(joined(&chunks, field), text, "{scenario}: {}", streamed.text());
            assert_eq!(chunks[chunks.len() - 2]["choices"][0]["finish_reason"], finish, "{scenario}");
        }
    }

    /// Failures have a status while nothing of an answer was sent, and are an error in the stream after that.
    async fn failures_are_told_before_and_within_a_stream(topology) {
        let (world, _) = World::with_login().await;
        let switchboard = world.start(topology).await;
        let http = switchboard.http();
        for (text, status, reason) in [
            ("[[sim:context_too_long]]", 400, "CONTEXT_TOO_LONG"),
            ("[[sim:overloaded]]", 503, "UPSTREAM_OVERLOADED"),
            ("[[sim:policy]]", 400, "POLICY_REFUSED"),
        ] {
            for stream in [true, false] {
                let error = http.post(PATH, &said(text, stream)).await.is(status).json();
                assert_eq!(error["error"]["reason"], reason, "{error}");
            }
        }
        for scenario in ["cut:9", "end_early:9"] {
            let prompt = format!("[[sim:long:50]] [[sim:{scenario}]]");
            let streamed = http.post(PATH, &said(&prompt, true)).await.is(200);
            assert!(!streamed.cut, "{scenario}");
            let chunks = chunks(&streamed);
            assert!(joined(&chunks, "content").starts_with("word "), "{}", streamed.text());
            let error = &chunks.last().expect("a chunk")["error"];
            assert_eq!((&error["reason"], &error["call_id"]),
                (&"STREAM_CUT".into(), &streamed.header("x-switchboard-call-id").into()), "{error}");
            let error = http.post(PATH, &said(&prompt, false)).await.is(502).json();
            assert_eq!(error["error"]["reason"], "STREAM_CUT", "{error}");
        }
        let refused = http.post(PATH, &with(said("hi", true), json!({ "stop": ["END"] }))).await.is(400).json();
        assert_eq!((&refused["error"]["reason"], &refused["error"]["param"]), (&"UNSUPPORTED".into(), &"stop".into()));
    }
}
