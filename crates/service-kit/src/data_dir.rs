//! The data directory: private, made on demand, and held by one process at a time.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use domain::{Failure, Reason};

use crate::files;
use crate::listener::ListenAddress;

/// A data directory that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// It is not there, and this command does not make one.
    #[error(
        "data directory {0} does not exist; `switchboard up` or `auth-svc --init` makes it, `--data-dir` names another"
    )]
    Absent(PathBuf),
    /// It cannot be made, entered or written.
    #[error("data directory {0}: {why}", why = files::unwritten(.0, .1))]
    Io(PathBuf, std::io::Error),
    /// Something else stands there.
    #[error("data directory {0} is not a directory")]
    NotADirectory(PathBuf),
    /// Others can enter it.
    #[error("data directory {0} has mode {1:04o}, others can enter it; run: chmod 700 {0}")]
    TooOpen(PathBuf, u32),
    /// Another user's.
    #[error("data directory {0} belongs to user id {1}; run as that user, or use --data-dir")]
    Foreign(PathBuf, u32),
    /// Another process has it.
    #[error("data directory {0} is in use by {1}")]
    InUse(PathBuf, Holder),
}

impl DataDirError {
    /// What to do about it.
    pub fn next_step(&self) -> String {
        match self {
            Self::Absent(_) => "make it with `switchboard up`, or name another with --data-dir".to_owned(),
            Self::Io(_, error) => match error.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "make room there, then try again".to_owned(),
                ErrorKind::ReadOnlyFilesystem => {
                    "mount that file system for writing, or name another directory with --data-dir".to_owned()
                }
                _ => "mend that, or name another directory with --data-dir".to_owned(),
            },
            Self::NotADirectory(_) => "move it away, or name a directory with --data-dir".to_owned(),
            Self::TooOpen(path, _) => format!("chmod 700 {}", path.display()),
            Self::Foreign(..) => "run it as that user, or name another directory with --data-dir".to_owned(),
            Self::InUse(_, holder) => holder.next_step(),
        }
    }

    /// As a failure of `service`: what holds a directory and does not answer is a peer, the rest is the store.
    pub fn failure(&self, service: &str) -> Failure {
        let reason = match self {
            Self::InUse(..) => Reason::PeerUnavailable,
            _ => Reason::StoreUnavailable,
        };
        Failure::new(reason, service, self.to_string()).next_step(self.next_step())
    }
}

/// A process that has a data directory to itself, as it says in the lock file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holder {
    /// Its process id; 0 if it is not known.
    pub process: u32,
    /// Its command, e.g. `switchboard up`; empty if it is not known.
    pub command: String,
    /// True if it serves until it is told to stop; false for a command that ends by itself.
    pub serves: bool,
}

impl Holder {
    /// This process.
    pub fn this(command: &str, serves: bool) -> Self {
        Self { process: std::process::id(), command: command.to_owned(), serves }
    }

    /// From the lock file: process, `server` or `command`, name.
    fn parse(text: &str) -> Self {
        let mut words = text.trim().splitn(3, ' ');
        let process = words.next().and_then(|word| word.parse().ok()).unwrap_or_default();
        // Without the word it is of a version that did not say; that may be either.
        let serves = words.next() != Some("command");
        Self { process, serves, command: words.next().unwrap_or_default().to_owned() }
    }

    fn to_line(&self) -> String {
        format!("{} {} {}\n", self.process, if self.serves { "server" } else { "command" }, self.command)
    }

    fn next_step(&self) -> String {
        match (self.serves, self.command.is_empty()) {
            (false, _) => "wait until that command has ended, then try again".to_owned(),
            (true, false) => format!("talk to that server, or stop it: kill {}", self.process),
            (true, true) => self.unanswered(),
        }
    }

    /// What to do about one that does not answer at its socket.
    pub fn unanswered(&self) -> String {
        let Self { process, command, serves } = self;
        match (serves, command.is_empty()) {
            (false, _) => self.next_step(),
            (true, false) => format!(
                "if {command} is starting or stopping just now, try again in a moment; if it goes on, see its log, and \
                 stop it: kill {process}"
            ),
            (true, true) => "a server that starts or stops, or another command: try again in a moment; if it goes on, \
                             see what that process is"
                .to_owned(),
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.process, self.command.as_str()) {
            (0, _) => f.write_str("another process"),
            (process, "") => write!(f, "process {process}"),
            (process, command) => write!(f, "process {process} ({command})"),
        }
    }
}

