//! What a server says when it ends a connection: with TLS 1.3 a client believes that it is let in before the server has
//! looked at its certificate, and hears otherwise when it reads. HTTP/2 only tells that the connection is closed.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The alert with which a peer has ended a connection. Cheap to clone; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Alert(Arc<Mutex<Option<String>>>);

impl Alert {
    /// What it was, if it was the first that came: nothing on this connection was looked at.
    pub(crate) fn first_word(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, alert: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(alert);
    }
}

/// A connection that remembers the alert that ends it.
pub(crate) struct Heard<S> {
    stream: S,
    alert: Alert,
    /// Who is at the other end, for the log.
    place: String,
    /// Something has come that was no alert.
    greeted: bool,
}

impl<S> Heard<S> {
    pub(crate) fn new(stream: S, alert: Alert, place: String) -> Self {
        Self { stream, alert, place, greeted: false }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = std::task::ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        match &read {
            Ok(()) if !self.greeted && buf.filled().len() > before => {
                self.greeted = true;
            }
            Err(error) if is_alert(error) => {
                tracing::warn!(peer = self.place, %error, "the peer has ended the connection");
                if !self.greeted {
                    self.alert.set(error.to_string());
                }
            }
            _ => {}
        }
        Poll::Ready(read)
    }
}

fn is_alert(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(inner, Some(rustls::Error::AlertReceived(_)))
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
