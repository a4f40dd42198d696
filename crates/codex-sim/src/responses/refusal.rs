//! Scenarios that answer a sound request with an error of the service.

use serde_json::json;

use crate::{
    reply::{self, Reply},
    responses::{headers, validate},
    scenario::Scenario,
    state::{Account, LimitNow, Meter},
    tokens,
};

/// The answer to a scenario that ends a request before its stream; `None` for those that do not.
pub(crate) fn of(scenario: &Scenario, model: &str, account: Option<&Account>) -> Option<Reply> {
    let plan = account.map_or("plus", |account| account.spec.plan.as_str());
    Some(match scenario {
        Scenario::UsageLimit { resets_in } => {
            let resets_at = tokens::now().saturating_add_unsigned(*resets_in);
            usage_limit(plan, &used_up(account, *resets_in), "codex", Some(resets_at))
        }
        Scenario::RateLimit { retry_after } => {
            let message = "Rate limit reached. Slow down.";
            let mut reply = reply::error(429, "rate_limit_exceeded", "rate_limit_exceeded", message);
            reply::set(&mut reply, "retry-after", retry_after.to_string());
            reply
        }
        Scenario::UsageNotIncluded => {
            let message = "To use Codex with your ChatGPT plan, upgrade to Plus.";
            let error = json!({ "type": "usage_not_included", "message": message, "plan_type": plan });
            reply::json(429, &json!({ "error": error }))
        }
        Scenario::InsufficientQuota => {
            let message = "You exceeded your current quota, please check your plan and billing details.";
            reply::error(429, "insufficient_quota", "insufficient_quota", message)
        }
        Scenario::ServerError => {
            let message = "The server had an error processing your request.";
            reply::error(500, "server_error", "server_error", message)
        }
        Scenario::Overloaded => {
            let message = "Our servers are currently overloaded. Please try again later.";
            reply::error(503, "service_unavailable_error", "server_is_overloaded", message)
        }
        Scenario::NotSupportedModel => validate::unsupported_model(model),
        Scenario::ClientTooOld => reply::detail(400, format!("The '{model}' model requires a newer version of Codex.")),
        Scenario::ContextTooLong => {
            let message = "Your input exceeds the context window of this model.";
            reply::error(400, "invalid_request_error", "context_length_exceeded", message)
        }
        Scenario::EncryptedContent => validate::invalid_encrypted_content(),
        Scenario::Json403 => {
            let message = "You do not have access to Codex in this workspace.";
            reply::error(403, "forbidden", "codex_access_denied", message)
        }
        _ => return None,
    })
}

/// The account's limits under the scenario `usage_limit`: the first window is used up.
pub(crate) fn used_up(account: Option<&Account>, resets_in: u64) -> Vec<LimitNow> {
    let now = tokens::now();
    let mut limits = account.map_or_else(|| Meter::fresh().at(now), |account| account.meter.at(now));
    if let Some(window) = limits.first_mut().and_then(|limit| limit.windows.first_mut()) {
        (window.used, window.resets_at) = (100.0, Some(now.saturating_add_unsigned(resets_in)));
    }
    limits
}

/// The refusal of an account whose quota for this model is used up.
pub(crate) fn out_of_quota(model: &str, account: &Account) -> Option<Reply> {
    let now = tokens::now();
    let (limit, free_at) = account.meter.refuses(model, now)?;
    Some(usage_limit(&account.spec.plan, &account.meter.at(now), &limit, free_at))
}

fn usage_limit(plan: &str, limits: &[LimitNow], active: &str, resets_at: Option<i64>) -> Reply {
    let mut error = json!({
        "type": "usage_limit_reached", "message": "The usage limit has been reached", "plan_type": plan,
    });
    if let Some(at) = resets_at {
        error["resets_at"] = at.into();
        error["resets_in_seconds"] = at.saturating_sub(tokens::now()).into();
    }
    let mut reply = reply::json(429, &json!({ "error": error }));
    headers::limits(&mut reply, plan, limits, active);
    reply::set(&mut reply, "x-codex-rate-limit-reached-type", "rate_limit_reached");
    reply
}
