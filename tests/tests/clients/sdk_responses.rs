//! What OpenAI's SDKs do with the Responses API, by `responses.py` and `responses.mjs`.

use domain::Reason;
use e2e::Topology;
use serde_json::{Value, json};

use crate::sdk::Sdk;
use crate::{Place, outcome};

in_each_topology! {
    async fn python_works(topology) {
        the_sdk_works(Sdk::Python, topology).await;
    }

    async fn node_works(topology) {
        the_sdk_works(Sdk::Node, topology).await;
    }
}

async fn the_sdk_works(sdk: Sdk, topology: Topology) {
    let place = Place::start(topology).await;
    let seen = place.sdk(sdk, "responses", &[]).await;
    answers_are_good(&seen);
    tools_make_the_round_trip(&seen);
    failures_are_raised_as_the_sdk_knows_them(&seen["errors"]);
    // What breaks in mid stream is the stream's last event, and no SDK asks again.
    assert_eq!(seen["cut_code"], "STREAM_CUT", "{seen:#}");
    requests_went_as_they_should(&place);

    // `x-should-retry: false` keeps the SDK from asking three times over. A stranger's call is nobody's record, and a
    // path that is not served no call.
    let mut outcomes = place.outcomes().await;
    outcomes.retain(|(_, status, _)| status != "ok");
    let failed = ["ROUTE_UNKNOWN", "ROUTE_UNKNOWN", "UNSUPPORTED", "CONTEXT_TOO_LONG", "POLICY_REFUSED"];
    let more = ["UPSTREAM_OVERLOADED", "STREAM_CUT", "USAGE_LIMIT"];
    let expected: Vec<_> = failed.iter().chain(&more).map(|reason| outcome("http", "error", reason)).collect();
    assert_eq!(outcomes, expected, "{seen:#}");
}

fn answers_are_good(seen: &Value) {
    assert_eq!((&seen["text"], &seen["status"], &seen["raw"]), (&"OK".into(), &"completed".into(), &"OK".into()));
    assert!(seen["output_tokens"].as_u64().is_some_and(|tokens| tokens > 0), "{seen:#}");
    assert!(!seen["call_id"].as_str().unwrap_or_default().is_empty(), "{seen:#}");
    assert_eq!(seen["dropped"], "top_p", "{seen:#}");
    let kinds = seen["kinds"].as_array().expect("kinds");
    assert_eq!((kinds.first(), kinds.last()), (Some(&"response.created".into()), Some(&"response.completed".into())));
    assert_eq!((&seen["streamed"], &seen["helper"]), (&"one two three".into(), &"helper".into()), "{seen:#}");
    assert_eq!((&seen["json"], &seen["image"]), (&1.into(), &"seen".into()), "{seen:#}");
    assert_eq!(seen["reasoning"], "**Thinking of it**\n\nIt is simple.");
    assert_eq!((&seen["sealed"], &seen["compacted"]), (&true.into(), &"compaction".into()), "{seen:#}");
    assert_eq!(seen["incomplete"], json!(["incomplete", "max_output_tokens"]));
    assert!(seen["models"].as_array().is_some_and(|all| all.contains(&"openai-codex/gpt-5.5".into())), "{seen:#}");
    assert_eq!(seen["model"], "openai-codex/gpt-5.5");
}

fn tools_make_the_round_trip(seen: &Value) {
    assert_eq!((&seen["tool"], &seen["parallel"]), (&"shell".into(), &2.into()), "{seen:#}");
    assert_eq!(seen["tool_answer"], "The tool answered: hello-from-tool");
    assert_eq!(seen["tool_streamed"], r#"{"command":["bash","-lc","echo hello-from-tool"]}"#);
}

fn failures_are_raised_as_the_sdk_knows_them(errors: &Value) {
    for (name, class, param, reason) in [
        ("unknown", "BadRequestError", "model", Reason::RouteUnknown),
        ("unknown_streamed", "BadRequestError", "model", Reason::RouteUnknown),
        ("unsupported", "BadRequestError", "previous_response_id", Reason::Unsupported),
        ("too_long", "BadRequestError", "", Reason::ContextTooLong),
        ("policy", "BadRequestError", "", Reason::PolicyRefused),
        ("nowhere", "NotFoundError", "", Reason::NotFound),
        ("overloaded", "InternalServerError", "", Reason::UpstreamOverloaded),
        ("stranger", "AuthenticationError", "", Reason::AgentKeyInvalid),
        ("limit", "RateLimitError", "", Reason::UsageLimit),
    ] {
        let (error, row) = (&errors[name], reason.row());
        let text = |field: &str| error[field].as_str().unwrap_or_default();
        let found = (text("class"), text("code"), text("type"), text("param"), text("reason"));
        assert_eq!(found, (class, row.error_code, row.error_type, param, reason.as_str()), "{name}: {error:#}");
        assert_eq!(error["status"], row.http, "{name}: {error:#}");
        assert!(!text("next_step").is_empty(), "{name}: {error:#}");
    }
}

/// What the upstream got: the target's rules, and nothing of the SDK's own.
fn requests_went_as_they_should(place: &Place) {
    let sent = place.upstream();
    let bodies: Vec<&Value> = sent.iter().filter_map(|request| request.body.as_ref()).collect();
    let first = bodies[0];
    assert_eq!((&first["instructions"], &first["store"]), (&"Be brief.".into(), &false.into()), "{first:#}");
    for field in ["temperature", "max_output_tokens", "top_p"] {
        assert!(bodies.iter().all(|body| body[field].is_null()), "{field} went upstream");
    }
    let any = |what: fn(&Value) -> bool| bodies.iter().any(|body| what(body));
    assert!(any(|body| body["text"]["format"]["type"] == "json_schema" && body["text"]["format"]["strict"] == true));
    assert!(any(|body| body["reasoning"] == json!({ "effort": "high", "summary": "auto" })));
    assert!(any(|body| body["input"][0]["content"][1]["type"] == "input_image"));
    let of_the_sdk = |(name, _): &(String, String)| name.starts_with("x-stainless");
    assert!(sent.iter().all(|request| !request.headers.iter().any(of_the_sdk)), "x-stainless-* went upstream");
}
