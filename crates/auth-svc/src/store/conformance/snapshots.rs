//! What a backup carries, and how it is taken in.

use std::collections::BTreeMap;

use super::keys::key;
use super::tokens::refreshed;
use super::{Engine, NOW_S, api_key, intent, login, named, put, refresh, tokens_of};
use crate::store::{Decided, NewCredential, Restored, Snapshot, Store, Taking};

pub(super) fn taking(same_database: bool) -> Taking<'static> {
    Taking { same_database, busy: &|_| false, dry_run: false }
}

pub(super) async fn snapshot(store: &Store) -> Snapshot {
    let taken = store.snapshot().await.expect("read");
    // As it travels.
    serde_json::from_str(&serde_json::to_string(&taken).expect("JSON")).expect("a snapshot")
}

pub(super) async fn restore(store: &Store, snapshot: &Snapshot, same_database: bool) -> Vec<(String, Decided)> {
    let restored = store.restore(snapshot, &taking(same_database)).await.expect("restored");
    restored.into_iter().map(|one: Restored| (one.name, one.decided)).collect()
}

pub(super) fn told(items: &[(&str, Decided)]) -> Vec<(String, Decided)> {
    items.iter().map(|(name, decided)| ((*name).to_owned(), *decided)).collect()
}

pub(super) async fn an_empty_database_takes_everything<E: Engine>(engine: &E) {
    let other = E::new().await;
    let (here, elsewhere) = (engine.open().await, other.open().await);
    for account in ["b", "a"] {
        put(&here, &NewCredential { label: account.into(), ..login(account, account, NOW_S) }).await;
    }
    here.set_order("openai-codex", &["a".into(), "b".into()]).await.expect("ordered");
    here.insert_agent_key(&key("one", 1)).await.expect("made");
    assert_ne!(here.database_id(), elsewhere.database_id());
    let backup = snapshot(&here).await;
    let all = |decided| told(&["a", "b", "one", "openai-codex"].map(|name| (name, decided)));
    assert_eq!(restore(&elsewhere, &backup, false).await, all(Decided::Created));
    let there = elsewhere.list_credentials(None).await.expect("listed");
    for (old, new) in here.list_credentials(None).await.expect("listed").iter().zip(&there) {
        assert_eq!((&old.id, &old.label, old.version), (&new.id, &new.label, new.version), "the order too");
        assert_eq!(tokens_of(old), tokens_of(new));
        assert!(new.unconfirmed && !old.unconfirmed);
        let (old, new) = (here.extra(&old.id).await, elsewhere.extra(&new.id).await);
        assert_eq!(old.expect("read"), new.expect("read"));
    }
    let found = elsewhere.agent_key_by_hash(&[1; 32]).await.expect("read").expect("there");
    assert_eq!((found.models.len(), found.expires_at), (1, Some(NOW_S + 60)), "its restrictions too");
    // Once more changes nothing.
    assert_eq!(restore(&elsewhere, &backup, false).await, all(Decided::Unchanged));
}

pub(super) async fn newer_tokens_stay<E: Engine>(engine: &E) {
    let other = E::new().await;
    let (here, elsewhere) = (engine.open().await, other.open().await);
    put(&here, &login("acct", "old", NOW_S)).await;
    let backup = snapshot(&here).await;
    // Elsewhere the same login stands under another id and name, refreshed since.
    put(&elsewhere, &NewCredential { label: "mine".into(), ..login("acct", "new", NOW_S + 60) }).await;
    assert_eq!(restore(&elsewhere, &backup, false).await, told(&[("mine", Decided::Kept)]));
    assert_eq!(tokens_of(&named(&elsewhere, "mine").await).1, Some("r-new"));
    // And the other way round it comes in, unconfirmed.
    refresh(&here, "main", &refreshed("newest")).await;
    assert_eq!(restore(&elsewhere, &snapshot(&here).await, false).await, told(&[("mine", Decided::Updated)]));
    let now = named(&elsewhere, "mine").await;
    assert_eq!((tokens_of(&now).1, now.unconfirmed, now.version), (Some("r-newest"), true, 2));
    // Nothing tells: what is here stays.
    put(&elsewhere, &NewCredential { access_expires_at: None, last_refresh: None, ..login("x", "one", 0) }).await;
    put(&here, &NewCredential { access_expires_at: None, last_refresh: None, ..login("x", "two", 0) }).await;
    assert!(restore(&elsewhere, &snapshot(&here).await, false).await.contains(&("main".into(), Decided::Kept)));
}

pub(super) async fn versions_tell_within_one_database<E: Engine>(engine: &E) {
    let store = engine.open().await;
    let id = put(&store, &login("acct", "one", NOW_S + 9999)).await.id;
    let older = snapshot(&store).await;
    refresh(&store, "main", &refreshed("two")).await;
    // Its expiry is later, its version is older: it is spent.
    assert_eq!(restore(&store, &older, true).await, told(&[("main", Decided::Kept)]));
    assert_eq!(tokens_of(&named(&store, "main").await).1, Some("r-two"));
    let newer = snapshot(&store).await;
    store.remove_credential(&id).await.expect("removed");
    // What is spent is known without its credential, too.
    assert_eq!(restore(&store, &older, true).await, told(&[("main", Decided::Skipped)]));
    // A copy of the database that has not seen the refresh.
    let copy = E::new().await.open().await;
    assert_eq!(restore(&copy, &older, true).await, told(&[("main", Decided::Created)]));
    for (store, decided) in [(&store, Decided::Created), (&copy, Decided::Updated)] {
        assert_eq!(restore(store, &newer, true).await, told(&[("main", decided)]));
        let now = named(store, "main").await;
        assert_eq!((now.version, tokens_of(&now).1, now.unconfirmed), (2, Some("r-two"), true));
    }
}

