//! Refreshes on record: intents, turns, doubt and failures.

use secrecy::SecretString;

use super::tokens::refreshed;
use super::{Engine, NOW_S, begin, intent, login, named, put, tokens_of};
use crate::store::{Begun, Doubt, LatchKind, NewCredential, RefreshFailure, RefreshedTokens, Store};

/// A refresh that brings these and nothing more.
fn brought(access: &str, refresh: Option<&str>) -> RefreshedTokens {
    RefreshedTokens {
        access: Some(access.into()),
        refresh: refresh.map(SecretString::from),
        access_expires_at: None,
        ..refreshed("-")
    }
}

async fn of_another_account(store: &Store) -> crate::store::Credential {
    put(store, &NewCredential { label: "b".into(), ..login("acct-2", "two", NOW_S) }).await
}

pub(super) async fn one_that_comes_too_late_changes_nothing(engine: &impl Engine) {
    let (store, clock) = (engine.open().await, engine.clock());
    let old = put(&store, &login("acct", "one", NOW_S)).await;
    let late = intent(&store, &old, "late").await;
    put(&store, &login("acct", "two", NOW_S + 9)).await;
    assert_eq!(store.store_refreshed(&late, &brought("late", None), None).await.expect("asked"), None);
    let now = named(&store, "main").await;
    assert_eq!((now.version, tokens_of(&now).1), (2, Some("r-two")));
    assert!(matches!(begin(&store, &old, "again").await, Begun::Moved), "its token is not here any more");
    // The intent of the login that was replaced holds up nothing.
    let next = intent(&store, &now, "next").await;
    clock.advance_ms(5);
    assert_eq!(store.store_refreshed(&next, &brought("new", None), None).await.expect("asked"), Some(3));
    assert_eq!(tokens_of(&named(&store, "main").await), (Some("new"), Some("r-two")), "what is absent is kept");
    store.remove_credential(&old.id).await.expect("removed");
    assert!(matches!(begin(&store, &now, "gone").await, Begun::Moved));
}

pub(super) async fn an_intent_is_held_until_its_deadline(engine: &impl Engine) {
    let (stores, clock) = ([engine.open().await, engine.open().await], engine.clock());
    let seen = put(&stores[0], &login("acct", "one", NOW_S)).await;
    let first = intent(&stores[0], &seen, "first").await;
    for store in &stores {
        match begin(store, &seen, "second").await {
            Begun::Held { same, owner, until_ms } => {
                assert_eq!((same, owner.as_str(), until_ms), (true, "first", clock.now_ms() + 1000));
            }
            other => panic!("{other:?}"),
        }
    }
    stores[0].extend_refresh(&first, 5000).await.expect("extended");
    clock.advance_ms(4999);
    assert!(matches!(begin(&stores[1], &seen, "second").await, Begun::Held { same: true, .. }));
    assert!(named(&stores[1], "main").await.refresh.doubt.is_none(), "it may still be answered");
    clock.advance_ms(1);
    let doubt = Some(Doubt { at_ms: first.started_ms, cause: None });
    assert_eq!(named(&stores[1], "main").await.refresh.doubt, doubt, "nobody stores its answer any more");
    let unaware = begin(&stores[1], &seen, "second").await;
    assert!(matches!(unaware, Begun::Doubted), "whoever does not know of it looks again: {unaware:?}");
    let seen = named(&stores[1], "main").await;
    assert_eq!(intent(&stores[1], &seen, "second").await.doubt, doubt, "whoever takes over is told");
    // The first one has lost it, and extends nothing.
    stores[0].extend_refresh(&first, 90_000).await.expect("asked");
    clock.advance_ms(1000);
    intent(&stores[0], &seen, "third").await;
}

