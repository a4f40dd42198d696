//! What is written: a completion, and the chunks of one.

use domain::Usage;
use serde::Serialize;

use crate::http::deltas::{CallBegins, End, Identity, ToolKind};

/// A completion, or a chunk of one.
#[derive(Serialize)]
pub(super) struct Envelope<'a, C> {
    pub(super) id: &'a str,
    pub(super) object: &'static str,
    /// Unix seconds.
    pub(super) created: i64,
    pub(super) model: &'a str,
    pub(super) choices: &'a [C],
    /// Left out, null, or told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) usage: Option<Option<Tokens>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) service_tier: Option<&'a str>,
}

/// The only choice of a completion.
#[derive(Serialize)]
pub(super) struct Choice {
    pub(super) index: usize,
    pub(super) message: Message,
    pub(super) logprobs: Option<()>,
    pub(super) finish_reason: &'static str,
}

/// What the model said.
#[derive(Default, Serialize)]
pub(super) struct Message {
    pub(super) role: &'static str,
    pub(super) content: Option<String>,
    pub(super) refusal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tool_calls: Vec<ToolCall>,
}

/// The only choice of a chunk.
#[derive(Serialize)]
pub(super) struct ChunkChoice {
    pub(super) index: usize,
    pub(super) delta: Delta,
    pub(super) logprobs: Option<()>,
    pub(super) finish_reason: Option<&'static str>,
}

/// A piece of what the model says. Fields that say nothing are left out.
#[derive(Default, Serialize)]
pub(super) struct Delta {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) role: Option<&'static str>,
    /// Null beside the role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) refusal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tool_calls: Vec<ToolCall>,
}

/// A tool call, or a piece of one. Its id, type and name come once: clients join the pieces of each field.
#[derive(Serialize)]
pub(super) struct ToolCall {
    /// Its number; only in pieces.
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<Function>,
    #[serde(skip_serializing_if = "Option::is_none")]
    custom: Option<Custom>,
}

#[derive(Serialize)]
struct Function {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    arguments: String,
}

#[derive(Serialize)]
struct Custom {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    input: String,
}

impl ToolCall {
    /// A call as it begins.
    pub(super) fn begins(call: CallBegins) -> Self {
        let CallBegins { index, id, name, kind } = call;
        let word = match kind {
            ToolKind::Function => "function",
            ToolKind::Custom => "custom",
        };
        Self { id: Some(id), kind: Some(word), ..Self::piece(index, kind, Some(name), String::new()) }
    }

    /// A call to which pieces are added: in a whole message its place is its number.
    pub(super) fn whole(call: CallBegins) -> Self {
        Self { index: None, ..Self::begins(call) }
    }

    /// A piece of its arguments.
    pub(super) fn input(index: usize, kind: ToolKind, text: String) -> Self {
        Self::piece(index, kind, None, text)
    }

    fn piece(index: usize, kind: ToolKind, name: Option<String>, text: String) -> Self {
        let (function, custom) = match kind {
            ToolKind::Function => (Some(Function { name, arguments: text }), None),
            ToolKind::Custom => (None, Some(Custom { name, input: text })),
        };
        Self { index: Some(index), id: None, kind: None, function, custom }
    }

    /// Adds a piece.
    pub(super) fn push(&mut self, text: &str) {
        match (&mut self.function, &mut self.custom) {
            (Some(function), _) => function.arguments.push_str(text),
            (None, Some(custom)) => custom.input.push_str(text),
            (None, None) => {}
        }
    }
}

/// Tokens in the words of Chat Completions.
#[derive(Clone, Copy, Serialize)]
pub(super) struct Tokens {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptTokens,
    completion_tokens_details: CompletionTokens,
}

#[derive(Clone, Copy, Serialize)]
struct PromptTokens {
    cached_tokens: u32,
}

#[derive(Clone, Copy, Serialize)]
struct CompletionTokens {
    reasoning_tokens: u32,
}

impl From<Usage> for Tokens {
    fn from(usage: Usage) -> Self {
        let (prompt_tokens, completion_tokens) = (u64::from(usage.input_tokens), u64::from(usage.output_tokens));
        Self {
            prompt_tokens,
            completion_tokens,
            total_tokens: prompt_tokens + completion_tokens,
            prompt_tokens_details: PromptTokens { cached_tokens: usage.cached_input_tokens },
            completion_tokens_details: CompletionTokens { reasoning_tokens: usage.reasoning_tokens },
        }
    }
}

/// What stands for what the response says of itself, where it says nothing.
pub(super) struct Fallback {
    /// Our own id of the call.
    pub(super) call_id: String,
    /// Unix seconds.
    pub(super) now_s: i64,
    /// The model that was asked.
    pub(super) model: String,
}

/// The names that every chunk of a completion carries alike.
pub(super) struct Names {
    pub(super) id: String,
    pub(super) created: i64,
    pub(super) model: String,
}

impl Names {
    /// The names of a completion that is made of this response.
    pub(super) fn of(response: &Identity, fallback: &Fallback) -> Self {
        let id = response.id.as_deref().unwrap_or(&fallback.call_id);
        Self {
            id: format!("chatcmpl-{}", id.strip_prefix("resp_").unwrap_or(id)),
            created: response.created.unwrap_or(fallback.now_s),
            model: response.model.clone().unwrap_or_else(|| fallback.model.clone()),
        }
    }
}

/// Why the model stopped.
pub(super) fn finish_reason(end: &End, calls: usize) -> &'static str {
    match end.incomplete.as_deref() {
        Some("content_filter") => "content_filter",
        Some(_) => "length",
        None if calls > 0 => "tool_calls",
        None => "stop",
    }
}
