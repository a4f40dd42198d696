//! Answers of other shapes than one text or one call: several calls at once, a refusal, a summary, finished items only.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::responses::{
    events::{self, Writer},
    script::{Request, callable, opening, pieces, text_item},
    validate,
};

/// Several calls of one function, whose arguments come by turns. Without a function, or once a tool has answered, a text.
pub(super) fn parallel(request: &Request<'_>, calls: usize) -> (Vec<Bytes>, Value) {
    let mut writer = Writer::default();
    let response = events::response(request.body);
    let mut out = opening(&mut writer, &response);
    let output = match callable(request).filter(|_| request.prompt.tool_output.is_none()) {
        Some((name, _)) => interleaved(&mut writer, &mut out, &name, calls),
        None => vec![text_item(&mut writer, &mut out, 0, &request.prompt.answer())],
    };
    completed(writer, out, &response, output)
}

fn interleaved(writer: &mut Writer, out: &mut Vec<Bytes>, name: &str, calls: usize) -> Vec<Value> {
    let calls: Vec<(String, String, String)> = (0..calls)
        .map(|n| {
            (events::new_id("fc"), events::new_id("call"), json!({ "cmd": format!("echo {n}"), "n": n }).to_string())
        })
        .collect();
    for (index, (id, call_id, _)) in calls.iter().enumerate() {
        let item = events::function_call(id, call_id, name, "", "in_progress");
        out.push(writer.event("response.output_item.added", json!({ "output_index": index, "item": item })));
    }
    let cut: Vec<Vec<String>> = calls.iter().map(|(_, _, arguments)| pieces(arguments)).collect();
    for turn in 0..cut.iter().map(Vec::len).max().unwrap_or(0) {
        // The later ones first: what comes first need not stand first.
        for (index, (id, _, _)) in calls.iter().enumerate().rev() {
            let Some(piece) = cut[index].get(turn) else { continue };
            let delta = json!({ "item_id": id, "output_index": index, "delta": piece });
            out.push(writer.event("response.function_call_arguments.delta", delta));
        }
    }
    let finished = |(index, (id, call_id, arguments)): (usize, &(String, String, String))| {
        let done = json!({ "item_id": id, "output_index": index, "name": name, "arguments": arguments });
        out.push(writer.event("response.function_call_arguments.done", done));
        let item = events::function_call(id, call_id, name, arguments, "completed");
        out.push(writer.event("response.output_item.done", json!({ "output_index": index, "item": item })));
        item
    };
    calls.iter().enumerate().map(finished).collect()
}

/// The conversation as one sealed item, which is what an input that ends with `compaction_trigger` asks for. What Codex CLI
/// reads of it is known, the rest of the real answer is not.
pub(super) fn compaction(request: &Request<'_>) -> (Vec<Bytes>, Value) {
    let mut writer = Writer::default();
    let response = events::response(request.body);
    let mut out = opening(&mut writer, &response);
    let sealed = validate::sealed(request.account);
    let item = json!({ "id": events::new_id("cmp"), "type": "compaction", "encrypted_content": sealed });
    for kind in ["response.output_item.added", "response.output_item.done"] {
        out.push(writer.event(kind, json!({ "output_index": 0, "item": item })));
    }
    completed(writer, out, &response, vec![item])
}

/// True if the input asks for its own compaction.
pub(super) fn asks_for_compaction(request: &Request<'_>) -> bool {
    let input = request.body.get("input").and_then(Value::as_array);
    input.and_then(|items| items.last()).is_some_and(|item| item["type"] == "compaction_trigger")
}

/// A message that says why there is no answer.
pub(super) fn refusal(request: &Request<'_>) -> (Vec<Bytes>, Value) {
    let mut writer = Writer::default();
    let response = events::response(request.body);
    let mut out = opening(&mut writer, &response);
    let (id, words) = (events::new_id("msg"), "I cannot help with that.");
    let item = events::message(&id, "in_progress", None);
    out.push(writer.event("response.output_item.added", json!({ "output_index": 0, "item": item })));
    let place = |name: &str, value: Value| {
        let mut fields = json!({ "item_id": id, "output_index": 0, "content_index": 0 });
        fields[name] = value;
        fields
    };
    let part = |text: &str| json!({ "type": "refusal", "refusal": text });
    out.push(writer.event("response.content_part.added", place("part", part(""))));
    for piece in pieces(words) {
        out.push(writer.event("response.refusal.delta", place("delta", piece.into())));
    }
    out.push(writer.event("response.refusal.done", place("refusal", words.into())));
    out.push(writer.event("response.content_part.done", place("part", part(words))));
    let mut item = events::message(&id, "completed", None);
    item["content"] = json!([part(words)]);
    out.push(writer.event("response.output_item.done", json!({ "output_index": 0, "item": item })));
    completed(writer, out, &response, vec![item])
}

/// A summary of reasoning in two parts, told by deltas; gives what the finished item says of it.
pub(super) fn summary(writer: &mut Writer, out: &mut Vec<Bytes>, id: &str) -> Value {
    let texts = ["**Thinking of it**", "It is simple."];
    for (part, text) in texts.iter().enumerate() {
        let place = |name: &str, value: Value| {
            let mut fields = json!({ "item_id": id, "output_index": 0, "summary_index": part });
            fields[name] = value;
            fields
        };
        let whole = json!({ "type": "summary_text", "text": text });
        let begun = place("part", json!({ "type": "summary_text", "text": "" }));
        out.push(writer.event("response.reasoning_summary_part.added", begun));
        for piece in pieces(text) {
            out.push(writer.event("response.reasoning_summary_text.delta", place("delta", piece.into())));
        }
        out.push(writer.event("response.reasoning_summary_text.done", place("text", (*text).into())));
        out.push(writer.event("response.reasoning_summary_part.done", place("part", whole)));
    }
    texts.iter().map(|text| json!({ "type": "summary_text", "text": text })).collect()
}

/// The least that Codex CLI takes for an answer: the finished items of `answer`, and the id of its response.
pub(super) fn minimal((_, response): (Vec<Bytes>, Value)) -> (Vec<Bytes>, Value) {
    let mut writer = Writer::default();
    let items = response["output"].as_array().map(Vec::as_slice).unwrap_or_default();
    let done = |item: &Value| writer.event("response.output_item.done", json!({ "item": item }));
    let mut out: Vec<Bytes> = items.iter().map(done).collect();
    out.push(writer.lifecycle("response.completed", &json!({ "id": response["id"] })));
    (out, response)
}

fn completed(mut writer: Writer, mut out: Vec<Bytes>, response: &Value, output: Vec<Value>) -> (Vec<Bytes>, Value) {
    let response = events::ended(response, "completed", output, Value::Null, Value::Null);
    out.push(writer.lifecycle("response.completed", &response));
    (out, response)
}
