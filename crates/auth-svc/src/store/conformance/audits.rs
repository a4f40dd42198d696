//! The audit log.

use domain::DAY_S;

use super::{Engine, NOW_S};
use crate::store::AuditEntry;

pub(super) async fn the_newest_come_first_and_filters_hold(engine: &impl Engine) {
    let store = engine.open().await;
    let entry = |at_ms: i64, act: &str| AuditEntry {
        at_ms,
        actor: "uid 1".into(),
        act: act.into(),
        subject: "s".into(),
        outcome: "ok".into(),
        detail: String::new(),
    };
    let (first, second, third) =
        (entry(NOW_S, "key.create"), entry(NOW_S + 1, "credential.remove"), entry(NOW_S + 2, "key.revoke"));
    for one in [&first, &second, &third] {
        store.insert_audit(one).await.expect("written");
    }
    let list = async |since, act: &str, limit| store.list_audit(since, act, limit).await.expect("read");
    assert_eq!(list(0, "", 10).await, [third.clone(), second.clone(), first.clone()]);
    assert_eq!(list(0, "", 1).await, std::slice::from_ref(&third));
    assert_eq!(list(0, "key.", 10).await, [third.clone(), first]);
    assert_eq!(list(NOW_S + 1, "", 10).await, [third, second]);
    assert!(list(0, "%", 10).await.is_empty(), "it is no pattern");
}

pub(super) async fn what_is_old_is_forgotten_in_time(engine: &impl Engine) {
    let store = engine.open().await;
    let entry = |at_ms: i64| AuditEntry {
        at_ms,
        actor: String::new(),
        act: "key.create".into(),
        subject: String::new(),
        outcome: "ok".into(),
        detail: String::new(),
    };
    let old = entry(NOW_S * 1000 - 401 * DAY_S * 1000);
    store.insert_audit(&old).await.expect("written");
    for _ in 0..200 {
        store.insert_audit(&entry(NOW_S * 1000)).await.expect("written");
    }
    let kept = store.list_audit(0, "", 1000).await.expect("read");
    assert!(kept.len() == 200 && !kept.contains(&old), "{}", kept.len());
}
