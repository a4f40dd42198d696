//! The retry budget: an outage is not multiplied. Each call pays in a fraction of an attempt, each further attempt of a
//! call takes a whole one, and where there is none the failure is the answer. A small floor lets a gateway with few calls
//! try again all the same.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Attempts that are there at the start, and that the floor fills up to.
const FLOOR: f64 = 10.0;
/// Attempts that the floor adds in a second.
const FLOOR_PER_SECOND: f64 = 1.0;
/// Most attempts that calls save up.
const MOST: f64 = 100.0;

/// First wait before the same is tried again; doubles.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Longest such wait, and longest Retry-After that is waited out within a call.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(3);

/// The budget of one gateway.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    /// What a call pays in.
    share: f64,
    left: Mutex<(f64, Instant)>,
}

impl RetryBudget {
    /// `percent` of the calls may be tried once more.
    pub(crate) fn new(percent: u32) -> Self {
        Self { share: f64::from(percent) / 100.0, left: Mutex::new((FLOOR, Instant::now())) }
    }

    /// A call makes its first attempt.
    pub(crate) fn deposit(&self) {
        self.with(|left| *left = (*left + self.share).min(MOST.max(*left)));
    }

    /// Takes one attempt, if there is one.
    pub(crate) fn withdraw(&self) -> bool {
        self.with(|left| {
            let enough = *left >= 1.0;
            if enough {
                *left -= 1.0;
            }
            enough
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut f64) -> T) -> T {
        let mut held = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let (left, since) = &mut *held;
        if *left < FLOOR {
            *left = (*left + now.duration_since(*since).as_secs_f64() * FLOOR_PER_SECOND).min(FLOOR);
        }
        *since = now;
        act(left)
    }
}

/// How long the `n`th repetition waits (from 1): exponential, and a random half of it, so that calls which failed together
/// do not come again together.
pub(crate) fn backoff(n: u32) -> Duration {
    let full = FIRST_WAIT.saturating_mul(2u32.saturating_pow(n.saturating_sub(1))).min(LONGEST_WAIT);
    // A random UUID's low bytes are random, and it is the generator that is here already.
    let [.., low] = *uuid::Uuid::new_v4().as_bytes();
    full / 2 + (full / 2) * u32::from(low) / 255
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn repeats_are_a_share_of_the_calls_and_a_floor() {
        let budget = RetryBudget::new(10);
        let mut repeats = 0;
        for _ in 0..1000 {
            budget.deposit();
            repeats += u32::from(budget.withdraw());
        }
        assert!((100..=111).contains(&repeats), "{repeats}");
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!((0..10).filter(|_| budget.withdraw()).count(), 3);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!((0..100).filter(|_| budget.withdraw()).count(), 10, "the floor is not saved up");
        let none = RetryBudget::new(0);
        (0..1000).for_each(|_| none.deposit());
        assert_eq!((0..100).filter(|_| none.withdraw()).count(), 10);
    }

    #[test]
    fn waits_grow_and_differ() {
        for (n, least, most) in [(1, 50, 100), (2, 100, 200), (3, 200, 400), (30, 1500, 3000)] {
            let waits: Vec<_> = (0..50).map(|_| backoff(n).as_millis()).collect();
            assert!(waits.iter().all(|wait| (least..=most).contains(wait)), "{n}: {waits:?}");
            assert!(waits.iter().any(|wait| wait != &waits[0]), "{n}");
        }
    }
}
