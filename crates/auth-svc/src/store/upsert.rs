//! Taking a credential in: the same login is updated and gets no twin, and newer tokens are never replaced by older
//! ones, since the older refresh token is spent.

use secrecy::ExposeSecret;
use sqlx::{Sqlite, Transaction};

use super::credential::{Credential, Kind, NewCredential, Secrets, Upserted, equal};
use super::rows::{ACCESS, API_KEY, EXTRA, ID_TOKEN, REFRESH};
use super::{Store, StoreError};
use crate::jwt::unverified_claims;

impl Store {
    /// Stores a credential, or updates the one that is the same login. `dry_run` changes nothing.
    /// Returns the label under which it stands.
    pub(crate) async fn upsert_credential(
        &self,
        new: &NewCredential,
        dry_run: bool,
    ) -> Result<(String, Upserted), StoreError> {
        let mut tx = self.write().await?;
        let known = self.list_with(&mut *tx, None).await?;
        let result = match same_login(&known, new) {
            None => (self.insert(&mut tx, &known, new).await?, Upserted::Created),
            Some(old) if keeps(old, new) => (old.label.clone(), Upserted::KeptNewer),
            Some(old) => {
                let replaced = !old.secrets.same_as(&new.secrets);
                let what = if replaced || metadata_differs(old, new) { Upserted::Updated } else { Upserted::Unchanged };
                if what == Upserted::Updated {
                    self.update(&mut tx, old, new, replaced).await?;
                }
                (old.label.clone(), what)
            }
        };
        let end = if dry_run { tx.rollback().await } else { tx.commit().await };
        end.map_err(self.failed())?;
        Ok(result)
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
        self.write_content(tx, &id, new, 1).await?;
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
        self.write_content(tx, &old.id, new, version).await?;
        if replaced {
            // A new login may be of a new plan: what the old one ran into says nothing about it.
            sqlx::query("DELETE FROM rests WHERE credential_id = ?")
                .bind(&old.id)
                .execute(&mut **tx)
                .await
                .map_err(self.failed())?;
        }
        Ok(())
    }

    async fn write_content(
        &self,
        tx: &mut Transaction<'_, Sqlite>,
        id: &str,
        new: &NewCredential,
        version: i32,
    ) -> Result<(), StoreError> {
        let none = Secrets::none();
        let (secrets, undecryptable) = match &new.secrets {
            Secrets::Undecryptable { detail } => (&none, Some(detail)),
            present => (present, None),
        };
        let Secrets::Present { access, refresh, id_token, api_key } = secrets else { return Ok(()) };
        let extra = match &new.extra {
            serde_json::Value::Null => None,
            extra => Some(self.seal(id, EXTRA, extra.to_string().as_bytes())?),
        };
        sqlx::query(
            "UPDATE credentials SET issuer = ?, client_id = ?, account_id = ?, email = ?, plan = ?, user_id = ?,
                fedramp = ?, source = ?, profile = ?, borrowed = ?, version = ?, access_token = ?, refresh_token = ?,
                id_token = ?, api_key = ?, extra = ?, undecryptable = ?, access_expires_at = ?, last_refresh = ?
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
        .bind(self.seal_secret(id, ACCESS, access)?)
        .bind(self.seal_secret(id, REFRESH, refresh)?)
        .bind(self.seal_secret(id, ID_TOKEN, id_token)?)
        .bind(self.seal_secret(id, API_KEY, api_key)?)
        .bind(extra)
        .bind(undecryptable)
        .bind(expiry(new))
        .bind(new.last_refresh)
        .bind(id)
        .execute(&mut **tx)
        .await
        .map_err(self.failed())?;
        Ok(())
    }
}

/// The credential that is the same login as `new`.
fn same_login<'a>(known: &'a [Credential], new: &NewCredential) -> Option<&'a Credential> {
    let mut peers = known.iter().filter(|old| old.provider == new.provider && old.kind == new.kind);
    let by_identity = |old: &&Credential| match (&new.secrets, new.kind) {
        (Secrets::Undecryptable { .. }, _) => old.profile.is_some() && old.profile == new.profile,
        (_, Kind::ApiKey) => same_api_key(&old.secrets, &new.secrets),
        (_, Kind::OAuth) => same_refresh_token(&old.secrets, &new.secrets) || same_account(old, new),
    };
    peers.clone().find(by_identity).or_else(|| {
        // What could not be opened last time, and can now.
        peers.find(|old| {
            matches!(old.secrets, Secrets::Undecryptable { .. }) && old.profile.is_some() && old.profile == new.profile
        })
    })
}

