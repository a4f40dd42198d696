//! How much of an account's quota is used, as the headers of any answer tell it.
//!
//! Every limit has two slots, `primary` and `secondary`. Which of them is the week and which the five hours is nowhere
//! promised, and has changed: a window is told by its length, never by its slot. Limits beside `codex` are found by
//! their headers (facts: rate_limits.rs of Codex CLI), where `_` and `-` mean the same.

use std::collections::BTreeMap;

use domain::MAIN_LIMIT;
use domain::{Failure, Reason};
use http::HeaderMap;
use proto::common::v1::QuotaWindow;

use super::detail::shorten;
use crate::headers;

/// Most limits that are read: a server may name as many as it likes.
const MAX_LIMITS: usize = 16;
/// Longest id of a limit.
const MAX_ID: usize = 64;
/// Longest name of a limit that is kept, in characters.
const MAX_NAME: usize = 80;
/// Resets further ahead than ten years are no times in seconds.
const MAX_AHEAD_S: i64 = 10 * 366 * 24 * 3600;
/// More than this many percent is no share of anything.
const MAX_PERCENT: f64 = 10_000.0;
/// So far the reset that a refusal names may lie from the one that its window names, in seconds.
const SAME_RESET_S: i64 = 120;

/// One window, in the words of headers or of the usage endpoint.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told {
    pub(crate) used_percent: Option<f64>,
    /// Length in seconds.
    pub(crate) seconds: Option<i64>,
    /// Unix seconds.
    pub(crate) resets_at: Option<i64>,
    pub(crate) resets_in_s: Option<i64>,
}

/// One limit with its windows, as told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limit {
    pub(crate) name: Option<String>,
    pub(crate) windows: [Told; 2],
}

/// Every limit by its id.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limits(BTreeMap<String, Limit>);

impl Limits {
    /// The limit of this id, if it or room for it is there. `codex` always has room.
    pub(crate) fn entry(&mut self, id: &str) -> Option<&mut Limit> {
        let id = canonical(id)?;
        let others = self.0.len() - usize::from(self.0.contains_key(MAIN_LIMIT));
        if !self.0.contains_key(&id) && id != MAIN_LIMIT && others >= MAX_LIMITS - 1 {
            return None;
        }
        Some(self.0.entry(id).or_default())
    }

    /// Every window that says something, in the order of its limit and length.
    pub(crate) fn windows(self, now_s: i64) -> Vec<QuotaWindow> {
        self.0.into_iter().flat_map(|(id, limit)| limit.windows(&id, now_s)).collect()
    }
}

impl Limit {
    /// A window whose length is not told cannot be told from the other one, and is left out; if it is the limit's only
    /// one there is nothing to tell it from, and its length is 0.
    fn windows(self, id: &str, now_s: i64) -> Vec<QuotaWindow> {
        let name = self.name.map(|name| shorten(&name, MAX_NAME)).filter(|name| !name.is_empty());
        let read = self.windows.iter().filter_map(|told| told.read(id, name.as_deref(), now_s));
        let mut windows: Vec<QuotaWindow> = read.collect();
        if windows.len() > 1 {
            let before = windows.len();
            windows.retain(|window| window.window_seconds > 0);
            if windows.len() < before {
                tracing::debug!(limit = id, "the upstream did not say how long a window is; it is left out");
            }
        }
        windows.sort_by_key(|window| window.window_seconds);
        windows
    }
}

impl Told {
    /// The window, unless it says nothing: a use of 0 without a length and a reset is how "no such window" is written.
    fn read(&self, limit: &str, name: Option<&str>, now_s: i64) -> Option<QuotaWindow> {
        let used = self.used_percent.filter(|used| used.is_finite() && (0.0..=MAX_PERCENT).contains(used))?;
        let seconds = self.seconds.and_then(|s| i32::try_from(s).ok()).filter(|s| *s > 0);
        let plausible = |at: &i64| *at > 0 && *at <= now_s.saturating_add(MAX_AHEAD_S);
        let relative = || self.resets_in_s.filter(|s| *s >= 0).map(|s| now_s.saturating_add(s));
        let resets_at = self.resets_at.filter(plausible).or_else(|| relative().filter(plausible));
        if used == 0.0 && seconds.is_none() && resets_at.is_none() {
            return None;
        }
        Some(QuotaWindow {
            limit: limit.to_owned(),
            window_seconds: seconds.unwrap_or_default(),
            used_percent: used,
            resets_at: resets_at.map(|at| at as f64),
            limit_name: name.map(str::to_owned),
        })
    }
}

