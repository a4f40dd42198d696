//! A connection that says nothing must not stay open for ever.
//!
//! Which protocol a client speaks shows in its first bytes, and the timers of neither protocol run before that is known:
//! a client that connects and is silent, or stops within HTTP/2's preface, would hold its connection until it goes away.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// What an HTTP/2 client says first (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream that fails if its other end has not said which protocol it speaks by a deadline.
pub(crate) struct FirstWord<S> {
    inner: S,
    /// None once it has said it.
    deadline: Option<Pin<Box<Sleep>>>,
    /// Bytes of the preface that came.
    preface: usize,
}

impl<S> FirstWord<S> {
    pub(crate) fn within(limit: Duration, inner: S) -> Self {
        Self { inner, deadline: Some(Box::pin(tokio::time::sleep(limit))), preface: 0 }
    }

    /// What is no preface is HTTP/1, whose own timer runs from here on; after the preface HTTP/2 asks for signs of life.
    fn heard(&mut self, bytes: &[u8]) {
        let still = bytes.iter().take_while(|byte| {
            let same = PREFACE.get(self.preface) == Some(*byte);
            self.preface += usize::from(same);
            same
        });
        if still.count() < bytes.len() || bytes.is_empty() || self.preface == PREFACE.len() {
            self.deadline = None;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for FirstWord<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.inner).poll_read(cx, buf);
        let Some(deadline) = &mut this.deadline else { return polled };
        if polled.is_ready() {
            this.heard(buf.filled().get(before..).unwrap_or_default());
            return polled;
        }
        let late = || io::Error::new(io::ErrorKind::TimedOut, "the client has not said what it wants");
        deadline.as_mut().poll(cx).map(|()| Err(late()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FirstWord<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const LIMIT: Duration = Duration::from_millis(50);

    /// Whether a client that says `words` and no more still has its connection after the deadline.
    async fn kept(words: &[u8]) -> bool {
        let (mut client, server) = duplex(64);
        let mut server = FirstWord::within(LIMIT, server);
        client.write_all(words).await.expect("written");
        let mut heard = vec![0; words.len()];
        server.read_exact(&mut heard).await.expect("what was said");
        assert_eq!(heard, words);
        tokio::time::timeout(LIMIT * 3, server.read_u8()).await.is_err()
    }

    #[tokio::test]
    async fn silence_and_half_a_preface_end_in_time_and_a_first_word_does_not() {
        assert!(!kept(b"").await && !kept(b"P").await && !kept(b"PRI * HTTP/2.0\r\n").await);
        assert!(kept(PREFACE).await && kept(b"GET").await && kept(b"PRI / HTTP/1.1\r\n").await && kept(b"POST").await);
    }
}
