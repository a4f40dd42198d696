//! Response bodies that keep something alive, or end something, for as long as they stream.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use domain::{Failure, Reason};
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use tracing::Span;

use crate::status::status_from_failure;

/// Keeps a span open until the body has ended, and notes the gRPC status in it. Ends a gRPC stream with DEADLINE when its
/// time is over: the head came in time, but the rest must too.
pub(crate) struct ServedBody {
    inner: Body,
    span: Span,
    /// The time that is left, and the service that the caller hears it from.
    until: Option<(Pin<Box<Sleep>>, &'static str)>,
    over: bool,
}

impl ServedBody {
    pub(crate) fn wrap(inner: Body, span: Span, until: Option<(Pin<Box<Sleep>>, &'static str)>) -> Body {
        if span.is_none() && until.is_none() {
            return inner;
        }
        Body::new(Self { inner, span, until, over: false })
    }

    /// Whether the time is over, for a body that always has another piece: a timer that nobody waits for is looked at.
    fn is_late(&self) -> bool {
        self.until.as_ref().is_some_and(|(timer, _)| timer.deadline() <= Instant::now())
    }

    /// The last frame of a stream whose time is over. What would have made more of it is let go.
    fn late(&mut self, cx: &mut Context<'_>) -> Poll<Frame<Bytes>> {
        let Some((timer, service)) = &mut self.until else { return Poll::Pending };
        std::task::ready!(timer.as_mut().poll(cx));
        self.over = true;
        self.inner = Body::empty();
        let mut trailers = HeaderMap::new();
        // Adding the status fails only for a message that is no header value, and ours is plain ASCII.
        let _ = status_from_failure(&deadline_passed(service)).add_header(&mut trailers);
        Poll::Ready(Frame::trailers(trailers))
    }
}

/// Notes a gRPC status, wherever it stands.
pub(crate) fn note_status(span: &Span, headers: &HeaderMap) {
    let Some(status) = tonic::Status::from_header_map(headers) else { return };
    span.record("rpc.grpc.status_code", status.code() as i32);
    if status.code() != tonic::Code::Ok {
        let failure = crate::status::failure_from_status(&status, "");
        span.record("otel.status_code", "ERROR");
        span.record("switchboard.reason", failure.reason.as_str());
    }
}

/// The failure of a call whose deadline passed in `service`.
pub(crate) fn deadline_passed(service: &str) -> Failure {
    Failure::new(Reason::Deadline, service, format!("the caller's deadline passed while {service} worked"))
}

impl HttpBody for ServedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        if this.over {
            return Poll::Ready(None);
        }
        let mut polled = this.span.in_scope(|| Pin::new(&mut this.inner).poll_frame(cx));
        let more = matches!(&polled, Poll::Ready(Some(Ok(frame))) if frame.is_data());
        if polled.is_pending() || more && this.is_late() {
            polled = this.late(cx).map(|last| Some(Ok(last)));
        }
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(trailers) = frame.trailers_ref()
        {
            note_status(&this.span, trailers);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::stream;
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_body_that_always_has_more_ends_at_the_deadline_too() {
        let pieces = stream::repeat_with(|| Ok::<_, std::convert::Infallible>("more"));
        let until = Box::pin(tokio::time::sleep(Duration::from_secs(1)));
        let mut body = ServedBody::wrap(Body::from_stream(pieces), Span::none(), Some((until, "gateway")));
        for _ in 0..100 {
            assert!(body.frame().await.expect("more").expect("no error").is_data());
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        let last = body.frame().await.expect("an end").expect("no error").into_trailers().expect("trailers");
        assert_eq!(last.get("grpc-status").map(http::HeaderValue::as_bytes), Some(&b"4"[..]));
        assert!(body.frame().await.is_none());
    }
}
