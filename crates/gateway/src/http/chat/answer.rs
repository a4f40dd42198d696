//! A whole answer: the pieces of the stream put together.

use std::sync::Arc;

use axum::response::Response;
use bytes::Bytes;
use futures_util::StreamExt;

use super::request::Wanted;
use super::stream::end_of;
use super::wire::{Choice, Envelope, Fallback, Message, Names, ToolCall, finish_reason};
use crate::core::Core;
use crate::http::answer::{self, defect, no_object, refused};
use crate::http::deltas::{End, Piece, Reader};
use crate::pipeline::{CallEvent, CallStream};

/// Largest message that is put together, in bytes of its text.
const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;

/// The completion, once the stream is over.
pub(super) async fn assemble(core: &Arc<Core>, mut events: CallStream, mut wanted: Wanted) -> Response {
    let mut whole = Whole::default();
    let mut head = None;
    while let Some(event) = events.next().await {
        match event {
            CallEvent::Head(mut begun) => {
                wanted.tell(&mut begun);
                head = Some(begun);
            }
            CallEvent::Bytes(bytes) => whole.push(bytes),
            CallEvent::End(ended) if ended.record.failure.is_some() => return refused::<Wanted>(core, &ended),
            CallEvent::End(ended) if whole.is_too_large() => return no_object::<Wanted>(core, &ended),
            CallEvent::End(ended) => {
                let fallback = Fallback {
                    call_id: ended.record.trace.call_id.clone(),
                    now_s: core.clock.now_s(),
                    model: head.as_ref().map(|head| head.model.clone()).unwrap_or_default(),
                };
                return answer::whole(whole.completion(&fallback, end_of(&ended)), head.as_ref(), &ended);
            }
        }
    }
    defect::<Wanted>()
}

/// Puts a message together.
#[derive(Default)]
pub(super) struct Whole {
    reader: Reader,
    message: Message,
    bytes: usize,
}

impl Whole {
    /// Takes bytes of the stream.
    pub(super) fn push(&mut self, bytes: Bytes) {
        for piece in self.reader.push(bytes) {
            let message = &mut self.message;
            let (place, text) = match piece {
                Piece::Text(text) => (&mut message.content, text),
                Piece::Refusal(text) => (&mut message.refusal, text),
                Piece::Reasoning(text) => (&mut message.reasoning_content, text),
                Piece::CallBegins(call) => {
                    self.bytes += call.id.len() + call.name.len();
                    message.tool_calls.push(ToolCall::whole(call));
                    continue;
                }
                Piece::CallInput(index, _, text) => {
                    self.bytes += text.len();
                    if self.bytes <= MAX_MESSAGE_BYTES
                        && let Some(call) = message.tool_calls.get_mut(index)
                    {
                        call.push(&text);
                    }
                    continue;
                }
            };
            self.bytes += text.len();
            if self.bytes <= MAX_MESSAGE_BYTES {
                place.get_or_insert_default().push_str(&text);
            }
        }
    }

    /// True once more has come than is put together.
    pub(super) fn is_too_large(&self) -> bool {
        self.bytes > MAX_MESSAGE_BYTES
    }

    /// The completion. `end` is for a stream whose own could not be read.
    pub(super) fn completion(self, fallback: &Fallback, end: End) -> String {
        let Self { reader, mut message, .. } = self;
        message.role = "assistant";
        let end = reader.end().cloned().unwrap_or(end);
        let finish_reason = finish_reason(&end, reader.calls());
        let Names { id, created, model } = Names::of(reader.identity(), fallback);
        let completion = Envelope {
            id: &id,
            object: "chat.completion",
            created,
            model: &model,
            choices: &[Choice { index: 0, message, logprobs: None, finish_reason }],
            usage: end.usage.map(|usage| Some(usage.into())),
            service_tier: end.service_tier.as_deref(),
        };
        // Fails only for maps with keys that are no strings, and there is no map here.
        serde_json::to_string(&completion).unwrap_or_default()
    }
}
