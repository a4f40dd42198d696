//! The audit log's rows.

use domain::DAY_S;
use sqlx::FromRow;

use super::{Store, StoreError};

/// Most entries that are kept.
const KEPT: i64 = 100_000;
/// For how long they are kept, in milliseconds: 400 days.
const KEPT_MS: i64 = 400 * DAY_S * 1000;
/// Every so many entries the oldest are looked at.
const PRUNED_EVERY: i64 = 100;

/// One act of an operator.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub(crate) struct AuditEntry {
    /// Unix milliseconds.
    pub(crate) at_ms: i64,
    /// Who.
    pub(crate) actor: String,
    /// What, e.g. `key.revoke`.
    pub(crate) act: String,
    /// On what; may be empty.
    pub(crate) subject: String,
    /// `ok` or a reason.
    pub(crate) outcome: String,
    /// More about it, for a person.
    pub(crate) detail: String,
}

impl Store {
    /// Adds an entry; now and then the oldest are forgotten.
    pub(crate) async fn insert_audit(&self, entry: &AuditEntry) -> Result<(), StoreError> {
        let mut tx = self.write_anyway().await?;
        let id: i64 = sqlx::query_scalar(
            "INSERT INTO audit (at_ms, actor, act, subject, outcome, detail) VALUES (?, ?, ?, ?, ?, ?) RETURNING id",
        )
        .bind(entry.at_ms)
        .bind(&entry.actor)
        .bind(&entry.act)
        .bind(&entry.subject)
        .bind(&entry.outcome)
        .bind(&entry.detail)
        .fetch_one(&mut *tx)
        .await
        .map_err(self.failed())?;
        // Ids count up without holes.
        if id % PRUNED_EVERY == 0 {
            sqlx::query("DELETE FROM audit WHERE id <= ? OR at_ms < ?")
                .bind(id - KEPT)
                .bind(entry.at_ms - KEPT_MS)
                .execute(&mut *tx)
                .await
                .map_err(self.failed())?;
        }
        tx.commit().await.map_err(self.failed())
    }

    /// The newest entries whose act begins with `act`, from `since_ms` on, newest first.
    pub(crate) async fn list_audit(&self, since_ms: i64, act: &str, limit: i32) -> Result<Vec<AuditEntry>, StoreError> {
        sqlx::query_as(
            "SELECT at_ms, actor, act, subject, outcome, detail FROM audit
             WHERE at_ms >= ?1 AND substr(act, 1, length(?2)) = ?2 ORDER BY id DESC LIMIT ?3",
        )
        .bind(since_ms)
        .bind(act)
        .bind(limit)
        .fetch_all(self.readers())
        .await
        .map_err(self.failed())
    }
}

#[cfg(test)]
mod tests {
    use domain::Clock;
    use service_kit::SecretKey;

    use super::*;

    fn entry(at_ms: i64) -> AuditEntry {
        let text = |text: &str| text.to_owned();
        AuditEntry {
            at_ms,
            actor: text("uid 1000"),
            act: text("key.create"),
            subject: text("ci"),
            outcome: text("ok"),
            detail: text(""),
        }
    }

    async fn count(store: &Store) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM audit").fetch_one(store.readers()).await.expect("counted")
    }

    #[tokio::test]
    async fn the_log_is_bounded_by_age_and_by_number() {
        let dir = tempfile::tempdir().expect("tempdir");
        let key = SecretKey::generate().expect("random");
        let path = dir.path().join("t.db");
        let made = crate::store::create(&path, key, Clock::manual(0), async |_| Ok(()));
        let store = made.await.expect("made");
        for at_ms in [0, 1, 2] {
            store.insert_audit(&entry(at_ms)).await.expect("taken");
        }
        // Four hundred days later, up to the next look.
        for _ in 3..PRUNED_EVERY {
            store.insert_audit(&entry(KEPT_MS + 2)).await.expect("taken");
        }
        let oldest = store.list_audit(0, "", 10_000).await.expect("listed").last().map(|entry| entry.at_ms);
        assert_eq!((oldest, count(&store).await), (Some(2), PRUNED_EVERY - 2), "what is older than that is forgotten");

        let many = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
             INSERT INTO audit (at_ms, actor, act, subject, outcome, detail) SELECT ?2, '', '', '', '', '' FROM n";
        let mut tx = store.write().await.expect("begun");
        sqlx::query(many).bind(KEPT).bind(KEPT_MS).execute(&mut *tx).await.expect("filled");
        tx.commit().await.expect("kept");
        for _ in 0..PRUNED_EVERY {
            store.insert_audit(&entry(KEPT_MS + 3)).await.expect("taken");
        }
        let now = count(&store).await;
        assert!((KEPT..KEPT + PRUNED_EVERY).contains(&now), "{now}");
    }
}
