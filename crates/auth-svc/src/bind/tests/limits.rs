//! Limits: what a call is told, what a usage request changes, and when one is due.

use super::super::judge::Refusal;
use super::super::usage::corrected;
use super::super::{Considered, failure::overall};
use super::*;
use crate::store::Window;

const HOUR_MS: i64 = 3_600_000;

fn limit(window_s: i32, limit: &str, until_ms: i64) -> Rest {
    Rest { window_s, limit: limit.into(), ..rest(RestKind::UsageLimit, Some("gpt-5.5"), until_ms) }
}

fn told(limit: &str, window_s: i32, used_percent: f64, resets_in_s: Option<i64>) -> Window {
    Window {
        limit: limit.into(),
        window_s,
        used_percent,
        resets_at: resets_in_s.map(|s| NOW_S + s),
        name: None,
        observed_ms: NOW_MS,
    }
}

fn considered(credentials: &[Credential]) -> Vec<Considered> {
    let one = |credential: &Credential| match judge(credential, None, &subscription(), NOW_MS) {
        Verdict::No(refusal) => Considered::of(credential, refusal),
        Verdict::Usable | Verdict::Refresh { .. } => Considered::eligible(credential, None),
    };
    credentials.iter().map(one).collect()
}

#[test]
fn the_window_that_is_used_up_is_named() {
    let rests = vec![limit(18_000, "codex", NOW_MS + HOUR_MS), limit(604_800, "codex", NOW_MS + 9 * HOUR_MS)];
    let credential = Credential { rests, plan: Some("plus".into()), ..oauth() };
    let failure = overall(&subscription(), &Wanted::default(), &considered(&[credential]), NOW_MS);
    // Both windows must be over before a call goes through.
    assert_eq!((failure.reason, failure.resets_at), (Reason::UsageLimit, Some(NOW_S + 9 * 3600)));
    assert_eq!(failure.plan_type.as_deref(), Some("plus"));
    assert!(failure.message.contains("the usage limit of plan plus is reached (the 7 d window)"), "{failure}");
}

#[test]
fn what_comes_back_first_is_the_answer_and_what_is_dead_is_named() {
    let resting = Credential { rests: vec![limit(0, "", NOW_MS + HOUR_MS)], ..oauth() };
    let dead = Credential {
        label: "dead".into(),
        access_expires_at: Some(NOW_S),
        latch: Some(Latch { kind: LatchKind::NeedsLogin, detail: "spent".into() }),
        ..oauth()
    };
    let other_model =
        Credential { rests: vec![rest(RestKind::NotEntitled, Some("gpt-5.5"), NOW_MS + 1000)], ..oauth() };
    let failure = overall(
        &subscription(),
        &Wanted::default(),
        &considered(&[dead, resting.clone(), other_model, api_key()]),
        NOW_MS,
    );
    assert_eq!((failure.reason, failure.resets_at), (Reason::UsageLimit, Some(NOW_S + 3600)));
    assert!(failure.next_step.contains("credential dead needs a login"), "{}", failure.next_step);

    // A refresh that is tried again in a moment may bring a credential back long before the limit ends; one that nobody
    // can date may not.
    for (retry_at_ms, expected) in [
        (Some(NOW_MS + 2000), Reason::IdentityUnavailable),
        (Some(NOW_MS + 2 * HOUR_MS), Reason::UsageLimit),
        (None, Reason::UsageLimit),
    ] {
        let refusal = Refusal { retry_at_ms, ..Refusal::new(Why::RefreshFailed, "down") };
        let mut all = considered(std::slice::from_ref(&resting));
        all.push(Considered::of(&oauth(), refusal));
        let failure = overall(&subscription(), &Wanted::default(), &all, NOW_MS);
        assert_eq!(failure.reason, expected, "{failure}");
    }
}

