//! What OpenAI's SDKs do with Chat Completions, by `chat.py` and `chat.mjs`.

use e2e::Topology;
use serde_json::{Value, json};

use crate::sdk::Sdk;
use crate::{Place, outcome};

in_each_topology! {
    async fn python_chats(topology) {
        the_sdk_chats(Sdk::Python, topology).await;
    }

    async fn node_chats(topology) {
        the_sdk_chats(Sdk::Node, topology).await;
    }
}

async fn the_sdk_chats(sdk: Sdk, topology: Topology) {
    let place = Place::start(topology).await;
    let seen = place.sdk(sdk, "chat", &[]).await;
    answers_are_good(&seen);
    tools_make_the_round_trip(&seen);
    failures_are_raised_as_the_sdk_knows_them(&seen);

    let sent = place.upstream();
    let body = |n: usize| sent[n].body.clone().expect("a body");
    assert_eq!((&body(0)["instructions"], &body(0)["store"]), (&"Be brief.".into(), &false.into()));
    for field in ["user", "temperature", "max_output_tokens", "messages"] {
        assert!(body(0)[field].is_null(), "{field} went upstream");
    }
    let any = |what: fn(&Value) -> bool| sent.iter().any(|request| request.body.as_ref().is_some_and(what));
    assert!(any(|body| body["text"]["format"]["type"] == "json_schema"));
    assert!(any(|body| body["reasoning"] == json!({ "effort": "high", "summary": "auto" })));
    assert!(any(|body| body["input"][0]["content"][1]["type"] == "input_image"));

    // Nothing that cannot help is asked twice.
    let reasons: Vec<String> = place.outcomes().await.into_iter().map(|(_, _, reason)| reason).collect();
    for (reason, times) in [("ROUTE_UNKNOWN", 1), ("UNSUPPORTED", 1), ("USAGE_LIMIT", 1), ("CONTEXT_TOO_LONG", 1)] {
        assert_eq!(reasons.iter().filter(|one| *one == reason).count(), times, "{reasons:?}");
    }
    assert!(place.outcomes().await.contains(&outcome("http", "error", "STREAM_CUT")));
}

fn answers_are_good(seen: &Value) {
    let whole = &seen["whole"];
    assert_eq!((&whole["object"], &whole["model"]), (&"chat.completion".into(), &"gpt-5.5".into()), "{whole:#}");
    let choice = &whole["choices"][0];
    assert_eq!((&choice["message"]["content"], &choice["finish_reason"]), (&"OK".into(), &"stop".into()));
    assert_eq!(whole["usage"]["completion_tokens_details"]["reasoning_tokens"], 2, "{whole:#}");
    assert_eq!(seen["dropped"], "max_tokens, seed");
    let (plain, counted) = (&seen["plain"], &seen["with_usage"]);
    assert_eq!(
        (&plain["text"], &plain["finish"], &plain["usage"]),
        (&"one two three".into(), &"stop".into(), &Value::Null)
    );
    assert_eq!(plain["ids"].as_array().map(Vec::len), Some(1), "{plain}");
    assert_eq!((&counted["usage"]["total_tokens"], &counted["text"]), (&18.into(), &"OK".into()), "{counted}");
    assert_eq!(seen["helper"], "helper");
    assert!(seen["helper_events"].as_array().is_some_and(|events| events.contains(&"content.done".into())), "{seen:#}");
    assert_eq!((&seen["json"], &seen["image"]), (&"{\"a\":1}".into(), &"seen".into()));
    let reasoning = &seen["reasoning"];
    assert_eq!(
        (&reasoning["reasoning"], &reasoning["text"]),
        (&"**Thinking of it**\n\nIt is simple.".into(), &"OK".into())
    );
    assert_eq!(
        (&seen["refused"]["refusal"], &seen["refused"]["text"]),
        (&"I cannot help with that.".into(), &"".into())
    );
    assert_eq!((&seen["stopped"], &seen["filtered"]), (&"length".into(), &"content_filter".into()));
}

fn tools_make_the_round_trip(seen: &Value) {
    let arguments = json!([r#"{"cmd":"echo 0","n":0}"#, r#"{"cmd":"echo 1","n":1}"#]);
    assert_eq!(seen["parallel"], json!({ "arguments": arguments, "finish": "tool_calls" }));
    assert_eq!((&seen["parallel_whole"], &seen["helper_calls"]), (&arguments, &arguments));
    assert_eq!(seen["round_trip"], "The tool answered: output 0\noutput 1");
}

fn failures_are_raised_as_the_sdk_knows_them(seen: &Value) {
    for (name, class, code, reason) in [
        ("unknown", "BadRequestError", "model_not_found", "ROUTE_UNKNOWN"),
        ("limit", "RateLimitError", "usage_limit_reached", "USAGE_LIMIT"),
        ("too_long", "BadRequestError", "context_length_exceeded", "CONTEXT_TOO_LONG"),
        ("stranger", "AuthenticationError", "invalid_api_key", "AGENT_KEY_INVALID"),
    ] {
        let error = &seen[name];
        assert_eq!((&error["class"], &error["reason"]), (&class.into(), &reason.into()), "{error:#}");
        assert_eq!(error["code"], code, "{error:#}");
    }
    assert_eq!((&seen["choices"]["param"], &seen["choices"]["reason"]), (&"n".into(), &"UNSUPPORTED".into()));
    // An error within a stream has no status, and so no class of its own.
    let cut = &seen["cut"];
    assert_eq!((&cut["class"], &cut["reason"]), (&"APIError".into(), &"STREAM_CUT".into()), "{cut:#}");
}
