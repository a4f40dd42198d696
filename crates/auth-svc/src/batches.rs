//! Batches that were taken: one that arrives again is not counted again.

use std::collections::{HashSet, VecDeque};

use domain::{Clock, Failure, Reason, service};
use tokio::sync::Mutex;

/// Batches that are remembered; a gateway sends one every few seconds at most.
const MOST: usize = 8192;
/// How long one is remembered, in milliseconds: a gateway gives up on sending a batch long before.
const KEPT_MS: i64 = 3_600_000;
/// Longest id that is taken; a UUID has 36 characters.
const ID_BYTES: usize = 64;

/// The memory. A restart empties it: a batch whose answer was lost just then is counted twice.
#[derive(Debug)]
pub(crate) struct Batches {
    clock: Clock,
    // Held while a batch is taken, so that its twin waits and is then known. Nobody's call waits for it.
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    ids: HashSet<String>,
    in_order: VecDeque<(i64, String)>,
}

impl Batches {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, taken: Mutex::default() }
    }

    /// Awaits `take` unless the batch `id` was taken before. One that fails was not taken and may come again.
    pub(crate) async fn once(&self, id: &str, take: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
        if id.is_empty() || id.len() > ID_BYTES {
            let message = "a batch needs an id of its own, a UUID, so that it is counted once";
            return Err(Failure::new(Reason::RequestInvalid, service::AUTH, message).param("batch_id"));
        }
        let mut taken = self.taken.lock().await;
        if taken.ids.contains(id) {
            tracing::debug!(batch = id, "a batch came again and was not counted again");
            return Ok(());
        }
        take.await?;
        taken.remember(id, self.clock.now_ms());
        Ok(())
    }
}

impl Taken {
    fn remember(&mut self, id: &str, now_ms: i64) {
        self.ids.insert(id.to_owned());
        self.in_order.push_back((now_ms, id.to_owned()));
        while self.in_order.front().is_some_and(|(at, _)| at + KEPT_MS < now_ms || self.in_order.len() > MOST) {
            if let Some((_, old)) = self.in_order.pop_front() {
                self.ids.remove(&old);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_batch_counts_once_unless_it_failed() {
        let clock = Clock::manual(0);
        let batches = Batches::new(clock.clone());
        let count = std::cell::Cell::new(0);
        let take = async |id: &str, fails: bool| {
            let take = async {
                count.set(count.get() + 1);
                if fails { Err(Failure::new(Reason::StoreUnavailable, service::AUTH, "full")) } else { Ok(()) }
            };
            batches.once(id, take).await.is_ok()
        };
        assert!(!take("", false).await && !take(&"x".repeat(65), false).await);
        assert!(!take("a", true).await);
        assert!(take("a", false).await && take("a", false).await);
        assert_eq!(count.get(), 2, "the one that failed, and once again");
        for i in 0..MOST {
            assert!(take(&format!("b{i}"), false).await);
        }
        assert_eq!(batches.taken.lock().await.ids.len(), MOST, "bounded");
        clock.advance_ms(KEPT_MS + 1);
        assert!(take("c", false).await);
        let taken = batches.taken.lock().await;
        assert_eq!((taken.ids.len(), taken.in_order.len()), (1, 1), "and forgotten with time");
    }
}
