//! Comment lines for a stream that is silent: what stands between may take a connection that says nothing for dead.
//!
//! They come between events alone, and never before the first one: until then the call may still go elsewhere.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use tokio::time::{Instant, Sleep};

use crate::pipeline::is_silent;

/// What is said. A blank line ends it, as it does an event: readers that wait for one see it at once.
const COMMENT: &[u8] = b": keep-alive\n\n";

/// A stream of events with comment lines where it is silent.
pub(super) struct KeepAlive {
    events: Pin<Box<dyn Stream<Item = Result<Bytes, Infallible>> + Send>>,
    period: Duration,
    /// When something was said last.
    said: Instant,
    /// Looks after the silence; there is none before the first event.
    timer: Option<Pin<Box<Sleep>>>,
    /// An event has been relayed.
    begun: bool,
    /// What was relayed ends where an event does.
    between: bool,
}

impl KeepAlive {
    /// `period` is the silence that is allowed; zero is any.
    pub(super) fn new(
        events: impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static,
        period: Duration,
    ) -> Self {
        let events = Box::pin(events);
        Self { events, period, said: Instant::now(), timer: None, begun: false, between: false }
    }

    /// Ready once the silence has lasted for the period.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (period, said) = (self.period, self.said);
        // One timer for many events: it is set anew when it fires, not at each of them.
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(said + period)));
        loop {
            std::task::ready!(timer.as_mut().poll(cx));
            let now = Instant::now();
            if now >= self.said + period {
                self.said = now;
                timer.as_mut().reset(now + period);
                return Poll::Ready(());
            }
            timer.as_mut().reset(self.said + period);
        }
    }
}

impl Stream for KeepAlive {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let Poll::Ready(item) = this.events.as_mut().poll_next(cx) {
            if let Some(Ok(bytes)) = &item {
                this.said = Instant::now();
                this.begun = this.begun || !is_silent(bytes);
                this.between = ends_an_event(bytes);
            }
            return Poll::Ready(item);
        }
        if !this.begun || !this.between || this.period.is_zero() {
            return Poll::Pending;
        }
        this.poll_silence(cx).map(|()| Some(Ok(Bytes::from_static(COMMENT))))
    }
}

/// True if what ends with `bytes` ends between two events.
pub(super) fn ends_an_event(bytes: &[u8]) -> bool {
    bytes.ends_with(b"\n\n") || bytes.ends_with(b"\r\n\r\n") || bytes.ends_with(b"\r\r")
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    /// What is read of `pieces`, each after its seconds, with the seconds at which it was.
    async fn heard(pieces: &'static [(u64, &str)], period: u64) -> Vec<(u64, String)> {
        let events = async_stream::stream! {
            for (seconds, text) in pieces {
                tokio::time::sleep(Duration::from_secs(*seconds)).await;
                yield Ok(Bytes::from_static(text.as_bytes()));
            }
        };
        let began = Instant::now();
        let stream = KeepAlive::new(events, Duration::from_secs(period));
        let told = stream.map(|Ok(bytes)| (began.elapsed().as_secs(), String::from_utf8_lossy(&bytes).into_owned()));
        told.collect().await
    }

    fn said(list: &[(u64, &str)]) -> Vec<(u64, String)> {
        list.iter().map(|(at, text)| (*at, (*text).to_owned())).collect()
    }

    const C: &str = ": keep-alive\n\n";

    #[tokio::test(start_paused = true)]
    async fn comments_come_after_the_first_event_and_in_silence_only() {
        let heard_of = heard(&[(40, "data: 1\n\n"), (10, "data: 2\n\n"), (31, "data: 3\n\n")], 15).await;
        let told = [(40, "data: 1\n\n"), (50, "data: 2\n\n"), (65, C), (80, C), (81, "data: 3\n\n")];
        assert_eq!(heard_of, said(&told));
    }

    #[tokio::test(start_paused = true)]
    async fn no_comment_stands_in_an_event_or_before_one() {
        let pieces = &[(0, ": hello\n\n"), (60, "data: ha"), (60, "lf\r\n\r\n"), (20, "data: 2\n\n")];
        let told = [(0, pieces[0].1), (60, pieces[1].1), (120, pieces[2].1), (135, C), (140, pieces[3].1)];
        assert_eq!(heard(pieces, 15).await, said(&told));
        let told = [(0, pieces[0].1), (60, pieces[1].1), (120, pieces[2].1), (140, pieces[3].1)];
        assert_eq!(heard(pieces, 0).await, said(&told), "zero is never");
    }
}
