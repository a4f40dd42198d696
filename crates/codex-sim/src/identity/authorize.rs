//! `GET /oauth/authorize`: browser login with PKCE, where the owner is always signed in and always agrees.
//!
//! The redirect goes to a port of the client's machine; a client without a browser copies its address.

use form_urlencoded::Serializer;

use crate::{
    call::Call,
    identity::{fault::TokenFault, oauth_error},
    reply::{self, Reply},
    state::RedirectRule,
    tokens::CLIENT_ID,
};

const CALLBACK_ORIGINS: &[&str] =
    &["http://localhost:1455", "http://127.0.0.1:1455", "http://localhost:1457", "http://127.0.0.1:1457"];
const SCOPES: &[&str] =
    &["openid", "profile", "email", "offline_access", "api.connectors.read", "api.connectors.invoke"];

/// No account is known here, so only what is set for everyone applies.
fn everyones_fault(call: &Call) -> Option<TokenFault> {
    call.state.book().rules.peek_token_scenario()?.fault.clone()
}

pub(crate) fn answer(call: &Call) -> Reply {
    let text = |name: &str| call.query_value(name).unwrap_or_default();
    // Without a sound redirect there is nobody to send an error to but the browser.
    if text("client_id") != CLIENT_ID {
        return oauth_error(400, "invalid_client", "unknown client_id");
    }
    let redirect = text("redirect_uri");
    if !redirect.strip_suffix("/auth/callback").is_some_and(|origin| CALLBACK_ORIGINS.contains(&origin)) {
        return oauth_error(400, "invalid_request", "redirect_uri is not registered for this client");
    }
    let scope = text("scope");
    let challenge = text("code_challenge");
    let error = if text("response_type") != "code" {
        Some("unsupported_response_type")
    } else if !scope.split(' ').all(|word| SCOPES.contains(&word)) {
        Some("invalid_scope")
    } else if text("code_challenge_method") != "S256" || challenge.len() != 43 || text("state").is_empty() {
        Some("invalid_request")
    } else if everyones_fault(call) == Some(TokenFault::MissingEntitlement) {
        Some("access_denied")
    } else {
        None
    };
    let mut query = Serializer::new(String::new());
    match error {
        Some("access_denied") => query
            .append_pair("error", "access_denied")
            .append_pair("error_description", "Access denied: missing_codex_entitlement"),
        Some(error) => query.append_pair("error", error),
        None => {
            let account = call.state.config().default_account.clone();
            let code = call.state.book().grants.grant(account, challenge, RedirectRule::Exactly(redirect.clone()));
            query.append_pair("code", &code).append_pair("scope", &scope)
        }
    };
    query.append_pair("state", &text("state"));
    let mut reply = reply::html(302, "");
    reply::set(&mut reply, "location", format!("{redirect}?{}", query.finish()));
    reply
}
