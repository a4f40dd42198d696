//! The usage endpoint's answer.
//!
//! Of `additional_rate_limits` only the name is certain: entries in a list or an object are taken, each with its windows
//! inside `rate_limit` or beside its name. What is not understood is no window, and never an error.

use domain::MAIN_LIMIT;
use proto::common::v1::QuotaWindow;
use serde_json::{Map, Value};

use crate::classify::quota::{Limits, Told};

/// Longest name of a plan.
const MAX_PLAN: usize = 64;

/// What it says.
#[derive(Debug, PartialEq)]
pub(super) struct Usage {
    pub(super) windows: Vec<QuotaWindow>,
    pub(super) plan: Option<String>,
    /// Whether calls are allowed now, as the limit `codex` has it.
    pub(super) allowed: Option<bool>,
}

impl Usage {
    /// `None` for what is no such answer. `now_s` is Unix seconds.
    pub(super) fn read(body: &[u8], now_s: i64) -> Option<Self> {
        let Ok(Value::Object(fields)) = serde_json::from_slice::<Value>(body) else { return None };
        // An account without limits has a null there.
        let main = fields.get("rate_limit")?;
        let mut limits = Limits::default();
        take(&mut limits, MAIN_LIMIT, None, main);
        match fields.get("additional_rate_limits") {
            Some(Value::Array(entries)) => entries.iter().for_each(|entry| additional(&mut limits, None, entry)),
            Some(Value::Object(entries)) => {
                entries.iter().for_each(|(id, entry)| additional(&mut limits, Some(id), entry));
            }
            _ => {}
        }
        let flag = |name: &str| main.get(name).and_then(Value::as_bool);
        let plan = fields.get("plan_type").and_then(Value::as_str).filter(|plan| is_plan(plan));
        Some(Self {
            windows: limits.windows(now_s),
            plan: plan.map(str::to_owned),
            // A reached limit does not stop an account with credits, and `allowed` knows of them.
            allowed: flag("allowed").or_else(|| flag("limit_reached").map(|reached| !reached)),
        })
    }
}

fn additional(limits: &mut Limits, key: Option<&str>, entry: &Value) {
    let Some(fields) = entry.as_object() else { return };
    let name = text(fields, &["limit_name", "name"]);
    let Some(id) = text(fields, &["limit_id", "metered_feature", "id"]).or(key).or(name) else { return };
    // No other limit speaks for the one that every model counts against.
    if id.trim().eq_ignore_ascii_case(MAIN_LIMIT) {
        return;
    }
    let windows = fields.get("rate_limit").filter(|inner| inner.is_object()).unwrap_or(entry);
    take(limits, id, name, windows);
}

fn take(limits: &mut Limits, id: &str, name: Option<&str>, windows: &Value) {
    let told = [window(&windows["primary_window"]), window(&windows["secondary_window"])];
    if told.iter().all(|told| told.used_percent.is_none()) {
        return;
    }
    if let Some(limit) = limits.entry(id) {
        limit.name = name.map(str::to_owned);
        limit.windows = told;
    }
}

fn window(fields: &Value) -> Told {
    let number = |name: &str| match &fields[name] {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    // Saturates; what is absurd is judged where all windows are.
    let whole = |name: &str| number(name).filter(|n| n.is_finite()).map(|n| n as i64);
    Told {
        used_percent: number("used_percent"),
        seconds: whole("limit_window_seconds"),
        resets_at: whole("reset_at"),
        resets_in_s: whole("reset_after_seconds"),
    }
}

fn text<'a>(fields: &'a Map<String, Value>, names: &[&str]) -> Option<&'a str> {
    names.iter().find_map(|name| fields.get(*name)?.as_str().filter(|text| !text.is_empty()))
}

fn is_plan(plan: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ' ');
    !plan.is_empty() && plan.len() <= MAX_PLAN && plan.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_790_000_000;

    fn read(body: &Value) -> Option<Usage> {
        Usage::read(body.to_string().as_bytes(), NOW)
    }

    fn told(usage: &Usage) -> Vec<(&str, i32, f64)> {
        usage.windows.iter().map(|w| (w.limit.as_str(), w.window_seconds, w.used_percent)).collect()
    }

    #[test]
    fn the_recorded_answer_is_read() {
        let fixtures: Value =
            serde_json::from_str(include_str!("../../tests/fixtures/upstream/http_more.json")).expect("JSON");
        let usage = read(&fixtures["usage_200"]["body"]).expect("an answer");
        assert_eq!((usage.plan.as_deref(), usage.allowed), (Some("plus"), Some(true)));
        assert_eq!(told(&usage), [("codex", 18_000, 42.0), ("codex", 604_800, 12.0)]);
        assert_eq!(usage.windows[0].resets_at, Some(1_796_000_000.0));
    }

    #[test]
    fn further_limits_are_taken_in_any_shape() {
        let inner = json!({ "primary_window": { "used_percent": "100", "limit_window_seconds": 604_800 } });
        let entry = json!({ "limit_name": "Fast", "metered_feature": "codex-other", "rate_limit": inner });
        for additional in
            [json!([entry]), json!({ "x": entry }), json!({ "codex_other": inner }), json!([entry, 7, null])]
        {
            let usage = read(&json!({ "rate_limit": null, "additional_rate_limits": additional })).expect("an answer");
            assert_eq!(told(&usage), [("codex_other", 604_800, 100.0)], "{additional}");
            assert_eq!(usage.allowed, None);
        }
        for odd in
            [json!(7), json!("x"), json!([[]]), json!([{}]), json!({ "codex": inner }), json!({ "a b/c": inner })]
        {
            let usage = read(&json!({ "rate_limit": {}, "additional_rate_limits": odd })).expect("an answer");
            assert_eq!(usage.windows, [], "{odd}");
        }
    }

    #[test]
    fn whether_calls_are_allowed() {
        let allowed = |limit: Value| read(&json!({ "rate_limit": limit })).and_then(|usage| usage.allowed);
        assert_eq!(allowed(json!({ "allowed": false, "limit_reached": true })), Some(false));
        assert_eq!(allowed(json!({ "allowed": true, "limit_reached": true })), Some(true), "credits");
        assert_eq!(allowed(json!({ "limit_reached": true })), Some(false));
        assert_eq!(allowed(json!({ "limit_reached": "no" })), None);
    }

    #[test]
    fn what_is_no_such_answer() {
        for body in ["", "<html>", "[]", "{}", "{\"detail\":\"x\"}", "\u{0}"] {
            assert_eq!(Usage::read(body.as_bytes(), NOW), None, "{body:?}");
        }
        let plan = |plan: Value| read(&json!({ "rate_limit": {}, "plan_type": plan })).and_then(|usage| usage.plan);
        assert_eq!(plan(json!("a\nb")), None);
        assert_eq!(plan(json!("p".repeat(100))), None);
        assert_eq!(plan(json!(7)), None);
    }

    proptest! {
        #[test]
        fn numbers_of_any_kind_stay_within_bounds(used in any::<f64>(), seconds in any::<i64>(), at in any::<i64>(),
            after in any::<f64>()) {
            let window = json!({ "used_percent": used, "limit_window_seconds": seconds, "reset_at": at,
                "reset_after_seconds": after });
            let body = json!({ "rate_limit": { "primary_window": window, "secondary_window": window } });
            for window in read(&body).expect("an answer").windows {
                prop_assert!((0.0..=10_000.0).contains(&window.used_percent) && window.window_seconds >= 0);
                prop_assert!(window.resets_at.is_none_or(|at| at > 0.0 && at.is_finite()));
            }
        }
    }
}
