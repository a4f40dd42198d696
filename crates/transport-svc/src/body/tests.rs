use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn edit(kind: TargetKind, hoist: bool, model: &str, body: &[u8]) -> Result<Edited, Failure> {
    super::edit(Rules { kind, compact: false, hoist, drop_reasoning: false }, model, body)
}

fn codex(body: &str, hoist: bool) -> Value {
    let edited = edit(TargetKind::ChatgptCodex, hoist, "gpt-5.5", body.as_bytes()).expect("good");
    serde_json::from_slice(&edited.body).expect("JSON")
}

#[test]
fn the_rules_of_the_codex_backend() {
    let body = r#"{"model":"codex/gpt-5.5","stream":false,"store":true,"max_output_tokens":9,"metadata":{"a":1},"top_p":null,
        "temperature":0.5,"prompt_cache_retention":"24h","user":"u","safety_identifier":"s","prompt_cache_options":{},"text":{"format":{"type":"json_object"},"verbosity":"low"},
        "service_tier":"flex","include":["x"],"input":[],"future":{"n":1e999,"esc":"\u00fc"}}"#;
    let edited = edit(TargetKind::ChatgptCodex, true, "gpt-5.5", body.as_bytes()).expect("good");
    let dropped = [
        "max_output_tokens",
        "metadata",
        "temperature",
        "prompt_cache_retention",
        "prompt_cache_options",
        "safety_identifier",
        "user",
    ];
    assert_eq!(edited.dropped, dropped);
    let sent = String::from_utf8(edited.body.to_vec()).expect("UTF-8");
    assert_eq!(
        sent,
        r#"{"model":"gpt-5.5","stream":true,"store":false,"text":{"format":{"type":"json_object"},"verbosity":"low"},"service_tier":"flex","include":["x","reasoning.encrypted_content"],"input":[],"future":{"n":1e999,"esc":"\u00fc"}}"#
    );
}

#[test]
fn what_needs_stored_responses_is_refused_by_the_codex_backend_alone() {
    for (field, value) in
        [("previous_response_id", json!("r")), ("conversation", json!({})), ("background", json!(true))]
    {
        let body = json!({ "input": [], field: value }).to_string();
        let refused = edit(TargetKind::ChatgptCodex, true, "m", body.as_bytes()).expect_err("refused");
        assert_eq!((refused.reason, refused.param.as_deref()), (Reason::Unsupported, Some(field)));
        let passed = edit(TargetKind::OpenaiApi, true, "m", body.as_bytes()).expect("good");
        let passed: Value = serde_json::from_slice(&passed.body).expect("JSON");
        assert_eq!(passed[field], value);
    }
}

