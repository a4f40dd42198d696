//! Sidecars: the files in which OpenClaw 2026.5 keeps the tokens of a login, mostly encrypted.
//!
//! AES-256-GCM; the key is a hash of a seed that lies elsewhere, and the associated data binds a sidecar to its profile.

use std::collections::BTreeMap;

use aes_gcm::aead::{Aead as _, Payload};
use aes_gcm::{Aes256Gcm, KeyInit as _, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use proto::auth::v1::ImportFile;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::provider;
use crate::import::input;

/// What the key is the hash of, before the seed.
const KEY_PREFIX: &str = "openclaw:auth-profile-oauth:";
/// Where OpenClaw keeps the seed, for whoever has to look.
const SEED_PLACES: &str = "OpenClaw keeps it in the environment variable OPENCLAW_AUTH_PROFILE_SECRET_KEY of its \
     service, in ~/.config/openclaw/auth-profile-secret-key, in \
     ~/.openclaw-auth-profile-secrets/auth-profile-secret-key, or in the macOS keychain (\"OpenClaw Auth Profile \
     Secrets\")";
/// base64url, as it is written: without padding; with it does no harm.
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A login's tokens. At least one of the first two is there unless it is empty.
pub(crate) struct Tokens {
    /// Access token.
    pub(crate) access: Option<SecretString>,
    /// Refresh token.
    pub(crate) refresh: Option<SecretString>,
    /// Id token.
    pub(crate) id_token: Option<SecretString>,
}

impl Tokens {
    /// From a profile, a plaintext sidecar, or the inside of an encrypted one: the names are the same.
    pub(crate) fn read(map: &Map<String, Value>) -> Result<Self, String> {
        Ok(Self {
            access: input::secret(map, "access")?,
            refresh: input::secret(map, "refresh")?,
            id_token: input::secret(map, "idToken")?,
        })
    }

    /// Writes them where [`Tokens::read`] reads them. What is absent is left as it stands.
    pub(crate) fn write(&self, map: &mut Map<String, Value>) {
        for (name, token) in [("access", &self.access), ("refresh", &self.refresh), ("idToken", &self.id_token)] {
            if let Some(token) = token {
                map.insert(name.to_owned(), Value::from(token.expose_secret()));
            }
        }
    }

    /// True if there is neither an access token nor a refresh token.
    pub(crate) fn is_empty(&self) -> bool {
        self.access.is_none() && self.refresh.is_none()
    }
}

/// The id of the sidecar that an `oauthRef` names.
pub(crate) fn sidecar_id(reference: &Map<String, Value>) -> Result<String, String> {
    let id = input::string(reference, "id").map_err(|why| format!("in its `oauthRef`, {why}"))?.unwrap_or_default();
    if id.len() != 32 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err("its `oauthRef` has no id of 32 hexadecimal digits".to_owned());
    }
    Ok(id)
}

/// The sidecars of a state directory, and what opens them.
pub(crate) struct Sidecars<'a> {
    files: &'a BTreeMap<&'a str, &'a ImportFile>,
    /// Where the seed was found, and the key that follows from it.
    key: Option<(&'a str, Zeroizing<[u8; 32]>)>,
}

