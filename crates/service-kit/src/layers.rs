//! What stands around every service, in process and behind a socket alike. tonic's own deadline and panic handling
//! lives in its `Server`, which neither the in-process path nor the port shared with HTTP goes through.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::response::{IntoResponse, Response};
use domain::{Failure, Reason};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::time::Sleep;
use tower::{Layer, Service};
use tracing::{Instrument, Span, field};

use crate::access;
use crate::body::{ServedBody, deadline_passed, note_status};
use crate::peer::Peer;
use crate::status::status_from_failure;

static HOST: LazyLock<String> = LazyLock::new(|| gethostname::gethostname().to_string_lossy().into_owned());
static HOST_VALUE: LazyLock<HeaderValue> =
    LazyLock::new(|| HeaderValue::from_str(&HOST).unwrap_or(HeaderValue::from_static("?")));

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
        router.layer(self)
    }
}

impl<S> Layer<S> for ServiceLayers {
    type Service = Layered<S>;

    fn layer(&self, inner: S) -> Layered<S> {
        Layered { layers: *self, inner }
    }
}

/// A service within its layers. One service for all of them: each of axum's own layers costs every request a copy of all
/// that is within it.
#[derive(Clone, Debug)]
pub struct Layered<S> {
    layers: ServiceLayers,
    inner: S,
}

impl<S> Service<Request> for Layered<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let (layers, grpc) = (self.layers, is_grpc(request.headers()));
        // Health and reflection are asked every few seconds, and say nothing about agents' calls.
        let quiet = request.uri().path().starts_with("/grpc.");
        let span = if quiet { Span::none() } else { layers.server_span(grpc, &request) };
        if let Err(failure) = layers.admit(&request) {
            // It is traced like any other answer.
            let response = layers.traced(refuse(grpc, &failure), grpc && !quiet, &span);
            return Box::pin(std::future::ready(Ok(response.map(|body| ServedBody::wrap(body, span, None)))));
        }
        // Over plain HTTP it is the handler's affair: the answer that ends a gRPC call is none there.
        let left = grpc_timeout(request.headers()).filter(|_| grpc);
        let until = left.map(|left| Box::pin(tokio::time::sleep(left)));
        let called = span.in_scope(|| catch_unwind(AssertUnwindSafe(|| self.inner.call(request))));
        let entered = span.clone();
        let answer = async move {
            let (response, until) = layers.answer(called, grpc, until).await;
            let response = layers.traced(response, grpc && !quiet, &span);
            Ok(response.map(|body| ServedBody::wrap(body, span, until.map(|until| (until, layers.service)))))
        };
        Box::pin(answer.instrument(entered))
    }
}

/// Time that is left, as a timer.
type Until = Pin<Box<Sleep>>;

impl ServiceLayers {
    /// The answer, whatever becomes of its handler, and the time that is left for its body: a panic must not take the
    /// connection's other calls with it, nor look like silence; and `grpc-timeout` is honoured.
    async fn answer(
        self,
        called: std::thread::Result<impl Future<Output = Result<Response, Infallible>>>,
        grpc: bool,
        mut until: Option<Until>,
    ) -> (Response, Option<Until>) {
        let answering = async {
            match called {
                Ok(answer) => AssertUnwindSafe(answer).catch_unwind().await,
                Err(panic) => Err(panic),
            }
        };
        let answered = match &mut until {
            None => answering.await,
            Some(timer) => tokio::select! {
                biased;
                answered = answering => answered,
                () = timer => return (refuse(true, &deadline_passed(self.service)), None),
            },
        };
        let response = answered.map_or_else(|_| self.panicked(grpc), |Ok(response)| response);
        (response, until)
    }

    fn panicked(self, grpc: bool) -> Response {
        let service = self.service;
        tracing::error!(service, "a request handler panicked");
        refuse(grpc, &Failure::new(Reason::Internal, service, format!("{service} failed on this request")))
    }

    /// Notes an answer in its span; and in the answer, of a `hop`, where it was given, whether it is traced or not.
    fn traced(self, mut response: Response, hop: bool, span: &Span) -> Response {
        if hop {
            let headers = response.headers_mut();
            // Whether there are spans or not: by it the caller knows that the service was there.
            headers.insert("x-switchboard-host", HOST_VALUE.clone());
            if let Some(id) = telemetry::span_id(span).and_then(|id| HeaderValue::try_from(id).ok()) {
                headers.insert("x-switchboard-span", id);
            }
            note_status(span, headers);
            return response;
        }
        span.record("http.response.status_code", response.status().as_u16());
        if response.status().is_server_error() {
            span.record("otel.status_code", "ERROR");
        }
        response
    }

    /// The server's span, a child of the caller's.
    fn server_span(self, grpc: bool, request: &Request) -> Span {
        let span = if grpc { self.grpc_span(request) } else { self.http_span(request) };
        telemetry::set_parent(&span, request.headers());
        span
    }

    fn grpc_span(self, request: &Request) -> Span {
        let method = request.uri().path().trim_start_matches('/');
        tracing::info_span!(target: "hop", "rpc", otel.name = method, otel.kind = "server", rpc.system = "grpc",
            switchboard.service = self.service, rpc.grpc.status_code = field::Empty, otel.status_code = field::Empty,
            switchboard.reason = field::Empty, switchboard.call_id = field::Empty)
    }

    fn http_span(self, request: &Request) -> Span {
        let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str);
        tracing::info_span!(target: "hop", "http", otel.name = format!("{} {route}", request.method()),
            otel.kind = "server", switchboard.service = self.service, http.request.method = %request.method(),
            http.route = route, http.response.status_code = field::Empty, otel.status_code = field::Empty,
            switchboard.reason = field::Empty, switchboard.call_id = field::Empty)
    }

    /// Refuses callers that are neither this process, nor of this user, nor named for it by a certificate.
    fn admit(self, request: &Request) -> Result<(), Failure> {
        let (service, path) = (self.service, request.uri().path());
        let peer = request.extensions().get::<Peer>();
        if !self.trusted_only || peer.is_some_and(|peer| peer.may_call(path)) {
            return Ok(());
        }
        let who = peer.map_or_else(|| "a caller of unknown identity".to_owned(), Peer::describe);
        tracing::warn!(service, peer = %who, path, "refused a caller");
        let message = match peer {
            Some(Peer::Certified { .. }) => {
                format!("{service} serves {path} to {}, not to {who}", access::callers(path))
            }
            _ => format!("{service} serves this method to its own user only, not to {who}"),
        };
        let failure = Failure::new(Reason::PeerRefused, service, message);
        Err(match peer {
            Some(Peer::Certified { .. }) => failure.next_step(match access::callers(path) {
                access::OPERATORS_ALONE => {
                    "use an operator's certificate: `switchboard certs init --operator NAME` makes one"
                }
                _ => "nobody else needs it: agents' calls go to the gateway's port, with a key",
            }),
            _ => failure,
        })
    }
}

/// Whether the answer has to be gRPC's.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(b"application/grpc"))
}

/// A failure in the caller's own protocol.
pub(crate) fn refuse(grpc: bool, failure: &Failure) -> Response {
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
