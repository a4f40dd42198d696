//! Backups that say one thing by this and another by that, and such as cannot be stored.

use serde_json::{Value, json};

use super::snapshots::{restore, snapshot, taking, told};
use super::{Engine, NOW_S, intent, login, named, put, tokens_of};
use crate::store::{Decided, NewCredential, Snapshot, Store};

/// A backup of `store` in which the first credential has these columns.
async fn backup_with(store: &Store, columns: &[(&str, Value)]) -> Snapshot {
    let mut json = serde_json::to_value(snapshot(store).await).expect("JSON");
    for (name, value) in columns {
        json["credentials"][0][*name] = value.clone();
    }
    serde_json::from_value(json).expect("a snapshot")
}

pub(super) async fn time_wins_over_versions<E: Engine>(engine: &E) {
    let store = engine.open().await;
    put(&store, &login("acct", "here", NOW_S + 100)).await;
    // What a copy has gone through that is no longer this database: more versions, before the login that is here.
    let lost = [("version", json!(9)), ("refresh_token", json!("r-lost")), ("access_token", json!("a-lost"))];
    let earlier = [&lost[..], &[("access_expires_at", json!(NOW_S + 50))]].concat();
    assert_eq!(restore(&store, &backup_with(&store, &earlier).await, true).await, told(&[("main", Decided::Kept)]));
    assert_eq!(tokens_of(&named(&store, "main").await).1, Some("r-here"));
    // Where time says nothing, the version does.
    assert_eq!(restore(&store, &backup_with(&store, &lost).await, true).await, told(&[("main", Decided::Updated)]));
    let now = named(&store, "main").await;
    assert_eq!((tokens_of(&now).1, now.version, now.unconfirmed), (Some("r-lost"), 9, true));
    // And the other way round.
    let newer = [("version", json!(2)), ("refresh_token", json!("r-newer")), ("last_refresh", json!(NOW_S + 1))];
    assert_eq!(restore(&store, &backup_with(&store, &newer).await, true).await, told(&[("main", Decided::Updated)]));
    assert_eq!(named(&store, "main").await.version, 10, "versions go up all the same");
}

pub(super) async fn another_processs_refresh_is_left_alone<E: Engine>(engine: &E) {
    let other = E::new().await;
    let (here, elsewhere, second) = (engine.open().await, other.open().await, other.open().await);
    put(&here, &login("acct", "newer", NOW_S + 60)).await;
    let old = put(&elsewhere, &login("acct", "one", NOW_S)).await;
    let _under_way = intent(&second, &old, "somebody").await;
    let backup = snapshot(&here).await;
    assert_eq!(restore(&elsewhere, &backup, false).await, told(&[("main", Decided::Skipped)]));
    other.clock().advance_ms(1001);
    assert_eq!(restore(&elsewhere, &backup, false).await, told(&[("main", Decided::Updated)]));
}

pub(super) async fn what_no_list_could_show_stays_out<E: Engine>(engine: &E) {
    let here = engine.open().await;
    put(&here, &login("acct", "one", NOW_S)).await;
    put(&here, &NewCredential { label: "second".into(), ..login("acct-2", "two", NOW_S) }).await;
    let far = i64::from(i32::MAX) + 1;
    let unreadable = [
        ("latched as", vec![("latch", json!("by-mood")), ("latch_version", json!(1))]),
        ("its version", vec![("version", json!(far))]),
        ("its latch_version", vec![("latch", json!("rejected")), ("latch_version", json!(far))]),
    ];
    for (why, columns) in unreadable {
        let elsewhere = E::new().await.open().await;
        let backup = backup_with(&here, &columns).await;
        let restored = elsewhere.restore(&backup, &taking(false)).await.expect("restored");
        assert!(restored[0].decided == Decided::Skipped && restored[0].detail.contains(why), "{restored:?}");
        assert_eq!(restored[1].decided, Decided::Created);
        assert_eq!(elsewhere.list_credentials(None).await.expect("listed").len(), 1);
        // Nor does it come over one that is here.
        let newer =
            [&columns[..], &[("access_expires_at", json!(NOW_S + 9)), ("refresh_token", json!("r-9"))]].concat();
        let backup = backup_with(&here, &newer).await;
        assert_eq!(restore(&here, &backup, true).await[0].1, Decided::Skipped);
        assert_eq!(tokens_of(&named(&here, "main").await).1, Some("r-one"));
    }
}
