//! The seal: how an access token crosses the gateway, which can neither read it nor choose where it goes.
//!
//! auth-svc seals for one call, one credential version and one origin and path; transport-svc opens it only for exactly
//! that. All of it is associated data, so nothing of it can be changed on the way. Each seal is accepted once.

use std::fmt;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use proto::transport::v1::SealedCredential;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::key_file::{KeyFileError, SecretKey};
use crate::url::UpstreamUrl;

/// How long a seal lives, in milliseconds.
const LIFETIME_MS: i64 = 60_000;
/// By how much the clocks of two hosts may differ, in milliseconds.
const CLOCK_SKEW_MS: i64 = 5_000;

/// What transport-svc needs to authenticate upstream.
#[derive(Clone)]
pub struct UpstreamSecret {
    /// Access token or API key.
    pub token: SecretString,
    /// Value of the `chatgpt-account-id` header.
    pub account_id: Option<String>,
    /// True if the account is a FedRAMP one, which has its own header.
    pub fedramp: bool,
    /// Value of the account routing header, where the account's workspace demands one.
    pub routing: Option<String>,
}

impl fmt::Debug for UpstreamSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamSecret").field("account_id", &self.account_id).finish_non_exhaustive()
    }
}

#[derive(Serialize, Deserialize)]
struct Plain<'a> {
    token: std::borrow::Cow<'a, str>,
    account_id: Option<String>,
    fedramp: bool,
    // An auth-svc of an earlier version does not know it.
    #[serde(default)]
    routing: Option<String>,
}

/// What a seal is made for.
#[derive(Clone, Debug)]
pub struct SealRequest<'a> {
    /// Id of the credential.
    pub credential_id: &'a str,
    /// Version of its token.
    pub version: i32,
    /// The call.
    pub call_id: &'a str,
    /// The target's base URL.
    pub target: &'a UpstreamUrl,
    /// Unix milliseconds.
    pub now_ms: i64,
}

/// Why a seal was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealRefusal {
    /// Its time is over.
    #[error("seal expired: it lives 60 s; do the clocks of auth-svc and transport-svc agree?")]
    Expired,
    /// It was used before.
    #[error("seal replayed: each seal is accepted once")]
    Replayed,
    /// It was made before the memory of what was opened begins.
    #[error(
        "seal is older than this transport-svc, which cannot know whether it was used before a restart; do the clocks of \
         auth-svc and transport-svc agree?"
    )]
    BeforeStart,
    /// It names another origin or path.
    #[error("seal names another target: the origin and path that auth-svc allowed are not those of this target")]
    OtherTarget,
    /// It names another call.
    #[error("seal names another call")]
    OtherCall,
    /// It was made with another key, or changed on the way.
    #[error("seal cannot be opened: it was changed, or auth-svc and transport-svc have different seal keys")]
    Undecryptable,
}

/// The key that auth-svc and transport-svc share.
#[derive(Clone, Debug)]
pub struct SealKey(SecretKey);

impl From<SecretKey> for SealKey {
    fn from(key: SecretKey) -> Self {
        Self(key)
    }
}

impl SealKey {
    /// A fresh key, for services that share a process.
    pub fn generate() -> Result<Self, KeyFileError> {
        SecretKey::generate().map(Self)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(self.0.bytes().into())
    }

    /// Seals a secret. Fails only if the system gives no random bytes.
    pub fn seal(&self, request: &SealRequest<'_>, secret: &UpstreamSecret) -> Result<SealedCredential, KeyFileError> {
        self.seal_until(request, secret, i64::MAX)
    }

    /// [`Self::seal`] for a secret that ends at `ends_ms` (Unix milliseconds): the seal lives no longer than it.
    pub fn seal_until(
        &self,
        request: &SealRequest<'_>,
        secret: &UpstreamSecret,
        ends_ms: i64,
    ) -> Result<SealedCredential, KeyFileError> {
        let mut nonce = [0u8; 24];
        getrandom::fill(&mut nonce).map_err(|e| KeyFileError::NoRandom(e.to_string()))?;
        let mut sealed = SealedCredential {
            key_id: self.0.id(),
            credential_id: request.credential_id.to_owned(),
            version: request.version,
            origin: request.target.origin.clone(),
            path_prefix: request.target.path.clone(),
            call_id: request.call_id.to_owned(),
            expires_at_ms: request.now_ms.saturating_add(LIFETIME_MS).min(ends_ms) as f64,
            nonce: nonce.to_vec().into(),
            ciphertext: bytes::Bytes::new(),
        };
        let plain = Plain {
            token: secret.token.expose_secret().into(),
            account_id: secret.account_id.clone(),
            fedramp: secret.fedramp,
            routing: secret.routing.clone(),
        };
        let plain = Zeroizing::new(serde_json::to_vec(&plain).map_err(|e| KeyFileError::Malformed(e.to_string()))?);
        let aad = associated_data(&sealed);
        let ciphertext = self
            .cipher()
            .encrypt(&XNonce::from(nonce), Payload { msg: &plain, aad: &aad })
            .map_err(|_| KeyFileError::Malformed("the secret".to_owned()))?;
        sealed.ciphertext = ciphertext.into();
        Ok(sealed)
    }

