//! Taking credentials in, ordering them, resting them.

use domain::Clock;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use service_kit::SecretKey;

use super::credentials::{Kind, NewCredential, RefreshedTokens, Secrets, Source, Upserted};
use super::{LatchKind, RestKind, Store, create};

const NOW_S: i64 = 1_900_000_000;

async fn store(dir: &tempfile::TempDir) -> (Store, Clock) {
    let clock = Clock::manual(NOW_S * 1000);
    let key = SecretKey::generate().expect("random");
    let store = create(&dir.path().join("t.db"), key, clock.clone(), async |_| Ok(())).await.expect("made");
    (store, clock)
}

fn login(account: &str, tokens: &str, expires_at: i64) -> NewCredential {
    let text = |kind: &str| Some(SecretString::from(format!("{kind}-{tokens}")));
    NewCredential {
        label: "main".into(),
        provider: "openai-codex".into(),
        kind: Kind::OAuth,
        issuer: Some("https://auth.openai.com".into()),
        client_id: None,
        account_id: Some(account.into()),
        email: Some("A@example.com".into()),
        plan: None,
        user_id: None,
        fedramp: false,
        source: Source::Codex,
        secrets: Secrets::Present { access: text("a"), refresh: text("r"), id_token: None, api_key: None },
        extra: json!({ "login_owner_id": "kept" }),
        access_expires_at: Some(expires_at),
        last_refresh: Some(NOW_S),
        borrowed: false,
        profile: Some("tokens".into()),
    }
}

#[tokio::test]
async fn the_same_login_has_no_twin_and_keeps_its_newest_tokens() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (store, _) = store(&dir).await;
    let upsert = async |new: &NewCredential| store.upsert_credential(new, false).await.expect("stored");
    let first = login("acct-1", "one", NOW_S + 100);
    assert_eq!(store.upsert_credential(&first, true).await.expect("dry").1, Upserted::Created);
    assert!(store.list_credentials(None).await.expect("listed").is_empty(), "a dry run changes nothing");
    assert_eq!(upsert(&first).await, ("main".into(), Upserted::Created));
    assert_eq!(upsert(&first).await, ("main".into(), Upserted::Unchanged));
    assert_eq!(upsert(&login("acct-2", "two", NOW_S)).await, ("main-2".into(), Upserted::Created));
    assert_eq!(upsert(&login("acct-1", "newer", NOW_S + 200)).await, ("main".into(), Upserted::Updated));
    assert_eq!(upsert(&first).await, ("main".into(), Upserted::KeptNewer));
    let stored = store.credential_by_label("main").await.expect("read").expect("there");
    assert_eq!((stored.version, stored.access_expires_at), (2, Some(NOW_S + 200)));
    assert_eq!(stored.secrets.refresh().map(ExposeSecret::expose_secret), Some("r-newer"));
    assert_eq!(store.extra(&stored.id).await.expect("read"), Some(json!({ "login_owner_id": "kept" })));
    let other_user = NewCredential { email: Some("b@example.com".into()), ..login("acct-1", "b", NOW_S) };
    assert_eq!(upsert(&other_user).await.1, Upserted::Created, "another user of the same account");
}

#[tokio::test]
async fn one_refresh_token_is_one_login_whatever_its_files_say() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (store, _) = store(&dir).await;
    let upsert = async |new: &NewCredential| store.upsert_credential(new, false).await.expect("stored");
    let named = login("acct", "one", NOW_S);
    let nameless = NewCredential {
        account_id: None,
        email: None,
        source: Source::OpenClaw,
        profile: Some("openai-codex:default".into()),
        ..named.clone()
    };
    assert_eq!(upsert(&nameless).await, ("main".into(), Upserted::Created));
    assert_eq!(upsert(&named).await, ("main".into(), Upserted::Updated));
    assert_eq!(store.list_credentials(None).await.expect("listed").len(), 1, "two of them would spend it twice");
}

#[tokio::test]
async fn what_could_not_be_opened_is_healed_and_never_the_reverse() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (store, _) = store(&dir).await;
    let sealed = Secrets::Undecryptable { detail: "no seed".into() };
    let closed = NewCredential { secrets: sealed, account_id: None, email: None, ..login("-", "-", 0) };
    let upsert = async |new: &NewCredential| store.upsert_credential(new, false).await.expect("stored").1;
    assert_eq!(upsert(&closed).await, Upserted::Created);
    assert_eq!(upsert(&closed).await, Upserted::Unchanged);
    assert_eq!(upsert(&login("acct", "open", NOW_S)).await, Upserted::Updated);
    assert_eq!(upsert(&closed).await, Upserted::KeptNewer);
    assert_eq!(store.list_credentials(None).await.expect("listed").len(), 1);
}

