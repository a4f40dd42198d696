//! What the dialects of the HTTP face share: a call from its request to its answer, and the headers about it.
//!
//! A dialect is a folder or file beside this one. It says how a request becomes an [`Ask`] and how the call's events
//! become its own answer; who calls, which route serves and what happens when an attempt fails is none of its business.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use domain::{Failure, Reason, service};
use futures_util::Stream;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use proto::common::v1::Header;
use service_kit::Peer;
use tracing::Span;

use crate::core::Core;
use crate::headers;
use crate::http::body::Limits;
use crate::http::error::call_response;
use crate::http::keep_alive::KeepAlive;
use crate::pipeline::{self, Ask, Call, CallStream, Ended, Head};
use crate::records::Face;
use crate::room::Held;

/// Bodies from this size on are read on a thread that may be busy.
const LARGE_BODY_BYTES: usize = 1024 * 1024;

/// A request as it came, for a dialect to read.
pub(super) struct Incoming {
    /// The body, decoded.
    pub(super) body: Bytes,
    /// Caller headers that pass.
    pub(super) passing: Vec<Header>,
    /// The session that a header names.
    pub(super) session: Option<String>,
}

/// One way to ask and to be answered. Its value is what an answer needs to know of its request.
pub(super) trait Dialect: Sized + Send + 'static {
    /// The request as a Responses body.
    ///
    /// # Errors
    ///
    /// REQUEST_INVALID and UNSUPPORTED, naming the field.
    fn read(incoming: Incoming) -> Result<(Ask, Self), Failure>;

    /// True if the caller asked for a stream.
    fn streams(&self) -> bool;

    /// The body that tells a failure. `now_s` is Unix time, for what is left until a reset. Status and headers follow
    /// from the table of reasons and are the same in every dialect.
    fn error(failure: &Failure, call_id: Option<&str>, now_s: i64) -> String;

    /// The answer to a call that begins when its first event is pulled.
    fn answer(self, core: &Arc<Core>, events: CallStream, labels: &Labels) -> impl Future<Output = Response> + Send;
}

/// What every answer of one call says about it.
pub(super) struct Labels {
    /// The call's id.
    pub(super) call_id: String,
    trace_id: String,
    span: Span,
}

/// Serves one call in the dialect `D`.
pub(super) async fn serve<D: Dialect>(core: Arc<Core>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let mut call = Call::accept(&core, Face::Http, &parts.headers, &parts.extensions);
    let labels = Labels { call_id: call.id.clone(), trace_id: call.trace_id.clone(), span: call.span.clone() };
    let read = match call.identify(&parts.headers, parts.extensions.get::<Peer>().cloned(), "").await {
        // A stranger's body is not even looked at.
        Err(failure) => Err(failure),
        Ok(()) => {
            let held = parts.extensions.get::<Held>().cloned().unwrap_or_else(|| core.room.held());
            read::<D>(&core, &parts.headers, body, held).await
        }
    };
    let (stream, mut response) = match read {
        Err(failure) => {
            let server_timing = call.tracer.server_timing();
            let ended = call.finish(Some(failure), None);
            let mut response = refused::<D>(&core, &ended);
            set(response.headers_mut(), "server-timing", &server_timing);
            (false, response)
        }
        Ok((ask, dialect)) => {
            let stream = dialect.streams();
            (stream, dialect.answer(&core, pipeline::run(call, ask), &labels).await)
        }
    };
    labels.put(response.headers_mut());
    if stream && response.status().is_success() {
        // A proxy that buffers would turn a stream into a long wait.
        set(response.headers_mut(), "x-accel-buffering", "no");
    }
    response
}

async fn read<D: Dialect>(core: &Core, headers: &HeaderMap, body: Body, held: Held) -> Result<(Ask, D), Failure> {
    let limits = Limits { bytes: core.max_body_bytes, patience: core.body_timeout };
    let body = super::body::read(headers, body, held.clone(), limits).await?;
    let came = body.len();
    let incoming = Incoming { body, passing: headers::passing(headers), session: headers::session(headers) };
    let read = if came < LARGE_BODY_BYTES {
        D::read(incoming)?
    } else {
        let read = tokio::task::spawn_blocking(move || D::read(incoming)).await;
        let failed = |e| Failure::new(Reason::Internal, service::GATEWAY, format!("the body could not be read: {e}"));
        read.map_err(failed)??
    };
    // What is held from now on is the request that was made of it.
    let made = read.0.body.len();
    if made > core.max_body_bytes {
        return Err(translated_too_large(came, made, core.max_body_bytes));
    }
    held.grow(made.saturating_sub(came))?;
    Ok(read)
}

fn translated_too_large(came: usize, made: usize, limit: usize) -> Failure {
    let message = format!(
        "the body of {came} bytes has {made} as a request of the Responses API, and the limit is {limit} bytes: many small \
         messages grow most"
    );
    Failure::new(Reason::RequestTooLarge, service::GATEWAY, message)
}

/// A streamed answer whose body is `events`, kept alive where it is silent.
pub(super) fn event_stream(
    core: &Core,
    events: impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static,
    head: &Head,
) -> Response {
    let mut response = Response::new(Body::from_stream(KeepAlive::new(events, core.keep_alive)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    put_head(headers, head);
    response
}

/// A whole answer to a call that is over.
pub(super) fn whole(object: impl Into<Body>, head: Option<&Head>, ended: &Ended) -> Response {
    let mut response = super::json(http::StatusCode::OK, object);
    if let Some(head) = head {
        put_head(response.headers_mut(), head);
    }
    set(response.headers_mut(), "server-timing", &timing_of(ended));
    response
}

/// The stream was a success and still held no answer, or one that is too large to hold.
pub(super) fn no_object<D: Dialect>(core: &Core, ended: &Ended) -> Response {
    let message = "the upstream's answer holds no response object that can be assembled";
    let failure = Failure::new(Reason::UpstreamError, service::UPSTREAM, message)
        .next_step("ask for `stream: true`, which passes any answer through");
    call_response::<D>(&failure, ended, core.clock.now_s())
}

/// The answer to a call that failed before anything of an answer was sent.
pub(super) fn refused<D: Dialect>(core: &Core, ended: &Ended) -> Response {
    let unknown = || Failure::new(Reason::Internal, service::GATEWAY, "the call failed without a reason");
    let failure = ended.record.failure.clone().unwrap_or_else(unknown);
    let mut response = call_response::<D>(&failure, ended, core.clock.now_s());
    set(response.headers_mut(), "server-timing", &timing_of(ended));
    response
}

/// The pipeline broke its word: a call ends with an event.
pub(super) fn defect<D: Dialect>() -> Response {
    let failure = Failure::new(Reason::Internal, service::GATEWAY, "the call ended without an event");
    super::error::respond(&failure, D::error(&failure, None, 0))
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
