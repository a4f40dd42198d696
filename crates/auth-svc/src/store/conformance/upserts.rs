//! Taking credentials in, naming and ordering them.

use serde_json::json;

use super::{Engine, NOW_S, api_key, login, named, put, tokens_of};
use crate::store::{NewCredential, Secrets, Source, Upserted};

pub(super) async fn the_same_login_has_no_twin_and_keeps_its_newest_tokens(engine: &impl Engine) {
    let store = engine.open().await;
    let upsert = async |new: &NewCredential| store.upsert_credential(new, false).await.expect("stored");
    let first = login("acct-1", "one", NOW_S + 100);
    assert_eq!(store.upsert_credential(&first, true).await.expect("dry").1, Upserted::Created);
    assert!(store.list_credentials(None).await.expect("listed").is_empty(), "a dry run changes nothing");
    assert_eq!(upsert(&first).await, ("main".into(), Upserted::Created));
    assert_eq!(upsert(&first).await, ("main".into(), Upserted::Unchanged));
    assert_eq!(upsert(&login("acct-2", "two", NOW_S)).await, ("main-2".into(), Upserted::Created));
    assert_eq!(upsert(&login("acct-1", "newer", NOW_S + 200)).await, ("main".into(), Upserted::Updated));
    assert_eq!(upsert(&first).await, ("main".into(), Upserted::KeptSpent));
    let stored = named(&store, "main").await;
    assert_eq!((stored.version, stored.access_expires_at), (2, Some(NOW_S + 200)));
    assert_eq!(tokens_of(&stored), (Some("a-newer"), Some("r-newer")));
    assert_eq!(store.extra(&stored.id).await.expect("read"), json!({ "login_owner_id": "kept" }));
    let other_user = NewCredential { email: Some("b@example.com".into()), ..login("acct-1", "b", NOW_S) };
    assert_eq!(upsert(&other_user).await.1, Upserted::Created, "another user of the same account");
}

pub(super) async fn one_refresh_token_is_one_login_whatever_its_files_say(engine: &impl Engine) {
    let store = engine.open().await;
    let upsert = async |new: &NewCredential| store.upsert_credential(new, false).await.expect("stored");
    let known = login("acct", "one", NOW_S);
    let nameless = NewCredential {
        account_id: None,
        email: None,
        source: Source::OpenClaw,
        profile: Some("openai-codex:default".into()),
        ..known.clone()
    };
    assert_eq!(upsert(&nameless).await, ("main".into(), Upserted::Created));
    assert_eq!(upsert(&known).await, ("main".into(), Upserted::Updated));
    assert_eq!(store.list_credentials(None).await.expect("listed").len(), 1, "two of them would spend it twice");
}

pub(super) async fn what_could_not_be_opened_is_healed_and_never_the_reverse(engine: &impl Engine) {
    let store = engine.open().await;
    let sealed = Secrets::Undecryptable { detail: "no seed".into() };
    let closed = NewCredential { secrets: sealed, account_id: None, email: None, ..login("-", "-", 0) };
    let upsert = async |new: &NewCredential| store.upsert_credential(new, false).await.expect("stored").1;
    assert_eq!(upsert(&closed).await, Upserted::Created);
    assert_eq!(upsert(&closed).await, Upserted::Unchanged);
    assert_eq!(upsert(&login("acct", "open", NOW_S)).await, Upserted::Updated);
    assert_eq!(upsert(&closed).await, Upserted::KeptNewer);
    assert_eq!(store.list_credentials(None).await.expect("listed").len(), 1);
}

pub(super) async fn api_keys_are_the_same_by_the_key(engine: &impl Engine) {
    let store = engine.open().await;
    let upsert = async |new: &NewCredential| store.upsert_credential(new, false).await.expect("stored").1;
    assert_eq!(upsert(&api_key("sk-1")).await, Upserted::Created);
    assert_eq!(upsert(&api_key("sk-1")).await, Upserted::Unchanged);
    // Every auth.json calls its key the same: the label tells whose next key it is.
    let other = NewCredential { label: "other".into(), ..api_key("sk-2") };
    assert_eq!(upsert(&other).await, Upserted::Created);
    assert_eq!(upsert(&api_key("sk-3")).await, Upserted::Updated, "the next key of the same profile");
    let again = NewCredential { label: "third".into(), ..api_key("sk-3") };
    assert_eq!(upsert(&again).await, Upserted::Unchanged, "one key has one name");
    // OpenClaw's profiles have names of their own.
    let profile = |key: &str, profile: &str| NewCredential {
        source: Source::OpenClaw,
        profile: Some(profile.into()),
        label: profile.into(),
        ..api_key(key)
    };
    assert_eq!(upsert(&profile("sk-4", "openai:default")).await, Upserted::Created);
    assert_eq!(upsert(&profile("sk-5", "openai:work")).await, Upserted::Created);
    assert_eq!(upsert(&profile("sk-6", "openai:default")).await, Upserted::Updated);
    assert_eq!(named(&store, "openai:default").await.version, 2);
    assert_eq!(store.list_credentials(None).await.expect("listed").len(), 4);
}

pub(super) async fn labels_and_ids_name_a_credential(engine: &impl Engine) {
    let store = engine.open().await;
    let stored = put(&store, &login("acct", "one", NOW_S)).await;
    for name in [&stored.id, &stored.label] {
        assert_eq!(store.credential_named(name).await.expect("found").id, stored.id);
    }
    put(&store, &api_key("sk-1")).await;
    for (provider, count) in [(None, 2), (Some("openai-codex"), 1), (Some("openai"), 1), (Some("nobody"), 0)] {
        assert_eq!(store.list_credentials(provider).await.expect("listed").len(), count, "{provider:?}");
    }
    let unknown = store.credential_named("other").await.expect_err("unknown").to_string();
    assert!(unknown.contains("\"other\""), "{unknown}");
    store.remove_credential(&stored.id).await.expect("removed");
    assert!(store.credential_by_id(&stored.id).await.expect("read").is_none());
    store.remove_credential(&stored.id).await.expect("removing what is gone changes nothing");
}

pub(super) async fn what_is_not_finished_did_not_happen(engine: &impl Engine) {
    let store = engine.open().await;
    for finished in [false, true] {
        let mut intake = store.intake().await.expect("begun");
        let one = intake.take(&login("a", "a", NOW_S)).await.expect("taken");
        let two = intake.take(&login("b", "b", NOW_S)).await.expect("taken");
        assert_eq!((one.0.as_str(), two.0.as_str()), ("main", "main-2"));
        assert_eq!(intake.credentials().await.expect("read").len(), 2, "it sees its own");
        intake.order("openai-codex", &["main-2".into(), "main".into()], true).await.expect("ordered");
        assert!(store.list_credentials(None).await.expect("listed").is_empty(), "nobody else does yet");
        if finished {
            intake.finish(false).await.expect("stored");
        } else {
            drop(intake);
        }
    }
    let all = store.list_credentials(None).await.expect("listed");
    assert_eq!(all.iter().map(|one| one.label.as_str()).collect::<Vec<_>>(), ["main-2", "main"]);
}
