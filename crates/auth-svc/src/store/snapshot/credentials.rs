//! Taking a credential of a backup in. What is here and newer stays: an older refresh token is a spent one, and spending
//! it again ends the login. For the same reason what comes in is unconfirmed. One that was given up, here or there, stays
//! given up.

use std::collections::HashSet;

use sqlx::{Sqlite, Transaction};

use super::decide::{decide, here, new_credential, unreadable};
use super::{Cell, Decided, Restored, Row, Taking};
use crate::store::credential::{Credential, Kind, NewCredential, Secrets};
use crate::store::intent::TokenHash;
use crate::store::same_login::{free_label, same_login};
use crate::store::tables::CREDENTIALS;
use crate::store::{Store, StoreError};

const SPENT: &str = "the backup's refresh token was spent here since; what came after it stays";
const LOST: &str = "its refresh token was spent here since, and was left out: log in or import it again";
const GONE: &str = "its refresh token was spent or revoked here since, and its credential was removed: log in instead";
const GIVEN_UP: &str =
    "its ownership was handed to another program and stays there; log in or import it to take it back";

/// Who has spent a refresh token.
enum Spender<'a> {
    Nobody,
    /// This one, which holds other secrets by now.
    Here(&'a Credential),
    /// One that is gone.
    Gone,
}

fn one(name: &str, decided: Decided, detail: String) -> Restored {
    Restored {
        kind: "credential",
        name: name.to_owned(),
        decided,
        detail,
        unconfirmed: false,
        here: decided != Decided::Skipped,
    }
}

/// Whether nobody has spent its refresh token since, an operator alone can say.
fn is_unconfirmed(new: &NewCredential, row: &Row) -> bool {
    let ours = !new.borrowed && row.integer("exported_at").is_none();
    new.kind == Kind::OAuth && ours && new.secrets.refresh().is_some()
}

impl Store {
    /// `spent_there`: refresh tokens that the credential had before in the backup's database.
    pub(super) async fn restore_credential(
        &self,
        tx: &mut Transaction<'_, Sqlite>,
        row: &Row,
        spent_there: &HashSet<TokenHash>,
        taking: &Taking<'_>,
    ) -> Result<Restored, StoreError> {
        // Read anew for each row: the one before may be its twin.
        let known = self.list_with(&mut **tx, None).await?;
        let Some(mut new) = new_credential(row) else {
            let label = row.text("label").unwrap_or("-");
            return Ok(one(label, Decided::Skipped, "it is not of a kind that is known here".to_owned()));
        };
        if let Some(why) = unreadable(row) {
            return Ok(one(&new.label, Decided::Skipped, why));
        }
        let mut row = row.clone();
        let mut details = Vec::new();
        let spender = match self.spender_of(tx, &known, &new).await? {
            Spender::Gone => return Ok(one(&new.label, Decided::Skipped, GONE.to_owned())),
            Spender::Here(old) => Some(old),
            Spender::Nobody => None,
        };
        if let Some(old) = spender {
            if matches!(old.secrets, Secrets::Present { .. }) {
                return Ok(one(&old.label, Decided::Kept, SPENT.to_owned()));
            }
            row.0.insert("refresh_token".to_owned(), Cell::Null);
            new.secrets = new.secrets.without_refresh();
            details.push(LOST.to_owned());
        }
        let unknown = row.unknown(CREDENTIALS.columns);
        if !unknown.is_empty() {
            details.push(format!("what this version does not know was left out: {}", unknown.join(", ")));
        }
        let id = row.text("id").unwrap_or_default();
        let Some(old) = spender.or_else(|| here(&known, &new, id, taking.same_database)) else {
            let unconfirmed = is_unconfirmed(&new, &row);
            let label = self.insert_credential(tx, &row, &known, &new, unconfirmed).await?;
            return Ok(Restored { unconfirmed, ..one(&label, Decided::Created, details.join("; ")) });
        };
        let given_up = row.integer("exported_at");
        // This process may know of more than is on record, and another one of more than this process.
        let busy = (taking.busy)(&old.id) || self.refresh_is_open_in(&mut **tx, &old.id).await?;
        let (decided, detail) = decide(old, &new, &row, spent_there, busy, taking);
        if decided == Decided::Unchanged && given_up.is_some() && old.exported_at.is_none() {
            self.set_exported(tx, &old.id, given_up).await?;
            return Ok(one(&old.label, Decided::Updated, GIVEN_UP.to_owned()));
        }
        if decided != Decided::Updated {
            return Ok(Restored { here: true, ..one(&old.label, decided, detail) });
        }
        if let Some(at) = old.exported_at {
            row.0.insert("exported_at".to_owned(), Cell::Integer(at));
            details.push(GIVEN_UP.to_owned());
        }
        let unconfirmed = is_unconfirmed(&new, &row);
        self.replace_credential(tx, &row, old, unconfirmed).await?;
        Ok(Restored { unconfirmed, ..one(&old.label, Decided::Updated, details.join("; ")) })
    }

