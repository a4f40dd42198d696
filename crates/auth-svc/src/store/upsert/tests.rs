//! What an import may do to a login that is here: confirm it, borrow it, complete it, take it back.

use domain::Clock;
use secrecy::SecretString;
use service_kit::SecretKey;

use crate::store::{Credential, Kind, NewCredential, Rest, RestKind, Secrets, Source, Store, Taking, Upserted, create};

const NOW_S: i64 = 1_900_000_000;

/// A database of its own.
struct Bench {
    store: Store,
    _dir: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        let key = SecretKey::generate().expect("random");
        let clock = Clock::manual(NOW_S * 1000);
        let store = create(&dir.path().join("t.db"), key, clock, async |_| Ok(())).await.expect("made");
        Self { store, _dir: dir }
    }

    async fn take(&self, new: &NewCredential) -> Upserted {
        self.store.upsert_credential(new, false).await.expect("stored").1
    }

    async fn main(&self) -> Credential {
        self.store.credential_by_label("main").await.expect("read").expect("there")
    }

    /// As a restore from a backup leaves it.
    async fn restored(new: &NewCredential) -> Self {
        let bench = Self::new().await;
        bench.take(new).await;
        bench.set("unconfirmed = 1").await;
        bench
    }

    async fn set(&self, what: &'static str) {
        let mut tx = self.store.write().await.expect("begun");
        let sql = format!("UPDATE credentials SET {what}");
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut *tx).await.expect("set");
        tx.commit().await.expect("committed");
    }
}

/// A login with the tokens `a-<tokens>` and `r-<tokens>`, from Codex CLI's file.
fn login(tokens: &str, expires_at: i64) -> NewCredential {
    let text = |kind: &str| Some(SecretString::from(format!("{kind}-{tokens}")));
    NewCredential {
        label: "main".into(),
        provider: "openai-codex".into(),
        kind: Kind::OAuth,
        issuer: Some("https://auth.openai.com".into()),
        client_id: Some("app".into()),
        account_id: Some("acct".into()),
        email: Some("a@example.com".into()),
        plan: Some("plus".into()),
        user_id: Some("user".into()),
        fedramp: true,
        source: Source::Codex,
        secrets: Secrets::Present { access: text("a"), refresh: text("r"), id_token: text("i"), api_key: None },
        extra: serde_json::Value::Null,
        access_expires_at: Some(expires_at),
        last_refresh: Some(NOW_S),
        borrowed: false,
        profile: Some("tokens".into()),
    }
}

#[tokio::test]
async fn a_restored_login_is_confirmed_by_newer_tokens_or_a_login_alone() {
    let old = login("one", NOW_S + 100);
    let renamed = NewCredential { plan: Some("pro".into()), ..old.clone() };
    let later_access = {
        let Secrets::Present { refresh, id_token, .. } = old.secrets.clone() else { unreachable!() };
        let secrets = Secrets::Present { access: Some("a-later".into()), refresh, id_token, api_key: None };
        NewCredential { secrets, access_expires_at: Some(NOW_S + 900), ..old.clone() }
    };
    let undated = NewCredential { access_expires_at: None, last_refresh: None, ..login("two", 0) };
    let ours = NewCredential { source: Source::Login, ..old.clone() };
    for (what, new, upserted, confirmed) in [
        ("the same file again", old.clone(), Upserted::Unchanged, false),
        ("its other fields", renamed, Upserted::Updated, false),
        ("its refresh token with another access token", later_access, Upserted::Updated, false),
        ("older tokens", login("zero", NOW_S + 50), Upserted::KeptNewer, false),
        ("tokens of which nothing tells how new they are", undated, Upserted::Updated, false),
        ("newer tokens", login("two", NOW_S + 900), Upserted::Updated, true),
        ("a login of our own", ours, Upserted::Updated, true),
    ] {
        let bench = Bench::restored(&old).await;
        assert_eq!(bench.take(&new).await, upserted, "{what}");
        assert_eq!(bench.main().await.unconfirmed, !confirmed, "{what}");
    }
}

#[tokio::test]
async fn a_login_of_ours_that_works_is_not_replaced_by_a_borrowed_one() {
    let old = login("one", NOW_S + 100);
    let lent = |new: NewCredential| NewCredential { borrowed: true, ..new };
    for (what, new) in [
        ("later tokens", lent(login("two", NOW_S + 900))),
        ("the same tokens", lent(old.clone())),
        ("older tokens", lent(login("zero", NOW_S + 50))),
    ] {
        for unconfirmed in [false, true] {
            let bench = if unconfirmed { Bench::restored(&old).await } else { Bench::new().await };
            bench.take(&old).await;
            assert_eq!(bench.take(&new).await, Upserted::KeptOwned, "{what}");
            let now = bench.main().await;
            assert_eq!((now.borrowed, now.version, now.unconfirmed), (false, 1, unconfirmed), "{what}");
            assert!(now.secrets.same_as(&old.secrets), "{what}");
        }
    }
    for (what, state) in [
        ("it was handed to another program", "exported_at = 1"),
        ("the provider ended it", "latch = 'needs_login', latch_version = version"),
        ("it cannot be refreshed", "refresh_token = NULL"),
    ] {
        let bench = Bench::new().await;
        bench.take(&old).await;
        bench.set(state).await;
        assert_eq!(bench.take(&lent(login("two", NOW_S + 900))).await, Upserted::Updated, "{what}");
        assert!(bench.main().await.borrowed, "{what}");
    }
}

