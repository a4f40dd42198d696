//! Taking an agent key of a backup in: by its hash, since nothing else is known of it. The one that is here stays as it
//! is: what was revoked here stays revoked.

use std::collections::BTreeMap;

use sqlx::{Sqlite, Transaction};

use super::{Cell, Decided, Restored, Row};
use crate::store::tables::AGENT_KEYS;
use crate::store::{Store, StoreError};

/// What is here: id, name, hash, hash before the last rotation, Unix seconds of the revocation.
type Here = (String, String, Vec<u8>, Option<Vec<u8>>, Option<i64>);

impl Store {
    /// `labels`: those of the backup's credentials, and what they are here.
    pub(super) async fn restore_key(
        &self,
        tx: &mut Transaction<'_, Sqlite>,
        row: &Row,
        labels: &BTreeMap<String, String>,
    ) -> Result<Restored, StoreError> {
        let known: Vec<Here> = sqlx::query_as("SELECT id, name, hash, previous_hash, revoked_at FROM agent_keys")
            .fetch_all(&mut **tx)
            .await
            .map_err(self.failed())?;
        let wanted = row.text("name").unwrap_or_default();
        let one = |name: &str, decided, detail: String| Restored {
            kind: "key",
            name: name.to_owned(),
            decided,
            detail,
            unconfirmed: false,
        };
        let revoked = row.integer("revoked_at");
        let (Some(id), Some(hash)) = (row.text("id"), row.0.get("hash").and_then(Cell::bytes)) else {
            return Ok(one(wanted, Decided::Skipped, "the backup holds no hash of it".to_owned()));
        };
        let previous = row.0.get("previous_hash").and_then(Cell::bytes);
        // A secret that one of two keys has had is of one key: nobody but its holder knows it.
        let is_it = |(other, _, now, before, _): &&Here| {
            let has = |bytes: &[u8]| now == bytes || before.as_deref() == Some(bytes);
            other == id || has(hash) || previous.is_some_and(has)
        };
        if let Some((_, name, now, before, here)) = known.iter().find(is_it) {
            return Ok(match (here, revoked) {
                (Some(_), None) => one(name, Decided::Kept, "it was revoked here, and stays so".to_owned()),
                (None, Some(_)) => {
                    let next = format!("the backup has it as revoked: `switchboard keys revoke {name}` ends it here");
                    one(name, Decided::Kept, next)
                }
                _ if now == hash => one(name, Decided::Unchanged, String::new()),
                _ if before.as_deref() == Some(hash) => one(
                    name,
                    Decided::Kept,
                    "it was rotated here since the backup, and its newer secret stays".to_owned(),
                ),
                _ => {
                    let next =
                        format!("the backup has another secret of it: `switchboard keys rotate {name}` gives it one");
                    one(name, Decided::Kept, next)
                }
            });
        }
        let unknown = row.unknown(AGENT_KEYS.columns);
        if !unknown.is_empty() {
            // It may be a limit: without it the key would allow more than it should.
            let detail = format!("it has what this version does not know: {}", unknown.join(", "));
            return Ok(one(wanted, Decided::Skipped, detail));
        }
        let Some(credentials) = renamed(row.text("credentials"), labels) else {
            return Ok(one(wanted, Decided::Skipped, "its list of credentials cannot be read".to_owned()));
        };
        let taken = |name: &str| known.iter().any(|(_, other, _, _, revoked)| other == name && revoked.is_none());
        let name = match revoked {
            None if taken(wanted) => (2u32..).map(|n| format!("{wanted}-{n}")).find(|name| !taken(name)),
            _ => None,
        };
        let name = name.unwrap_or_else(|| wanted.to_owned());
        let mut row = row.clone();
        row.0.insert("name".to_owned(), Cell::Text(name.clone().into()));
        row.0.insert("credentials".to_owned(), Cell::Text(credentials.into()));
        let columns = self.columns(tx, &AGENT_KEYS, &row, "")?;
        self.insert_row(tx, &AGENT_KEYS, columns).await?;
        let detail = if revoked.is_some() { "revoked, as it was".to_owned() } else { String::new() };
        Ok(one(&name, Decided::Created, detail))
    }
}

/// A key's list of credentials with the labels that they have here: the label of the backup may be another login's.
fn renamed(list: Option<&str>, labels: &BTreeMap<String, String>) -> Option<String> {
    let list: Vec<String> = serde_json::from_str(list?).ok()?;
    let here = list.into_iter().map(|label| labels.get(&label).cloned().unwrap_or(label));
    Some(serde_json::Value::from(here.collect::<Vec<_>>()).to_string())
}
