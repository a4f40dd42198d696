//! Agent keys: only their hashes are here.

use domain::day_of;
use sqlx::{FromRow, SqliteConnection};

use super::{Store, StoreError};

/// Every column, and what was used on the UTC day that is the first parameter.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT agent_keys.*, coalesce((SELECT tokens FROM key_usage
                 WHERE key_usage.key_id = agent_keys.id AND key_usage.day = ?1), 0) AS tokens_today FROM agent_keys ",
            $rest
        )
    };
}

/// What a key may use; each absent limit does not limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Requests per minute, at each gateway.
    pub(crate) requests_per_minute: Option<i32>,
    /// Calls at the same time, at each gateway.
    pub(crate) concurrent_calls: Option<i32>,
    /// Tokens (input and output) per UTC day, over all gateways.
    pub(crate) tokens_per_day: Option<i64>,
}

/// A new secret of a key that there is.
#[derive(Clone, Debug)]
pub(crate) struct NewSecret {
    /// First characters.
    pub(crate) prefix: String,
    /// BLAKE3 of the whole key.
    pub(crate) hash: [u8; 32],
}

/// A key to be stored.
#[derive(Clone, Debug)]
pub(crate) struct NewAgentKey {
    /// Name, unique among live keys.
    pub(crate) name: String,
    /// Agent it names.
    pub(crate) agent: String,
    /// Its secret.
    pub(crate) secret: NewSecret,
    /// Model patterns; empty allows all.
    pub(crate) models: Vec<String>,
    /// Credential labels; empty allows all.
    pub(crate) credentials: Vec<String>,
    /// Unix seconds; `None` never.
    pub(crate) expires_at: Option<i64>,
    /// What it may use.
    pub(crate) limits: Limits,
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
    /// What it may use.
    pub(crate) limits: Limits,
    /// BLAKE3 of the secret before the last rotation.
    pub(crate) previous_hash: Option<Vec<u8>>,
    /// Unix seconds until which that one is good.
    pub(crate) previous_until: Option<i64>,
    /// Unix seconds of the last rotation.
    pub(crate) rotated_at: Option<i64>,
    /// Tokens used on this UTC day.
    pub(crate) tokens_today: i64,
}

