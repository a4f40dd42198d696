//! Which bodies are refused.
//!
//! The Codex backend takes fewer fields than the public API and says so in FastAPI's shape,
//! `{"detail": …}`; what the API behind it refuses comes in OpenAI's shape.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use crate::{
    config::BodyRules,
    reply::{self, Reply},
    tokens,
};

/// The fields that Codex CLI and OpenClaw send to the Codex backend.
const CODEX_FIELDS: &[&str] = &[
    "model",
    "instructions",
    "input",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "reasoning",
    "store",
    "stream",
    "stream_options",
    "include",
    "service_tier",
    "prompt_cache_key",
    "text",
    "client_metadata",
];
/// Those of them that a compaction does not have: it is answered whole, and nothing is stored or added.
const NOT_COMPACT: &[&str] = &["store", "stream", "stream_options", "include", "tool_choice"];
/// What the public API takes in a compaction.
const OPENAI_COMPACT_FIELDS: &[&str] = &["model", "input", "instructions", "previous_response_id", "prompt_cache_key"];
/// What the public API takes on top.
const OPENAI_FIELDS: &[&str] = &[
    "background",
    "conversation",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "previous_response_id",
    "prompt",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
    "temperature",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
];
const INCLUDES: &[&str] = &[
    "reasoning.encrypted_content",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "message.output_text.logprobs",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
];
/// The start of sealed reasoning that this simulator gave out; the account's tag follows.
const SEAL: &str = "gAAAAA_sim_";

/// Sealed reasoning for an account: only the same account may send it back.
pub(crate) fn sealed(account: &str) -> String {
    format!("{SEAL}{}_{}", tokens::fingerprint(account, 16), tokens::random(96))
}

/// The rules of `/backend-api/codex/responses`.
pub(crate) fn codex(body: &Map<String, Value>, rules: &BodyRules, account: &str) -> Result<(), Reply> {
    let refuse = |text: &str| Err(reply::detail(400, text));
    if body.get("store") != Some(&Value::Bool(false)) {
        return refuse("Store must be set to false");
    }
    if body.get("stream") != Some(&Value::Bool(true)) {
        return refuse("Stream must be set to true");
    }
    for field in body.keys() {
        let unknown = rules.refuse_unknown_fields && !CODEX_FIELDS.contains(&field.as_str());
        if unknown || rules.unsupported.contains(field) {
            return refuse(&format!("Unsupported parameter: {field}"));
        }
    }
    if rules.require_instructions && body.get("instructions").and_then(Value::as_str).is_none_or(str::is_empty) {
        return refuse("Instructions are required");
    }
    codex_common(body, rules, account)?;
    if rules.check_items { unsealed_reasoning(body) } else { Ok(()) }
}

/// Nothing is stored, so reasoning that does not come sealed is unknown.
fn unsealed_reasoning(body: &Map<String, Value>) -> Result<(), Reply> {
    let input = body.get("input").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let unsealed = |item: &&Value| item["type"] == "reasoning" && !item["encrypted_content"].is_string();
    let Some(item) = input.iter().find(unsealed) else { return Ok(()) };
    let message = format!(
        "Item with id '{}' not found. Items are not persisted when `store` is set to false. \
         Try again with `store` set to true, or remove this item from your input.",
        item["id"].as_str().unwrap_or_default()
    );
    let error = json!({ "message": message, "type": "invalid_request_error", "param": "input", "code": null });
    Err(reply::json(404, &json!({ "error": error })))
}

/// The rules of `/backend-api/codex/responses/compact`.
pub(crate) fn codex_compact(body: &Map<String, Value>, rules: &BodyRules, account: &str) -> Result<(), Reply> {
    for field in body.keys() {
        let unknown = rules.refuse_unknown_fields && !CODEX_FIELDS.contains(&field.as_str());
        if unknown || NOT_COMPACT.contains(&field.as_str()) || rules.unsupported.contains(field) {
            return Err(reply::detail(400, format!("Unsupported parameter: {field}")));
        }
    }
    codex_common(body, rules, account)
}

/// The rules of `/v1/responses/compact`.
pub(crate) fn openai_compact(body: &Map<String, Value>, rules: &BodyRules, account: &str) -> Result<(), Reply> {
    match body.keys().find(|field| !OPENAI_COMPACT_FIELDS.contains(&field.as_str())) {
        Some(field) => Err(invalid("unknown_parameter", field, &format!("Unknown parameter: '{field}'."))),
        None => openai(body, rules, account),
    }
}

