//! Why auth-svc cannot start.

use std::path::{Path, PathBuf};

use domain::{Failure, Reason, service};
use service_kit::startup::{StartError, command_for};
use service_kit::{DataDir, KeyFileError};

use crate::store::{damage, is_full};
use crate::way_back;

/// auth-svc cannot start. Every message names the file or setting and the cause.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A key file is missing, too open, malformed, or cannot be made.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The variable does not hold a key.
    #[error("environment variable {0} does not hold a key: 64 hex digits are needed (32 bytes)")]
    EnvironmentKey(&'static str),
    /// There is a database and no key to it. A new key would not open it.
    #[error(
        "database {database} exists, but its key file {key_file} does not, and nothing else can open it. \
         Restore the key file from your backup, name it in [auth] key_file, or set {variable}"
    )]
    NoKey {
        /// The database file.
        database: String,
        /// Where its key should be.
        key_file: String,
        /// The variable that may hold it instead.
        variable: &'static str,
    },
    /// The key is that of another database.
    #[error(
        "database {path} was encrypted with key {database_key}, {key_source} holds key {key}. \
         Use the key that belongs to this database; nothing was changed"
    )]
    WrongKey {
        /// The database file.
        path: String,
        /// Id of the key that the database was encrypted with.
        database_key: String,
        /// Where the key at hand comes from.
        key_source: String,
        /// Its id.
        key: String,
    },
    /// One key for two purposes.
    #[error("{0} holds the database key; the seal key must be another one, since transport services have it too")]
    SealKeyIsDatabaseKey(String),
    /// There is no database, and this command does not make one.
    #[error("database {0} does not exist")]
    Absent(String),
    /// A setting cannot be used.
    #[error("[{key}] {value}: {cause}")]
    Setting {
        /// The key, e.g. `auth.database`.
        key: &'static str,
        /// Its value.
        value: String,
        /// Why not.
        cause: String,
    },
    /// The file is damaged, or is no database of ours.
    #[error("database {path} is damaged, and was left as it is: {}", damage(.cause))]
    Corrupt {
        /// The file.
        path: String,
        /// What is wrong with it: in words of ours, or as SQLite says it.
        cause: String,
        /// A copy from before an upgrade that this program opens.
        copy: Option<PathBuf>,
    },
    /// A newer Switchboard has used it.
    #[error(
        "database {path} has schema version {version}, which is newer than this program knows ({known}). Nothing was \
         changed"
    )]
    NewerSchema {
        /// The file.
        path: String,
        /// Its schema version.
        version: i64,
        /// The newest that this program knows.
        known: i64,
        /// A copy from before the upgrade that this program opens.
        copy: Option<PathBuf>,
    },
    /// A migration is due, and the copy that is made before one cannot be made.
    #[error(
        "database {path} needs a newer schema, and is not changed before it is copied to {copy}, which failed: {cause}. \
         Nothing was changed"
    )]
    NoCopy {
        /// The file.
        path: String,
        /// The copy.
        copy: String,
        /// Why it cannot be made.
        cause: String,
    },
    /// A change of the database key was cut off, and cannot be brought to its end.
    #[error("a change of the database key was cut off and cannot be finished: {0}")]
    KeyChange(String),
    /// The file cannot be read.
    #[error("database {path} cannot be read: {cause}")]
    Unreadable {
        /// The file.
        path: String,
        /// What the system said.
        cause: String,
    },
    /// The database cannot be opened for writing: read-only, disk full, locked.
    #[error("database {path} cannot be opened: {cause}")]
    Open {
        /// The file.
        path: String,
        /// What SQLite said.
        cause: String,
    },
    /// The database cannot be made.
    #[error("database {path} cannot be made: {cause}")]
    Create {
        /// The file.
        path: String,
        /// Why not.
        cause: String,
    },
    /// The first agent key cannot be written.
    #[error("agent key file {path} cannot be written: {cause}")]
    AgentKeyFile {
        /// The file.
        path: String,
        /// Why not.
        cause: String,
    },
}

impl BuildError {
    /// As the process on `data_dir` says it: with its reason and the next step.
    pub fn start_error(&self, data_dir: &DataDir) -> StartError {
        let reason = match self {
            Self::Setting { .. } | Self::EnvironmentKey(_) => Reason::RequestInvalid,
            _ => Reason::StoreUnavailable,
        };
        let mut failure = Failure::new(reason, service::AUTH, self.to_string())
            .next_step(self.next_step(&command_for(data_dir.path())));
        // Nobody mends it by waiting.
        (failure.retryable, failure.retry_after_seconds) = (false, None);
        if self.is_configuration() { StartError::Unfit(Box::new(failure)) } else { failure.into() }
    }

    /// As `auth-svc` itself says it, which makes by `--init` what is not there.
    pub fn service_start_error(&self, data_dir: &DataDir) -> StartError {
        match (self, self.start_error(data_dir)) {
            (Self::Absent(_), StartError::Failure(mut failure) | StartError::Unfit(mut failure)) => {
                let command = command_for(data_dir.path()).replacen("switchboard", service::AUTH, 1);
                failure.next_step = format!("`{command} --init` makes one; another is named by [auth] database");
                StartError::Unfit(failure)
            }
            (_, error) => error,
        }
    }

    /// What to do; further lines that are indented are commands. `command` is how `switchboard` is called for this data
    /// directory.
    pub(crate) fn next_step(&self, command: &str) -> String {
        match self {
            Self::Corrupt { path, copy, .. } => way_back::from_damage(command, Path::new(path), copy.as_deref()),
            Self::NewerSchema { path, copy, .. } => way_back::from_newer(command, Path::new(path), copy.as_deref()),
            Self::NoCopy { path, .. } => {
                format!("make room on that disk, or move older copies ({path}.before-*) elsewhere, and start again")
            }
            Self::Open { cause, .. } | Self::Create { cause, .. } | Self::AgentKeyFile { cause, .. }
                if is_full(cause) =>
            {
                "make room on that disk, and start again: nothing that was stored is lost".to_owned()
            }
            Self::Key(KeyFileError::Unwritable(_, error)) if error.kind() == std::io::ErrorKind::StorageFull => {
                "make room on that disk, and start again: nothing that was stored is lost".to_owned()
            }
            Self::KeyChange(_) => "mend that, and start again; remove neither the key file nor its .next".to_owned(),
            Self::Absent(_) => format!("`{command} up` makes one; another is named by [auth] database"),
            Self::Setting { key, .. } => format!("correct [{key}]; `{command} config check` looks again"),
            Self::WrongKey { .. } | Self::NoKey { .. } => format!(
                "put the database's own key there; without it, go back to a backup: `{command} restore` needs no database key"
            ),
            _ => "mend that, and start again: nothing was changed".to_owned(),
        }
    }

    /// True if the configuration is at fault and not the machine: exit code 78.
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Key(key) => !matches!(key, KeyFileError::Unwritable(..) | KeyFileError::NoRandom(_)),
            Self::EnvironmentKey(_)
            | Self::NoKey { .. }
            | Self::WrongKey { .. }
            | Self::SealKeyIsDatabaseKey(_)
            | Self::Absent(_)
            | Self::Setting { .. } => true,
            Self::Corrupt { .. }
            | Self::NewerSchema { .. }
            | Self::Unreadable { .. }
            | Self::Open { .. }
            | Self::Create { .. }
            | Self::NoCopy { .. }
            | Self::KeyChange(_)
            | Self::AgentKeyFile { .. } => false,
        }
    }
}
