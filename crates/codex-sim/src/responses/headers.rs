//! Response headers of the Responses endpoints.

use crate::{
    call::Call,
    reply::{self, Reply},
    state::Account,
    tokens,
};

/// Five hours and a week, in minutes.
const PRIMARY_MINUTES: i64 = 300;
const SECONDARY_MINUTES: i64 = 10_080;
/// What a window has left by default, in seconds.
const PRIMARY_LEFT: i64 = 7_200;
const SECONDARY_LEFT: i64 = 86_400;

/// All headers of a Codex event stream.
pub(crate) fn codex(reply: &mut Reply, call: &Call, model: &str, account: &Account) {
    limits(reply, &account.spec.plan, account.used_percent, None);
    reply::set(reply, "openai-model", model);
    reply::set(reply, "openai-processing-ms", "42");
    reply::set(reply, "x-oai-request-id", &call.request_id);
    reply::set(reply, "x-models-etag", super::super::backend::MODELS_ETAG);
    reply::set(reply, "x-reasoning-included", "true");
    // Opaque and sticky: a turn that brings one gets the same back.
    let fresh = || format!("ts_{}", tokens::random(12));
    let turn_state = call.header("x-codex-turn-state").map_or_else(fresh, str::to_owned);
    reply::set(reply, "x-codex-turn-state", turn_state);
    let bot = format!("__cf_bm={}; path=/; HttpOnly; Secure; SameSite=None", tokens::random(12));
    reply::add(reply, "set-cookie", bot);
    reply::add(reply, "set-cookie", "oai-sim-session=must-not-come-back; path=/; HttpOnly");
}

/// The rate limit headers: `used` is the used percent of both windows.
pub(crate) fn limits(reply: &mut Reply, plan: &str, used: (f64, f64), primary_left: Option<u64>) {
    let now = tokens::now();
    let primary_left = primary_left.map_or(PRIMARY_LEFT, |seconds| i64::try_from(seconds).unwrap_or(i64::MAX));
    let over = (used.0 - used.1).max(0.0);
    for (name, value) in [
        ("x-codex-active-limit", "codex".to_owned()),
        ("x-codex-plan-type", plan.to_owned()),
        ("x-codex-primary-used-percent", used.0.to_string()),
        ("x-codex-primary-window-minutes", PRIMARY_MINUTES.to_string()),
        ("x-codex-primary-reset-after-seconds", primary_left.to_string()),
        ("x-codex-primary-reset-at", now.saturating_add(primary_left).to_string()),
        ("x-codex-primary-over-secondary-limit-percent", over.to_string()),
        ("x-codex-secondary-used-percent", used.1.to_string()),
        ("x-codex-secondary-window-minutes", SECONDARY_MINUTES.to_string()),
        ("x-codex-secondary-reset-after-seconds", SECONDARY_LEFT.to_string()),
        ("x-codex-secondary-reset-at", now.saturating_add(SECONDARY_LEFT).to_string()),
        ("x-codex-credits-has-credits", "false".to_owned()),
        ("x-codex-credits-unlimited", "false".to_owned()),
        ("x-codex-credits-balance", "0".to_owned()),
    ] {
        reply::set(reply, name, value);
    }
}

/// The headers of the public API.
pub(crate) fn openai(reply: &mut Reply) {
    for (name, value) in [
        ("openai-organization", "org-sim"),
        ("openai-version", "2020-10-01"),
        ("openai-processing-ms", "42"),
        ("x-ratelimit-limit-requests", "10000"),
        ("x-ratelimit-limit-tokens", "2000000"),
        ("x-ratelimit-remaining-requests", "9999"),
        ("x-ratelimit-remaining-tokens", "1999900"),
        ("x-ratelimit-reset-requests", "6ms"),
        ("x-ratelimit-reset-tokens", "3ms"),
    ] {
        reply::set(reply, name, value);
    }
}
