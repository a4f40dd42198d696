//! Reading credentials, and the changes that a refresh, a latch or an operator makes to them.

use secrecy::SecretString;
use sqlx::{Sqlite, SqliteExecutor, Transaction};

pub(crate) use super::credential::*;
use super::intent::{Intent, RefreshFailure, TokenHash};
use super::rows::{ACCESS, CredentialRow, ID_TOKEN, REFRESH, select_credentials};
use super::{Store, StoreError};
use crate::vault::VaultError;

/// What a refresh brought. What is absent keeps its old value.
#[derive(Clone, Debug)]
pub(crate) struct RefreshedTokens {
    /// New access token.
    pub(crate) access: Option<SecretString>,
    /// New refresh token; the old one is spent.
    pub(crate) refresh: Option<SecretString>,
    /// New id token.
    pub(crate) id_token: Option<SecretString>,
    /// Expiry of the new access token, Unix seconds, where known.
    pub(crate) access_expires_at: Option<i64>,
    /// Plan as the new token names it.
    pub(crate) plan: Option<String>,
    /// E-mail address as the new token names it.
    pub(crate) email: Option<String>,
    /// True if the upstream had rejected the token that was refreshed.
    pub(crate) recovery: bool,
}

impl Store {
    /// All credentials of a provider (`None`: of every provider), in the order in which they are tried.
    pub(crate) async fn list_credentials(&self, provider: Option<&str>) -> Result<Vec<Credential>, StoreError> {
        let mut rows = self.rows(self.readers(), provider).await?;
        if rows.iter().any(|row| self.is_foreign(row)) {
            self.reread_key().await?;
            rows = self.rows(self.readers(), provider).await?;
        }
        Ok(rows.into_iter().map(|row| self.credential(row)).collect())
    }

    pub(super) async fn list_with(
        &self,
        executor: impl SqliteExecutor<'_>,
        provider: Option<&str>,
    ) -> Result<Vec<Credential>, StoreError> {
        let rows = self.rows(executor, provider).await?;
        Ok(rows.into_iter().map(|row| self.credential(row)).collect())
    }

    async fn rows(
        &self,
        executor: impl SqliteExecutor<'_>,
        provider: Option<&str>,
    ) -> Result<Vec<CredentialRow>, StoreError> {
        let sql = select_credentials!("WHERE ?2 IS NULL OR provider = ?2 ORDER BY provider, position, id");
        sqlx::query_as(sql).bind(self.clock().now_ms()).bind(provider).fetch_all(executor).await.map_err(self.failed())
    }

    async fn found(&self, id: &str, label: &str) -> Result<Option<CredentialRow>, StoreError> {
        sqlx::query_as(select_credentials!("WHERE id = ?2 OR label = ?3 LIMIT 1"))
            .bind(self.clock().now_ms())
            .bind(id)
            .bind(label)
            .fetch_optional(self.readers())
            .await
            .map_err(self.failed())
    }

    async fn find(&self, id: &str, label: &str) -> Result<Option<Credential>, StoreError> {
        let mut row = self.found(id, label).await?;
        if row.as_ref().is_some_and(|row| self.is_foreign(row)) {
            self.reread_key().await?;
            row = self.found(id, label).await?;
        }
        Ok(row.map(|row| self.credential(row)))
    }

    /// The credential with this id.
    pub(crate) async fn credential_by_id(&self, id: &str) -> Result<Option<Credential>, StoreError> {
        self.find(id, "").await
    }

    /// The credential with this label.
    #[cfg(test)]
    pub(crate) async fn credential_by_label(&self, label: &str) -> Result<Option<Credential>, StoreError> {
        self.find("", label).await
    }

    /// The credential that an operator means by `name`: a label or an id.
    pub(crate) async fn credential_named(&self, name: &str) -> Result<Credential, StoreError> {
        self.find(name, name).await?.ok_or_else(|| StoreError::NotFound(format!("there is no credential {name:?}")))
    }