    /// Who has spent the refresh token of `new`.
    async fn spender_of<'a>(
        &self,
        tx: &mut Transaction<'_, Sqlite>,
        known: &'a [Credential],
        new: &NewCredential,
    ) -> Result<Spender<'a>, StoreError> {
        let Some(token) = new.secrets.refresh() else { return Ok(Spender::Nobody) };
        let Some(id) = self.spender(tx, TokenHash::of(token)).await? else { return Ok(Spender::Nobody) };
        let holds = |old: &&Credential| old.secrets.same_as(&new.secrets);
        Ok(match known.iter().find(|old| old.id == id) {
            Some(old) if !holds(&old) => Spender::Here(old),
            Some(_) => Spender::Nobody,
            // The login may have come back under another id.
            None => match same_login(known, new) {
                Some(old) if !holds(&old) => Spender::Here(old),
                Some(_) => Spender::Nobody,
                // What is borrowed is never refreshed.
                None if new.borrowed => Spender::Nobody,
                None => Spender::Gone,
            },
        })
    }

    async fn insert_credential(
        &self,
        tx: &mut Transaction<'_, Sqlite>,
        row: &Row,
        known: &[Credential],
        new: &NewCredential,
        unconfirmed: bool,
    ) -> Result<String, StoreError> {
        let label = free_label(known, &new.label);
        let id = match row.text("id").filter(|id| !id.is_empty() && known.iter().all(|other| other.id != *id)) {
            Some(id) => id.to_owned(),
            None => uuid::Uuid::now_v7().to_string(),
        };
        let version = row.integer("version").unwrap_or(1).max(1);
        let provider = row.text("provider").unwrap_or_default();
        let position: i64 =
            sqlx::query_scalar("SELECT coalesce(max(position), -1) + 1 FROM credentials WHERE provider = ?")
                .bind(provider)
                .fetch_one(&mut **tx)
                .await
                .map_err(self.failed())?;
        let mut row = changed(row, version, unconfirmed);
        row.0.insert("id".to_owned(), Cell::Text(id.clone().into()));
        row.0.insert("label".to_owned(), Cell::Text(label.clone().into()));
        let mut columns = self.columns(tx, &CREDENTIALS, &row, &id)?;
        columns.push(("position", Cell::Integer(position)));
        self.insert_row(tx, &CREDENTIALS, columns).await?;
        Ok(label)
    }

    async fn replace_credential(
        &self,
        tx: &mut Transaction<'_, Sqlite>,
        row: &Row,
        old: &Credential,
        unconfirmed: bool,
    ) -> Result<(), StoreError> {
        let version = i64::from(old.version).saturating_add(1).max(row.integer("version").unwrap_or(1));
        let mut columns = self.columns(tx, &CREDENTIALS, &changed(row, version, unconfirmed), &old.id)?;
        columns.retain(|(name, _)| !matches!(*name, "id" | "label" | "created_at"));
        if !old.egress.is_empty() {
            // What an operator has said here is newer than any backup.
            columns.retain(|(name, _)| !matches!(*name, "egress_require" | "egress_prefer"));
        }
        columns.push(("recovery_version", Cell::Null));
        self.update_row(tx, &CREDENTIALS, columns, &old.id).await?;
        if let Some(replaced) = old.secrets.refresh().map(TokenHash::of)
            && row.text("refresh_token").map(|token| TokenHash::of_plain(token.as_bytes())) != Some(replaced)
        {
            self.insert_spent(tx, &old.id, replaced).await?;
        }
        sqlx::query("DELETE FROM rests WHERE credential_id = ?")
            .bind(&old.id)
            .execute(&mut **tx)
            .await
            .map_err(self.failed())?;
        Ok(())
    }

    async fn set_exported(
        &self,
        tx: &mut Transaction<'_, Sqlite>,
        id: &str,
        at: Option<i64>,
    ) -> Result<(), StoreError> {
        sqlx::query("UPDATE credentials SET exported_at = ? WHERE id = ?")
            .bind(at)
            .bind(id)
            .execute(&mut **tx)
            .await
            .map_err(self.failed())?;
        Ok(())
    }
}

/// `row` under its version here; a latch of its version goes with it.
fn changed(row: &Row, version: i64, unconfirmed: bool) -> Row {
    let mut row = row.clone();
    let latched = row.integer("latch_version").is_some_and(|latched| Some(latched) == row.integer("version"));
    row.0.insert("latch_version".to_owned(), if latched { Cell::Integer(version) } else { Cell::Null });
    row.0.insert("version".to_owned(), Cell::Integer(version));
    row.0.insert("unconfirmed".to_owned(), Cell::Integer(unconfirmed.into()));
    row
}

#[cfg(test)]
mod tests {
    use domain::Clock;
    use service_kit::SecretKey;

    use super::*;
    use crate::store::{Snapshot, Upserted, create, sample};

    fn login(refresh: &str) -> NewCredential {
        NewCredential { label: "main".into(), ..sample::login("acct", "a", refresh) }
    }

    #[tokio::test]
    async fn what_is_damaged_here_is_mended_without_its_spent_token() {
        let dir = tempfile::tempdir().expect("tempdir");
        let key = SecretKey::generate().expect("random");
        let made = create(&dir.path().join("t.db"), key, Clock::manual(0), async |_| Ok(())).await;
        let store = made.expect("made");
        store.upsert_credential(&login("r-one"), false).await.expect("stored");
        let backup: Snapshot = store.snapshot().await.expect("read");
        let (_, what) = store.upsert_credential(&login("r-two"), false).await.expect("stored");
        assert_eq!(what, Upserted::Updated);
        sqlx::query("UPDATE credentials SET refresh_token = x'00'")
            .execute(&store.inner.writer)
            .await
            .expect("damaged");
        let taking = Taking { same_database: true, busy: &|_| false, dry_run: false };
        let restored = store.restore(&backup, &taking).await.expect("restored");
        let one = &restored[0];
        assert!(one.decided == Decided::Updated && one.detail.contains("spent") && !one.unconfirmed, "{one:?}");
        let now = store.credential_by_label("main").await.expect("read").expect("there");
        assert!(now.secrets.upstream().is_some() && now.secrets.refresh().is_none());
    }
}
