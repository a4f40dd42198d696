//! What a handler leaves of a request's body.
//!
//! In HTTP/1 the next request stands behind it, so a server that answers without having read it has to close the
//! connection: at once and without a word, since the answer has begun. A client that reuses connections then loses
//! the answer, or its next request, to an error that looks like the network's.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http::Version;
use http_body::{Body as _, Frame, SizeHint};

use super::body::drain;

/// Reads what is left of a body before its answer goes out, within the limits of [`drain`].
pub(super) async fn read(request: Request, next: Next) -> Response {
    if request.version() > Version::HTTP_11 || request.body().is_end_stream() {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let body = Shared(Arc::new(Mutex::new(Some(body))));
    let rest = Shared(Arc::clone(&body.0));
    let response = next.run(Request::from_parts(parts, Body::new(body))).await;
    if !rest.is_end_stream() {
        drain(Body::new(rest)).await;
    }
    response
}

/// A body that its handler may drop before its end; `None` once that has come.
struct Shared(Arc<Mutex<Option<Body>>>);

impl http_body::Body for Shared {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(body) = held.as_mut() else { return Poll::Ready(None) };
        let polled = std::task::ready!(Pin::new(body).poll_frame(cx));
        if !matches!(polled, Some(Ok(_))) {
            *held = None;
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.as_ref().map_or_else(|| SizeHint::with_exact(0), http_body::Body::size_hint)
    }
}
