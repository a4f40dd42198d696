//! Whose a login is: spent tokens stay out, exports give it up, logins and imports take it back.

use secrecy::SecretString;
use serde_json::json;

use super::snapshots::taking;
use super::tokens::refreshed;
use super::{Engine, NOW_S, begin, login, named, put, refresh, tokens_of};
use crate::store::{
    Begun, Decided, LatchKind, NewCredential, RefreshedTokens, Secrets, Source, Store, TokenHash, Upserted,
};

pub(super) async fn a_spent_refresh_token_never_comes_back(engine: &impl Engine) {
    let store = engine.open().await;
    let upsert = async |new: &NewCredential| store.upsert_credential(new, false).await.expect("stored");
    let first = login("acct", "one", NOW_S + 100);
    assert_eq!(upsert(&first).await.1, Upserted::Created);
    let id = named(&store, "main").await.id;
    let brought = |refresh: Option<&str>| RefreshedTokens {
        refresh: refresh.map(SecretString::from),
        access_expires_at: Some(NOW_S + 50),
        ..refreshed("new")
    };
    // Neither a token that stays, nor one that is given again, is spent.
    refresh(&store, "main", &brought(None)).await;
    refresh(&store, "main", &brought(Some("r-one"))).await;
    assert!(store.spent_tokens(&id).await.expect("read").is_empty());
    refresh(&store, "main", &brought(Some("r-two"))).await;
    let one = TokenHash::of(&SecretString::from("r-one"));
    assert!(store.spent_tokens(&id).await.expect("read").contains(&one));
    // Its file claims a later expiry, and no account: the token alone proves it.
    let again =
        NewCredential { account_id: None, email: None, access_expires_at: Some(NOW_S + 9_000), ..first.clone() };
    assert_eq!(upsert(&again).await, ("main".into(), Upserted::KeptSpent));
    assert_eq!(tokens_of(&named(&store, "main").await).1, Some("r-two"));

    // What a newer login replaces is kept out likewise, and an access token alone replaces no login.
    assert_eq!(upsert(&login("acct", "three", NOW_S + 500)).await.1, Upserted::Updated);
    assert_eq!(upsert(&login("acct", "two", NOW_S + 9_000)).await.1, Upserted::KeptSpent);
    let alone = Secrets::Present { access: Some("a-x".into()), refresh: None, id_token: None, api_key: None };
    let alone = NewCredential { secrets: alone, ..login("acct", "-", NOW_S + 9_000) };
    assert_eq!(upsert(&alone).await.1, Upserted::KeptNewer);
    // Whoever forgets a credential does not forget this; the token that it held lives on.
    store.remove_credential(&id).await.expect("removed");
    assert_eq!(upsert(&first).await.1, Upserted::Spent);
    assert!(store.list_credentials(None).await.expect("listed").is_empty());
    let lent = NewCredential { borrowed: true, ..first.clone() };
    assert_eq!(upsert(&lent).await.1, Upserted::Created, "what is borrowed is never refreshed");
    assert_eq!(upsert(&first).await.1, Upserted::Spent, "and is not taken over by it");
    assert_eq!(upsert(&login("acct", "three", NOW_S + 500)).await.1, Upserted::Updated);
    assert_eq!(upsert(&first).await.1, Upserted::KeptSpent, "the login is back under another id");
    // What a logout has revoked does not come back either.
    let now = named(&store, "main").await;
    store.remove_revoked(&now.id, now.secrets.refresh().map(TokenHash::of)).await.expect("removed");
    assert_eq!(upsert(&login("acct", "three", NOW_S + 500)).await.1, Upserted::Spent);
    let ours = NewCredential { source: Source::Login, ..login("acct", "three", NOW_S + 500) };
    assert_eq!(upsert(&ours).await.1, Upserted::Created, "what the provider gives just now is alive");
}

pub(super) async fn a_backup_brings_no_spent_token_of_what_was_removed<E: Engine>(engine: &E) {
    let store = engine.open().await;
    let id = put(&store, &login("acct", "one", NOW_S + 100)).await.id;
    let early = store.snapshot().await.expect("read");
    let brought = RefreshedTokens { refresh: Some("r-two".into()), ..refreshed("new") };
    refresh(&store, "main", &brought).await;
    let late = store.snapshot().await.expect("read");
    store.remove_credential(&id).await.expect("removed");
    let restored = store.restore(&early, &taking(true)).await.expect("restored");
    assert!(restored[0].decided == Decided::Skipped && restored[0].detail.contains("spent"), "{restored:?}");
    // What was known of the removed one travels with the next backup.
    let after = store.snapshot().await.expect("read");
    let elsewhere = E::new().await.open().await;
    elsewhere.restore(&after, &taking(false)).await.expect("restored");
    assert_eq!(elsewhere.restore(&early, &taking(false)).await.expect("restored")[0].decided, Decided::Skipped);
    // The token that it held when it was removed may be good.
    let restored = store.restore(&late, &taking(true)).await.expect("restored");
    assert!(restored[0].decided == Decided::Created && restored[0].unconfirmed, "{restored:?}");
}

