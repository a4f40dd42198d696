//! The identity provider: tokens, device login, browser login, logout.

mod authorize;
mod device;
pub(crate) mod fault;
mod token;

use http::Method;

use crate::{
    call::{Call, fields},
    identity::fault::TokenFault,
    reply::{self, Reply},
    tokens::CLIENT_ID,
};

/// Answers what is none of the backend's paths.
pub(crate) async fn answer(call: &mut Call, path: &str) -> Reply {
    let post = call.method == Method::POST;
    let get = call.method == Method::GET;
    match path {
        "/oauth/token" if post => token::answer(call).await,
        "/oauth/revoke" if post => revoke(call),
        "/oauth/authorize" if get => authorize::answer(call),
        "/api/accounts/deviceauth/usercode" if post => device::user_code(call),
        "/api/accounts/deviceauth/token" if post => device::poll(call),
        "/codex/device" if get => device::page(None),
        "/codex/device" if post => device::approve_by_form(call),
        "/oauth/token" | "/oauth/revoke" | "/api/accounts/deviceauth/usercode" | "/api/accounts/deviceauth/token" => {
            reply::wrong_method("POST")
        }
        "/oauth/authorize" => reply::wrong_method("GET"),
        _ => reply::detail(404, "Not Found"),
    }
}

/// `POST /oauth/revoke`: ends the login that the token belongs to. A token that is not known is no error
/// (RFC 7009, 2.2).
fn revoke(call: &Call) -> Reply {
    let fields = fields(&call.body);
    let text = |name: &str| fields.get(name).and_then(serde_json::Value::as_str);
    let everyones = call.state.book().rules.peek_token_scenario().and_then(|scenario| scenario.fault.clone());
    if let Some(page) = everyones.as_ref().and_then(fault_page) {
        return page;
    }
    if !call.is_json() {
        return oauth_error(400, "invalid_request", "the body must be application/json");
    }
    let Some(token) = text("token") else { return oauth_error(400, "invalid_request", "token is missing") };
    if text("token_type_hint") == Some("refresh_token") && text("client_id") != Some(CLIENT_ID) {
        return oauth_error(401, "invalid_client", "unknown client_id");
    }
    // Codex CLI names no client for an access token, and nobody knows what the provider would say to one.
    if text("token_type_hint") == Some("access_token") && text("client_id").is_some() {
        return oauth_error(400, "invalid_request", "client_id is not expected here");
    }
    call.state.book().logins.revoke_token(token);
    reply::json(200, &serde_json::json!({}))
}

/// The error shape of RFC 6749.
fn oauth_error(status: u16, code: &str, description: &str) -> Reply {
    reply::json(status, &serde_json::json!({ "error": code, "error_description": description }))
}

/// The faults that answer without looking at the token.
fn fault_page(fault: &TokenFault) -> Option<Reply> {
    Some(match fault {
        TokenFault::Challenge => reply::challenge(),
        TokenFault::RateLimit(seconds) => {
            let mut reply = reply::error(429, "rate_limit_exceeded", "rate_limit_exceeded", "Too many requests");
            reply::set(&mut reply, "retry-after", seconds.to_string());
            reply
        }
        TokenFault::ServerError => reply::error(500, "server_error", "server_error", "Internal server error"),
        TokenFault::HtmlOk => reply::html(200, "<!DOCTYPE html><html><head><title>Sign in</title></head></html>"),
        _ => return None,
    })
}
