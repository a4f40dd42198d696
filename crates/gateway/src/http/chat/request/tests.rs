use domain::Reason;

use super::*;

/// What comes of a body with one more field.
fn with(field: &str) -> Result<(Value, Wanted), Failure> {
    let body = format!("{{\"model\":\"m\",\"messages\":[{{\"role\":\"user\",\"content\":\"hi\"}}],{field}}}");
    translate(body.as_bytes()).map(|(body, wanted)| (serde_json::from_slice(&body).unwrap(), wanted))
}

#[test]
fn what_says_nothing_is_taken_and_what_cannot_be_asked_is_refused_by_name() {
    for (name, neutral, asking) in [
        ("n", &["1"][..], "2"),
        ("stop", &["[]", "\"\""], "[\"END\"]"),
        ("presence_penalty", &["0", "0.0"], "0.5"),
        ("frequency_penalty", &["0"], "-1"),
        ("logit_bias", &["{}"], "{\"50256\":-100}"),
        ("logprobs", &["false"], "true"),
        ("top_logprobs", &["0"], "2"),
        ("modalities", &["[\"text\"]"], "[\"text\",\"audio\"]"),
        ("audio", &[], "{\"voice\":\"alloy\",\"format\":\"wav\"}"),
        ("web_search_options", &[], "{}"),
        ("moderation", &[], "{\"model\":\"omni\"}"),
        ("functions", &["[]"], "[{\"name\":\"f\"}]"),
        ("function_call", &["\"none\"", "\"auto\""], "{\"name\":\"f\"}"),
    ] {
        for neutral in neutral.iter().chain(&["null"]) {
            let (body, wanted) = with(&format!("\"{name}\":{neutral}")).unwrap();
            assert!(body[name].is_null() && wanted.dropped.is_empty(), "{name}: {neutral}");
        }
        let refused = with(&format!("\"{name}\":{asking}")).unwrap_err();
        assert_eq!((refused.reason, refused.param.as_deref()), (Reason::Unsupported, Some(name)), "{refused}");
        assert!(refused.message.contains(name) && !refused.next_step.is_empty());
    }
    assert_eq!(LACKING.len(), 13, "each has its line above");
}

#[test]
fn a_summary_is_asked_for_with_an_effort_and_not_without() {
    for (asked, expected) in [
        ("\"reasoning_effort\":\"high\"", serde_json::json!({ "effort": "high", "summary": "auto" })),
        ("\"reasoning_effort\":\"xhigh\"", serde_json::json!({ "effort": "xhigh", "summary": "auto" })),
        ("\"reasoning_effort\":\"none\"", serde_json::json!({ "effort": "none" })),
        ("\"reasoning_effort\":null", Value::Null),
        (
            "\"reasoning_effort\":{\"effort\":\"low\",\"summary\":\"detailed\"}",
            serde_json::json!({ "effort": "low", "summary": "detailed" }),
        ),
        ("\"reasoning\":{\"effort\":\"low\",\"summary\":null}", serde_json::json!({ "effort": "low" })),
        ("\"reasoning\":{\"summary\":\"concise\"}", serde_json::json!({ "summary": "concise" })),
        ("\"reasoning\":{\"effort\":\"low\"}", serde_json::json!({ "effort": "low", "summary": "auto" })),
    ] {
        assert_eq!(with(asked).unwrap().0["reasoning"], expected, "{asked}");
    }
    assert_eq!(with("\"reasoning\":{\"max_tokens\":5}").unwrap().1.dropped, ["reasoning.max_tokens"]);
    assert_eq!(with("\"reasoning_effort\":5").unwrap_err().param.as_deref(), Some("reasoning_effort"));
}

#[test]
fn limits_and_defaults_keep_their_meaning() {
    let (body, wanted) = with("\"max_tokens\":5,\"max_completion_tokens\":7,\"store\":true").unwrap();
    assert_eq!((&body["max_output_tokens"], &body["store"]), (&7.into(), &true.into()));
    assert_eq!(wanted.limit, Some("max_completion_tokens"));
    let (body, wanted) = with("\"max_tokens\":5,\"tool_choice\":\"auto\",\"tools\":[]").unwrap();
    assert_eq!((&body["max_output_tokens"], &body["store"]), (&5.into(), &false.into()));
    assert!(body["tool_choice"].is_null() && body["tools"].is_null());
    assert_eq!(wanted.limit, Some("max_tokens"));
}

