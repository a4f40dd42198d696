//! What refreshes, latches and confirmations do to a credential, and that it lasts.

use secrecy::SecretString;
use serde_json::json;

use super::{Engine, NOW_S, intent, login, named, put, refresh, tokens_of};
use crate::store::{Intent, LatchKind, NewCredential, RefreshedTokens, Secrets};

/// What a refresh brings: the tokens `a-<name>` and `r-<name>`.
pub(super) fn refreshed(name: &str) -> RefreshedTokens {
    RefreshedTokens {
        access: Some(SecretString::from(format!("a-{name}"))),
        refresh: Some(SecretString::from(format!("r-{name}"))),
        id_token: None,
        access_expires_at: Some(NOW_S + 3600),
        plan: None,
        email: None,
        recovery: false,
    }
}

pub(super) async fn a_late_refresh_changes_nothing(engine: &impl Engine) {
    let store = engine.open().await;
    let old = put(&store, &login("acct", "one", NOW_S)).await;
    let late = intent(&store, &old, "late").await;
    store.latch(&old.id, 1, LatchKind::NeedsLogin, "dead").await.expect("latched");
    put(&store, &login("acct", "two", NOW_S + 9)).await;
    assert_eq!(store.store_refreshed(&late, &refreshed("late"), None).await.expect("asked"), None);
    let now = named(&store, "main").await;
    assert_eq!((now.version, &now.latch), (2, &None), "a new login lifts the latch of the old one");
    assert_eq!(tokens_of(&now), (Some("a-two"), Some("r-two")));
    let nobodys = Intent { id: "nobody".into(), ..late };
    assert_eq!(store.store_refreshed(&nobodys, &refreshed("late"), None).await.expect("asked"), None);
}

pub(super) async fn what_a_refresh_leaves_out_is_kept(engine: &impl Engine) {
    let store = engine.open().await;
    put(&store, &login("acct", "one", NOW_S)).await;
    let access_only = RefreshedTokens { refresh: None, plan: Some("pro".into()), ..refreshed("next") };
    refresh(&store, "main", &access_only).await;
    let now = named(&store, "main").await;
    assert_eq!(tokens_of(&now), (Some("a-next"), Some("r-one")));
    assert_eq!((now.version, now.access_expires_at, now.plan.as_deref()), (2, Some(NOW_S + 3600), Some("pro")));
    let refresh_only = RefreshedTokens { access: None, access_expires_at: None, ..refreshed("third") };
    refresh(&store, "main", &refresh_only).await;
    let now = named(&store, "main").await;
    assert_eq!(tokens_of(&now), (Some("a-next"), Some("r-third")));
    assert_eq!((now.access_expires_at, now.plan.as_deref()), (Some(NOW_S + 3600), Some("pro")));
}

pub(super) async fn a_latch_is_of_its_version(engine: &impl Engine) {
    let store = engine.open().await;
    let old = put(&store, &login("acct", "one", NOW_S)).await;
    assert!(!store.latch(&old.id, 7, LatchKind::Rejected, "other").await.expect("asked"));
    assert!(store.latch(&old.id, 1, LatchKind::Rejected, "401").await.expect("latched"));
    let latch = named(&store, "main").await.latch.expect("a latch");
    assert_eq!((latch.kind, latch.detail.as_str()), (LatchKind::Rejected, "401"));
    refresh(&store, "main", &refreshed("next")).await;
    assert_eq!(named(&store, "main").await.latch, None);
    // A rejection of one whose refresh was refused for good is its end, and the refusal stays the cause.
    store.latch(&old.id, 2, LatchKind::NeedsLogin, "dead").await.expect("latched");
    for _ in 0..2 {
        store.latch(&old.id, 2, LatchKind::Rejected, "401").await.expect("latched");
        let latch = named(&store, "main").await.latch.expect("a latch");
        assert_eq!(latch.kind, LatchKind::Ended);
        assert!(latch.detail.starts_with("dead; ") && latch.detail.contains("(401)"), "{}", latch.detail);
    }
}

