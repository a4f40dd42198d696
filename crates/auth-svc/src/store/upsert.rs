//! Taking credentials in: the same login is updated and gets no twin, and newer tokens are never replaced by older
//! ones, since the older refresh token is spent. What comes in together is stored together, or not at all.

use sqlx::{Sqlite, Transaction};

use super::credential::{Credential, NewCredential, Secrets, Source, Upserted};
use super::egress::EgressRule;
use super::intent::TokenHash;
use super::rows::{ACCESS, API_KEY, EXTRA, ID_TOKEN, REFRESH};
use super::same_login::{
    completed, expiry, free_label, keeps, metadata_differs, same_login, same_refresh_token, stays_ours,
    stays_unconfirmed,
};
use super::{Store, StoreError};

/// Credentials being taken in. All of it is stored by [`Intake::finish`], and none of it without.
pub(crate) struct Intake<'a> {
    store: &'a Store,
    tx: Transaction<'static, Sqlite>,
}

/// Whether a refresh token was spent here.
enum Spent<'a> {
    No,
    /// By this login, which has other tokens now.
    By(&'a Credential),
    /// By a credential that is gone.
    ByGone,
}

impl Intake<'_> {
    /// All credentials as they stand by now.
    pub(crate) async fn credentials(&mut self) -> Result<Vec<Credential>, StoreError> {
        self.store.list_with(&mut *self.tx, None).await
    }

    /// Stores a credential, or updates the one that is the same login. Returns the label under which it stands; of what
    /// was not taken, the one that it would have had.
    pub(crate) async fn take(&mut self, new: &NewCredential) -> Result<(String, Upserted), StoreError> {
        let known = self.credentials().await?;
        match self.spent(&known, new).await? {
            Spent::By(old) if stays_ours(old, new) => return Ok((old.label.clone(), Upserted::KeptOwned)),
            Spent::By(old) => return Ok((old.label.clone(), Upserted::KeptSpent)),
            Spent::ByGone => return Ok((new.label.clone(), Upserted::Spent)),
            Spent::No => {}
        }
        let (store, tx) = (self.store, &mut self.tx);
        let Some(old) = same_login(&known, new) else {
            return Ok((store.insert(tx, &known, new).await?, Upserted::Created));
        };
        let new = &*completed(old, new);
        let replaced = !old.secrets.same_as(&new.secrets);
        let what = if stays_ours(old, new) {
            Upserted::KeptOwned
        } else if keeps(old, new) {
            Upserted::KeptNewer
        } else if replaced || metadata_differs(old, new) {
            store.update(tx, old, new, replaced).await?;
            Upserted::Updated
        } else {
            Upserted::Unchanged
        };
        Ok((old.label.clone(), what))
    }

    /// Whether the refresh token of `new` was spent, or replaced, here.
    async fn spent<'a>(&mut self, known: &'a [Credential], new: &NewCredential) -> Result<Spent<'a>, StoreError> {
        let Some(refresh) = new.secrets.refresh() else { return Ok(Spent::No) };
        let Some(id) = self.store.spender(&mut self.tx, TokenHash::of(refresh)).await? else { return Ok(Spent::No) };
        if let Some(old) = known.iter().find(|old| old.id == id) {
            let is_open = matches!(old.secrets, Secrets::Present { .. });
            return Ok(if is_open { Spent::By(old) } else { Spent::No });
        }
        // What the provider has given just now is alive, and what is borrowed is never refreshed.
        if new.source == Source::Login || new.borrowed {
            return Ok(Spent::No);
        }
        // The login may have come back under another id.
        let back = same_login(known, new).filter(|old| matches!(old.secrets, Secrets::Present { .. }));
        let newer = back.filter(|old| !same_refresh_token(&old.secrets, &new.secrets));
        Ok(newer.map_or(Spent::ByGone, Spent::By))
    }

    /// Gives the credential with this label an egress rule.
    pub(crate) async fn tie(&mut self, label: &str, rule: &EgressRule) -> Result<(), StoreError> {
        let known = self.credentials().await?;
        match known.iter().find(|credential| credential.label == label) {
            Some(credential) => self.store.write_egress(&mut self.tx, &credential.id, rule).await,
            None => Err(StoreError::NotFound(format!("there is no credential {label:?}"))),
        }
    }

    /// Puts a provider's credentials into this order. `given`: somebody has given it to the other program, and it is in
    /// force unless an operator has said how credentials are chosen here.
    pub(crate) async fn order(&mut self, provider: &str, labels: &[String], given: bool) -> Result<(), StoreError> {
        self.store.import_order(&mut self.tx, provider, labels, given).await
    }

    /// Makes it durable; a dry run undoes it.
    pub(crate) async fn finish(self, dry_run: bool) -> Result<(), StoreError> {
        let end = if dry_run { self.tx.rollback().await } else { self.tx.commit().await };
        end.map_err(self.store.failed())?;
        self.store.changed().notify_one();
        Ok(())
    }
}

