//! What a connection is doing, so that one that does nothing for too long can be ended: no protocol timer sees a client
//! that answers pings and asks nothing. One that takes nothing of what it is answered is seen by [`crate::stall`].

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::stall;

/// Requests under way over this process's listeners.
static STREAMS: AtomicUsize = AtomicUsize::new(0);
/// Connections open at them.
static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);
/// Looks at a connection within the shortest of its limits.
const LOOKS: u32 = 4;

/// Requests under way, and open connections, of this process's listeners but for the admin port.
pub(crate) fn open() -> (usize, usize) {
    (STREAMS.load(Ordering::Relaxed), CONNECTIONS.load(Ordering::Relaxed))
}

/// How long a connection may do nothing; none is for ever.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Patience {
    /// Without a request, before anybody who may ask has asked something.
    pub(crate) first: Option<Duration>,
    /// Without a request, after that.
    pub(crate) idle: Option<Duration>,
}

impl Patience {
    /// How often to look; never, where there is nothing to be seen.
    pub(crate) fn every(&self) -> Option<Duration> {
        let shortest = [self.first, self.idle].into_iter().flatten().min()?;
        Some((shortest / LOOKS).clamp(Duration::from_millis(50), Duration::from_secs(15)))
    }
}

/// One connection. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Watch(Arc<Doing>);

struct Doing {
    began: Instant,
    /// Milliseconds after it, at which something was asked, or over.
    last_ms: AtomicU64,
    /// Requests under way.
    open: AtomicUsize,
    /// Somebody has asked who may.
    known: AtomicBool,
    /// Anybody has asked.
    used: AtomicBool,
    /// It is among those that the metrics tell.
    counted: bool,
}

impl Watch {
    pub(crate) fn new(counted: bool) -> Self {
        CONNECTIONS.fetch_add(usize::from(counted), Ordering::Relaxed);
        Self(Arc::new(Doing {
            began: Instant::now(),
            last_ms: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            known: AtomicBool::new(false),
            used: AtomicBool::new(false),
            counted,
        }))
    }

    /// A request has come, whose caller waits until then.
    pub(crate) fn serving(&self, until: Option<Instant>) -> Serving {
        self.0.used.store(true, Ordering::Relaxed);
        self.0.open.fetch_add(1, Ordering::Relaxed);
        STREAMS.fetch_add(usize::from(self.0.counted), Ordering::Relaxed);
        self.0.touch();
        Serving { doing: Arc::clone(&self.0), until }
    }

    /// True once a request has come.
    pub(crate) fn is_used(&self) -> bool {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Whether it has asked nothing for too long.
    pub(crate) fn is_idle(&self, patience: &Patience) -> bool {
        let doing = &self.0;
        if doing.open.load(Ordering::Relaxed) > 0 {
            return false;
        }
        let last = Duration::from_millis(doing.last_ms.load(Ordering::Relaxed));
        let quiet = doing.began.elapsed().saturating_sub(last);
        let limit = if doing.known.load(Ordering::Relaxed) { patience.idle } else { patience.first };
        limit.is_some_and(|limit| quiet >= limit)
    }
}

impl Doing {
    fn touch(&self) {
        let ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(ms, Ordering::Relaxed);
    }
}

impl Drop for Doing {
    fn drop(&mut self) {
        CONNECTIONS.fetch_sub(usize::from(self.counted), Ordering::Relaxed);
    }
}

/// A request under way on a connection, until its answer has ended or was given up.
pub(crate) struct Serving {
    doing: Arc<Doing>,
    /// The caller's deadline.
    until: Option<Instant>,
}

impl Serving {
    /// The answer, watched as it is taken.
    pub(crate) fn answer(self, response: Response) -> Response {
        if !is_stranger(&response) {
            self.doing.known.store(true, Ordering::Relaxed);
        }
        stall::begins(self.until);
        response.map(|inner| Body::new(Watched { inner, _serving: self }))
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        stall::ends();
        self.doing.touch();
        self.doing.open.fetch_sub(1, Ordering::Relaxed);
        STREAMS.fetch_sub(usize::from(self.doing.counted), Ordering::Relaxed);
    }
}

/// The answer to somebody who may not ask.
fn is_stranger(response: &Response) -> bool {
    let grpc = || Status::from_header_map(response.headers()).map(|status| status.code());
    response.status() == StatusCode::UNAUTHORIZED || grpc() == Some(Code::Unauthenticated)
}

struct Watched {
    inner: Body,
    _serving: Serving,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        // Who asks for the next piece has taken the last one.
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        stall::asked(matches!(polled, Poll::Ready(Some(_))));
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body_util::BodyExt;

    use super::*;

    const S: Duration = Duration::from_secs(1);
    const PATIENCE: Patience = Patience { first: Some(Duration::from_secs(1)), idle: Some(Duration::from_secs(10)) };

    fn answer(status: StatusCode) -> Response {
        let pieces = stream::iter(["a", "b"].map(Ok::<_, std::convert::Infallible>));
        let mut response = Response::new(Body::from_stream(pieces));
        *response.status_mut() = status;
        response
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_nothing_is_idle_and_strangers_are_so_sooner() {
        let watch = Watch::new(false);
        assert!(!watch.is_idle(&PATIENCE));
        drop(watch.serving(None).answer(answer(StatusCode::UNAUTHORIZED)));
        tokio::time::advance(S).await;
        assert!(watch.is_idle(&PATIENCE));
        let serving = watch.serving(None);
        tokio::time::advance(S * 100).await;
        assert!(!watch.is_idle(&PATIENCE), "the answer takes its time");
        let mut body = serving.answer(answer(StatusCode::OK)).into_body();
        assert!(body.frame().await.is_some());
        tokio::time::advance(S * 100).await;
        assert!(!watch.is_idle(&PATIENCE), "a reader who takes its time asks something all the same");
        drop(body);
        tokio::time::advance(S * 9).await;
        assert!(!watch.is_idle(&PATIENCE));
        tokio::time::advance(S).await;
        assert!(watch.is_idle(&PATIENCE));
        assert!(!watch.is_idle(&Patience::default()));
    }
}
