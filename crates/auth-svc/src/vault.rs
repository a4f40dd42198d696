//! Encryption at rest: XChaCha20-Poly1305. What a ciphertext is for (table, row, column) and the key that made it are
//! associated data, so that no value can be moved to another place. The key's id stands in front of each value, so that
//! keys can rotate row by row: a vault may know two keys, seals with one, and opens what either has made.

use std::sync::{Arc, PoisonError, RwLock};

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use service_kit::SecretKey;
use zeroize::Zeroizing;

/// First byte of every sealed value: this layout.
const LAYOUT: u8 = 1;
/// Bytes of a key id's text.
const KEY_ID: usize = 16;
const NONCE: usize = 24;
const HEAD: usize = 1 + KEY_ID + NONCE;

/// Where a value stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// Table.
    pub(crate) table: &'static str,
    /// Id of the row.
    pub(crate) row: &'a str,
    /// Column.
    pub(crate) column: &'static str,
}

/// Why a value was not sealed or opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum VaultError {
    /// Another key made it.
    #[error("it was encrypted with key {0}")]
    OtherKey(String),
    /// It was changed, moved or cut.
    #[error("it is damaged")]
    Damaged,
    /// The system gives no random bytes.
    #[error("the system gives no random bytes: {0}")]
    NoRandom(String),
}

/// Seals with the database key, and opens what it or the other key of a change of keys has sealed.
pub(crate) struct Vault {
    keys: RwLock<Keys>,
}

#[derive(Clone)]
struct Keys {
    current: Arc<Key>,
    other: Option<Arc<Key>>,
}

struct Key {
    key: SecretKey,
    id: String,
}

impl Key {
    fn new(key: SecretKey) -> Arc<Self> {
        let id = key.id();
        Arc::new(Self { key, id })
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(self.key.bytes().into())
    }
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Vault({})", self.key_id())
    }
}

impl Vault {
    /// A vault for this key.
    pub(crate) fn new(key: SecretKey) -> Self {
        Self { keys: RwLock::new(Keys { current: Key::new(key), other: None }) }
    }

    fn keys(&self) -> Keys {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Public name of the key that seals.
    pub(crate) fn key_id(&self) -> String {
        self.keys().current.id.clone()
    }

    /// From now on opens what `key` has sealed, too; another one that it knew besides its own is forgotten.
    pub(crate) fn learn(&self, key: SecretKey) {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        keys.other = Some(Key::new(key)).filter(|other| other.id != keys.current.id);
    }

    /// From now on seals with the key of this id, and opens what the one before has sealed. `false`: it knows no such
    /// key, and nothing has changed.
    pub(crate) fn switch_to(&self, key_id: &str) -> bool {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        match keys.other.take() {
            Some(other) if other.id == key_id => {
                keys.other = Some(std::mem::replace(&mut keys.current, other));
                true
            }
            other => {
                keys.other = other;
                keys.current.id == key_id
            }
        }
    }

    /// True if a key that it does not know has sealed this value.
    pub(crate) fn is_foreign(&self, sealed: &[u8]) -> bool {
        key_of(sealed).is_some_and(|id| id.bytes().all(|b| b.is_ascii_hexdigit()) && !self.knows(id))
    }

    /// True if it opens what the key of this id has sealed.
    pub(crate) fn knows(&self, key_id: &str) -> bool {
        let Keys { current, other } = self.keys();
        [Some(current), other].iter().flatten().any(|key| key.id == key_id)
    }

    /// Seals `plain` for `place`.
    pub(crate) fn seal(&self, place: Place<'_>, plain: &[u8]) -> Result<Vec<u8>, VaultError> {
        let mut nonce = [0u8; NONCE];
        getrandom::fill(&mut nonce).map_err(|e| VaultError::NoRandom(e.to_string()))?;
        let key = self.keys().current;
        let aad = associated_data(place, &key.id);
        let ciphertext = key
            .cipher()
            .encrypt(&XNonce::from(nonce), Payload { msg: plain, aad: &aad })
            // Only a value of hundreds of gigabytes can fail here.
            .map_err(|_| VaultError::Damaged)?;
        let mut sealed = Vec::with_capacity(HEAD + ciphertext.len());
        sealed.push(LAYOUT);
        sealed.extend_from_slice(key.id.as_bytes());
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&ciphertext);
        Ok(sealed)
    }

