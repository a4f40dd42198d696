//! Agent keys: random, shown once, kept as a hash; what they may use, and what they have used.

mod mint;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use domain::{Clock, DAY_S, Failure, Reason, day_of, service};
use proto::auth::v1::KeyUsage;
use subtle::ConstantTimeEq;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::store::{AgentKey, Store, Used};

pub(crate) use mint::{KeyRequest, mint, rotate};

/// Uses that wait to be noted.
const WAITING: usize = 1024;
/// Time between two notings.
const FLUSH: Duration = Duration::from_secs(5);

/// Longest id of a batch that is taken; a UUID has 36 characters.
const BATCH_ID_BYTES: usize = 64;
/// Most tokens that one report may say of one key: more is a mistake, and is counted as this.
const MOST_TOKENS: f64 = 1e12;

/// A key that is good, for now.
#[derive(Clone, Debug)]
pub(crate) struct Verified {
    /// The key.
    pub(crate) key: AgentKey,
    /// Unix seconds from which the secret that was shown is refused; `None` never.
    pub(crate) expires_at: Option<i64>,
    /// Unix seconds until which the tokens of the day are used up.
    pub(crate) exhausted_until: Option<i64>,
}

/// Verifies keys, and notes their use off the call's path.
pub(crate) struct Keys {
    store: Store,
    clock: Clock,
    uses: mpsc::Sender<(String, i64)>,
    dropped: AtomicU64,
}

impl Keys {
    /// The task that notes uses runs on `tracker` until `closing`, and writes what is left then.
    pub(crate) fn new(store: Store, clock: Clock, tracker: &TaskTracker, closing: CancellationToken) -> Self {
        let (uses, waiting) = mpsc::channel(WAITING);
        tracker.spawn(note_uses(store.clone(), waiting, closing));
        Self { store, clock, uses, dropped: AtomicU64::new(0) }
    }

    /// Whose key has this hash? Errors: AGENT_KEY_INVALID, which names the key where there is one.
    pub(crate) async fn verify(&self, hash: &[u8]) -> Result<Verified, Failure> {
        let invalid = |message: String| Failure::new(Reason::AgentKeyInvalid, service::AUTH, message);
        if hash.len() != blake3::OUT_LEN {
            let message = format!("a key's hash has {} bytes, not {}", blake3::OUT_LEN, hash.len());
            return Err(Failure::new(Reason::RequestInvalid, service::AUTH, message).param("key_hash"));
        }
        let nobody = || invalid("there is no such agent key".to_owned());
        let key = self.store.agent_key_by_hash(hash).await?.ok_or_else(nobody)?;
        let current: bool = key.hash.as_slice().ct_eq(hash).into();
        let previous: bool = key.previous_hash.as_ref().is_some_and(|previous| previous.as_slice().ct_eq(hash).into());
        if !current && !previous {
            return Err(nobody());
        }
        let now = self.clock.now_s();
        if key.has_expired(now) {
            return Err(invalid(format!("agent key {:?} ({}…) has expired", key.name, key.prefix)));
        }
        if key.revoked_at.is_some() {
            return Err(invalid(format!("agent key {:?} ({}…) was revoked", key.name, key.prefix)));
        }
        let grace_ends = if current { None } else { Some(key.previous_until.unwrap_or(0)) };
        if grace_ends.is_some_and(|at| at <= now) {
            let message = format!("agent key {:?} was rotated: this is its old secret", key.name);
            return Err(invalid(message).next_step("use the secret that `switchboard keys rotate` has printed"));
        }
        if self.uses.try_send((key.id.clone(), now)).is_err() {
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            tracing::debug!(dropped, "a key's use was not noted: too many wait");
        }
        let used_up = key.limits.tokens_per_day.is_some_and(|limit| key.tokens_today >= limit);
        Ok(Verified {
            expires_at: [key.expires_at, grace_ends].into_iter().flatten().min(),
            exhausted_until: used_up.then(|| (day_of(now) + 1) * DAY_S),
            key,
        })
    }

    /// Counts what keys have used, all of it or nothing, and each batch once, however often it comes. Keys that are not
    /// known any more are passed over. Errors: REQUEST_INVALID for a batch without an id of its own, STORE_UNAVAILABLE.
    pub(crate) async fn add_usage(&self, batch: &str, usages: &[KeyUsage]) -> Result<(), Failure> {
        if batch.is_empty() || batch.len() > BATCH_ID_BYTES {
            let message = "a batch needs an id of its own, a UUID, so that it is counted once";
            return Err(Failure::new(Reason::RequestInvalid, service::AUTH, message).param("batch_id"));
        }
        let used = |usage: &KeyUsage| {
            let counts = usage.tokens >= 1.0 && usage.at.is_finite();
            let (tokens, at) = (usage.tokens.min(MOST_TOKENS).round() as i64, usage.at as i64);
            counts.then(|| Used { key_id: usage.key_id.clone(), tokens, at })
        };
        let used: Vec<Used> = usages.iter().filter_map(used).collect();
        if used.is_empty() {
            return Ok(());
        }
        if !self.store.add_key_usage(batch, &used).await? {
            tracing::debug!(batch, "a batch came again and was not counted again");
        }
        Ok(())
    }
}

async fn note_uses(store: Store, mut waiting: mpsc::Receiver<(String, i64)>, closing: CancellationToken) {
    let mut uses: HashMap<String, i64> = HashMap::new();
    loop {
        // Wakes for the first use only, then gathers.
        tokio::select! {
            first = waiting.recv() => match first {
                Some((id, at)) => { uses.insert(id, at); }
                None => return,
            },
            () = closing.cancelled() => {}
        }
        let last = tokio::time::timeout(FLUSH, closing.cancelled()).await.is_ok();
        while let Ok((id, at)) = waiting.try_recv() {
            uses.insert(id, at);
        }
        let batch: Vec<(String, i64)> = uses.drain().collect();
        if !batch.is_empty()
            && let Err(error) = store.mark_keys_used(&batch).await
        {
            tracing::warn!(%error, keys = batch.len(), "last uses of keys were not noted");
        }
        if last {
            return;
        }
    }
}
