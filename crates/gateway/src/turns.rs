//! Turns at asking a peer: so many questions are under way at a time that each is answered soon. The patience with a peer
//! begins with a question's turn, and so tells of the peer, and not of how much this gateway has to ask just now.

use std::time::Duration;

use domain::{Failure, Reason, service};
use telemetry::metrics;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::budget::{Budget, deadline_passed};

/// Questions under way at a time.
const AT_ONCE: usize = 128;
/// Longest wait for a turn. Calls that wait hold their places, and who has none does not get here.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Turns at asking one peer.
#[derive(Debug)]
pub(crate) struct Turns {
    peer: &'static str,
    free: Semaphore,
}

impl Turns {
    /// All are free.
    pub(crate) fn new(peer: &'static str) -> Self {
        Self { peer, free: Semaphore::new(AT_ONCE) }
    }

    /// A turn, which lasts until it is dropped.
    ///
    /// # Errors
    ///
    /// SHED if none comes for too long, DEADLINE if the caller has less time.
    pub(crate) async fn take(&self, budget: Budget) -> Result<SemaphorePermit<'_>, Failure> {
        let limit = budget.limit(LONGEST_WAIT);
        match tokio::time::timeout(limit.time, self.free.acquire()).await {
            Ok(Ok(turn)) => Ok(turn),
            Err(_) if limit.callers => Err(deadline_passed(self.peer)),
            // It is never closed, so that nothing but time has passed.
            Ok(Err(_)) | Err(_) => {
                metrics::shed("turns");
                let (peer, seconds) = (self.peer, LONGEST_WAIT.as_secs());
                let message = format!(
                    "this gateway has more to ask {peer} than is answered: {AT_ONCE} questions are under way, and none \
                     had its turn within {seconds} s"
                );
                Err(Failure::new(Reason::Shed, service::GATEWAY, message)
                    .next_step("wait and retry, give the services more processors, or lower `[gateway] max_calls`"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_turn_too_long_is_told_so() {
        let turns = Turns::new(service::ROUTER);
        let mut taken = Vec::new();
        for _ in 0..AT_ONCE {
            taken.push(turns.take(Budget::default()).await.expect("a turn"));
        }
        let began = Instant::now();
        let refused = turns.take(Budget::default()).await.expect_err("none");
        assert_eq!((refused.reason, refused.service.as_str()), (Reason::Shed, service::GATEWAY));
        assert_eq!(began.elapsed(), LONGEST_WAIT);
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", HeaderValue::from_static("1S"));
        let late = turns.take(Budget::from_headers(&headers)).await.expect_err("none");
        assert_eq!(late.reason, Reason::Deadline);
        taken.pop();
        assert!(turns.take(Budget::default()).await.is_ok());
    }
}
