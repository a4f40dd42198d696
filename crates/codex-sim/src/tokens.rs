//! Tokens that look like the real ones.
//!
//! Access and id tokens are JWTs with the claims that clients read; refresh tokens are opaque. None of
//! them is signed for real: the "signature" is a keyed digest, so that a later run of the simulator can
//! tell its own tokens from foreign strings ([`SimConfig::adopt_own_tokens`](crate::SimConfig)). The key
//! stands in this file, since nothing of value is behind it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::config::AccountSpec;

/// The OAuth client id of Codex CLI and OpenClaw; the only one the simulator knows.
pub const CLIENT_ID: &str = "app_EMoamEEZ73f0CkXaXp7hrann";

/// The claim that holds account, plan and user.
const AUTH_CLAIM: &str = "https://api.openai.com/auth";
/// The claim that holds the e-mail address.
const PROFILE_CLAIM: &str = "https://api.openai.com/profile";
const KEY: &[u8] = b"codex-sim: simulated tokens, no secret";
const REFRESH_PREFIX: &str = "rt_sim.";

/// What an access token says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claims {
    pub(crate) account: AccountSpec,
    /// Unix seconds.
    pub(crate) expires_at: i64,
}

/// What is written into a refresh token, for the case that a later run meets it.
#[derive(Serialize, Deserialize)]
struct RefreshMark {
    account_id: String,
    email: String,
    plan: String,
    nonce: String,
}

/// Unix time in milliseconds.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Unix time in seconds.
pub(crate) fn now() -> i64 {
    i64::try_from(now_ms() / 1000).unwrap_or(i64::MAX)
}

/// A string that nobody has seen before: `bytes` random bytes as base64url.
pub(crate) fn random(bytes: usize) -> String {
    let mut buffer = vec![0; bytes];
    // Without a random source the simulator still has to work: a UUID is unique enough.
    if getrandom::fill(&mut buffer).is_err() {
        return uuid::Uuid::new_v4().simple().to_string();
    }
    URL_SAFE_NO_PAD.encode(buffer)
}

/// The first `digits` hexadecimal digits of a SHA-256: how a secret is shown in records.
pub(crate) fn fingerprint(secret: impl AsRef<[u8]>, digits: usize) -> String {
    let mut hex: String = Sha256::digest(secret.as_ref()).iter().map(|byte| format!("{byte:02x}")).collect();
    hex.truncate(digits);
    hex
}

/// The PKCE challenge of a verifier (S256).
pub(crate) fn s256(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()))
}

/// An access token of the account, and when it expires (unix seconds).
pub(crate) fn access_token(account: &AccountSpec, ttl: Duration) -> (String, i64) {
    let issued = now();
    let expires = issued.saturating_add(i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX));
    let payload = json!({
        "aud": ["https://api.openai.com/v1"],
        "client_id": CLIENT_ID,
        "exp": expires,
        AUTH_CLAIM: auth_claim(account),
        PROFILE_CLAIM: { "email": account.email, "email_verified": true },
        "iat": issued,
        "iss": "https://auth.openai.com",
        "jti": random(16),
        "nbf": issued,
        "scp": ["openid", "profile", "email", "offline_access"],
        "sub": format!("auth0|{}", user_id(account)),
    });
    (jwt(&payload), expires)
}

/// An id token of the account. It lives an hour, as the real ones do: nobody may take its `exp` for the
/// access token's.
pub(crate) fn id_token(account: &AccountSpec) -> String {
    let issued = now();
    jwt(&json!({
        "aud": [CLIENT_ID],
        "email": account.email,
        "email_verified": true,
        "exp": issued + 3600,
        AUTH_CLAIM: auth_claim(account),
        "iat": issued,
        "iss": "https://auth.openai.com",
        "sub": format!("auth0|{}", user_id(account)),
    }))
}

/// A fresh refresh token of the account.
pub(crate) fn refresh_token(account: &AccountSpec) -> String {
    let mark = json!(RefreshMark {
        account_id: account.account_id.clone(),
        email: account.email.clone(),
        plan: account.plan.clone(),
        nonce: random(12),
    });
    let body = URL_SAFE_NO_PAD.encode(mark.to_string());
    format!("{REFRESH_PREFIX}{body}.{}", seal(&body))
}

/// Whose refresh token it is, if any run of the simulator issued it.
pub(crate) fn read_own_refresh_token(token: &str) -> Option<AccountSpec> {
    let (body, mac) = token.strip_prefix(REFRESH_PREFIX)?.split_once('.')?;
    if seal(body) != mac {
        return None;
    }
    let mark: RefreshMark = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(body).ok()?).ok()?;
    Some(AccountSpec { account_id: mark.account_id, email: mark.email, plan: mark.plan })
}

/// The claims of an access token, if any run of the simulator issued it.
pub(crate) fn read_own_access_token(token: &str) -> Option<Claims> {
    let (signed, signature) = token.rsplit_once('.')?;
    (seal(signed) == signature).then(|| read_claims(token)).flatten()
}

/// The claims of any JWT, unverified.
pub(crate) fn read_claims(token: &str) -> Option<Claims> {
    let payload = token.split('.').nth(1)?;
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?).ok()?;
    let auth = &claims[AUTH_CLAIM];
    let email = claims[PROFILE_CLAIM]["email"].as_str().or(claims["email"].as_str());
    Some(Claims {
        account: AccountSpec {
            account_id: auth["chatgpt_account_id"].as_str()?.to_owned(),
            email: email.unwrap_or("unknown@example.com").to_owned(),
            plan: auth["chatgpt_plan_type"].as_str().unwrap_or("unknown").to_owned(),
        },
        expires_at: claims["exp"].as_i64()?,
    })
}

fn auth_claim(account: &AccountSpec) -> Value {
    json!({
        "chatgpt_account_id": account.account_id,
        "chatgpt_plan_type": account.plan,
        "chatgpt_user_id": user_id(account),
        "user_id": user_id(account),
    })
}

/// One user per e-mail address.
fn user_id(account: &AccountSpec) -> String {
    format!("user-{}", fingerprint(&account.email, 24))
}

fn jwt(payload: &Value) -> String {
    let header = json!({ "alg": "RS256", "kid": "codex-sim", "typ": "JWT" });
    let signed =
        format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(payload.to_string()));
    let signature = seal(&signed);
    format!("{signed}.{signature}")
}

/// As long as an RS256 signature, so that token lengths are the real ones.
fn seal(text: &str) -> String {
    let mut signature = Vec::with_capacity(256);
    for round in 0_u8..8 {
        signature
            .extend_from_slice(&Sha256::new().chain_update(KEY).chain_update([round]).chain_update(text).finalize());
    }
    URL_SAFE_NO_PAD.encode(signature)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_tokens_are_known_and_others_are_not() {
        let account = AccountSpec::default();
        let (access, expires_at) = access_token(&account, Duration::from_secs(60));
        assert_eq!(read_own_access_token(&access), Some(Claims { account: account.clone(), expires_at }));
        assert_eq!(read_own_access_token(&format!("{access}x")), None);
        let refresh = refresh_token(&account);
        assert_eq!(read_own_refresh_token(&refresh), Some(account));
        assert_eq!(read_own_refresh_token("rt-fake-1"), None);
    }

    #[test]
    fn s256_is_the_one_of_rfc_7636() {
        assert_eq!(s256("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }
}
