//! Encryption at rest: XChaCha20-Poly1305. What a ciphertext is for (table, row, column) and the key that made it are
//! associated data, so that no value can be moved to another place. The key's id stands in front of each value, so that
//! keys can rotate row by row.

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

/// Seals and opens with the database key.
pub(crate) struct Vault {
    key: SecretKey,
    id: String,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Vault({})", self.id)
    }
}

impl Vault {
    /// A vault for this key.
    pub(crate) fn new(key: SecretKey) -> Self {
        let id = key.id();
        Self { key, id }
    }

    /// Public name of the key.
    pub(crate) fn key_id(&self) -> &str {
        &self.id
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(self.key.bytes().into())
    }

    /// Seals `plain` for `place`.
    pub(crate) fn seal(&self, place: Place<'_>, plain: &[u8]) -> Result<Vec<u8>, VaultError> {
        let mut nonce = [0u8; NONCE];
        getrandom::fill(&mut nonce).map_err(|e| VaultError::NoRandom(e.to_string()))?;
        let aad = associated_data(place, &self.id);
        let ciphertext = self
            .cipher()
            .encrypt(&XNonce::from(nonce), Payload { msg: plain, aad: &aad })
            // Only a value of hundreds of gigabytes can fail here.
            .map_err(|_| VaultError::Damaged)?;
        let mut sealed = Vec::with_capacity(HEAD + ciphertext.len());
        sealed.push(LAYOUT);
        sealed.extend_from_slice(self.id.as_bytes());
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
        if key_id != self.id {
            return Err(VaultError::OtherKey(key_id.to_owned()));
        }
        let nonce: [u8; NONCE] = nonce.try_into().map_err(|_| VaultError::Damaged)?;
        let aad = associated_data(place, key_id);
        self.cipher()
            .decrypt(&XNonce::from(nonce), Payload { msg: ciphertext, aad: &aad })
            .map(Zeroizing::new)
            .map_err(|_| VaultError::Damaged)
    }
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
        assert_eq!(two.open(PLACE, &sealed).err(), Some(VaultError::OtherKey(one.key_id().to_owned())));
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
}
