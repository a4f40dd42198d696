//! What may come from memory is what the database holds.

use super::{Engine, NOW_S, login, put, usage_limit};
use crate::store::{LatchKind, Mode, Store};

const PROVIDER: &str = "openai-codex";

async fn seen(store: &Store) -> Vec<(String, bool, usize)> {
    let all = store.recent_credentials(Some(PROVIDER)).await.expect("read");
    let listed = store.list_credentials(Some(PROVIDER)).await.expect("listed");
    assert_eq!(all.len(), listed.len());
    all.into_iter().map(|one| (one.label.clone(), one.latch.is_some(), one.rests.len())).collect()
}

pub(super) async fn another_processs_write_is_seen_at_once(engine: &impl Engine) {
    let (here, there) = (engine.open().await, engine.open().await);
    for round in 0..20 {
        let label = format!("a{round}");
        let new = crate::store::NewCredential { label: label.clone(), ..login(&label, &label, NOW_S) };
        assert_eq!(seen(&here).await.len(), round);
        let one = put(&there, &new).await;
        assert!(seen(&here).await.iter().any(|(seen, latched, _)| *seen == one.label && !latched));
        there.latch(&one.id, one.version, LatchKind::Rejected, "rejected").await.expect("latched");
        assert!(seen(&here).await.iter().any(|(seen, latched, _)| *seen == one.label && *latched));
        there.rest(&one.id, &usage_limit(engine.clock().now_ms(), 9000)).await.expect("rests");
        assert!(seen(&here).await.iter().any(|(seen, _, rests)| *seen == one.label && *rests == 1));
    }
    assert_eq!(here.recent_credentials(None).await.expect("read").len(), 20);
}

pub(super) async fn an_operators_choice_is_seen_at_once(engine: &impl Engine) {
    let (here, there) = (engine.open().await, engine.open().await);
    put(&here, &login("acct", "one", NOW_S)).await;
    for _ in 0..3 {
        there.set_order(PROVIDER, &["main".into()]).await.expect("ordered");
        assert_eq!(here.recent_selection(PROVIDER).await.expect("read"), Mode::Order);
        assert_eq!(seen(&here).await.len(), 1);
        there.select_by_session(PROVIDER).await.expect("chosen");
        assert_eq!(here.recent_selection(PROVIDER).await.expect("read"), Mode::Session);
    }
}