    /// Opens what was sealed for `place`.
    pub(crate) fn open(&self, place: Place<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let (head, ciphertext) = sealed.split_at_checked(HEAD).ok_or(VaultError::Damaged)?;
        let (layout, rest) = head.split_first().ok_or(VaultError::Damaged)?;
        let (key_id, nonce) = rest.split_at_checked(KEY_ID).ok_or(VaultError::Damaged)?;
        let key_id = std::str::from_utf8(key_id).map_err(|_| VaultError::Damaged)?;
        if *layout != LAYOUT || !key_id.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(VaultError::Damaged);
        }
        let Keys { current, other } = self.keys();
        let key = [Some(current), other].into_iter().flatten().find(|key| key.id == key_id);
        let key = key.ok_or_else(|| VaultError::OtherKey(key_id.to_owned()))?;
        let nonce: [u8; NONCE] = nonce.try_into().map_err(|_| VaultError::Damaged)?;
        let aad = associated_data(place, key_id);
        key.cipher()
            .decrypt(&XNonce::from(nonce), Payload { msg: ciphertext, aad: &aad })
            .map(Zeroizing::new)
            .map_err(|_| VaultError::Damaged)
    }
}

/// Public name of the key that made a sealed value; `None` if it is none.
pub(crate) fn key_of(sealed: &[u8]) -> Option<&str> {
    std::str::from_utf8(sealed.get(1..1 + KEY_ID)?).ok()
}

/// Each part with its length before it, so that no two different places have the same bytes.
fn associated_data(place: Place<'_>, key_id: &str) -> Vec<u8> {
    let parts: [&[u8]; 5] = [
        b"switchboard vault v1",
        place.table.as_bytes(),
        place.row.as_bytes(),
        place.column.as_bytes(),
        key_id.as_bytes(),
    ];
    parts.iter().flat_map(|p| (p.len() as u64).to_be_bytes().into_iter().chain(p.iter().copied())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place<'static> = Place { table: "credentials", row: "r1", column: "access_token" };

    fn vault() -> Vault {
        Vault::new(SecretKey::generate().expect("random"))
    }

    #[test]
    fn a_value_opens_only_in_its_place() {
        let vault = vault();
        let sealed = vault.seal(PLACE, b"secret").expect("sealed");
        assert_eq!(vault.open(PLACE, &sealed).expect("opens").as_slice(), b"secret");
        assert!(!sealed.windows(6).any(|w| w == b"secret"));
        let elsewhere = [
            Place { table: "agent_keys", ..PLACE },
            Place { row: "r2", ..PLACE },
            Place { column: "refresh_token", ..PLACE },
            // The same bytes, cut in other places.
            Place { row: "r1access_token", column: "", ..PLACE },
        ];
        for place in elsewhere {
            assert_eq!(vault.open(place, &sealed).err(), Some(VaultError::Damaged), "{place:?}");
        }
    }

    #[test]
    fn another_key_is_told_from_damage() {
        let (one, two) = (vault(), vault());
        let sealed = one.seal(PLACE, b"secret").expect("sealed");
        assert_eq!(two.open(PLACE, &sealed).err(), Some(VaultError::OtherKey(one.key_id())));
        // Renaming the key does not help.
        let mut renamed = sealed.clone();
        renamed[1..17].copy_from_slice(two.key_id().as_bytes());
        assert_eq!(two.open(PLACE, &renamed).err(), Some(VaultError::Damaged));
        for cut in 0..sealed.len() {
            assert!(one.open(PLACE, &sealed[..cut]).is_err(), "{cut}");
        }
        for at in 17..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(one.open(PLACE, &changed).err(), Some(VaultError::Damaged), "{at}");
        }
    }

    #[test]
    fn during_a_change_of_keys_both_open_and_one_seals() {
        let (vault, next) = (vault(), SecretKey::generate().expect("random"));
        let old = vault.key_id();
        let before = vault.seal(PLACE, b"secret").expect("sealed");
        assert!(!vault.switch_to(&next.id()), "a key that it does not know");
        vault.learn(next.clone());
        assert_eq!(vault.key_id(), old);
        assert!(vault.switch_to(&next.id()) && vault.switch_to(&next.id()));
        let after = vault.seal(PLACE, b"secret").expect("sealed");
        assert_eq!((key_of(&before), key_of(&after)), (Some(old.as_str()), Some(next.id().as_str())));
        for sealed in [&before, &after] {
            assert_eq!(vault.open(PLACE, sealed).expect("opens").as_slice(), b"secret");
        }
        assert!(vault.switch_to(&old));
        assert_eq!(vault.open(PLACE, &after).expect("opens").as_slice(), b"secret");
    }
}
