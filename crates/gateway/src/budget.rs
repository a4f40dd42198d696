//! How long a call may still take.

use std::time::Duration;

use domain::{Failure, Reason, service};
use http::HeaderMap;
use tokio::time::Instant;

/// Time kept back from peers, so that our own answer with its trace still reaches the caller.
const MARGIN: Duration = Duration::from_millis(100);

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
    /// The failure of a peer that did not answer in time.
    pub(crate) fn passed(&self, peer: &str) -> Failure {
        if self.callers {
            return deadline_passed(peer);
        }
        let message = format!("{peer} did not answer within {:.0} s", self.time.as_secs_f64());
        Failure::new(Reason::PeerUnavailable, service::GATEWAY, message)
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
}
