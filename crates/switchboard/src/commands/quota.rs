//! Quotas for people: one bar for each window. Plain characters, so that they read in a pipe, too.

use domain::{MAIN_LIMIT, window_name};
use proto::auth::v1::Credential;
use proto::common::v1::QuotaWindow;
use serde_json::{Value, json};

/// Characters of a bar.
const WIDTH: usize = 20;
/// What was told longer ago than this is shown with its age, in seconds.
const FRESH_S: i64 = 45 * 60;

/// One line for each window of each credential, in columns.
pub(crate) fn lines(credentials: &[Credential], now_s: i64) -> Vec<String> {
    let widest = |of: fn(&Credential) -> usize| credentials.iter().map(of).max().unwrap_or(0);
    let label = widest(|c| if c.quota.is_empty() { 0 } else { c.label.chars().count() });
    let window = widest(|c| c.quota.iter().map(|w| name(w).chars().count()).max().unwrap_or(0));
    let each = credentials.iter().flat_map(|c| c.quota.iter().map(move |quota| (c, quota)));
    each.map(|(c, quota)| {
        let heard = c.quota_observed_at.map(|at| now_s - at as i64).filter(|age| *age > FRESH_S);
        let heard = heard.map(|age| format!("  (as of {} ago)", span(age))).unwrap_or_default();
        let limit = if quota.limit == MAIN_LIMIT {
            String::new()
        } else {
            format!("  {}", quota.limit_name.as_ref().unwrap_or(&quota.limit))
        };
        format!(
            "{:<label$}  {:>window$}  {}  {:>3} %{}{limit}{heard}",
            c.label,
            name(quota),
            bar(quota.used_percent),
            // Down: what is not quite used up is not 100 %.
            quota.used_percent.floor(),
            resets(quota, now_s)
        )
    })
    .collect()
}

/// The windows of a credential for scripts.
pub(crate) fn as_json(credential: &Credential) -> Value {
    let window = |w: &QuotaWindow| {
        json!({ "limit": w.limit, "windowSeconds": w.window_seconds, "usedPercent": w.used_percent,
            "resetsAt": w.resets_at, "name": w.limit_name })
    };
    credential.quota.iter().map(window).collect()
}

fn name(window: &QuotaWindow) -> String {
    // A provider that does not say how long its window is.
    if window.window_seconds > 0 { window_name(window.window_seconds) } else { "-".to_owned() }
}

/// Full only when it is; empty only when it is, too.
fn bar(used_percent: f64) -> String {
    let share = (used_percent / 100.0 * WIDTH as f64).floor().clamp(0.0, WIDTH as f64) as usize;
    let filled = if used_percent > 0.0 { share.max(1) } else { 0 };
    format!("[{}{}]", "#".repeat(filled), "-".repeat(WIDTH - filled))
}

fn resets(window: &QuotaWindow, now_s: i64) -> String {
    match window.resets_at.map(|at| at as i64 - now_s) {
        Some(left) if left > 0 => format!("  resets in {}", span(left)),
        Some(left) => format!("  was reset {} ago", span(-left)),
        None => String::new(),
    }
}

/// A time span by its two largest units.
fn span(seconds: i64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, 0) => format!("{hours} h"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, 0, _) => format!("{days} d"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_S: i64 = 1_900_000_000;

    fn window(limit: &str, window_seconds: i32, used_percent: f64, resets_in: Option<i64>) -> QuotaWindow {
        QuotaWindow {
            limit: limit.into(),
            window_seconds,
            used_percent,
            resets_at: resets_in.map(|s| (NOW_S + s) as f64),
            limit_name: (limit == "codex_other").then(|| "GPT-5.3-Codex-Spark".into()),
        }
    }

    #[test]
    fn a_bar_for_each_window() {
        let credential = |label: &str, quota, age: i64| Credential {
            label: label.into(),
            quota,
            quota_observed_at: Some((NOW_S - age) as f64),
            ..Credential::default()
        };
        let all = [
            credential(
                "main",
                vec![window("codex", 18_000, 31.9, Some(7800)), window("codex", 604_800, 92.0, Some(3 * 86_400))],
                60,
            ),
            Credential { label: "a-key-without-quotas".into(), ..Credential::default() },
            credential("spare", vec![window("codex", 18_000, 0.0, Some(-90))], 7200),
            credential("team", vec![window("codex_other", 2_592_000, 0.4, None), window("x", 0, 140.0, None)], 0),
        ];
        assert_eq!(
            lines(&all, NOW_S),
            [
                "main    5 h  [######--------------]   31 %  resets in 2 h 10 min",
                "main    7 d  [##################--]   92 %  resets in 3 d",
                "spare   5 h  [--------------------]    0 %  was reset 1 min ago  (as of 2 h ago)",
                "team   30 d  [#-------------------]    0 %  GPT-5.3-Codex-Spark",
                "team      -  [####################]  140 %  x",
            ]
        );
        assert_eq!(lines(&[], NOW_S), Vec::<String>::new());
        assert_eq!(bar(99.9), "[###################-]");
    }

    #[test]
    fn spans_have_two_units_at_most() {
        let spans = [0, 59, 60, 3600, 3660, 86_399, 86_400, 90_000].map(span);
        assert_eq!(spans, ["0 s", "59 s", "1 min", "1 h", "1 h 1 min", "23 h 59 min", "1 d", "1 d 1 h"]);
    }
}