impl AgentKey {
    /// True from its expiry on, if it was not revoked before that.
    pub(crate) fn has_expired(&self, now_s: i64) -> bool {
        self.expires_at.is_some_and(|at| at <= self.revoked_at.unwrap_or(now_s).min(now_s))
    }
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
    requests_per_minute: Option<i32>,
    concurrent_calls: Option<i32>,
    tokens_per_day: Option<i64>,
    previous_hash: Option<Vec<u8>>,
    previous_until: Option<i64>,
    rotated_at: Option<i64>,
    tokens_today: i64,
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
            limits: Limits {
                requests_per_minute: row.requests_per_minute,
                concurrent_calls: row.concurrent_calls,
                tokens_per_day: row.tokens_per_day,
            },
            previous_hash: row.previous_hash,
            previous_until: row.previous_until,
            rotated_at: row.rotated_at,
            tokens_today: row.tokens_today,
        })
    }

    /// Stores a key; returns it as stored.
    pub(crate) async fn insert_agent_key(&self, new: &NewAgentKey) -> Result<AgentKey, StoreError> {
        let id = uuid::Uuid::now_v7().to_string();
        let list = |items: &[String]| serde_json::Value::from(items.to_vec()).to_string();
        let now = self.clock().now_s();
        let mut tx = self.write().await?;
        // An expired key must not hold its name for ever: it ends at its expiry for good.
        sqlx::query(
            "UPDATE agent_keys SET revoked_at = expires_at WHERE name = ? AND revoked_at IS NULL AND expires_at <= ?",
        )
        .bind(&new.name)
        .bind(now)
        .execute(&mut *tx)
        .await
        .map_err(self.failed())?;
        let taken: i64 = sqlx::query_scalar("SELECT count(*) FROM agent_keys WHERE name = ? AND revoked_at IS NULL")
            .bind(&new.name)
            .fetch_one(&mut *tx)
            .await
            .map_err(self.failed())?;
        if taken > 0 {
            return Err(StoreError::Taken(format!("there is a key named {:?} already; revoke it first", new.name)));
        }
        sqlx::query(
            "INSERT INTO agent_keys (id, name, agent, prefix, hash, models, credentials, created_at, expires_at,
                 requests_per_minute, concurrent_calls, tokens_per_day)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(&id)
        .bind(&new.name)
        .bind(&new.agent)
        .bind(&new.secret.prefix)
        .bind(new.secret.hash.as_slice())
        .bind(list(&new.models))
        .bind(list(&new.credentials))
        .bind(now)
        .bind(new.expires_at)
        .bind(new.limits.requests_per_minute)
        .bind(new.limits.concurrent_calls)
        .bind(new.limits.tokens_per_day)
        .execute(&mut *tx)
        .await
        .map_err(self.failed())?;
        let row = self.key_row(&mut tx, &id).await?;
        tx.commit().await.map_err(self.failed())?;
        self.agent_key(row)
    }

    async fn key_row(&self, tx: &mut SqliteConnection, id: &str) -> Result<KeyRow, StoreError> {
        sqlx::query_as(select!("WHERE id = ?2"))
            .bind(day_of(self.clock().now_s()))
            .bind(id)
            .fetch_one(tx)
            .await
            .map_err(self.failed())
    }

    /// The key with this id, else the one that is not revoked and has this name.
    async fn unrevoked_key(&self, tx: &mut SqliteConnection, key: &str) -> Result<KeyRow, StoreError> {
        let found: Option<KeyRow> = sqlx::query_as(select!(
            "WHERE revoked_at IS NULL AND (id = ?2 OR name = ?2) ORDER BY id = ?2 DESC LIMIT 1"
        ))
        .bind(day_of(self.clock().now_s()))
        .bind(key)
        .fetch_optional(tx)
        .await
        .map_err(self.failed())?;
        found.ok_or_else(|| StoreError::NotFound(format!("there is no live key with the id or name {key:?}")))
    }

    /// All keys by age, revoked ones included.
    pub(crate) async fn list_agent_keys(&self) -> Result<Vec<AgentKey>, StoreError> {
        let rows: Vec<KeyRow> = sqlx::query_as(select!("ORDER BY created_at, id"))
            .bind(day_of(self.clock().now_s()))
            .fetch_all(self.readers())
            .await
            .map_err(self.failed())?;
        rows.into_iter().map(|row| self.agent_key(row)).collect()
    }

    /// The key whose secret, or whose secret before the last rotation, has this hash; dead or alive.
    pub(crate) async fn agent_key_by_hash(&self, hash: &[u8]) -> Result<Option<AgentKey>, StoreError> {
        let row: Option<KeyRow> = sqlx::query_as(select!("WHERE hash = ?2 OR previous_hash = ?2"))
            .bind(day_of(self.clock().now_s()))
            .bind(hash)
            .fetch_optional(self.readers())
            .await
            .map_err(self.failed())?;
        row.map(|row| self.agent_key(row)).transpose()
    }

    /// Gives the live key with this id or name another secret. The one it had is good for `grace_s` more seconds, and
    /// the one before that no longer. Returns the key as it is now.
    pub(crate) async fn rotate_agent_key(
        &self,
        key: &str,
        secret: &NewSecret,
        grace_s: i64,
    ) -> Result<AgentKey, StoreError> {
        let now = self.clock().now_s();
        let mut tx = self.write().await?;
        let old = self.unrevoked_key(&mut tx, key).await?;
        let id = old.id.clone();
        let old = self.agent_key(old)?;
        if old.has_expired(now) {
            let message = format!("agent key {:?} has expired; its name is free for a new one", old.name);
            return Err(StoreError::NotFound(message));
        }
        sqlx::query(
            "UPDATE agent_keys SET previous_hash = hash, previous_until = ?2, rotated_at = ?3, hash = ?4, prefix = ?5
             WHERE id = ?1",
        )
        .bind(&id)
        .bind(now.saturating_add(grace_s))
        .bind(now)
        .bind(secret.hash.as_slice())
        .bind(&secret.prefix)
        .execute(&mut *tx)
        .await
        .map_err(self.failed())?;
        let row = self.key_row(&mut tx, &id).await?;
        tx.commit().await.map_err(self.failed())?;
        self.agent_key(row)
    }

    /// Ends the key with this id or name, both of its secrets; returns its name.
    pub(crate) async fn revoke_agent_key(&self, key: &str) -> Result<String, StoreError> {
        let mut tx = self.write().await?;
        let found = self.unrevoked_key(&mut tx, key).await?;
        sqlx::query("UPDATE agent_keys SET revoked_at = ? WHERE id = ?")
            .bind(self.clock().now_s())
            .bind(&found.id)
            .execute(&mut *tx)
            .await
            .map_err(self.failed())?;
        tx.commit().await.map_err(self.failed())?;
        Ok(found.name)
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
