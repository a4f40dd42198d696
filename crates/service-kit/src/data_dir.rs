//! The data directory: private, made on demand, and held by one process at a time.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

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
    #[error("data directory {0}: {1}")]
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
    #[error("data directory {0} is in use by process {1}; talk to that server, or stop it first")]
    InUse(PathBuf, String),
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

    /// Takes the lock that whoever opens the database holds. The kernel lets go of it when the process ends, however
    /// it ends.
    pub fn lock(&self) -> Result<DataDirLock, DataDirError> {
        let path = self.file("switchboard.lock");
        let io = |e| DataDirError::Io(path.clone(), e);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // The holder's number is a courtesy: an unreadable one does not matter.
                let _ = file.read_to_string(&mut holder);
                return Err(DataDirError::InUse(self.path.clone(), holder.trim().to_owned()));
            }
            Err(TryLockError::Error(e)) => return Err(io(e)),
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(io)?;
        writeln!(file, "{}", std::process::id()).map_err(io)?;
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
        let held = dir.lock().expect("locked");
        let refused = dir.lock().expect_err("held").to_string();
        assert!(refused.contains(&std::process::id().to_string()), "{refused}");
        drop(held);
        dir.lock().expect("free again");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).expect("chmod");
        assert!(matches!(DataDir::open(&path, true), Err(DataDirError::TooOpen(..))));
        fs::write(root.path().join("file"), "").expect("written");
        assert!(matches!(DataDir::open(&root.path().join("file"), true), Err(DataDirError::NotADirectory(_))));
    }
}
