//! A change of the database key, with several processes at one database.

use std::path::PathBuf;
use std::time::Duration;

use domain::Reason;
use service_kit::SecretKey;

use super::tokens::refreshed;
use super::{Begun, Engine, NOW_S, begin, intent, login, named, put, refresh, tokens_of};
use crate::database_key::KeySource;
use crate::store::{NewCredential, Secrets, Store};

/// A directory for the key file, and the file. What it holds before the first change nobody asks.
fn key_file() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("tempdir");
    let file = dir.path().join("database.key");
    (dir, file)
}

async fn open(engine: &impl Engine, source: &KeySource) -> Store {
    let store = engine.open().await;
    store.keys_from(source.clone());
    store
}

async fn change(source: &KeySource, store: &Store) -> String {
    source.change(store, Duration::ZERO).await.expect("changed").new
}

fn other(account: &str) -> NewCredential {
    NewCredential { label: account.into(), ..login(account, account, NOW_S) }
}

pub(super) async fn another_process_goes_on_under_the_new_key(engine: &impl Engine) {
    let (_dir, file) = key_file();
    let source = KeySource::File(file.clone());
    let (one, two) = (open(engine, &source).await, open(engine, &source).await);
    let id = put(&one, &login("acct", "one", NOW_S)).await.id;
    let old = named(&two, "main").await;
    let key = change(&source, &one).await;
    assert_eq!(SecretKey::read(&file).expect("a key").id(), key);
    // Reading.
    assert_ne!(two.key_id(), key, "nobody has told it");
    assert_eq!(tokens_of(&named(&two, "main").await), (Some("a-one"), Some("r-one")));
    assert_eq!(two.key_id(), key);
    // Lists, foreign fields and backups, each as the first thing that is asked for after a change.
    for _ in 0..2 {
        change(&source, &one).await;
        assert_eq!(tokens_of(&two.list_credentials(None).await.expect("listed")[0]).1, Some("r-one"));
        change(&source, &one).await;
        assert!(two.extra(&id).await.expect("read")["login_owner_id"] == "kept");
        change(&source, &one).await;
        let backup = two.snapshot().await.expect("read");
        assert_eq!(backup.credentials[0].text("refresh_token"), Some("r-one"));
    }
    // Refreshing what it has read before, and taking something in.
    change(&source, &one).await;
    let Begun::Taken(intent) = begin(&two, &old, "two").await else { panic!("it is free") };
    assert_eq!(two.store_refreshed(&intent, &refreshed("two"), None).await.expect("stored"), Some(2));
    let key = change(&source, &one).await;
    put(&two, &other("acct-2")).await;
    assert_eq!(two.key_id(), key);
    // All of it stands under the newest key: so the other one sees it, and a new process, which knows that key alone.
    assert_eq!(one.seal_leftovers().await.expect("swept"), 0);
    for store in [&one, &two] {
        assert_eq!(tokens_of(&named(store, "main").await), (Some("a-two"), Some("r-two")));
        assert_eq!(tokens_of(&named(store, "acct-2").await).1, Some("r-acct-2"));
    }
}

pub(super) async fn several_processes_change_it_in_turns(engine: &impl Engine) {
    let (_dir, file) = key_file();
    let source = KeySource::File(file.clone());
    let stores = [open(engine, &source).await, open(engine, &source).await, open(engine, &source).await];
    put(&stores[0], &login("acct", "0", NOW_S)).await;
    let work = async {
        for version in 1..20 {
            refresh(&stores[0], "main", &refreshed(&version.to_string())).await;
            let expected = format!("r-{version}");
            for store in &stores {
                assert_eq!(tokens_of(&named(store, "main").await).1, Some(expected.as_str()));
            }
        }
    };
    let turns = |store| {
        let source = source.clone();
        async move {
            for _ in 0..4 {
                // Another process's new key may stand there, not yet in its place.
                let _ = source.change(store, Duration::from_secs(60)).await;
            }
        }
    };
    tokio::join!(work, turns(&stores[1]), turns(&stores[2]));
    let key = change(&source, &stores[2]).await;
    assert_eq!(SecretKey::read(&file).expect("a key").id(), key, "the file has the database's key");
    assert_eq!(stores[0].seal_leftovers().await.expect("swept"), 0);
    assert_eq!(tokens_of(&named(&stores[1], "main").await).1, Some("r-19"));
}

