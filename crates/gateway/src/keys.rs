//! Agent keys that auth-svc has verified, remembered for seconds: a call need not ask, and a key that was revoked is
//! refused soon all the same.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use domain::{Clock, Failure, Reason, service};
use moka::future::Cache;
use proto::auth::v1::{VerifyKeyRequest, VerifyKeyResponse};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::budget::Budget;
use crate::links::{Asked, Links};
use crate::turns::{StrangersTurns, Turns};

/// How long a verified key is trusted without asking again, counted from before the question. A key that is revoked,
/// or rotated without grace, works at this gateway for at most this long; five seconds are promised.
const TRUSTED_FOR: Duration = Duration::from_secs(4);
/// A key in use is asked about again from this age on, beside the call: a busy gateway never waits for the answer.
const ASKED_AGAIN_AFTER: Duration = Duration::from_millis(1500);
/// A key that was good within this time is no stranger's: who asks about it does not wait behind those who guess keys.
const KNOWN_FOR: Duration = Duration::from_hours(24);
/// How long a key that is none is refused without asking again. A key that is made has not been tried before, and works at
/// once; one that was works after this time.
const REFUSED_FOR: Duration = Duration::from_secs(1);
/// Most keys remembered; as many that are none.
const REMEMBERED: u64 = 10_000;

/// BLAKE3 of a key.
pub(crate) type KeyHash = [u8; 32];

/// Keys by their hashes.
pub(crate) struct Keys {
    links: Arc<Links>,
    clock: Clock,
    tasks: TaskTracker,
    closing: CancellationToken,
    /// Those that were good when they were asked about last, whether that is trusted still or not.
    verified: Cache<KeyHash, Arc<Verified>>,
    /// Those that are none.
    refused: Cache<KeyHash, Failure>,
    /// For those who have shown a good key before.
    turns: Turns,
    /// For the others.
    strangers: StrangersTurns,
}

/// A key as auth-svc has described it.
pub(crate) struct Verified {
    /// Its BLAKE3 hash.
    hash: KeyHash,
    /// What it may do.
    pub(crate) key: VerifyKeyResponse,
    /// Before the question: whatever was true then, was true when it was answered.
    asked_at: Instant,
    /// True while it is asked about again.
    asking: AtomicBool,
}

impl Verified {
    fn new(hash: KeyHash, key: VerifyKeyResponse, asked_at: Instant) -> Arc<Self> {
        Arc::new(Self { hash, key, asked_at, asking: AtomicBool::new(false) })
    }
}

/// What came of a look at a key: the question to auth-svc, if one was needed, and the key.
pub(crate) type Found = (Option<Asked<()>>, Result<Arc<Verified>, Failure>);

impl Keys {
    /// Questions beside calls run on `tasks` until `closing`.
    pub(crate) fn new(links: Arc<Links>, clock: Clock, tasks: TaskTracker, closing: CancellationToken) -> Self {
        let verified = Cache::builder().max_capacity(REMEMBERED).time_to_live(KNOWN_FOR).build();
        let refused = Cache::builder().max_capacity(REMEMBERED).time_to_live(REFUSED_FOR).build();
        let (turns, strangers) = (Turns::new(service::AUTH), StrangersTurns::new(service::AUTH));
        Self { links, clock, tasks, closing, verified, refused, turns, strangers }
    }

    /// Whose key has this hash? It is shown by somebody at `address`.
    pub(crate) async fn verify(&self, hash: KeyHash, address: Option<IpAddr>, budget: Budget) -> Found {
        if let Some(found) = self.heard(&hash).await {
            return (None, found);
        }
        if self.verified.contains_key(&hash) {
            return self.verify_again(hash, budget).await;
        }
        match self.strangers.take(address, budget).await {
            Ok(_turn) => self.ask(hash, budget).await,
            Err(failure) => (None, Err(failure)),
        }
    }

    async fn verify_again(&self, hash: KeyHash, budget: Budget) -> Found {
        match self.turns.take(budget).await {
            Ok(_turn) => self.ask(hash, budget).await,
            Err(failure) => (None, Err(failure)),
        }
    }

