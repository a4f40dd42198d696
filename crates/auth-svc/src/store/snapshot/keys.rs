//! Taking an agent key of a backup in: by its hash, since nothing else is known of it. The one that is here stays as it
//! is: what was revoked here stays revoked.

use sqlx::{Sqlite, Transaction};

use super::{Cell, Decided, Labels, Restored, Row};
use crate::store::tables::AGENT_KEYS;
use crate::store::{Store, StoreError};

/// What is here: id, name, hash, hash before the last rotation, Unix seconds of the revocation.
type Here = (String, String, Vec<u8>, Option<Vec<u8>>, Option<i64>);

impl Store {
    pub(super) async fn restore_key(
        &self,
        tx: &mut Transaction<'_, Sqlite>,
        row: &Row,
        labels: &Labels,
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
            here: decided != Decided::Skipped,
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
        let here: Vec<String> =
            sqlx::query_scalar("SELECT label FROM credentials").fetch_all(&mut **tx).await.map_err(self.failed())?;
        let Some(Listed { credentials, left_out }) = listed(row.text("credentials"), labels, &here) else {
            return Ok(one(wanted, Decided::Skipped, "its list of credentials cannot be read".to_owned()));
        };
        let missing = format!("its list names what did not come in: {}", left_out.join(", "));
        if !left_out.is_empty() && credentials.is_empty() {
            // Without a list it would allow them all.
            return Ok(one(wanted, Decided::Skipped, missing));
        }
        let credentials = serde_json::Value::from(credentials).to_string();
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
        let revoked = revoked.map(|_| "revoked, as it was".to_owned());
        let details: Vec<String> = revoked.into_iter().chain((!left_out.is_empty()).then_some(missing)).collect();
        Ok(one(&name, Decided::Created, details.join("; ")))
    }
}

/// A key's list of credentials, with the labels that they have here.
struct Listed {
    credentials: Vec<String>,
    /// What would name another login here, or none.
    left_out: Vec<String>,
}

/// `here`: every label of this database, by now. `None` if the list cannot be read.
fn listed(list: Option<&str>, labels: &Labels, here: &[String]) -> Option<Listed> {
    let list: Vec<String> = serde_json::from_str(list?).ok()?;
    let mut listed = Listed { credentials: Vec::new(), left_out: Vec::new() };
    for label in list {
        match labels.get(&label) {
            Some(Some(name)) => listed.credentials.push(name.clone()),
            // It was removed there before the backup: as long as nothing is called so, it names nothing here, too.
            None if !here.contains(&label) => listed.credentials.push(label),
            Some(None) | None => listed.left_out.push(label),
        }
    }
    Some(listed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_never_comes_to_name_another_login() {
        let labels: Labels = [("main", Some("main-2")), ("gone", None)]
            .map(|(there, here)| (there.to_owned(), here.map(str::to_owned)))
            .into();
        let here = ["main", "main-2", "gone", "other"].map(str::to_owned);
        let of = |list: &str| {
            let listed = listed(Some(list), &labels, &here).expect("a list");
            (listed.credentials.join(" "), listed.left_out.join(" "))
        };
        assert_eq!(of(r#"["main"]"#), ("main-2".into(), String::new()));
        assert_eq!(of(r#"["main", "gone"]"#), ("main-2".into(), "gone".into()));
        assert_eq!(of(r#"["other", "nothing"]"#), ("nothing".into(), "other".into()));
        assert_eq!(of("[]"), (String::new(), String::new()));
        assert!(listed(Some("main"), &labels, &here).is_none());
    }
}
