//! A request body whose bytes are counted as they come, and which has to come.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::BoxError;
use bytes::Bytes;
use domain::{Failure, Reason, service};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use super::Held;

/// A body that comes more slowly than this for longer than the patience with it is refused.
const SLOWEST_BYTES_PER_SECOND: usize = 1024;

/// A body as it travels: what has come of it is counted for whoever looks at it decoded.
pub(crate) struct Travelled<'a> {
    body: &'a mut axum::body::Body,
    bytes: Arc<AtomicUsize>,
}

impl<'a> Travelled<'a> {
    /// The body, and what will have come of it.
    pub(crate) fn new(body: &'a mut axum::body::Body) -> (Self, Arc<AtomicUsize>) {
        let bytes = Arc::new(AtomicUsize::new(0));
        (Self { body, bytes: Arc::clone(&bytes) }, bytes)
    }
}

impl Body for Travelled<'_> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = std::task::ready!(Pin::new(&mut *self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &polled {
            let _ = self.bytes.fetch_add(frame.data_ref().map_or(0, Bytes::len), Ordering::Relaxed);
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The rest of a body is refused: there is no room for it, or it does not come.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", .0.message)]
pub(crate) struct Refused(pub(crate) Failure);

/// A request body whose bytes are counted as they come, and which has to come.
pub(crate) struct Counted<B> {
    body: B,
    held: Held,
    began: Instant,
    patience: Duration,
    /// Of it as it travels: a few that decode to many do not buy time.
    came: Arc<AtomicUsize>,
    /// It was not decoded.
    as_it_is: bool,
    /// When it has taken too long, by what has come so far.
    late: Pin<Box<Sleep>>,
}

impl<B> Counted<B> {
    /// `patience` is how long it may take beyond what its size allows.
    pub(crate) fn new(body: B, held: Held, patience: Duration) -> Self {
        Self { as_it_is: true, ..Self::decoded(body, held, patience, Arc::default()) }
    }

    /// A body that was decoded; `came` is what has come of it before that ([`Travelled`]).
    pub(crate) fn decoded(body: B, held: Held, patience: Duration, came: Arc<AtomicUsize>) -> Self {
        let (began, late) = (Instant::now(), Box::pin(sleep(patience)));
        Self { body, held, began, patience, came, as_it_is: false, late }
    }

    /// Until when it may go on, by what has come of it.
    fn until(&self) -> Option<Instant> {
        let allowed = Duration::from_secs((self.came.load(Ordering::Relaxed) / SLOWEST_BYTES_PER_SECOND) as u64);
        self.began.checked_add(self.patience.saturating_add(allowed))
    }

    fn too_slow(&self) -> Failure {
        let (bytes, seconds) = (self.came.load(Ordering::Relaxed), self.began.elapsed().as_secs());
        let message = format!("the body comes too slowly or broke off: {bytes} bytes within {seconds} s");
        Failure::new(Reason::RequestInvalid, service::GATEWAY, message)
            .next_step("send it faster, or raise `[gateway] body_timeout`")
    }
}

impl<B> Body for Counted<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Poll::Ready(polled) = Pin::new(&mut self.body).poll_frame(cx) else {
            // What has come since the last look counts, whether it has decoded to anything or not.
            loop {
                std::task::ready!(self.late.as_mut().poll(cx));
                match self.until().filter(|until| *until > self.late.deadline()) {
                    Some(until) => self.late.as_mut().reset(until),
                    None => return Poll::Ready(Some(Err(Refused(self.too_slow()).into()))),
                }
            }
        };
        Poll::Ready(polled.map(|frame| {
            let frame = frame.map_err(Into::into)?;
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            if self.as_it_is {
                let _ = self.came.fetch_add(bytes, Ordering::Relaxed);
            }
            self.held.grow(bytes).map_err(Refused)?;
            Ok(frame)
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, StreamBody};

    use super::*;
    use crate::room::{Measures, Room};

    fn held() -> Held {
        let measures = Measures { calls: 1, bytes: 1 << 30, key_percent: 100, body_bytes: 1 << 30 };
        Room::new(measures).held()
    }

    /// Pieces of `decoded` bytes, each of `travelled` bytes on its way, one a second.
    async fn read(travelled: usize, decoded: usize, pieces: usize) -> Result<usize, BoxError> {
        let came = Arc::new(AtomicUsize::new(0));
        let tally = Arc::clone(&came);
        let stream = futures_util::stream::unfold(0, move |piece| {
            let tally = Arc::clone(&tally);
            async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let _ = tally.fetch_add(travelled, Ordering::Relaxed);
                let frame = Frame::data(Bytes::from(vec![0; decoded]));
                (piece < pieces).then_some((Ok::<_, std::io::Error>(frame), piece + 1))
            }
        });
        let body = StreamBody::new(Box::pin(stream));
        let counted = Counted::decoded(body, held(), Duration::from_secs(5), came);
        Ok(counted.collect().await?.to_bytes().len())
    }

    #[tokio::test(start_paused = true)]
    async fn few_bytes_that_decode_to_many_buy_no_time() {
        let error = read(4, 128 * 1024, 60).await.expect_err("too slow");
        assert!(error.to_string().contains("too slowly"), "{error}");
        assert_eq!(read(1024, 4, 60).await.expect("in time"), 240, "many that decode to few are no trickle");
    }
}
