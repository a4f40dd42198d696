//! A change of the database key.

use std::sync::atomic::{AtomicBool, Ordering};

use service_kit::SecretKey;

use super::tokens::refreshed;
use super::{Engine, NOW_S, api_key, login, named, put, refresh, tokens_of};

pub(super) async fn everything_opens_before_during_and_after(engine: &impl Engine) {
    let store = engine.open().await;
    let id = put(&store, &login("acct", "one", NOW_S)).await.id;
    put(&store, &api_key("sk-1")).await;
    let new = SecretKey::generate().expect("random");
    let old = store.key_id();
    // Access, refresh and two extras; an API key.
    assert_eq!(store.change_key(&new).await.expect("changed"), 5);
    assert!(store.key_id() == new.id() && old != new.id());
    assert_eq!(store.seal_leftovers().await.expect("swept"), 0, "there are none");
    store.forget_old_values().await;
    assert_eq!(tokens_of(&named(&store, "main").await), (Some("a-one"), Some("r-one")));
    assert_eq!(tokens_of(&named(&store, "main-2").await).0, Some("sk-1"));
    assert!(store.extra(&id).await.expect("read")["login_owner_id"] == "kept");
    assert_eq!(refresh(&store, "main", &refreshed("next")).await, 2);
    assert_eq!(tokens_of(&named(&store, "main").await), (Some("a-next"), Some("r-next")));
}

pub(super) async fn writers_go_on(engine: &impl Engine) {
    let store = engine.open().await;
    put(&store, &login("acct", "0", NOW_S)).await;
    let done = AtomicBool::new(false);
    let write = async {
        let mut version = 1;
        while !done.load(Ordering::SeqCst) || version < 10 {
            let tokens = refreshed(&version.to_string());
            version = refresh(&store, "main", &tokens).await;
        }
        version
    };
    let read = async {
        while !done.load(Ordering::SeqCst) {
            assert!(tokens_of(&named(&store, "main").await).1.is_some_and(|token| token.starts_with("r-")));
        }
    };
    let change = async {
        for _ in 0..5 {
            store.change_key(&SecretKey::generate().expect("random")).await.expect("changed");
            assert_eq!(store.seal_leftovers().await.expect("swept"), 0, "every writer seals after it has the writer");
        }
        done.store(true, Ordering::SeqCst);
    };
    let (version, (), ()) = tokio::join!(write, read, change);
    let now = named(&store, "main").await;
    assert_eq!((now.version, tokens_of(&now).1), (version, Some(format!("r-{}", version - 1).as_str())));
}

pub(super) async fn a_change_can_be_repeated(engine: &impl Engine) {
    let store = engine.open().await;
    put(&store, &login("acct", "one", NOW_S)).await;
    let new = SecretKey::generate().expect("random");
    assert_eq!(store.change_key(&new).await.expect("changed"), 3);
    assert_eq!(store.change_key(&new).await.expect("asked"), 0, "it has that key already");
    assert_eq!(store.key_id(), new.id());
    assert_eq!(tokens_of(&named(&store, "main").await).1, Some("r-one"));
}
