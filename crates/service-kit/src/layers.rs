//! What stands around every service, in process and behind a socket alike. tonic's own deadline and panic handling
//! lives in its `Server`, which neither the in-process path nor the port shared with HTTP goes through.

use std::panic::AssertUnwindSafe;
use std::sync::LazyLock;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use domain::{Failure, Reason};
use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tracing::{Instrument, Span, field};

use crate::access;
use crate::body::{DeadlineBody, SpanBody, deadline_passed, note_status};
use crate::peer::Peer;
use crate::status::status_from_failure;

static HOST: LazyLock<String> = LazyLock::new(|| gethostname::gethostname().to_string_lossy().into_owned());

/// Name of this host, as it stands in hops.
pub fn hostname() -> &'static str {
    &HOST
}

/// The layers of one service.
#[derive(Clone, Copy, Debug)]
pub struct ServiceLayers {
    service: &'static str,
    trusted_only: bool,
}

impl ServiceLayers {
    /// For a service that anybody who can connect may call; it checks its callers itself.
    pub fn open(service: &'static str) -> Self {
        Self { service, trusted_only: false }
    }

    /// For a service that only processes of the same user (or this one), and who has a certificate for it, may call.
    pub fn trusted(service: &'static str) -> Self {
        Self { service, trusted_only: true }
    }

    /// Puts the layers around `router`. The last one added stands outermost.
    pub fn apply(self, router: axum::Router) -> axum::Router {
        let router = if self.trusted_only {
            // Innermost, so that a refusal is traced like any other answer.
            router.layer(from_fn_with_state(self.service, trusted_peers))
        } else {
            router
        };
        router
            // Below the deadline: a panic must not look like silence.
            .layer(from_fn_with_state(self.service, catch_panic))
            // Below the trace, so that a deadline shows in the span.
            .layer(from_fn_with_state(self.service, deadline))
            // Outermost: the span lives until the body ends, whatever ends it.
            .layer(from_fn_with_state(self.service, trace))
            .layer(from_fn(untraced_health))
    }
}

/// Marks health and reflection calls, which come every few seconds and say nothing about agents' calls.
async fn untraced_health(mut request: Request, next: Next) -> Response {
    if request.uri().path().starts_with("/grpc.") {
        request.extensions_mut().insert(Untraced);
    }
    next.run(request).await
}

#[derive(Clone, Copy)]
struct Untraced;

fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(b"application/grpc"))
}

/// A failure in the caller's own protocol.
fn refuse(grpc: bool, failure: &Failure) -> Response {
    if grpc {
        return status_from_failure(failure).into_http::<Body>();
    }
    let row = failure.reason.row();
    let body = serde_json::json!({ "error": {
        "message": failure.message, "type": row.error_type, "code": row.error_code, "param": null,
        "reason": failure.reason.as_str(), "nextStep": failure.next_step } });
    let status = StatusCode::from_u16(row.http).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

/// Opens the server's span as a child of the caller's, and says in the answer where it was given.
async fn trace(State(service): State<&'static str>, request: Request, next: Next) -> Response {
    if request.extensions().get::<Untraced>().is_some() {
        return next.run(request).await;
    }
    let grpc = is_grpc(request.headers());
    let span = server_span(service, grpc, &request);
    telemetry::set_parent(&span, request.headers());
    let mut response = next.run(request).instrument(span.clone()).await;
    let headers = response.headers_mut();
    if grpc {
        headers
            .insert("x-switchboard-host", HeaderValue::from_str(hostname()).unwrap_or(HeaderValue::from_static("?")));
        if let Some(id) = telemetry::span_id(&span).and_then(|id| HeaderValue::try_from(id).ok()) {
            headers.insert("x-switchboard-span", id);
        }
        note_status(&span, headers);
    } else {
        span.record("http.response.status_code", response.status().as_u16());
        if response.status().is_server_error() {
            span.record("otel.status_code", "ERROR");
        }
    }
    response.map(|body| SpanBody::wrap(body, span))
}

fn server_span(service: &'static str, grpc: bool, request: &Request) -> Span {
    let path = request.uri().path();
    if grpc {
        let method = path.trim_start_matches('/');
        return tracing::info_span!(target: "hop", "rpc", otel.name = method, otel.kind = "server", rpc.system = "grpc",
            switchboard.service = service, rpc.grpc.status_code = field::Empty, otel.status_code = field::Empty,
            switchboard.reason = field::Empty, switchboard.call_id = field::Empty);
    }
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str);
    tracing::info_span!(target: "hop", "http", otel.name = format!("{} {route}", request.method()), otel.kind = "server",
        switchboard.service = service, http.request.method = %request.method(), http.route = route,
        http.response.status_code = field::Empty, otel.status_code = field::Empty,
        switchboard.reason = field::Empty, switchboard.call_id = field::Empty)
}

/// Time left to the caller, from the `grpc-timeout` header: at most 8 digits and a unit.
pub fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let n: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(n * 3600),
        "M" => Duration::from_secs(n * 60),
        "S" => Duration::from_secs(n),
        "m" => Duration::from_millis(n),
        "u" => Duration::from_micros(n),
        "n" => Duration::from_nanos(n),
        _ => return None,
    })
}

/// Honours `grpc-timeout`, for the head and for the body. Over plain HTTP it is the handler's affair: the answer that
/// ends a gRPC call is none there.
async fn deadline(State(service): State<&'static str>, request: Request, next: Next) -> Response {
    let left = grpc_timeout(request.headers()).filter(|_| is_grpc(request.headers()));
    let Some(left) = left else { return next.run(request).await };
    let until = tokio::time::Instant::now() + left;
    match tokio::time::timeout_at(until, next.run(request)).await {
        Ok(response) => response.map(|body| DeadlineBody::wrap(body, tokio::time::sleep_until(until), service)),
        Err(_) => refuse(true, &deadline_passed(service)),
    }
}

/// Turns a panic into INTERNAL: one defect must not take the connection's other calls with it.
async fn catch_panic(State(service): State<&'static str>, request: Request, next: Next) -> Response {
    let grpc = is_grpc(request.headers());
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(_) => {
            tracing::error!(service, "a request handler panicked");
            refuse(grpc, &Failure::new(Reason::Internal, service, format!("{service} failed on this request")))
        }
    }
}

/// Refuses callers that are neither this process, nor of this user, nor named for it by a certificate.
async fn trusted_peers(State(service): State<&'static str>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().cloned();
    let path = request.uri().path();
    if peer.as_ref().is_some_and(|peer| peer.may_call(path)) {
        return next.run(request).await;
    }
    let who = peer.as_ref().map_or_else(|| "a caller of unknown identity".to_owned(), Peer::describe);
    tracing::warn!(service, peer = %who, path, "refused a caller");
    let message = match peer {
        Some(Peer::Certified { .. }) => format!("{service} serves {path} to {}, not to {who}", access::callers(path)),
        _ => format!("{service} serves this method to its own user only, not to {who}"),
    };
    refuse(is_grpc(request.headers()), &Failure::new(Reason::PeerRefused, service, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        let read = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", HeaderValue::from_static(text));
            grpc_timeout(&headers)
        };
        assert_eq!(read("2S"), Some(Duration::from_secs(2)));
        assert_eq!(read("150m"), Some(Duration::from_millis(150)));
        for bad in ["", "S", "x", "123456789S", "1x", "-1S"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
