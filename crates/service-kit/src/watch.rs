//! What a connection is doing, so that one that does nothing for too long can be ended: no protocol timer sees a client
//! that answers pings and asks nothing, or that takes nothing of what it is answered.

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
    /// With an answer of which nothing is taken.
    pub(crate) reader: Option<Duration>,
}

impl Patience {
    /// How often to look; never, where there is nothing to be seen.
    pub(crate) fn every(&self) -> Option<Duration> {
        let shortest = [self.first, self.idle, self.reader].into_iter().flatten().min()?;
        Some((shortest / LOOKS).clamp(Duration::from_millis(50), Duration::from_secs(15)))
    }
}

/// Why a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// Nothing is asked.
    Idle,
    /// Nothing is taken.
    Unread,
}

/// One connection. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Watch(Arc<Doing>);

struct Doing {
    began: Instant,
    /// Milliseconds after it, at which something was asked, taken, or over.
    last_ms: AtomicU64,
    /// Requests under way.
    open: AtomicUsize,
    /// Those of whose answers a piece waits to be asked for, or was made and is not taken yet.
    unread: AtomicUsize,
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
            unread: AtomicUsize::new(0),
            known: AtomicBool::new(false),
            used: AtomicBool::new(false),
            counted,
        }))
    }

    /// A request has come.
    pub(crate) fn serving(&self) -> Serving {
        self.0.used.store(true, Ordering::Relaxed);
        self.0.open.fetch_add(1, Ordering::Relaxed);
        STREAMS.fetch_add(usize::from(self.0.counted), Ordering::Relaxed);
        self.0.touch();
        Serving { doing: Arc::clone(&self.0), unread: false }
    }

    /// True once a request has come.
    pub(crate) fn is_used(&self) -> bool {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Whether it has done nothing for too long.
    pub(crate) fn over(&self, patience: &Patience) -> Option<Over> {
        let doing = &self.0;
        let last = Duration::from_millis(doing.last_ms.load(Ordering::Relaxed));
        let quiet = doing.began.elapsed().saturating_sub(last);
        let beyond = |limit: Option<Duration>| limit.is_some_and(|limit| quiet >= limit);
        if doing.open.load(Ordering::Relaxed) == 0 {
            let known = doing.known.load(Ordering::Relaxed);
            return beyond(if known { patience.idle } else { patience.first }).then_some(Over::Idle);
        }
        (doing.unread.load(Ordering::Relaxed) > 0 && beyond(patience.reader)).then_some(Over::Unread)
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
    unread: bool,
}

impl Serving {
    /// The answer, watched as it is taken.
    pub(crate) fn answer(mut self, response: Response) -> Response {
        if !is_stranger(&response) {
            self.doing.known.store(true, Ordering::Relaxed);
        }
        // Who does not even ask for the first piece (a window that stays shut) takes nothing either.
        self.set_unread(true);
        response.map(|inner| Body::new(Watched { inner, serving: self }))
    }

    fn set_unread(&mut self, unread: bool) {
        self.doing.touch();
        match (self.unread, unread) {
            (false, true) => drop(self.doing.unread.fetch_add(1, Ordering::Relaxed)),
            (true, false) => drop(self.doing.unread.fetch_sub(1, Ordering::Relaxed)),
            _ => {}
        }
        self.unread = unread;
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.set_unread(false);
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
    serving: Serving,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        // Who asks for the next piece has taken the last one.
        let this = &mut *self;
        let polled = Pin::new(&mut this.inner).poll_frame(cx);
        this.serving.set_unread(matches!(polled, Poll::Ready(Some(_))));
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
    const PATIENCE: Patience = Patience {
        first: Some(Duration::from_secs(1)),
        idle: Some(Duration::from_secs(10)),
        reader: Some(Duration::from_secs(5)),
    };

    fn answer(status: StatusCode) -> Response {
        let pieces = stream::iter(["a", "b"].map(Ok::<_, std::convert::Infallible>));
        let mut response = Response::new(Body::from_stream(pieces));
        *response.status_mut() = status;
        response
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_nothing_is_idle_and_strangers_are_so_sooner() {
        let watch = Watch::new(false);
        assert_eq!(watch.over(&PATIENCE), None);
        drop(watch.serving().answer(answer(StatusCode::UNAUTHORIZED)));
        tokio::time::advance(S).await;
        assert_eq!(watch.over(&PATIENCE), Some(Over::Idle));
        let serving = watch.serving();
        tokio::time::advance(S * 100).await;
        assert_eq!(watch.over(&PATIENCE), None, "the answer takes its time");
        drop(serving.answer(answer(StatusCode::OK)));
        tokio::time::advance(S * 9).await;
        assert_eq!(watch.over(&PATIENCE), None);
        tokio::time::advance(S).await;
        assert_eq!(watch.over(&PATIENCE), Some(Over::Idle));
        assert_eq!(watch.over(&Patience::default()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_not_taken_ends_the_connection_and_a_slow_one_does_not() {
        let watch = Watch::new(false);
        let mut body = watch.serving().answer(answer(StatusCode::OK)).into_body();
        tokio::time::advance(S * 5).await;
        assert_eq!(watch.over(&PATIENCE), Some(Over::Unread), "not even the first piece is asked for");
        assert!(body.frame().await.is_some());
        tokio::time::advance(S * 4).await;
        assert!(watch.over(&PATIENCE).is_none() && body.frame().await.is_some());
        tokio::time::advance(S * 5).await;
        assert_eq!(watch.over(&PATIENCE), Some(Over::Unread));
        drop(body);
        assert_eq!(watch.over(&PATIENCE), None);
    }
}
