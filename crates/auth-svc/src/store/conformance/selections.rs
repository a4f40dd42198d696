//! How credentials are chosen, and in which order.

use super::{Engine, NOW_S, login, put};
use crate::store::{Mode, NewCredential, Store};

const PROVIDER: &str = "openai-codex";

async fn filled(engine: &impl Engine) -> Store {
    let store = engine.open().await;
    for account in ["a", "b", "c"] {
        put(&store, &NewCredential { label: account.into(), ..login(account, account, NOW_S) }).await;
    }
    store
}

async fn labels(store: &Store) -> Vec<String> {
    let all = store.list_credentials(Some(PROVIDER)).await.expect("listed");
    all.into_iter().map(|one| one.label).collect()
}

pub(super) async fn an_order_is_kept_and_names_what_it_does_not_know(engine: &impl Engine) {
    let store = filled(engine).await;
    store.set_order(PROVIDER, &["c".into(), "a".into()]).await.expect("ordered");
    assert_eq!(labels(&engine.open().await).await, ["c", "a", "b"]);
    let unknown = store.set_order(PROVIDER, &["x".into()]).await.expect_err("unknown").to_string();
    assert!(unknown.contains("\"x\"") && unknown.contains("c, a, b"), "{unknown}");
}

pub(super) async fn an_operators_choice_lasts(engine: &impl Engine) {
    let store = filled(engine).await;
    assert_eq!(store.selection(PROVIDER).await.expect("read"), Mode::Session);
    assert!(store.selections().await.expect("read").is_empty(), "nobody has said so");
    store.set_order(PROVIDER, &["b".into()]).await.expect("ordered");
    assert_eq!(store.selection(PROVIDER).await.expect("read"), Mode::Order);
    store.select_by_session(PROVIDER).await.expect("chosen");
    let again = engine.open().await;
    assert_eq!(again.selections().await.expect("read").get(PROVIDER), Some(&Mode::Session));
    assert_eq!(labels(&again).await, ["b", "a", "c"], "the order stays beside it");
    let unknown = store.select_by_session("nobody").await.expect_err("unknown").to_string();
    assert!(unknown.contains("\"nobody\""), "{unknown}");
}

pub(super) async fn an_import_chooses_where_nobody_has(engine: &impl Engine) {
    let store = filled(engine).await;
    let import = async |labels: &[String], given| {
        let mut intake = store.intake().await.expect("begun");
        intake.order(PROVIDER, labels, given).await.expect("ordered");
        intake.finish(false).await.expect("stored");
    };
    import(&["b".into()], false).await;
    assert_eq!(
        (labels(&store).await[0].as_str(), store.selection(PROVIDER).await.expect("read")),
        ("b", Mode::Session)
    );
    import(&["c".into()], true).await;
    assert_eq!((labels(&store).await[0].as_str(), store.selection(PROVIDER).await.expect("read")), ("c", Mode::Order));
    store.select_by_session(PROVIDER).await.expect("chosen");
    import(&["a".into()], true).await;
    assert_eq!(store.selection(PROVIDER).await.expect("read"), Mode::Session, "an operator has said so here");
}
