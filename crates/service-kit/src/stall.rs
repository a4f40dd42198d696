//! Readers who have stopped. While a piece of an answer waits to be taken, hyper does not look at the answer, and so nothing
//! within it sees its time pass. Whoever polls hyper does: the task of one stream of HTTP/2, which is reset by being
//! dropped, and the task of a connection of HTTP/1.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use telemetry::metrics;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::task::TaskTracker;

thread_local! {
    /// What the answer says of itself that is polled on this thread just now: from the answer, within hyper, to the
    /// [`Stall`] around hyper, at no cost for the many that never stall.
    static TOLD: Cell<Told> = const { Cell::new(Told { until: None, unread: false, asked: false }) };
}

/// What an answer says of itself.
#[derive(Clone, Copy, Default)]
struct Told {
    /// The caller's deadline.
    until: Option<Instant>,
    /// A piece was made, and the next one not asked for yet.
    unread: bool,
    /// The latter has become true just now.
    asked: bool,
}

/// An answer begins.
pub(crate) fn begins(until: Option<Instant>) {
    // Who does not even ask for the first piece (a window that stays shut) takes nothing either.
    TOLD.set(Told { until, unread: true, asked: true });
}

/// An answer was asked for its next piece, which is to be taken, if there is one.
pub(crate) fn asked(unread: bool) {
    TOLD.set(Told { unread, asked: true, ..TOLD.get() });
}

/// An answer has ended.
pub(crate) fn ends() {
    TOLD.set(Told::default());
}

/// Why an answer is not waited with any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stalled {
    /// Its reader takes nothing of it.
    Unread,
    /// That, and the caller's deadline has passed.
    Late,
}

impl Stalled {
    /// As the metrics call it.
    pub(crate) fn why(self) -> &'static str {
        match self {
            Self::Unread => "reader",
            Self::Late => "deadline",
        }
    }
}

/// Watches one answer after the other, as each is taken.
pub(crate) struct Stall {
    /// Longest time between two pieces; none is for ever.
    patience: Option<Duration>,
    told: Told,
    /// When the piece was made that is not taken.
    since: Option<Instant>,
    /// Made when it is needed first: most answers are taken as they come.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Stall {
    pub(crate) fn new(patience: Option<Duration>) -> Self {
        Self { patience, told: Told::default(), since: None, timer: None }
    }

    /// Polls what answers; it is to be dropped when its answer has stalled.
    pub(crate) fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        answering: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<Result<T, Stalled>> {
        let outer = TOLD.replace(Told { asked: false, ..self.told });
        let polled = answering(cx);
        self.told = TOLD.replace(outer);
        match polled {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending if self.told.unread => self.wait(cx).map(Err),
            Poll::Pending => Poll::Pending,
        }
    }

    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Stalled> {
        let now = Instant::now();
        let since = *self.since.insert(self.since.filter(|_| !self.told.asked).unwrap_or(now));
        let unread = self.patience.and_then(|patience| since.checked_add(patience)).map(|at| (at, Stalled::Unread));
        let late = self.told.until.map(|at| (at, Stalled::Late));
        let Some((at, why)) = unread.into_iter().chain(late).min_by_key(|(at, _)| *at) else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if timer.deadline() > at {
            timer.as_mut().reset(at);
        }
        // One that was set for an earlier piece is left alone until then: a reader who is only slow costs nothing.
        while timer.deadline() < at {
            ready!(timer.as_mut().poll(cx));
            timer.as_mut().reset(at);
        }
        timer.as_mut().poll(cx).map(|()| why)
    }
}

/// Where hyper spawns the streams of HTTP/2 connections: where the drain sees them, and each watched.
#[derive(Clone)]
pub(crate) struct Streams {
    /// Where they are seen.
    pub(crate) tasks: TaskTracker,
    /// How long the client may take nothing of an answer; none is for ever.
    pub(crate) patience: Option<Duration>,
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, answering: F) {
        drop(self.tasks.spawn(Stream { answering, stall: Stall::new(self.patience) }));
    }
}

pin_project! {
    /// One stream. It ends with its answer, or by being dropped, and so reset.
    struct Stream<F> {
        #[pin]
        answering: F,
        stall: Stall,
    }
}

impl<F: Future<Output = ()>> Future for Stream<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let polled = ready!(this.stall.poll(cx, |cx| this.answering.poll(cx)));
        if let Err(stalled) = polled {
            metrics::stream_reset(stalled.why());
            tracing::debug!(why = stalled.why(), "a client took nothing of its answer: the stream is reset");
        }
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    const S: Duration = Duration::from_secs(1);

    /// How an answer ends, after how many seconds, that is asked for a piece at these seconds and never has all of them
    /// taken.
    async fn stalled(patience: Option<Duration>, until: Option<u64>, asked_at: &[u64]) -> (Stalled, u64) {
        let began = Instant::now();
        let (mut stall, mut told, mut pieces) = (Stall::new(patience), false, asked_at.iter());
        let mut next = pieces.next().map(|at| Box::pin(sleep_until(began + S * u32::try_from(*at).expect("few"))));
        let ended = poll_fn(|cx| {
            stall.poll(cx, |cx| {
                if !told {
                    begins(until.map(|until| began + Duration::from_secs(until)));
                    told = true;
                }
                while let Some(due) = &mut next {
                    ready!(due.as_mut().poll(cx));
                    asked(true);
                    next = pieces.next().map(|at| Box::pin(sleep_until(began + S * u32::try_from(*at).expect("few"))));
                }
                Poll::<()>::Pending
            })
        });
        let stalled = ended.await.expect_err("it does not end by itself");
        (stalled, began.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn whichever_time_is_over_first_ends_what_is_not_taken() {
        assert_eq!(
            stalled(Some(S * 5), None, &[]).await,
            (Stalled::Unread, 5),
            "not even the first piece is asked for"
        );
        assert_eq!(stalled(Some(S * 5), None, &[4, 8, 9]).await, (Stalled::Unread, 14), "a slow reader is one");
        assert_eq!(stalled(Some(S * 5), Some(3), &[]).await, (Stalled::Late, 3));
        assert_eq!(stalled(Some(S * 5), Some(7), &[4]).await, (Stalled::Late, 7), "the earlier end, though set later");
        assert_eq!(stalled(None, Some(7), &[1, 2]).await, (Stalled::Late, 7));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_taken_waits_for_its_next_piece_for_ever() {
        let (mut stall, began) = (Stall::new(Some(S)), Instant::now());
        let mut made = Box::pin(sleep_until(began + S * 100));
        let ended = poll_fn(|cx| {
            stall.poll(cx, |cx| {
                begins(Some(began + S));
                asked(false);
                made.as_mut().poll(cx)
            })
        });
        assert_eq!((ended.await, began.elapsed()), (Ok(()), S * 100));
        assert!(!TOLD.get().unread && stall.timer.is_none(), "nothing is left behind, and no timer was needed");
    }
}
