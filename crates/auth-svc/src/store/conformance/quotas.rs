//! Windows of quotas, as the provider told them.

use super::{Engine, NOW_S, login, named, put};
use crate::store::{Store, Window};

fn window(limit: &str, window_s: i32, used_percent: f64, observed_ms: i64) -> Window {
    let resets_at = Some(NOW_S + i64::from(window_s));
    Window { limit: limit.into(), window_s, used_percent, resets_at, name: None, observed_ms }
}

async fn of(store: &Store, id: &str) -> Vec<Window> {
    store.quotas().await.expect("read").remove(id).unwrap_or_default()
}

pub(super) async fn windows_are_known_by_limit_and_length(engine: &impl Engine) {
    let store = engine.open().await;
    let id = put(&store, &login("acct", "one", NOW_S)).await.id;
    let now = NOW_S * 1000;
    let (short, long) = (window("codex", 18_000, 10.0, now), window("codex", 604_800, 20.0, now));
    let other = Window { name: Some("Other".into()), ..window("other", 18_000, 30.0, now) };
    store.note_quota(&id, &[long.clone(), short.clone(), other.clone()]).await.expect("noted");
    assert_eq!(of(&store, &id).await, [short.clone(), other.clone(), long.clone()], "the shortest first");
    // One alone changes no other, and a name that is not told again stays.
    let more = window("other", 18_000, 31.0, now + 1);
    store.note_quota(&id, std::slice::from_ref(&more)).await.expect("noted");
    let named = Window { name: other.name, ..more };
    assert_eq!(of(&engine.open().await, &id).await, [short, named, long]);
    store.note_quota("nobody", &[window("codex", 18_000, 1.0, now)]).await.expect("of one that is gone");
    store.remove_credential(&id).await.expect("removed");
    assert!(store.quotas().await.expect("read").is_empty());
}

pub(super) async fn what_was_told_later_stays(engine: &impl Engine) {
    let store = engine.open().await;
    let id = put(&store, &login("acct", "one", NOW_S)).await.id;
    let now = NOW_S * 1000;
    for (percent, at_ms) in [(50.0, now), (40.0, now - 1)] {
        store.note_quota(&id, &[window("codex", 18_000, percent, at_ms)]).await.expect("noted");
    }
    assert_eq!(of(&store, &id).await, [window("codex", 18_000, 50.0, now)], "answers overtake each other");
    store.set_plan(&id, "pro").await.expect("noted");
    assert_eq!(named(&store, "main").await.plan.as_deref(), Some("pro"));
}

pub(super) async fn a_window_is_unused_after_its_reset_and_then_forgotten(engine: &impl Engine) {
    let (store, clock) = (engine.open().await, engine.clock());
    let id = put(&store, &login("acct", "one", NOW_S)).await.id;
    store.note_quota(&id, &[window("codex", 18_000, 50.0, NOW_S * 1000)]).await.expect("noted");
    clock.advance_ms(18_000 * 1000);
    assert_eq!(of(&store, &id).await.first().map(|window| window.used_percent), Some(0.0));
    clock.advance_ms(18_000 * 1000);
    assert!(of(&store, &id).await.is_empty(), "what came after the reset nobody has told");
}
