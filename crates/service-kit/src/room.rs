//! What a service has room for: calls under way, and bytes of what it is asked. Who comes when there is none is told so at
//! once, with SHED, and costs next to nothing; a queue would only move the memory.
//!
//! tower's limits would not do: they give a call's place back with the head of its answer, they cannot say what is full and
//! which setting mends it, and they do not count bytes.

use std::future::ready;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use domain::{Failure, Reason};
use futures_util::TryFutureExt;
use futures_util::future::BoxFuture;
use http_body::{Body as HttpBody, Frame, SizeHint};
use telemetry::metrics;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::{Layer, Service};

use crate::layers::{is_grpc, refuse};
use crate::status::status_from_failure;

/// What stands before a gRPC message: whether it is compressed, and its length, big-endian.
const FRAME_HEAD_BYTES: usize = 5;

/// What is said to whom there is no room for.
#[derive(Clone, Debug)]
pub struct Full {
    /// The service that is full.
    pub service: &'static str,
    /// What it is counted as: one of [`metrics::names::SHED_KINDS`].
    pub what: &'static str,
    /// What is full, and how much there is of it.
    pub message: String,
    /// What a person may do about it: the setting.
    pub next_step: &'static str,
}

impl Full {
    /// The failure of one request, counted.
    fn refusal(&self) -> Failure {
        metrics::shed(self.what);
        Failure::new(Reason::Shed, self.service, self.message.clone()).next_step(self.next_step)
    }
}

/// Room for calls. Clones share it.
#[derive(Clone, Debug)]
pub struct CallRoom {
    places: Arc<Semaphore>,
    full: Arc<Full>,
}

impl CallRoom {
    /// As many as `most`.
    pub fn new(most: usize, full: Full) -> Self {
        Self { places: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))), full: Arc::new(full) }
    }

    /// A place; it is given back when it goes.
    ///
    /// # Errors
    ///
    /// SHED if all are taken.
    pub fn take(&self) -> Result<OwnedSemaphorePermit, Failure> {
        Arc::clone(&self.places).try_acquire_owned().map_err(|_| self.full.refusal())
    }
}

impl<S> Layer<S> for CallRoom {
    type Service = InPlaces<S>;

    fn layer(&self, inner: S) -> InPlaces<S> {
        InPlaces { room: self.clone(), inner }
    }
}

/// Gives each request a place until its answer has ended, or refuses it.
#[derive(Clone, Debug)]
pub struct InPlaces<S> {
    room: CallRoom,
    inner: S,
}

impl<S> Service<Request> for InPlaces<S>
where
    S: Service<Request, Response = Response>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let place = match self.room.take() {
            Ok(place) => place,
            Err(failure) => return Box::pin(ready(Ok(refuse(is_grpc(request.headers()), &failure)))),
        };
        let answer = self.inner.call(request);
        Box::pin(answer.map_ok(|answer| answer.map(|inner| Body::new(Kept { inner, _place: place }))))
    }
}

/// A body that keeps a place for as long as it is there.
struct Kept {
    inner: Body,
    _place: OwnedSemaphorePermit,
}

impl HttpBody for Kept {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Room for the bytes of requests. Clones share it.
#[derive(Clone, Debug)]
pub struct ByteRoom {
    units: Arc<Semaphore>,
    full: Arc<Full>,
}

/// The bytes of one request. Clones share them; they are given back when the last clone goes.
#[derive(Clone, Debug)]
pub struct HeldBytes {
    room: ByteRoom,
    share: Arc<Mutex<Share>>,
}

#[derive(Debug, Default)]
struct Share {
    bytes: usize,
    /// Units that are reserved; `permit` is for as many.
    units: usize,
    permit: Option<OwnedSemaphorePermit>,
}

impl ByteRoom {
    /// What bytes are counted in: a permit for each byte would not fit into a number of permits.
    pub const UNIT_BYTES: usize = 4096;

    /// For `bytes` at a time.
    pub fn new(bytes: usize, full: Full) -> Self {
        let units = bytes.div_ceil(ByteRoom::UNIT_BYTES).min(Semaphore::MAX_PERMITS);
        Self { units: Arc::new(Semaphore::new(units)), full: Arc::new(full) }
    }

    /// For one request, of which nothing has come.
    pub fn held(&self) -> HeldBytes {
        HeldBytes { room: self.clone(), share: Arc::default() }
    }

