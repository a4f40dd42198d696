//! Another database key: every sealed value is sealed anew, in one transaction.
//!
//! The rule that keeps writers out of its way: whoever writes a sealed value seals it after `Store::write` has given it
//! the writer. A value that breaks the rule is sealed with the old key and written after the change; the vault still
//! knows that key, and [`Store::seal_leftovers`] finds the value before the key is thrown away.

use std::time::{Duration, Instant};

use domain::{Failure, Reason, service};
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row, Sqlite, Transaction};

use super::intent::held;
use super::tables::{CREDENTIALS, SEALED, Sealed};
use super::{Store, StoreError};
use crate::fail_point::fail_point;
use crate::vault::{Place, key_of};
use service_kit::SecretKey;

/// How often a change looks whether a refresh has ended.
const POLL: Duration = Duration::from_millis(50);

/// Label of the credential, owner, deadline in Unix milliseconds.
type HeldRefresh = (String, String, i64);

/// A change of keys that is durable.
#[derive(Debug)]
pub(crate) struct Rekeyed {
    /// Public name of the old key.
    pub(crate) old: String,
    /// Public name of the new one.
    pub(crate) new: String,
    /// Values that were sealed anew, without the canary.
    pub(crate) values: i32,
}

/// What was sealed anew.
#[derive(Debug, Default)]
struct Anew {
    /// Number of values, without the canary.
    values: i32,
    /// What could not be opened, and stays as it is.
    damaged: Vec<Damaged>,
}

/// Where a value stands that no key at hand opens.
#[derive(Debug)]
struct Damaged {
    table: &'static str,
    row: String,
    column: &'static str,
}

impl Store {
    /// Public name of the key that the database's values are sealed with.
    pub(crate) fn key_id(&self) -> String {
        self.vault().key_id()
    }

    /// Seals everything anew with the key that `prepare` gives; durable when this returns. `prepare` is told the public
    /// name of the old key, and runs while no other process can change the key or write. Calls go on meanwhile; they
    /// wait only where they write. It must run to its end: a caller that may go away runs it in a task. After an error
    /// the database has its old key, or, if the commit was lost in the disk's answer, the new one: either way the vault
    /// opens everything that is there.
    ///
    /// For a refresh that is under way, in whichever process, this waits for `patience`, and then refuses: its new token
    /// must not meet a database whose key that process cannot learn.
    pub(crate) async fn change_key_to(
        &self,
        patience: Duration,
        prepare: impl FnOnce(&str) -> Result<SecretKey, Failure>,
    ) -> Result<Rekeyed, Failure> {
        let mut tx = self.write_between_refreshes(patience).await?;
        let _one = self.inner.changing.lock().await;
        let old = self.key_id();
        let new = prepare(&old)?;
        let new_id = new.id();
        fail_point("rekey-prepared");
        self.vault().learn(new);
        // Nobody else can write now, so nothing sealed from here on is seen before the commit.
        self.vault().switch_to(&new_id);
        let sealed = self.seal_all(&mut tx, &new_id).await;
        fail_point("rekey-before-commit");
        let done = match sealed {
            Ok(sealed) if sealed.damaged.is_empty() => {
                tx.commit().await.map(|()| sealed.values).map_err(self.failed()).map_err(Failure::from)
            }
            Ok(sealed) => {
                let refused = self.left_behind(&mut tx, &sealed.damaged).await;
                let _ = tx.rollback().await;
                Err(refused)
            }
            Err(error) => {
                let _ = tx.rollback().await;
                Err(error.into())
            }
        };
        if done.is_err() {
            self.follow_canary().await;
        }
        Ok(Rekeyed { old, new: new_id, values: done? })
    }

    /// Why the key stays: with the old one goes the last chance of what could not be opened.
    async fn left_behind(&self, tx: &mut Transaction<'_, Sqlite>, damaged: &[Damaged]) -> Failure {
        let mut names: Vec<String> = Vec::new();
        for one in damaged {
            let label: Result<Option<String>, _> = sqlx::query_scalar("SELECT label FROM credentials WHERE id = ?")
                .bind(&one.row)
                .fetch_optional(&mut **tx)
                .await;
            names.push(match label {
                Ok(Some(label)) if one.table == CREDENTIALS.name => {
                    format!("the {} of credential {label}", one.column.replace('_', " "))
                }
                _ => format!("{} of {} {}", one.column, one.table, one.row),
            });
        }
        let message = format!(
            "the database key is not changed: what is stored as {} is damaged or of another key, and without the present \
             key nothing could open it any more",
            names.join(" and ")
        );
        Failure::new(Reason::StoreUnavailable, service::AUTH, message).next_step(
            "nothing was changed. Log in or import again, which replaces what is damaged, or `switchboard credentials remove \
             LABEL`; then try again",
        )
    }

