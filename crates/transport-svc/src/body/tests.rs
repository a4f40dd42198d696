use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn codex(body: &str, hoist: bool) -> Value {
    let edited = edit(TargetKind::ChatgptCodex, hoist, "gpt-5.5", body.as_bytes()).expect("good");
    serde_json::from_slice(&edited.body).expect("JSON")
}

#[test]
fn the_rules_of_the_codex_backend() {
    let body = r#"{"model":"codex/gpt-5.5","stream":false,"store":true,"max_output_tokens":9,"metadata":{"a":1},"top_p":null,
        "temperature":0.5,"prompt_cache_retention":"24h","text":{"format":{"type":"json_object"},"verbosity":"low"},
        "service_tier":"flex","include":["x"],"input":[],"future":{"n":1e999,"esc":"\u00fc"}}"#;
    let edited = edit(TargetKind::ChatgptCodex, true, "gpt-5.5", body.as_bytes()).expect("good");
    assert_eq!(edited.dropped, ["max_output_tokens", "metadata", "temperature", "prompt_cache_retention"]);
    let sent = String::from_utf8(edited.body.to_vec()).expect("UTF-8");
    assert_eq!(
        sent,
        r#"{"model":"gpt-5.5","stream":true,"store":false,"text":{"format":{"type":"json_object"},"verbosity":"low"},"service_tier":"flex","include":["x","reasoning.encrypted_content"],"input":[],"future":{"n":1e999,"esc":"\u00fc"}}"#
    );
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
    assert_eq!(sent["input"], json!([{"role":"user","content":"hi"},{"role":"system","content":"late"}]));
    assert_eq!(codex(body, false)["input"].as_array().map(Vec::len), Some(4));
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