pub(super) async fn a_confirmation_lifts_what_only_a_refresh_can_end<E: Engine>(engine: &E) {
    let other = E::new().await;
    let (here, elsewhere) = (engine.open().await, other.open().await);
    let old = put(&here, &login("acct", "one", NOW_S)).await;
    let taking = super::snapshots::taking(false);
    elsewhere.restore(&here.snapshot().await.expect("read"), &taking).await.expect("restored");
    assert!(named(&elsewhere, "main").await.unconfirmed);
    for (kind, lifted) in [(LatchKind::NeedsLogin, false), (LatchKind::Rejected, true)] {
        elsewhere.latch(&old.id, 1, kind, "why").await.expect("latched");
        let before = named(&elsewhere, "main").await;
        assert_eq!(elsewhere.confirm_credential(&old.id).await.expect("asked"), before.unconfirmed);
        let after = named(&elsewhere, "main").await;
        assert_eq!((after.unconfirmed, after.latch.is_none()), (false, lifted && before.unconfirmed));
        // The next round begins unconfirmed again.
        elsewhere.remove_credential(&old.id).await.expect("removed");
        elsewhere.restore(&here.snapshot().await.expect("read"), &taking).await.expect("restored");
    }
    // The same tokens may come from a file as old as the backup; newer ones say the same as a confirmation.
    put(&elsewhere, &login("acct", "one", NOW_S)).await;
    assert!(named(&elsewhere, "main").await.unconfirmed);
    put(&elsewhere, &login("acct", "two", NOW_S + 1)).await;
    assert!(!named(&elsewhere, "main").await.unconfirmed);
}

pub(super) async fn everything_survives_a_reopening(engine: &impl Engine) {
    let store = engine.open().await;
    let old = put(&store, &login("acct", "one", NOW_S)).await;
    refresh(&store, "main", &refreshed("next")).await;
    store.latch(&old.id, 2, LatchKind::NeedsLogin, "dead").await.expect("latched");
    let (database, key) = (store.database_id().to_owned(), store.key_id());
    store.check().await.expect("it takes writes");
    // Not closed: as after a kill.
    let again = engine.open().await;
    let now = named(&again, "main").await;
    assert_eq!(tokens_of(&now), (Some("a-next"), Some("r-next")));
    assert_eq!((now.id, now.version, now.latch.is_some()), (old.id, 2, true));
    assert_eq!((again.database_id(), again.key_id()), (database.as_str(), key));
}

pub(super) async fn no_debug_output_shows_a_secret(engine: &impl Engine) {
    let store = engine.open().await;
    let secret = || Some(SecretString::from("hunter2"));
    let secrets = Secrets::Present { access: secret(), refresh: secret(), id_token: secret(), api_key: secret() };
    // What we do not know of a foreign file may be a secret, too.
    let new = NewCredential { secrets, extra: json!({ "other_token": "hunter2" }), ..login("acct-1", "x", NOW_S) };
    let stored = put(&store, &new).await;
    let refreshed = RefreshedTokens { access: secret(), refresh: secret(), id_token: secret(), ..refreshed("hunter2") };
    let tokens = crate::refresh::Tokens { access: secret(), refresh: secret(), id_token: secret(), expires_in: None };
    for text in [
        format!("{new:?}"),
        format!("{stored:?}"),
        format!("{refreshed:?}"),
        format!("{tokens:?}"),
        format!("{:?}", stored.secrets),
        format!("{store:?}"),
        format!("{:?}", store.snapshot().await.expect("read")),
    ] {
        assert!(!text.contains("hunter2") && !text.contains("104, 117"), "{text}");
    }
}

pub(super) async fn a_closed_database_takes_nothing_more_and_has_everything(engine: &impl Engine) {
    let store = engine.open().await;
    put(&store, &login("acct", "one", NOW_S)).await;
    store.check_open().await.expect("it could be written");
    store.close().await;
    assert!(store.check_open().await.is_err() && store.list_credentials(None).await.is_err());
    let again = engine.open().await;
    assert_eq!(tokens_of(&named(&again, "main").await), (Some("a-one"), Some("r-one")));
    again.check().await.expect("it takes writes");
    again.check_now().await.expect("it still does");
    assert!(store.check_now().await.is_err(), "what was asked a moment ago is asked anew");
    assert!(again.upgraded().is_none(), "it was of this version");
}
