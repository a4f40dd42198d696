use super::*;

const FULL: &str = include_str!("../../../tests/fixtures/full_text.sse");
const MINIMAL: &str = include_str!("../../../tests/fixtures/minimal_text.sse");
const TOOL: &str = include_str!("../../../tests/fixtures/tool_call_turn1.sse");

/// Events of the given JSON, each a chunk of its own.
fn read(events: &[serde_json::Value]) -> (Vec<Piece>, Reader) {
    let stream: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    read_stream(&stream)
}

fn read_stream(stream: &str) -> (Vec<Piece>, Reader) {
    let mut reader = Reader::default();
    let pieces = stream.split_inclusive("\n\n").flat_map(|e| reader.push(Bytes::from(e.to_owned()))).collect();
    (pieces, reader)
}

fn text(text: &str) -> Piece {
    Piece::Text(text.into())
}

fn begins(index: usize, id: &str, name: &str) -> Piece {
    let kind = ToolKind::Function;
    Piece::CallBegins(CallBegins { index, id: id.into(), name: name.into(), kind })
}

fn input(index: usize, text: &str) -> Piece {
    Piece::CallInput(index, ToolKind::Function, text.into())
}

#[test]
fn the_recorded_streams_are_read() {
    let (pieces, reader) = read_stream(FULL);
    assert_eq!(pieces, [text("MOCK ANSWER")], "a delta is not told again by its item");
    assert_eq!(reader.identity().id.as_deref(), Some("resp_1"));
    assert_eq!(reader.end().and_then(|end| end.usage).map(|u| u.output_tokens), Some(7));
    let (pieces, reader) = read_stream(MINIMAL);
    assert_eq!(pieces, [text("MINIMAL ANSWER")]);
    assert_eq!(reader.end(), Some(&End::default()));
    let (pieces, reader) = read_stream(TOOL);
    assert_eq!(pieces, [begins(0, "call_1", "exec_command"), input(0, r#"{"cmd": "echo hello-from-tool"}"#)]);
    assert_eq!(reader.calls(), 1);
}

#[test]
fn interleaved_calls_keep_their_numbers() {
    let added = |place: u64, id: &str| {
        serde_json::json!({ "type": "response.output_item.added", "output_index": place,
            "item": { "type": "function_call", "id": format!("fc_{id}"), "call_id": id, "name": "f", "arguments": "" } })
    };
    let delta = |place: u64, delta: &str| serde_json::json!({ "type": "response.function_call_arguments.delta", "output_index": place, "delta": delta });
    let named =
        serde_json::json!({ "type": "response.function_call_arguments.delta", "item_id": "fc_b", "delta": "3" });
    let done = |place: u64, id: &str, arguments: &str| {
        serde_json::json!({ "type": "response.output_item.done", "output_index": place,
            "item": { "type": "function_call", "call_id": id, "name": "f", "arguments": arguments } })
    };
    let events = [
        added(1, "a"),
        added(2, "b"),
        delta(2, "[1,"),
        delta(1, "{"),
        named,
        delta(7, "of no item"),
        done(2, "b", "[1,3]"),
        done(1, "a", "{}"),
        done(3, "c", "7"),
    ];
    let (pieces, reader) = read(&events);
    let expected = [
        begins(0, "a", "f"),
        begins(1, "b", "f"),
        input(1, "[1,"),
        input(0, "{"),
        input(1, "3"),
        input(1, "]"),
        input(0, "}"),
        begins(2, "c", "f"),
        input(2, "7"),
    ];
    assert_eq!(pieces, expected);
    assert_eq!((reader.calls(), reader.open.len()), (3, 0), "what has finished is forgotten");
}

#[test]
fn messages_and_summaries_are_told_apart() {
    let message = |place: u64, text: &str| {
        serde_json::json!({ "type": "response.output_item.done", "output_index": place,
            "item": { "type": "message", "content": [{ "type": "output_text", "text": text }] } })
    };
    assert_eq!(read(&[message(0, "One."), message(1, ""), message(2, "Two.")]).0, [text("One."), text("\n\nTwo.")]);
    let summary = |part: u64, delta: &str| {
        serde_json::json!({ "type": "response.reasoning_summary_text.delta", "output_index": 0,
            "summary_index": part, "delta": delta })
    };
    let raw = serde_json::json!({ "type": "response.reasoning_text.delta", "output_index": 0, "delta": "raw" });
    let item = |place: u64| {
        serde_json::json!({ "type": "response.output_item.done", "output_index": place, "item": { "type": "reasoning",
            "summary": [{ "text": "A" }, { "text": "B" }], "content": [{ "text": "raw" }] } })
    };
    let (pieces, _) = read(&[summary(0, "One"), summary(0, "."), summary(1, "Two"), raw, item(0), item(1)]);
    let expected = ["One", ".", "\n\nTwo", "\n\nA\n\nB"].map(|text| Piece::Reasoning(text.into()));
    assert_eq!(pieces, expected);
}

#[test]
fn refusals_custom_calls_and_late_ends_are_told() {
    let events = [
        serde_json::json!({ "type": "response.refusal.delta", "output_index": 0, "delta": "No" }),
        serde_json::json!({ "type": "response.output_item.done", "output_index": 0,
            "item": { "type": "message", "content": [{ "type": "refusal", "refusal": "No." }] } }),
        serde_json::json!({ "type": "response.output_item.added", "output_index": 1,
            "item": { "type": "custom_tool_call", "call_id": "c", "name": "patch", "input": "" } }),
        serde_json::json!({ "type": "response.custom_tool_call_input.delta", "output_index": 1, "delta": "***" }),
        serde_json::json!({ "type": "response.incomplete", "response": { "id": "resp_9", "model": "m",
            "created_at": 5.0, "service_tier": "flex", "incomplete_details": { "reason": "max_output_tokens" } } }),
    ];
    let (pieces, reader) = read(&events);
    let kind = ToolKind::Custom;
    let expected = [
        Piece::Refusal("No".into()),
        Piece::Refusal(".".into()),
        Piece::CallBegins(CallBegins { index: 0, id: "c".into(), name: "patch".into(), kind }),
        Piece::CallInput(0, kind, "***".into()),
    ];
    assert_eq!(pieces, expected);
    let end = End { incomplete: Some("max_output_tokens".into()), usage: None, service_tier: Some("flex".into()) };
    assert_eq!(reader.end(), Some(&end));
    let identity = Identity { id: Some("resp_9".into()), created: Some(5), model: Some("m".into()) };
    assert_eq!(reader.identity(), &identity);
}

#[test]
fn what_no_item_event_tells_is_in_the_response() {
    let delta = serde_json::json!({ "type": "response.output_text.delta", "output_index": 0, "delta": "Hal" });
    let whole = serde_json::json!({ "type": "response.completed", "response": { "output": [
        { "type": "message", "content": [{ "type": "output_text", "text": "Hallo" }] },
        { "type": "function_call", "call_id": "c", "name": "f", "arguments": "{}" }] } });
    let (pieces, _) = read(&[delta, whole]);
    assert_eq!(pieces, [text("Hal"), text("lo"), begins(0, "c", "f"), input(0, "{}")]);
    // What cannot be read hides nothing else.
    let (pieces, reader) = read_stream("data: {oops\n\ndata: [DONE]\n\n");
    assert!(pieces.is_empty() && reader.end().is_none());
}

#[test]
fn items_without_place_and_id_are_told_once() {
    let delta = |text: &str| serde_json::json!({ "type": "response.output_text.delta", "delta": text });
    let thought = |text: &str| serde_json::json!({ "type": "response.reasoning_text.delta", "delta": text });
    let done = |id: Option<&str>, text: &str| {
        serde_json::json!({ "type": "response.output_item.done",
            "item": { "type": "message", "id": id, "content": [{ "type": "output_text", "text": text }] } })
    };
    let pondered = serde_json::json!({ "type": "response.output_item.done", "item": { "type": "reasoning",
        "summary": [], "content": [{ "text": "hm" }] } });
    for id in [None, Some("msg_1")] {
        let events =
            [thought("h"), thought("m"), pondered.clone(), delta("a"), delta("b"), done(id, "ab."), delta("c")];
        let expected = [
            Piece::Reasoning("h".into()),
            Piece::Reasoning("m".into()),
            text("a"),
            text("b"),
            text("."),
            text("\n\nc"),
        ];
        let (pieces, reader) = read(&events);
        assert_eq!((pieces.as_slice(), reader.open.len()), (expected.as_slice(), 1), "{id:?}");
    }
}
