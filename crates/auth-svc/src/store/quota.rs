//! How much of credentials' quotas is used, as the provider told it last.

use std::collections::HashMap;

use sqlx::FromRow;

use super::{Store, StoreError};

/// A change that is smaller than this is written only when what is stored is older, in milliseconds: a window that has
/// not begun yet moves with every answer.
const SETTLED_MS: i64 = 60_000;

/// One window of one limit. Its length tells it from the others.
#[derive(Clone, Debug, PartialEq, FromRow)]
pub(crate) struct Window {
    /// Id of the limit, e.g. `codex`.
    #[sqlx(rename = "limit_id")]
    pub(crate) limit: String,
    /// Length in seconds; 0 where the provider does not say.
    pub(crate) window_s: i32,
    /// Percent used; may exceed 100.
    pub(crate) used_percent: f64,
    /// Unix seconds; `None` where the provider does not say.
    pub(crate) resets_at: Option<i64>,
    /// The limit's name for people, where the provider gives one.
    #[sqlx(rename = "limit_name")]
    pub(crate) name: Option<String>,
    /// Unix milliseconds at which it was told.
    pub(crate) observed_ms: i64,
}

impl Window {
    /// True if both are about the same window.
    fn is(&self, other: &Self) -> bool {
        (&self.limit, self.window_s) == (&other.limit, other.window_s)
    }

    /// Is this worth writing over `old`?
    fn is_news(&self, old: &Self) -> bool {
        let moved = match (self.resets_at, old.resets_at) {
            (Some(new), Some(old)) => new.abs_diff(old) >= SETTLED_MS.unsigned_abs() / 1000,
            (new, old) => new != old,
        };
        let age = self.observed_ms - old.observed_ms;
        // Answers overtake each other: what was told earlier is no news.
        let named = self.name.is_some() && self.name != old.name;
        age >= 0 && (moved || named || self.used_percent != old.used_percent || age >= SETTLED_MS)
    }

    /// As it stands at `now_ms`; `None` if what was told says nothing any more. Once its reset has passed nothing of it
    /// is used as far as we know, for as long as it lasts; what came after that nobody has told.
    pub(crate) fn at(mut self, now_ms: i64) -> Option<Self> {
        let length = i64::from(self.window_s).saturating_mul(1000);
        let reset_ms = self.resets_at.map(|at| at.saturating_mul(1000));
        let ends = reset_ms.unwrap_or(self.observed_ms).saturating_add(length);
        if now_ms >= ends {
            return None;
        }
        if reset_ms.is_some_and(|at| at <= now_ms) {
            self.used_percent = 0.0;
        }
        Some(self)
    }
}

#[derive(FromRow)]
struct Row {
    credential_id: String,
    #[sqlx(flatten)]
    window: Window,
}

impl Store {
    /// Every credential's windows by its id, the shortest first, as they stand now.
    pub(crate) async fn quotas(&self) -> Result<HashMap<String, Vec<Window>>, StoreError> {
        let now = self.clock().now_ms();
        let rows: Vec<Row> = sqlx::query_as("SELECT * FROM quota_windows ORDER BY window_s, limit_id")
            .fetch_all(self.readers())
            .await
            .map_err(self.failed())?;
        let mut quotas: HashMap<String, Vec<Window>> = HashMap::new();
        for row in rows {
            quotas.entry(row.credential_id).or_default().extend(row.window.at(now));
        }
        Ok(quotas)
    }

    /// Takes note of windows as the provider has told them. A window that is not among them is not changed, and nothing
    /// is written where nothing has changed: on a busy server every answer says the same.
    pub(crate) async fn note_quota(&self, id: &str, windows: &[Window]) -> Result<(), StoreError> {
        let known: Vec<Window> = sqlx::query_as("SELECT * FROM quota_windows WHERE credential_id = ?")
            .bind(id)
            .fetch_all(self.readers())
            .await
            .map_err(self.failed())?;
        let is_news = |new: &&Window| known.iter().find(|old| old.is(new)).is_none_or(|old| new.is_news(old));
        let news: Vec<&Window> = windows.iter().filter(is_news).collect();
        if news.is_empty() {
            return Ok(());
        }
        let mut tx = self.write().await?;
        for window in news {
            sqlx::query(
                "INSERT INTO quota_windows
                    (credential_id, limit_id, window_s, used_percent, resets_at, limit_name, observed_ms)
                 SELECT id, ?2, ?3, ?4, ?5, ?6, ?7 FROM credentials WHERE id = ?1
                 ON CONFLICT (credential_id, limit_id, window_s) DO UPDATE SET used_percent = excluded.used_percent,
                    resets_at = excluded.resets_at, limit_name = coalesce(excluded.limit_name, limit_name),
                    observed_ms = excluded.observed_ms
                 WHERE excluded.observed_ms >= observed_ms",
            )
            .bind(id)
            .bind(&window.limit)
            .bind(window.window_s)
            .bind(window.used_percent)
            .bind(window.resets_at)
            .bind(&window.name)
            .bind(window.observed_ms)
            .execute(&mut *tx)
            .await
            .map_err(self.failed())?;
        }
        tx.commit().await.map_err(self.failed())
    }

    /// Takes note of a credential's plan.
    pub(crate) async fn set_plan(&self, id: &str, plan: &str) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sqlx::query("UPDATE credentials SET plan = ? WHERE id = ?")
            .bind(plan)
            .bind(id)
            .execute(&mut *tx)
            .await
            .map_err(self.failed())?;
        tx.commit().await.map_err(self.failed())
    }
}