pub(super) async fn an_answer_is_stored_whoever_holds_the_lease_now(engine: &impl Engine) {
    let (store, clock) = (engine.open().await, engine.clock());
    let seen = put(&store, &login("acct", "one", NOW_S)).await;
    let slow = intent(&store, &seen, "slow").await;
    clock.advance_ms(1000);
    let eager = intent(&store, &named(&store, "main").await, "eager").await;
    let doubt = Doubt { at_ms: slow.started_ms, cause: None };
    assert_eq!(eager.doubt, Some(doubt), "what the one before did with the token is not known");
    // The second request is refused, since the first one has spent the token. Its answer comes now.
    assert!(store.refuse_refresh(&eager, "reused", false).await.expect("latched"));
    assert!(named(&store, "main").await.latch.is_some());
    assert_eq!(store.store_refreshed(&slow, &brought("new", Some("r-new")), None).await.expect("stored"), Some(2));
    let now = named(&store, "main").await;
    assert_eq!((now.version, now.latch, now.refresh), (2, None, Default::default()));
    assert!(!store.refuse_refresh(&eager, "reused", false).await.expect("asked"), "nothing latches what came after");
    assert_eq!(named(&store, "main").await.latch, None);
}

pub(super) async fn one_token_request_for_each_client(engine: &impl Engine) {
    let (store, clock) = (engine.open().await, engine.clock());
    let (one, two) = (put(&store, &login("acct", "one", NOW_S)).await, of_another_account(&store).await);
    let first = intent(&store, &one, "first").await;
    assert!(matches!(begin(&store, &two, "second").await, Begun::Held { same: false, .. }));
    assert!(named(&store, "b").await.refresh.doubt.is_none(), "without the turn there is no intent either");
    assert!(matches!(store.begin_refresh(&two, "other client", "second", 1000).await, Ok(Begun::Taken(_))));
    store.extend_refresh(&first, 5000).await.expect("extended");
    clock.advance_ms(1500);
    // The turn is over, and another login goes on; the token is kept from others for longer.
    intent(&store, &named(&store, "b").await, "meanwhile").await;
    assert!(matches!(begin(&store, &one, "third").await, Begun::Held { same: true, .. }));
    // A clock that was put back by a day must not block anybody for a day.
    clock.advance_ms(-24 * 3_600_000);
    intent(&store, &named(&store, "main").await, "fourth").await;
}

pub(super) async fn every_end_frees_the_turn(engine: &impl Engine) {
    let store = engine.open().await;
    let (one, two) = (put(&store, &login("acct", "one", NOW_S)).await, of_another_account(&store).await);
    let failure = RefreshFailure { cause: "down".into(), next_ms: 7 };
    let lost = Doubt { at_ms: 5, cause: Some("cut".into()) };
    let first = intent(&store, &one, "first").await;
    store.end_refresh(&first, None, &failure).await.expect("ended");
    let second = intent(&store, &two, "second").await;
    store.end_refresh(&second, Some(&lost), &failure).await.expect("ended");
    let third = intent(&store, &one, "third").await;
    store.latch(&one.id, one.version, LatchKind::Rejected, "401").await.expect("latched");
    assert!(store.refuse_refresh(&third, "dead", false).await.expect("latched"));
    let latch = named(&store, "main").await.latch.expect("a latch");
    assert_eq!(latch.kind, LatchKind::Ended, "the upstream had rejected its access token");
    let fourth = intent(&store, &named(&store, "b").await, "fourth").await;
    assert_eq!(fourth.doubt, Some(lost));
    assert_eq!(store.store_refreshed(&fourth, &brought("new", None), None).await.expect("stored"), Some(2));
    intent(&store, &named(&store, "b").await, "fifth").await;
}

pub(super) async fn doubt_lasts_until_an_answer(engine: &impl Engine) {
    let store = engine.open().await;
    put(&store, &login("acct", "one", NOW_S)).await;
    let failure = RefreshFailure { cause: "down".into(), next_ms: 7 };
    let lost = Doubt { at_ms: 5, cause: Some("cut".into()) };
    let first = intent(&store, &named(&store, "main").await, "first").await;
    store.end_refresh(&first, Some(&lost), &failure).await.expect("ended");
    // Not closed: as after a kill.
    let again = engine.open().await;
    assert_eq!(named(&again, "main").await.refresh.doubt, Some(lost.clone()));
    let second = intent(&again, &named(&again, "main").await, "second").await;
    assert_eq!(second.doubt, Some(lost), "the first lost answer is the one that counts");
    again.store_refreshed(&second, &brought("new", Some("r-new")), None).await.expect("stored");
    assert_eq!(named(&store, "main").await.refresh, Default::default());
    // One without an answer that ends in a plain failure leaves no doubt.
    let third = intent(&again, &named(&again, "main").await, "third").await;
    again.end_refresh(&third, None, &failure).await.expect("ended");
    assert_eq!(named(&store, "main").await.refresh.doubt, None);
}

