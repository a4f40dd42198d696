//! `/sim`: the in-process control over HTTP, for tests that run the binary.
//!
//! Everything is JSON. A body with an unknown field is refused: a typing error must not pass for a
//! success. These requests are not recorded.

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Collected};
use hyper::body::Incoming;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    config::AccountSpec,
    identity::fault::TokenScenario,
    reply::{self, Reply},
    scenario::{FORMS, Scenario},
    state::{AdoptTokens, Quota, SeedLogin, SimState},
};

/// `POST /sim/scenario`: one of the two, or both, for a target.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetScenario {
    /// An account id, an API key, or `*`.
    target: String,
    /// `null` removes it; absent leaves it as it is.
    #[serde(default, deserialize_with = "present")]
    scenario: Option<Option<Scenario>>,
    /// The same for the identity provider.
    #[serde(default, deserialize_with = "present")]
    token_scenario: Option<Option<TokenScenario>>,
    /// For so many requests only.
    #[serde(default)]
    times: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfAccount {
    account_id: String,
    /// Expire refresh tokens too (`/sim/expire` only).
    #[serde(default)]
    refresh_tokens: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetAccount {
    account_id: String,
    #[serde(default)]
    workspace_backend_origin: Option<String>,
    #[serde(default)]
    account_routing_override: Option<String>,
    #[serde(default)]
    used_percent: Option<(f64, f64)>,
}

/// `POST /sim/quota`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetQuota {
    account_id: String,
    /// `null` is what a new account has.
    quota: Option<Quota>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Device {
    user_code: String,
    #[serde(default)]
    account_id: Option<String>,
    #[serde(default)]
    email: Option<String>,
    #[serde(default)]
    plan: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AddKey {
    api_key: String,
    #[serde(default)]
    scenario: Option<Scenario>,
}

/// What went wrong with an administration request.
type Refusal = (u16, String);

/// Answers a request under `/sim/`.
pub(crate) async fn answer(state: &SimState, request: Request<Incoming>) -> Reply {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(Collected::to_bytes).unwrap_or_default();
    let query = parts.uri.query().unwrap_or_default();
    match act(state, &parts.method, parts.uri.path(), query, &body) {
        Ok(answer) => reply::json(200, &answer),
        Err((status, message)) => reply::json(status, &json!({ "error": message })),
    }
}

fn act(state: &SimState, method: &Method, path: &str, query: &str, body: &Bytes) -> Result<Value, Refusal> {
    match (method.as_str(), path) {
        ("POST", "/sim/logins") => Ok(json!(state.seed_login(read::<SeedLogin>(body)?))),
        ("POST", "/sim/adopt") => {
            let login_id = state.adopt_tokens(read::<AdoptTokens>(body)?).map_err(refuse)?;
            Ok(json!({ "login_id": login_id }))
        }
        ("POST", "/sim/keys") => {
            let key: AddKey = read(body)?;
            let label = state.add_api_key(&key.api_key);
            if key.scenario.is_some() {
                state.set_scenario(&key.api_key, key.scenario);
            }
            Ok(json!({ "label": label }))
        }
        ("POST", "/sim/scenario") => {
            set_scenario(state, read(body)?);
            Ok(json!({ "ok": true }))
        }
        ("POST", "/sim/account") => set_account(state, read(body)?),
        ("POST", "/sim/quota") => {
            let set: SetQuota = read(body)?;
            state.set_quota(&set.account_id, set.quota).map_err(refuse)?;
            Ok(json!({ "ok": true }))
        }
        ("POST", "/sim/expire") => {
            let of: OfAccount = read(body)?;
            let refresh = if of.refresh_tokens { state.expire_refresh_tokens(&of.account_id) } else { 0 };
            let access = state.expire_access_tokens(&of.account_id);
            Ok(json!({ "access_tokens": access, "refresh_tokens": refresh }))
        }
        ("POST", "/sim/revoke") => Ok(json!({ "logins": state.revoke_account(&read::<OfAccount>(body)?.account_id) })),
        ("POST", "/sim/device/approve") => approve(state, read(body)?),
        ("POST", "/sim/device/deny") => {
            state.deny_device(&read::<Device>(body)?.user_code).map_err(refuse)?;
            Ok(json!({ "ok": true }))
        }
        ("POST", "/sim/drop-connections") => {
            state.drop_connections();
            Ok(json!({ "ok": true }))
        }
        ("DELETE", "/sim/requests") => {
            state.clear_requests();
            Ok(json!({ "ok": true }))
        }
        ("GET", _) => look(state, path, query),
        _ => Err((404, format!("no {method} {path}"))),
    }
}

fn look(state: &SimState, path: &str, query: &str) -> Result<Value, Refusal> {
    let wanted =
        |name: &str| form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value);
    match path {
        "/sim/requests" => {
            let (path, credential) = (wanted("path"), wanted("credential"));
            let mut requests = state.requests();
            requests.retain(|request| {
                path.as_deref().is_none_or(|path| request.path == path)
                    && credential.as_deref().is_none_or(|label| request.credential.as_deref() == Some(label))
            });
            Ok(json!({ "requests": requests }))
        }
        "/sim/token-requests" => Ok(json!({ "token_requests": state.token_requests() })),
        "/sim/stats" => Ok(json!(state.stats())),
        "/sim/device" => Ok(json!({ "pending": state.pending_devices() })),
        "/sim/scenarios" => {
            let forms: serde_json::Map<String, Value> =
                FORMS.iter().map(|(form, what)| ((*form).to_owned(), Value::from(*what))).collect();
            Ok(Value::Object(forms))
        }
        "/sim/health" => Ok(json!({ "ok": true })),
        _ => Err((404, format!("no GET {path}"))),
    }
}

fn set_scenario(state: &SimState, set: SetScenario) {
    match (set.scenario, set.times) {
        (Some(Some(scenario)), Some(times)) => state.set_scenario_times(&set.target, scenario, times),
        (Some(scenario), _) => state.set_scenario(&set.target, scenario),
        (None, _) => {}
    }
    match (set.token_scenario, set.times) {
        (Some(Some(scenario)), Some(times)) => state.set_token_scenario_times(&set.target, scenario, times),
        (Some(scenario), _) => state.set_token_scenario(&set.target, scenario),
        (None, _) => {}
    }
}

fn set_account(state: &SimState, set: SetAccount) -> Result<Value, Refusal> {
    if set.workspace_backend_origin.is_some() || set.account_routing_override.is_some() {
        let or_none = |value: Option<String>| value.unwrap_or_else(|| "NO_CONSTRAINT".to_owned());
        let (origin, routing) = (or_none(set.workspace_backend_origin), or_none(set.account_routing_override));
        state.set_routing(&set.account_id, &origin, &routing).map_err(refuse)?;
    }
    if let Some((primary, secondary)) = set.used_percent {
        state.set_usage(&set.account_id, primary, secondary).map_err(refuse)?;
    }
    Ok(json!({ "ok": true }))
}

fn approve(state: &SimState, device: Device) -> Result<Value, Refusal> {
    let default = state.config().default_account.clone();
    let account = AccountSpec {
        account_id: device.account_id.unwrap_or(default.account_id),
        email: device.email.unwrap_or(default.email),
        plan: device.plan.unwrap_or(default.plan),
    };
    state.approve_device_as(&device.user_code, account.clone()).map_err(refuse)?;
    Ok(json!({ "account_id": account.account_id }))
}

fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| (400, error.to_string()))
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in map_err")]
fn refuse(error: crate::state::StateError) -> Refusal {
    (404, error.to_string())
}

/// Tells `null` from absent.
fn present<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Some)
}