    /// Asks, in its turn.
    async fn ask(&self, hash: KeyHash, budget: Budget) -> Found {
        // Many calls of one key come at once; what one of them has heard by now, the others need not ask.
        if let Some(found) = self.heard(&hash).await {
            return (None, found);
        }
        let asked_at = Instant::now();
        let Asked { service, name, began, took, info, result } = self.links.verify_key(question(hash), budget).await;
        let asked = Asked { service, name, began, took, info, result: result.clone().map(|_| ()) };
        match result {
            Ok(key) => {
                let verified = Verified::new(hash, key, asked_at);
                self.verified.insert(hash, Arc::clone(&verified)).await;
                (Some(asked), Ok(verified))
            }
            Err(failure) => {
                if failure.reason == Reason::AgentKeyInvalid {
                    self.verified.invalidate(&hash).await;
                    self.refused.insert(hash, failure.clone()).await;
                }
                (Some(asked), Err(failure))
            }
        }
    }

    /// What is known by now.
    async fn heard(&self, hash: &KeyHash) -> Option<Result<Arc<Verified>, Failure>> {
        match self.trusted(hash).await {
            Some(verified) => Some(Ok(verified)),
            None => self.refused.get(hash).await.map(Err),
        }
    }

    /// The key, where it is known for sure.
    async fn trusted(&self, hash: &KeyHash) -> Option<Arc<Verified>> {
        let verified = self.verified.get(hash).await.filter(|verified| self.is_trusted(verified))?;
        self.ask_again(&verified);
        Some(verified)
    }

    /// The key once more, if what is known of it is too old to be trusted by now: whoever takes long to say what they
    /// want does not keep a key alive by it.
    pub(crate) async fn confirm(&self, verified: &Verified, budget: Budget) -> Option<Found> {
        if self.is_trusted(verified) { None } else { Some(self.verify_again(verified.hash, budget).await) }
    }

    /// A key that expires is asked about once more when its time has come: auth-svc says what is true, and why.
    fn is_trusted(&self, verified: &Verified) -> bool {
        let now_s = self.clock.now_ms() as f64 / 1e3;
        verified.asked_at.elapsed() < TRUSTED_FOR && verified.key.expires_at.is_none_or(|at| now_s < at)
    }

    /// Asks beside the call whether the key is still what it was; one question at a time for each key.
    fn ask_again(&self, verified: &Arc<Verified>) {
        if verified.asked_at.elapsed() < ASKED_AGAIN_AFTER || verified.asking.swap(true, Ordering::AcqRel) {
            return;
        }
        let (links, cache, closing) = (Arc::clone(&self.links), self.verified.clone(), self.closing.clone());
        let (verified, hash) = (Arc::clone(verified), verified.hash);
        self.tasks.spawn(async move {
            let asked_at = Instant::now();
            let asked = tokio::select! {
                asked = links.verify_key(question(hash), Budget::default()) => asked,
                () = closing.cancelled() => return,
            };
            match asked.result {
                Ok(key) => cache.insert(hash, Verified::new(hash, key, asked_at)).await,
                Err(failure) if failure.reason == Reason::AgentKeyInvalid => cache.invalidate(&hash).await,
                Err(failure) => {
                    // It is asked again at the next use, and not trusted for longer than any other.
                    tracing::debug!(%failure, key = verified.key.name, "a key could not be verified again");
                    verified.asking.store(false, Ordering::Release);
                }
            }
        });
    }
}

fn question(hash: KeyHash) -> VerifyKeyRequest {
    VerifyKeyRequest { key_hash: Bytes::copy_from_slice(&hash) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revoked_key_ends_within_five_seconds_everywhere() {
        assert!(TRUSTED_FOR < Duration::from_secs(5), "what is promised, with a margin");
        assert!(REFUSED_FOR <= Duration::from_secs(1), "what is promised of a key that was tried before it was made");
        assert!(ASKED_AGAIN_AFTER * 2 < TRUSTED_FOR, "an answer has time to come before anybody has to wait for one");
    }
}
