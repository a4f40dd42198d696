use http::{HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;

const NOW: i64 = 1_790_000_000;

fn headers(list: &[(&str, &str)]) -> HeaderMap {
    let header = |(name, value): &(&str, &str)| {
        (HeaderName::try_from(*name).expect("a name"), HeaderValue::from_str(value).expect("a value"))
    };
    list.iter().map(header).collect()
}

fn read(list: &[(&str, &str)]) -> Vec<(String, i32, f64, Option<f64>)> {
    let windows = windows(&headers(list), NOW);
    windows.into_iter().map(|w| (w.limit, w.window_seconds, w.used_percent, w.resets_at)).collect()
}

#[test]
fn the_real_sample_is_read_by_length_and_not_by_slot() {
    let sample = [
        ("X-Codex-Active-Limit", "codex"),
        ("X-Codex-Plan-Type", "plus"),
        ("X-Codex-Primary-Used-Percent", "4"),
        ("X-Codex-Primary-Window-Minutes", "10080"),
        ("X-Codex-Primary-Reset-After-Seconds", "3600"),
        ("X-Codex-Primary-Reset-At", "1790003600"),
        ("X-Codex-Primary-Over-Secondary-Limit-Percent", "0"),
        ("X-Codex-Secondary-Used-Percent", "12.5"),
        ("X-Codex-Secondary-Window-Minutes", "300"),
        ("X-Codex-Secondary-Reset-After-Seconds", "60"),
        ("X-Codex-Secondary-Reset-At", ""),
        ("X-Codex-Credits-Balance", ""),
    ];
    let codex = || "codex".to_owned();
    assert_eq!(
        read(&sample),
        [(codex(), 18_000, 12.5, Some((NOW + 60) as f64)), (codex(), 604_800, 4.0, Some((NOW + 3600) as f64)),]
    );
}

#[test]
fn every_limit_is_found_and_underscores_are_dashes() {
    let found = read(&[
        ("x-codex-primary-used-percent", "1"),
        ("x-codex-primary-window-minutes", "300"),
        ("x-codex-other-primary-used-percent", "100"),
        ("x-codex-other-primary-window-minutes", "10080"),
        ("x-codex_third-secondary-used-percent", "7"),
        ("x-codex_third-secondary-window-minutes", "60"),
    ]);
    let told: Vec<_> = found.iter().map(|(limit, seconds, used, _)| (limit.as_str(), *seconds, *used)).collect();
    assert_eq!(told, [("codex", 18_000, 1.0), ("codex_other", 604_800, 100.0), ("codex_third", 3_600, 7.0)]);
    let named = headers(&[
        ("x-codex-other-primary-used-percent", "1"),
        ("x-codex-other-primary-window-minutes", "300"),
        ("x-codex-other-limit-name", "Fast models"),
    ]);
    assert_eq!(windows(&named, NOW)[0].limit_name.as_deref(), Some("Fast models"));
}

#[test]
fn what_says_nothing_is_no_window() {
    for nothing in [
        &[("x-codex-primary-used-percent", "0")][..],
        &[("x-codex-primary-used-percent", ""), ("x-codex-primary-window-minutes", "300")],
        &[("x-codex-primary-used-percent", "NaN"), ("x-codex-primary-window-minutes", "300")],
        &[("x-codex-primary-used-percent", "inf"), ("x-codex-primary-window-minutes", "300")],
        &[("x-codex-primary-used-percent", "-1"), ("x-codex-primary-window-minutes", "300")],
        &[("x-codex-primary-used-percent", "1e300"), ("x-codex-primary-window-minutes", "300")],
        &[("x-primary-used-percent", "5"), ("x-primary-window-minutes", "300")],
        &[("x-codex-primary-window-minutes", "300")],
    ] {
        assert_eq!(read(nothing), [], "{nothing:?}");
    }
    // A fresh window is one: nothing of it is used.
    assert_eq!(read(&[("x-codex-primary-used-percent", "0"), ("x-codex-primary-window-minutes", "300")]).len(), 1);
}

#[test]
fn a_window_without_a_length_stands_alone_or_not_at_all() {
    let alone = [("x-codex-primary-used-percent", "100"), ("x-codex-primary-reset-after-seconds", "60")];
    assert_eq!(read(&alone), [("codex".to_owned(), 0, 100.0, Some((NOW + 60) as f64))]);
    let beside = [
        ("x-codex-primary-used-percent", "100"),
        ("x-codex-secondary-used-percent", "5"),
        ("x-codex-secondary-window-minutes", "10080"),
    ];
    assert_eq!(read(&beside).iter().map(|w| w.1).collect::<Vec<_>>(), [604_800]);
    assert_eq!(read(&[("x-codex-primary-used-percent", "9"), ("x-codex-secondary-used-percent", "5")]), []);
}

#[test]
fn absurd_numbers_are_absent() {
    let reset = |at: &str, after: &str| {
        read(&[
            ("x-codex-primary-used-percent", "9"),
            ("x-codex-primary-window-minutes", "300"),
            ("x-codex-primary-reset-at", at),
            ("x-codex-primary-reset-after-seconds", after),
        ])[0]
            .3
    };
    assert_eq!(reset("1790000000000", "60"), Some((NOW + 60) as f64), "milliseconds");
    assert_eq!(reset("-5", "-5"), None);
    assert_eq!(reset("0", "9223372036854775807"), None);
    assert_eq!(reset("soon", "60"), Some((NOW + 60) as f64));
    let minutes =
        |text: &str| read(&[("x-codex-primary-used-percent", "9"), ("x-codex-primary-window-minutes", text)])[0].1;
    assert_eq!((minutes("9223372036854775807"), minutes("-1"), minutes("40000000")), (0, 0, 0));
}

#[test]
fn the_number_of_limits_is_bounded_and_codex_is_among_them() {
    let mut many = HeaderMap::new();
    for n in 0..100 {
        let header = |field: &str| HeaderName::try_from(format!("x-a{n:03}-primary-{field}")).expect("a name");
        many.insert(header("used-percent"), HeaderValue::from_static("5"));
        many.insert(header("window-minutes"), HeaderValue::from_static("5"));
    }
    many.insert("x-codex-primary-used-percent", HeaderValue::from_static("5"));
    let found = windows(&many, NOW);
    assert_eq!(found.len(), MAX_LIMITS);
    assert!(found.iter().any(|w| w.limit == MAIN_LIMIT));
}

#[test]
fn the_window_that_is_used_up_is_named() {
    let all = [
        ("x-codex-active-limit", "codex_other"),
        ("x-codex-primary-used-percent", "100"),
        ("x-codex-primary-window-minutes", "300"),
        ("x-codex-other-primary-used-percent", "100"),
        ("x-codex-other-primary-window-minutes", "300"),
        ("x-codex-other-primary-reset-at", "1790002000"),
        ("x-codex-other-secondary-used-percent", "100"),
        ("x-codex-other-secondary-window-minutes", "10080"),
        ("x-codex-other-secondary-reset-at", "1790009000"),
    ];
    let found = |list: &[(&str, &str)], resets_at| {
        let headers = headers(list);
        exhausted(&headers, &windows(&headers, NOW), resets_at).map(|w| (w.limit, w.window_seconds, w.resets_at))
    };
    assert_eq!(found(&all, None), Some(("codex_other".into(), 604_800, Some(1_790_009_000.0))));
    // An active limit that no header is about says nothing.
    assert_eq!(
        found(&[("x-codex-active-limit", "premium"), all[1], all[2]], None),
        Some(("codex".into(), 18_000, None))
    );
    // A percentage that was rounded down: the reset tells which window is meant.
    let rounded = [
        ("x-codex-primary-used-percent", "99.9"),
        ("x-codex-primary-window-minutes", "300"),
        ("x-codex-primary-reset-after-seconds", "600"),
    ];
    assert_eq!(found(&rounded, Some(NOW + 630)), Some(("codex".into(), 18_000, Some((NOW + 630) as f64))));
    assert_eq!(found(&rounded, Some(NOW + 6000)), None);
    assert_eq!(found(&[], Some(NOW + 60)), None);
}

proptest! {
    /// Whatever a server writes, what is read can be believed to be numbers of the kind they are called.
    #[test]
    fn hostile_values_stay_within_bounds(used in "[ -~]{0,24}", minutes in "[ -~]{0,24}", at in "-?[0-9]{0,22}",
        after in "-?[0-9]{0,22}") {
        let fields =
            [("used-percent", &used), ("window-minutes", &minutes), ("reset-at", &at), ("reset-after-seconds", &after)];
        let mut map = HeaderMap::new();
        for (field, value) in fields {
            let name = HeaderName::try_from(format!("x-codex-primary-{field}")).expect("a name");
            map.insert(name, HeaderValue::from_str(value).expect("visible"));
        }
        for window in windows(&map, NOW) {
            prop_assert!(window.used_percent >= 0.0 && window.used_percent <= MAX_PERCENT);
            prop_assert!(window.window_seconds >= 0);
            prop_assert!(window.resets_at.is_none_or(|at| at > 0.0 && at <= (NOW + MAX_AHEAD_S) as f64));
        }
    }
}
