//! A streamed answer: the call's events as chunks.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use bytes::Bytes;
use domain::Clock;
use futures_util::{Stream, StreamExt};
use proto::transport::v1::TerminalKind;
use tokio::time::Instant;

use super::request::Wanted;
use super::wire::{ChunkChoice, Delta, Envelope, Fallback, Names, Tokens, ToolCall, finish_reason};
use crate::core::Core;
use crate::http::answer::{self, Dialect as _, Labels, defect, refused};
use crate::http::deltas::{End, Piece, Reader};
use crate::pipeline::{CallEvent, CallStream, Ended, is_silent};

/// How long a response may have begun and say nothing before its answer begins, too.
const OPENING: Duration = Duration::from_secs(1);

/// The chunks as they come. A response that the upstream gives up before it has said anything is an error with a status
/// of its own: that is what clients of this API go by. The chunk with the role waits for that, and nothing else does.
pub(super) async fn relay(core: &Arc<Core>, mut events: CallStream, labels: &Labels, mut wanted: Wanted) -> Response {
    let mut head = match events.next().await {
        Some(CallEvent::Head(head)) => head,
        Some(CallEvent::End(ended)) => return refused::<Wanted>(core, &ended),
        Some(CallEvent::Bytes(_)) | None => return defect::<Wanted>(),
    };
    let fallback = Fallback { call_id: labels.call_id.clone(), now_s: core.clock.now_s(), model: head.model.clone() };
    let mut chunks = Chunks::new(fallback, wanted.include_usage);
    let mut opening = Opening::default();
    let until = Instant::now() + OPENING;
    while !chunks.said_something
        && let Ok(Some(event)) = tokio::time::timeout_at(until, events.next()).await
    {
        match event {
            CallEvent::Bytes(bytes) => opening.text.push_str(&chunks.push(bytes)),
            CallEvent::End(ended) if ended.record.failure.is_some() && !chunks.said_something => {
                return refused::<Wanted>(core, &ended);
            }
            CallEvent::End(ended) => {
                opening.ended = Some(ended);
                break;
            }
            CallEvent::Head(_) => {}
        }
    }
    wanted.tell(&mut head);
    let body = bytes_of(events, chunks, opening, labels.call_id.clone(), core.clock.clone());
    answer::event_stream(core, body, &head)
}

/// What was at hand when the answer began.
#[derive(Default)]
struct Opening {
    text: String,
    ended: Option<Box<Ended>>,
}

fn bytes_of(
    mut events: CallStream,
    mut chunks: Chunks,
    opening: Opening,
    call_id: String,
    clock: Clock,
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    async_stream::stream! {
        let Opening { text, mut ended } = opening;
        if !text.is_empty() {
            yield Ok(Bytes::from(text));
        }
        while ended.is_none() {
            match events.next().await {
                Some(CallEvent::Bytes(bytes)) => {
                    let text = chunks.push(bytes);
                    if !text.is_empty() {
                        yield Ok(Bytes::from(text));
                    }
                }
                Some(CallEvent::End(end)) => ended = Some(end),
                Some(CallEvent::Head(_)) => {}
                None => return,
            }
        }
        let Some(ended) = ended else { return };
        let text = match &ended.record.failure {
            // OpenAI's SDKs raise what stands in `error`. There is no `[DONE]` behind it: the answer is not whole.
            Some(failure) if !chunks.finished => {
                format!("data: {}\n\n", Wanted::error(failure, Some(&call_id), clock.now_s()))
            }
            _ => chunks.end(&ended),
        };
        if !text.is_empty() {
            yield Ok(Bytes::from(text));
        }
    }
}

/// Writes chunks.
pub(super) struct Chunks {
    reader: Reader,
    fallback: Fallback,
    include_usage: bool,
    /// Set with the first chunk; they stay the same to the last.
    names: Option<Names>,
    /// A chunk with more than the role has been written.
    said_something: bool,
    finished: bool,
}

impl Chunks {
    /// A completion with these names, where the response has none of its own.
    pub(super) fn new(fallback: Fallback, include_usage: bool) -> Self {
        Self { reader: Reader::default(), fallback, include_usage, names: None, said_something: false, finished: false }
    }

