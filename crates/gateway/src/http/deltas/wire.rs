//! The fields of Responses events that are read. An odd value hides no more than itself where it can be helped.

use domain::Usage;
use serde::Deserialize;
use serde_json::Value;

use super::{End, ToolKind};

/// A `….delta` event.
#[derive(Deserialize)]
pub(super) struct Delta {
    pub(super) delta: String,
    #[serde(default)]
    pub(super) output_index: Option<u64>,
    #[serde(default)]
    pub(super) item_id: Option<String>,
    #[serde(default)]
    pub(super) content_index: Option<u64>,
    #[serde(default)]
    pub(super) summary_index: Option<u64>,
}

/// `response.output_item.added` and `.done`.
#[derive(Deserialize)]
pub(super) struct ItemEvent {
    #[serde(default)]
    pub(super) output_index: Option<u64>,
    pub(super) item: Item,
}

/// An item of the output.
#[derive(Deserialize)]
pub(super) struct Item {
    #[serde(rename = "type", default)]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) id: Option<String>,
    #[serde(default)]
    pub(super) call_id: Option<String>,
    #[serde(default)]
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) arguments: Option<String>,
    #[serde(default)]
    pub(super) input: Option<String>,
    #[serde(default)]
    content: Option<Vec<Part>>,
    #[serde(default)]
    summary: Option<Vec<Part>>,
}

#[derive(Deserialize)]
struct Part {
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    refusal: Option<String>,
}

impl Item {
    /// What kind of tool it calls, if it is a call for the caller to make.
    pub(super) fn tool(&self) -> Option<ToolKind> {
        match self.kind.as_str() {
            "function_call" => Some(ToolKind::Function),
            "custom_tool_call" => Some(ToolKind::Custom),
            _ => None,
        }
    }

    /// The text of a message.
    pub(super) fn text(&self) -> String {
        self.content.iter().flatten().filter_map(|part| part.text.as_deref()).collect()
    }

    /// The refusal in a message.
    pub(super) fn refusal(&self) -> String {
        self.content.iter().flatten().filter_map(|part| part.refusal.as_deref()).collect()
    }

    /// The parts of the summary, or of the reasoning itself where there is none.
    pub(super) fn reasoning(&self, between: &str) -> String {
        let texts = |parts: &Option<Vec<Part>>| -> Vec<String> {
            parts.iter().flatten().filter_map(|part| part.text.clone()).filter(|text| !text.is_empty()).collect()
        };
        let summary = texts(&self.summary);
        if summary.is_empty() { texts(&self.content).join(between) } else { summary.join(between) }
    }
}

/// An event that carries the response.
#[derive(Default, Deserialize)]
pub(super) struct Ending {
    #[serde(default)]
    pub(super) response: Option<Response>,
}

/// The response, but for its output.
#[derive(Deserialize)]
pub(super) struct Response {
    #[serde(default)]
    pub(super) id: Option<String>,
    /// Unix seconds.
    #[serde(default, deserialize_with = "seconds")]
    pub(super) created_at: Option<i64>,
    #[serde(default)]
    pub(super) model: Option<String>,
    #[serde(default)]
    service_tier: Option<String>,
    #[serde(default)]
    usage: Value,
    #[serde(default)]
    incomplete_details: Value,
}

/// Some servers write times as decimals.
fn seconds<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    Ok(value.as_i64().or_else(|| value.as_f64().map(|seconds| seconds as i64)))
}

impl Response {
    /// How it ended.
    pub(super) fn end(&self, incomplete: bool) -> End {
        let reason = || self.incomplete_details["reason"].as_str().unwrap_or_default().to_owned();
        End { incomplete: incomplete.then(reason), usage: usage(&self.usage), service_tier: self.service_tier.clone() }
    }
}

fn usage(usage: &Value) -> Option<Usage> {
    let count = |value: &Value| value.as_u64().map_or(0, |n| u32::try_from(n).unwrap_or(u32::MAX));
    usage.is_object().then(|| Usage {
        input_tokens: count(&usage["input_tokens"]),
        cached_input_tokens: count(&usage["input_tokens_details"]["cached_tokens"]),
        output_tokens: count(&usage["output_tokens"]),
        reasoning_tokens: count(&usage["output_tokens_details"]["reasoning_tokens"]),
    })
}

/// The terminal event again, for its output.
#[derive(Deserialize)]
pub(super) struct Output {
    pub(super) response: OutputOf,
}

/// The output of a response.
#[derive(Deserialize)]
pub(super) struct OutputOf {
    #[serde(default)]
    pub(super) output: Vec<Item>,
}