pub(super) async fn nothing_is_spent_under_a_key_that_cannot_be_learned(engine: &impl Engine) {
    let (one, two) = (engine.open().await, engine.open().await);
    let (old, next) = (SecretKey::generate().expect("random"), SecretKey::generate().expect("random"));
    put(&one, &login("acct", "one", NOW_S)).await;
    // A variable of a process is what it was when the process began.
    two.keys_from(KeySource::Environment { key: old.clone(), next: None });
    let read = named(&two, "main").await;
    change(&KeySource::Environment { key: old, next: Some(next) }, &one).await;
    let refused = |error: crate::store::StoreError| {
        let failure = domain::Failure::from(error);
        let told = failure.message.contains("was changed by another process");
        assert!(failure.reason == Reason::StoreUnavailable && told, "{failure:?}");
        assert!(failure.next_step.contains("restart"), "{failure:?}");
    };
    refused(two.begin_refresh(&read, "client", "two", 1000).await.expect_err("it could not store the answer"));
    refused(two.upsert_credential(&other("acct-2"), false).await.expect_err("nobody could open it"));
    refused(two.credential_by_id(&read.id).await.expect_err("it is not undecryptable"));
    refused(two.list_credentials(None).await.expect_err("nor is it in a list"));
    refused(two.snapshot().await.expect_err("nor in a backup"));
    refused(two.check().await.expect_err("it is not ready"));
    let all = one.list_credentials(None).await.expect("listed");
    assert!(matches!(&all[..], [only] if matches!(only.secrets, Secrets::Present { .. })), "nothing came of it");
    assert!(!one.refresh_is_open(&read.id).await.expect("read"));
}

pub(super) async fn a_refresh_under_way_holds_a_change_up(engine: &impl Engine) {
    let (_dir, file) = key_file();
    let source = KeySource::File(file.clone());
    let (one, two) = (open(engine, &source).await, open(engine, &source).await);
    let old = put(&one, &login("acct", "one", NOW_S)).await;
    let key = one.key_id();
    let under_way = intent(&two, &old, "somebody").await;
    let failure = source.change(&one, Duration::ZERO).await.expect_err("it is refreshed");
    assert!(failure.message.contains("main") && failure.message.contains("somebody"), "{failure:?}");
    assert_eq!(one.key_id(), key);
    assert!(!file.exists() && !file.with_extension("key.next").exists(), "no key was made");
    // It waits.
    let (changed, stored) = tokio::join!(source.change(&one, Duration::from_secs(60)), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        two.store_refreshed(&under_way, &refreshed("two"), None).await
    });
    assert_eq!(stored.expect("stored"), Some(2));
    assert_eq!(changed.expect("changed").old, key);
    // One that was cut off holds nothing up after its deadline.
    let _ = intent(&two, &named(&two, "main").await, "gone").await;
    engine.clock().advance_ms(1001);
    change(&source, &one).await;
    assert_eq!(tokens_of(&named(&two, "main").await).1, Some("r-two"));
}

pub(super) async fn a_start_meanwhile_takes_no_key_away(engine: &impl Engine) {
    let (_dir, file) = key_file();
    let source = KeySource::File(file.clone());
    let (one, two) = (open(engine, &source).await, open(engine, &source).await);
    put(&one, &login("acct", "one", NOW_S)).await;
    let done = std::sync::atomic::AtomicBool::new(false);
    let start = async {
        while !done.load(std::sync::atomic::Ordering::SeqCst) {
            two.with_key(|in_force| source.settle(in_force)).await.expect("begun").expect("in order");
            tokio::task::yield_now().await;
        }
    };
    let changes = async {
        for _ in 0..10 {
            let key = change(&source, &one).await;
            assert_eq!(SecretKey::read(&file).expect("a key").id(), key);
        }
        done.store(true, std::sync::atomic::Ordering::SeqCst);
    };
    tokio::join!(start, changes);
    assert_eq!(tokens_of(&named(&two, "main").await).1, Some("r-one"));
}
