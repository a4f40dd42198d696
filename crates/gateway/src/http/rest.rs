//! What a handler leaves of a request's body.
//!
//! In HTTP/1 the next request stands behind it, so a server that answers without having read it has to close the
//! connection: at once and without a word, since the answer has begun. A client that reuses connections then loses
//! the answer, or its next request, to an error that looks like the network's. In HTTP/2 there are clients that take the end
//! of a stream that they still write to for such an error.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, Version, header};
use http_body::{Body as _, Frame, SizeHint};

use super::body::drain;

/// Reads what is left of a body before its answer goes out, within the limits of [`drain`]. A body that waits for leave to
/// come (`Expect: 100-continue`) is not asked for when its request is refused unread: the client then need not send it.
pub(super) async fn read(request: Request, next: Next) -> Response {
    let version = request.version();
    // A gRPC client may go on asking while it is answered.
    if request.body().is_end_stream() || super::is_grpc(request.headers()) {
        return next.run(request).await;
    }
    let expects = request.headers().get(header::EXPECT);
    let waits = expects.is_some_and(|expects| expects.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    let (parts, body) = request.into_parts();
    let body = Shared(Arc::new(Mutex::new(Left { body: Some(body), begun: false })));
    let rest = Shared(Arc::clone(&body.0));
    let mut response = next.run(Request::from_parts(parts, Body::new(body))).await;
    if waits && !rest.is_begun() {
        if version > Version::HTTP_11 {
            return response;
        }
        // Whether the body comes all the same is the client's choice: what follows on this connection may be one or the other.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    } else if !rest.is_end_stream() {
        drain(Body::new(rest)).await;
    }
    response
}

/// A body that its handler may drop before its end.
struct Shared(Arc<Mutex<Left>>);

struct Left {
    /// `None` once its end has come.
    body: Option<Body>,
    /// Somebody has asked for it.
    begun: bool,
}

impl Shared {
    fn left(&self) -> MutexGuard<'_, Left> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_begun(&self) -> bool {
        self.left().begun
    }
}

impl http_body::Body for Shared {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut left = self.left();
        left.begun = true;
        let Some(body) = left.body.as_mut() else { return Poll::Ready(None) };
        let polled = std::task::ready!(Pin::new(body).poll_frame(cx));
        if !matches!(polled, Some(Ok(_))) {
            left.body = None;
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.left().body.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.left().body.as_ref().map_or_else(|| SizeHint::with_exact(0), http_body::Body::size_hint)
    }
}
