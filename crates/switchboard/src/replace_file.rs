//! Writes a file in one step, also over one of another program: whoever reads it meanwhile sees the old one or the new one, whole.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use service_kit::files::{Replacement, directory, unwritten};

/// Mode of a new directory.
const PRIVATE_DIR: u32 = 0o700;

/// Puts `content` at `path`, with the mode and, where that is permitted, the owner of the file that stands there. A
/// symbolic link stays, and what it points to is written. `before` is what the file held when it was read, `None` if there
/// was none; one that has changed since is not written over.
pub(crate) fn replace(path: &Path, before: Option<&[u8]>, content: &[u8]) -> Result<(), String> {
    let path = target(path);
    let held = match fs::read(&path) {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(format!("it cannot be read: {error}")),
    };
    if held.as_deref() != before {
        return Err("it has changed since it was read: stop the program that writes it".to_owned());
    }
    let text = |error: io::Error| unwritten(&path, &error);
    fs::DirBuilder::new().recursive(true).mode(PRIVATE_DIR).create(directory(&path)).map_err(text)?;
    write_like(&path, content).map_err(text)
}

/// What to do so that a file can be written that could not.
pub(crate) fn writable(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "make the directory, or name another",
        io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => "name a file in a directory",
        io::ErrorKind::PermissionDenied => "name a place where this user may write",
        io::ErrorKind::ReadOnlyFilesystem => "mount that file system for writing, or name a file elsewhere",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room there, or name a file elsewhere",
        _ => "mend that, or name a file elsewhere",
    }
}

/// Where a link leads; the path itself if it is none.
fn target(path: &Path) -> PathBuf {
    if let Ok(target) = fs::canonicalize(path) {
        return target;
    }
    match fs::read_link(path) {
        // A link to what is not there yet.
        Ok(link) => path.parent().unwrap_or(Path::new(".")).join(link),
        Err(_) => path.to_owned(),
    }
}

fn write_like(path: &Path, content: &[u8]) -> io::Result<()> {
    let meta = fs::metadata(path).ok();
    let mut new = Replacement::of(path)?;
    new.write_all(content)?;
    if let Some(meta) = meta {
        // Only root can give a file away; anybody else owns it already, or cannot help it.
        let _ = fchown(new.file(), Some(meta.uid()), Some(meta.gid()));
        new.file().set_permissions(Permissions::from_mode(meta.mode() & 0o777))?;
    }
    new.put()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("there").mode() & 0o777
    }

    #[test]
    fn mode_and_link_stay_and_new_files_are_private() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        fs::write(&file, "old").expect("written");
        fs::set_permissions(&file, Permissions::from_mode(0o640)).expect("set");
        std::os::unix::fs::symlink("file", &link).expect("linked");
        replace(&link, Some(b"old"), b"new").expect("replaced");
        assert_eq!((fs::read(&file).expect("read").as_slice(), mode(&file)), (&b"new"[..], 0o640));
        assert!(fs::symlink_metadata(&link).expect("there").is_symlink());

        let new = dir.path().join("a/b/new");
        replace(&new, None, b"{}").expect("made");
        assert_eq!((mode(&new), mode(&dir.path().join("a"))), (0o600, 0o700));
        let dangling = dir.path().join("dangling");
        std::os::unix::fs::symlink("a/later", &dangling).expect("linked");
        replace(&dangling, None, b"{}").expect("made");
        assert!(dir.path().join("a/later").is_file());
    }

    #[test]
    fn what_to_do_fits_the_cause() {
        let absent = io::Error::from(io::ErrorKind::NotFound);
        assert_eq!(writable(&absent), "make the directory, or name another");
        assert!(writable(&io::ErrorKind::StorageFull.into()).contains("make room"));
    }

    #[test]
    fn what_has_changed_meanwhile_is_left_alone() {
        let dir = tempfile::tempdir().expect("tempdir");
        let file = dir.path().join("file");
        fs::write(&file, "newer").expect("written");
        for before in [Some(&b"old"[..]), None] {
            assert!(replace(&file, before, b"x").expect_err("refused").contains("changed since"));
        }
        fs::remove_file(&file).expect("removed");
        assert!(replace(&file, Some(b"old"), b"x").is_err());
        fs::write(&file, "old").expect("written");
        fs::set_permissions(dir.path(), Permissions::from_mode(0o500)).expect("set");
        // Root may write everywhere.
        if fs::File::create(dir.path().join("probe")).is_err() {
            assert!(replace(&file, Some(b"old"), b"x").is_err());
            assert_eq!(fs::read(&file).expect("read"), b"old");
        }
        fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).expect("set");
        assert_eq!(
            fs::read_dir(dir.path())
                .expect("listed")
                .filter(|e| { e.as_ref().is_ok_and(|e| e.file_name().to_string_lossy().contains("switchboard")) })
                .count(),
            0,
            "nothing is left beside it"
        );
    }
}