proptest! {
    #![proptest_config(Cases { failure_persistence: None, ..Cases::default() })]

    /// When every credential that could be used rests, the caller is told of the rest that ends first, where a
    /// credential's own ends with the last of its limits; whatever else is beside them.
    #[test]
    fn the_earliest_reset_is_told(
        rests in prop::collection::vec(
            prop::collection::vec((prop::bool::ANY, 0i32..3, 1i64..10_000_000), 1..4), 1..5),
        beside in 0usize..4, at in 0usize..5,
    ) {
        let kind = |usage| if usage { RestKind::UsageLimit } else { RestKind::RateLimited };
        let credential = |rests: &Vec<(bool, i32, i64)>| Credential {
            rests: rests.iter().map(|(usage, window, ms)| Rest {
                window_s: window * 3600,
                ..rest(kind(*usage), (*window == 1).then_some("gpt-5.5"), NOW_MS + ms)
            }).collect(),
            ..oauth()
        };
        let mut all: Vec<Credential> = rests.iter().map(credential).collect();
        let latch = Some(Latch { kind: LatchKind::Ended, detail: "dead".into() });
        let others = [
            Credential { latch, ..oauth() },
            api_key(),
            Credential { issuer: None, ..oauth() },
            Credential { rests: vec![rest(RestKind::NotEntitled, None, NOW_MS + 1)], ..oauth() },
        ];
        all.insert(at % (all.len() + 1), others[beside].clone());
        let failure = overall(&subscription(), &Wanted::default(), &considered(&all), NOW_MS);
        let last = |rests: &Vec<(bool, i32, i64)>| rests.iter().map(|(_, _, ms)| *ms).max().unwrap_or_default();
        let first = rests.iter().map(last).min().unwrap_or_default();
        let wait = failure.retry_after_seconds.expect("a time");
        prop_assert!((wait - first as f64 / 1000.0).abs() < 1e-9, "{} {}", wait, first);
        match failure.reason {
            Reason::UsageLimit => prop_assert_eq!(failure.resets_at, Some((NOW_MS + first + 999) / 1000)),
            Reason::RateLimited => prop_assert_eq!(failure.resets_at, None),
            other => prop_assert!(false, "{}", other),
        }
    }
}

#[test]
fn a_usage_request_ends_or_moves_a_rest() {
    let until = NOW_MS + HOUR_MS;
    let at = |s: i64| NOW_MS + s * 1000;
    let full = |window_s, resets_in| told("codex", window_s, 100.0, Some(resets_in));
    let room = |window_s| told("codex", window_s, 3.0, Some(600));
    let h5 = || limit(18_000, "codex", until);
    let unknown = || limit(0, "", until);
    let special = || limit(18_000, "special", until);
    let moved = |window_s, s| Some(limit(window_s, "codex", at(s)));
    let table = [
        ("its window has room", h5(), vec![room(18_000), room(604_800)], Some(true), None),
        ("the same, without a verdict", h5(), vec![room(18_000)], None, None),
        ("its window is told no more", h5(), vec![room(604_800)], Some(true), None),
        ("and nobody says that calls are allowed", h5(), vec![room(604_800)], None, Some(h5())),
        ("it is full still and ends later", h5(), vec![full(18_000, 7200)], Some(false), moved(18_000, 7200)),
        ("or earlier", h5(), vec![full(18_000, 60)], Some(false), moved(18_000, 60)),
        ("a full window keeps its rest", h5(), vec![full(18_000, 60)], Some(true), moved(18_000, 60)),
        ("another window took over", h5(), vec![room(18_000), full(604_800, 9000)], Some(false), moved(604_800, 9000)),
        ("refused, and nothing says why", h5(), vec![room(18_000)], Some(false), Some(h5())),
        ("a reset that is over says nothing", h5(), vec![full(18_000, 0)], Some(false), Some(h5())),
        ("no window is known: calls are allowed", unknown(), vec![full(18_000, 60)], Some(true), None),
        (
            "no window is known: the last full one",
            unknown(),
            vec![full(18_000, 60), full(604_800, 90)],
            Some(false),
            moved(604_800, 90),
        ),
        ("no window is known, all have room", unknown(), vec![room(18_000), room(604_800)], None, None),
        ("nothing was told", unknown(), vec![], None, Some(unknown())),
        ("allowed is about the main limit only", special(), vec![room(18_000)], Some(true), Some(special())),
        ("a limit of its own", special(), vec![told("special", 18_000, 7.0, None)], Some(true), None),
        ("a month at most", h5(), vec![full(18_000, 99 * DAY)], Some(false), moved(18_000, 31 * DAY)),
    ];
    for (what, rest, windows, allowed, expected) in table {
        assert_eq!(corrected(&rest, &windows, allowed, NOW_MS), expected, "{what}");
    }
}

/// What is still shown of a window, `at_s` seconds after it was told: percent used and seconds to its reset.
fn shown(window: &Window, at_s: i64) -> Option<(f64, Option<i64>)> {
    let window = window.clone().at((NOW_S + at_s) * 1000)?;
    Some((window.used_percent, window.resets_at.map(|at| at - NOW_S - at_s)))
}

#[test]
fn a_window_is_empty_after_its_reset_and_forgotten_a_window_later() {
    let window = told("codex", 18_000, 42.0, Some(600));
    assert_eq!(shown(&window, 599), Some((42.0, Some(1))));
    assert_eq!(shown(&window, 600), Some((0.0, Some(0))), "nothing is used as far as we know");
    assert_eq!(shown(&window, 600 + 17_999), Some((0.0, Some(-17_999))));
    assert_eq!(shown(&window, 600 + 18_000), None, "it has ended once more, and nobody has told");
    let undated = told("codex", 18_000, 42.0, None);
    assert_eq!((shown(&undated, 17_999), shown(&undated, 18_000)), (Some((42.0, None)), None));
}