    /// Opens a seal for this call and target, and nothing else. The caller sees to it that each is opened once.
    pub fn open(
        &self,
        sealed: &SealedCredential,
        call_id: &str,
        target: &UpstreamUrl,
        now_ms: i64,
    ) -> Result<UpstreamSecret, SealRefusal> {
        let expires = sealed.expires_at_ms as i64;
        if expires < now_ms || expires > now_ms + LIFETIME_MS + CLOCK_SKEW_MS {
            return Err(SealRefusal::Expired);
        }
        if sealed.origin != target.origin || sealed.path_prefix != target.path {
            return Err(SealRefusal::OtherTarget);
        }
        if sealed.call_id != call_id {
            return Err(SealRefusal::OtherCall);
        }
        let nonce: [u8; 24] = sealed.nonce.as_ref().try_into().map_err(|_| SealRefusal::Undecryptable)?;
        let aad = associated_data(sealed);
        let plain = self
            .cipher()
            .decrypt(&XNonce::from(nonce), Payload { msg: &sealed.ciphertext, aad: &aad })
            .map(Zeroizing::new)
            .map_err(|_| SealRefusal::Undecryptable)?;
        let plain: Plain<'_> = serde_json::from_slice(&plain).map_err(|_| SealRefusal::Undecryptable)?;
        Ok(UpstreamSecret {
            token: SecretString::from(plain.token.into_owned()),
            account_id: plain.account_id,
            fedramp: plain.fedramp,
            routing: plain.routing,
        })
    }
}

/// When a seal was made, as its expiry tells: Unix milliseconds.
pub fn sealed_at_ms(sealed: &SealedCredential) -> i64 {
    (sealed.expires_at_ms as i64).saturating_sub(LIFETIME_MS)
}

/// Everything a seal names, each part with its length before it, so that no two different seals have the same bytes.
fn associated_data(sealed: &SealedCredential) -> Vec<u8> {
    let version = sealed.version.to_be_bytes();
    let expires = (sealed.expires_at_ms as i64).to_be_bytes();
    let parts: [&[u8]; 8] = [
        b"switchboard seal v1",
        sealed.key_id.as_bytes(),
        sealed.credential_id.as_bytes(),
        &version,
        sealed.origin.as_bytes(),
        sealed.path_prefix.as_bytes(),
        sealed.call_id.as_bytes(),
        &expires,
    ];
    parts.iter().flat_map(|p| (p.len() as u64).to_be_bytes().into_iter().chain(p.iter().copied())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed() -> (SealKey, SealedCredential, UpstreamUrl) {
        let key = SealKey::generate().expect("random");
        let target = UpstreamUrl::parse("https://chatgpt.com/backend-api/codex").expect("a URL");
        let secret = UpstreamSecret {
            token: "tok".to_owned().into(),
            account_id: Some("acct".into()),
            fedramp: false,
            routing: None,
        };
        let request = SealRequest { credential_id: "c", version: 3, call_id: "call", target: &target, now_ms: 1000 };
        let sealed = key.seal(&request, &secret).expect("sealed");
        (key, sealed, target)
    }

    #[test]
    fn a_seal_opens_for_what_it_names_and_nothing_else() {
        let (key, sealed, target) = sealed();
        let secret = key.open(&sealed, "call", &target, 2000).expect("opens");
        assert_eq!(secret.token.expose_secret(), "tok");
        assert!(!format!("{secret:?}").contains("tok"));
        let other = UpstreamUrl::parse("https://evil.example/backend-api/codex").expect("a URL");
        let path = UpstreamUrl::parse("https://chatgpt.com/backend-api").expect("a URL");
        assert_eq!(key.open(&sealed, "call", &other, 2000).err(), Some(SealRefusal::OtherTarget));
        assert_eq!(key.open(&sealed, "call", &path, 2000).err(), Some(SealRefusal::OtherTarget));
        assert_eq!(key.open(&sealed, "other", &target, 2000).err(), Some(SealRefusal::OtherCall));
        assert_eq!(key.open(&sealed, "call", &target, 61_001).err(), Some(SealRefusal::Expired));
        assert_eq!(key.open(&sealed, "call", &target, -10_000).err(), Some(SealRefusal::Expired));
        let foreign = SealKey::generate().expect("random");
        assert_eq!(foreign.open(&sealed, "call", &target, 2000).err(), Some(SealRefusal::Undecryptable));
    }

    #[test]
    fn a_changed_seal_does_not_open() {
        let (key, sealed, target) = sealed();
        let mut other_origin = sealed.clone();
        other_origin.origin = "https://evil.example".into();
        let evil = UpstreamUrl::parse("https://evil.example/backend-api/codex").expect("a URL");
        assert_eq!(key.open(&other_origin, "call", &evil, 2000).err(), Some(SealRefusal::Undecryptable));
        let mut later = sealed.clone();
        later.expires_at_ms += 1000.0;
        assert_eq!(key.open(&later, "call", &target, 2000).err(), Some(SealRefusal::Undecryptable));
        let mut version = sealed;
        version.version += 1;
        assert_eq!(key.open(&version, "call", &target, 2000).err(), Some(SealRefusal::Undecryptable));
    }
}
