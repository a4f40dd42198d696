//! Device login: the provider's own flow, not RFC 8628.
//!
//! The client asks for a user code, the owner types it on a page, the client polls until it is handed an
//! authorization code **and the verifier that belongs to it**, and exchanges both at `/oauth/token`.

use serde_json::{Value, json};

use crate::{
    call::{Call, fields},
    identity::{fault_page, oauth_error},
    reply::{self, Reply},
    tokens::CLIENT_ID,
};

/// `POST /api/accounts/deviceauth/usercode`
pub(crate) fn user_code(call: &Call) -> Reply {
    let config = call.state.config();
    if let Some(fault) = everyones_fault(call) {
        return fault;
    }
    if !config.device_login_enabled {
        return reply::error(404, "invalid_request_error", "not_found", "Device code login is not enabled.");
    }
    if !call.is_json() || fields(&call.body).get("client_id").and_then(Value::as_str) != Some(CLIENT_ID) {
        return oauth_error(400, "invalid_client", "unknown client_id");
    }
    let (device_auth_id, user_code) = call.state.book().grants.start_device();
    reply::json(
        200,
        &json!({
            "device_auth_id": device_auth_id,
            "user_code": user_code,
            "interval": config.device_interval_seconds.to_string(),
        }),
    )
}

/// `POST /api/accounts/deviceauth/token`
pub(crate) fn poll(call: &Call) -> Reply {
    if let Some(fault) = everyones_fault(call) {
        return fault;
    }
    let fields = fields(&call.body);
    let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default();
    let config = call.state.config();
    match call.state.book().grants.poll_device(text("device_auth_id"), text("user_code"), config) {
        Some(answer) => reply::json(
            200,
            &json!({
                "authorization_code": answer.code,
                "code_challenge": answer.challenge,
                "code_verifier": answer.verifier,
            }),
        ),
        None => {
            let error = json!({ "code": "deviceauth_authorization_unknown", "message": "pending" });
            reply::json(config.device_pending_status, &json!({ "error": error }))
        }
    }
}

/// `GET /codex/device`: where the owner types the code.
pub(crate) fn page(note: Option<&str>) -> Reply {
    let note = note.unwrap_or("Enter the code that the command line shows.");
    reply::html(
        200,
        format!(
            "<!DOCTYPE html><html><head><title>Simulated device login</title></head><body>\
             <h1>Simulated device login</h1><p>{note}</p><form method=\"post\">\
             <input name=\"user_code\" placeholder=\"ABCD-1234\" autofocus> <button>Continue</button></form>\
             </body></html>"
        ),
    )
}

/// `POST /codex/device`: the page's form. It stands for signing in as the default account.
pub(crate) fn approve_by_form(call: &Call) -> Reply {
    let fields = fields(&call.body);
    let user_code = fields.get("user_code").and_then(Value::as_str).unwrap_or_default();
    match call.state.approve_device(user_code) {
        Ok(()) => page(Some("Signed in. You can close this window.")),
        Err(_) => page(Some("That code is not known, or it has expired.")),
    }
}

/// No account is known yet, so only what is set for everyone applies.
fn everyones_fault(call: &Call) -> Option<Reply> {
    let book = call.state.book();
    book.rules.peek_token_scenario()?.fault.as_ref().and_then(fault_page)
}
