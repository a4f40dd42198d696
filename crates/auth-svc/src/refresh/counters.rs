//! What refreshes came to since this process started.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Times between answer and commit that are kept.
const KEPT: usize = 1024;

/// How a refresh can end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// New tokens are stored.
    Refreshed,
    /// Refused for good: a login is needed.
    Refused,
    /// Failed for now; nothing was spent.
    Failed,
    /// A request was sent and no answer came: its token may be spent.
    InDoubt,
    /// New tokens came for a login that was replaced meanwhile.
    Late,
}

impl Outcome {
    /// All of them.
    pub(crate) const ALL: [Self; 5] = [Self::Refreshed, Self::Refused, Self::Failed, Self::InDoubt, Self::Late];

    /// As it stands in logs and metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Refreshed => "refreshed",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::InDoubt => "in_doubt",
            Self::Late => "late",
        }
    }
}

/// The counters.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    outcomes: [AtomicU64; Outcome::ALL.len()],
    answer_to_commit: Mutex<VecDeque<Duration>>,
}

impl Counters {
    /// Counts one that has ended.
    pub(super) fn count(&self, outcome: Outcome) {
        self.outcomes[outcome as usize].fetch_add(1, Ordering::Relaxed);
        telemetry::metrics::refresh_ended(outcome.as_str());
    }

    /// Keeps the time from a provider's answer to the commit of its tokens: a process that is killed in it loses a login.
    pub(super) fn committed(&self, after: Duration) {
        telemetry::metrics::answer_committed(after);
        let mut times = self.answer_to_commit.lock().unwrap_or_else(PoisonError::into_inner);
        if times.len() == KEPT {
            times.pop_front();
        }
        times.push_back(after);
    }

    /// How many refreshes ended so.
    pub(crate) fn of(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize].load(Ordering::Relaxed)
    }

    /// The last times from answer to commit, oldest first.
    pub(crate) fn answer_to_commit(&self) -> Vec<Duration> {
        self.answer_to_commit.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }
}

impl super::Refresher {
    /// Logs what refreshes came to, at the end.
    pub(crate) fn summary(&self) {
        let counters = self.counters();
        let mut times = counters.answer_to_commit();
        times.sort_unstable();
        let ms = |time: Option<&Duration>| time.map(|time| time.as_secs_f64() * 1e3);
        let of = |outcome: Outcome| Some(counters.of(outcome)).filter(|count| *count > 0);
        if Outcome::ALL.iter().all(|outcome| of(*outcome).is_none()) {
            return;
        }
        // A field that is `None` is left out.
        tracing::info!(
            refreshed = of(Outcome::Refreshed),
            refused = of(Outcome::Refused),
            failed = of(Outcome::Failed),
            in_doubt = of(Outcome::InDoubt),
            late = of(Outcome::Late),
            answer_to_commit_median_ms = ms(times.get(times.len() / 2)),
            answer_to_commit_longest_ms = ms(times.last()),
            "refreshes since the start"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_counts_for_itself_and_times_are_bounded() {
        let counters = Counters::default();
        for (times, outcome) in Outcome::ALL.into_iter().enumerate() {
            (0..times).for_each(|_| counters.count(outcome));
        }
        assert_eq!(Outcome::ALL.map(|outcome| counters.of(outcome)), [0, 1, 2, 3, 4]);
        for ms in 0..2000 {
            counters.committed(Duration::from_millis(ms));
        }
        let kept = counters.answer_to_commit();
        assert_eq!((kept.len(), kept.last()), (KEPT, Some(&Duration::from_millis(1999))));
    }
}