    /// Forgets a credential, but for the refresh tokens that it has spent. The one that it holds lives on.
    pub(crate) async fn remove_credential(&self, id: &str) -> Result<(), StoreError> {
        self.remove(id, None).await
    }

    /// Forgets a credential whose login was ended with the refresh token `revoked`, which counts as spent from now on.
    pub(crate) async fn remove_revoked(&self, id: &str, revoked: Option<TokenHash>) -> Result<(), StoreError> {
        self.remove(id, revoked).await
    }

    async fn remove(&self, id: &str, revoked: Option<TokenHash>) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        if let Some(hash) = revoked {
            self.insert_spent(&mut tx, id, hash).await?;
        }
        sqlx::query("DELETE FROM credentials WHERE id = ?").bind(id).execute(&mut *tx).await.map_err(self.failed())?;
        sqlx::query("DELETE FROM workspaces WHERE NOT EXISTS (SELECT 1 FROM credentials WHERE account_id = workspaces.account_id)")
            .execute(&mut *tx)
            .await
            .map_err(self.failed())?;
        self.trim_gone(&mut tx).await?;
        tx.commit().await.map_err(self.failed())
    }

    /// Stores what a refresh brought, and ends it; durable when this returns. It is stored if the refresh token here is
    /// still the one that was spent, whoever holds the lease now: nobody else has what comes after it. `problem` says
    /// what is wrong with what it brought. Gives the new version; `None`: there is another login by now, or none.
    pub(crate) async fn store_refreshed(
        &self,
        intent: &Intent,
        tokens: &RefreshedTokens,
        problem: Option<&RefreshFailure>,
    ) -> Result<Option<i32>, StoreError> {
        let id = intent.id.as_str();
        let mut tx = self.write_anyway().await?;
        let access = self.seal_secret(&tx, id, ACCESS, &tokens.access)?;
        let refresh = self.seal_secret(&tx, id, REFRESH, &tokens.refresh)?;
        let id_token = self.seal_secret(&tx, id, ID_TOKEN, &tokens.id_token)?;
        let Some(version) = self.version_if_spent(&mut tx, intent).await? else {
            self.free_turn(&mut tx, intent).await?;
            tx.commit().await.map_err(self.failed())?;
            return Ok(None);
        };
        self.note_spent(&mut tx, id, version, tokens.refresh.as_ref()).await?;
        let version = version.saturating_add(1);
        sqlx::query(
            "UPDATE credentials SET
                access_expires_at = CASE WHEN ?3 IS NULL THEN access_expires_at ELSE ?6 END,
                access_token = coalesce(?3, access_token), refresh_token = coalesce(?4, refresh_token),
                id_token = coalesce(?5, id_token), plan = coalesce(?7, plan), email = coalesce(?8, email),
                last_refresh = ?9, recovery_version = CASE WHEN ?10 THEN ?2 ELSE NULL END, version = ?2,
                latch = NULL, latch_version = NULL, latch_detail = NULL
             WHERE id = ?1",
        )
        .bind(id)
        .bind(version)
        .bind(access)
        .bind(refresh)
        .bind(id_token)
        .bind(tokens.access_expires_at)
        .bind(&tokens.plan)
        .bind(&tokens.email)
        .bind(self.clock().now_s())
        .bind(tokens.recovery)
        .execute(&mut *tx)
        .await
        .map_err(self.failed())?;
        // Also that of somebody who has taken over meanwhile: the token it is about is no longer here.
        sqlx::query("DELETE FROM refresh_intents WHERE credential_id = ? AND spent_hash = ?")
            .bind(id)
            .bind(intent.spent.as_bytes())
            .execute(&mut *tx)
            .await
            .map_err(self.failed())?;
        self.free_turn(&mut tx, intent).await?;
        self.note_failure(&mut tx, intent, version, problem).await?;
        tx.commit().await.map_err(self.failed())?;
        self.changed().notify_one();
        Ok(Some(version))
    }

    /// The version that stands here now, if its refresh token is the one that `intent` spends. Compared by what the
    /// row holds and not by a column beside it, which every writer of tokens would have to keep in step.
    async fn version_if_spent(
        &self,
        tx: &mut Transaction<'_, Sqlite>,
        intent: &Intent,
    ) -> Result<Option<i32>, StoreError> {
        let row: Option<(i32, Option<Vec<u8>>)> =
            sqlx::query_as("SELECT version, refresh_token FROM credentials WHERE id = ?")
                .bind(&intent.id)
                .fetch_optional(&mut **tx)
                .await
                .map_err(self.failed())?;
        let Some((version, sealed)) = row else { return Ok(None) };
        let stored = sealed.map(|sealed| self.vault().open(self.place(&intent.id, REFRESH), &sealed)).transpose();
        let same = match stored {
            Ok(stored) => stored.is_some_and(|stored| TokenHash::of_plain(&stored) == intent.spent),
            // It is sound, and may be what came after ours: only its key can tell.
            Err(cause @ VaultError::OtherKey(_)) => return Err(self.vault_error(&intent.id, REFRESH, cause)),
            // A row that is damaged is mended by what we have, unless it is of a later login.
            Err(_) => version == intent.version,
        };
        Ok(same.then_some(version))
    }

    /// Latches one version of a credential. A rejection of one whose refresh was refused for good is its end, and the
    /// refusal stays its cause. `false`: it has another version by now.
    pub(crate) async fn latch(
        &self,
        id: &str,
        version: i32,
        kind: LatchKind,
        detail: &str,
    ) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        let changed = sqlx::query(
            "UPDATE credentials SET
                latch = CASE WHEN latch IN ('needs_login', 'ended') AND latch_version = ?2 AND ?3 = 'rejected'
                    THEN 'ended' ELSE ?3 END,
                latch_detail = CASE WHEN latch = 'needs_login' AND latch_version = ?2 AND ?3 = 'rejected'
                    THEN latch_detail || ?5 WHEN latch = 'ended' AND latch_version = ?2 AND ?3 = 'rejected'
                    THEN latch_detail ELSE ?4 END,
                latch_version = ?2
             WHERE id = ?1 AND version = ?2",
        )
        .bind(id)
        .bind(version)
        .bind(kind.as_str())
        .bind(detail)
        .bind(REJECTED_TOO)
        .execute(&mut *tx)
        .await
        .map_err(self.failed())?
        .rows_affected();
        tx.commit().await.map_err(self.failed())?;
        Ok(changed == 1)
    }

    /// Forgets a rejection by the upstream, for a credential that could not be refreshed then and can be now.
    pub(super) async fn lift_rejection(&self, tx: &mut Transaction<'_, Sqlite>, id: &str) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE credentials SET latch = NULL, latch_version = NULL, latch_detail = NULL
             WHERE id = ? AND latch = 'rejected'",
        )
        .bind(id)
        .execute(&mut **tx)
        .await
        .map_err(self.failed())?;
        Ok(())
    }

    /// Permits the refresh of a restored credential. A rejection that only a refresh can end is forgotten with it.
    /// `false`: it needed no confirmation, and nothing was changed.
    pub(crate) async fn confirm_credential(&self, id: &str) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        let changed = sqlx::query("UPDATE credentials SET unconfirmed = 0 WHERE id = ? AND unconfirmed = 1")
            .bind(id)
            .execute(&mut *tx)
            .await
            .map_err(self.failed())?
            .rows_affected();
        if changed == 1 {
            self.lift_rejection(&mut tx, id).await?;
        }
        tx.commit().await.map_err(self.failed())?;
        // From now on it may be refreshed.
        self.changed().notify_one();
        Ok(changed == 1)
    }
}
