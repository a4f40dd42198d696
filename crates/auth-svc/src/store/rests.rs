//! Times in which a credential is not used.

use super::credential::RestKind;
use super::{Store, StoreError};

impl Store {
    /// Lets a credential rest until `until_ms`; never ends a rest early.
    pub(crate) async fn rest(
        &self,
        id: &str,
        model: Option<&str>,
        kind: RestKind,
        until_ms: i64,
    ) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sqlx::query(
            "INSERT INTO rests (credential_id, model, kind, until_ms)
             SELECT id, ?2, ?3, ?4 FROM credentials WHERE id = ?1
             ON CONFLICT (credential_id, model, kind) DO UPDATE SET until_ms = max(until_ms, excluded.until_ms)",
        )
        .bind(id)
        .bind(model.unwrap_or_default())
        .bind(kind.as_str())
        .bind(until_ms)
        .execute(&mut *tx)
        .await
        .map_err(self.failed())?;
        tx.commit().await.map_err(self.failed())
    }

    /// Lets a credential rest for a model after a rate limit that named no time: 1 s, and twice as long each time that
    /// a rest has just ended and the limit was met again, up to `most_ms`. Reports that arrive during a rest are of
    /// calls that began before it, and change nothing.
    pub(crate) async fn back_off(&self, id: &str, model: Option<&str>, most_ms: i64) -> Result<(), StoreError> {
        let now = self.clock().now_ms();
        let mut tx = self.write().await?;
        sqlx::query(
            "INSERT INTO rests (credential_id, model, kind, until_ms, strikes)
             SELECT id, ?2, 'RATE_LIMITED', ?3 + 1000, 1 FROM credentials WHERE id = ?1
             ON CONFLICT (credential_id, model, kind) DO UPDATE SET
                strikes = CASE WHEN until_ms > ?3 THEN strikes WHEN until_ms + ?4 < ?3 THEN 1
                               ELSE min(strikes + 1, 16) END,
                until_ms = CASE WHEN until_ms > ?3 THEN until_ms WHEN until_ms + ?4 < ?3 THEN ?3 + 1000
                                ELSE ?3 + min(1000 << min(strikes, 16), ?4) END",
        )
        .bind(id)
        .bind(model.unwrap_or_default())
        .bind(now)
        .bind(most_ms)
        .execute(&mut *tx)
        .await
        .map_err(self.failed())?;
        tx.commit().await.map_err(self.failed())
    }

    /// Forgets the short rests of a model that have ended, after a success: the next one starts at 1 s again.
    pub(crate) async fn forget_ended_rests(&self, id: &str) -> Result<(), StoreError> {
        let now = self.clock().now_ms();
        let ended: i64 = sqlx::query_scalar("SELECT count(*) FROM rests WHERE credential_id = ? AND until_ms <= ?")
            .bind(id)
            .bind(now)
            .fetch_one(self.readers())
            .await
            .map_err(self.failed())?;
        if ended == 0 {
            // The usual case costs no write.
            return Ok(());
        }
        let mut tx = self.write().await?;
        sqlx::query("DELETE FROM rests WHERE credential_id = ? AND until_ms <= ?")
            .bind(id)
            .bind(now)
            .execute(&mut *tx)
            .await
            .map_err(self.failed())?;
        tx.commit().await.map_err(self.failed())
    }
}
