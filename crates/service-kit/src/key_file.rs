//! Keys from files that nobody else can read, or from the environment.

use std::fmt;
use std::path::Path;

use zeroize::Zeroizing;

use crate::files;
use crate::private::{self, Unread};

/// A 32-byte key. Wiped when dropped, never printed.
#[derive(Clone)]
pub struct SecretKey(Zeroizing<[u8; 32]>);

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({})", self.id())
    }
}

/// A key that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// There is none.
    #[error(
        "key file {0} does not exist; a seal key is made anew by `auth-svc --init`, and nothing is lost with the old one"
    )]
    Missing(String),
    /// The file cannot be read.
    #[error("key file {0} cannot be read: {1}")]
    Unreadable(String, std::io::Error),
    /// Others may read it.
    #[error("key file {0} has mode {1:04o}, others can read it; run: chmod 600 {0}")]
    TooOpen(String, u32),
    /// Not a key.
    #[error("{0} does not hold a key: 64 hex digits are needed (32 bytes)")]
    Malformed(String),
    /// It cannot be written.
    #[error("key file {0} cannot be made: {why}", why = files::unwritten(Path::new(.0), .1))]
    Unwritable(String, std::io::Error),
    /// No randomness.
    #[error("the system gives no random bytes: {0}")]
    NoRandom(String),
}

impl SecretKey {
    /// A key from its bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// A fresh random key.
    pub fn generate() -> Result<Self, KeyFileError> {
        let mut bytes = Zeroizing::new([0u8; 32]);
        getrandom::fill(bytes.as_mut_slice()).map_err(|e| KeyFileError::NoRandom(e.to_string()))?;
        Ok(Self(bytes))
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A short public name for it, which says nothing of its bytes: 16 hex digits.
    pub fn id(&self) -> String {
        let hash = blake3::derive_key("switchboard key id v1", self.0.as_slice());
        hash.iter().take(8).map(|b| format!("{b:02x}")).collect()
    }

    /// Reads a key file. Refuses one that group or others can read, unless a container engine mounts it below `/run/secrets`.
    pub fn read(path: &Path) -> Result<Self, KeyFileError> {
        let name = path.display().to_string();
        let bytes = private::read(path).map_err(|unread| match unread {
            Unread::Io(error) if error.kind() == std::io::ErrorKind::NotFound => KeyFileError::Missing(name.clone()),
            Unread::Io(error) => KeyFileError::Unreadable(name.clone(), error),
            Unread::TooOpen(mode) => KeyFileError::TooOpen(name.clone(), mode),
        })?;
        let text = std::str::from_utf8(&bytes).map_err(|_| KeyFileError::Malformed(name.clone()))?;
        parse_key(text).ok_or(KeyFileError::Malformed(name))
    }

    /// Writes this key to a new file, mode 0600, whole or not at all: what is encrypted with the key outlives a power cut,
    /// and half a key would stand in the way of the next start. Never overwrites one.
    pub fn write_new(&self, path: &Path) -> Result<(), KeyFileError> {
        let mut line: Zeroizing<String> = Zeroizing::new(String::with_capacity(65));
        self.0.iter().for_each(|byte| line.push_str(&format!("{byte:02x}")));
        line.push('\n');
        files::write_new(path, line.as_bytes()).map_err(|e| KeyFileError::Unwritable(path.display().to_string(), e))
    }
}

/// A key from 64 hex digits, white space around them ignored.
pub fn parse_key(text: &str) -> Option<SecretKey> {
    let text = text.trim();
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut bytes = Zeroizing::new([0u8; 32]);
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * i..2 * i + 2)?, 16).ok()?;
    }
    Some(SecretKey(bytes))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_file_is_private_and_never_overwritten() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("k");
        assert!(matches!(SecretKey::read(&path), Err(KeyFileError::Missing(_))));
        let key = SecretKey::generate().expect("random");
        key.write_new(&path).expect("written");
        assert_eq!(SecretKey::read(&path).expect("read").bytes(), key.bytes());
        assert!(key.write_new(&path).is_err());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("chmod");
        assert!(matches!(SecretKey::read(&path), Err(KeyFileError::TooOpen(..))));
        assert!(!format!("{key:?}").contains(&format!("{:02x}{:02x}", key.bytes()[0], key.bytes()[1])));
    }
}