#[tokio::test]
async fn a_rejection_ends_with_the_ownership_that_comes_back() {
    let old = login("one", NOW_S + 100);
    let rejected = "latch = 'rejected', latch_version = version, latch_detail = 'it cannot be refreshed'";
    for (what, state, lifted) in [
        ("borrowed until now", "borrowed = 1", true),
        ("exported until now", "exported_at = 1", true),
        ("exported and restored", "exported_at = 1, unconfirmed = 1", false),
        ("ours all along", "borrowed = 0, plan = NULL", false),
    ] {
        let bench = Bench::new().await;
        bench.take(&old).await;
        bench.set(rejected).await;
        bench.set(state).await;
        assert_eq!(bench.take(&old).await, Upserted::Updated, "{what}");
        let now = bench.main().await;
        assert_eq!((now.latch.is_none(), now.version), (lifted, 1), "{what}");
    }
    // What the provider has ended stays so whoever owns it.
    let bench = Bench::new().await;
    bench.take(&old).await;
    bench.set("borrowed = 1, latch = 'needs_login', latch_version = version").await;
    assert_eq!(bench.take(&old).await, Upserted::Updated);
    assert!(bench.main().await.latch.is_some());
}

#[tokio::test]
async fn what_another_file_of_the_same_tokens_lacks_is_kept() {
    let old = login("one", NOW_S + 100);
    let Secrets::Present { access, refresh, .. } = old.secrets.clone() else { unreachable!() };
    let bare = |access: Option<SecretString>, expires_at: Option<i64>| NewCredential {
        client_id: None,
        account_id: None,
        email: None,
        plan: None,
        user_id: None,
        fedramp: false,
        source: Source::OpenClaw,
        secrets: Secrets::Present { access, refresh: refresh.clone(), id_token: None, api_key: None },
        access_expires_at: expires_at,
        last_refresh: None,
        profile: Some("openai-codex:default".into()),
        ..old.clone()
    };
    let rest = Rest {
        model: None,
        kind: RestKind::UsageLimit,
        window_s: 18_000,
        limit: "codex".into(),
        began_ms: NOW_S * 1000,
        until_ms: NOW_S * 1000 + 60_000,
    };
    let later = Some(SecretString::from("a-later"));
    for (what, new, upserted, version) in [
        ("the same tokens", bare(access, Some(NOW_S + 100)), Upserted::Unchanged, 1),
        ("the refresh token alone", bare(None, None), Upserted::Unchanged, 1),
        ("the same refresh token, refreshed", bare(later, Some(NOW_S + 900)), Upserted::Updated, 2),
    ] {
        let bench = Bench::new().await;
        bench.take(&old).await;
        bench.store.rest(&bench.main().await.id, &rest).await.expect("rests");
        assert_eq!(bench.take(&new).await, upserted, "{what}");
        let now = bench.main().await;
        let Secrets::Present { access, refresh, id_token, .. } = &now.secrets else { unreachable!() };
        assert!(access.is_some() && refresh.is_some() && id_token.is_some(), "{what}");
        assert_eq!((now.version, now.rests.len(), now.fedramp), (version, 1, true), "{what}");
        assert!(now.access_expires_at.is_some() && now.last_refresh == Some(NOW_S), "{what}");
        let names = [&now.client_id, &now.account_id, &now.email, &now.plan, &now.user_id];
        assert!(names.iter().all(|name| name.is_some()), "{what}: {names:?}");
    }
    // Another grant of the same account is another login: what the old one ran into says nothing about it.
    let bench = Bench::new().await;
    bench.take(&old).await;
    bench.store.rest(&bench.main().await.id, &rest).await.expect("rests");
    assert_eq!(bench.take(&login("two", NOW_S + 900)).await, Upserted::Updated);
    assert!(bench.main().await.rests.is_empty());
}

#[tokio::test]
async fn whoever_changes_an_owner_says_so() {
    let bench = Bench::new().await;
    bench.take(&login("one", NOW_S + 100)).await;
    let id = bench.main().await.id;
    let snapshot = bench.store.snapshot().await.expect("read");
    let told = async |what: &str| {
        let told = tokio::time::timeout(std::time::Duration::from_secs(5), bench.store.changed().notified()).await;
        assert!(told.is_ok(), "{what}");
    };
    told("an import").await;
    bench.store.mark_exported(std::slice::from_ref(&id)).await.expect("marked");
    told("an export").await;
    bench.set("unconfirmed = 1").await;
    assert!(bench.store.confirm_credential(&id).await.expect("confirmed"));
    told("a confirmation").await;
    bench.store.remove_credential(&id).await.expect("removed");
    let taking = Taking { same_database: true, busy: &|_| false, dry_run: false };
    bench.store.restore(&snapshot, &taking).await.expect("restored");
    told("a restore").await;
}