pub(super) async fn a_dry_run_changes_nothing<E: Engine>(engine: &E) {
    let other = E::new().await;
    let (here, elsewhere) = (engine.open().await, other.open().await);
    put(&here, &login("acct", "one", NOW_S)).await;
    let taking = Taking { dry_run: true, ..taking(false) };
    let told = elsewhere.restore(&snapshot(&here).await, &taking).await.expect("asked");
    assert_eq!(told[0].decided, Decided::Created);
    assert!(elsewhere.list_credentials(None).await.expect("listed").is_empty());
}

pub(super) async fn keys_stay_as_they_are_here<E: Engine>(engine: &E) {
    let other = E::new().await;
    let (here, elsewhere) = (engine.open().await, other.open().await);
    here.insert_agent_key(&key("one", 1)).await.expect("made");
    here.insert_agent_key(&key("two", 2)).await.expect("made");
    let backup = snapshot(&here).await;
    here.revoke_agent_key("one").await.expect("revoked");
    let kept = told(&[("one", Decided::Kept), ("two", Decided::Unchanged)]);
    assert_eq!(restore(&here, &backup, true).await, kept);
    let one = here.agent_key_by_hash(&[1; 32]).await.expect("read").expect("there");
    assert!(one.revoked_at.is_some(), "revoked here stays revoked");
    // Elsewhere the name is another key's.
    elsewhere.insert_agent_key(&key("two", 9)).await.expect("made");
    let renamed = told(&[("one", Decided::Created), ("two-2", Decided::Created)]);
    assert_eq!(restore(&elsewhere, &snapshot(&here).await, false).await, renamed);
    let one = elsewhere.agent_key_by_hash(&[1; 32]).await.expect("read").expect("there");
    assert!(one.revoked_at.is_some(), "a dead key comes in as a dead one");
}

pub(super) async fn labels_in_keys_follow<E: Engine>(engine: &E) {
    let other = E::new().await;
    let (here, elsewhere) = (engine.open().await, other.open().await);
    put(&here, &login("acct", "one", NOW_S)).await;
    // It may use the credential `main`, which is somebody else's elsewhere.
    here.insert_agent_key(&key("one", 1)).await.expect("made");
    put(&elsewhere, &login("other", "other", NOW_S)).await;
    restore(&elsewhere, &snapshot(&here).await, false).await;
    let found = elsewhere.agent_key_by_hash(&[1; 32]).await.expect("read").expect("there");
    assert_eq!(found.credentials, ["main-2"]);
    assert_eq!(tokens_of(&named(&elsewhere, "main-2").await).1, Some("r-one"));
}

pub(super) async fn what_an_older_version_does_not_know<E: Engine>(engine: &E) {
    let other = E::new().await;
    let (here, elsewhere) = (engine.open().await, other.open().await);
    put(&here, &login("acct", "one", NOW_S)).await;
    here.insert_agent_key(&key("one", 1)).await.expect("made");
    let mut json = serde_json::to_value(here.snapshot().await.expect("read")).expect("JSON");
    json["credentials"][0]["mood"] = "good".into();
    json["credentials"][0]["unused"] = serde_json::Value::Null;
    json["agent_keys"][0]["calls_per_fortnight"] = 3.into();
    let newer: Snapshot = serde_json::from_value(json).expect("a snapshot");
    let restored = elsewhere.restore(&newer, &taking(false)).await.expect("restored");
    let told: BTreeMap<&str, (Decided, &str)> =
        restored.iter().map(|one| (one.kind, (one.decided, one.detail.as_str()))).collect();
    let (decided, detail) = told["credential"];
    assert!(decided == Decided::Created && detail.ends_with(": mood"), "{detail}");
    let (decided, detail) = told["key"];
    // It may be a limit.
    assert!(decided == Decided::Skipped && detail.contains("calls_per_fortnight"), "{detail}");
}

pub(super) async fn api_keys_are_never_unconfirmed<E: Engine>(engine: &E) {
    let other = E::new().await;
    let (here, elsewhere) = (engine.open().await, other.open().await);
    put(&here, &api_key("sk-1")).await;
    put(&here, &NewCredential { borrowed: true, label: "lent".into(), ..login("acct", "one", NOW_S) }).await;
    restore(&elsewhere, &snapshot(&here).await, false).await;
    for one in elsewhere.list_credentials(None).await.expect("listed") {
        assert!(!one.unconfirmed, "{}: it has no refresh token of ours to lose", one.label);
    }
}

pub(super) async fn a_refresh_under_way_is_left_alone<E: Engine>(engine: &E) {
    let other = E::new().await;
    let (here, elsewhere) = (engine.open().await, other.open().await);
    put(&here, &login("acct", "newer", NOW_S + 60)).await;
    let old = put(&elsewhere, &login("acct", "one", NOW_S)).await;
    let under_way = intent(&elsewhere, &old, "somebody").await;
    let busy = |other: &str| other == old.id;
    let taking = Taking { same_database: false, busy: &busy, dry_run: false };
    let told = elsewhere.restore(&snapshot(&here).await, &taking).await.expect("restored");
    assert!(told[0].decided == Decided::Skipped && told[0].detail.contains("under way"), "{told:?}");
    // What it brings finds the version that it has spent.
    assert_eq!(elsewhere.store_refreshed(&under_way, &refreshed("next"), None).await.expect("stored"), Some(2));
}
