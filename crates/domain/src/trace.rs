//! What happened to one call, in the JSON shape that users rely on.

use serde::Serialize;

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AttemptResult {
    /// It answered.
    Success,
    /// A request was made, or should have been, and failed.
    Failed,
    /// No request was made: no credential was bound.
    Skipped,
}

impl AttemptResult {
    /// The name users see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// One attempt to get the call answered.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// Provider of the route.
    pub provider: String,
    /// Upstream model name.
    pub model: String,
    /// Label of the bound credential; `None` when none was bound.
    pub credential: Option<String>,
    /// Egress that made the request; `None` when none was made.
    pub egress: Option<String>,
    /// URL that was called, or would have been.
    pub url: String,
    /// How it ended.
    pub result: AttemptResult,
    /// Name of the reason of a failed or skipped attempt.
    pub reason: Option<String>,
    /// Upstream HTTP status.
    pub status: Option<u16>,
    /// Upstream request id.
    pub upstream_request_id: Option<String>,
    /// The edge's ray id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ray_id: Option<String>,
    /// Duration in milliseconds.
    pub elapsed_ms: f64,
}

/// One hop of a call. Times are microseconds since the gateway accepted the call.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Hop {
    /// Service that did the work.
    pub service: String,
    /// Host it ran on.
    pub host: String,
    /// What it did.
    pub name: String,
    /// Start.
    pub start_us: f64,
    /// Duration.
    pub duration_us: f64,
    /// "ok" or a reason.
    pub outcome: String,
    /// Span that stands for this hop, 16 hex digits.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub span_id: String,
}

/// What happened to one call, hop by hop.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionTrace {
    /// Provider that answered.
    pub winner_provider: Option<String>,
    /// Model that answered, by its upstream name.
    pub winner_model: Option<String>,
    /// True if the answer came from a fallback.
    pub fallback_used: bool,
    /// Always "switchboard".
    pub runner: String,
    /// The model name as the caller gave it.
    pub requested_model: String,
    /// Id of the call.
    pub call_id: String,
    /// W3C trace id, 32 hex digits.
    pub trace_id: String,
    /// Digest of the route table.
    pub route_table: String,
    /// Every attempt, in order.
    pub attempts: Vec<Attempt>,
    /// Every hop, in order of start.
    pub hops: Vec<Hop>,
}

/// Tokens, as the upstream counted them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// All input tokens.
    pub input_tokens: u32,
    /// Input tokens served from the prompt cache.
    pub cached_input_tokens: u32,
    /// All output tokens.
    pub output_tokens: u32,
    /// Output tokens spent on reasoning.
    pub reasoning_tokens: u32,
}