fn same_api_key(old: &Secrets, new: &Secrets) -> bool {
    match (old, new) {
        (Secrets::Present { api_key: old, .. }, Secrets::Present { api_key: new, .. }) => {
            new.is_some() && equal(old, new)
        }
        _ => false,
    }
}

/// One refresh token under two names would be spent twice, and that ends the login.
fn same_refresh_token(old: &Secrets, new: &Secrets) -> bool {
    match (old, new) {
        (Secrets::Present { refresh: old, .. }, Secrets::Present { refresh: new, .. }) => {
            new.is_some() && equal(old, new)
        }
        _ => false,
    }
}

fn same_account(old: &Credential, new: &NewCredential) -> bool {
    let email = |email: &Option<String>| email.as_ref().map(|email| email.to_lowercase());
    let same_user = match (&old.user_id, &new.user_id) {
        (Some(old), Some(new)) => Some(old == new),
        _ => email(&old.email).zip(email(&new.email)).map(|(old, new)| old == new),
    };
    match (&old.account_id, &new.account_id) {
        // One account may have several users, each with a login.
        (Some(old), Some(new)) => old == new && same_user.unwrap_or(true),
        // Without an account id only the user can tell, and without either the foreign name.
        _ => {
            same_user.unwrap_or_else(|| old.source == new.source && old.profile.is_some() && old.profile == new.profile)
        }
    }
}

/// Expiry of the new access token: what the token says, else what its file says.
fn expiry(new: &NewCredential) -> Option<i64> {
    let Secrets::Present { access: Some(access), .. } = &new.secrets else { return new.access_expires_at };
    unverified_claims(access.expose_secret()).exp.or(new.access_expires_at)
}

/// True if what is here is newer than `new`, or works where `new` does not.
fn keeps(old: &Credential, new: &NewCredential) -> bool {
    match (&old.secrets, &new.secrets) {
        (Secrets::Undecryptable { .. }, _) => false,
        (Secrets::Present { .. }, Secrets::Undecryptable { .. }) => true,
        _ if old.kind == Kind::ApiKey || old.secrets.same_as(&new.secrets) => false,
        _ => match (old.access_expires_at, expiry(new)) {
            (Some(old_exp), Some(new_exp)) if old_exp != new_exp => old_exp > new_exp,
            _ => old.last_refresh.zip(new.last_refresh).is_some_and(|(old, new)| old > new),
        },
    }
}

fn metadata_differs(old: &Credential, new: &NewCredential) -> bool {
    old.borrowed != new.borrowed
        || old.issuer != new.issuer
        || old.client_id != new.client_id
        || old.account_id != new.account_id
        || old.email != new.email
        || old.plan != new.plan
        || old.user_id != new.user_id
        || old.fedramp != new.fedramp
}

/// `wanted`, or `wanted-2`, `wanted-3`, … where that is taken.
fn free_label(known: &[Credential], wanted: &str) -> String {
    let taken = |label: &str| known.iter().any(|c| c.label == label);
    let wanted = if wanted.trim().is_empty() { "main" } else { wanted.trim() };
    if !taken(wanted) {
        return wanted.to_owned();
    }
    (2u32..).map(|n| format!("{wanted}-{n}")).find(|label| !taken(label)).unwrap_or_else(|| wanted.to_owned())
}