    /// Takes bytes of the stream; gives the chunks that end in them, or a comment where they hold nothing else.
    pub(super) fn push(&mut self, bytes: Bytes) -> String {
        // A comment keeps the connection alive, here as there.
        let mut out = if is_silent(&bytes) { ": keep-alive\n\n".to_owned() } else { String::new() };
        let pieces = self.reader.push(bytes);
        let identified = self.reader.identity().id.is_some();
        if self.names.is_none() && (identified || !pieces.is_empty() || self.reader.end().is_some()) {
            self.names = Some(Names::of(self.reader.identity(), &self.fallback));
            let delta = Delta { role: Some("assistant"), content: Some(None), ..Delta::default() };
            self.write(delta, None, &mut out);
        }
        for piece in pieces {
            self.said_something = true;
            self.write(delta_of(piece), None, &mut out);
        }
        if let Some(end) = self.reader.end().cloned()
            && !self.finished
        {
            self.finish(&end, &mut out);
        }
        out
    }

    /// The end of a call that went well, as far as it has not been told: an event may be too large to be read.
    fn end(&mut self, ended: &Ended) -> String {
        let mut out = String::new();
        if !self.finished {
            self.finish(&end_of(ended), &mut out);
        }
        out
    }

    fn finish(&mut self, end: &End, out: &mut String) {
        self.finished = true;
        self.said_something = true;
        let reason = finish_reason(end, self.reader.calls());
        let choice = ChunkChoice { index: 0, delta: Delta::default(), logprobs: None, finish_reason: Some(reason) };
        self.envelope(&[choice], self.include_usage.then_some(None), end.service_tier.as_deref(), out);
        if self.include_usage
            && let Some(usage) = end.usage
        {
            self.envelope(&[], Some(Some(Tokens::from(usage))), end.service_tier.as_deref(), out);
        }
        out.push_str("data: [DONE]\n\n");
    }

    fn write(&self, delta: Delta, finish_reason: Option<&'static str>, out: &mut String) {
        let choice = ChunkChoice { index: 0, delta, logprobs: None, finish_reason };
        self.envelope(&[choice], self.include_usage.then_some(None), None, out);
    }

    fn envelope(
        &self,
        choices: &[ChunkChoice],
        usage: Option<Option<Tokens>>,
        service_tier: Option<&str>,
        out: &mut String,
    ) {
        let own;
        let names = match &self.names {
            Some(names) => names,
            None => {
                own = Names::of(self.reader.identity(), &self.fallback);
                &own
            }
        };
        let object = "chat.completion.chunk";
        let Names { id, created, model } = names;
        let chunk = Envelope { id, object, created: *created, model, choices, usage, service_tier };
        out.push_str("data: ");
        // Fails only for maps with keys that are no strings, and there is no map here.
        out.push_str(&serde_json::to_string(&chunk).unwrap_or_default());
        out.push_str("\n\n");
    }
}

fn delta_of(piece: Piece) -> Delta {
    let none = Delta::default();
    match piece {
        Piece::Text(text) => Delta { content: Some(Some(text)), ..none },
        Piece::Refusal(text) => Delta { refusal: Some(text), ..none },
        Piece::Reasoning(text) => Delta { reasoning_content: Some(text), ..none },
        Piece::CallBegins(call) => Delta { tool_calls: vec![ToolCall::begins(call)], ..none },
        Piece::CallInput(index, kind, text) => Delta { tool_calls: vec![ToolCall::input(index, kind, text)], ..none },
    }
}

/// The end of an answer whose terminal event could not be read here, by what transport-svc said of it.
pub(super) fn end_of(ended: &Ended) -> End {
    let stopped = ended.terminal.as_ref().filter(|terminal| terminal.kind == TerminalKind::Incomplete);
    let incomplete = stopped.map(|terminal| terminal.incomplete_reason.clone().unwrap_or_default());
    End { incomplete, usage: ended.record.usage, service_tier: None }
}