/// Every window that an answer's headers tell.
pub(crate) fn windows(headers: &HeaderMap, now_s: i64) -> Vec<QuotaWindow> {
    let mut limits = Limits::default();
    for name in headers.keys().filter(|name| name.as_str().ends_with("percent")) {
        let plain = name.as_str().replace('_', "-");
        let Some((id, slot)) = plain.strip_suffix("-used-percent").and_then(slot_of) else { continue };
        let Some(limit) = limits.entry(id) else { continue };
        let prefix = name.as_str().get(..id.len() + 2).unwrap_or_default();
        limit.name = headers::text(headers, &format!("{prefix}-limit-name")).map(str::to_owned);
        let label = ["primary", "secondary"][slot];
        let number = |field: &str| headers::text(headers, &format!("{prefix}-{label}-{field}"))?.parse::<i64>().ok();
        limit.windows[slot] = Told {
            used_percent: headers::text(headers, name.as_str()).and_then(|text| text.parse().ok()),
            seconds: number("window-minutes").and_then(|minutes| minutes.checked_mul(60)),
            resets_at: number("reset-at"),
            resets_in_s: number("reset-after-seconds"),
        };
    }
    limits.windows(now_s)
}

/// `x-codex-other-primary` is slot 0 of `codex-other`.
fn slot_of(name: &str) -> Option<(&str, usize)> {
    let name = name.strip_prefix("x-")?;
    let primary = name.strip_suffix("-primary").map(|id| (id, 0));
    primary.or_else(|| name.strip_suffix("-secondary").map(|id| (id, 1)))
}

/// An id as it is kept: in lower case, with `_`.
fn canonical(id: &str) -> Option<String> {
    let id = id.trim().to_ascii_lowercase().replace(['-', ' '], "_");
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
    (!id.is_empty() && id.len() <= MAX_ID && id.chars().all(plain)).then_some(id)
}

/// The window that a USAGE_LIMIT is about: of the limit that the upstream says is active (else `codex`) the one that is
/// used up, and of several the one that ends last; else the one that ends when the refusal says.
pub(crate) fn exhausted(headers: &HeaderMap, windows: &[QuotaWindow], resets_at: Option<i64>) -> Option<QuotaWindow> {
    let named = headers::text(headers, "x-codex-active-limit").and_then(canonical);
    let of = |limit: &str| windows.iter().filter(|w| w.limit == limit).collect::<Vec<_>>();
    let active = named.as_deref().map(&of).filter(|windows| !windows.is_empty());
    let candidates = active.unwrap_or_else(|| of(MAIN_LIMIT));
    let ends = |window: &QuotaWindow| window.resets_at.unwrap_or_default() as i64;
    let full = candidates.iter().filter(|w| w.used_percent >= 100.0);
    let full = full.max_by_key(|w| (ends(w), w.window_seconds));
    let told = |at: i64| candidates.iter().find(|w| w.resets_at.is_some() && (ends(w) - at).abs() <= SAME_RESET_S);
    let mut window = (*full.or_else(|| resets_at.and_then(told))?).clone();
    // The refusal's own word counts more than its headers'.
    window.resets_at = resets_at.map(|at| at as f64).or(window.resets_at);
    Some(window)
}

/// The window that a failure is about; only USAGE_LIMIT is about one.
pub(crate) fn exhausted_by(failure: &Failure, headers: &HeaderMap, windows: &[QuotaWindow]) -> Option<QuotaWindow> {
    (failure.reason == Reason::UsageLimit).then(|| exhausted(headers, windows, failure.resets_at)).flatten()
}

#[cfg(test)]
mod tests;