impl<'a> Sidecars<'a> {
    /// `seed` is the place it comes from and the seed itself, trimmed.
    pub(crate) fn new(files: &'a BTreeMap<&'a str, &'a ImportFile>, seed: Option<(&'a str, &str)>) -> Self {
        let key = seed.filter(|(_, seed)| !seed.is_empty()).map(|(place, seed)| {
            let digest = Sha256::new().chain_update(KEY_PREFIX).chain_update(seed).finalize();
            (place, Zeroizing::new(<[u8; 32]>::from(digest)))
        });
        Self { files, key }
    }

    /// Opens the sidecar of a profile. The error is what an operator reads beside the credential from then on.
    pub(crate) fn open(&self, id: &str, profile: &Map<String, Value>, reference: &Value) -> Result<Tokens, String> {
        let reference = reference.as_object().ok_or("its `oauthRef` is not an object")?;
        let field = |name| input::string(reference, name).map_err(|why| format!("in its `oauthRef`, {why}"));
        match field("source")?.as_deref() {
            Some("openclaw-credentials") => {}
            other => {
                return Err(format!("its `oauthRef` has the source {other:?}; only \"openclaw-credentials\" is known"));
            }
        }
        let sidecar_id = sidecar_id(reference)?;
        let written = input::string(profile, "provider").ok().flatten().or(field("provider")?);
        let Some(file) = self.files.get(sidecar_id.as_str()) else {
            return Err(format!(
                "its tokens lie in credentials/auth-profiles/{sidecar_id}.json, which is not in the state directory"
            ));
        };
        self.read(file, &sidecar_id, id, &written.unwrap_or_default()).map_err(|why| format!("{}: {why}", file.name))
    }

    fn read(&self, file: &ImportFile, id: &str, profile_id: &str, provider_name: &str) -> Result<Tokens, String> {
        let text = input::text(file).map_err(|_| "it is too large or not UTF-8".to_owned())?;
        let root: Value = serde_json::from_str(text)
            .map_err(|e| format!("it is not JSON ({e}){}", if e.is_eof() { "; it looks cut off" } else { "" }))?;
        let root = root.as_object().ok_or("it is not a JSON object")?;
        match root.get("version").map(Value::as_i64) {
            None | Some(Some(1)) => {}
            Some(_) => return Err("its version is not 1, the only one known".to_owned()),
        }
        let owner = input::string(root, "profileId")?;
        if owner.as_deref().is_some_and(|owner| owner != profile_id) {
            return Err("it belongs to another profile".to_owned());
        }
        let its_provider = input::string(root, "provider")?.unwrap_or_else(|| provider_name.to_owned());
        if provider(&its_provider) != provider(provider_name) {
            return Err("it belongs to another provider".to_owned());
        }
        let tokens = match root.get("encrypted").filter(|encrypted| !encrypted.is_null()) {
            None => Tokens::read(root)?,
            Some(encrypted) => Tokens::read(&self.decrypt(encrypted, &associated(id, profile_id, &its_provider))?)?,
        };
        if tokens.is_empty() {
            Err("it holds neither an access token nor a refresh token".to_owned())
        } else {
            Ok(tokens)
        }
    }

    fn decrypt(&self, encrypted: &Value, associated: &str) -> Result<Map<String, Value>, String> {
        let encrypted = encrypted.as_object().ok_or("its `encrypted` is not an object")?;
        match input::string(encrypted, "algorithm")?.as_deref() {
            Some("aes-256-gcm") => {}
            _ => return Err("its algorithm is not aes-256-gcm, the only one known".to_owned()),
        }
        let bytes = |field| {
            let text = input::string(encrypted, field)?.ok_or_else(|| format!("its `{field}` is missing"))?;
            URL_SAFE.decode(text).map_err(|_| format!("its `{field}` is not base64url: the file is damaged"))
        };
        let (iv, tag, ciphertext) = (bytes("iv")?, bytes("tag")?, bytes("ciphertext")?);
        let nonce = <[u8; 12]>::try_from(iv).map_err(|_| "its `iv` is not 12 bytes long: the file is damaged")?;
        if tag.len() != 16 {
            return Err("its `tag` is not 16 bytes long: the file is damaged".to_owned());
        }
        let Some((place, key)) = &self.key else {
            return Err(format!(
                "it is encrypted, and the seed of its key was not found. {SEED_PLACES}. Run the command again with \
                 --secret-key-file"
            ));
        };
        let cipher = Aes256Gcm::new_from_slice(key.as_slice()).map_err(|_| "its key has the wrong length")?;
        let sealed = [ciphertext, tag].concat();
        let payload = Payload { msg: &sealed, aad: associated.as_bytes() };
        let plain = cipher.decrypt(&Nonce::from(nonce), payload).map(Zeroizing::new).map_err(|_| {
            format!(
                "it cannot be opened with the seed from {place}: that is not the seed it was made with, or the file is \
                 damaged. {SEED_PLACES}. Run the command again with --secret-key-file"
            )
        })?;
        let inside: Value =
            serde_json::from_slice(&plain).map_err(|_| "what it holds, decrypted, is not JSON".to_owned())?;
        match inside {
            Value::Object(inside) => Ok(inside),
            _ => Err("what it holds, decrypted, is not an object".to_owned()),
        }
    }

    /// The sidecar `id` with other tokens: in the form that it has, encrypted anew if it is encrypted. One that is gone
    /// is made anew, encrypted. The error says why it cannot be written.
    pub(crate) fn rewrite(
        &self,
        id: &str,
        profile_id: &str,
        provider_name: &str,
        tokens: &Tokens,
    ) -> Result<Map<String, Value>, String> {
        let mut root = match self.files.get(id) {
            Some(file) => input::object(file).map_err(|_| format!("{} is not a JSON object", file.name))?,
            None => Map::from_iter([
                ("version".to_owned(), Value::from(1)),
                ("profileId".to_owned(), Value::from(profile_id)),
                ("provider".to_owned(), Value::from(provider_name)),
                ("encrypted".to_owned(), Value::Object(Map::new())),
            ]),
        };
        let its_provider = input::string(&root, "provider")?.unwrap_or_else(|| provider_name.to_owned());
        let associated = associated(id, profile_id, &its_provider);
        match root.get("encrypted").filter(|encrypted| !encrypted.is_null()) {
            None => tokens.write(&mut root),
            Some(encrypted) => {
                // Opened first: a seed that does not open it is not the one that OpenClaw has.
                let mut inside = match self.files.contains_key(id) {
                    true => self.decrypt(encrypted, &associated)?,
                    false => Map::new(),
                };
                tokens.write(&mut inside);
                let sealed = self.encrypt(&inside, &associated)?;
                root.insert("encrypted".to_owned(), sealed);
            }
        }
        Ok(root)
    }

    fn encrypt(&self, inside: &Map<String, Value>, associated: &str) -> Result<Value, String> {
        let Some((_, key)) = &self.key else {
            return Err(format!(
                "its sidecar is encrypted, and the seed of its key was not found. {SEED_PLACES}. Run the command again \
                 with --secret-key-file"
            ));
        };
        let plain = Zeroizing::new(serde_json::to_vec(inside).map_err(|e| e.to_string())?);
        let mut nonce = [0u8; 12];
        getrandom::fill(&mut nonce).map_err(|e| format!("the system gives no random bytes: {e}"))?;
        let cipher = Aes256Gcm::new_from_slice(key.as_slice()).map_err(|_| "its key has the wrong length")?;
        let payload = Payload { msg: &plain, aad: associated.as_bytes() };
        let sealed = cipher.encrypt(&Nonce::from(nonce), payload).map_err(|_| "it cannot be encrypted")?;
        let (ciphertext, tag) = sealed.split_at(sealed.len().saturating_sub(16));
        let text = |bytes: &[u8]| Value::from(URL_SAFE_NO_PAD.encode(bytes));
        Ok(Value::Object(Map::from_iter([
            ("algorithm".to_owned(), Value::from("aes-256-gcm")),
            ("iv".to_owned(), text(&nonce)),
            ("tag".to_owned(), text(tag)),
            ("ciphertext".to_owned(), text(ciphertext)),
        ])))
    }
}

/// What binds a sidecar to its profile.
fn associated(id: &str, profile_id: &str, provider_name: &str) -> String {
    format!("{id}\0{profile_id}\0{provider_name}")
}
