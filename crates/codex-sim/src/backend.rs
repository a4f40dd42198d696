//! The Codex backend's and the public API's smaller endpoints: models, workspace routing, usage.

use http::Method;
use serde_json::{Value, json};

use crate::{
    call::Call,
    reply::{self, Abort, Reply},
    responses::{gate, refusal},
    scenario::Scenario,
    state::LimitNow,
    tokens,
};

/// The version of the model list; also announced as `x-models-etag`.
pub(crate) const MODELS_ETAG: &str = "\"sim-models-1\"";
const CONTEXT_WINDOW: u64 = 272_000;

/// `GET /backend-api/codex/models?client_version=…`
pub(crate) async fn models(call: &mut Call) -> Result<Reply, Abort> {
    if let Err(refusal) = admitted(call).await? {
        return Ok(refusal);
    }
    if call.query_value("client_version").is_none_or(|version| version.is_empty()) {
        return Ok(reply::detail(400, "client_version is required"));
    }
    let mut reply = if call.header("if-none-match") == Some(MODELS_ETAG) {
        reply::full(304, "application/json", "")
    } else {
        let models: Vec<Value> = call.state.config().rules.models.iter().map(|slug| model(slug)).collect();
        reply::json(200, &json!({ "models": models }))
    };
    reply::set(&mut reply, "etag", MODELS_ETAG);
    Ok(reply)
}

fn model(slug: &str) -> Value {
    let effort = |level: &str| json!({ "effort": level, "description": level });
    json!({
        "slug": slug,
        "display_name": slug,
        "description": "A simulated model.",
        "default_reasoning_level": "medium",
        "supported_reasoning_levels": [effort("low"), effort("medium"), effort("high")],
        "shell_type": "shell_command",
        "visibility": "list",
        "supported_in_api": true,
        "priority": 1,
        "upgrade": null,
        "base_instructions": "You are a simulated coding agent.",
        "supports_reasoning_summaries": true,
        "support_verbosity": true,
        "default_verbosity": "low",
        "apply_patch_tool_type": "freeform",
        "truncation_policy": { "mode": "bytes", "limit": 10_000 },
        "supports_parallel_tool_calls": true,
        "context_window": CONTEXT_WINDOW,
        "experimental_supported_tools": [],
    })
}

/// `GET /backend-api/wham/accounts/check`: where the account's requests must go.
pub(crate) async fn accounts_check(call: &mut Call) -> Result<Reply, Abort> {
    let account_id = match admitted(call).await? {
        Ok(account_id) => account_id,
        Err(refusal) => return Ok(refusal),
    };
    let book = call.state.book();
    let Some(account) = book.logins.account(&account_id) else { return Ok(reply::detail(404, "No such account")) };
    let structure = match account.spec.plan.as_str() {
        "team" | "business" | "enterprise" | "edu" => "workspace",
        _ => "personal",
    };
    let entry = json!({
        "id": account_id,
        "name": account.spec.email,
        "structure": structure,
        "workspace_backend_origin": account.origin,
        "account_routing_override": account.routing_override,
    });
    Ok(reply::json(
        200,
        &json!({ "accounts": [entry], "account_ordering": [account_id], "default_account_id": account_id }),
    ))
}

