//! A request body whose bytes are counted as they come, and which has to come.

use std::pin::Pin;
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
    bytes: usize,
    /// When it has taken too long, by what has come so far.
    late: Pin<Box<Sleep>>,
}

impl<B> Counted<B> {
    /// `patience` is how long it may take beyond what its size allows.
    pub(crate) fn new(body: B, held: Held, patience: Duration) -> Self {
        Self { body, held, began: Instant::now(), patience, bytes: 0, late: Box::pin(sleep(patience)) }
    }

    fn came(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
        let allowed = Duration::from_secs((self.bytes / SLOWEST_BYTES_PER_SECOND) as u64);
        if let Some(late) = self.began.checked_add(self.patience.saturating_add(allowed)) {
            self.late.as_mut().reset(late);
        }
    }

    fn too_slow(&self) -> Failure {
        let (bytes, seconds) = (self.bytes, self.began.elapsed().as_secs());
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
            std::task::ready!(self.late.as_mut().poll(cx));
            return Poll::Ready(Some(Err(Refused(self.too_slow()).into())));
        };
        Poll::Ready(polled.map(|frame| {
            let frame = frame.map_err(Into::into)?;
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            self.came(bytes);
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
