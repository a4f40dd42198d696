//! What the events of a stream say: how far it is, and how it ends.

use domain::sse::{self, Event};
use domain::{Failure, Usage};
use http::HeaderMap;
use proto::transport::v1::TerminalKind;
use serde::Deserialize;
use serde_json::Value;

use crate::classify::{self, UpstreamError};

/// One event, as far as it matters here.
#[derive(Debug)]
pub(crate) enum Meaning {
    /// A response was announced; nothing of its content yet.
    Lifecycle { response_id: Option<String> },
    /// Part of the answer, or an event that nobody here knows.
    Content,
    /// The end, as the protocol has it: `response.completed`, `incomplete` or `failed`.
    Terminal(Ending),
    /// `error`: the end in fact, but Codex clients do not take it for one.
    Error { failure: Failure, reasoning_refused: bool },
}

/// What the terminal event says.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) kind: TerminalKind,
    /// Why it stops short (`response.incomplete`).
    pub(crate) incomplete_reason: Option<String>,
    pub(crate) response_id: Option<String>,
    pub(crate) usage: Option<Usage>,
    /// Why it failed, if it did. An incomplete answer is an answer.
    pub(crate) failure: Option<Failure>,
    /// True if it failed because the encrypted reasoning of earlier turns cannot be read.
    pub(crate) reasoning_refused: bool,
}

/// The head of the stream that an event belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream<'a> {
    pub(crate) status: u16,
    pub(crate) headers: &'a HeaderMap,
    /// Unix seconds.
    pub(crate) now_s: i64,
}

#[derive(Default, Deserialize)]
struct Envelope {
    #[serde(default)]
    response: Option<Response>,
}

/// Read leniently: a field of an unexpected type must not hide the end of the stream.
#[derive(Default, Deserialize)]
struct Response {
    #[serde(default)]
    id: Value,
    #[serde(default)]
    usage: Value,
    #[serde(default)]
    error: Value,
    #[serde(default)]
    incomplete_details: Value,
}

/// How the events of the real upstream begin.
const BEGINNING: &[u8] = b"{\"type\":\"response.";
/// Kinds of them that are a part of an answer and nothing else, by how they go on; most events of a stream are.
const PARTS: [&[u8]; 6] = [
    b"output_text.",
    b"content_part.",
    b"output_item.",
    b"function_call_arguments.",
    b"reasoning",
    b"custom_tool_call",
];

/// True if an event is a part of the answer as its first bytes tell, so that the rest of it need not be read.
fn is_part(event: &Event) -> bool {
    let kind = event.data.strip_prefix(BEGINNING);
    kind.is_some_and(|kind| PARTS.iter().any(|part| kind.starts_with(part)))
}

/// Reads an event.
pub(crate) fn read(event: &Event, stream: Stream<'_>) -> Meaning {
    if is_part(event) {
        return Meaning::Content;
    }
    let kind = event.kind();
    match kind.as_str() {
        "response.completed" | "response.done" => Meaning::Terminal(ending(event, TerminalKind::Completed, None)),
        "response.incomplete" => Meaning::Terminal(ending(event, TerminalKind::Incomplete, None)),
        "response.failed" => {
            let error = response(event).map(|r| UpstreamError::of_value(&r.error)).unwrap_or_default();
            let failure = classify::failed_event(&error, stream.status, stream.headers, stream.now_s);
            let reasoning_refused = classify::refuses_reasoning(&error);
            Meaning::Terminal(Ending { reasoning_refused, ..ending(event, TerminalKind::Failed, Some(failure)) })
        }
        "error" => {
            let value = serde_json::from_slice::<Value>(&event.data).unwrap_or_default();
            let error = UpstreamError::of_value(&value);
            let failure = classify::failed_event(&error, stream.status, stream.headers, stream.now_s);
            Meaning::Error { failure, reasoning_refused: classify::refuses_reasoning(&error) }
        }
        kind if sse::is_lifecycle(kind) => {
            let response_id = response(event).and_then(|r| r.id.as_str().map(str::to_owned));
            Meaning::Lifecycle { response_id }
        }
        _ => Meaning::Content,
    }
}

fn response(event: &Event) -> Option<Response> {
    serde_json::from_slice::<Envelope>(&event.data).ok().and_then(|envelope| envelope.response)
}