pub(super) async fn a_login_of_our_own_always_counts_and_keeps_the_way_back(engine: &impl Engine) {
    let store = engine.open().await;
    put(&store, &login("acct", "one", NOW_S + 900)).await;
    let ours = NewCredential {
        source: Source::Login,
        profile: None,
        extra: serde_json::Value::Null,
        last_refresh: Some(NOW_S - 9),
        ..login("acct", "two", NOW_S + 100)
    };
    let (_, what) = store.upsert_credential(&ours, false).await.expect("stored");
    assert_eq!(what, Upserted::Updated, "however short it lives");
    let now = named(&store, "main").await;
    assert_eq!((now.source, now.profile.as_deref()), (Source::Login, Some("tokens")));
    assert_eq!(store.extra(&now.id).await.expect("read"), json!({ "login_owner_id": "kept" }));
}

pub(super) async fn it_is_given_up_and_taken_back(engine: &impl Engine) {
    let (store, clock) = (engine.open().await, engine.clock());
    let new = login("acct", "one", NOW_S + 900);
    let id = put(&store, &new).await.id;
    store.mark_exported(std::slice::from_ref(&id)).await.expect("marked");
    clock.advance_ms(5_000);
    store.mark_exported(std::slice::from_ref(&id)).await.expect("marked");
    let now = named(&engine.open().await, "main").await;
    assert_eq!(now.exported_at, Some(NOW_S), "the first time counts");
    assert!(crate::refresh::can_refresh(&now, "https://auth.openai.com").is_err());
    let (_, what) = store.upsert_credential(&new, false).await.expect("stored");
    assert_eq!(what, Upserted::Updated, "the same tokens, and ours again");
    let now = named(&store, "main").await;
    assert_eq!((now.exported_at, now.version), (None, 1));
    assert!(crate::refresh::can_refresh(&now, "https://auth.openai.com").is_ok());
}

pub(super) async fn it_is_given_up_once_before_it_is_forgotten(engine: &impl Engine) {
    let store = engine.open().await;
    let id = put(&store, &login("acct", "one", NOW_S)).await.id;
    assert!(store.give_up(&id).await.expect("asked"));
    assert!(!store.give_up(&id).await.expect("asked"), "somebody has done so before");
    assert!(!store.give_up("nobody").await.expect("asked"));
    assert_eq!(named(&engine.open().await, "main").await.exported_at, Some(NOW_S));
    store.take_up(&id).await.expect("kept after all");
    assert_eq!(named(&engine.open().await, "main").await.exported_at, None);
    let seen = named(&store, "main").await;
    assert!(matches!(begin(&store, &seen, "somebody").await, Begun::Taken(_)), "it is refreshed here again");
}

pub(super) async fn nobody_begins_a_refresh_of_what_is_not_ours<E: Engine>(engine: &E) {
    let store = engine.open().await;
    let moved = async |store: &Store, label: &str| {
        let seen = named(store, label).await;
        matches!(begin(store, &seen, "somebody").await, Begun::Moved)
    };
    let lent = NewCredential { borrowed: true, label: "lent".into(), ..login("acct-2", "two", NOW_S) };
    put(&store, &lent).await;
    assert!(moved(&store, "lent").await, "borrowed");
    // What others have done to it after it was read counts, too.
    for taken in ["given up", "refused"] {
        let seen = put(&store, &NewCredential { label: taken.into(), ..login(taken, taken, NOW_S) }).await;
        match taken {
            "given up" => store.mark_exported(std::slice::from_ref(&seen.id)).await.expect("marked"),
            _ => assert!(store.latch(&seen.id, 1, LatchKind::NeedsLogin, "dead").await.expect("latched")),
        }
        assert!(matches!(begin(&store, &seen, "somebody").await, Begun::Moved), "{taken}");
    }
    let elsewhere = E::new().await.open().await;
    put(&store, &login("acct", "one", NOW_S)).await;
    elsewhere.restore(&store.snapshot().await.expect("read"), &taking(false)).await.expect("restored");
    assert!(moved(&elsewhere, "main").await, "unconfirmed");
    assert!(!moved(&store, "main").await, "and what is ours is begun");
}

pub(super) async fn whoever_plans_refreshes_is_told_of_every_change(engine: &impl Engine) {
    let store = engine.open().await;
    // What happened before this is of no interest.
    let told = async |what: &str| {
        let notified = tokio::time::timeout(std::time::Duration::from_secs(20), store.changed().notified());
        assert!(notified.await.is_ok(), "nobody is told of {what}");
    };
    let id = put(&store, &login("acct", "one", NOW_S)).await.id;
    told("what is taken in").await;
    refresh(&store, "main", &refreshed("two")).await;
    told("a refresh").await;
    store.confirm_credential(&id).await.expect("asked");
    told("a confirmation").await;
    let backup = store.snapshot().await.expect("read");
    store.restore(&backup, &taking(true)).await.expect("restored");
    told("a restore").await;
    store.mark_exported(std::slice::from_ref(&id)).await.expect("marked");
    told("an export").await;
    store.give_up(&id).await.expect("asked");
    told("what is given up").await;
}