#[test]
fn what_asks_for_nothing_is_left_out_without_a_word() {
    let body = r#"{"previous_response_id":null,"conversation":null,"background":false,"truncation":"disabled","prompt":null,
        "max_tool_calls":null,"top_logprobs":0,"input":[],"reasoning":null}"#;
    let edited = edit(TargetKind::ChatgptCodex, true, "m", body.as_bytes()).expect("good");
    assert!(edited.dropped.is_empty(), "{:?}", edited.dropped);
    assert_eq!(
        edited.body.as_ref(),
        br#"{"input":[],"reasoning":null,"model":"m","stream":true,"store":false,"include":["reasoning.encrypted_content"]}"#
    );
    assert_eq!(codex(r#"{"input":[],"truncation":"auto"}"#, true)["truncation"], "auto", "the backend has the word");
}

#[test]
fn other_targets_get_only_model_and_stream() {
    let body = r#"{"input":"hi","store":true,"temperature":1,"include":7}"#;
    for kind in [TargetKind::OpenaiApi, TargetKind::Custom] {
        let edited = edit(kind, true, "m\"1", body.as_bytes()).expect("good");
        assert_eq!(
            edited.body.as_ref(),
            br#"{"input":"hi","store":true,"temperature":1,"include":7,"model":"m\"1","stream":true}"#
        );
        assert!(edited.dropped.is_empty());
    }
}

#[test]
fn a_compaction_is_neither_streamed_nor_stored() {
    let body =
        r#"{"model":"codex/m","stream":false,"store":true,"include":[],"temperature":1,"input":"hi","tools":[]}"#;
    let compact = |kind| {
        let rules = Rules { kind, compact: true, hoist: true, drop_reasoning: false };
        super::edit(rules, "m", body.as_bytes()).expect("good")
    };
    let edited = compact(TargetKind::ChatgptCodex);
    assert_eq!(edited.dropped, ["store", "include", "temperature"]);
    let sent: Value = serde_json::from_slice(&edited.body).expect("JSON");
    let input = json!([{ "type": "message", "role": "user", "content": [{ "type": "input_text", "text": "hi" }] }]);
    assert_eq!((&sent["model"], &sent["input"], &sent["tools"]), (&"m".into(), &input, &json!([])));
    assert_eq!(sent.as_object().map(serde_json::Map::len), Some(3), "{sent}");
    let elsewhere = compact(TargetKind::Custom);
    assert_eq!(elsewhere.body, body.replace("codex/m", "m"));
}

#[test]
fn include_is_completed_and_never_doubled() {
    let include = |text: &str| codex(&format!(r#"{{"include":{text}}}"#), false)["include"].clone();
    let wanted = json!(["reasoning.encrypted_content"]);
    assert_eq!(include("null"), wanted);
    assert_eq!(include("[ ]"), wanted);
    assert_eq!(include(r#"["reasoning.encrypted_content"]"#), wanted);
    assert_eq!(include(r#"[ "a]" ]"#), json!(["a]", "reasoning.encrypted_content"]));
    let refused = edit(TargetKind::ChatgptCodex, false, "m", br#"{"include":"a"}"#).expect_err("no list");
    assert_eq!((refused.reason, refused.param.as_deref()), (Reason::RequestInvalid, Some("include")));
}

#[test]
fn leading_system_text_becomes_instructions() {
    let body = r#"{"input":[{"role":"system","content":"one"},
        {"type":"message","role":"developer","content":[{"type":"input_text","text":"two"},{"type":"input_text","text":"three"}]},
        {"role":"user","content":"hi"},{"role":"system","content":"late"}]}"#;
    let sent = codex(body, true);
    assert_eq!(sent["instructions"], "one\n\ntwo\nthree");
    let late = json!({"role":"developer","content":"late"});
    assert_eq!(sent["input"], json!([{"role":"user","content":"hi"}, late]), "the backend takes no system message");
    let (asked, sent): (Value, _) = (serde_json::from_str(body).unwrap(), codex(body, false));
    assert_eq!(sent["input"], asked["input"], "a Codex client's own are left as they are");
    let beside = r#"{"instructions":"mine","input":[{"type":"message","role":"system","content":"one","x":1e999},{"type":"other","role":"system"}]}"#;
    let edited = edit(TargetKind::ChatgptCodex, true, "m", beside.as_bytes()).expect("good");
    let sent = String::from_utf8(edited.body.to_vec()).expect("UTF-8");
    let input =
        r#""input":[{"type":"message","role":"developer","content":"one","x":1e999},{"type":"other","role":"system"}]"#;
    assert!(sent.contains(input), "{sent}");
}

#[test]
fn what_is_not_hoisted() {
    let given = r#"{"instructions":"mine","input":[{"role":"system","content":"one"},{"role":"user","content":"hi"}]}"#;
    assert_eq!(codex(given, true)["instructions"], "mine");
    assert_eq!(codex(given, true)["input"].as_array().map(Vec::len), Some(2));
    let image = r#"{"input":[{"role":"system","content":[{"type":"input_image","image_url":"x"}]},{"role":"user","content":"hi"}]}"#;
    assert_eq!(codex(image, true).get("instructions"), None);
    let only = r#"{"input":[{"role":"system","content":"one"}]}"#;
    assert_eq!(codex(only, true)["input"].as_array().map(Vec::len), Some(1));
    let empty = r#"{"instructions":null,"input":[{"role":"system","content":"one"},{"role":"user","content":"hi"}]}"#;
    assert_eq!(codex(empty, true)["instructions"], "one");
}

#[test]
fn a_text_input_becomes_a_list() {
    let sent = codex(r#"{"input":"say \"hi\""}"#, true);
    assert_eq!(sent["input"][0]["content"][0]["text"], "say \"hi\"");
    assert_eq!(sent["input"][0]["role"], "user");
}

#[test]
fn bad_bodies_are_named() {
    for (body, text) in [
        (&b"[1]"[..], "not an object"),
        (b"\"secret\"", "not an object"),
        (b"{\"a\":", "not a JSON object"),
        (b"{\"a\":1} x", "trailing characters"),
        (b"", "not a JSON object"),
        (b"{\"a\":\"\xff\"}", "not UTF-8: byte 6"),
        (br#"{"model":"a","model":"b"}"#, "\"model\" twice"),
    ] {
        let failure = edit(TargetKind::ChatgptCodex, true, "m", body).expect_err(text);
        assert_eq!(failure.reason, Reason::RequestInvalid);
        assert!(failure.message.contains(text) && !failure.message.contains("secret"), "{}", failure.message);
    }
}

#[test]
fn refused_reasoning_goes_whole_and_all_else_keeps_its_bytes() {
    let body = r#"{"input":[{"role":"user","content":"\u0041"}, {"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"gAAA"},
        {"type":"message","role":"assistant","content":[ {"type":"output_text","text":"OK"} ]},{"type":"reasoning","summary":[{"text":"s"}],"encrypted_content":null},
        {"type":"compaction","encrypted_content":"gBBB"},{"role":"user","content":"more"}],"n":1e999}"#;
    for (kind, drops) in
        [(TargetKind::ChatgptCodex, true), (TargetKind::OpenaiApi, true), (TargetKind::ChatgptCodex, false)]
    {
        let rules = Rules { kind, compact: false, hoist: true, drop_reasoning: drops };
        let edited = super::edit(rules, "m", body.as_bytes()).expect("good");
        let sent = String::from_utf8(edited.body.to_vec()).expect("UTF-8");
        assert_eq!(sent.contains("gAAA"), !drops);
        assert!(sent.contains("gBBB") && sent.contains(r#"[ {"type":"output_text","text":"OK"} ]"#), "{sent}");
        assert!(sent.contains(r#"{"role":"user","content":"\u0041"}"#) && sent.contains("1e999"), "{sent}");
        let dropped: &[&str] = if drops { &["input[].encrypted_content"] } else { &[] };
        assert_eq!(edited.dropped, dropped);
        // What is left holds a reasoning item and a compaction: the cheap look cannot tell, and need not.
        assert!(edited.holds_reasoning);
    }
}

#[test]
fn reasoning_is_dropped_only_where_there_is_some() {
    let drop = |body: &str| {
        let rules = Rules { kind: TargetKind::ChatgptCodex, compact: false, hoist: false, drop_reasoning: true };
        super::edit(rules, "m", body.as_bytes()).expect("good")
    };
    for body in [
        r#"{"input":"say \"reasoning\" and \"encrypted_content\""}"#,
        r#"{"input":[{"role":"user","content":"hi"}],"include":["reasoning.encrypted_content"]}"#,
        r#"{"input":[{"type":"compaction","encrypted_content":"g"}]}"#,
        r#"{"input":7}"#,
        "{}",
    ] {
        let edited = drop(body);
        assert!(edited.dropped.is_empty() && !edited.holds_reasoning, "{body}");
    }
    let all = drop(r#"{"input":[{"type":"reasoning","encrypted_content":"g"},{"role":"user","content":"hi"}]}"#);
    assert!(!all.holds_reasoning, "a second refusal has nothing left to drop");
}

proptest! {
    /// Whatever the values are, a field that no rule names goes out as it came in.
    #[test]
    fn untouched_fields_keep_their_bytes(values in proptest::collection::vec(any::<i64>(), 0..8), pad in " {0,3}") {
        let fields: Vec<String> = values.iter().enumerate().map(|(i, v)| format!("\"f{i}\":{pad}[{v},{pad}\"\\u0041\"]")).collect();
        let body = format!("{{{}}}", fields.join(","));
        let edited = edit(TargetKind::Custom, true, "m", body.as_bytes()).expect("good");
        let sent = String::from_utf8(edited.body.to_vec()).expect("UTF-8");
        for v in values {
            let value = format!("[{v},{pad}\"\\u0041\"]");
            prop_assert!(sent.contains(&value));
        }
    }
}

/// docs/clients.md has a table of all fields, which an end-to-end test tries: none of these may be missing there.
#[test]
fn every_dropped_field_is_documented() {
    let page = include_str!("../../../../docs/clients.md");
    let column = |line: &str, n: usize| line.split('|').nth(n).unwrap_or_default().trim().to_owned();
    for (names, place) in [(DROPPED, 2), (DROPPED, 3), (NOT_COMPACT, 3)] {
        for name in names {
            let row = page
                .lines()
                .find(|line| column(line, 1).contains(&format!("`{name}`")) && line.matches('|').count() == 6);
            assert_eq!(row.map(|row| column(row, place)).as_deref(), Some("dropped"), "{name}");
        }
    }
}
