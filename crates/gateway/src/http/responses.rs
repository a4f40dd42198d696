//! `POST /v1/responses`: the upstream's bytes as they come, or the response object they add up to.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use domain::{Failure, Reason, service};
use futures_util::StreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use service_kit::Peer;
use tracing::Span;

use crate::assemble::Assembler;
use crate::core::Core;
use crate::headers;
use crate::http::error::{call_response, failed_event};
use crate::pipeline::{self, Ask, Call, CallEvent, CallStream, Ended, Head};
use crate::records::Face;

/// Bodies from this size on are read on a thread that may be busy.
const LARGE_BODY_BYTES: usize = 1024 * 1024;

/// What every answer of one call says about it.
struct Labels {
    call_id: String,
    trace_id: String,
    span: Span,
}

pub(super) async fn create(State(core): State<Arc<Core>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let mut call = Call::accept(&core, Face::Http, &parts.headers, &parts.extensions);
    let labels = Labels { call_id: call.id.clone(), trace_id: call.trace_id.clone(), span: call.span.clone() };
    let ask = match call.identify(&parts.headers, parts.extensions.get::<Peer>().copied(), "").await {
        Err(failure) => {
            // A stranger's body is not even looked at.
            super::body::drain(body).await;
            Err(failure)
        }
        Ok(()) => read(&core, &parts.headers, body).await,
    };
    let (stream, mut response) = match ask {
        Err(failure) => {
            let server_timing = call.tracer.server_timing();
            let ended = call.finish(Some(failure), None);
            let mut response = refused(&core, &ended);
            set(response.headers_mut(), "server-timing", &server_timing);
            (false, response)
        }
        Ok(ask) => {
            let stream = ask.stream;
            let events = pipeline::run(call, ask);
            (stream, if stream { relay(&core, events, &labels).await } else { assemble(&core, events).await })
        }
    };
    labels.put(response.headers_mut());
    if stream && response.status().is_success() {
        // A proxy that buffers would turn a stream into a long wait.
        set(response.headers_mut(), "x-accel-buffering", "no");
    }
    response
}

async fn read(core: &Core, headers: &HeaderMap, body: Body) -> Result<Ask, Failure> {
    let body = super::body::read(headers, body, core.max_body_bytes).await?;
    let (passing, session) = (headers::passing(headers), headers::session(headers));
    if body.len() < LARGE_BODY_BYTES {
        return Ask::from_body(body, passing, session);
    }
    let read = tokio::task::spawn_blocking(move || Ask::from_body(body, passing, session)).await;
    let failed = |e| Failure::new(Reason::Internal, service::GATEWAY, format!("the body could not be read: {e}"));
    read.map_err(failed)?
}

/// The bytes as they come. The answer's status is decided by the winner's first event.
async fn relay(core: &Core, mut events: CallStream, labels: &Labels) -> Response {
    let head = match events.next().await {
        Some(CallEvent::Head(head)) => head,
        Some(CallEvent::End(ended)) => return refused(core, &ended),
        Some(CallEvent::Bytes(_)) | None => return defect(),
    };
    let mut response = Response::new(Body::from_stream(bytes_of(events, labels.call_id.clone())));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    put_head(headers, &head);
    response
}

fn bytes_of(mut events: CallStream, call_id: String) -> impl futures_util::Stream<Item = Result<Bytes, Infallible>> {
    async_stream::stream! {
        // Ends with a blank line so far, and so between two events.
        let mut between = true;
        while let Some(event) = events.next().await {
            match event {
                CallEvent::Bytes(bytes) => {
                    between = bytes.ends_with(b"\n\n") || bytes.ends_with(b"\r\n\r\n") || bytes.ends_with(b"\r\r");
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
    let mut assembler = Assembler::default();
    let mut head = None;
    while let Some(event) = events.next().await {
        match event {
            CallEvent::Head(begun) => head = Some(begun),
            CallEvent::Bytes(bytes) => drop(assembler.push(bytes)),
            CallEvent::End(ended) if ended.record.failure.is_some() => return refused(core, &ended),
            CallEvent::End(ended) => {
                let Some(object) = assembler.response() else { return no_object(core, &ended) };
                let mut response = super::json(StatusCode::OK, object);
                if let Some(head) = &head {
                    put_head(response.headers_mut(), head);
                }
                set(response.headers_mut(), "server-timing", &timing_of(&ended));
                return response;
            }
        }
    }
    defect()
}

/// The stream was a success and still held no response object, or one that is too large to hold.
fn no_object(core: &Core, ended: &Ended) -> Response {
    let message = "the upstream's answer holds no response object that can be assembled";
    let failure = Failure::new(Reason::UpstreamError, service::UPSTREAM, message)
        .next_step("ask for `stream: true`, which passes any answer through");
    call_response(&failure, ended, core.clock.now_s())
}

fn refused(core: &Core, ended: &Ended) -> Response {
    let unknown = || Failure::new(Reason::Internal, service::GATEWAY, "the call failed without a reason");
    let failure = ended.record.failure.clone().unwrap_or_else(unknown);
    let mut response = call_response(&failure, ended, core.clock.now_s());
    set(response.headers_mut(), "server-timing", &timing_of(ended));
    response
}

fn defect() -> Response {
    let failure = Failure::new(Reason::Internal, service::GATEWAY, "the call ended without an event");
    super::error::failure_response(&failure, 0)
}

fn put_head(ours: &mut HeaderMap, head: &Head) {
    headers::add_upstream(ours, &head.headers);
    set(ours, "server-timing", &head.server_timing);
    if !head.dropped.is_empty() {
        set(ours, "x-switchboard-dropped", &head.dropped.join(", "));
    }
}

/// All hops of a call that is over, as a `server-timing` header.
fn timing_of(ended: &Ended) -> String {
    let name = |hop: &domain::Hop| match hop.service.as_str() {
        // An upstream hop is named by its path, which is no token.
        service::UPSTREAM => service::UPSTREAM.to_owned(),
        service => format!("{service}.{}", hop.name),
    };
    let hops = ended.record.trace.hops.iter().map(|hop| format!("{};dur={:.3}", name(hop), hop.duration_us / 1e3));
    hops.collect::<Vec<_>>().join(", ")
}

fn set(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

impl Labels {
    fn put(&self, headers: &mut HeaderMap) {
        set(headers, "x-switchboard-call-id", &self.call_id);
        telemetry::inject(&self.span, headers);
        if !headers.contains_key("traceparent") {
            // No OpenTelemetry layer in this process: the id that the trace carries is still worth naming.
            let span = uuid::Uuid::new_v4().simple().to_string();
            set(headers, "traceparent", &format!("00-{}-{}-00", self.trace_id, span.get(..16).unwrap_or_default()));
        }
    }
}
