//! Where requests of accounts must go.

use super::{Engine, NOW_S, login, named, put};
use crate::store::{NewCredential, Workspace};

const NOW_MS: i64 = NOW_S * 1000;

pub(super) async fn what_was_told_stays_when_it_cannot_be_asked(engine: &impl Engine) {
    let store = engine.open().await;
    let main = put(&store, &login("acct", "1", NOW_S)).await;
    assert_eq!(main.workspace, None, "nobody has asked");
    store.miss_workspace("acct", "status 500", NOW_MS + 5).await.expect("noted");
    let known = named(&store, "main").await.workspace.expect("asked");
    assert_eq!((known.learned_ms, known.failures, known.next_ms), (None, 1, NOW_MS + 5));
    store.learn_workspace("acct", Some("https://eu.example"), Some("us"), NOW_MS + 9).await.expect("noted");
    store.miss_workspace("acct", "cut", NOW_MS + 20).await.expect("noted");
    let expected = Workspace {
        origin: Some("https://eu.example".into()),
        routing: Some("us".into()),
        learned_ms: Some(NOW_MS),
        problem: Some("cut".into()),
        failures: 1,
        next_ms: NOW_MS + 20,
    };
    assert_eq!(named(&engine.open().await, "main").await.workspace, Some(expected));
    store.learn_workspace("acct", None, None, NOW_MS + 30).await.expect("noted");
    let known = named(&store, "main").await.workspace.expect("known");
    assert_eq!((known.origin, known.routing, known.problem, known.failures), (None, None, None, 0));
}

pub(super) async fn it_is_the_accounts_and_one_asks(engine: &impl Engine) {
    let (store, twin) = (engine.open().await, engine.open().await);
    put(&store, &login("acct", "1", NOW_S)).await;
    let other = NewCredential {
        label: "other".into(),
        email: Some("b@example.com".into()),
        user_id: Some("u2".into()),
        profile: None,
        ..login("acct-2", "2", NOW_S)
    };
    put(&store, &other).await;
    assert!(!store.claim_workspace("acct").await.expect("asked"), "whoever binds it first asks");
    store.learn_workspace("acct", None, Some("us_cr"), NOW_MS + 1000).await.expect("noted");
    assert_eq!(named(&store, "other").await.workspace, None, "of another account");
    assert!(!store.claim_workspace("acct").await.expect("asked"), "it is not due");
    engine.clock().advance_ms(1000);
    let claims = [store.claim_workspace("acct").await, twin.claim_workspace("acct").await];
    assert_eq!(claims.into_iter().filter(|claim| matches!(claim, Ok(true))).count(), 1);
    let main = named(&store, "main").await;
    store.remove_credential(&main.id).await.expect("removed");
    assert_eq!(
        put(&store, &login("acct", "3", NOW_S + 9)).await.workspace,
        None,
        "it goes with the last of its credentials"
    );
}
