//! Single events of a Responses stream, in the shapes and the order of the real one.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::tokens;

/// Writes events with their sequence numbers.
#[derive(Default)]
pub(crate) struct Writer {
    pub(crate) sequence: u64,
}

impl Writer {
    /// One event: `fields` follow the type and the sequence number.
    pub(crate) fn event(&mut self, kind: &str, fields: Value) -> Bytes {
        let mut data = Map::new();
        data.insert("type".into(), kind.into());
        data.insert("sequence_number".into(), self.sequence.into());
        self.sequence += 1;
        if let Value::Object(fields) = fields {
            data.extend(fields);
        }
        format!("event: {kind}\ndata: {}\n\n", Value::Object(data)).into()
    }

    /// An event that carries the response.
    pub(crate) fn lifecycle(&mut self, kind: &str, response: &Value) -> Bytes {
        self.event(kind, json!({ "response": response }))
    }

    /// One delta of a long text; written by hand since a benchmark needs very many.
    pub(crate) fn delta(&mut self, item_id: &str, output_index: usize, json_text: &str) -> Bytes {
        let sequence = self.sequence;
        self.sequence += 1;
        format!(
            "event: response.output_text.delta\ndata: {{\"type\":\"response.output_text.delta\",\
             \"sequence_number\":{sequence},\"item_id\":\"{item_id}\",\"output_index\":{output_index},\
             \"content_index\":0,\"delta\":{json_text},\"logprobs\":[]}}\n\n"
        )
        .into()
    }
}

/// A message item.
pub(crate) fn message(id: &str, status: &str, text: Option<&str>) -> Value {
    let content = text.map_or_else(|| json!([]), |text| json!([output_text(text)]));
    json!({ "id": id, "type": "message", "status": status, "role": "assistant", "content": content })
}

/// A content part.
pub(crate) fn output_text(text: &str) -> Value {
    json!({ "type": "output_text", "annotations": [], "logprobs": [], "text": text })
}

/// A function call item.
pub(crate) fn function_call(id: &str, call_id: &str, name: &str, arguments: &str, status: &str) -> Value {
    json!({
        "id": id, "type": "function_call", "status": status, "arguments": arguments, "call_id": call_id, "name": name,
    })
}

/// The tokens that every answer is said to have cost.
pub(crate) fn usage() -> Value {
    json!({
        "input_tokens": 11,
        "input_tokens_details": { "cached_tokens": 3 },
        "output_tokens": 7,
        "output_tokens_details": { "reasoning_tokens": 2 },
        "total_tokens": 18,
    })
}

/// A response object in progress, without output. The request's tools and instructions are not repeated:
/// nobody reads them, and they would double the traffic of a test.
pub(crate) fn response(body: &Map<String, Value>) -> Value {
    let given = |field: &str, default: Value| match body.get(field) {
        None | Some(Value::Null) => default,
        Some(value) => value.clone(),
    };
    json!({
        "id": new_id("resp"),
        "object": "response",
        "created_at": tokens::now(),
        "status": "in_progress",
        "background": false,
        "error": null,
        "incomplete_details": null,
        "instructions": null,
        "max_output_tokens": given("max_output_tokens", Value::Null),
        "model": given("model", Value::Null),
        "output": [],
        "parallel_tool_calls": given("parallel_tool_calls", true.into()),
        "previous_response_id": null,
        "prompt_cache_key": given("prompt_cache_key", Value::Null),
        "reasoning": given("reasoning", json!({ "effort": null, "summary": null })),
        "service_tier": given("service_tier", "default".into()),
        "store": given("store", true.into()),
        "temperature": given("temperature", json!(1.0)),
        "text": given("text", json!({ "format": { "type": "text" }, "verbosity": "medium" })),
        "tool_choice": given("tool_choice", "auto".into()),
        "tools": [],
        "top_p": given("top_p", json!(1.0)),
        "truncation": "disabled",
        "usage": null,
        "metadata": given("metadata", json!({})),
    })
}

/// The response as it ended. Without `output` or `error` these stay as they are.
pub(crate) fn ended(response: &Value, status: &str, output: Vec<Value>, error: Value, incomplete: Value) -> Value {
    let mut response = response.clone();
    response["status"] = status.into();
    response["output"] = output.into();
    response["usage"] = if status == "failed" { Value::Null } else { usage() };
    response["error"] = error;
    response["incomplete_details"] = incomplete;
    response
}

/// An id with the prefix of its kind.
pub(crate) fn new_id(prefix: &str) -> String {
    format!("{prefix}_{}", uuid::Uuid::new_v4().simple())
}
