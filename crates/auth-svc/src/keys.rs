//! Agent keys: random, shown once, kept as a hash.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::{Clock, Failure, Reason, service};
use secrecy::SecretString;
use subtle::ConstantTimeEq;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zeroize::Zeroizing;

use crate::store::{AgentKey, NewAgentKey, Store};

/// First characters of every key.
const PREFIX: &str = "sbk_";
/// Characters by which a key can be recognised.
const SHOWN: usize = 12;
/// Uses that wait to be noted.
const WAITING: usize = 1024;
/// Time between two notings.
const FLUSH: Duration = Duration::from_secs(5);

/// What a key may do.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyRequest {
    /// Name, unique among live keys.
    pub(crate) name: String,
    /// Agent it names.
    pub(crate) agent: String,
    /// Model patterns; empty allows all.
    pub(crate) models: Vec<String>,
    /// Credential labels; empty allows all.
    pub(crate) credentials: Vec<String>,
    /// Unix seconds; `None` never.
    pub(crate) expires_at: Option<i64>,
}

/// Makes a key and stores its hash.
pub(crate) async fn mint(store: &Store, request: KeyRequest) -> Result<(SecretString, AgentKey), Failure> {
    for (field, value) in [("name", &request.name), ("agent", &request.agent)] {
        if value.trim().is_empty() || value.len() > 200 || value.chars().any(char::is_control) {
            let message = format!("the key's {field} is empty, too long, or holds control characters");
            return Err(Failure::new(Reason::RequestInvalid, service::AUTH, message).param(field));
        }
    }
    let mut bytes = Zeroizing::new([0u8; 32]);
    getrandom::fill(bytes.as_mut_slice()).map_err(|error| {
        Failure::new(Reason::Internal, service::AUTH, format!("the system gives no random bytes: {error}"))
    })?;
    let key = Zeroizing::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes.as_slice())));
    let new = NewAgentKey {
        name: request.name,
        agent: request.agent,
        prefix: key.chars().take(SHOWN).collect(),
        hash: *blake3::hash(key.as_bytes()).as_bytes(),
        models: request.models,
        credentials: request.credentials,
        expires_at: request.expires_at,
    };
    let stored = store.insert_agent_key(&new).await?;
    Ok((SecretString::from(key.as_str()), stored))
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

    /// Whose key has this hash?
    pub(crate) async fn verify(&self, hash: &[u8]) -> Result<AgentKey, Failure> {
        let invalid = |message: String| Failure::new(Reason::AgentKeyInvalid, service::AUTH, message);
        if hash.len() != blake3::OUT_LEN {
            let message = format!("a key's hash has {} bytes, not {}", blake3::OUT_LEN, hash.len());
            return Err(Failure::new(Reason::RequestInvalid, service::AUTH, message).param("key_hash"));
        }
        let found = self.store.agent_key_by_hash(hash).await?;
        let Some(key) = found.filter(|key| key.hash.as_slice().ct_eq(hash).into()) else {
            return Err(invalid("there is no such agent key".to_owned()));
        };
        let now = self.clock.now_s();
        if key.revoked_at.is_some() {
            return Err(invalid(format!("agent key {:?} ({}…) was revoked", key.name, key.prefix)));
        }
        if key.expires_at.is_some_and(|at| at <= now) {
            return Err(invalid(format!("agent key {:?} ({}…) has expired", key.name, key.prefix)));
        }
        if self.uses.try_send((key.id.clone(), now)).is_err() {
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            tracing::debug!(dropped, "a key's use was not noted: too many wait");
        }
        Ok(key)
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
