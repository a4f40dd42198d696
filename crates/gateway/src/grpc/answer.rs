//! A call's events as gRPC messages.

use domain::{Failure, Reason, service};
use futures_util::{Stream, StreamExt};
use proto::gateway::v1::respond_response::Event;
use proto::gateway::v1::{
    CallMeta, CallResult, CompleteRequest, CompleteResponse, Payload, RespondRequest, RespondResponse, Started,
};
use proto::transport::v1::TerminalKind;
use service_kit::{status_from_failure, trace_to_proto, usage_to_proto};
use tonic::Status;

use super::failed;
use crate::assemble::{Assembler, Kind, Told};
use crate::pipeline::{CallEvent, CallStream, Ended, Terminal, Words};

pub(super) fn respond_words(request: &RespondRequest) -> Words<'_> {
    Words {
        model: &request.model,
        message: &request.message,
        body_json: &request.body_json,
        session: &request.session,
        thinking: &request.thinking,
        instructions: &request.instructions,
    }
}

pub(super) fn complete_words(request: &CompleteRequest) -> Words<'_> {
    Words {
        model: &request.model,
        message: &request.message,
        body_json: &request.body_json,
        session: &request.session,
        thinking: &request.thinking,
        instructions: &request.instructions,
    }
}

/// The events one by one, `completed` last; a failure ends the stream with its status.
pub(super) fn typed(
    mut events: CallStream,
    call_id: String,
    include_raw: bool,
) -> impl Stream<Item = Result<RespondResponse, Status>> + Send {
    events.keep();
    async_stream::stream! {
        let mut assembler = Assembler::default();
        while let Some(event) = events.next().await {
            match event {
                CallEvent::Head(head) => {
                    let call_id = call_id.clone();
                    let started = Started { call_id, provider: head.provider, model: head.model };
                    yield Ok(message(Event::Started(started)));
                }
                CallEvent::Bytes(bytes) => {
                    for told in assembler.push(bytes) {
                        yield Ok(told_message(told, include_raw));
                    }
                }
                CallEvent::End(ended) if ended.record.failure.is_some() => {
                    yield Err(failed(&ended.record));
                    return;
                }
                CallEvent::End(ended) => {
                    let result = call_result(std::mem::take(&mut assembler), *ended);
                    yield Ok(message(Event::Completed(result)));
                    return;
                }
            }
        }
    }
}

/// The whole answer at once.
pub(super) async fn whole(mut events: CallStream, include_raw: bool) -> Result<CompleteResponse, Status> {
    events.keep();
    let mut assembler = Assembler::default();
    while let Some(event) = events.next().await {
        match event {
            CallEvent::Head(_) => {}
            CallEvent::Bytes(bytes) => drop(assembler.push(bytes)),
            CallEvent::End(ended) if ended.record.failure.is_some() => return Err(failed(&ended.record)),
            CallEvent::End(_) if assembler.is_too_large() => {
                let message = "the upstream's answer is too large to be held whole";
                let failure = Failure::new(Reason::UpstreamError, service::UPSTREAM, message);
                return Err(status_from_failure(&failure.next_step("call `Respond`, which passes any answer through")));
            }
            CallEvent::End(ended) => {
                let response_json = if include_raw { assembler.response() } else { None };
                let result = Some(call_result(assembler, *ended));
                return Ok(CompleteResponse { status: "ok".to_owned(), result, response_json });
            }
        }
    }
    Err(Status::internal("the call ended without an event"))
}

fn message(event: Event) -> RespondResponse {
    RespondResponse { event: Some(event), raw_json: None }
}

fn told_message(told: Told, include_raw: bool) -> RespondResponse {
    let event = match told.kind {
        Kind::Text(text) => Event::TextDelta(text),
        Kind::Reasoning(text) => Event::ReasoningDelta(text),
        Kind::Tool(call) => Event::ToolCall(call),
        Kind::Other(kind) => Event::Other(kind),
    };
    let raw_json = include_raw.then(|| String::from_utf8_lossy(&told.data).into_owned());
    RespondResponse { event: Some(event), raw_json }
}

/// How an answer ended, in a word.
fn finish(terminal: &Terminal) -> Option<String> {
    match terminal.kind {
        TerminalKind::Completed => Some("completed".to_owned()),
        TerminalKind::Incomplete => Some("incomplete".to_owned()),
        TerminalKind::Failed | TerminalKind::Unspecified => None,
    }
}

fn call_result(assembler: Assembler, ended: Ended) -> CallResult {
    let (texts, tool_calls) = assembler.result();
    let meta = CallMeta {
        execution_trace: Some(trace_to_proto(&ended.record.trace)),
        usage: ended.record.usage.as_ref().map(usage_to_proto),
        response_id: ended.response_id,
        dropped: ended.dropped,
        finish: ended.terminal.as_ref().and_then(finish),
        incomplete_reason: ended.terminal.and_then(|terminal| terminal.incomplete_reason),
    };
    CallResult { payloads: texts.into_iter().map(|text| Payload { text }).collect(), tool_calls, meta: Some(meta) }
}
