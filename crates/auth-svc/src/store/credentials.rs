//! Reading credentials, and the changes that a refresh, a latch or an operator makes to them.

use secrecy::SecretString;
use sqlx::SqliteExecutor;

pub(crate) use super::credential::*;
use super::rows::{ACCESS, CredentialRow, ID_TOKEN, REFRESH, select_credentials};
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
        self.list_with(self.readers(), provider).await
    }

    pub(super) async fn list_with(
        &self,
        executor: impl SqliteExecutor<'_>,
        provider: Option<&str>,
    ) -> Result<Vec<Credential>, StoreError> {
        let sql = select_credentials!("WHERE ?2 IS NULL OR provider = ?2 ORDER BY provider, position, id");
        let rows: Vec<CredentialRow> = sqlx::query_as(sql)
            .bind(self.clock().now_ms())
            .bind(provider)
            .fetch_all(executor)
            .await
            .map_err(self.failed())?;
        rows.into_iter().map(|row| self.credential(row)).collect()
    }

    async fn find(&self, id: &str, label: &str) -> Result<Option<Credential>, StoreError> {
        let row: Option<CredentialRow> = sqlx::query_as(select_credentials!("WHERE id = ?2 OR label = ?3 LIMIT 1"))
            .bind(self.clock().now_ms())
            .bind(id)
            .bind(label)
            .fetch_optional(self.readers())
            .await
            .map_err(self.failed())?;
        row.map(|row| self.credential(row)).transpose()
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
        let row: Option<CredentialRow> = sqlx::query_as(select_credentials!("WHERE id = ?2"))
            .bind(0)
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
