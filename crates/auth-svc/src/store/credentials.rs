//! Reading credentials, and the changes that a refresh, a latch or an operator makes to them.

use secrecy::SecretString;
use sqlx::{Sqlite, SqliteExecutor, Transaction};

pub(crate) use super::credential::*;
use super::rows::{ACCESS, CredentialRow, ID_TOKEN, REFRESH, RestRow};
use super::{Store, StoreError};

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
        // One transaction, so that credentials and rests are of one moment.
        let mut read = self.readers().begin().await.map_err(self.failed())?;
        self.list_in(&mut read, provider).await
    }

    pub(super) async fn list_in(
        &self,
        tx: &mut Transaction<'_, Sqlite>,
        provider: Option<&str>,
    ) -> Result<Vec<Credential>, StoreError> {
        let rows: Vec<CredentialRow> = sqlx::query_as(
            "SELECT * FROM credentials WHERE ?1 IS NULL OR provider = ?1 ORDER BY provider, position, id",
        )
        .bind(provider)
        .fetch_all(&mut **tx)
        .await
        .map_err(self.failed())?;
        let mut rests = self.all_rests(&mut **tx).await?;
        rows.into_iter()
            .map(|row| {
                let own: Vec<Rest> =
                    rests.extract_if(.., |rest| rest.credential_id == row.id).filter_map(RestRow::into_rest).collect();
                self.credential(row, own)
            })
            .collect()
    }

    async fn all_rests(&self, executor: impl SqliteExecutor<'_>) -> Result<Vec<RestRow>, StoreError> {
        sqlx::query_as("SELECT credential_id, model, kind, until_ms FROM rests WHERE until_ms > ?")
            .bind(self.clock().now_ms())
            .fetch_all(executor)
            .await
            .map_err(self.failed())
    }

    async fn find(&self, id: &str, label: &str) -> Result<Option<Credential>, StoreError> {
        let mut read = self.readers().begin().await.map_err(self.failed())?;
        let row: Option<CredentialRow> = sqlx::query_as("SELECT * FROM credentials WHERE id = ? OR label = ? LIMIT 1")
            .bind(id)
            .bind(label)
            .fetch_optional(&mut *read)
            .await
            .map_err(self.failed())?;
        let Some(row) = row else { return Ok(None) };
        let mut rests = self.all_rests(&mut *read).await?;
        rests.retain(|rest| rest.credential_id == row.id);
        self.credential(row, rests.into_iter().filter_map(RestRow::into_rest).collect()).map(Some)
    }

    /// The credential with this id.
    pub(crate) async fn credential_by_id(&self, id: &str) -> Result<Option<Credential>, StoreError> {
        self.find(id, "").await
    }

    /// The credential with this label.
    pub(crate) async fn credential_by_label(&self, label: &str) -> Result<Option<Credential>, StoreError> {
        self.find("", label).await
    }

    /// The credential that an operator means by `name`: a label or an id.
    pub(crate) async fn credential_named(&self, name: &str) -> Result<Credential, StoreError> {
        self.find(name, name).await?.ok_or_else(|| StoreError::NotFound(format!("there is no credential {name:?}")))
    }

    /// The unknown fields that were imported with a credential.
    #[cfg(test)]
    pub(crate) async fn extra(&self, id: &str) -> Result<Option<serde_json::Value>, StoreError> {
        let row: Option<CredentialRow> = sqlx::query_as("SELECT * FROM credentials WHERE id = ?")
            .bind(id)
            .fetch_optional(self.readers())
            .await
            .map_err(self.failed())?;
        Ok(row.and_then(|row| self.open_extra(&row)))
    }

    /// Forgets a credential.
    pub(crate) async fn remove_credential(&self, id: &str) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sqlx::query("DELETE FROM credentials WHERE id = ?").bind(id).execute(&mut *tx).await.map_err(self.failed())?;
        tx.commit().await.map_err(self.failed())
    }

    /// Puts a provider's credentials into this order; those not named follow in their old one.
    pub(crate) async fn set_order(&self, provider: &str, labels: &[String]) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        let current: Vec<String> =
            sqlx::query_scalar("SELECT label FROM credentials WHERE provider = ? ORDER BY position, id")
                .bind(provider)
                .fetch_all(&mut *tx)
                .await
                .map_err(self.failed())?;
        if let Some(unknown) = labels.iter().find(|label| !current.contains(label)) {
            let message = format!("provider {provider} has no credential {unknown:?}; it has: {}", current.join(", "));
            return Err(StoreError::NotFound(message));
        }
        let rest = current.iter().filter(|label| !labels.contains(label));
        for (position, label) in (0i64..).zip(labels.iter().chain(rest)) {
            sqlx::query("UPDATE credentials SET position = ? WHERE label = ?")
                .bind(position)
                .bind(label)
                .execute(&mut *tx)
                .await
                .map_err(self.failed())?;
        }
        tx.commit().await.map_err(self.failed())
    }

    /// Stores what a refresh of version `spent` brought; durable when this returns. `false`: the credential has another
    /// version by now (a new login) or is gone, and nothing was changed.
    pub(crate) async fn store_refreshed(
        &self,
        id: &str,
        spent: i32,
        tokens: &RefreshedTokens,
    ) -> Result<bool, StoreError> {
        let access = self.seal_secret(id, ACCESS, &tokens.access)?;
        let refresh = self.seal_secret(id, REFRESH, &tokens.refresh)?;
        let id_token = self.seal_secret(id, ID_TOKEN, &tokens.id_token)?;
        let mut tx = self.write().await?;
        let changed = sqlx::query(
            "UPDATE credentials SET
                access_expires_at = CASE WHEN ?3 IS NULL THEN access_expires_at ELSE ?6 END,
                access_token = coalesce(?3, access_token), refresh_token = coalesce(?4, refresh_token),
                id_token = coalesce(?5, id_token), plan = coalesce(?7, plan), email = coalesce(?8, email),
                last_refresh = ?9, recovery_version = CASE WHEN ?10 THEN ?2 + 1 ELSE NULL END, version = ?2 + 1,
                latch = NULL, latch_version = NULL, latch_detail = NULL
             WHERE id = ?1 AND version = ?2",
        )
        .bind(id)
        .bind(spent)
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
        .map_err(self.failed())?
        .rows_affected();
        tx.commit().await.map_err(self.failed())?;
        Ok(changed == 1)
    }

    /// Latches one version of a credential. `false`: it has another version by now.
    pub(crate) async fn latch(
        &self,
        id: &str,
        version: i32,
        kind: LatchKind,
        detail: &str,
    ) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        let changed = sqlx::query(
            "UPDATE credentials SET latch = ?, latch_version = ?, latch_detail = ? WHERE id = ? AND version = ?",
        )
        .bind(kind.as_str())
        .bind(version)
        .bind(detail)
        .bind(id)
        .bind(version)
        .execute(&mut *tx)
        .await
        .map_err(self.failed())?
        .rows_affected();
        tx.commit().await.map_err(self.failed())?;
        Ok(changed == 1)
    }
}
