//! Spent refresh tokens of a backup: they keep an older file of the login out after a restore as they did before.

use std::collections::{BTreeMap, HashSet};

use sqlx::{Sqlite, Transaction};

use super::{Cell, Row};
use crate::store::intent::TokenHash;
use crate::store::rows::REFRESH;
use crate::store::{Store, StoreError};

/// The hashes of each credential of the backup, by its id there.
pub(super) fn by_credential(rows: &[Row]) -> BTreeMap<&str, HashSet<TokenHash>> {
    let mut all: BTreeMap<&str, HashSet<TokenHash>> = BTreeMap::new();
    for row in rows {
        let hash = row.0.get("hash").and_then(Cell::bytes).and_then(TokenHash::read);
        if let (Some(id), Some(hash)) = (row.text("credential_id"), hash) {
            all.entry(id).or_default().insert(hash);
        }
    }
    all
}

impl Store {
    /// Remembers `spent` for the credential with this label, but for the token that it has.
    pub(super) async fn restore_spent(
        &self,
        tx: &mut Transaction<'_, Sqlite>,
        label: &str,
        spent: &HashSet<TokenHash>,
    ) -> Result<(), StoreError> {
        let found: Option<(String, Option<Vec<u8>>)> =
            sqlx::query_as("SELECT id, refresh_token FROM credentials WHERE label = ?")
                .bind(label)
                .fetch_optional(&mut **tx)
                .await
                .map_err(self.failed())?;
        let Some((id, sealed)) = found else { return Ok(()) };
        let current = self.open_secret(&id, REFRESH, &sealed).ok().flatten();
        let current = current.as_ref().map(TokenHash::of);
        for hash in spent.iter().filter(|hash| Some(**hash) != current) {
            self.add_spent(tx, &id, *hash).await?;
        }
        self.trim_spent(tx, &id).await
    }

    /// Remembers what credentials had spent that were gone already when the backup was made, but for the tokens that are in
    /// use here.
    pub(super) async fn restore_gone<'a>(
        &self,
        tx: &mut Transaction<'_, Sqlite>,
        gone: impl Iterator<Item = (&'a &'a str, &'a HashSet<TokenHash>)>,
    ) -> Result<(), StoreError> {
        let known = self.list_with(&mut **tx, None).await?;
        let current: HashSet<TokenHash> =
            known.iter().filter_map(|one| one.secrets.refresh().map(TokenHash::of)).collect();
        for (id, hashes) in gone {
            for hash in hashes.difference(&current) {
                self.add_spent(tx, id, *hash).await?;
            }
        }
        self.trim_gone(tx).await
    }
}
