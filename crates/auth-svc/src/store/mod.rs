//! The database: SQLite, one connection that writes and several that read.
//!
//! Every write is one `BEGIN IMMEDIATE` transaction: a transaction that began by reading and then wants to write would
//! fail at once when another one has written meanwhile. Commits are durable when they return (`synchronous=FULL`).
//!
//! A secret is sealed after the transaction has begun that writes it (`rekey.rs` says why). Whoever adds a table or a
//! column enters it in `tables.rs`. What a second engine must do as this one does is in `conformance`.

mod agent_keys;
mod audit;
#[cfg(test)]
mod conformance;
mod copy;
mod credential;
pub(crate) mod credentials;
mod egress;
mod error;
mod intent;
mod intents;
mod key_change;
mod key_usage;
mod meta;
mod open;
mod ownership;
mod quota;
mod recent;
mod rekey;
mod rests;
mod rows;
mod same_login;
#[cfg(test)]
pub(crate) mod sample;
mod selections;
mod snapshot;
pub(crate) mod tables;
#[cfg(test)]
mod upgrade_tests;
mod upsert;
mod workspaces;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use domain::Clock;
use service_kit::files;
use sqlx::{Sqlite, SqlitePool, Transaction};
use telemetry::metrics;
use tokio::sync::{Mutex, Notify, Semaphore};

use crate::database_key::KeySource;
use crate::vault::Vault;

pub(crate) use agent_keys::{AgentKey, Limits, NewAgentKey, NewSecret};
pub(crate) use audit::AuditEntry;
pub use copy::Upgraded;
pub(crate) use copy::copies;
pub(crate) use credential::{
    Credential, Kind, Latch, LatchKind, NewCredential, Rest, RestKind, Secrets, Source, Upserted,
};
pub(crate) use credentials::RefreshedTokens;
pub(crate) use egress::EgressRule;
pub(crate) use error::{StoreError, cause, damage, is_full};
pub(crate) use intent::{Begun, Doubt, Intent, MOST_WAIT_MS, RefreshFailure, TokenHash, UnderWay};
pub(crate) use key_usage::Used;
pub(crate) use open::{Keys, create, open};
pub(crate) use quota::Window;
pub(crate) use rekey::Rekeyed;
pub(crate) use selections::Mode;
pub(crate) use snapshot::{Decided, Restored, Snapshot, Taking};
#[cfg(test)]
pub(crate) use workspaces::Workspace;

/// The database and the key to it. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    writer: SqlitePool,
    readers: SqlitePool,
    vault: Vault,
    path: PathBuf,
    clock: Clock,
    changed: Notify,
    /// Random, made with the database: tells whether a backup is of this one.
    database_id: String,
    /// What SQLite said when it first found the file damaged. Nothing is written from then on.
    damaged: OnceLock<String>,
    /// When a write was last seen to succeed.
    written: Mutex<Option<Instant>>,
    /// Where another process puts the database key that it changes to.
    key_source: OnceLock<KeySource>,
    /// Held by whoever changes which key the vault seals with.
    changing: Mutex<()>,
    /// What opening it has migrated.
    upgraded: OnceLock<Upgraded>,
    /// Something has failed since a write was last seen to succeed.
    troubled: AtomicBool,
    /// What bindings have read.
    recent: recent::Recent,
    /// Places in the queue of writes.
    queue: Semaphore,
}

/// Writes that may wait for the one before them. A commit takes milliseconds: who would have to wait for more than these is
/// better told at once, and a disk that has stopped does not fill the memory with those who wait for it.
const MOST_WAITING: usize = 500;
/// How long a successful write stands for the next check, while the disk tells that it has room.
const WRITTEN_LATELY: Duration = Duration::from_secs(30);
/// Not more often than this is a database written for the sake of a check.
const ASKED_LATELY: Duration = Duration::from_secs(1);

impl Store {
    fn new(
        writer: SqlitePool,
        readers: SqlitePool,
        vault: Vault,
        path: PathBuf,
        clock: Clock,
        database_id: String,
    ) -> Self {
        let (changed, damaged, written) = (Notify::new(), OnceLock::new(), Mutex::new(None));
        let (key_source, changing) = (OnceLock::new(), Mutex::new(()));
        let (upgraded, troubled) = (OnceLock::new(), AtomicBool::new(false));
        let queue = Semaphore::new(MOST_WAITING);
        let inner = Inner {
            writer,
            readers,
            vault,
            path,
            clock,
            changed,
            database_id,
            damaged,
            written,
            key_source,
            changing,
            upgraded,
            troubled,
            recent: recent::Recent::default(),
            queue,
        };
        Self { inner: Arc::new(inner) }
    }

    fn after(self, upgraded: Option<Upgraded>) -> Self {
        if let Some(upgraded) = upgraded {
            let _ = self.inner.upgraded.set(upgraded);
        }
        self
    }

