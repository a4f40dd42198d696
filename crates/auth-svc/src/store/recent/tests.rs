//! When a reading stands, and when it does not.

use domain::Clock;
use service_kit::SecretKey;

use super::LASTS_MS;
use crate::store::{Keys, Store, create, open};

async fn opened(path: &std::path::Path, key: &SecretKey, clock: &Clock) -> Store {
    let keys = Keys { current: key.clone(), next: None, source: "test".into() };
    open(path, keys, clock.clone()).await.expect("opened")
}

#[tokio::test]
async fn a_reading_stands_until_a_commit_and_not_for_long() {
    let (dir, clock) = (tempfile::tempdir().expect("tempdir"), Clock::manual(1_000_000));
    let (path, key) = (dir.path().join("t.db"), SecretKey::generate().expect("random"));
    create(&path, key.clone(), clock.clone(), async |_| Ok(())).await.expect("made").close().await;
    let store = opened(&path, &key, &clock).await;
    let stands = || store.known("p").expect("a head").1.is_some();
    assert!(!stands(), "nothing was read");
    store.recent_credentials(Some("p")).await.expect("read");
    store.recent_selection("p").await.expect("read");
    assert!(stands());
    clock.advance_ms(LASTS_MS - 1);
    assert!(stands());
    clock.advance_ms(1);
    assert!(!stands(), "rests end by the clock");
    store.recent_credentials(Some("p")).await.expect("read");
    assert!(stands());
    clock.advance_ms(-1);
    assert!(!stands(), "a clock that was set back");
    clock.advance_ms(1);
    let other = opened(&path, &key, &clock).await;
    assert!(stands(), "who only reads changes nothing");
    other.check_now().await.expect("written");
    assert!(!stands(), "somebody has written");
    other.close().await;
    store.recent_credentials(Some("p")).await.expect("read");
    // A write that leaves everything as it is would be no change.
    clock.advance_ms(1);
    assert!(stands());
    store.check_now().await.expect("written");
    assert!(!stands(), "this one has written");
}

#[tokio::test]
async fn a_log_that_was_begun_anew_is_another_one() {
    let (dir, clock) = (tempfile::tempdir().expect("tempdir"), Clock::manual(1_000_000));
    let (path, key) = (dir.path().join("t.db"), SecretKey::generate().expect("random"));
    create(&path, key.clone(), clock.clone(), async |_| Ok(())).await.expect("made").close().await;
    for _ in 0..3 {
        let store = opened(&path, &key, &clock).await;
        assert!(store.known("p").expect("a head").1.is_none());
        store.recent_credentials(Some("p")).await.expect("read");
        store.check_now().await.expect("written");
        // The last connection folds the log into the database and removes it.
        store.close().await;
        assert!(store.known("p").is_none(), "without an index nothing is known");
    }
}
