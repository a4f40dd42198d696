//! The encryption of a backup file.
//!
//! ```text
//! "switchboard backup 1\n"                 21 bytes
//! memory KiB, passes, lanes                3 * u32, big endian: Argon2id, version 0x13
//! salt                                     16 bytes
//! nonce prefix                             19 bytes
//! BLAKE3 of all above                      8 bytes: damage here is no wrong passphrase
//! keyed BLAKE3 of all above                16 bytes: tells a wrong passphrase from damage below
//! chunks                                   64 KiB of plain text each, the last one shorter, plus 16 bytes
//! ```
//!
//! Argon2id gives 64 bytes: the chunks' key, and the key of the keyed hash. A chunk is XChaCha20-Poly1305 with the nonce
//! prefix, its number (u32), and one byte that is 1 in the last chunk alone; the whole head is its associated data. So
//! chunks can be neither changed, moved, dropped nor cut off (the STREAM construction of Hoang, Reyhanitabar, Rogaway and
//! Vizár). It is our own envelope because the usual crate for such files, `age`, brings 40 more crates, older versions
//! of the ciphers that are here already among them, and calls itself a beta.

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

const MAGIC: &[u8; 21] = b"switchboard backup 1\n";
/// What every version's file begins with.
const ANY_MAGIC: &[u8; 19] = b"switchboard backup ";
const SALT: usize = 16;
const PREFIX: usize = 19;
const CHECK: usize = 8;
const TAG: usize = 16;
const SETTINGS_AT: usize = MAGIC.len();
const SALT_AT: usize = SETTINGS_AT + 12;
const PREFIX_AT: usize = SALT_AT + SALT;
const CHECK_AT: usize = PREFIX_AT + PREFIX;
const TAG_AT: usize = CHECK_AT + CHECK;
const HEAD: usize = TAG_AT + TAG;
/// Plain bytes of a chunk.
const CHUNK: usize = 64 * 1024;
/// What the cipher adds to a chunk.
const OVERHEAD: usize = 16;

/// How hard it is to guess a passphrase: RFC 9106's second choice.
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
const LANES: u32 = 4;
/// The most that a file can ask for: 1 GiB, and some seconds.
const MOST: [u32; 3] = [1024 * 1024, 32, 16];

/// Why a file is not made or opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum EnvelopeError {
    /// Another file.
    #[error("the file is no backup of Switchboard")]
    NotABackup,
    /// A layout that this version does not know.
    #[error("the backup was made by a newer version ({0})")]
    Newer(String),
    /// Another passphrase.
    #[error("the passphrase is not the one that the backup was made under")]
    Passphrase,
    /// The bytes are not those that were written.
    #[error("the backup is damaged: {0}")]
    Damaged(&'static str),
    /// It cannot be made.
    #[error("the backup cannot be encrypted: {0}")]
    Seal(String),
}

/// Encrypts `plain`.
pub(super) fn seal(plain: &[u8], passphrase: &SecretString) -> Result<Vec<u8>, EnvelopeError> {
    let failed = |what: &str| EnvelopeError::Seal(what.to_owned());
    let mut random = [0u8; SALT + PREFIX];
    getrandom::fill(&mut random).map_err(|error| EnvelopeError::Seal(error.to_string()))?;
    let mut file = Vec::with_capacity(HEAD + plain.len() + (plain.len() / CHUNK + 1) * OVERHEAD);
    file.extend_from_slice(MAGIC);
    for setting in [MEMORY_KIB, PASSES, LANES] {
        file.extend_from_slice(&setting.to_be_bytes());
    }
    file.extend_from_slice(&random);
    file.extend(check(&file));
    let keys = Keys::derive(&file, passphrase).ok_or_else(|| failed("there is not enough memory for its key"))?;
    file.extend(keys.tag(&file));
    let head = file.clone();
    let chunks = plain.len().div_ceil(CHUNK).max(1);
    for number in 0..chunks {
        let from = number * CHUNK;
        let part = plain.get(from..plain.len().min(from + CHUNK)).unwrap_or_default();
        let nonce = nonce(&head, number, number + 1 == chunks).ok_or_else(|| failed("it is too large"))?;
        let sealed = keys.cipher().encrypt(&nonce, Payload { msg: part, aad: &head });
        file.extend(sealed.map_err(|_| failed("a chunk"))?);
    }
    Ok(file)
}

