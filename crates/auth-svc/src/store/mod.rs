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
mod error;
mod intent;
mod intents;
mod key_change;
mod key_usage;
mod meta;
mod open;
mod ownership;
mod quota;
mod rekey;
mod rests;
mod rows;
mod same_login;
mod selections;
mod snapshot;
pub(crate) mod tables;
#[cfg(test)]
mod upgrade_tests;
mod upsert;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use domain::Clock;
use sqlx::{Sqlite, SqlitePool, Transaction};
use tokio::sync::{Mutex, Notify};

use crate::database_key::KeySource;
use crate::vault::Vault;

pub(crate) use agent_keys::{AgentKey, Limits, NewAgentKey, NewSecret};
pub(crate) use audit::AuditEntry;
pub(crate) use copy::copies;
pub(crate) use credential::{
    Credential, Kind, Latch, LatchKind, NewCredential, Rest, RestKind, Secrets, Source, Upserted,
};
pub(crate) use credentials::RefreshedTokens;
pub(crate) use error::{StoreError, cause};
pub(crate) use intent::{Begun, Doubt, Intent, RefreshFailure, TokenHash};
pub(crate) use key_usage::{DAY_S, Used, day_of};
pub(crate) use open::{Keys, create, open};
pub(crate) use quota::Window;
pub(crate) use rekey::Rekeyed;
pub(crate) use selections::Mode;
pub(crate) use snapshot::{Decided, Restored, Snapshot, Taking};

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
}

/// How long a successful write stands for the next check.
const WRITTEN_LATELY: Duration = Duration::from_secs(1);

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
        let inner =
            Inner { writer, readers, vault, path, clock, changed, database_id, damaged, written, key_source, changing };
        Self { inner: Arc::new(inner) }
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
            if let StoreError::Damaged { cause, .. } = &error {
                let _ = self.inner.damaged.set(cause.clone());
            }
            error
        }
    }

    async fn write(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        if let Some(cause) = self.inner.damaged.get() {
            // What is damaged is left as it is for whoever mends it.
            return Err(StoreError::Damaged { path: self.inner.path.display().to_string(), cause: cause.clone() });
        }
        let mut tx = self.inner.writer.begin_with("BEGIN IMMEDIATE").await.map_err(self.failed())?;
        self.follow_key(&mut tx).await?;
        Ok(tx)
    }

    /// Can the database be opened for writing? Changes nothing.
    pub(crate) async fn check_open(&self) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        // On a read-only file `BEGIN IMMEDIATE` quietly begins to read; only a write tells.
        sqlx::query("UPDATE vault_canary SET key_id = key_id").execute(&mut *tx).await.map_err(self.failed())?;
        tx.rollback().await.map_err(self.failed())
    }

    /// Does the database take writes? A real one tells: what is not committed needs no room on a full disk. Not more
    /// than once a second.
    pub(crate) async fn check(&self) -> Result<(), StoreError> {
        let mut written = self.inner.written.lock().await;
        if written.is_some_and(|at| at.elapsed() < WRITTEN_LATELY) && self.inner.damaged.get().is_none() {
            return Ok(());
        }
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
