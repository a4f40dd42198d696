//! Times in which a credential is not used.

use super::{Engine, NOW_S, login, named, put, usage_limit};
use crate::store::Rest;

pub(super) async fn backoff_doubles_and_starts_anew(engine: &impl Engine) {
    let (store, clock) = (engine.open().await, engine.clock());
    let id = put(&store, &login("acct", "one", NOW_S)).await.id;
    let rest = async || named(&store, "main").await.rests.first().map(|rest| rest.until_ms - clock.now_ms());
    let mut waits = Vec::new();
    for _ in 0..8 {
        store.back_off(&id, Some("m"), 60_000).await.expect("rests");
        store.back_off(&id, Some("m"), 60_000).await.expect("a report during the rest changes nothing");
        let wait = rest().await.expect("rests");
        waits.push(wait);
        clock.advance_ms(wait);
    }
    assert_eq!(waits, [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
    store.forget_ended_rests(&id).await.expect("forgotten");
    store.back_off(&id, Some("m"), 60_000).await.expect("rests");
    assert_eq!(rest().await, Some(1000), "after a success it starts anew");
}

pub(super) async fn a_rest_never_ends_early(engine: &impl Engine) {
    let (store, clock) = (engine.open().await, engine.clock());
    let id = put(&store, &login("acct", "one", NOW_S)).await.id;
    for wait in [9000, 5000] {
        store.rest(&id, &usage_limit(clock.now_ms(), wait)).await.expect("rests");
    }
    let rests = named(&store, "main").await.rests;
    assert_eq!(rests.iter().map(|rest| rest.until_ms - clock.now_ms()).max(), Some(9000));
    assert!(rests[0].covers("any", clock.now_ms()) && rests[0].model.is_none());
    clock.advance_ms(9000);
    assert!(named(&store, "main").await.rests.is_empty(), "what has ended is not read");
}

pub(super) async fn rests_go_with_their_credential(engine: &impl Engine) {
    let (store, clock) = (engine.open().await, engine.clock());
    let id = put(&store, &login("acct", "one", NOW_S)).await.id;
    let rest = async |id: &str| store.rest(id, &usage_limit(clock.now_ms(), 9000)).await;
    rest(&id).await.expect("rests");
    put(&store, &login("acct", "two", NOW_S + 9)).await;
    assert!(named(&store, "main").await.rests.is_empty(), "a new login may be of a new plan");
    rest("nobody").await.expect("a report about one that is gone changes nothing");
    store.remove_credential(&id).await.expect("removed");
    assert!(put(&store, &login("acct", "three", NOW_S)).await.rests.is_empty());
}

pub(super) async fn limits_of_several_windows_stand_beside_each_other(engine: &impl Engine) {
    let (store, clock) = (engine.open().await, engine.clock());
    let id = put(&store, &login("acct", "one", NOW_S)).await.id;
    let limit = |window_s, ms| Rest { model: Some("m".into()), window_s, ..usage_limit(clock.now_ms(), ms) };
    for (window_s, ms) in [(18_000, 9000), (18_000, 5000), (604_800, 7000)] {
        store.rest(&id, &limit(window_s, ms)).await.expect("rests");
    }
    store.back_off(&id, Some("m"), 60_000).await.expect("rests");
    let all = async || {
        let mut rests = named(&store, "main").await.rests;
        rests.sort_by_key(|rest| rest.window_s);
        rests
    };
    let known = all().await;
    let kept: Vec<i64> = known.iter().map(|rest| rest.until_ms - clock.now_ms()).collect();
    assert_eq!(kept, [1000, 9000, 7000], "a limit for each window, and none ends early");
    assert!(known[1].covers("m", clock.now_ms()) && !known[1].covers("other", clock.now_ms()));
    let moved = limit(604_800, 3000);
    let changes = [(known[1].clone(), None), (known[2].clone(), Some(moved.clone())), (limit(18_000, 1), None)];
    store.correct_rests(&id, &changes).await.expect("corrected");
    assert_eq!(all().await, [known[0].clone(), moved]);
    store.correct_rests(&id, &[(known[2].clone(), None)]).await.expect("corrected");
    assert_eq!(all().await.len(), 2, "one that is another by now stays");
}