/// Decrypts a file that [`seal`] has made.
pub(super) fn open(file: &[u8], passphrase: &SecretString) -> Result<Zeroizing<Vec<u8>>, EnvelopeError> {
    if !file.starts_with(MAGIC) {
        return Err(match file.strip_prefix(ANY_MAGIC) {
            Some([b'0'..=b'9', ..]) => EnvelopeError::Newer("another layout of the file".to_owned()),
            _ => EnvelopeError::NotABackup,
        });
    }
    let (head, mut rest) = file.split_at_checked(HEAD).ok_or(EnvelopeError::Damaged("it is cut off in its head"))?;
    let before = |at: usize| head.get(..at).unwrap_or_default();
    if head.get(CHECK_AT..TAG_AT) != Some(check(before(CHECK_AT)).as_slice()) {
        return Err(EnvelopeError::Damaged("its head was changed"));
    }
    let keys = Keys::derive(before(TAG_AT), passphrase)
        .ok_or(EnvelopeError::Damaged("its settings of Argon2 are out of bounds, or memory is short"))?;
    if !bool::from(keys.tag(before(TAG_AT)).ct_eq(head.get(TAG_AT..).unwrap_or_default())) {
        return Err(EnvelopeError::Passphrase);
    }
    let mut plain = Zeroizing::new(Vec::with_capacity(rest.len()));
    for number in 0.. {
        let last = rest.len() <= CHUNK + OVERHEAD;
        let (part, after) = if last { (rest, [].as_slice()) } else { rest.split_at(CHUNK + OVERHEAD) };
        let damaged = || EnvelopeError::Damaged("it is cut off, or a part of it was changed");
        let nonce = nonce(head, number, last).ok_or_else(damaged)?;
        let opened = keys.cipher().decrypt(&nonce, Payload { msg: part, aad: head }).map_err(|_| damaged())?;
        plain.extend_from_slice(&Zeroizing::new(opened));
        if last {
            break;
        }
        rest = after;
    }
    Ok(plain)
}

fn check(head: &[u8]) -> [u8; CHECK] {
    let mut check = [0; CHECK];
    check.iter_mut().zip(blake3::hash(head).as_bytes()).for_each(|(to, from)| *to = *from);
    check
}

fn nonce(head: &[u8], number: usize, last: bool) -> Option<XNonce> {
    let mut nonce = Vec::with_capacity(24);
    nonce.extend_from_slice(head.get(PREFIX_AT..CHECK_AT)?);
    nonce.extend_from_slice(&u32::try_from(number).ok()?.to_be_bytes());
    nonce.push(last.into());
    Some(XNonce::from(<[u8; 24]>::try_from(nonce).ok()?))
}

/// The keys of one file.
struct Keys {
    chunks: Zeroizing<[u8; 32]>,
    head: Zeroizing<[u8; 32]>,
}

