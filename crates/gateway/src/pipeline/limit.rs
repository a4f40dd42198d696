//! Limits that a call has met, told apart by when they end.

use domain::{Failure, Reason};
use tokio::time::Instant;

use crate::pipeline::plan::Refusal;

/// A limit that a credential met in this call.
pub(super) struct Limit {
    /// What was said of it.
    pub(super) failure: Failure,
    /// The answer that said it.
    pub(super) refusal: Refusal,
    /// When it was met.
    pub(super) met: Instant,
}

impl Limit {
    /// Seconds until it ends; one of which nothing is known ends last.
    pub(super) fn left(&self, now: Instant) -> f64 {
        waits(&self.failure).map_or(f64::INFINITY, |seconds| seconds - now.duration_since(self.met).as_secs_f64())
    }
}

/// True for a limit that ends by itself.
pub(super) fn is_limit(failure: &Failure) -> bool {
    matches!(failure.reason, Reason::UsageLimit | Reason::RateLimited)
}

/// After how many seconds something can be used again, where waiting is what helps.
pub(super) fn waits(failure: &Failure) -> Option<f64> {
    let passes = is_limit(failure) || failure.reason == Reason::IdentityUnavailable;
    failure.retry_after_seconds.filter(|_| passes)
}