/// The rules that `/responses/compact` shares.
fn codex_common(body: &Map<String, Value>, rules: &BodyRules, account: &str) -> Result<(), Reply> {
    let Some(Value::Array(input)) = body.get("input") else {
        return Err(reply::detail(400, "Input must be a list"));
    };
    if input.is_empty() {
        return Err(reply::detail(400, "Input must not be empty"));
    }
    if input.iter().any(|item| item["role"] == "system") {
        return Err(reply::detail(400, "System messages are not allowed"));
    }
    let model = body.get("model").and_then(Value::as_str).unwrap_or_default();
    if !rules.models.iter().any(|known| known == model) {
        return Err(unsupported_model(model));
    }
    shared(body, input, rules, account)
}

/// The rules of `/v1/responses`.
pub(crate) fn openai(body: &Map<String, Value>, rules: &BodyRules, account: &str) -> Result<(), Reply> {
    for field in body.keys() {
        if !CODEX_FIELDS.contains(&field.as_str()) && !OPENAI_FIELDS.contains(&field.as_str()) {
            return Err(invalid("unknown_parameter", field, &format!("Unknown parameter: '{field}'.")));
        }
    }
    let Some(model) = body.get("model").and_then(Value::as_str) else {
        return Err(invalid("missing_required_parameter", "model", "Missing required parameter: 'model'."));
    };
    if !rules.models.iter().any(|known| known == model) {
        return Err(invalid("model_not_found", "model", &format!("The requested model '{model}' does not exist.")));
    }
    match body.get("input") {
        Some(Value::String(_)) => shared(body, &[], rules, account),
        Some(Value::Array(input)) => shared(body, input, rules, account),
        _ => Err(invalid("missing_required_parameter", "input", "Missing required parameter: 'input'.")),
    }
}

pub(crate) fn unsupported_model(model: &str) -> Reply {
    reply::detail(400, format!("The '{model}' model is not supported when using Codex with a ChatGPT account."))
}

pub(crate) fn invalid_encrypted_content() -> Reply {
    let message = "The encrypted content could not be verified.";
    reply::error(400, "invalid_request_error", "invalid_encrypted_content", message)
}

fn shared(body: &Map<String, Value>, input: &[Value], rules: &BodyRules, account: &str) -> Result<(), Reply> {
    include(body)?;
    tools(body)?;
    if rules.check_items {
        items(input)?;
    }
    let tag = format!("{SEAL}{}_", tokens::fingerprint(account, 16));
    let foreign = |item: &Value| {
        item["encrypted_content"].as_str().is_some_and(|sealed| sealed.starts_with(SEAL) && !sealed.starts_with(&tag))
    };
    if rules.check_sealed_content && input.iter().any(foreign) {
        return Err(invalid_encrypted_content());
    }
    Ok(())
}

fn include(body: &Map<String, Value>) -> Result<(), Reply> {
    let wanted = match body.get("include") {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::Array(wanted)) => wanted,
        Some(_) => return Err(invalid("invalid_type", "include", "Invalid type for 'include': expected an array.")),
    };
    match wanted.iter().find(|item| !item.as_str().is_some_and(|name| INCLUDES.contains(&name))) {
        Some(item) => Err(invalid("invalid_value", "include", &format!("Invalid value: {item}."))),
        None => Ok(()),
    }
}

fn tools(body: &Map<String, Value>) -> Result<(), Reply> {
    let tools = match body.get("tools") {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::Array(tools)) => tools,
        Some(_) => return Err(invalid("invalid_type", "tools", "Invalid type for 'tools': expected an array.")),
    };
    for (index, tool) in tools.iter().enumerate() {
        let missing = match tool["type"].as_str() {
            None => Some("type"),
            Some("function" | "custom") if !tool["name"].is_string() => Some("name"),
            Some(_) => None,
        };
        if let Some(field) = missing {
            let parameter = format!("tools[{index}].{field}");
            let message = format!("Missing required parameter: '{parameter}'.");
            return Err(invalid("missing_required_parameter", &parameter, &message));
        }
    }
    Ok(())
}

