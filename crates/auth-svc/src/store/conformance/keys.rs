//! Agent keys.

use super::{Engine, NOW_S};
use crate::store::{Limits, NewAgentKey, NewSecret, Store};

/// A key whose hash is 32 times `hash`.
pub(super) fn key(name: &str, hash: u8) -> NewAgentKey {
    NewAgentKey {
        name: name.into(),
        agent: "main".into(),
        secret: NewSecret { prefix: "sbk_abcdefgh".into(), hash: [hash; 32] },
        models: vec!["codex/*".into()],
        credentials: vec!["main".into()],
        expires_at: Some(NOW_S + 60),
        limits: Limits::default(),
    }
}

async fn by_hash(store: &Store, hash: u8) -> crate::store::AgentKey {
    store.agent_key_by_hash(&[hash; 32]).await.expect("read").expect("there")
}

pub(super) async fn a_key_is_found_by_its_hash_until_it_is_revoked(engine: &impl Engine) {
    let store = engine.open().await;
    let made = store.insert_agent_key(&key("one", 1)).await.expect("made");
    let found = by_hash(&store, 1).await;
    assert_eq!((&found.id, &found.models, &found.credentials), (&made.id, &made.models, &made.credentials));
    assert_eq!((found.created_at, found.expires_at, found.revoked_at), (NOW_S, Some(NOW_S + 60), None));
    assert!(store.agent_key_by_hash(&[2; 32]).await.expect("read").is_none());
    store.revoke_agent_key("one").await.expect("revoked");
    assert_eq!(by_hash(&store, 1).await.revoked_at, Some(NOW_S), "it is known still, as a dead one");
    assert!(store.revoke_agent_key("one").await.is_err());
}

pub(super) async fn names_are_unique_among_live_keys(engine: &impl Engine) {
    let store = engine.open().await;
    let made = store.insert_agent_key(&key("one", 1)).await.expect("made");
    let taken = store.insert_agent_key(&key("one", 2)).await.expect_err("taken").to_string();
    assert!(taken.contains("\"one\""), "{taken}");
    store.revoke_agent_key(&made.id).await.expect("revoked by its id");
    store.insert_agent_key(&key("one", 2)).await.expect("the name is free again");
    assert_eq!(store.list_agent_keys().await.expect("listed").len(), 2);
}

pub(super) async fn uses_only_move_forward(engine: &impl Engine) {
    let store = engine.open().await;
    let made = store.insert_agent_key(&key("one", 1)).await.expect("made");
    for at in [NOW_S, NOW_S - 5] {
        store.mark_keys_used(&[(made.id.clone(), at), ("gone".into(), at)]).await.expect("noted");
    }
    assert_eq!(by_hash(&store, 1).await.last_used_at, Some(NOW_S));
}

pub(super) async fn limits_are_kept_and_a_rotation_keeps_the_key(engine: &impl Engine) {
    let (store, clock) = (engine.open().await, engine.clock());
    let limits = Limits { requests_per_minute: Some(1), concurrent_calls: Some(2), tokens_per_day: Some(3) };
    let made = store.insert_agent_key(&NewAgentKey { limits, ..key("one", 1) }).await.expect("made");
    clock.advance_ms(1000);
    let secret = |hash| NewSecret { prefix: "sbk_another_".into(), hash: [hash; 32] };
    let rotated = store.rotate_agent_key("one", &secret(2), 30).await.expect("rotated");
    assert_eq!((&rotated.id, rotated.limits, rotated.prefix.as_str()), (&made.id, limits, "sbk_another_"));
    assert_eq!((rotated.rotated_at, rotated.previous_until), (Some(NOW_S + 1), Some(NOW_S + 31)));
    for hash in [1, 2] {
        assert_eq!(by_hash(&store, hash).await.id, made.id, "both secrets are known");
    }
    store.rotate_agent_key(&made.id, &secret(3), 30).await.expect("rotated");
    assert!(store.agent_key_by_hash(&[1; 32]).await.expect("read").is_none(), "the one before that no longer is");
    assert!(store.rotate_agent_key("two", &secret(4), 30).await.is_err());
}