/// A data directory that exists and is private.
#[derive(Clone, Debug)]
pub struct DataDir {
    path: PathBuf,
}

/// Holds a data directory's lock until dropped.
#[derive(Debug)]
pub struct DataDirLock {
    _file: File,
}

impl DataDir {
    /// Opens a directory, and makes it (mode 0700) if `create` says so.
    pub fn open(path: &Path, create: bool) -> Result<Self, DataDirError> {
        let io = |e| DataDirError::Io(path.to_owned(), e);
        if create {
            DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| match e.kind() {
                std::io::ErrorKind::AlreadyExists => DataDirError::NotADirectory(path.to_owned()),
                _ => io(e),
            })?;
        }
        let meta = fs::metadata(path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => DataDirError::Absent(path.to_owned()),
            _ => io(e),
        })?;
        if !meta.is_dir() {
            return Err(DataDirError::NotADirectory(path.to_owned()));
        }
        if meta.uid() != rustix::process::geteuid().as_raw() {
            return Err(DataDirError::Foreign(path.to_owned(), meta.uid()));
        }
        if meta.mode() & 0o077 != 0 {
            return Err(DataDirError::TooOpen(path.to_owned(), meta.mode() & 0o7777));
        }
        Ok(Self { path: fs::canonicalize(path).map_err(io)? })
    }

    /// Its path, absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The unix socket of a service in it.
    pub fn socket(&self, service: &str) -> ListenAddress {
        ListenAddress::Unix(self.path.join(format!("{service}.sock")))
    }

    /// Takes the lock that whoever opens the database holds, for `holder`. The kernel lets go of it when the process ends,
    /// however it ends.
    pub fn lock(&self, holder: &Holder) -> Result<DataDirLock, DataDirError> {
        let path = self.file("switchboard.lock");
        let io = |e| DataDirError::Io(path.clone(), e);
        let mut options = OpenOptions::new();
        let mut file =
            options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // Who it is, is a courtesy: an unreadable word does not matter.
                let _ = file.read_to_string(&mut text);
                return Err(DataDirError::InUse(self.path.clone(), Holder::parse(&text)));
            }
            Err(TryLockError::Error(e)) => return Err(io(e)),
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(io)?;
        // Nor does it matter that a full disk takes it not: the lock is the kernel's.
        let _ = file.write_all(holder.to_line().as_bytes());
        Ok(DataDirLock { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn one_process_at_a_time_and_nobody_else() {
        let root = tempfile::tempdir().expect("tempdir");
        let path = root.path().join("a/b");
        assert!(matches!(DataDir::open(&path, false), Err(DataDirError::Absent(_))));
        let dir = DataDir::open(&path, true).expect("made");
        let id = std::process::id();
        for (serves, command, next) in [
            (true, "switchboard up", format!("talk to that server, or stop it: kill {id}")),
            (false, "switchboard credentials rekey", "wait until that command has ended".to_owned()),
        ] {
            let holder = Holder::this(command, serves);
            let held = dir.lock(&holder).expect("locked");
            let refused = dir.lock(&Holder::default()).expect_err("held");
            let failure = refused.failure("cli");
            assert!(failure.message.ends_with(&format!("is in use by process {id} ({command})")), "{failure}");
            assert!(failure.next_step.contains(&next), "{}", failure.next_step);
            drop(held);
        }
        // An older version wrote its number alone.
        let older = Holder::parse("77\n");
        assert_eq!((older.to_string().as_str(), older.command.as_str()), ("process 77", ""));
        assert_eq!(Holder::parse("").to_string(), "another process");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).expect("chmod");
        assert!(matches!(DataDir::open(&path, true), Err(DataDirError::TooOpen(..))));
        fs::write(root.path().join("file"), "").expect("written");
        assert!(matches!(DataDir::open(&root.path().join("file"), true), Err(DataDirError::NotADirectory(_))));
    }
}