    /// Bytes that there is room for now, in whole units.
    pub fn left(&self) -> usize {
        self.units.available_permits().saturating_mul(Self::UNIT_BYTES)
    }
}

impl HeldBytes {
    fn lock(&self) -> MutexGuard<'_, Share> {
        // A panic elsewhere cannot leave a count half changed.
        self.share.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of `bytes` more.
    ///
    /// # Errors
    ///
    /// SHED if there is no room for them.
    pub fn grow(&self, bytes: usize) -> Result<(), Failure> {
        let mut share = self.lock();
        share.bytes = share.bytes.saturating_add(bytes);
        let all = share.bytes;
        self.reserve(&mut share, all)
    }

    /// Reserves room for `bytes` altogether: of many that come at once some are let in whole, and not all by half.
    ///
    /// # Errors
    ///
    /// SHED if there is no room for them.
    pub fn announce(&self, bytes: usize) -> Result<(), Failure> {
        self.reserve(&mut self.lock(), bytes)
    }

    fn reserve(&self, share: &mut Share, bytes: usize) -> Result<(), Failure> {
        let units = bytes.div_ceil(ByteRoom::UNIT_BYTES);
        let Some(more) = units.checked_sub(share.units).filter(|more| *more > 0) else { return Ok(()) };
        let taken = u32::try_from(more).ok().map(|more| Arc::clone(&self.room.units).try_acquire_many_owned(more));
        let Some(Ok(permit)) = taken else {
            // All of it is refused, and nothing of it is kept.
            *share = Share::default();
            return Err(self.room.full.refusal());
        };
        match &mut share.permit {
            Some(held) => held.merge(permit),
            None => share.permit = Some(permit),
        }
        share.units = units;
        Ok(())
    }

    /// `bytes`, which hold this room until the last of them has gone: for a request body, until a connection has written it
    /// or nobody wants it any more.
    pub fn keep(self, bytes: Bytes) -> Bytes {
        if bytes.is_empty() {
            return bytes;
        }
        Bytes::from_owner(Owned { bytes, _held: self })
    }
}

/// Bytes and the room that they take.
struct Owned {
    bytes: Bytes,
    _held: HeldBytes,
}

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl<S> Layer<S> for ByteRoom {
    type Service = Counting<S>;

    fn layer(&self, inner: S) -> Counting<S> {
        Counting { room: self.clone(), inner }
    }
}

/// Counts the bytes of each request as they come, and refuses what there is no room for. Whoever keeps something of the
/// request finds a [`HeldBytes`] among its extensions.
#[derive(Clone, Debug)]
pub struct Counting<S> {
    room: ByteRoom,
    inner: S,
}

impl<S: Service<Request>> Service<Request> for Counting<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request) -> S::Future {
        let held = self.room.held();
        request.extensions_mut().insert(held.clone());
        let head = is_grpc(request.headers()).then(Vec::new);
        self.inner.call(request.map(|inner| Body::new(Counted { inner, held, head })))
    }
}

/// A request body whose bytes are counted.
struct Counted {
    inner: Body,
    held: HeldBytes,
    /// What has come of a gRPC message's frame; `None` once its length is known, or where there is none.
    head: Option<Vec<u8>>,
}

impl Counted {
    fn came(&mut self, data: &[u8]) -> Result<(), Failure> {
        self.held.grow(data.len())?;
        let Some(head) = &mut self.head else { return Ok(()) };
        head.extend(data.iter().take(FRAME_HEAD_BYTES.saturating_sub(head.len())));
        let [_, length @ ..] = head.as_slice() else { return Ok(()) };
        let Ok(length) = <[u8; 4]>::try_from(length) else { return Ok(()) };
        self.head = None;
        let announced = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        // More than a message may have is refused by its reader, who keeps nothing of it.
        if announced > crate::MAX_CALL_BYTES {
            return Ok(());
        }
        self.held.announce(announced.saturating_add(FRAME_HEAD_BYTES))
    }
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        let polled = std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx));
        Poll::Ready(polled.map(|frame| {
            let frame = frame?;
            if let Some(data) = frame.data_ref() {
                // tonic makes the answer of what it finds here.
                self.came(data).map_err(|failure| status_from_failure(&failure))?;
            }
            Ok(frame)
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests;
