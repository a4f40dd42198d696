//! Several processes at one database.

use futures_util::future::join_all;

use super::tokens::refreshed;
use super::{Engine, NOW_S, intent, login, named, put, refresh, tokens_of, usage_limit};
use crate::store::NewCredential;

pub(super) async fn two_writers_lose_nothing(engine: &impl Engine) {
    let stores = [engine.open().await, engine.open().await];
    let writes = (0..40).map(|n| {
        let store = &stores[n % 2];
        async move {
            let account = format!("acct-{n}");
            put(store, &NewCredential { label: account.clone(), ..login(&account, &account, NOW_S) }).await
        }
    });
    join_all(writes).await;
    for store in &stores {
        let all = store.list_credentials(None).await.expect("listed");
        assert_eq!(all.len(), 40);
        assert!(all.iter().all(|one| one.secrets.refresh().is_some()));
    }
}

pub(super) async fn one_of_two_refreshes_wins(engine: &impl Engine) {
    let stores = [engine.open().await, engine.open().await];
    let old = put(&stores[0], &login("acct", "old", NOW_S)).await;
    let slow = intent(&stores[0], &old, "slow").await;
    engine.clock().advance_ms(1000);
    // Read again: whoever takes over knows that the slow one's request may have spent the token.
    let doubted = named(&stores[1], "main").await;
    let eager = intent(&stores[1], &doubted, "eager").await;
    let (one, two) = (refreshed("one"), refreshed("two"));
    let (first, second) =
        tokio::join!(stores[0].store_refreshed(&slow, &one, None), stores[1].store_refreshed(&eager, &two, None));
    let (first, second) = (first.expect("asked"), second.expect("asked"));
    assert!(first.is_some() != second.is_some(), "one of them is told that it came too late");
    let name = if first.is_some() { "one" } else { "two" };
    for store in &stores {
        let now = named(store, "main").await;
        assert_eq!(tokens_of(&now), (Some(format!("a-{name}").as_str()), Some(format!("r-{name}").as_str())));
        assert_eq!(now.version, 2);
    }
}

pub(super) async fn readers_see_whole_changes(engine: &impl Engine) {
    let stores = [engine.open().await, engine.open().await];
    put(&stores[0], &login("acct", "0", NOW_S)).await;
    let write = async {
        for version in 1..30 {
            refresh(&stores[0], "main", &refreshed(&version.to_string())).await;
        }
    };
    let read = async {
        for _ in 0..60 {
            let now = named(&stores[1], "main").await;
            let expected = (now.version - 1).to_string();
            assert_eq!(
                tokens_of(&now),
                (Some(format!("a-{expected}").as_str()), Some(format!("r-{expected}").as_str())),
                "version {}",
                now.version
            );
        }
    };
    tokio::join!(write, read);
}

pub(super) async fn a_dropped_transaction_leaves_nothing(engine: &impl Engine) {
    let store = engine.open().await;
    let old = put(&store, &login("acct", "one", NOW_S)).await;
    let intent = intent(&store, &old, "gone").await;
    {
        let tokens = refreshed("dropped");
        let refresh = store.store_refreshed(&intent, &tokens, None);
        // Polled once and let go, as by a caller that has gone away.
        let _ = futures_util::FutureExt::now_or_never(refresh);
    }
    store.rest(&old.id, &usage_limit(NOW_S * 1000, 5000)).await.expect("the writer is free again");
    assert_eq!(tokens_of(&named(&store, "main").await).1, Some("r-one"));
}
