//! What is said of the database as a whole.

use sqlx::{Sqlite, SqliteExecutor};

use super::{Store, StoreError};

const DATABASE_ID: &str = "database_id";
const CHECKED_AT: &str = "checked_at";

async fn put<'e>(executor: impl SqliteExecutor<'e>, name: &str, value: &str) -> Result<(), sqlx::Error> {
    let sql = "INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    sqlx::query::<Sqlite>(sql).bind(name).bind(value).execute(executor).await?;
    Ok(())
}

/// The database's own id; a database that has none yet gets one.
pub(super) async fn database_id(pool: &sqlx::SqlitePool) -> Result<String, sqlx::Error> {
    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
    let known: Option<String> =
        sqlx::query_scalar("SELECT value FROM meta WHERE name = ?").bind(DATABASE_ID).fetch_optional(&mut *tx).await?;
    if let Some(known) = known {
        return Ok(known);
    }
    let id = uuid::Uuid::new_v4().to_string();
    put(&mut *tx, DATABASE_ID, &id).await?;
    tx.commit().await?;
    Ok(id)
}

impl Store {
    /// The database's own id: random, made with it, the same in its copies.
    pub(crate) fn database_id(&self) -> &str {
        &self.inner.database_id
    }

    /// Writes the time, to see whether that can be done.
    pub(super) async fn note_check(&self) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        put(&mut *tx, CHECKED_AT, &self.clock().now_ms().to_string()).await.map_err(self.failed())?;
        tx.commit().await.map_err(self.failed())
    }
}