    /// The writer, at a moment at which no process refreshes.
    async fn write_between_refreshes(&self, patience: Duration) -> Result<Transaction<'static, Sqlite>, Failure> {
        let began = Instant::now();
        loop {
            let mut tx = self.write().await?;
            let Some((credential, owner, _)) = self.held_refresh(&mut tx).await? else { return Ok(tx) };
            tx.rollback().await.map_err(self.failed())?;
            if began.elapsed() >= patience {
                let message = format!(
                    "the database key is not changed while credential {credential} is refreshed ({owner}): the process \
                     that does so may hold a token that is not written yet"
                );
                return Err(Failure::new(Reason::StoreUnavailable, service::AUTH, message).next_step(
                    "nothing was changed; `switchboard doctor` says what holds the refresh up, then try again",
                ));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// A refresh whose owner may still store an answer: label of its credential, owner, deadline.
    async fn held_refresh(&self, tx: &mut Transaction<'_, Sqlite>) -> Result<Option<HeldRefresh>, StoreError> {
        let sending: Vec<HeldRefresh> = sqlx::query_as(
            "SELECT label, owner, deadline_ms FROM refresh_intents JOIN credentials ON credentials.id = credential_id
             WHERE state = 'sending'",
        )
        .fetch_all(&mut **tx)
        .await
        .map_err(self.failed())?;
        let now = self.clock().now_ms();
        Ok(sending.into_iter().find(|(.., deadline_ms)| held(*deadline_ms, now)))
    }

    /// [`Self::change_key_to`] a key that is there. Gives the number of values.
    #[cfg(test)]
    pub(crate) async fn change_key(&self, new: &SecretKey) -> Result<i32, Failure> {
        let done = self.change_key_to(Duration::from_secs(60), |_| Ok(new.clone())).await?;
        Ok(done.values)
    }

    /// Seals anew with the present key what another key that the vault knows has sealed. Gives the number of values.
    pub(crate) async fn seal_leftovers(&self) -> Result<i32, StoreError> {
        let mut tx = self.write().await?;
        let sealed = self.seal_all(&mut tx, &self.key_id()).await?;
        tx.commit().await.map_err(self.failed())?;
        for Damaged { table, row, column } in &sealed.damaged {
            // It could not be opened before either, and is shown as such.
            tracing::warn!(table, row, column, "a damaged value is left as it is");
        }
        Ok(sealed.values)
    }

    /// Takes what the old key has sealed out of the write-ahead log. A reader may hold it for the moment: then it goes
    /// with the log, at the latest when the database is closed.
    pub(crate) async fn forget_old_values(&self) {
        let busy = sqlx::query_scalar::<_, i64>("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&self.inner.writer).await;
        if !matches!(busy, Ok(0)) {
            tracing::debug!("the write-ahead log still holds values under the old key");
        }
    }

    /// After a commit of which nobody knows whether it came about: the canary tells which key the database has.
    async fn follow_canary(&self) {
        let key: Result<String, _> =
            sqlx::query_scalar("SELECT key_id FROM vault_canary WHERE id = 1").fetch_one(self.readers()).await;
        match key {
            Ok(key) if self.vault().switch_to(&key) => {}
            Ok(key) => tracing::error!(key, "the database has a key that this process does not know"),
            Err(error) => tracing::error!(%error, "the database does not say which key it has"),
        }
    }

    async fn seal_all(&self, tx: &mut Transaction<'_, Sqlite>, key_id: &str) -> Result<Anew, StoreError> {
        let mut sealed = Anew::default();
        for one in SEALED {
            let canary = one.table == "vault_canary";
            let changed = self.seal_column(tx, one, key_id, &mut sealed.damaged).await?;
            if canary {
                sqlx::query("UPDATE vault_canary SET key_id = ?")
                    .bind(key_id)
                    .execute(&mut **tx)
                    .await
                    .map_err(self.failed())?;
            } else {
                sealed.values += changed;
            }
        }
        Ok(sealed)
    }

    async fn seal_column(
        &self,
        tx: &mut Transaction<'_, Sqlite>,
        one: &Sealed,
        key_id: &str,
        damaged: &mut Vec<Damaged>,
    ) -> Result<i32, StoreError> {
        let Sealed { table, row, column } = *one;
        let all = format!("SELECT {row} AS place, {column} AS sealed FROM {table} WHERE {column} IS NOT NULL");
        let rows: Vec<SqliteRow> = sqlx::query(AssertSqlSafe(all)).fetch_all(&mut **tx).await.map_err(self.failed())?;
        let mut changed = 0;
        for found in rows {
            let id: String = found.try_get("place").map_err(self.failed())?;
            let sealed: Vec<u8> = found.try_get("sealed").map_err(self.failed())?;
            if key_of(&sealed) == Some(key_id) {
                continue;
            }
            let place = Place { table, row: &id, column };
            let Ok(plain) = self.vault().open(place, &sealed) else {
                damaged.push(Damaged { table, row: id, column });
                continue;
            };
            let vault = |cause| StoreError::Vault {
                path: self.path().display().to_string(),
                table,
                row: id.clone(),
                column,
                cause,
            };
            let anew = self.vault().seal(place, &plain).map_err(vault)?;
            sqlx::query(AssertSqlSafe(format!("UPDATE {table} SET {column} = ? WHERE {row} = ?")))
                .bind(anew)
                .bind(&id)
                .execute(&mut **tx)
                .await
                .map_err(self.failed())?;
            changed += 1;
        }
        Ok(changed)
    }
}

#[cfg(test)]
mod tests {
    use domain::Clock;

    use super::*;
    use crate::keys::{KeyRequest, mint};
    use crate::store::{NewCredential, create, sample};

    fn login(account: &str, access: &str) -> NewCredential {
        sample::login(account, access, account)
    }

    #[tokio::test]
    async fn nothing_under_the_old_key_is_left_in_the_files() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (path, key) = (dir.path().join("t.db"), SecretKey::generate().expect("random"));
        let store = create(&path, key.clone(), Clock::manual(0), async |_| Ok(())).await.expect("made");
        let long = "token".repeat(4000);
        for account in ["a", "b", "c"] {
            let new = login(account, &long);
            store.upsert_credential(&new, false).await.expect("stored");
        }
        let removed = store.credential_by_label("c").await.expect("read").expect("there").id;
        store.remove_credential(&removed).await.expect("removed");
        mint(&store, KeyRequest { name: "k".into(), agent: "a".into(), ..KeyRequest::default() }).await.expect("made");
        assert_eq!(store.change_key(&SecretKey::generate().expect("random")).await.expect("changed"), 4);
        store.forget_old_values().await;
        for file in std::fs::read_dir(dir.path()).expect("a folder") {
            let file = file.expect("an entry").path();
            let bytes = std::fs::read(&file).expect("read");
            // Each sealed value names its key.
            let found = bytes.windows(16).any(|window| window == key.id().as_bytes());
            assert!(!found, "{}", file.display());
        }
    }

    #[tokio::test]
    async fn a_key_does_not_go_while_it_may_be_the_last_chance_of_a_value() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (path, key) = (dir.path().join("t.db"), SecretKey::generate().expect("random"));
        let store = create(&path, key.clone(), Clock::manual(0), async |_| Ok(())).await.expect("made");
        store.upsert_credential(&login("main", "token"), false).await.expect("stored");
        let damage = "UPDATE credentials SET refresh_token = substr(refresh_token, 1, 40)";
        sqlx::query(damage).execute(&store.inner.writer).await.expect("damaged");
        let refused = store.change_key(&SecretKey::generate().expect("random")).await.expect_err("refused");
        assert!(refused.message.contains("the refresh token of credential main is damaged"), "{refused}");
        assert!(refused.next_step.contains("credentials remove"), "{}", refused.next_step);
        assert_eq!(store.key_id(), key.id(), "the old key is in force");
        let id = store.credential_by_label("main").await.expect("read").expect("there").id;
        store.remove_credential(&id).await.expect("removed");
        store.change_key(&SecretKey::generate().expect("random")).await.expect("changed");
    }

    #[tokio::test]
    async fn a_database_that_may_not_grow_loses_nothing_and_heals() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (path, key) = (dir.path().join("t.db"), SecretKey::generate().expect("random"));
        let store = create(&path, key, Clock::manual(0), async |_| Ok(())).await.expect("made");
        store.upsert_credential(&login("main", "token"), false).await.expect("stored");
        let grow = async |pages: &'static str| sqlx::query(pages).execute(&store.inner.writer).await.expect("set");
        // SQLite takes the present size for a limit below it.
        grow("PRAGMA max_page_count = 1").await;
        let large = login("large", &"token".repeat(20_000));
        let refused = Failure::from(store.upsert_credential(&large, false).await.expect_err("refused"));
        assert_eq!(refused.reason, Reason::StoreUnavailable);
        assert!(
            refused.message.contains("it may not grow") && !refused.message.contains("disk is full ("),
            "{refused}"
        );
        assert!(store.credential_by_label("main").await.expect("read").is_some());
        grow("PRAGMA max_page_count = 1000000").await;
        store.upsert_credential(&large, false).await.expect("stored");
        store.check().await.expect("it takes writes");
    }
}
