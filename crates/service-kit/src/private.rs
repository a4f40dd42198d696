//! Files with a secret in them: read if nobody else can read them.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use zeroize::Zeroizing;

/// Where container engines mount secrets, with modes of their own.
const SECRETS: &str = "/run/secrets";

/// A file with a secret in it that is not read.
#[derive(Debug)]
pub(crate) enum Unread {
    /// It cannot be.
    Io(io::Error),
    /// Group or others can read it, too: its mode.
    TooOpen(u32),
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Reads a file with a secret in it. Refuses one that group or others can read, unless it lies below `/run/secrets`. What is
/// looked at is what is read: the file is opened once.
pub(crate) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, Unread> {
    // Where it is, wherever a link or `..` leads.
    let real = fs::canonicalize(path)?;
    let mut file = File::open(&real)?;
    let meta = file.metadata()?;
    if meta.mode() & 0o077 != 0 && !real.starts_with(SECRETS) {
        return Err(Unread::TooOpen(meta.mode() & 0o7777));
    }
    // With room for all of it: a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(meta.len()).unwrap_or_default() + 1));
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn what_others_can_read_is_not_read_wherever_a_path_seems_to_lead() {
        let folder = tempfile::tempdir().expect("a directory");
        let (file, link) = (folder.path().join("key"), folder.path().join("link"));
        fs::write(&file, "secret").expect("written");
        symlink(&file, &link).expect("linked");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("a mode");
        assert_eq!(*read(&link).expect("private"), b"secret");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("a mode");
        assert!(matches!(read(&link), Err(Unread::TooOpen(0o640))));
        let around = Path::new("/run/secrets/..").join(file.strip_prefix("/").map_or(file.as_path(), |path| path));
        // Either there is no such directory here, or the path leads out of it again.
        assert!(read(&around).is_err());
        assert!(matches!(read(&folder.path().join("absent")), Err(Unread::Io(_))));
    }
}
