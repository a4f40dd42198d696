//! Requests and streams with what becomes of them, as files: `golden/requests/*.json` and `golden/streams/*.json`.
//!
//! A new case needs its `about` and its input only; `UPDATE_GOLDEN=1 cargo test -p gateway golden` writes the rest, to
//! be read before it is committed.

use std::path::PathBuf;

use bytes::Bytes;
use serde_json::{Value, json};

use super::answer::Whole;
use super::request::translate;
use super::stream::Chunks;
use super::wire::Fallback;
use crate::http::deltas::End;

/// Runs every case of a folder: `run` gives what stands beside its input.
fn each(folder: &str, outputs: &[&str], run: impl Fn(&Value) -> Value) {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/chat/golden")).join(folder);
    let mut count = 0;
    for entry in std::fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        let mut case: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let got = run(&case);
        count += 1;
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            outputs.iter().for_each(|name| case[*name] = got[*name].clone());
            std::fs::write(&path, format!("{case:#}\n")).unwrap();
            continue;
        }
        for name in outputs {
            assert_eq!(case[*name], got[*name], "{}: {name} is now {:#}", path.display(), got[*name]);
        }
    }
    assert!(count > 0, "no cases");
}

fn fallback() -> Fallback {
    Fallback { call_id: "call-1".to_owned(), now_s: 1_700_000_000, model: "asked-model".to_owned() }
}

#[test]
fn requests_are_translated_as_their_files_say() {
    each("requests", &["responses", "dropped"], |case| {
        let (body, wanted) = translate(case["request"].to_string().as_bytes()).unwrap();
        json!({ "responses": serde_json::from_slice::<Value>(&body).unwrap(), "dropped": wanted.dropped })
    });
}

#[test]
fn streams_are_answered_as_their_files_say() {
    each("streams", &["chunks", "completion"], |case| {
        let mut chunks = Chunks::new(fallback(), case["include_usage"] == true);
        let mut whole = Whole::default();
        let mut written = String::new();
        for event in case["events"].as_array().unwrap() {
            // What is no event is a comment.
            let text = event.as_str().map_or_else(|| format!("data: {event}\n\n"), |text| format!("{text}\n\n"));
            written.push_str(&chunks.push(Bytes::from(text.clone())));
            whole.push(Bytes::from(text));
        }
        let lines: Vec<Value> = written
            .split_terminator("\n\n")
            .map(|block| match block.strip_prefix("data: ") {
                Some("[DONE]") => "[DONE]".into(),
                Some(data) => serde_json::from_str(data).unwrap(),
                None => block.into(),
            })
            .collect();
        let completion: Value = serde_json::from_str(&whole.completion(&fallback(), End::default())).unwrap();
        json!({ "chunks": lines, "completion": completion })
    });
}

/// The numbers and escapes of a schema are the caller's: they go out as they came.
#[test]
fn values_move_as_the_bytes_they_are() {
    let body = r#"{"model":"m","messages":[{"role":"user","content":"\u00fc\ud83d\ude42"}],"temperature":1.50,
        "tools":[{"type":"function","function":{"name":"f","parameters":{ "maximum":1e400, "x":1.10 }}}]}"#;
    let (translated, _) = translate(body.as_bytes()).unwrap();
    let expected = concat!(
        r#"{"model":"m","stream":false,"store":false,"#,
        r#""input":[{"type":"message","role":"user","content":[{"type":"input_text","text":"\u00fc\ud83d\ude42"}]}],"#,
        r#""tools":[{"type":"function","name":"f","parameters":{ "maximum":1e400, "x":1.10 },"strict":false}],"#,
        r#""temperature":1.50}"#
    );
    assert_eq!(String::from_utf8_lossy(&translated), expected);
}

/// A request as OpenClaw sends it, with its texts cut short.
#[test]
fn a_recorded_request_of_openclaw_is_translated() {
    let recorded: Value =
        serde_json::from_str(include_str!("../../../tests/fixtures/openclaw_completions.json")).unwrap();
    let mut request = recorded["body"].clone();
    let (body, wanted) = translate(request.to_string().as_bytes()).unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert!(wanted.stream && wanted.include_usage && wanted.dropped.is_empty(), "{wanted:?}");
    let roles: Vec<&Value> = body["input"].as_array().unwrap().iter().map(|item| &item["role"]).collect();
    assert_eq!(roles, ["system", "user", "user"]);
    let tools = request["tools"].as_array_mut().unwrap();
    assert_eq!(body["tools"].as_array().unwrap().len(), tools.len());
    assert_eq!(body["tools"][0]["parameters"], tools[0]["function"]["parameters"]);
    assert_eq!((&body["max_output_tokens"], &body["tool_choice"]), (&128_000.into(), &"auto".into()));
}
