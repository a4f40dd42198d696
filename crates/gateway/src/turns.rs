//! Turns at asking a peer: so many questions are under way at a time that each is answered soon. The patience with a peer
//! begins with a question's turn, and so tells of the peer, and not of how much this gateway has to ask just now.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::{Failure, Reason, service};
use telemetry::metrics;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use crate::budget::{Budget, deadline_passed};

/// Questions under way at a time.
const AT_ONCE: usize = 128;
/// The same for those whom nobody knows yet, who are no part of the others' turns, and how many of them may be of one
/// address: who guesses keys keeps nobody waiting but who comes from the same place with a key that is new here.
const STRANGERS_AT_ONCE: usize = 64;
const STRANGERS_OF_ONE_ADDRESS: usize = 16;
/// Longest wait for a turn. Calls that wait hold their places, and who has none does not get here.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Turns at asking one peer.
#[derive(Debug)]
pub(crate) struct Turns {
    peer: &'static str,
    at_once: usize,
    free: Semaphore,
}

impl Turns {
    /// All are free.
    pub(crate) fn new(peer: &'static str) -> Self {
        Self::of(peer, AT_ONCE)
    }

    fn of(peer: &'static str, at_once: usize) -> Self {
        Self { peer, at_once, free: Semaphore::new(at_once) }
    }

    /// A turn, which lasts until it is dropped.
    ///
    /// # Errors
    ///
    /// SHED if none comes for too long, DEADLINE if the caller has less time.
    pub(crate) async fn take(&self, budget: Budget) -> Result<SemaphorePermit<'_>, Failure> {
        self.within(budget, self.free.acquire()).await
    }

    async fn within<T>(
        &self,
        budget: Budget,
        turn: impl Future<Output = Result<T, AcquireError>>,
    ) -> Result<T, Failure> {
        let limit = budget.limit(LONGEST_WAIT);
        match tokio::time::timeout(limit.time, turn).await {
            Ok(Ok(turn)) => Ok(turn),
            Err(_) if limit.callers => Err(deadline_passed(self.peer)),
            // It is never closed, so that nothing but time has passed.
            Ok(Err(_)) | Err(_) => {
                metrics::shed("turns");
                let (peer, at_once, seconds) = (self.peer, self.at_once, LONGEST_WAIT.as_secs());
                let message = format!(
                    "this gateway has more to ask {peer} than is answered: {at_once} questions are under way, and none \
                     had its turn within {seconds} s"
                );
                Err(Failure::new(Reason::Shed, service::GATEWAY, message)
                    .next_step("wait and retry, give the services more processors, or lower `[gateway] max_calls`"))
            }
        }
    }
}

/// Turns at asking one peer about those whom nobody knows yet, each address with a share of them.
#[derive(Debug)]
pub(crate) struct StrangersTurns {
    turns: Turns,
    /// Of the addresses that have, or wait for, a turn.
    shares: Mutex<HashMap<IpAddr, Arc<Semaphore>>>,
}

/// A turn of a stranger, which lasts until it is dropped.
#[derive(Debug)]
pub(crate) struct StrangersTurn<'a> {
    _turn: SemaphorePermit<'a>,
    _place: OwnedSemaphorePermit,
    _share: Share<'a>,
}

impl StrangersTurns {
    /// All are free.
    pub(crate) fn new(peer: &'static str) -> Self {
        Self { turns: Turns::of(peer, STRANGERS_AT_ONCE), shares: Mutex::default() }
    }

    /// A turn for somebody at `address`; those of this machine who have none count as one.
    ///
    /// # Errors
    ///
    /// As of [`Turns::take`].
    pub(crate) async fn take(&self, address: Option<IpAddr>, budget: Budget) -> Result<StrangersTurn<'_>, Failure> {
        let share = self.share(network(address));
        let free = Arc::clone(&share.free);
        let turn = async { Ok((free.acquire_owned().await?, self.turns.free.acquire().await?)) };
        let (place, turn) = self.turns.within(budget, turn).await?;
        Ok(StrangersTurn { _turn: turn, _place: place, _share: share })
    }

    fn share(&self, network: IpAddr) -> Share<'_> {
        let free = Arc::clone(
            self.shares().entry(network).or_insert_with(|| Arc::new(Semaphore::new(STRANGERS_OF_ONE_ADDRESS))),
        );
        Share { strangers: self, network, free }
    }

    fn shares(&self) -> MutexGuard<'_, HashMap<IpAddr, Arc<Semaphore>>> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An address's share, kept for as long as somebody uses it.
#[derive(Debug)]
struct Share<'a> {
    strangers: &'a StrangersTurns,
    network: IpAddr,
    free: Arc<Semaphore>,
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        let mut shares = self.strangers.shares();
        // This one's and the table's: whoever else uses or awaits it has one too, and joins under the same lock.
        if Arc::strong_count(&self.free) <= 2 {
            shares.remove(&self.network);
        }
    }
}

/// Who has one address of IPv6 has 2^64 of them.
fn network(address: Option<IpAddr>) -> IpAddr {
    match address.map(|address| address.to_canonical()) {
        None => IpAddr::from([127, 0, 0, 1]),
        Some(IpAddr::V6(address)) => IpAddr::from((u128::from(address) & !u128::from(u64::MAX)).to_be_bytes()),
        Some(address) => address,
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

    #[tokio::test(start_paused = true)]
    async fn strangers_of_one_address_wait_for_each_other_and_nobody_for_them() {
        let (turns, here, there) = (StrangersTurns::new(service::AUTH), "2001:db8::1", "192.0.2.1");
        let take = |address: &'static str| turns.take(Some(address.parse().expect("an address")), Budget::default());
        let mut taken = Vec::new();
        for _ in 0..STRANGERS_OF_ONE_ADDRESS {
            taken.push(take(here).await.expect("a turn"));
        }
        let began = Instant::now();
        let (neighbour, elsewhere) = tokio::join!(take("2001:db8::2"), async {
            let turn = take(there).await;
            (turn, began.elapsed())
        });
        assert_eq!(neighbour.expect_err("none").reason, Reason::Shed);
        assert_eq!((elsewhere.0.is_ok(), elsewhere.1), (true, Duration::ZERO));
        taken.pop();
        assert!(take(here).await.is_ok());
        drop((taken, elsewhere));
        assert!(turns.shares().is_empty(), "no address is kept");
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_so_many_turns_for_strangers_of_all_addresses() {
        let turns = StrangersTurns::new(service::AUTH);
        let mut taken = Vec::new();
        for address in 0..=STRANGERS_AT_ONCE {
            let address = IpAddr::from([192, 0, 2, u8::try_from(address).expect("few")]);
            taken.push(turns.take(Some(address), Budget::default()).await.map_err(|failure| failure.reason));
        }
        assert_eq!(taken.pop().map(|last| last.err()), Some(Some(Reason::Shed)));
        assert!(taken.iter().all(Result::is_ok));
    }
}
