//! A change of the database key that another process has made.
//!
//! Every write transaction asks the canary which key the database has, so nothing is sealed, and no token is spent, under
//! a key that is no longer in force. Whoever finds another key than its own reads the key source again: there stands the
//! new one, as soon as the change is committed. A reader does so when it meets a value of a key that it does not know.

use domain::{Failure, Reason, service};
use sqlx::{Sqlite, SqliteExecutor, Transaction};

use super::{Store, StoreError};
use crate::database_key::KeySource;

/// How often a reader looks which key the database has, if it changes once more meanwhile.
const LOOKS: usize = 3;

impl Store {
    /// Where the key stands, for the case that another process changes it. Said once, by whoever has opened the store.
    pub(crate) fn keys_from(&self, source: KeySource) {
        let _ = self.inner.key_source.set(source);
    }

    pub(super) async fn key_in_force(&self, executor: impl SqliteExecutor<'_>) -> Result<String, StoreError> {
        sqlx::query_scalar("SELECT key_id FROM vault_canary WHERE id = 1")
            .fetch_one(executor)
            .await
            .map_err(self.failed())
    }

    /// Sees to it that what `tx` writes is sealed with the key that the database has.
    pub(super) async fn follow_key(&self, tx: &mut Transaction<'_, Sqlite>) -> Result<(), StoreError> {
        let key = self.key_in_force(&mut **tx).await?;
        if self.key_id() == key {
            return Ok(());
        }
        let _one = self.inner.changing.lock().await;
        self.take_key(&key)
    }

    /// For a reader that has met a value of a key that it does not know, and that tries again afterwards. It must hold
    /// no connection.
    pub(super) async fn reread_key(&self) -> Result<(), StoreError> {
        // A change in this process has its new key in force here before it is in force in the database.
        let _one = self.inner.changing.lock().await;
        let mut looks = 1;
        loop {
            let key = self.key_in_force(self.readers()).await?;
            match self.take_key(&key) {
                Err(_) if looks < LOOKS => looks += 1,
                taken => return taken,
            }
        }
    }

    /// Seals with the key of this name from now on. Only for the holder of `changing`.
    fn take_key(&self, key_id: &str) -> Result<(), StoreError> {
        if self.vault().switch_to(key_id) {
            return Ok(());
        }
        let cause = match self.inner.key_source.get().map(|source| (source.describe(), source.named(key_id))) {
            Some((place, Ok(Some(key)))) => {
                self.vault().learn(key);
                self.vault().switch_to(key_id);
                tracing::info!(key = key_id, %place, "another process has changed the database key; it is in use here, too");
                return Ok(());
            }
            Some((place, Ok(None))) => format!("{place} does not hold it"),
            Some((_, Err(error))) => error.to_string(),
            None => "this process does not know where it is".to_owned(),
        };
        Err(StoreError::KeyChanged { path: self.path().display().to_string(), key: key_id.to_owned(), cause })
    }

    /// Runs `act` with the public name of the key in force, which nobody changes meanwhile.
    pub(crate) async fn with_key<T>(&self, act: impl FnOnce(&str) -> T) -> Result<T, StoreError> {
        let tx = self.write().await?;
        let done = act(&self.key_id());
        tx.rollback().await.map_err(self.failed())?;
        Ok(done)
    }
}

/// What whoever cannot follow a change is told.
pub(super) fn changed_elsewhere(message: String) -> Failure {
    Failure::new(Reason::StoreUnavailable, service::AUTH, message)
        .next_step("nothing was changed or spent; restart this process with the database's new key")
}

#[cfg(test)]
mod tests {
    use domain::Clock;
    use service_kit::SecretKey;

    use crate::store::rows::REFRESH;
    use crate::store::{Begun, NewCredential, RefreshedTokens, create, sample};
    use crate::vault::Vault;

    fn login() -> NewCredential {
        NewCredential { label: "main".into(), ..sample::login("acct", "a-one", "r-one") }
    }

    #[tokio::test]
    async fn what_another_key_has_sealed_is_not_taken_for_damaged() {
        let dir = tempfile::tempdir().expect("tempdir");
        let key = SecretKey::generate().expect("random");
        let made = create(&dir.path().join("t.db"), key, Clock::manual(0), async |_| Ok(())).await;
        let store = made.expect("made");
        store.upsert_credential(&login(), false).await.expect("stored");
        let old = store.credential_by_label("main").await.expect("read").expect("there");
        let Begun::Taken(intent) = store.begin_refresh(&old, "client", "us", 1000).await.expect("asked") else {
            panic!("nobody else is there")
        };
        let tokens = RefreshedTokens {
            access: Some("a-two".into()),
            refresh: Some("r-two".into()),
            id_token: None,
            access_expires_at: None,
            plan: None,
            email: None,
            recovery: false,
        };
        let put = async |sealed: &[u8]| {
            let update = sqlx::query("UPDATE credentials SET refresh_token = ?").bind(sealed.to_vec());
            update.execute(&store.inner.writer).await.expect("written");
        };
        let vault = Vault::new(SecretKey::generate().expect("random"));
        let foreign = vault.seal(store.place(&old.id, REFRESH), b"r-later").expect("sealed");
        put(&foreign).await;
        let error = store.store_refreshed(&intent, &tokens, None).await.expect_err("nobody can tell what it is");
        assert!(error.to_string().contains(&vault.key_id()), "{error}");
        let kept: Vec<u8> =
            sqlx::query_scalar("SELECT refresh_token FROM credentials").fetch_one(store.readers()).await.expect("read");
        assert_eq!(kept, foreign);
        // What is damaged is mended.
        put(&foreign[..20]).await;
        assert_eq!(store.store_refreshed(&intent, &tokens, None).await.expect("stored"), Some(2));
    }
}
