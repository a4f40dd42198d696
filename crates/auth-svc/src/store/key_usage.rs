//! What agent keys have used, by UTC day.

use domain::day_of;
use sqlx::SqliteConnection;

use super::{Store, StoreError};

/// How long it is known that a report was counted, in seconds: its gateway gives up sending it after five minutes.
const BATCH_KEPT_S: i64 = 3600;
/// Days that are kept.
const KEPT_DAYS: i64 = 40;

/// Tokens that a key has used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Used {
    /// Id of the key.
    pub(crate) key_id: String,
    /// Input and output.
    pub(crate) tokens: i64,
    /// Unix seconds; its UTC day is what they count for.
    pub(crate) at: i64,
}

impl Store {
    /// Counts the tokens of one report, all or none, and once: false if the report `batch` was counted before.
    pub(crate) async fn add_key_usage(&self, batch: &str, used: &[Used]) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        let now = self.clock().now_s();
        let new = sqlx::query("INSERT INTO usage_batches (id, taken_at) VALUES (?, ?) ON CONFLICT (id) DO NOTHING")
            .bind(batch)
            .bind(now)
            .execute(&mut *tx)
            .await
            .map_err(self.failed())?;
        if new.rows_affected() == 0 {
            return Ok(false);
        }
        sqlx::query("DELETE FROM usage_batches WHERE taken_at < ?")
            .bind(now - BATCH_KEPT_S)
            .execute(&mut *tx)
            .await
            .map_err(self.failed())?;
        self.add_key_usage_in(&mut tx, used).await?;
        tx.commit().await.map_err(self.failed())?;
        Ok(true)
    }

    /// Adds the tokens within a transaction. Keys that there are not are passed over: a
    /// count may come late. What is said to be of tomorrow counts for today, so that a clock that is ahead fills no
    /// days to come.
    async fn add_key_usage_in(&self, tx: &mut SqliteConnection, used: &[Used]) -> Result<(), StoreError> {
        let today = day_of(self.clock().now_s());
        for Used { key_id, tokens, at } in used {
            sqlx::query(
                "INSERT INTO key_usage (key_id, day, tokens) SELECT id, ?2, ?3 FROM agent_keys WHERE id = ?1
                 ON CONFLICT (key_id, day) DO UPDATE SET tokens = tokens + excluded.tokens",
            )
            .bind(key_id)
            .bind(day_of(*at).min(today))
            .bind(tokens)
            .execute(&mut *tx)
            .await
            .map_err(self.failed())?;
        }
        sqlx::query("DELETE FROM key_usage WHERE day < ?")
            .bind(today - KEPT_DAYS)
            .execute(&mut *tx)
            .await
            .map_err(self.failed())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use domain::{Clock, DAY_S};
    use service_kit::SecretKey;

    use super::*;
    use crate::keys::{KeyRequest, mint};

    #[tokio::test]
    async fn days_are_added_up_and_forgotten_in_time() {
        let dir = tempfile::tempdir().expect("tempdir");
        let clock = Clock::manual(100 * DAY_S * 1000);
        let key = SecretKey::generate().expect("random");
        let path = dir.path().join("t.db");
        let made = crate::store::create(&path, key, clock.clone(), async |_| Ok(()));
        let store = made.await.expect("made");
        let request = KeyRequest { name: "ci".into(), agent: "main".into(), ..KeyRequest::default() };
        let (_, key) = mint(&store, request).await.expect("made");
        let used = |day: i64, tokens| Used { key_id: key.id.clone(), tokens, at: day * DAY_S + 5 };
        let days = async || -> Vec<(i64, i64)> {
            let all = sqlx::query_as("SELECT day, tokens FROM key_usage ORDER BY day").fetch_all(store.readers());
            all.await.expect("read")
        };
        store.add_key_usage("batch-1", &[used(100, 5), used(99, 7), used(100, 6)]).await.expect("added");
        assert_eq!(days().await, [(99, 7), (100, 11)]);
        store.add_key_usage("batch-2", &[used(59, 1), used(60, 2)]).await.expect("added");
        assert_eq!(days().await, [(60, 2), (99, 7), (100, 11)], "forty days are kept");
        clock.advance_ms(DAY_S * 1000);
        store.add_key_usage("batch-3", &[used(101, 3)]).await.expect("added");
        assert_eq!(days().await, [(99, 7), (100, 11), (101, 3)]);
    }
}
