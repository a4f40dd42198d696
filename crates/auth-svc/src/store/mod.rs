//! The database: SQLite, one connection that writes and several that read.
//!
//! Every write is one `BEGIN IMMEDIATE` transaction: a transaction that began by reading and then wants to write would
//! fail at once when another one has written meanwhile. Commits are durable when they return (`synchronous=FULL`).

mod agent_keys;
mod credential;
pub(crate) mod credentials;
mod error;
mod open;
mod rests;
mod rows;
#[cfg(test)]
mod tests;
mod upsert;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use domain::Clock;
use sqlx::{Sqlite, SqlitePool, Transaction};

use crate::vault::Vault;

pub(crate) use agent_keys::{AgentKey, NewAgentKey};
pub(crate) use credential::{Credential, Kind, Latch, LatchKind, NewCredential, RestKind, Secrets, Source, Upserted};
pub(crate) use credentials::RefreshedTokens;
pub(crate) use error::{StoreError, cause};
pub(crate) use open::{create, open};

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
}

impl Store {
    fn new(writer: SqlitePool, readers: SqlitePool, vault: Vault, path: PathBuf, clock: Clock) -> Self {
        Self { inner: Arc::new(Inner { writer, readers, vault, path, clock }) }
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

    fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// For `map_err`: names the file.
    fn failed(&self) -> impl Fn(sqlx::Error) -> StoreError + '_ {
        |error| StoreError::database(&self.inner.path, &error)
    }

    async fn write(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.inner.writer.begin_with("BEGIN IMMEDIATE").await.map_err(self.failed())
    }

    /// Can the database be read, and written?
    pub(crate) async fn check(&self) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        // On a read-only file `BEGIN IMMEDIATE` quietly begins to read; only a write tells.
        sqlx::query("UPDATE vault_canary SET key_id = key_id").execute(&mut *tx).await.map_err(self.failed())?;
        tx.rollback().await.map_err(self.failed())
    }

    /// Closes every connection; the write-ahead log is folded into the file.
    pub(crate) async fn close(&self) {
        self.inner.readers.close().await;
        self.inner.writer.close().await;
    }
}