#[tokio::test]
async fn api_keys_are_the_same_by_the_key() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (store, _) = store(&dir).await;
    let key = |key: &str| NewCredential {
        kind: Kind::ApiKey,
        provider: "openai".into(),
        secrets: Secrets::Present { access: None, refresh: None, id_token: None, api_key: Some(key.into()) },
        ..login("acct", "-", 0)
    };
    let upsert = async |new: &NewCredential| store.upsert_credential(new, false).await.expect("stored").1;
    assert_eq!(upsert(&key("sk-1")).await, Upserted::Created);
    assert_eq!(upsert(&key("sk-2")).await, Upserted::Created);
    assert_eq!(upsert(&key("sk-1")).await, Upserted::Unchanged);
}

#[tokio::test]
async fn a_refresh_that_comes_too_late_changes_nothing() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (store, _) = store(&dir).await;
    store.upsert_credential(&login("acct", "one", NOW_S), false).await.expect("stored");
    let old = store.credential_by_label("main").await.expect("read").expect("there");
    store.latch(&old.id, 1, LatchKind::NeedsLogin, "dead").await.expect("latched");
    store.upsert_credential(&login("acct", "two", NOW_S + 9), false).await.expect("stored");
    let tokens = RefreshedTokens {
        access: Some("late".into()),
        refresh: None,
        id_token: None,
        access_expires_at: None,
        plan: None,
        email: None,
        recovery: false,
    };
    assert!(!store.store_refreshed(&old.id, 1, &tokens).await.expect("asked"));
    let now = store.credential_by_label("main").await.expect("read").expect("there");
    assert_eq!((now.version, now.latch), (2, None), "a new login lifts the latch of the old one");
    assert!(store.store_refreshed(&old.id, 2, &tokens).await.expect("asked"));
    let now = store.credential_by_label("main").await.expect("read").expect("there");
    assert_eq!(now.secrets.refresh().map(ExposeSecret::expose_secret), Some("r-two"), "what is absent is kept");
    assert_eq!(now.secrets.upstream().map(ExposeSecret::expose_secret), Some("late"));
}

#[tokio::test]
async fn order_and_rests() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (store, clock) = store(&dir).await;
    for account in ["a", "b", "c"] {
        let new = NewCredential { label: account.into(), ..login(account, account, NOW_S) };
        store.upsert_credential(&new, false).await.expect("stored");
    }
    store.set_order("openai-codex", &["c".into(), "a".into()]).await.expect("ordered");
    let list = async || store.list_credentials(Some("openai-codex")).await.expect("listed");
    let labels: Vec<String> = list().await.into_iter().map(|c| c.label).collect();
    assert_eq!(labels, ["c", "a", "b"]);
    let unknown = store.set_order("openai-codex", &["x".into()]).await.expect_err("unknown").to_string();
    assert!(unknown.contains("\"x\"") && unknown.contains("c, a, b"), "{unknown}");

    let id = &list().await[0].id;
    let rest = async || list().await[0].rests.first().map(|rest| rest.until_ms - clock.now_ms());
    let mut waits = Vec::new();
    for _ in 0..8 {
        store.back_off(id, Some("m"), 60_000).await.expect("rests");
        store.back_off(id, Some("m"), 60_000).await.expect("a report during the rest changes nothing");
        let wait = rest().await.expect("rests");
        waits.push(wait);
        clock.advance_ms(wait);
    }
    assert_eq!(waits, [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
    store.forget_ended_rests(id).await.expect("forgotten");
    store.back_off(id, Some("m"), 60_000).await.expect("rests");
    assert_eq!(rest().await, Some(1000), "after a success it starts anew");
    store.rest(id, None, RestKind::UsageLimit, clock.now_ms() + 9000).await.expect("rests");
    store.rest(id, None, RestKind::UsageLimit, clock.now_ms() + 5000).await.expect("rests");
    let longest = list().await[0].rests.iter().map(|rest| rest.until_ms - clock.now_ms()).max();
    assert_eq!(longest, Some(9000), "a rest never ends early");
}
