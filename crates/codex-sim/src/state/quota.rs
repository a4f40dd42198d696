//! How much of its limits an account has used: one state, from which headers, refusals and the usage endpoint answer.

use serde::Deserialize;

use crate::tokens;

/// The limit that every model counts against.
const CODEX: &str = "codex";

/// The quota of an account, as tests set it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    /// Its limits; `codex` first, where it is among them.
    pub limits: Vec<QuotaLimit>,
    /// What the usage endpoint says of it, against the limits: `Some(true)` for an account whose credits go on.
    #[serde(default)]
    pub allowed: Option<bool>,
}

/// One limit.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuotaLimit {
    /// Its id: `codex`, or another one, which has headers of its own.
    pub id: String,
    /// Its name for people.
    #[serde(default)]
    pub name: Option<String>,
    /// The models that count against it; empty means every one.
    #[serde(default)]
    pub models: Vec<String>,
    /// Two at most: the first one fills the slot `primary`, whatever its length.
    pub windows: Vec<QuotaWindow>,
}

/// One window of a limit. When its reset has come, nothing of it is used.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuotaWindow {
    /// Percent used; calls are refused from 100 on.
    pub used_percent: f64,
    /// Its length in seconds.
    pub window_seconds: u64,
    /// Seconds from now to its reset; `None` leaves the reset's header empty, as the real one sometimes does.
    #[serde(default, rename = "resets_in_seconds")]
    pub resets_in: Option<u64>,
}

impl Quota {
    /// Both windows of the limit `codex`: five hours and a week.
    pub fn codex(five_hours: f64, week: f64) -> Self {
        let windows = vec![QuotaWindow::new(five_hours, 18_000, 7_200), QuotaWindow::new(week, 604_800, 86_400)];
        Self { limits: vec![QuotaLimit::new(CODEX, windows)], allowed: None }
    }

    /// With a further limit.
    #[must_use]
    pub fn with(mut self, limit: QuotaLimit) -> Self {
        self.limits.push(limit);
        self
    }
}

impl QuotaLimit {
    /// A limit that every model counts against.
    pub fn new(id: &str, windows: Vec<QuotaWindow>) -> Self {
        Self { id: id.to_owned(), name: None, models: Vec::new(), windows }
    }

    /// For some models only.
    #[must_use]
    pub fn of_models(mut self, models: &[&str]) -> Self {
        self.models = models.iter().map(|model| (*model).to_owned()).collect();
        self
    }
}

impl QuotaWindow {
    /// A window of this length that resets in so many seconds.
    pub fn new(used_percent: f64, window_seconds: u64, resets_in: u64) -> Self {
        Self { used_percent, window_seconds, resets_in: Some(resets_in) }
    }
}

/// A quota in time: resets are moments.
#[derive(Clone, Debug)]
pub(crate) struct Meter {
    limits: Vec<QuotaLimit>,
    /// Unix seconds of each window's reset, as the windows stand.
    resets: Vec<Vec<Option<i64>>>,
    pub(crate) allowed: Option<bool>,
    /// True if a test has set it: the usage endpoint then answers from it alone, whatever the scenario does to calls.
    pub(crate) explicit: bool,
}

/// One limit as it stands now.
#[derive(Clone, Debug)]
pub(crate) struct LimitNow {
    pub(crate) id: String,
    pub(crate) name: Option<String>,
    pub(crate) windows: Vec<WindowNow>,
}

/// One window as it stands now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WindowNow {
    pub(crate) used: f64,
    pub(crate) seconds: u64,
    /// Unix seconds.
    pub(crate) resets_at: Option<i64>,
}

impl Meter {
    /// What a new account has used.
    pub(crate) fn fresh() -> Self {
        let mut meter = Self::set(Quota::codex(42.0, 12.0));
        meter.explicit = false;
        meter
    }

