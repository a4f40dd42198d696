//! What can go wrong with the database while it is open.

use std::path::Path;

use domain::{Failure, Reason, service};
use service_kit::files;

use super::key_change::changed_elsewhere;
use crate::error::BuildError;
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
    #[error("database {path} is damaged: {}", damage(.cause))]
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
    /// Too many writes wait for the database.
    #[error("{waiting} writes wait for database {path} already")]
    Busy {
        /// The file.
        path: String,
        /// As many as may.
        waiting: usize,
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
    pub(crate) fn database(path: &Path, error: &sqlx::Error) -> Self {
        let (path, cause) = (path.display().to_string(), in_one_line(&cause(path, error)));
        if is_damage(&cause) { Self::Damaged { path, cause } } else { Self::Database { path, cause } }
    }
}

/// Does what SQLite said mean that the file is damaged? What is damaged needs a backup, the rest needs a working disk.
pub(super) fn is_damage(cause: &str) -> bool {
    ["file is not a database", "malformed", "unsupported file format"].iter().any(|mark| cause.contains(mark))
}

impl StoreError {
    /// As the reason why a database cannot be opened.
    pub(crate) fn at_open(self, path: &Path) -> BuildError {
        match self {
            Self::Database { path, cause } => BuildError::Open { path, cause },
            Self::Damaged { path, cause } => BuildError::Corrupt { path, cause, copy: None },
            other => BuildError::Open { path: path.display().to_string(), cause: other.to_string() },
        }
    }
}

/// What damage means, in words, with what SQLite said as the last part.
pub(crate) fn damage(cause: &str) -> String {
    match cause {
        ours if ours.starts_with("it is ") => ours.to_owned(),
        theirs => format!("parts of it contradict each other (SQLite: {})", in_one_line(theirs)),
    }
}

/// SQLite's check writes a line for each finding, and a headline of stars.
fn in_one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("***"));
    lines.collect::<Vec<_>>().join("; ")
}

/// How the cause begins where the disk is full.
const FULL: &str = "the disk that holds it is full";

/// True if `cause` is a full disk.
pub(crate) fn is_full(cause: &str) -> bool {
    cause.starts_with(FULL)
}

/// What happened to the database at `path`, in words that name the usual causes.
pub(crate) fn cause(path: &Path, error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::PoolTimedOut => "no connection became free in time".to_owned(),
        sqlx::Error::Database(database) => {
            let code = database.code().and_then(|code| code.parse::<i32>().ok()).unwrap_or_default();
            sqlite_cause(path, code, database.message())
        }
        other => other.to_string(),
    }
}

/// `code` is SQLite's extended result code (<https://www.sqlite.org/rescode.html>); its low byte is the primary one.
fn sqlite_cause(path: &Path, code: i32, text: &str) -> String {
    const BUSY: i32 = 5;
    const READ_ONLY: i32 = 8;
    const INPUT_OUTPUT: i32 = 10;
    const FULL_CODE: i32 = 13;
    const CANNOT_OPEN: i32 = 14;
    match code & 0xff {
        // Where a side file cannot grow, SQLite only knows that something failed.
        FULL_CODE | INPUT_OUTPUT | CANNOT_OPEN if files::is_full(path) => format!("{FULL} ({})", files::free(path)),
        FULL_CODE => format!(
            "it may not grow (SQLite: {text}), though {} on its disk: a quota, or a limit on the database's size",
            files::free(path)
        ),
        READ_ONLY => "it cannot be written: the file, its directory or the file system is read-only".to_owned(),
        BUSY => "another process holds it".to_owned(),
        INPUT_OUTPUT => format!("the disk does not read or write it (SQLite: {text}, code {code})"),
        _ => text.to_owned(),
    }
}

/// What to do where the database at `path` does not do its work for this `cause`.
fn step(path: &str, cause: &str) -> String {
    match is_full(cause) {
        true => {
            "make room on that disk. What was stored before is safe; what was to be stored now is not: no restart is \
                 needed, do it again when there is room"
                .to_owned()
        }
        false => format!("check the file {path}, its directory, and the free space of its disk"),
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let message = error.to_string();
        match error {
            StoreError::Database { path, cause } => {
                Failure::new(Reason::StoreUnavailable, service::AUTH, message).next_step(step(&path, &cause))
            }
            StoreError::Damaged { path, .. } => Failure::new(Reason::StoreUnavailable, service::AUTH, message).next_step(
                format!(
                    "nothing more is written to it. Stop the server; `switchboard doctor` then prints the commands that \
                     bring a backup back (`switchboard restore FILE`), or a copy from before an upgrade ({path}.before-*)"
                ),
            ),
            StoreError::Vault { path, .. } => Failure::new(Reason::StoreUnavailable, service::AUTH, message)
                .next_step(format!("restore {path} from a backup, or remove the damaged entry and log in again")),
            StoreError::Busy { path, .. } => Failure::new(Reason::Shed, service::AUTH, message)
                .next_step(format!("wait and retry; if it lasts, the disk that holds {path} is too slow")),
            StoreError::KeyChanged { .. } => changed_elsewhere(message),
            StoreError::NotFound(_) => Failure::new(Reason::NotFound, service::AUTH, message)
                .next_step("`switchboard credentials list` and `switchboard keys list` show what there is"),
            StoreError::Taken(_) => {
                Failure::new(Reason::RequestInvalid, service::AUTH, message).next_step("choose another name")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_database_says_is_put_into_words() {
        let here = std::env::temp_dir();
        for (code, text, says) in [
            (8, "attempt to write a readonly database", "read-only"),
            (5, "database is locked", "another process holds it"),
            (778, "disk I/O error", "the disk does not read or write it (SQLite: disk I/O error, code 778)"),
            // There is room here, so the disk is not blamed.
            (13, "database or disk is full", "it may not grow (SQLite: database or disk is full), though "),
        ] {
            let cause = sqlite_cause(&here, code, text);
            assert!(cause.contains(says) && !is_full(&cause), "{code}: {cause}");
        }
        let torn = damage("*** in database main ***\nTree 9 page 9: btreeInitPage() returns error code 11");
        assert_eq!(
            torn,
            "parts of it contradict each other (SQLite: Tree 9 page 9: btreeInitPage() returns error code 11)"
        );
        assert_eq!(damage("it is empty"), "it is empty");
        let full = Failure::from(StoreError::Database { path: "/d".into(), cause: format!("{FULL} (0 KiB are free)") });
        assert!(full.message.ends_with("full (0 KiB are free)") && full.next_step.starts_with("make room"), "{full}");
    }
}
