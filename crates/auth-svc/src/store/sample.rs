//! A credential for this crate's tests.

use super::{Kind, NewCredential, Secrets, Source};

/// A login of `account` with these tokens, of which nothing else is known; `account` is its label, too.
pub(crate) fn login(account: &str, access: &str, refresh: &str) -> NewCredential {
    NewCredential {
        label: account.into(),
        provider: "openai-codex".into(),
        kind: Kind::OAuth,
        issuer: None,
        client_id: None,
        account_id: Some(account.into()),
        email: None,
        plan: None,
        user_id: None,
        fedramp: false,
        source: Source::Login,
        secrets: Secrets::Present {
            access: Some(access.into()),
            refresh: Some(refresh.into()),
            id_token: None,
            api_key: None,
        },
        extra: serde_json::Value::Null,
        access_expires_at: None,
        last_refresh: None,
        borrowed: false,
        profile: None,
    }
}
