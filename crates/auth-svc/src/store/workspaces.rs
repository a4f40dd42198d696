//! Where requests of accounts must go, as the provider has told. Known by account, not by credential: several logins may be
//! of one workspace, and one of them has to ask.

use super::{Store, StoreError};

/// How long a question that was claimed is left to whoever has claimed it, in milliseconds.
const CLAIM_MS: i64 = 60_000;

/// What is known of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Workspace {
    /// Origin that takes the place of the target's own, as it was told; `None`: none in particular.
    pub(crate) origin: Option<String>,
    /// The account's routing override, as it was told.
    pub(crate) routing: Option<String>,
    /// Unix milliseconds at which the two were last told; `None`: never.
    pub(crate) learned_ms: Option<i64>,
    /// Why it could not be asked since.
    pub(crate) problem: Option<String>,
    /// Times in a row that it could not.
    pub(crate) failures: u32,
    /// Unix milliseconds before which it is not asked again.
    pub(crate) next_ms: i64,
}

impl Workspace {
    /// From the JSON list that a credential is read with.
    pub(super) fn read(json: &str) -> Result<Self, serde_json::Error> {
        type Row = (Option<String>, Option<String>, Option<i64>, Option<String>, u32, i64);
        let (origin, routing, learned_ms, problem, failures, next_ms): Row = serde_json::from_str(json)?;
        Ok(Self { origin, routing, learned_ms, problem, failures, next_ms })
    }
}

impl Store {
    /// Takes the question about an account over for a while, if it is due now: over all processes one gets it.
    pub(crate) async fn claim_workspace(&self, account_id: &str) -> Result<bool, StoreError> {
        let now = self.clock().now_ms();
        let mut tx = self.write().await?;
        let claimed = sqlx::query("UPDATE workspaces SET next_ms = ?3 WHERE account_id = ?1 AND next_ms <= ?2")
            .bind(account_id)
            .bind(now)
            .bind(now.saturating_add(CLAIM_MS))
            .execute(&mut *tx)
            .await
            .map_err(self.failed())?
            .rows_affected();
        tx.commit().await.map_err(self.failed())?;
        Ok(claimed == 1)
    }

    /// What the provider has told of an account; asked again at `next_ms`.
    pub(crate) async fn learn_workspace(
        &self,
        account_id: &str,
        origin: Option<&str>,
        routing: Option<&str>,
        next_ms: i64,
    ) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sqlx::query(
            "INSERT INTO workspaces (account_id, origin, routing, learned_ms, problem, failures, next_ms)
             VALUES (?1, ?2, ?3, ?4, NULL, 0, ?5)
             ON CONFLICT (account_id) DO UPDATE SET origin = excluded.origin, routing = excluded.routing,
                learned_ms = excluded.learned_ms, problem = NULL, failures = 0, next_ms = excluded.next_ms",
        )
        .bind(account_id)
        .bind(origin)
        .bind(routing)
        .bind(self.clock().now_ms())
        .bind(next_ms)
        .execute(&mut *tx)
        .await
        .map_err(self.failed())?;
        tx.commit().await.map_err(self.failed())
    }

    /// An account could not be asked about; what was told before stays. It is asked again at `next_ms`.
    pub(crate) async fn miss_workspace(&self, account_id: &str, problem: &str, next_ms: i64) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sqlx::query(
            "INSERT INTO workspaces (account_id, problem, failures, next_ms) VALUES (?1, ?2, 1, ?3)
             ON CONFLICT (account_id) DO UPDATE SET problem = excluded.problem, failures = failures + 1,
                next_ms = excluded.next_ms",
        )
        .bind(account_id)
        .bind(problem)
        .bind(next_ms)
        .execute(&mut *tx)
        .await
        .map_err(self.failed())?;
        tx.commit().await.map_err(self.failed())
    }
}