fn ending(event: &Event, kind: TerminalKind, failure: Option<Failure>) -> Ending {
    let response = response(event).unwrap_or_default();
    let incomplete = (kind == TerminalKind::Incomplete).then_some(&response.incomplete_details["reason"]);
    Ending {
        kind,
        incomplete_reason: incomplete.and_then(Value::as_str).map(str::to_owned),
        response_id: response.id.as_str().map(str::to_owned),
        usage: usage(&response.usage),
        failure,
        reasoning_refused: false,
    }
}

/// The tokens of a `usage` object.
pub(crate) fn usage(usage: &Value) -> Option<Usage> {
    let count = |value: &Value| value.as_u64().map_or(0, |n| u32::try_from(n).unwrap_or(u32::MAX));
    usage.is_object().then(|| Usage {
        input_tokens: count(&usage["input_tokens"]),
        cached_input_tokens: count(&usage["input_tokens_details"]["cached_tokens"]),
        output_tokens: count(&usage["output_tokens"]),
        reasoning_tokens: count(&usage["output_tokens_details"]["reasoning_tokens"]),
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use domain::Reason;
    use domain::sse::Splitter;

    use super::*;

    fn meanings(text: &'static str) -> Vec<Meaning> {
        let piece = Splitter::default().push(Bytes::from_static(text.as_bytes())).expect("events");
        let headers = HeaderMap::new();
        piece.events.iter().map(|event| read(event, Stream { status: 200, headers: &headers, now_s: 0 })).collect()
    }

    #[test]
    fn the_recorded_streams_are_understood() {
        let full = meanings(include_str!("../tests/fixtures/upstream/full_text.sse"));
        assert!(matches!(&full[0], Meaning::Lifecycle { response_id: Some(id) } if id == "resp_1"));
        let Some(Meaning::Terminal(end)) = full.last() else { panic!("no end: {full:?}") };
        let usage = Usage { input_tokens: 11, cached_input_tokens: 3, output_tokens: 7, reasoning_tokens: 2 };
        assert_eq!((end.response_id.as_deref(), end.usage), (Some("resp_1"), Some(usage)));
        assert!(end.failure.is_none() && end.kind == TerminalKind::Completed && end.incomplete_reason.is_none());
        let minimal = meanings(include_str!("../tests/fixtures/upstream/minimal_text.sse"));
        assert!(matches!(minimal.as_slice(), [Meaning::Content, Meaning::Terminal(Ending { usage: None, .. })]));
        let failed = meanings(include_str!("../tests/fixtures/upstream/failed_rate_limit.sse"));
        let Some(Meaning::Terminal(Ending { failure: Some(failure), .. })) = failed.last() else {
            panic!("no failure: {failed:?}")
        };
        assert_eq!((failure.reason, failure.retry_after_seconds), (Reason::RateLimited, Some(1.5)));
    }

    #[test]
    fn an_answer_that_stops_at_a_limit_says_at_which() {
        let text = r#"data: {"type":"response.incomplete","response":{"id":"r","incomplete_details":{"reason":"max_output_tokens"}}}"#;
        let piece = Splitter::default().push(Bytes::from(format!("{text}\n\n"))).expect("an event");
        let stream = Stream { status: 200, headers: &HeaderMap::new(), now_s: 0 };
        let Meaning::Terminal(end) = read(&piece.events[0], stream) else { panic!("no end") };
        assert_eq!((end.kind, end.incomplete_reason.as_deref()), (TerminalKind::Incomplete, Some("max_output_tokens")));
        assert!(end.failure.is_none());
    }

    #[test]
    fn errors_are_read_in_both_shapes_and_odd_fields_hide_nothing() {
        for text in [
            "data: {\"type\":\"error\",\"code\":\"slow_down\",\"message\":\"m\"}\n\n",
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"code\":\"slow_down\"}}\n\n",
        ] {
            assert!(
                matches!(&meanings(text)[0], Meaning::Error { failure, .. } if failure.reason == Reason::UpstreamOverloaded),
                "{text}"
            );
        }
        let odd = meanings("data: {\"type\":\"response.completed\",\"response\":{\"id\":7,\"usage\":[]}}\n\n");
        assert!(matches!(&odd[0], Meaning::Terminal(Ending { response_id: None, usage: None, failure: None, .. })));
    }
}
