//! `POST /v1/responses`: the upstream's bytes as they come, or the response object they add up to.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use domain::Failure;
use futures_util::StreamExt;

use crate::assemble::Assembler;
use crate::core::Core;
use crate::http::answer::{self, Dialect, Incoming, Labels, defect, no_object, refused};
use crate::http::error::{self, failed_event};
use crate::http::keep_alive::ends_an_event;
use crate::pipeline::{Ask, CallEvent, CallStream};

/// A Responses request: its body passes as it came.
struct Responses {
    stream: bool,
}

pub(super) async fn create(State(core): State<Arc<Core>>, request: Request) -> Response {
    answer::serve::<Responses>(core, request).await
}

impl Dialect for Responses {
    fn read(Incoming { body, passing, session }: Incoming) -> Result<(Ask, Self), Failure> {
        let ask = Ask::from_body(body, passing, session)?;
        let stream = ask.stream;
        Ok((ask, Self { stream }))
    }

    fn streams(&self) -> bool {
        self.stream
    }

    fn error(failure: &Failure, call_id: Option<&str>, now_s: i64) -> String {
        error::body(failure, call_id, now_s)
    }

    async fn answer(self, core: &Arc<Core>, events: CallStream, labels: &Labels) -> Response {
        if self.stream { relay(core, events, labels).await } else { assemble(core, events).await }
    }
}

/// The bytes as they come. The answer's status is decided by the winner's first event.
async fn relay(core: &Core, mut events: CallStream, labels: &Labels) -> Response {
    let head = match events.next().await {
        Some(CallEvent::Head(head)) => head,
        Some(CallEvent::End(ended)) => return refused::<Responses>(core, &ended),
        Some(CallEvent::Bytes(_)) | None => return defect::<Responses>(),
    };
    answer::event_stream(core, bytes_of(events, labels.call_id.clone()), &head)
}

fn bytes_of(mut events: CallStream, call_id: String) -> impl futures_util::Stream<Item = Result<Bytes, Infallible>> {
    async_stream::stream! {
        // Ends with a blank line so far, and so between two events.
        let mut between = true;
        while let Some(event) = events.next().await {
            match event {
                CallEvent::Bytes(bytes) => {
                    between = ends_an_event(&bytes);
                    yield Ok(bytes);
                }
                CallEvent::End(ended) => {
                    if let Some(failure) = &ended.record.failure
                        && !ended.terminal_relayed
                    {
                        let event = failed_event(failure, ended.response_id.as_deref(), &call_id);
                        yield Ok(Bytes::from(if between { event } else { format!("\n\n{event}") }));
                    }
                    return;
                }
                CallEvent::Head(_) => {}
            }
        }
    }
}

/// The response object, once the stream is over.
async fn assemble(core: &Core, mut events: CallStream) -> Response {
    events.keep();
    let mut assembler = Assembler::default();
    let mut head = None;
    while let Some(event) = events.next().await {
        match event {
            CallEvent::Head(begun) => head = Some(begun),
            CallEvent::Bytes(bytes) => drop(assembler.push(bytes)),
            CallEvent::End(ended) if ended.record.failure.is_some() => return refused::<Responses>(core, &ended),
            CallEvent::End(ended) => {
                let Some(object) = assembler.response() else { return no_object::<Responses>(core, &ended) };
                return answer::whole(object, head.as_ref(), &ended);
            }
        }
    }
    defect::<Responses>()
}
