//! What the fake transport-svc plays for one attempt.

use std::time::Duration;

use bytes::Bytes;
use domain::sse::{Splitter, is_lifecycle};
use domain::{Failure, Reason, service};
use proto::common::v1::{Header, Usage};
use proto::transport::v1::{Chunk, Outcome, Sent, Terminal, TerminalKind, Timings};
use service_kit::failure_to_proto;

pub(crate) const URL: &str = "https://chatgpt.com/backend-api/codex/responses";
pub(crate) const FULL: &str = include_str!("../fixtures/full_text.sse");
pub(crate) const MINIMAL: &str = include_str!("../fixtures/minimal_text.sse");
pub(crate) const TOOL: &str = include_str!("../fixtures/tool_call_turn1.sse");
pub(crate) const EARLY_FAILURE: &str = include_str!("../fixtures/failed_rate_limit.sse");

/// One step of an attempt.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// The upstream accepted.
    Head,
    /// Bytes, and transport-svc's word whether they hold content.
    Chunk(Bytes, bool),
    /// A pause.
    Pause(Duration),
    /// Silence until the stream is dropped.
    Hang,
    /// The end.
    Outcome(Box<Outcome>),
    /// transport-svc breaks off.
    Break,
    /// transport-svc refuses before anything is sent.
    Refuse(Failure),
}

pub(crate) fn chunk(text: &str, content: bool) -> Step {
    Step::Chunk(Bytes::from(text.to_owned()), content)
}

/// A chunk with what transport-svc tells of it.
pub(crate) fn told(data: Bytes, content: bool) -> Chunk {
    let piece = Splitter::default().push(data.clone()).unwrap_or_default();
    let mut chunk = Chunk { data, content, ..Chunk::default() };
    let (mut failures, mut others) = (0, 0);
    for event in &piece.events {
        let json: serde_json::Value = serde_json::from_slice(&event.data).unwrap_or_default();
        let response = &json["response"];
        let kind = match event.kind().as_str() {
            "response.completed" => Some(TerminalKind::Completed),
            "response.incomplete" => Some(TerminalKind::Incomplete),
            "response.failed" => Some(TerminalKind::Failed),
            _ => None,
        };
        let count = |pointer: &str| response["usage"].pointer(pointer).and_then(|n| n.as_i64()).unwrap_or_default();
        chunk.terminal = chunk.terminal.or(kind.map(|kind| Terminal {
            kind: kind.into(),
            usage: response["usage"].is_object().then(|| Usage {
                input_tokens: count("/input_tokens") as i32,
                cached_input_tokens: count("/input_tokens_details/cached_tokens") as i32,
                output_tokens: count("/output_tokens") as i32,
                reasoning_tokens: count("/output_tokens_details/reasoning_tokens") as i32,
            }),
            incomplete_reason: response["incomplete_details"]["reason"].as_str().map(str::to_owned),
        }));
        if event.kind() == "response.created" {
            chunk.response_id = response["id"].as_str().map(str::to_owned);
        }
        match event.kind().as_str() {
            "response.failed" | "error" => failures += 1,
            kind if is_lifecycle(kind) => {}
            _ => others += 1,
        }
    }
    chunk.only_failure = failures > 0 && others == 0;
    chunk
}

pub(crate) fn header(name: &str, value: &str) -> Header {
    Header { name: name.into(), value: value.into() }
}

/// A success outcome.
pub(crate) fn success() -> Outcome {
    Outcome {
        status: Some(200),
        url: URL.into(),
        upstream_request_id: Some("req-1".into()),
        response_id: Some("resp_1".into()),
        usage: Some(Usage { input_tokens: 11, cached_input_tokens: 3, output_tokens: 7, reasoning_tokens: 2 }),
        sent: Sent::Sent.into(),
        terminal_relayed: true,
        egress: "local".into(),
        timings: Some(Timings {
            sent_us: Some(10.0),
            headers_us: Some(50.0),
            first_event_us: Some(60.0),
            total_us: 90.0,
        }),
        http_version: "HTTP/2".into(),
        span_id: "00000000000000aa".into(),
        ..Outcome::default()
    }
}

/// An outcome that failed upstream.
pub(crate) fn failed(reason: Reason, status: Option<u16>, sent: Sent) -> Outcome {
    let mut failure = Failure::new(reason, service::UPSTREAM, format!("the upstream says {reason}"));
    failure.upstream_status = status;
    if reason == Reason::UsageLimit {
        failure.plan_type = Some("plus".into());
        failure.resets_at = Some(2_000_000_000);
    }
    Outcome {
        failure: Some(failure_to_proto(&failure)),
        status: status.map(i32::from),
        response_id: None,
        usage: None,
        sent: sent.into(),
        terminal_relayed: false,
        headers: vec![header("x-codex-primary-used-percent", "100")],
        ..success()
    }
}

/// An upstream that answers with `stream`, cut after each event.
pub(crate) fn answers(stream: &str) -> Vec<Step> {
    let mut steps = vec![Step::Head];
    let mut content = false;
    for event in stream.split_inclusive("\n\n") {
        content |= !event.contains("response.created");
        steps.push(chunk(event, content));
    }
    steps.push(Step::Outcome(Box::new(success())));
    steps
}

/// An upstream that refuses.
pub(crate) fn refuses(reason: Reason, status: u16) -> Vec<Step> {
    vec![Step::Outcome(Box::new(failed(reason, Some(status), Sent::Sent)))]
}

/// An upstream that fails without a status.
pub(crate) fn fails(reason: Reason, sent: Sent) -> Vec<Step> {
    vec![Step::Outcome(Box::new(failed(reason, None, sent)))]
}

/// An upstream whose response fails before any content.
pub(crate) fn fails_early(reason: Reason) -> Vec<Step> {
    let outcome = Outcome { terminal_relayed: true, ..failed(reason, Some(200), Sent::Sent) };
    let (created, failure) = EARLY_FAILURE.split_at(EARLY_FAILURE.find("\n\n").unwrap_or_default() + 2);
    vec![Step::Head, chunk(created, false), chunk(failure, true), Step::Outcome(Box::new(outcome))]
}