impl Keys {
    /// By the settings and the salt in the head. `None` if these are out of bounds, or if memory is short.
    fn derive(head: &[u8], passphrase: &SecretString) -> Option<Self> {
        let mut settings = [0u32; 3];
        for ((setting, bytes), most) in settings.iter_mut().zip(head.get(SETTINGS_AT..SALT_AT)?.chunks(4)).zip(MOST) {
            *setting = u32::from_be_bytes(bytes.try_into().ok()?);
            if *setting > most {
                return None;
            }
        }
        let [memory, passes, lanes] = settings;
        let params = Params::new(memory, passes, lanes, Some(64)).ok()?;
        let mut out = Zeroizing::new([0u8; 64]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(
                passphrase.expose_secret().as_bytes(),
                head.get(SALT_AT..PREFIX_AT)?,
                out.as_mut_slice(),
            )
            .ok()?;
        let mut keys = Self { chunks: Zeroizing::new([0; 32]), head: Zeroizing::new([0; 32]) };
        let (first, second) = out.split_at(32);
        keys.chunks.copy_from_slice(first);
        keys.head.copy_from_slice(second);
        Some(keys)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&*self.chunks).into())
    }

    fn tag(&self, head: &[u8]) -> [u8; TAG] {
        let mut tag = [0; TAG];
        tag.iter_mut().zip(blake3::keyed_hash(&self.head, head).as_bytes()).for_each(|(to, from)| *to = *from);
        tag
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_comes_back_and_every_change_is_found() {
        let passphrase = SecretString::from("correct horse");
        for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK] {
            let plain: Vec<u8> = (0..length).map(|at| (at * 7 % 251) as u8).collect();
            let file = seal(&plain, &passphrase).expect("sealed");
            assert_eq!(*open(&file, &passphrase).expect("opens"), plain, "{length}");
        }
        let plain = vec![b'x'; 2 * CHUNK + 5];
        let file = seal(&plain, &passphrase).expect("sealed");
        assert!(!file.windows(8).any(|window| window == b"xxxxxxxx"));
        assert_eq!(file.len(), HEAD + plain.len() + 3 * OVERHEAD);
        let wrong = open(&file, &SecretString::from("correct horsf")).expect_err("refused");
        assert!(matches!(wrong, EnvelopeError::Passphrase), "{wrong}");
        let damaged = |file: &[u8], what: &str| {
            let error = open(file, &passphrase).expect_err(what);
            assert!(matches!(error, EnvelopeError::Damaged(_)), "{what}: {error}");
        };
        // Cut within the head, at the border of a chunk, and within one.
        for cut in [MAGIC.len(), HEAD - 1, HEAD, HEAD + CHUNK + OVERHEAD, HEAD + CHUNK, file.len() - 1] {
            damaged(&file[..cut], &format!("cut at {cut}"));
        }
        for at in [SETTINGS_AT, SALT_AT, PREFIX_AT, CHECK_AT, HEAD, HEAD + CHUNK + OVERHEAD + 3, file.len() - 1] {
            let mut changed = file.clone();
            changed[at] ^= 1;
            damaged(&changed, &format!("changed at {at}"));
        }
        let mut longer = file.clone();
        longer.push(0);
        damaged(&longer, "longer");
        let (first, second) = (HEAD..HEAD + CHUNK + OVERHEAD, HEAD + CHUNK + OVERHEAD..HEAD + 2 * (CHUNK + OVERHEAD));
        let swapped = [&file[..HEAD], &file[second.clone()], &file[first], &file[second.end..]].concat();
        damaged(&swapped, "two chunks change places");
    }

    #[test]
    fn other_files_are_named_and_greedy_settings_refused() {
        let passphrase = SecretString::from("p");
        let error = |file: &[u8]| open(file, &passphrase).expect_err("refused").to_string();
        assert!(error(b"").contains("no backup"));
        assert!(error(b"SQLite format 3\0").contains("no backup"));
        assert!(error(b"switchboard backup 2\n").contains("newer"));
        let mut greedy = MAGIC.to_vec();
        for setting in [u32::MAX, 1, 1] {
            greedy.extend_from_slice(&setting.to_be_bytes());
        }
        greedy.extend_from_slice(&[0; SALT + PREFIX]);
        greedy.extend(check(&greedy));
        greedy.extend_from_slice(&[0; TAG]);
        assert!(error(&greedy).contains("out of bounds"));
    }
}
