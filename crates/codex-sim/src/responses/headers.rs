//! Response headers of the Responses endpoints.

use crate::{
    call::Call,
    reply::{self, Reply},
    state::{Account, LimitNow, WindowNow},
    tokens,
};

/// All headers of a Codex event stream.
pub(crate) fn codex(reply: &mut Reply, call: &Call, model: &str, account: &Account) {
    limits(reply, &account.spec.plan, &account.meter.at(tokens::now()), "codex");
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

/// The rate limit headers: both windows of every limit. `active` is the limit that the answer is about.
pub(crate) fn limits(reply: &mut Reply, plan: &str, limits: &[LimitNow], active: &str) {
    reply::set(reply, "x-codex-active-limit", active);
    reply::set(reply, "x-codex-plan-type", plan);
    for limit in limits {
        let prefix = format!("x-{}", limit.id.replace('_', "-"));
        if let Some(name) = &limit.name {
            reply::set_named(reply, &format!("{prefix}-limit-name"), name);
        }
        for (slot, window) in ["primary", "secondary"].iter().zip(&limit.windows) {
            window_headers(reply, &format!("{prefix}-{slot}"), window);
        }
        if let [primary, secondary, ..] = limit.windows.as_slice() {
            let over = (primary.used - secondary.used).max(0.0);
            reply::set_named(reply, &format!("{prefix}-primary-over-secondary-limit-percent"), &over.to_string());
        }
    }
    for (name, value) in [
        ("x-codex-credits-has-credits", "false"),
        ("x-codex-credits-unlimited", "false"),
        ("x-codex-credits-balance", "0"),
    ] {
        reply::set(reply, name, value);
    }
}

fn window_headers(reply: &mut Reply, prefix: &str, window: &WindowNow) {
    let at = window.resets_at.map(|at| at.to_string()).unwrap_or_default();
    let left = window.resets_at.map(|at| at.saturating_sub(tokens::now()).to_string()).unwrap_or_default();
    for (field, value) in [
        ("used-percent", window.used.to_string()),
        ("window-minutes", (window.seconds / 60).to_string()),
        ("reset-after-seconds", left),
        ("reset-at", at),
    ] {
        reply::set_named(reply, &format!("{prefix}-{field}"), &value);
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
