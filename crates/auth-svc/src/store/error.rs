//! What can go wrong with the database while it is open.

use domain::{Failure, Reason, service};

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
        Self::Database { path: path.display().to_string(), cause: cause(error) }
    }
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
            StoreError::Vault { path, .. } => Failure::new(Reason::StoreUnavailable, service::AUTH, message)
                .next_step(format!("restore {path} from a backup, or remove the damaged entry and log in again")),
            StoreError::NotFound(_) => Failure::new(Reason::NotFound, service::AUTH, message)
                .next_step("`switchboard credentials list` and `switchboard keys list` show what there is"),
            StoreError::Taken(_) => {
                Failure::new(Reason::RequestInvalid, service::AUTH, message).next_step("choose another name")
            }
        }
    }
}