impl Store {
    /// Begins to take credentials in. Nothing else is written meanwhile.
    pub(crate) async fn intake(&self) -> Result<Intake<'_>, StoreError> {
        Ok(Intake { store: self, tx: self.write().await? })
    }

    /// Takes one credential in; `dry_run` changes nothing. Returns the label under which it stands.
    pub(crate) async fn upsert_credential(
        &self,
        new: &NewCredential,
        dry_run: bool,
    ) -> Result<(String, Upserted), StoreError> {
        let mut intake = self.intake().await?;
        let taken = intake.take(new).await?;
        intake.finish(dry_run).await?;
        Ok(taken)
    }

    async fn insert(
        &self,
        tx: &mut Transaction<'_, Sqlite>,
        known: &[Credential],
        new: &NewCredential,
    ) -> Result<String, StoreError> {
        let id = uuid::Uuid::now_v7().to_string();
        let label = free_label(known, &new.label);
        sqlx::query(
            "INSERT INTO credentials (id, label, provider, kind, position, source, borrowed, created_at)
             VALUES (?1, ?2, ?3, ?4, (SELECT coalesce(max(position), -1) + 1 FROM credentials WHERE provider = ?3), ?5, ?6, ?7)",
        )
        .bind(&id)
        .bind(&label)
        .bind(&new.provider)
        .bind(new.kind.as_str())
        .bind(new.source.as_str())
        .bind(new.borrowed)
        .bind(self.clock().now_s())
        .execute(&mut **tx)
        .await
        .map_err(self.failed())?;
        self.write_content(tx, &id, new, 1, false).await?;
        Ok(label)
    }

    async fn update(
        &self,
        tx: &mut Transaction<'_, Sqlite>,
        old: &Credential,
        new: &NewCredential,
        replaced: bool,
    ) -> Result<(), StoreError> {
        let version = if replaced { old.version.saturating_add(1) } else { old.version };
        let unconfirmed = stays_unconfirmed(old, new);
        self.write_content(tx, &old.id, new, version, unconfirmed).await?;
        // A refresh may end what nobody here could end.
        if (old.borrowed || old.exported_at.is_some()) && !new.borrowed && !unconfirmed {
            self.lift_rejection(tx, &old.id).await?;
        }
        if replaced && !same_refresh_token(&old.secrets, &new.secrets) {
            if let Some(spent) = old.secrets.refresh() {
                self.insert_spent(tx, &old.id, TokenHash::of(spent)).await?;
            }
            // A new login may be of a new plan: what the old one ran into says nothing about it.
            sqlx::query("DELETE FROM rests WHERE credential_id = ?")
                .bind(&old.id)
                .execute(&mut **tx)
                .await
                .map_err(self.failed())?;
        }
        Ok(())
    }

    /// A login of our own has no foreign name and no foreign fields: those of an import before it stay, for the way back.
    async fn write_content(
        &self,
        tx: &mut Transaction<'_, Sqlite>,
        id: &str,
        new: &NewCredential,
        version: i32,
        unconfirmed: bool,
    ) -> Result<(), StoreError> {
        let none = Secrets::none();
        let (secrets, undecryptable) = match &new.secrets {
            Secrets::Undecryptable { detail } => (&none, Some(detail)),
            present => (present, None),
        };
        let Secrets::Present { access, refresh, id_token, api_key } = secrets else { return Ok(()) };
        let extra = match &new.extra {
            serde_json::Value::Null => None,
            extra => Some(self.seal(tx, id, EXTRA, extra.to_string().as_bytes())?),
        };
        sqlx::query(
            "UPDATE credentials SET issuer = ?, client_id = ?, account_id = ?, email = ?, plan = ?, user_id = ?,
                fedramp = ?, source = ?, profile = coalesce(?, profile), borrowed = ?, version = ?, access_token = ?,
                refresh_token = ?, id_token = ?, api_key = ?, extra = coalesce(?, extra), undecryptable = ?,
                access_expires_at = ?, last_refresh = ?, exported_at = NULL, unconfirmed = ?
             WHERE id = ?",
        )
        .bind(&new.issuer)
        .bind(&new.client_id)
        .bind(&new.account_id)
        .bind(&new.email)
        .bind(&new.plan)
        .bind(&new.user_id)
        .bind(new.fedramp)
        .bind(new.source.as_str())
        .bind(&new.profile)
        .bind(new.borrowed)
        .bind(version)
        .bind(self.seal_secret(tx, id, ACCESS, access)?)
        .bind(self.seal_secret(tx, id, REFRESH, refresh)?)
        .bind(self.seal_secret(tx, id, ID_TOKEN, id_token)?)
        .bind(self.seal_secret(tx, id, API_KEY, api_key)?)
        .bind(extra)
        .bind(undecryptable)
        .bind(expiry(new))
        .bind(new.last_refresh)
        .bind(unconfirmed)
        .bind(id)
        .execute(&mut **tx)
        .await
        .map_err(self.failed())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
