//! Files that are there whole or not at all: written beside their place for the owner alone, made durable, and renamed.
//! And what it means, in words, when a disk does not take them.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with, statvfs};
use rustix::io::Errno;

/// Mode of a new file.
const PRIVATE: u32 = 0o600;
/// In the names of files that are not in their place yet.
const MARK: &str = ".switchboard-";
/// Less room than this on a disk is none, in bytes: a journal's page and its header do not fit.
const NONE_LEFT: u64 = 64 * 1024;

/// Tells the unfinished files of one process apart.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// The directory that `path` stands in.
pub fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes a new file for its owner alone (mode 0600), private from its first byte. Never one that is there.
pub fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(PRIVATE).open(path)
}

/// Renames a whole and durable file to its place, over what stands there, so that a power cut does not take the name
/// back.
pub fn put_in_place(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    File::open(directory(to))?.sync_all()
}

/// Writes a new file, mode 0600, whole or not at all, durably. Never over one that is there.
pub fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut new = Replacement::of(path)?;
    new.write_all(content)?;
    new.put_new()
}

/// Writes a file, mode 0600, whole or not at all, durably; over one that is there.
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut new = Replacement::of(path)?;
    new.write_all(content)?;
    new.put()
}

/// A file that is being written beside the one that it will replace, for the owner alone. It goes unless it is
/// [put](Self::put) in its place. One that a killed process has left goes when the same place is written next.
#[derive(Debug)]
pub struct Replacement {
    // Its lock, which ends with the process, tells that somebody is at it.
    file: File,
    beside: PathBuf,
    path: PathBuf,
}

impl Replacement {
    /// Begins to write what `path` will hold. Beside it, so that the rename stays within the file system.
    pub fn of(path: &Path) -> io::Result<Self> {
        let name = path.file_name().ok_or_else(|| io::Error::other("it has no name"))?;
        let mut start = OsString::from(".");
        start.push(name);
        start.push(MARK);
        sweep(directory(path), &start);
        loop {
            let mut beside = start.clone();
            beside.push(format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
            let beside = directory(path).join(beside);
            let file = create_private(&beside)?;
            // Another process may have swept it away between the two steps.
            if file.try_lock().is_ok() && file.metadata()?.nlink() > 0 {
                return Ok(Self { file, beside, path: path.to_owned() });
            }
        }
    }

    /// The file, for its mode and owner.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Puts it in its place, durably: a power cut does not bring the old one back.
    pub fn put(self) -> io::Result<()> {
        self.file.sync_all()?;
        put_in_place(&self.beside, &self.path)
    }

    /// Puts it in its place, durably, if nothing stands there; else the error's kind is `AlreadyExists`.
    pub fn put_new(self) -> io::Result<()> {
        self.file.sync_all()?;
        match renameat_with(CWD, &self.beside, CWD, &self.path, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            // A file system that cannot do both in one step.
            Err(Errno::INVAL | Errno::NOSYS) => {
                if self.path.symlink_metadata().is_ok() {
                    return Err(ErrorKind::AlreadyExists.into());
                }
                fs::rename(&self.beside, &self.path)?;
            }
            Err(error) => return Err(error.into()),
        }
        File::open(directory(&self.path))?.sync_all()
    }
}

impl Write for Replacement {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        // After the rename there is none.
        let _ = fs::remove_file(&self.beside);
    }
}

/// Removes what processes that were killed have left in `directory` under names that begin so.
fn sweep(directory: &Path, start: &OsStr) {
    let begins = |name: &OsStr| name.as_encoded_bytes().starts_with(start.as_encoded_bytes());
    for entry in fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok) {
        if !begins(&entry.file_name()) || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        let held = File::open(entry.path()).map(|file| file.try_lock());
        if !matches!(held, Ok(Err(TryLockError::WouldBlock)) | Err(_)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Bytes that this process may still write to the disk of `path`, which need not be there itself; `None` if it does not
/// tell.
pub fn room(path: &Path) -> Option<u64> {
    let disk = statvfs(path).or_else(|_| statvfs(directory(path))).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// True if the disk of `path` is as good as full.
pub fn is_full(path: &Path) -> bool {
    room(path).is_some_and(|bytes| bytes < NONE_LEFT)
}

/// `12 KiB are free` on the disk of `path`; empty if it does not tell.
pub fn free(path: &Path) -> String {
    match room(path) {
        Some(bytes) if bytes < 1024 * 1024 => format!("{} KiB are free", bytes / 1024),
        Some(bytes) => format!("{} MiB are free", bytes / (1024 * 1024)),
        None => String::new(),
    }
}

/// Why `path` was not written, for a person: what the usual errors mean.
pub fn unwritten(path: &Path, error: &io::Error) -> String {
    let free = || Some(free(path)).filter(|free| !free.is_empty()).map(|free| format!(" ({free})")).unwrap_or_default();
    match error.kind() {
        ErrorKind::StorageFull => format!("the disk that holds it is full{}", free()),
        ErrorKind::QuotaExceeded => "this user's quota on the disk that holds it is used up".to_owned(),
        ErrorKind::FileTooLarge => "a limit of this process does not let the file grow (ulimit -f)".to_owned(),
        ErrorKind::ReadOnlyFilesystem => "the file system that holds it is mounted read-only".to_owned(),
        ErrorKind::PermissionDenied => format!("permission denied to user id {}", rustix::process::geteuid().as_raw()),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .expect("listed")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_whole_and_private_or_not_there() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("key");
        let mut broken_off = Replacement::of(&path).expect("begun");
        broken_off.write_all(b"half").expect("written");
        assert!(!path.exists());
        drop(broken_off);
        assert!(names(dir.path()).is_empty());

        write_new(&path, b"one").expect("written");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, PRIVATE);
        assert_eq!(write_new(&path, b"two").expect_err("there is one").kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).expect("read"), b"one");
        write(&path, b"three").expect("written");
        assert_eq!(fs::read(&path).expect("read"), b"three");
        assert_eq!(names(dir.path()), ["key"]);
    }

    #[test]
    fn what_a_killed_process_has_left_goes_and_what_another_one_writes_stays() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("key");
        fs::write(dir.path().join(".key.switchboard-1-0"), "half").expect("written");
        fs::write(dir.path().join(".key2.switchboard-1-0"), "of another place").expect("written");
        let other = Replacement::of(&path).expect("begun");
        write(&path, b"ours").expect("written");
        assert!(other.beside.exists());
        other.put().expect("the later one wins");
        assert_eq!(names(dir.path()), [".key2.switchboard-1-0", "key"]);
    }

    #[test]
    fn a_disk_tells_its_room_also_for_what_is_not_there_yet() {
        let dir = tempfile::tempdir().expect("tempdir");
        assert!(room(&dir.path().join("later")).is_some_and(|bytes| bytes > 0));
        let full = unwritten(dir.path(), &io::Error::from(ErrorKind::StorageFull));
        assert!(full.starts_with("the disk that holds it is full (") && full.ends_with(" are free)"), "{full}");
    }
}
