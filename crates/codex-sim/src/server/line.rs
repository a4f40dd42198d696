//! One connection, and how a reply can end it.
//!
//! hyper owns the socket while it serves, and knows only orderly endings. The disorderly ones are asked
//! for here: a handler says [`Line::end`], the connection's task sees it and lets go of the socket, and the
//! socket's own `Drop` decides between FIN and RST.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll, Waker, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;

use crate::state::SimState;

/// How a connection is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// TCP RST: what a crashed process or an impatient middlebox leaves behind.
    Reset,
    /// TCP FIN, without a word of TLS or HTTP.
    Close,
    /// HTTP/2 GOAWAY that names this as the last stream that was processed, then FIN.
    Goaway(u32),
}

/// How a connection that is not broken comes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaving {
    /// It says at once that it takes no more requests, and ends when those that it has are answered.
    WhenAnswered,
    /// It is closed without a word, when what was answered is on the wire.
    WhenIdle,
}

/// What handlers know of the connection they serve.
pub(crate) struct Line {
    /// Counts up from 1 over the simulator's life.
    pub(crate) id: u64,
    pub(crate) tls: bool,
    requests: AtomicU32,
    ending: Mutex<Option<Ending>>,
    /// Whoever reads the socket; woken to notice a GOAWAY.
    reader: Mutex<Option<Waker>>,
    leaving: Mutex<Option<Leaving>>,
    /// Cancelled once the connection is to leave.
    leaves: CancellationToken,
    /// Cancelled once the simulator has given up the connection.
    pub(crate) over: CancellationToken,
}

impl Line {
    /// A line that `over` ends from outside.
    pub(crate) fn new(id: u64, tls: bool, over: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            id,
            tls,
            requests: AtomicU32::new(0),
            ending: Mutex::new(None),
            reader: Mutex::new(None),
            leaving: Mutex::new(None),
            leaves: CancellationToken::new(),
            over,
        })
    }

    /// Counts a request; its number on this connection, from 1.
    pub(crate) fn count_request(&self) -> u32 {
        self.requests.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Ends the connection. What was given to hyper but not yet written may be lost.
    pub(crate) fn end(&self, ending: Ending) {
        *self.ending.lock().unwrap_or_else(PoisonError::into_inner) = Some(ending);
        if matches!(ending, Ending::Goaway(_)) {
            if let Some(waker) = self.reader.lock().unwrap_or_else(PoisonError::into_inner).take() {
                waker.wake();
            }
        } else {
            self.over.cancel();
        }
    }

    /// Asks for an orderly end.
    pub(crate) fn leave(&self, how: Leaving) {
        *self.leaving.lock().unwrap_or_else(PoisonError::into_inner) = Some(how);
        self.leaves.cancel();
    }

    /// Waits until an orderly end is asked for.
    pub(crate) async fn left(&self) -> Leaving {
        self.leaves.cancelled().await;
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner).unwrap_or(Leaving::WhenAnswered)
    }

    fn ending(&self) -> Option<Ending> {
        *self.ending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The accepted socket. Dropping it after [`Ending::Reset`] sends RST instead of FIN.
pub(crate) struct Socket {
    tcp: TcpStream,
    line: Arc<Line>,
}

impl Socket {
    pub(crate) fn new(tcp: TcpStream, line: Arc<Line>) -> Self {
        Self { tcp, line }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.line.ending() == Some(Ending::Reset) {
            // If it cannot be set the client sees FIN, still an abrupt end.
            let _ = self.tcp.set_zero_linger();
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

/// What hyper reads and writes: the socket, or TLS over it. On [`Ending::Goaway`] it slips the frame in
/// and reports the end of the stream. hyper can send GOAWAY by itself only for streams it has not yet
/// accepted, so it cannot disown the request that it is serving.
pub(crate) struct Wire<S> {
    inner: S,
    line: Arc<Line>,
    /// What is left to write of the GOAWAY frame.
    farewell: Option<Vec<u8>>,
}

impl<S> Wire<S> {
    pub(crate) fn new(inner: S, line: Arc<Line>) -> Self {
        Self { inner, line, farewell: None }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Wire<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        *this.line.reader.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
        let Some(Ending::Goaway(last_stream)) = this.line.ending() else {
            return Pin::new(&mut this.inner).poll_read(cx, buf);
        };
        let farewell = this.farewell.get_or_insert_with(|| goaway(last_stream));
        while !farewell.is_empty() {
            let written = ready!(Pin::new(&mut this.inner).poll_write(cx, farewell))?;
            farewell.drain(..written);
        }
        ready!(Pin::new(&mut this.inner).poll_flush(cx))?;
        this.line.over.cancel();
        Poll::Ready(Ok(()))
    }
}

/// Length 8, type 7, no flags, stream 0; the last stream, NO_ERROR (RFC 9113, 6.8).
fn goaway(last_stream: u32) -> Vec<u8> {
    let mut frame = vec![0, 0, 8, 7, 0, 0, 0, 0, 0];
    frame.extend_from_slice(&last_stream.to_be_bytes());
    frame.extend_from_slice(&[0; 4]);
    frame
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// Counts a live connection for as long as it exists.
pub(crate) struct LiveConnection {
    state: SimState,
    /// The connection's id.
    pub(crate) id: u64,
}

impl LiveConnection {
    pub(crate) fn count(state: &SimState) -> Self {
        state.counters().live_connections.fetch_add(1, Ordering::Relaxed);
        let id = state.counters().total_connections.fetch_add(1, Ordering::Relaxed) + 1;
        Self { state: state.clone(), id }
    }
}

impl Drop for LiveConnection {
    fn drop(&mut self) {
        self.state.counters().live_connections.fetch_sub(1, Ordering::Relaxed);
    }
}
