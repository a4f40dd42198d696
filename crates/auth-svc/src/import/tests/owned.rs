//! Imports of logins that are here already: restored, owned, or given up.

use super::*;

fn auth(refresh: &str, exp: i64) -> ImportCredentialsRequest {
    codex(&json!({
        "auth_mode": "chatgpt",
        "tokens": { "access_token": jwt("acct-1", exp), "refresh_token": refresh, "account_id": "acct-1" },
        "last_refresh": "2026-11-22T12:22:35Z",
    }))
}

fn detail(response: &ImportCredentialsResponse) -> &str {
    &line(response, "tokens").detail
}

#[tokio::test]
async fn a_file_as_old_as_the_backup_confirms_nothing() {
    let (there, here) = (Bench::new().await, Bench::new().await);
    there.import(auth("rt-S3CRET-1", NOW + 10 * DAY)).await;
    let backup = there.store.snapshot().await.expect("read");
    let taking = store::Taking { same_database: false, busy: &|_| false, dry_run: false };
    here.store.restore(&backup, &taking).await.expect("restored");
    for (refresh, exp) in [("rt-S3CRET-1", 10), ("rt-S3CRET-0", 9)] {
        let response = here.import(auth(refresh, NOW + exp * DAY)).await;
        assert!(detail(&response).contains("stays unconfirmed"), "{response:?}");
        assert!(detail(&response).contains("credentials confirm main"), "{response:?}");
        assert_eq!(line(&response, "tokens").first_refresh, None);
        assert!(!response.notes.join("\n").contains("it is Switchboard's"), "{:?}", response.notes);
        assert!(here.get("main").await.unconfirmed);
    }
    let response = here.import(auth("rt-S3CRET-2", NOW + 11 * DAY)).await;
    assert!(line(&response, "tokens").first_refresh.is_some(), "{response:?}");
    assert!(!detail(&response).contains("unconfirmed"), "{response:?}");
    assert!(!here.get("main").await.unconfirmed);
}

#[tokio::test]
async fn what_is_owned_here_is_not_borrowed() {
    let bench = Bench::new().await;
    bench.import(auth("rt-S3CRET-1", NOW + 10 * DAY)).await;
    let borrow = |request| ImportCredentialsRequest { borrow: true, ..request };
    for (refresh, exp) in [("rt-S3CRET-2", 20), ("rt-S3CRET-1", 10), ("rt-S3CRET-0", -1)] {
        let response = bench.import(borrow(auth(refresh, NOW + exp * DAY))).await;
        assert_eq!(detail(&response), "owned here already; nothing was borrowed");
        assert!(response.usable && !response.notes.join("\n").contains("borrowed"), "{response:?}");
        assert!(line(&response, "tokens").first_refresh.is_some(), "what is here is refreshed as ever");
        let now = bench.get("main").await;
        assert_eq!((now.borrowed, now.secrets.refresh().map(|r| r.expose_secret())), (false, Some("rt-S3CRET-1")));
    }
    bench.store.mark_exported(&[bench.get("main").await.id]).await.expect("marked");
    let response = bench.import(borrow(auth("rt-S3CRET-1", NOW + 10 * DAY))).await;
    assert!(detail(&response).contains("is borrowed now") && bench.get("main").await.borrowed, "{response:?}");
}

#[tokio::test]
async fn what_is_said_is_true_of_what_stays() {
    let bench = Bench::new().await;
    bench.import(auth("rt-S3CRET-1", NOW + 5 * DAY)).await;
    bench.import(auth("rt-S3CRET-2", NOW + 10 * DAY)).await;
    for (refresh, says) in
        [("rt-S3CRET-1", "refresh token of the file is stale"), ("rt-S3CRET-0", "are newer and stay")]
    {
        let response = bench.import(auth(refresh, NOW + 4 * DAY)).await;
        assert!(detail(&response).contains(says), "{response:?}");
        assert!(detail(&response).contains("expires at 2026-12-03"), "of the tokens that stay: {response:?}");
        let notes = response.notes.join("\n");
        assert!(!notes.contains("from then on every other copy"), "it is spent already: {notes}");
        assert!(notes.contains("is older than what is here") && notes.contains("Codex CLI still holds it"), "{notes}");
        assert!(response.usable, "what is here is");
    }
    // The provider has refused the very tokens that come in again.
    let main = bench.get("main").await;
    bench.store.latch(&main.id, main.version, store::LatchKind::NeedsLogin, "it is spent").await.expect("latched");
    for borrow in [false, true] {
        let request = ImportCredentialsRequest { borrow, ..auth("rt-S3CRET-1", NOW + 4 * DAY) };
        let response = bench.import(request).await;
        assert!(detail(&response).contains("main still needs a new login (it is spent)"), "{response:?}");
        let notes = response.notes.join("\n");
        assert!(!notes.contains("it is Switchboard's") && !notes.contains("borrowed"), "{notes}");
        assert!(!response.usable && line(&response, "tokens").first_refresh.is_none(), "{response:?}");
    }
}
