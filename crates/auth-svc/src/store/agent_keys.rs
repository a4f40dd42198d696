//! Agent keys: only their hashes are here.

use sqlx::FromRow;

use super::{Store, StoreError};

/// A key to be stored.
#[derive(Clone, Debug)]
pub(crate) struct NewAgentKey {
    /// Name, unique among live keys.
    pub(crate) name: String,
    /// Agent it names.
    pub(crate) agent: String,
    /// First characters.
    pub(crate) prefix: String,
    /// BLAKE3 of the whole key.
    pub(crate) hash: [u8; 32],
    /// Model patterns; empty allows all.
    pub(crate) models: Vec<String>,
    /// Credential labels; empty allows all.
    pub(crate) credentials: Vec<String>,
    /// Unix seconds; `None` never.
    pub(crate) expires_at: Option<i64>,
}

/// A stored key.
#[derive(Clone, Debug)]
pub(crate) struct AgentKey {
    /// Id, a UUID.
    pub(crate) id: String,
    /// Name.
    pub(crate) name: String,
    /// Agent it names.
    pub(crate) agent: String,
    /// First characters.
    pub(crate) prefix: String,
    /// BLAKE3 of the whole key.
    pub(crate) hash: Vec<u8>,
    /// Model patterns; empty allows all.
    pub(crate) models: Vec<String>,
    /// Credential labels; empty allows all.
    pub(crate) credentials: Vec<String>,
    /// Unix seconds.
    pub(crate) created_at: i64,
    /// Unix seconds.
    pub(crate) expires_at: Option<i64>,
    /// Unix seconds.
    pub(crate) revoked_at: Option<i64>,
    /// Unix seconds.
    pub(crate) last_used_at: Option<i64>,
}

#[derive(FromRow)]
struct KeyRow {
    id: String,
    name: String,
    agent: String,
    prefix: String,
    hash: Vec<u8>,
    models: String,
    credentials: String,
    created_at: i64,
    expires_at: Option<i64>,
    revoked_at: Option<i64>,
    last_used_at: Option<i64>,
}

impl Store {
    fn agent_key(&self, row: KeyRow) -> Result<AgentKey, StoreError> {
        // A restriction that cannot be read must not become "allows all".
        let list = |text: &str| {
            serde_json::from_str(text).map_err(|error| StoreError::Database {
                path: self.path().display().to_string(),
                cause: format!("agent key {}: {error}", row.name),
            })
        };
        Ok(AgentKey {
            models: list(&row.models)?,
            credentials: list(&row.credentials)?,
            id: row.id,
            name: row.name,
            agent: row.agent,
            prefix: row.prefix,
            hash: row.hash,
            created_at: row.created_at,
            expires_at: row.expires_at,
            revoked_at: row.revoked_at,
            last_used_at: row.last_used_at,
        })
    }

    /// Stores a key; returns it as stored.
    pub(crate) async fn insert_agent_key(&self, new: &NewAgentKey) -> Result<AgentKey, StoreError> {
        let id = uuid::Uuid::now_v7().to_string();
        let list = |items: &[String]| serde_json::Value::from(items.to_vec()).to_string();
        let mut tx = self.write().await?;
        // An expired key must not hold its name for ever.
        let taken: i64 = sqlx::query_scalar("SELECT count(*) FROM agent_keys WHERE name = ? AND revoked_at IS NULL")
            .bind(&new.name)
            .fetch_one(&mut *tx)
            .await
            .map_err(self.failed())?;
        if taken > 0 {
            return Err(StoreError::Taken(format!("there is a key named {:?} already; revoke it first", new.name)));
        }
        let row: KeyRow = sqlx::query_as(
            "INSERT INTO agent_keys (id, name, agent, prefix, hash, models, credentials, created_at, expires_at)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING *",
        )
        .bind(&id)
        .bind(&new.name)
        .bind(&new.agent)
        .bind(&new.prefix)
        .bind(new.hash.as_slice())
        .bind(list(&new.models))
        .bind(list(&new.credentials))
        .bind(self.clock().now_s())
        .bind(new.expires_at)
        .fetch_one(&mut *tx)
        .await
        .map_err(self.failed())?;
        tx.commit().await.map_err(self.failed())?;
        self.agent_key(row)
    }

    /// All keys by age, revoked ones included.
    pub(crate) async fn list_agent_keys(&self) -> Result<Vec<AgentKey>, StoreError> {
        let rows: Vec<KeyRow> = sqlx::query_as("SELECT * FROM agent_keys ORDER BY created_at, id")
            .fetch_all(self.readers())
            .await
            .map_err(self.failed())?;
        rows.into_iter().map(|row| self.agent_key(row)).collect()
    }

    /// The key with this hash, dead or alive.
    pub(crate) async fn agent_key_by_hash(&self, hash: &[u8]) -> Result<Option<AgentKey>, StoreError> {
        let row: Option<KeyRow> = sqlx::query_as("SELECT * FROM agent_keys WHERE hash = ?")
            .bind(hash)
            .fetch_optional(self.readers())
            .await
            .map_err(self.failed())?;
        row.map(|row| self.agent_key(row)).transpose()
    }

    /// Ends the live key with this id or name.
    pub(crate) async fn revoke_agent_key(&self, key: &str) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        let changed =
            sqlx::query("UPDATE agent_keys SET revoked_at = ?1 WHERE revoked_at IS NULL AND (id = ?2 OR name = ?2)")
                .bind(self.clock().now_s())
                .bind(key)
                .execute(&mut *tx)
                .await
                .map_err(self.failed())?
                .rows_affected();
        tx.commit().await.map_err(self.failed())?;
        match changed {
            0 => Err(StoreError::NotFound(format!("there is no live key with the id or name {key:?}"))),
            _ => Ok(()),
        }
    }

    /// Notes when keys were last used: `(id, Unix seconds)`.
    pub(crate) async fn mark_keys_used(&self, uses: &[(String, i64)]) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        for (id, at) in uses {
            sqlx::query("UPDATE agent_keys SET last_used_at = max(coalesce(last_used_at, 0), ?) WHERE id = ?")
                .bind(at)
                .bind(id)
                .execute(&mut *tx)
                .await
                .map_err(self.failed())?;
        }
        tx.commit().await.map_err(self.failed())
    }
}
