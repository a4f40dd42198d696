//! Limits: which one is reached, when it ends, and how long to wait.

use domain::{Failure, Reason, window_name};
use http::HeaderMap;
use jiff::Timestamp;

use super::detail::UpstreamError;
use super::{quota, upstream};
use crate::headers;

/// The failure of a plan's limit, with plan, window and reset where they are known.
pub(super) fn usage_limit(error: &UpstreamError, headers: &HeaderMap, now_s: i64) -> Failure {
    let told = error.resets_at.or_else(|| error.resets_in_seconds.map(|s| now_s.saturating_add(s.ceil() as i64)));
    let window = quota::exhausted(headers, &quota::windows(headers, now_s), told);
    let resets_at = told.or_else(|| window.as_ref()?.resets_at.map(|at| at as i64)).filter(|at| *at > now_s);
    let plan = error.plan_type.clone().or_else(|| headers::text(headers, "x-codex-plan-type").map(str::to_owned));

    let mut message = match &plan {
        Some(plan) => format!("the usage limit of the {plan} plan is reached"),
        None => "the account's usage limit is reached".to_owned(),
    };
    if let Some(window) = window.filter(|w| w.window_seconds > 0) {
        message.push_str(&format!(" (the window of {})", window_name(window.window_seconds)));
    }
    if let Some(at) = resets_at.and_then(|s| Timestamp::from_second(s).ok()) {
        message.push_str(&format!("; it resets at {at}"));
    }
    message.push_str(&format!("; the upstream says {}", error.quoted()));

    let mut failure = upstream(Reason::UsageLimit, message);
    failure.resets_at = resets_at;
    failure.plan_type = plan;
    failure.retry_after_seconds = resets_at.map(|at| at.saturating_sub(now_s) as f64);
    failure
}

/// The failure of a short limit; the wait stands in the text, if anywhere in the body.
pub(super) fn rate_limited(error: &UpstreamError) -> Failure {
    let failure = upstream(Reason::RateLimited, format!("the upstream limits the rate: {}", error.quoted()));
    match error.message.as_deref().and_then(try_again_in) {
        Some(seconds) => failure.retry_after(seconds),
        None => failure,
    }
}

/// Seconds of `retry-after-ms` or `retry-after`, which is seconds or a date.
pub(super) fn retry_after(headers: &HeaderMap, now_s: i64) -> Option<f64> {
    let millis = headers::text(headers, "retry-after-ms").and_then(|text| text.parse::<f64>().ok());
    let text = headers::text(headers, "retry-after");
    let seconds = text.and_then(|text| text.parse::<f64>().ok());
    let date = || {
        let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text?).ok()?;
        Some(at.as_second().saturating_sub(now_s).max(0) as f64)
    };
    millis.map(|ms| ms / 1000.0).or(seconds).filter(|s| s.is_finite() && *s >= 0.0).or_else(date)
}

/// Seconds of `… try again in 1.5s`, `20ms`, `6m0s`, `2 seconds`.
fn try_again_in(text: &str) -> Option<f64> {
    let lower = text.to_ascii_lowercase();
    let (_, mut rest) = lower.split_once("try again in")?;
    let mut total = None;
    loop {
        rest = rest.trim_start();
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let after = after.trim_start();
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let factor = match unit {
            "ms" | "milliseconds" => 0.001,
            "s" | "sec" | "second" | "seconds" => 1.0,
            "m" | "min" | "minute" | "minutes" => 60.0,
            "h" | "hour" | "hours" => 3600.0,
            _ => return total,
        };
        let Ok(number) = number.parse::<f64>() else { return total };
        total = Some(total.unwrap_or(0.0) + number * factor);
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn waits_are_read_as_they_are_written() {
        for (text, seconds) in [
            ("Rate limit reached. Please try again in 1.5s.", Some(1.5)),
            ("Try again in 20ms", Some(0.02)),
            ("please try again in 6m0s.", Some(360.0)),
            ("try again in 2 seconds", Some(2.0)),
            ("try again in a moment", None),
            ("try again later", None),
        ] {
            assert_eq!(try_again_in(text), seconds, "{text}");
        }
        let header = |name: &'static str, value: &'static str| {
            HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))])
        };
        assert_eq!(retry_after(&header("retry-after", "7"), 0), Some(7.0));
        assert_eq!(retry_after(&header("retry-after-ms", "250"), 0), Some(0.25));
        assert_eq!(retry_after(&header("retry-after", "Thu, 01 Jan 1970 00:01:00 GMT"), 20), Some(40.0));
        assert_eq!(retry_after(&header("retry-after", "soon"), 0), None);
    }

    #[test]
    fn the_window_that_is_full_and_ends_last_counts() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-codex-active-limit", "codex_other"),
            ("x-codex-primary-used-percent", "100"),
            ("x-codex-other-primary-used-percent", "100.0"),
            ("x-codex-other-primary-window-minutes", "300"),
            ("x-codex-other-primary-reset-at", "2000"),
            ("x-codex-other-secondary-used-percent", "100"),
            ("x-codex-other-secondary-window-minutes", "10080"),
            ("x-codex-other-secondary-reset-at", "9000"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let failure = usage_limit(&UpstreamError::default(), &headers, 1000);
        assert_eq!((failure.resets_at, failure.retry_after_seconds), (Some(9000), Some(8000.0)));
        assert!(failure.message.contains("the window of 7 d)"), "{}", failure.message);
    }
}