    pub(crate) fn set(quota: Quota) -> Self {
        let now = tokens::now();
        let at = |window: &QuotaWindow| window.resets_in.map(|left| now.saturating_add_unsigned(left));
        let resets = quota.limits.iter().map(|limit| limit.windows.iter().map(at).collect()).collect();
        Self { limits: quota.limits, resets, allowed: quota.allowed, explicit: true }
    }

    /// Changes the use of the first limit's windows, and nothing else.
    pub(crate) fn use_percent(&mut self, used: [f64; 2]) {
        for (window, used) in self.limits.iter_mut().take(1).flat_map(|limit| &mut limit.windows).zip(used) {
            window.used_percent = used;
        }
    }

    /// Every limit as it stands at this moment (Unix seconds).
    pub(crate) fn at(&self, now: i64) -> Vec<LimitNow> {
        let limits = self.limits.iter().zip(&self.resets);
        limits
            .map(|(limit, resets)| LimitNow {
                id: limit.id.clone(),
                name: limit.name.clone(),
                windows: limit.windows.iter().zip(resets).map(|(w, reset)| WindowNow::of(w, *reset, now)).collect(),
            })
            .collect()
    }

    /// The limit that refuses a call of `model` at this moment, and when it will do so no more.
    pub(crate) fn refuses(&self, model: &str, now: i64) -> Option<(String, Option<i64>)> {
        let counts = |limit: &QuotaLimit| limit.models.is_empty() || limit.models.iter().any(|m| m == model);
        let counting = self.limits.iter().zip(self.at(now)).filter(|(limit, _)| counts(limit));
        let mut full = counting.filter(|(_, now)| now.is_reached());
        full.next().map(|(limit, now)| (limit.id.clone(), now.free_at()))
    }
}

impl LimitNow {
    pub(crate) fn is_reached(&self) -> bool {
        self.windows.iter().any(WindowNow::is_full)
    }

    /// When the last of its full windows resets.
    fn free_at(&self) -> Option<i64> {
        self.windows.iter().filter(|window| window.is_full()).filter_map(|window| window.resets_at).max()
    }
}

impl WindowNow {
    fn of(window: &QuotaWindow, resets_at: Option<i64>, now: i64) -> Self {
        let whole = Self { used: window.used_percent, seconds: window.window_seconds, resets_at };
        match resets_at {
            // A new window has begun with the reset, and another after each of its lengths.
            Some(at) if at <= now => {
                let length = i64::try_from(window.window_seconds.max(1)).unwrap_or(i64::MAX);
                let begun = now.saturating_sub(at) / length;
                let next = at.saturating_add(length.saturating_mul(begun.saturating_add(1)));
                Self { used: 0.0, resets_at: Some(next), ..whole }
            }
            _ => whole,
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.used >= 100.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_fresh_after_its_reset() {
        let window = QuotaWindow::new(100.0, 300, 60);
        let at = |now: i64| {
            let now = WindowNow::of(&window, Some(1_000), now);
            (now.used, now.resets_at)
        };
        assert_eq!(at(999), (100.0, Some(1_000)));
        assert_eq!(at(1_000), (0.0, Some(1_300)));
        assert_eq!(at(1_750), (0.0, Some(1_900)));
    }

    #[test]
    fn a_limit_refuses_the_models_that_count_against_it() {
        let other = QuotaLimit::new("codex_other", vec![QuotaWindow::new(100.0, 604_800, 60)]).of_models(&["gpt-5.5"]);
        let meter = Meter::set(Quota::codex(10.0, 20.0).with(other));
        let now = tokens::now();
        assert_eq!(meter.refuses("gpt-5.5", now).map(|(id, _)| id).as_deref(), Some("codex_other"));
        assert_eq!(meter.refuses("gpt-5.4", now), None);
        assert_eq!(meter.refuses("gpt-5.5", now + 61), None);
        let full = Meter::set(Quota::codex(100.0, 100.0));
        let (id, free) = full.refuses("any", now).expect("full");
        assert!(id == "codex" && free.is_some_and(|at| at >= now + 86_000), "the later of two full windows");
    }
}
