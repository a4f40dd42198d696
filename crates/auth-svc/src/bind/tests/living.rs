//! What a latch forbids, and what it does not.

use super::*;

#[test]
fn a_living_token_is_used_after_its_refresh_was_refused_for_good() {
    let latch = Some(Latch { kind: LatchKind::NeedsLogin, detail: "spent elsewhere".into() });
    let ends = |exp| Credential { access_expires_at: Some(exp), latch: latch.clone(), ..oauth() };
    let verdict = |credential: &Credential| judge(credential, None, &subscription(), NOW_MS);
    // The margin asks for a refresh, and there is none to come.
    for lives in [5 * DAY, 300, 60, 6] {
        assert_eq!(verdict(&ends(NOW_S + lives)), Verdict::Usable, "{lives} s");
    }
    for over in [5, 0, -DAY] {
        let Verdict::No(refusal) = verdict(&ends(NOW_S + over)) else { panic!("{over} s: it is over") };
        assert_eq!((refusal.reason, refusal.latch), (Why::NeedsLogin, Some(LatchKind::NeedsLogin)));
        assert!(refusal.detail.starts_with("spent elsewhere; log in again"), "{}", refusal.detail);
    }
    let notes = Notes::default();
    notes.rejected("id", 1);
    let rejected = judge(&ends(NOW_S + DAY), notes.get("id", 1).as_ref(), &subscription(), NOW_MS);
    assert!(matches!(rejected, Verdict::No(_)), "{rejected:?}");
    let resting = Credential { rests: vec![rest(RestKind::UsageLimit, None, NOW_MS + 1)], ..ends(NOW_S + DAY) };
    assert_eq!(reason(&resting, &subscription()), Some(Why::Resting), "it rests like any other");
    let state = |credential: &Credential| super::super::state(credential, None, IDENTITY, NOW_MS).name;
    assert_eq!((state(&ends(NOW_S + DAY)), state(&ends(NOW_S))), ("login_due", "needs_login"));
}

#[test]
fn a_rejected_login_is_refreshed_once_more_after_an_hour() {
    let latch = Some(Latch { kind: LatchKind::Rejected, detail: "401".into() });
    let refreshed = |ago| Credential { last_refresh: Some(NOW_S - ago), latch: latch.clone(), ..oauth() };
    let verdict = |credential: &Credential| judge(credential, None, &subscription(), NOW_MS);
    let Verdict::No(refusal) = verdict(&refreshed(10)) else { panic!("it rests") };
    let step = refusal.next_step.expect("one that works");
    assert!(
        step.contains("once more after 2030-03-17T18:46:30Z") && step.contains("credentials refresh main"),
        "{step}"
    );
    assert_eq!(verdict(&refreshed(3600)), Verdict::Refresh { alive: false });
    let borrowed = Credential { borrowed: true, ..refreshed(3600) };
    assert!(matches!(verdict(&borrowed), Verdict::No(_)), "nobody here may refresh it");
}
