//! What can go wrong with the database while it is open.

use domain::{Failure, Reason, service};

use super::key_change::changed_elsewhere;
use crate::vault::VaultError;

/// A failed operation of the store.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// The database.
    #[error("database {path}: {cause}")]
    Database {
        /// The file.
        path: String,
        /// What SQLite said.
        cause: String,
    },
    /// The file is damaged.
    #[error("database {path} is damaged: {cause}")]
    Damaged {
        /// The file.
        path: String,
        /// What SQLite said.
        cause: String,
    },
    /// A value could not be encrypted or opened.
    #[error("database {path}, {table} {row}, {column}: {cause}")]
    Vault {
        /// The file.
        path: String,
        /// Table.
        table: &'static str,
        /// Id of the row.
        row: String,
        /// Column.
        column: &'static str,
        /// Why.
        cause: VaultError,
    },
    /// Another process has changed the database key, and this one cannot learn the new one.
    #[error("the key of database {path} was changed by another process to {key}, and {cause}")]
    KeyChanged {
        /// The file.
        path: String,
        /// Public name of the key that the database has now.
        key: String,
        /// Why it is not known here.
        cause: String,
    },
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// The name is taken.
    #[error("{0}")]
    Taken(String),
}

impl StoreError {
    /// From what sqlx says of the database at `path`.
    pub(crate) fn database(path: &std::path::Path, error: &sqlx::Error) -> Self {
        let (path, cause) = (path.display().to_string(), cause(error));
        if is_damage(&cause) { Self::Damaged { path, cause } } else { Self::Database { path, cause } }
    }
}

/// Does what SQLite said mean that the file is damaged? What is damaged needs a backup, the rest needs a working disk.
pub(super) fn is_damage(cause: &str) -> bool {
    ["file is not a database", "malformed", "unsupported file format"].iter().any(|mark| cause.contains(mark))
}

/// What happened to the database, in words that name the usual causes.
pub(crate) fn cause(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::PoolTimedOut => "no connection became free in time".to_owned(),
        sqlx::Error::Database(database) => {
            let text = database.message();
            match text {
                "database or disk is full" => "the disk is full".to_owned(),
                "attempt to write a readonly database" => {
                    "it cannot be written: the file, its directory or the file system is read-only".to_owned()
                }
                "database is locked" => "another process holds it".to_owned(),
                text => text.to_owned(),
            }
        }
        other => other.to_string(),
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let message = error.to_string();
        match error {
            StoreError::Database { path, .. } => Failure::new(Reason::StoreUnavailable, service::AUTH, message)
                .next_step(format!("check the file {path}, its directory, and the free space of its disk")),
            StoreError::Damaged { path, .. } => Failure::new(Reason::StoreUnavailable, service::AUTH, message).next_step(
                format!(
                    "nothing more is written to it. Stop the server, move {path} and its -wal and -shm away, start, and \
                     take your backup in: `switchboard restore FILE`"
                ),
            ),
            StoreError::Vault { path, .. } => Failure::new(Reason::StoreUnavailable, service::AUTH, message)
                .next_step(format!("restore {path} from a backup, or remove the damaged entry and log in again")),
            StoreError::KeyChanged { .. } => changed_elsewhere(message),
            StoreError::NotFound(_) => Failure::new(Reason::NotFound, service::AUTH, message)
                .next_step("`switchboard credentials list` and `switchboard keys list` show what there is"),
            StoreError::Taken(_) => {
                Failure::new(Reason::RequestInvalid, service::AUTH, message).next_step("choose another name")
            }
        }
    }
}