    /// The migration that opening it brought, if one was due.
    pub(crate) fn upgraded(&self) -> Option<&Upgraded> {
        self.inner.upgraded.get()
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.inner.path
    }

    fn readers(&self) -> &SqlitePool {
        &self.inner.readers
    }

    fn vault(&self) -> &Vault {
        &self.inner.vault
    }

    /// What tells it the time.
    pub(crate) fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// Told by this process's writes when a credential has other secrets than before, or another owner.
    pub(crate) fn changed(&self) -> &Notify {
        &self.inner.changed
    }

    /// For `map_err`: names the file.
    fn failed(&self) -> impl Fn(sqlx::Error) -> StoreError + '_ {
        |error| {
            let error = StoreError::database(&self.inner.path, &error);
            self.inner.troubled.store(true, Ordering::Relaxed);
            if let StoreError::Damaged { cause, .. } = &error {
                let _ = self.inner.damaged.set(cause.clone());
            }
            error
        }
    }

    /// Begins a write, once those before it are done. Where too many wait already it is refused at once.
    async fn write(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        let _waiting = self.inner.queue.try_acquire().map_err(|_| {
            metrics::shed("writes");
            StoreError::Busy { path: self.inner.path.display().to_string(), waiting: MOST_WAITING }
        })?;
        self.write_anyway().await
    }

    /// As [`Self::write`], however many wait: for what may not be lost, and is bounded elsewhere (what a refresh writes, of
    /// which there is one at a time for each login, and operators' acts).
    async fn write_anyway(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        if let Some(cause) = self.inner.damaged.get() {
            // What is damaged is left as it is for whoever mends it.
            return Err(StoreError::Damaged { path: self.inner.path.display().to_string(), cause: cause.clone() });
        }
        let mut tx = self.inner.writer.begin_with("BEGIN IMMEDIATE").await.map_err(self.failed())?;
        self.follow_key(&mut tx).await.inspect_err(|_| self.inner.troubled.store(true, Ordering::Relaxed))?;
        Ok(tx)
    }

    /// Can the database be opened for writing? Changes nothing.
    pub(crate) async fn check_open(&self) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        // On a read-only file `BEGIN IMMEDIATE` quietly begins to read; only a write tells.
        sqlx::query("UPDATE vault_canary SET key_id = key_id").execute(&mut *tx).await.map_err(self.failed())?;
        tx.rollback().await.map_err(self.failed())
    }

    /// Does the database take writes? For whoever asks again and again: while nothing fails and the disk tells that it has
    /// room, a write of the last half minute stands for the next one.
    pub(crate) async fn check(&self) -> Result<(), StoreError> {
        let written = *self.inner.written.lock().await;
        let failing = self.inner.troubled.load(Ordering::Relaxed) || self.inner.damaged.get().is_some();
        let patience = if files::is_full(&self.inner.path) { ASKED_LATELY } else { WRITTEN_LATELY };
        if !failing && written.is_some_and(|at| at.elapsed() < patience) {
            return Ok(());
        }
        self.check_now().await
    }

    /// Does the database take writes? A real one tells: what is not committed needs no room on a full disk.
    pub(crate) async fn check_now(&self) -> Result<(), StoreError> {
        let mut written = self.inner.written.lock().await;
        self.inner.troubled.store(false, Ordering::Relaxed);
        self.note_check().await?;
        *written = Some(Instant::now());
        Ok(())
    }

    /// Closes every connection; the write-ahead log is folded into the file.
    pub(crate) async fn close(&self) {
        self.inner.readers.close().await;
        self.inner.writer.close().await;
    }
}

#[cfg(test)]
mod tests {
    use domain::{Failure, Reason};
    use futures_util::FutureExt;
    use futures_util::future::join_all;
    use service_kit::SecretKey;

    use super::*;

    #[tokio::test]
    async fn writes_wait_for_each_other_up_to_a_number() {
        let dir = tempfile::tempdir().expect("tempdir");
        let key = SecretKey::generate().expect("random");
        let made = create(&dir.path().join("t.db"), key, Clock::manual(0), async |_| Ok(())).await;
        let store = made.expect("made");
        let under_way = store.write().await.expect("begun");
        let mut waiting = Box::pin(join_all((0..MOST_WAITING).map(|_| store.write())));
        assert!(waiting.as_mut().now_or_never().is_none());
        let refused = Failure::from(store.write().await.map(drop).expect_err("refused"));
        assert_eq!((refused.reason, refused.retryable), (Reason::Shed, true), "{refused}");
        assert!(refused.message.contains("500 writes wait"), "{refused}");
        let urgent = store.write_anyway();
        drop(waiting);
        drop(under_way);
        assert!(urgent.await.is_ok() && store.write().await.is_ok());
    }
}
