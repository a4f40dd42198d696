//! Tokens that keys have used, by UTC day.

use domain::{DAY_S, day_of};

use super::keys::key;
use super::{Engine, NOW_S};
use crate::store::{Store, Used};

/// Tokens that the one key has used on this day.
pub(super) async fn today(store: &Store) -> i64 {
    store.agent_key_by_hash(&[1; 32]).await.expect("read").expect("there").tokens_today
}

pub(super) async fn each_day_counts_for_itself(engine: &impl Engine) {
    let (stores, clock) = ([engine.open().await, engine.open().await], engine.clock());
    let id = stores[0].insert_agent_key(&key("one", 1)).await.expect("made").id;
    let used = |tokens, at| Used { key_id: id.clone(), tokens, at };
    stores[0].add_key_usage("batch-1", &[used(5, NOW_S), used(7, NOW_S - DAY_S), used(6, NOW_S)]).await.expect("added");
    stores[1].add_key_usage("batch-2", &[used(1, NOW_S)]).await.expect("added");
    assert_eq!((today(&stores[0]).await, today(&stores[1]).await), (12, 12));
    assert_eq!(stores[0].list_agent_keys().await.expect("listed")[0].tokens_today, 12);
    stores[0].add_key_usage("batch-3", &[used(100, NOW_S + DAY_S)]).await.expect("added");
    assert_eq!(today(&stores[0]).await, 112, "what is said to be of tomorrow is of a clock that is ahead");
    clock.advance_ms((day_of(NOW_S) + 1) * DAY_S * 1000 - NOW_S * 1000);
    assert_eq!(today(&stores[0]).await, 0, "from midnight, UTC");
}

/// Whoever counts it, and whenever it comes again: an auth-svc that was started again has not forgotten.
pub(super) async fn a_report_counts_once(engine: &impl Engine) {
    let (stores, clock) = ([engine.open().await, engine.open().await], engine.clock());
    let id = stores[0].insert_agent_key(&key("one", 1)).await.expect("made").id;
    let used = [Used { key_id: id, tokens: 5, at: NOW_S }];
    assert!(stores[0].add_key_usage("a", &used).await.expect("added"));
    assert!(!stores[0].add_key_usage("a", &used).await.expect("known"));
    assert!(!stores[1].add_key_usage("a", &used).await.expect("known"));
    let (first, second) = tokio::join!(stores[0].add_key_usage("b", &used), stores[1].add_key_usage("b", &used));
    assert!(first.expect("answered") != second.expect("answered"), "one of the two counts it");
    assert_eq!(today(&stores[0]).await, 10);
    clock.advance_ms(301_000);
    assert!(!stores[1].add_key_usage("a", &used).await.expect("known"), "as long as a gateway may send it");
}

pub(super) async fn a_count_of_a_key_that_is_not_there_is_passed_over(engine: &impl Engine) {
    let store = engine.open().await;
    let id = store.insert_agent_key(&key("one", 1)).await.expect("made").id;
    let used = |id: &str| Used { key_id: id.into(), tokens: 3, at: NOW_S };
    store.add_key_usage("batch-4", &[used("gone"), used(&id)]).await.expect("added");
    store.revoke_agent_key("one").await.expect("revoked");
    store.add_key_usage("batch-5", &[used(&id)]).await.expect("it may come late");
    assert_eq!(today(&store).await, 6);
}
