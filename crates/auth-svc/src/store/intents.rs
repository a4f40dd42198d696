//! Refreshes on record: which token is being spent, by whom and until when, and what came of it.
//!
//! A refresh token is good once, so what may have happened to it must outlive the process. An intent is durable before
//! the request is sent, and goes in the transaction that stores the answer. Whoever finds one waits out its deadline.

use sqlx::{Sqlite, SqliteExecutor, Transaction};

use super::credential::{Credential, REJECTED_TOO};
use super::intent::{Begun, Doubt, Intent, IntentRow, MOST_LEASE_MS, RefreshFailure, TokenHash};
use super::{Store, StoreError};

impl Store {
    /// Takes the turn of `client_id` and the intent to refresh `credential`, both or neither; durable when this
    /// returns. `owner` names this attempt and no other; for `lease_ms` milliseconds nobody else takes them over.
    pub(crate) async fn begin_refresh(
        &self,
        credential: &Credential,
        client_id: &str,
        owner: &str,
        lease_ms: i64,
    ) -> Result<Begun, StoreError> {
        let Some(token) = credential.secrets.refresh().map(TokenHash::of) else { return Ok(Begun::Moved) };
        let mut tx = self.write_anyway().await?;
        // A transaction may have waited for its turn to write: what time it is counts from here.
        let now = self.clock().now_ms();
        // It may have been handed to somebody else, or refused to somebody else, while this waited for its turn.
        let version: Option<i32> = sqlx::query_scalar(
            "SELECT version FROM credentials
             WHERE id = ? AND borrowed = 0 AND exported_at IS NULL AND unconfirmed = 0
                AND NOT (coalesce(latch, '') IN ('needs_login', 'ended') AND coalesce(latch_version, 0) = version)",
        )
        .bind(&credential.id)
        .fetch_optional(&mut *tx)
        .await
        .map_err(self.failed())?;
        if version != Some(credential.version) {
            return Ok(Begun::Moved);
        }
        let earlier: Option<IntentRow> = sqlx::query_as("SELECT * FROM refresh_intents WHERE credential_id = ?")
            .bind(&credential.id)
            .fetch_optional(&mut *tx)
            .await
            .map_err(self.failed())?;
        let doubt = match earlier {
            Some(row) if row.is_of(token) && row.is_held(now) => {
                return Ok(Begun::Held { same: true, owner: row.owner, until_ms: row.deadline_ms });
            }
            // One for another token is of a login that was replaced since: it has nothing to do with this one.
            row => row.and_then(|row| row.doubt(token, now)),
        };
        if doubt.is_some() && credential.refresh.doubt.is_none() {
            return Ok(Begun::Doubted);
        }
        if let Some((holder, until_ms)) = self.take_turn(&mut tx, client_id, owner, now, lease_ms).await? {
            return Ok(Begun::Held { same: false, owner: holder, until_ms });
        }
        let intent = Intent {
            id: credential.id.clone(),
            version: credential.version,
            spent: token,
            client_id: client_id.to_owned(),
            owner: owner.to_owned(),
            started_ms: now,
            doubt,
        };
        self.write_intent(&mut tx, &intent, now.saturating_add(lease_ms)).await?;
        tx.commit().await.map_err(self.failed())?;
        Ok(Begun::Taken(intent))
    }

    /// True while some process may still store the answer to a refresh of this credential.
    pub(crate) async fn refresh_is_open(&self, id: &str) -> Result<bool, StoreError> {
        self.refresh_is_open_in(self.readers(), id).await
    }

    /// [`Self::refresh_is_open`], asked within a transaction.
    pub(super) async fn refresh_is_open_in(
        &self,
        executor: impl SqliteExecutor<'_>,
        id: &str,
    ) -> Result<bool, StoreError> {
        let row: Option<IntentRow> = sqlx::query_as("SELECT * FROM refresh_intents WHERE credential_id = ?")
            .bind(id)
            .fetch_optional(executor)
            .await
            .map_err(self.failed())?;
        Ok(row.is_some_and(|row| row.is_held(self.clock().now_ms())))
    }