/// Items must be objects with sound ids, and calls and outputs must come in pairs.
fn items(input: &[Value]) -> Result<(), Reply> {
    for (index, item) in input.iter().enumerate() {
        item_form(index, item)?;
    }
    let ids = |suffix: &str| -> HashSet<&str> {
        let of_kind = |item: &&Value| item["type"].as_str().is_some_and(|kind| kind.ends_with(suffix));
        input.iter().filter(of_kind).filter_map(|item| item["call_id"].as_str()).collect()
    };
    let (calls, outputs) = (ids("_call"), ids("_call_output"));
    if let Some(call_id) = outputs.difference(&calls).next() {
        let message = format!("No tool call found for function call output with call_id {call_id}.");
        return Err(invalid("invalid_value", "input", &message));
    }
    if let Some(call_id) = calls.difference(&outputs).next() {
        return Err(invalid("invalid_value", "input", &format!("No tool output found for function call {call_id}.")));
    }
    Ok(())
}

fn item_form(index: usize, item: &Value) -> Result<(), Reply> {
    let place = format!("input[{index}]");
    if !item.is_object() {
        return Err(invalid("invalid_type", &place, &format!("Invalid type for '{place}': expected an object.")));
    }
    let kind = item["type"].as_str().unwrap_or("message");
    if kind == "message" {
        if !matches!(item["role"].as_str(), Some("user" | "assistant" | "developer" | "system")) {
            return Err(invalid("invalid_value", &place, &format!("Invalid value for '{place}.role'.")));
        }
        let parts = item["content"].as_array().map(Vec::as_slice).unwrap_or_default();
        if item["role"] == "assistant" && parts.iter().any(|part| part["type"] == "input_text") {
            let message = "Invalid value: 'input_text'. Supported values are: 'output_text' and 'refusal'.";
            return Err(invalid("invalid_value", &place, message));
        }
    }
    let prefix = match kind {
        "message" => "msg",
        "function_call" => "fc",
        "reasoning" => "rs",
        _ => return Ok(()),
    };
    match item["id"].as_str() {
        Some(id) if !id.starts_with(prefix) => {
            let message = format!("Invalid '{place}.id': '{id}'. Expected an ID that begins with '{prefix}'.");
            Err(invalid("invalid_value", &place, &message))
        }
        _ => Ok(()),
    }
}

fn invalid(code: &str, parameter: &str, message: &str) -> Reply {
    let error = json!({ "message": message, "type": "invalid_request_error", "param": parameter, "code": code });
    reply::json(400, &json!({ "error": error }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(change: Value) -> bool {
        let mut body = json!({
            "model": "gpt-5.5", "store": false, "stream": true, "include": ["reasoning.encrypted_content"],
            "input": [{ "role": "user", "content": "hi" }],
        });
        let fields = body.as_object_mut().unwrap();
        fields.extend(change.as_object().unwrap().clone());
        codex(fields, &BodyRules::default(), "acct").is_ok()
    }

    #[test]
    fn the_codex_backend_takes_what_its_clients_send_and_nothing_else() {
        assert!(verdict(json!({})));
        assert!(verdict(json!({ "text": { "verbosity": "low" }, "client_metadata": {}, "service_tier": "priority" })));
        for change in [
            json!({ "store": true }),
            json!({ "store": null }),
            json!({ "stream": false }),
            json!({ "temperature": 1 }),
            json!({ "made_up": 1 }),
            json!({ "input": "hi" }),
            json!({ "input": [] }),
            json!({ "input": [{ "role": "system", "content": "hi" }] }),
            json!({ "model": "codex/gpt-5.5" }),
            json!({ "include": ["nonsense"] }),
            json!({ "tools": [{ "type": "function" }] }),
        ] {
            assert!(!verdict(change.clone()), "{change}");
        }
    }

    #[test]
    fn calls_and_outputs_come_in_pairs() {
        let call = json!({ "type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": "{}" });
        let output = json!({ "type": "function_call_output", "call_id": "c", "output": "x" });
        assert!(verdict(json!({ "input": [call, output] })));
        assert!(!verdict(json!({ "input": [call] })));
        assert!(!verdict(json!({ "input": [output] })));
        assert!(!verdict(json!({ "input": [{ "role": "user", "id": "x_1", "content": "hi" }] })));
    }

    #[test]
    fn sealed_reasoning_belongs_to_one_account() {
        let item = |account| json!({ "type": "reasoning", "id": "rs_1", "encrypted_content": sealed(account) });
        assert!(verdict(json!({ "input": [item("acct")] })));
        assert!(!verdict(json!({ "input": [item("other")] })));
        assert!(verdict(json!({ "input": [{ "type": "reasoning", "encrypted_content": "from elsewhere" }] })));
        assert!(
            !verdict(json!({ "input": [{ "type": "reasoning", "id": "rs_1", "summary": [] }] })),
            "nothing is stored"
        );
    }
}