#[test]
fn faults_name_their_place() {
    for (body, reason, param) in [
        ("{}", Reason::RequestInvalid, "messages"),
        ("{\"messages\":[]}", Reason::RequestInvalid, "messages"),
        ("{\"messages\":[7]}", Reason::RequestInvalid, "messages[0]"),
        ("{\"messages\":[{\"content\":\"x\"}]}", Reason::RequestInvalid, "messages[0].role"),
        ("{\"messages\":[{\"role\":\"user\"}]}", Reason::RequestInvalid, "messages[0].content"),
        ("{\"messages\":[{\"role\":\"bot\",\"content\":\"x\"}]}", Reason::RequestInvalid, "messages[0].role"),
        ("{\"messages\":[{\"role\":\"function\",\"content\":\"x\"}]}", Reason::Unsupported, "messages[0].role"),
        (
            "{\"messages\":[{\"role\":\"assistant\",\"function_call\":{\"name\":\"f\"}}]}",
            Reason::Unsupported,
            "messages[0].function_call",
        ),
        (
            "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_audio\",\"input_audio\":{}}]}]}",
            Reason::Unsupported,
            "messages[0].content[0]",
        ),
        ("{\"messages\":[{\"role\":\"tool\",\"content\":\"x\"}]}", Reason::RequestInvalid, "messages[0].tool_call_id"),
    ] {
        let failure = translate(body.as_bytes()).unwrap_err();
        assert_eq!((failure.reason, failure.param.as_deref()), (reason, Some(param)), "{body}: {failure}");
    }
    for (field, reason, param) in [
        ("\"stream\":\"yes\"", Reason::RequestInvalid, "stream"),
        ("\"tools\":[{\"type\":\"function\"}]", Reason::RequestInvalid, "tools[0].function"),
        ("\"tools\":[{\"type\":\"web_search\"}]", Reason::Unsupported, "tools[0].type"),
        ("\"tool_choice\":7", Reason::RequestInvalid, "tool_choice"),
        ("\"response_format\":{\"type\":\"xml\"}", Reason::RequestInvalid, "response_format.type"),
        ("\"response_format\":{\"type\":\"json_schema\"}", Reason::RequestInvalid, "response_format.json_schema"),
        ("\"user\":7", Reason::RequestInvalid, "user"),
    ] {
        let failure = with(field).unwrap_err();
        assert_eq!((failure.reason, failure.param.as_deref()), (reason, Some(param)), "{field}: {failure}");
    }
}

/// The parameters of OpenAI's SDK 3.54 (`completion_create_params.py`).
const OPENAIS: &str = "messages model audio frequency_penalty function_call functions logit_bias logprobs \
    max_completion_tokens max_tokens metadata modalities moderation n parallel_tool_calls prediction presence_penalty \
    prompt_cache_key prompt_cache_options prompt_cache_retention reasoning_effort response_format safety_identifier seed \
    service_tier stop store stream_options temperature tool_choice tools top_logprobs top_p user verbosity \
    web_search_options stream";

#[test]
fn every_parameter_of_openais_stands_in_the_docs_and_none_is_unknown_here() {
    let docs = include_str!("../../../../../../docs/clients.md");
    let table = docs.split("## Chat Completions").nth(1).unwrap();
    for name in OPENAIS.split_whitespace() {
        assert!(table.contains(&format!("`{name}")), "{name} is not in docs/clients.md");
        // A value of an odd type is dropped only where the name means nothing here.
        let dropped = with(&format!("\"{name}\":[[7]]")).map(|(_, wanted)| wanted.dropped).unwrap_or_default();
        let is_hint = matches!(name, "seed" | "prediction");
        assert_eq!(dropped.contains(&name.to_owned()), is_hint, "{name}");
    }
}

/// docs/clients.md has a table of all fields, which an end-to-end test tries: none of these may be missing there.
#[test]
fn every_refused_parameter_is_documented() {
    let page = include_str!("../../../../../../docs/clients.md");
    for Lacking { name, .. } in LACKING {
        let quoted = format!("`{name}`");
        let mut rows = page.lines().filter(|line| line.split('|').nth(1).is_some_and(|cell| cell.contains(&quoted)));
        assert!(rows.any(|row| row.split('|').nth(4).is_some_and(|cell| cell.trim() == "refused")), "{name}");
    }
}