    /// Who has the turn, and until when; `None` if it is ours now.
    async fn take_turn(
        &self,
        tx: &mut Transaction<'_, Sqlite>,
        client_id: &str,
        owner: &str,
        now: i64,
        lease_ms: i64,
    ) -> Result<Option<(String, i64)>, StoreError> {
        let (holder, deadline): (String, i64) = sqlx::query_as(
            "INSERT INTO token_turns (client_id, owner, deadline_ms) VALUES (?1, ?2, ?3 + ?4)
             ON CONFLICT (client_id) DO UPDATE SET
                owner = CASE WHEN deadline_ms <= ?3 OR deadline_ms > ?3 + ?5 THEN ?2 ELSE owner END,
                deadline_ms = CASE WHEN deadline_ms <= ?3 OR deadline_ms > ?3 + ?5 THEN ?3 + ?4 ELSE deadline_ms END
             RETURNING owner, deadline_ms",
        )
        .bind(client_id)
        .bind(owner)
        .bind(now)
        .bind(lease_ms)
        .bind(MOST_LEASE_MS)
        .fetch_one(&mut **tx)
        .await
        .map_err(self.failed())?;
        Ok((holder != owner).then_some((holder, deadline)))
    }

    async fn write_intent(
        &self,
        tx: &mut Transaction<'_, Sqlite>,
        intent: &Intent,
        deadline_ms: i64,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO refresh_intents
                (credential_id, version, spent_hash, owner, state, started_ms, deadline_ms, doubt_ms, doubt_cause)
             VALUES (?, ?, ?, ?, 'sending', ?, ?, ?, ?)
             ON CONFLICT (credential_id) DO UPDATE SET version = excluded.version, spent_hash = excluded.spent_hash,
                owner = excluded.owner, state = excluded.state, started_ms = excluded.started_ms,
                deadline_ms = excluded.deadline_ms, doubt_ms = excluded.doubt_ms, doubt_cause = excluded.doubt_cause",
        )
        .bind(&intent.id)
        .bind(intent.version)
        .bind(intent.spent.as_bytes())
        .bind(&intent.owner)
        .bind(intent.started_ms)
        .bind(deadline_ms)
        .bind(intent.doubt.as_ref().map(|doubt| doubt.at_ms))
        .bind(intent.doubt.as_ref().and_then(|doubt| doubt.cause.as_ref()))
        .execute(&mut **tx)
        .await
        .map_err(self.failed())?;
        Ok(())
    }

    /// Keeps the intent for `lease_ms` more milliseconds, for an owner that has an answer and cannot store it. The turn
    /// is not kept: its request is over, and other logins of the client need not wait for this one's answer.
    pub(crate) async fn extend_refresh(&self, intent: &Intent, lease_ms: i64) -> Result<(), StoreError> {
        let mut tx = self.write_anyway().await?;
        let until = self.clock().now_ms().saturating_add(lease_ms);
        sqlx::query("UPDATE refresh_intents SET deadline_ms = ? WHERE credential_id = ? AND owner = ?")
            .bind(until)
            .bind(&intent.id)
            .bind(&intent.owner)
            .execute(&mut *tx)
            .await
            .map_err(self.failed())?;
        tx.commit().await.map_err(self.failed())
    }

    /// Ends a refresh that brought nothing, and frees the turn. With a doubt the intent stays as the record of it.
    pub(crate) async fn end_refresh(
        &self,
        intent: &Intent,
        doubt: Option<&Doubt>,
        failure: &RefreshFailure,
    ) -> Result<(), StoreError> {
        let mut tx = self.write_anyway().await?;
        match doubt {
            None => {
                self.drop_intent(&mut tx, intent).await?;
            }
            Some(doubt) => {
                sqlx::query(
                    "UPDATE refresh_intents SET state = 'in_doubt', deadline_ms = ?, doubt_ms = ?, doubt_cause = ?
                     WHERE credential_id = ? AND owner = ?",
                )
                .bind(self.clock().now_ms())
                .bind(doubt.at_ms)
                .bind(&doubt.cause)
                .bind(&intent.id)
                .bind(&intent.owner)
                .execute(&mut *tx)
                .await
                .map_err(self.failed())?;
            }
        }
        self.free_turn(&mut tx, intent).await?;
        self.note_failure(&mut tx, intent, intent.version, Some(failure)).await?;
        tx.commit().await.map_err(self.failed())
    }

    /// Ends a refresh that was refused for good, and latches its version. `rejected`: the upstream has rejected its
    /// access token, so that nothing is left of it. `false`: the credential has another version by now, or is gone, and
    /// nothing is latched.
    pub(crate) async fn refuse_refresh(
        &self,
        intent: &Intent,
        detail: &str,
        rejected: bool,
    ) -> Result<bool, StoreError> {
        let mut tx = self.write_anyway().await?;
        let latched = sqlx::query(
            "UPDATE credentials SET
                latch = CASE WHEN ?4 OR (latch IN ('rejected', 'ended') AND latch_version = ?2)
                    THEN 'ended' ELSE 'needs_login' END,
                latch_detail = CASE WHEN ?4 OR (latch IN ('rejected', 'ended') AND latch_version = ?2)
                    THEN ?3 || ?5 ELSE ?3 END,
                latch_version = ?2
             WHERE id = ?1 AND version = ?2",
        )
        .bind(&intent.id)
        .bind(intent.version)
        .bind(detail)
        .bind(rejected)
        .bind(REJECTED_TOO)
        .execute(&mut *tx)
        .await
        .map_err(self.failed())?
        .rows_affected();
        self.drop_intent(&mut tx, intent).await?;
        self.free_turn(&mut tx, intent).await?;
        // Since when it fails is told for as long as its access token lives.
        let refusal = RefreshFailure { cause: detail.to_owned(), next_ms: self.clock().now_ms() };
        self.note_failure(&mut tx, intent, intent.version, (latched == 1).then_some(&refusal)).await?;
        tx.commit().await.map_err(self.failed())?;
        Ok(latched == 1)
    }

    async fn drop_intent(&self, tx: &mut Transaction<'_, Sqlite>, intent: &Intent) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM refresh_intents WHERE credential_id = ? AND owner = ?")
            .bind(&intent.id)
            .bind(&intent.owner)
            .execute(&mut **tx)
            .await
            .map_err(self.failed())?;
        Ok(())
    }

    /// Frees the turn, if it is still ours.
    pub(super) async fn free_turn(&self, tx: &mut Transaction<'_, Sqlite>, intent: &Intent) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM token_turns WHERE client_id = ? AND owner = ?")
            .bind(&intent.client_id)
            .bind(&intent.owner)
            .execute(&mut **tx)
            .await
            .map_err(self.failed())?;
        Ok(())
    }

    /// Counts a failure against `version`, or with `None` forgets those there were.
    pub(super) async fn note_failure(
        &self,
        tx: &mut Transaction<'_, Sqlite>,
        intent: &Intent,
        version: i32,
        failure: Option<&RefreshFailure>,
    ) -> Result<(), StoreError> {
        let query = match failure {
            None => sqlx::query("DELETE FROM refresh_state WHERE credential_id = ?").bind(&intent.id),
            Some(failure) => sqlx::query(
                "INSERT INTO refresh_state (credential_id, version, since_ms, failures, cause, next_ms)
                 SELECT id, ?2, ?4, 1, ?5, ?6 FROM credentials WHERE id = ?1
                 ON CONFLICT (credential_id) DO UPDATE SET
                    since_ms = CASE WHEN version = ?3 AND since_ms <= ?4 THEN since_ms ELSE excluded.since_ms END,
                    failures = CASE WHEN version = ?3 THEN failures + 1 ELSE 1 END,
                    version = excluded.version, cause = excluded.cause, next_ms = excluded.next_ms",
            )
            .bind(&intent.id)
            .bind(version)
            .bind(intent.version)
            .bind(self.clock().now_ms())
            .bind(&failure.cause)
            .bind(failure.next_ms),
        };
        query.execute(&mut **tx).await.map_err(self.failed())?;
        Ok(())
    }
}
