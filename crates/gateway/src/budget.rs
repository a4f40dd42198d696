//! How long a call may still take.

use std::pin::pin;
use std::time::Duration;

use domain::{Failure, Reason, service};
use http::HeaderMap;
use telemetry::metrics;
use tokio::time::Instant;
use tokio::time::error::Elapsed;

/// Time kept back from peers, so that our own answer with its trace still reaches the caller.
const MARGIN: Duration = Duration::from_millis(100);

/// A timer that fires so much later than it should tells that this process has more to do than it can.
const BEHIND: Duration = Duration::from_millis(100);
/// Our own patience lasts for as long at most, where this process is behind.
const LONGEST: Duration = Duration::from_secs(30);

/// The caller's deadline, if it has one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Budget {
    deadline: Option<Instant>,
}

/// How long one peer may take, and whose limit that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    /// The time.
    pub(crate) time: Duration,
    /// True if the caller set it; false if it is our own patience.
    pub(crate) callers: bool,
}

impl Budget {
    /// What the caller's `grpc-timeout` leaves, less a margin of ours.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Self {
        let deadline = service_kit::grpc_timeout(headers).map(|left| Instant::now() + left - MARGIN.min(left / 10));
        Self { deadline }
    }

    /// The caller's deadline.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// True once the deadline has passed.
    pub(crate) fn is_over(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// True if there is time left after waiting for `wait`: what begins then can still be heard of.
    pub(crate) fn outlasts(&self, wait: Duration) -> bool {
        self.deadline.is_none_or(|deadline| deadline > Instant::now() + wait)
    }

    /// `patience`, or less if the caller has less time.
    pub(crate) fn limit(&self, patience: Duration) -> Limit {
        match self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
            Some(left) if left < patience => Limit { time: left, callers: true },
            _ => Limit { time: patience, callers: false },
        }
    }
}

impl Limit {
    /// Waits for as long as it says. Where it is our own patience, time in which this process was behind with its own work
    /// does not count: a timer that fires late says that, and the answer may be here already.
    pub(crate) async fn wait<T>(&self, answer: impl Future<Output = T>) -> Result<T, Elapsed> {
        let (mut answer, began) = (pin!(answer), Instant::now());
        loop {
            let asked = Instant::now();
            match tokio::time::timeout(self.time, &mut answer).await {
                Err(_) if !self.callers && asked.elapsed() > self.time + BEHIND && began.elapsed() < LONGEST => {}
                answered => return answered,
            }
        }
    }

    /// The time that the peer is told: the longest that is waited for it.
    pub(crate) fn for_peers(&self) -> Duration {
        if self.callers { self.time } else { self.time.max(LONGEST) }
    }

    /// The failure of a peer that did not answer in time.
    pub(crate) fn passed(&self, peer: &str) -> Failure {
        if self.callers {
            return deadline_passed(peer);
        }
        let message = format!("{peer} did not answer within {:.0} s", self.time.as_secs_f64());
        Failure::new(Reason::PeerUnavailable, service::GATEWAY, message)
    }

    /// The failure of a peer that did not answer this in time, and has answered others meanwhile: it is there, and has more
    /// to do than it can.
    pub(crate) fn overrun(&self, peer: &'static str) -> Failure {
        if self.callers {
            return deadline_passed(peer);
        }
        metrics::shed("slow");
        let seconds = self.time.as_secs_f64();
        let message = format!("{peer} answers, but not this one within {seconds:.0} s: it has more to do than it can");
        Failure::new(Reason::Shed, peer, message)
            .next_step("wait and retry, give the services more processors, or lower `[gateway] max_calls`")
    }

    /// What a peer's failure means here: a deadline that the peer saw may be our own patience with it.
    pub(crate) fn judge(&self, failure: Failure, peer: &str) -> Failure {
        if failure.reason == Reason::Deadline { self.passed(peer) } else { failure }
    }
}

/// The failure of a call whose deadline passed while `peer` worked.
pub(crate) fn deadline_passed(peer: &str) -> Failure {
    Failure::new(Reason::Deadline, service::GATEWAY, format!("the caller's deadline passed while {peer} worked"))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_shorter_of_deadline_and_patience_counts() {
        let mut headers = HeaderMap::new();
        let patience = Duration::from_secs(5);
        assert_eq!(Budget::from_headers(&headers).limit(patience), Limit { time: patience, callers: false });
        headers.insert("grpc-timeout", HeaderValue::from_static("1S"));
        let limit = Budget::from_headers(&headers).limit(patience);
        assert!(limit.callers && limit.time < Duration::from_secs(1));
        assert_eq!(limit.passed("auth-svc").reason, Reason::Deadline);
        let ours = Limit { time: patience, callers: false };
        let seen = Failure::new(Reason::Deadline, "auth-svc", "too late");
        assert_eq!(ours.judge(seen, "auth-svc").reason, Reason::PeerUnavailable);
    }

    /// A process that is behind: whoever waits is woken long after the time.
    #[tokio::test]
    async fn time_in_which_we_are_late_ourselves_is_not_the_peers() {
        let limit = Limit { time: Duration::from_millis(20), callers: false };
        let late = || {
            let mut waits = 0;
            std::future::poll_fn(move |cx| {
                waits += 1;
                // The first look, and the one at the end of the time; in between the thread did something else.
                if waits == 1 {
                    cx.waker().wake_by_ref();
                    std::thread::sleep(limit.time + 2 * BEHIND);
                }
                if waits < 3 { std::task::Poll::Pending } else { std::task::Poll::Ready(waits) }
            })
        };
        assert!(limit.wait(late()).await.is_ok());
        assert!(Limit { callers: true, ..limit }.wait(late()).await.is_err(), "the caller's time is the caller's");
        assert!(limit.wait(std::future::pending::<()>()).await.is_err(), "a peer that says nothing is away");
    }
}
