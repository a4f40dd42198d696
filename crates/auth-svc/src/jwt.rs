//! What a token says about itself. **Nothing here is verified**: the provider's signature is the upstream's business,
//! and these claims only decide when to refresh and what an operator reads.

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::Value;

/// base64url that takes padding and its absence alike.
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// The claim that holds account, plan and user (facts of Codex CLI).
const AUTH_CLAIM: &str = "https://api.openai.com/auth";
/// The claim that holds the e-mail address of an access token.
const PROFILE_CLAIM: &str = "https://api.openai.com/profile";

/// Unverified claims of an access or id token. A token that is no JWT has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Claims {
    /// Expiry, Unix seconds.
    pub(crate) exp: Option<i64>,
    /// Time of issue, Unix seconds.
    pub(crate) iat: Option<i64>,
    /// Issuer, as it is written.
    pub(crate) iss: Option<String>,
    /// E-mail address of the account.
    pub(crate) email: Option<String>,
    /// Account (workspace) id.
    pub(crate) account_id: Option<String>,
    /// Plan, in the provider's spelling.
    pub(crate) plan: Option<String>,
    /// User id.
    pub(crate) user_id: Option<String>,
    /// True for a FedRAMP account.
    pub(crate) fedramp: bool,
}

/// The claims of `token`, without any check of its signature.
pub(crate) fn unverified_claims(token: &str) -> Claims {
    payload(token).map(|payload| read(&payload)).unwrap_or_default()
}

fn payload(token: &str) -> Option<Value> {
    let part = token.split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE.decode(part).ok()?).ok()
}

fn read(payload: &Value) -> Claims {
    let text = |value: &Value| value.as_str().filter(|s| !s.is_empty()).map(str::to_owned);
    let auth = &payload[AUTH_CLAIM];
    // Some providers write a fraction.
    let seconds = |value: &Value| value.as_i64().or_else(|| value.as_f64().map(|seconds| seconds as i64));
    Claims {
        exp: seconds(&payload["exp"]),
        iat: seconds(&payload["iat"]),
        iss: text(&payload["iss"]),
        email: text(&payload["email"]).or_else(|| text(&payload[PROFILE_CLAIM]["email"])),
        account_id: text(&auth["chatgpt_account_id"]),
        plan: text(&auth["chatgpt_plan_type"]),
        user_id: text(&auth["chatgpt_user_id"]).or_else(|| text(&auth["user_id"])),
        fedramp: auth["chatgpt_account_is_fedramp"].as_bool().unwrap_or(false),
    }
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{URL_SAFE as PADDED, URL_SAFE_NO_PAD};
    use serde_json::json;

    use super::*;

    #[test]
    fn claims_are_read_with_and_without_padding() {
        let payload = json!({
            "exp": 1_900_000_000, "iat": 1_800_000_000.5, "iss": "https://id.example/", PROFILE_CLAIM: { "email": "a@example.com" },
            AUTH_CLAIM: { "chatgpt_account_id": "acct", "chatgpt_plan_type": "pro", "user_id": "u",
                          "chatgpt_account_is_fedramp": true },
        })
        .to_string();
        for encoded in [URL_SAFE_NO_PAD.encode(&payload), PADDED.encode(&payload)] {
            let claims = unverified_claims(&format!("e30.{encoded}.sig"));
            assert_eq!((claims.exp, claims.iat), (Some(1_900_000_000), Some(1_800_000_000)));
            assert_eq!(claims.iss.as_deref(), Some("https://id.example/"));
            assert_eq!(claims.email.as_deref(), Some("a@example.com"));
            assert_eq!((claims.account_id.as_deref(), claims.plan.as_deref()), (Some("acct"), Some("pro")));
            assert_eq!(claims.user_id.as_deref(), Some("u"));
            assert!(claims.fedramp);
        }
    }

    #[test]
    fn what_is_no_token_has_no_claims() {
        for text in ["", "sk-abc", "a.b.c", "a..c", "e30.bm90IGpzb24.x"] {
            assert_eq!(unverified_claims(text), Claims::default(), "{text}");
        }
    }
}