pub(super) async fn failures_count_for_their_token_and_outlive_a_restart(engine: &impl Engine) {
    let (store, clock) = (engine.open().await, engine.clock());
    put(&store, &login("acct", "one", NOW_S)).await;
    let failure = RefreshFailure { cause: "down".into(), next_ms: 7 };
    for owner in ["a", "b"] {
        let intent = intent(&store, &named(&store, "main").await, owner).await;
        clock.advance_ms(10);
        store.end_refresh(&intent, None, &failure).await.expect("ended");
    }
    let store = engine.open().await;
    let failing = named(&store, "main").await.refresh.failing.expect("failing");
    assert_eq!((failing.failures, failing.since_ms, failing.next_ms), (2, NOW_S * 1000 + 10, 7));
    assert_eq!(failing.cause, "down");
    // What a success brought may be of no use either: the count goes on.
    let third = intent(&store, &named(&store, "main").await, "c").await;
    let tokens = brought("new", Some("r-new"));
    assert_eq!(store.store_refreshed(&third, &tokens, Some(&failure)).await.expect("stored"), Some(2));
    let failures = async || named(&store, "main").await.refresh.failing.map(|failing| failing.failures);
    assert_eq!(failures().await, Some(3));
    put(&store, &login("acct", "two", NOW_S + 9)).await;
    assert_eq!(named(&store, "main").await.refresh, Default::default(), "a new login begins anew");
    let fourth = intent(&store, &named(&store, "main").await, "d").await;
    store.end_refresh(&fourth, None, &failure).await.expect("ended");
    assert_eq!(failures().await, Some(1));
    let fifth = intent(&store, &named(&store, "main").await, "e").await;
    store.store_refreshed(&fifth, &brought("newer", None), None).await.expect("stored");
    assert_eq!(failures().await, None, "a success ends it");
}

pub(super) async fn a_clock_that_was_ahead_is_healed(engine: &impl Engine) {
    const AHEAD_MS: i64 = 20 * 24 * 3_600_000;
    let (store, clock) = (engine.open().await, engine.clock());
    put(&store, &login("acct", "one", NOW_S)).await;
    clock.advance_ms(AHEAD_MS);
    let then = clock.now_ms();
    let failure = RefreshFailure { cause: "down".into(), next_ms: then + 300_000 };
    let lost = Doubt { at_ms: then, cause: Some("cut".into()) };
    let first = intent(&store, &named(&store, "main").await, "a").await;
    store.end_refresh(&first, Some(&lost), &failure).await.expect("ended");
    assert_eq!(named(&store, "main").await.refresh.ahead_ms, None, "by that clock it is now");
    clock.advance_ms(-AHEAD_MS);
    let now = clock.now_ms();
    let record = named(&store, "main").await.refresh;
    let failing = record.failing.expect("failing");
    assert_eq!((failing.since_ms, failing.next_ms), (now, now));
    assert_eq!((record.doubt.map(|doubt| doubt.at_ms), record.ahead_ms), (Some(now), Some(then + 300_000)));
    // The next failure mends what is on record, and a wait that can be is kept.
    let failure = RefreshFailure { cause: "down".into(), next_ms: now + 300_000 };
    let second = intent(&store, &named(&store, "main").await, "b").await;
    store.end_refresh(&second, None, &failure).await.expect("ended");
    clock.advance_ms(10);
    let record = named(&store, "main").await.refresh;
    let failing = record.failing.expect("failing");
    assert_eq!((failing.failures, failing.since_ms, failing.next_ms), (2, now, now + 300_000));
    assert_eq!(record.ahead_ms, None);
}
