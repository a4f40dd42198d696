//! Times in which a credential is not used.

use sqlx::{Sqlite, Transaction};

use super::credential::Rest;
use super::{Store, StoreError};

impl Store {
    /// Lets a credential rest; never ends a rest early.
    pub(crate) async fn rest(&self, id: &str, rest: &Rest) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        self.insert_rest(&mut tx, id, rest).await?;
        tx.commit().await.map_err(self.failed())
    }

    async fn insert_rest(&self, tx: &mut Transaction<'_, Sqlite>, id: &str, rest: &Rest) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO rests (credential_id, model, kind, window_s, limit_id, began_ms, until_ms)
             SELECT id, ?2, ?3, ?4, ?5, ?6, ?7 FROM credentials WHERE id = ?1
             ON CONFLICT (credential_id, model, kind, window_s, limit_id) DO UPDATE SET
                until_ms = max(until_ms, excluded.until_ms), began_ms = max(began_ms, excluded.began_ms)",
        )
        .bind(id)
        .bind(rest.model.as_deref().unwrap_or_default())
        .bind(rest.kind.as_str())
        .bind(rest.window_s)
        .bind(&rest.limit)
        .bind(rest.began_ms)
        .bind(rest.until_ms)
        .execute(&mut **tx)
        .await
        .map_err(self.failed())?;
        Ok(())
    }

    /// Puts new rests in place of old ones that a usage request has found to be otherwise; `None` ends one early. A
    /// rest that is not as `old` says any more stays: its limit was met again meanwhile.
    pub(crate) async fn correct_rests(&self, id: &str, changes: &[(Rest, Option<Rest>)]) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        for (old, new) in changes {
            let ended = sqlx::query(
                "DELETE FROM rests WHERE credential_id = ? AND model = ? AND kind = ? AND window_s = ? AND limit_id = ?
                    AND began_ms = ? AND until_ms = ?",
            )
            .bind(id)
            .bind(old.model.as_deref().unwrap_or_default())
            .bind(old.kind.as_str())
            .bind(old.window_s)
            .bind(&old.limit)
            .bind(old.began_ms)
            .bind(old.until_ms)
            .execute(&mut *tx)
            .await
            .map_err(self.failed())?
            .rows_affected();
            if let Some(new) = new.as_ref().filter(|_| ended == 1) {
                self.insert_rest(&mut tx, id, new).await?;
            }
        }
        tx.commit().await.map_err(self.failed())
    }

    /// Lets a credential rest for a model after a rate limit that named no time: 1 s, and twice as long each time that
    /// a rest has just ended and the limit was met again, up to `most_ms`. Reports that arrive during a rest are of
    /// calls that began before it, and change nothing.
    pub(crate) async fn back_off(&self, id: &str, model: Option<&str>, most_ms: i64) -> Result<(), StoreError> {
        let now = self.clock().now_ms();
        let mut tx = self.write().await?;
        sqlx::query(
            "INSERT INTO rests (credential_id, model, kind, began_ms, until_ms, strikes)
             SELECT id, ?2, 'RATE_LIMITED', ?3, ?3 + 1000, 1 FROM credentials WHERE id = ?1
             ON CONFLICT (credential_id, model, kind, window_s, limit_id) DO UPDATE SET
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