/// `GET /backend-api/wham/usage`: how much of the account's limits is used. It agrees with the scenario
/// `usage_limit`, so that a probe before the reset finds the limit still reached, unless the test has set a
/// quota of its own.
pub(crate) async fn usage(call: &mut Call) -> Result<Reply, Abort> {
    let account_id = match admitted(call).await? {
        Ok(account_id) => account_id,
        Err(refusal) => return Ok(refusal),
    };
    let book = call.state.book();
    let Some(account) = book.logins.account(&account_id) else { return Ok(reply::detail(404, "No such account")) };
    let limits = match book.rules.peek_scenario(&account_id) {
        Some(Scenario::UsageLimit { resets_in }) if !account.meter.explicit => {
            refusal::used_up(Some(account), *resets_in)
        }
        _ => account.meter.at(tokens::now()),
    };
    let (main, further) = match limits.split_first() {
        Some((first, rest)) if first.id == "codex" => (Some(first), rest),
        _ => (None, limits.as_slice()),
    };
    let further: Vec<Value> = further
        .iter()
        .map(|limit| {
            let name = limit.name.as_deref().unwrap_or(&limit.id);
            json!({ "limit_name": name, "metered_feature": limit.id, "rate_limit": rate_limit(limit, None) })
        })
        .collect();
    let reached = main.is_some_and(LimitNow::is_reached);
    let body = json!({
        "plan_type": account.spec.plan,
        "rate_limit": main.map(|limit| rate_limit(limit, account.meter.allowed)),
        "credits": { "has_credits": false, "unlimited": false, "balance": "0" },
        "additional_rate_limits": further,
        "rate_limit_reached_type": reached.then(|| json!({ "type": "rate_limit_reached" })),
    });
    Ok(reply::json(200, &body))
}

fn rate_limit(limit: &LimitNow, allowed: Option<bool>) -> Value {
    let window = |slot: usize| {
        limit.windows.get(slot).map(|window| {
            json!({
                "used_percent": window.used,
                "limit_window_seconds": window.seconds,
                "reset_after_seconds": window.resets_at.map(|at| at.saturating_sub(tokens::now())),
                "reset_at": window.resets_at,
            })
        })
    };
    json!({
        "allowed": allowed.unwrap_or(!limit.is_reached()),
        "limit_reached": limit.is_reached(),
        "primary_window": window(0),
        "secondary_window": window(1),
    })
}

/// The account, if neither the edge nor the token stands in the way.
async fn admitted(call: &mut Call) -> Result<Result<String, Reply>, Abort> {
    let chosen = gate::choose_for_read(call);
    if let Some(reply) = gate::edge(call, &chosen).await? {
        return Ok(Err(reply));
    }
    let account = gate::chatgpt_account(call, &chosen);
    let failing = |_: &String| match chosen.before {
        Some(Scenario::ServerError) => Some(reply::error(500, "server_error", "server_error", "Internal error")),
        Some(Scenario::Overloaded) => {
            Some(reply::error(503, "service_unavailable_error", "server_is_overloaded", "Overloaded"))
        }
        _ => None,
    };
    Ok(account.and_then(|account_id| failing(&account_id).map_or(Ok(account_id), Err)))
}

/// `GET /v1/models`
pub(crate) async fn openai_models(call: &mut Call) -> Result<Reply, Abort> {
    let chosen = gate::choose_for_read(call);
    if let Some(reply) = gate::edge(call, &chosen).await? {
        return Ok(reply);
    }
    if let Err(refusal) = gate::api_key(call, &chosen) {
        return Ok(refusal);
    }
    let entry =
        |slug: &String| json!({ "id": slug, "object": "model", "created": 1_750_000_000, "owned_by": "openai" });
    let data: Vec<Value> = call.state.config().rules.models.iter().map(entry).collect();
    Ok(reply::json(200, &json!({ "object": "list", "data": data })))
}

/// Any other path under `/v1`: this host answers in JSON, unlike the one behind the edge.
pub(crate) fn unknown_openai_path(call: &Call, path: &str) -> Reply {
    if matches!(path, "/v1/responses" | "/v1/responses/compact" | "/v1/models") {
        let mut reply = reply::error(405, "invalid_request_error", "method_not_supported", "Method not supported.");
        reply::set(&mut reply, "allow", if path == "/v1/models" { Method::GET } else { Method::POST }.as_str());
        return reply;
    }
    let message = format!("Invalid URL ({} {path})", call.method);
    let error = json!({ "message": message, "type": "invalid_request_error", "param": null, "code": null });
    reply::json(404, &json!({ "error": error }))
}
