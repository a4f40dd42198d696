//! What a backup carries, as rows without an engine: read from one moment of the database, and taken in again.

mod cell;
mod credentials;
mod decide;
mod keys;
mod read;
mod selections;
mod spent;
mod write;

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use super::{Store, StoreError};

pub(crate) use cell::{Cell, Row};

/// The rows of a backup, with their secrets in the clear.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    /// Credentials, in the order in which they are tried.
    #[serde(default)]
    pub(crate) credentials: Vec<Row>,
    /// Agent keys, by age: their hashes.
    #[serde(default)]
    pub(crate) agent_keys: Vec<Row>,
    /// Hashes of the credentials' spent refresh tokens, by age.
    #[serde(default)]
    pub(crate) spent_tokens: Vec<Row>,
    /// How providers' credentials are chosen, where somebody has said so.
    #[serde(default)]
    pub(crate) selections: Vec<Row>,
}

/// What becomes of a row of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decided {
    /// It is new here.
    Created,
    /// It replaced what was here.
    Updated,
    /// It was here already, just so.
    Unchanged,
    /// What is here is newer and stays.
    Kept,
    /// It was not taken.
    Skipped,
}

impl Decided {
    /// As it stands in answers.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Unchanged => "unchanged",
            Self::Kept => "kept",
            Self::Skipped => "skipped",
        }
    }
}

/// What became of one row.
#[derive(Clone, Debug)]
pub(crate) struct Restored {
    /// `credential`, `key` or `selection`.
    pub(crate) kind: &'static str,
    /// Label or name here; of a selection its provider.
    pub(crate) name: String,
    /// What happened.
    pub(crate) decided: Decided,
    /// Why, for a person; may be empty.
    pub(crate) detail: String,
    /// True if it waits for `credentials confirm`.
    pub(crate) unconfirmed: bool,
    /// True if what `name` names here is the same thing.
    pub(crate) here: bool,
}

/// Labels of a backup's credentials, and what they are here; `None` for one that is not here.
type Labels = BTreeMap<String, Option<String>>;

/// How a backup is taken in.
pub(crate) struct Taking<'a> {
    /// True if the backup is of this very database, or of a copy of it: then versions of one credential compare.
    pub(crate) same_database: bool,
    /// Is this process at a refresh of the credential with this id? What it brings must not be lost.
    pub(crate) busy: &'a (dyn Fn(&str) -> bool + Sync),
    /// Change nothing.
    pub(crate) dry_run: bool,
}

impl Store {
    /// Takes the rows of a backup in, all of them or, after an error, none.
    pub(crate) async fn restore(&self, snapshot: &Snapshot, taking: &Taking<'_>) -> Result<Vec<Restored>, StoreError> {
        let mut tx = self.write().await?;
        let mut restored = Vec::new();
        // Labels of the backup, and what they are here; `None` for what is not here.
        let mut labels: Labels = BTreeMap::new();
        let spent = spent::by_credential(&snapshot.spent_tokens);
        let none = HashSet::new();
        for row in &snapshot.credentials {
            let spent = row.text("id").and_then(|id| spent.get(id)).unwrap_or(&none);
            let one = self.restore_credential(&mut tx, row, spent, taking).await?;
            if let Some(label) = row.text("label") {
                labels.insert(label.to_owned(), one.here.then(|| one.name.clone()));
                if one.decided != Decided::Skipped {
                    self.restore_spent(&mut tx, &one.name, spent).await?;
                }
            }
            restored.push(one);
        }
        let there: HashSet<&str> = snapshot.credentials.iter().filter_map(|row| row.text("id")).collect();
        let gone = spent.iter().filter(|(id, _)| !there.contains(*id));
        self.restore_gone(&mut tx, gone).await?;
        for row in &snapshot.agent_keys {
            restored.push(self.restore_key(&mut tx, row, &labels).await?);
        }
        for row in &snapshot.selections {
            restored.push(self.restore_selection(&mut tx, row).await?);
        }
        let end = if taking.dry_run { tx.rollback().await } else { tx.commit().await };
        end.map_err(self.failed())?;
        self.changed().notify_one();
        Ok(restored)
    }
}
