//! Whose a login is: the refresh tokens that are spent, and the credentials that were handed to another program.

use std::collections::HashSet;

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::{Sqlite, Transaction};

use super::intent::TokenHash;
use super::rows::{EXTRA, REFRESH};
use super::{Store, StoreError};

/// Spent tokens that are remembered for each credential, newest first. A file older than so many refreshes has expired
/// long since.
const REMEMBERED: i64 = 1_000;
/// Spent tokens that are remembered of credentials that are gone, newest first.
const REMEMBERED_OF_GONE: i64 = 10_000;

impl Store {
    /// Remembers the refresh token of `version` as spent, where `next` takes its place. A provider that gives the same
    /// token again, or none, has not spent it.
    pub(super) async fn note_spent(
        &self,
        tx: &mut Transaction<'_, Sqlite>,
        id: &str,
        version: i32,
        next: Option<&SecretString>,
    ) -> Result<(), StoreError> {
        let Some(next) = next else { return Ok(()) };
        let sealed: Option<Option<Vec<u8>>> =
            sqlx::query_scalar("SELECT refresh_token FROM credentials WHERE id = ? AND version = ?")
                .bind(id)
                .bind(version)
                .fetch_optional(&mut **tx)
                .await
                .map_err(self.failed())?;
        let Some(sealed) = sealed.flatten() else { return Ok(()) };
        // One that does not open cannot be recognised later either.
        let Ok(old) = self.vault().open(self.place(id, REFRESH), &sealed) else { return Ok(()) };
        if old.as_slice() == next.expose_secret().as_bytes() {
            return Ok(());
        }
        self.insert_spent(tx, id, TokenHash::of_plain(&old)).await
    }

    /// Remembers a refresh token as spent.
    pub(super) async fn insert_spent(
        &self,
        tx: &mut Transaction<'_, Sqlite>,
        id: &str,
        hash: TokenHash,
    ) -> Result<(), StoreError> {
        self.add_spent(tx, id, hash).await?;
        self.trim_spent(tx, id).await
    }

    /// One of several: [`Self::trim_spent`] comes after the last.
    pub(super) async fn add_spent(
        &self,
        tx: &mut Transaction<'_, Sqlite>,
        id: &str,
        hash: TokenHash,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO spent_tokens (hash, credential_id, spent_at) VALUES (?, ?, ?) ON CONFLICT (hash) DO NOTHING",
        )
        .bind(hash.as_bytes())
        .bind(id)
        .bind(self.clock().now_s())
        .execute(&mut **tx)
        .await
        .map_err(self.failed())?;
        Ok(())
    }

    /// Forgets what is too old to come back.
    pub(super) async fn trim_spent(&self, tx: &mut Transaction<'_, Sqlite>, id: &str) -> Result<(), StoreError> {
        sqlx::query(
            "DELETE FROM spent_tokens WHERE credential_id = ?1 AND id NOT IN
                (SELECT id FROM spent_tokens WHERE credential_id = ?1 ORDER BY id DESC LIMIT ?2)",
        )
        .bind(id)
        .bind(REMEMBERED)
        .execute(&mut **tx)
        .await
        .map_err(self.failed())?;
        Ok(())
    }

    /// Forgets the oldest of credentials that are gone.
    pub(super) async fn trim_gone(&self, tx: &mut Transaction<'_, Sqlite>) -> Result<(), StoreError> {
        sqlx::query(
            "DELETE FROM spent_tokens WHERE credential_id NOT IN (SELECT id FROM credentials) AND id NOT IN
                (SELECT id FROM spent_tokens WHERE credential_id NOT IN (SELECT id FROM credentials)
                 ORDER BY id DESC LIMIT ?)",
        )
        .bind(REMEMBERED_OF_GONE)
        .execute(&mut **tx)
        .await
        .map_err(self.failed())?;
        Ok(())
    }

    /// The credential whose refresh token this once was; it may be gone.
    pub(super) async fn spender(
        &self,
        tx: &mut Transaction<'_, Sqlite>,
        hash: TokenHash,
    ) -> Result<Option<String>, StoreError> {
        sqlx::query_scalar("SELECT credential_id FROM spent_tokens WHERE hash = ?")
            .bind(hash.as_bytes())
            .fetch_optional(&mut **tx)
            .await
            .map_err(self.failed())
    }

    /// Hashes of the refresh tokens that a credential once had.
    pub(crate) async fn spent_tokens(&self, id: &str) -> Result<HashSet<TokenHash>, StoreError> {
        let hashes: Vec<Vec<u8>> = sqlx::query_scalar("SELECT hash FROM spent_tokens WHERE credential_id = ?")
            .bind(id)
            .fetch_all(self.readers())
            .await
            .map_err(self.failed())?;
        Ok(hashes.into_iter().filter_map(|hash| TokenHash::read(&hash)).collect())
    }

    /// Gives up the ownership of these credentials, all or none: from now on nobody refreshes them here. One that was
    /// given up before keeps its time.
    pub(crate) async fn mark_exported(&self, ids: &[String]) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        for id in ids {
            sqlx::query("UPDATE credentials SET exported_at = coalesce(exported_at, ?) WHERE id = ?")
                .bind(self.clock().now_s())
                .bind(id)
                .execute(&mut *tx)
                .await
                .map_err(self.failed())?;
        }
        tx.commit().await.map_err(self.failed())?;
        self.changed().notify_one();
        Ok(())
    }

    /// Gives up the ownership of a credential that is about to be forgotten. `false`: it had been given up before, or is
    /// gone.
    pub(crate) async fn give_up(&self, id: &str) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        let changed = sqlx::query("UPDATE credentials SET exported_at = ? WHERE id = ? AND exported_at IS NULL")
            .bind(self.clock().now_s())
            .bind(id)
            .execute(&mut *tx)
            .await
            .map_err(self.failed())?
            .rows_affected();
        tx.commit().await.map_err(self.failed())?;
        self.changed().notify_one();
        Ok(changed == 1)
    }

    /// Undoes [`Self::give_up`]: the credential is not forgotten after all, and is refreshed here again.
    pub(crate) async fn take_up(&self, id: &str) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sqlx::query("UPDATE credentials SET exported_at = NULL WHERE id = ?")
            .bind(id)
            .execute(&mut *tx)
            .await
            .map_err(self.failed())?;
        tx.commit().await.map_err(self.failed())?;
        self.changed().notify_one();
        Ok(())
    }

    /// The unknown fields of the other program's file that were imported with a credential; `null` where there are none,
    /// or where they do not open.
    pub(crate) async fn extra(&self, id: &str) -> Result<serde_json::Value, StoreError> {
        let mut sealed = self.sealed_extra(id).await?;
        if sealed.as_ref().is_some_and(|sealed| self.vault().is_foreign(sealed)) {
            self.reread_key().await?;
            sealed = self.sealed_extra(id).await?;
        }
        let plain = sealed.and_then(|sealed| self.vault().open(self.place(id, EXTRA), &sealed).ok());
        Ok(plain.and_then(|plain| serde_json::from_slice(&plain).ok()).unwrap_or_default())
    }

    async fn sealed_extra(&self, id: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let sealed: Option<Option<Vec<u8>>> = sqlx::query_scalar("SELECT extra FROM credentials WHERE id = ?")
            .bind(id)
            .fetch_optional(self.readers())
            .await
            .map_err(self.failed())?;
        Ok(sealed.flatten())
    }
}
