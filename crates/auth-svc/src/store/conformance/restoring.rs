//! What a backup must not undo: what was spent, given up, chosen, limited, used.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;

use super::key_usage::today;
use super::keys::key;
use super::snapshots::{restore, snapshot, taking, told};
use super::tokens::refreshed;
use super::{Engine, NOW_S, login, named, put, refresh, tokens_of};
use crate::store::{Decided, Limits, Mode, NewAgentKey, NewCredential, NewSecret, RefreshedTokens, TokenHash};
use crate::store::{Upserted, Used};

const PROVIDER: &str = "openai-codex";

/// A refresh to the tokens of `name` that live for `expires_in` seconds.
fn until(name: &str, expires_in: i64) -> RefreshedTokens {
    RefreshedTokens { access_expires_at: Some(NOW_S + expires_in), ..refreshed(name) }
}

pub(super) async fn a_spent_token_never_comes_in<E: Engine>(engine: &E) {
    let other = E::new().await;
    let (here, elsewhere) = (engine.open().await, other.open().await);
    // The other one claims a later expiry, and no account: the token alone proves it.
    let nameless = NewCredential {
        account_id: None,
        email: None,
        profile: Some("another".into()),
        ..login("acct", "one", NOW_S + 9000)
    };
    put(&elsewhere, &nameless).await;
    put(&here, &login("acct", "one", NOW_S + 100)).await;
    refresh(&here, "main", &until("two", 50)).await;
    let restored = here.restore(&snapshot(&elsewhere).await, &taking(false)).await.expect("restored");
    assert!(restored[0].decided == Decided::Kept && restored[0].detail.contains("spent"), "{restored:?}");
    let all = here.list_credentials(None).await.expect("listed");
    assert_eq!((all.len(), tokens_of(&all[0]).1), (1, Some("r-two")));
    // What a restore replaces is spent likewise.
    refresh(&elsewhere, "main", &until("three", 99_000)).await;
    let mine = NewCredential { label: "mine".into(), ..login("acct-2", "four", NOW_S) };
    put(&here, &mine).await;
    put(&elsewhere, &NewCredential { secrets: login("-", "five", 0).secrets, ..login("acct-2", "-", NOW_S + 5) }).await;
    restore(&here, &snapshot(&elsewhere).await, false).await;
    let now = named(&here, "mine").await;
    assert_eq!(tokens_of(&now).1, Some("r-five"));
    let four = TokenHash::of(&SecretString::from("r-four"));
    assert!(here.spent_tokens(&now.id).await.expect("read").contains(&four));
    let back = NewCredential { access_expires_at: Some(NOW_S + 99_000), ..mine };
    assert_eq!(here.upsert_credential(&back, false).await.expect("asked").1, Upserted::KeptSpent);
}

pub(super) async fn what_is_spent_there_is_spent_here<E: Engine>(engine: &E) {
    let (empty, older) = (E::new().await, E::new().await);
    let (here, empty, older) = (engine.open().await, empty.open().await, older.open().await);
    put(&here, &login("acct", "one", NOW_S + 100)).await;
    refresh(&here, "main", &until("two", 200)).await;
    let backup = snapshot(&here).await;
    // An older file of the login is known as such after a restore.
    restore(&empty, &backup, false).await;
    let file = login("acct", "one", NOW_S + 9000);
    assert_eq!(empty.upsert_credential(&file, false).await.expect("asked").1, Upserted::KeptSpent);
    let now = named(&empty, "main").await;
    assert!(now.unconfirmed && tokens_of(&now).1 == Some("r-two"));
    // What stands here was spent there: the backup is newer, whatever the times say.
    put(&older, &file).await;
    assert_eq!(restore(&older, &backup, false).await, told(&[("main", Decided::Updated)]));
    assert_eq!(tokens_of(&named(&older, "main").await).1, Some("r-two"));
    assert_eq!(restore(&older, &backup, false).await, told(&[("main", Decided::Unchanged)]));
}

pub(super) async fn what_was_given_up_stays_given_up<E: Engine>(engine: &E) {
    let (empty, owner) = (E::new().await, E::new().await);
    let (here, empty, owner) = (engine.open().await, empty.open().await, owner.open().await);
    let id = put(&here, &login("acct", "one", NOW_S)).await.id;
    let before = snapshot(&here).await;
    put(&owner, &login("acct", "one", NOW_S)).await;
    here.mark_exported(std::slice::from_ref(&id)).await.expect("marked");
    let backup = snapshot(&here).await;
    restore(&empty, &backup, false).await;
    let now = named(&empty, "main").await;
    assert_eq!((now.exported_at, now.unconfirmed), (Some(NOW_S), false), "there is nothing of ours to confirm");
    // The same tokens are here as our own: whoever refreshed them now would end the other program's login.
    assert_eq!(restore(&owner, &backup, false).await, told(&[("main", Decided::Updated)]));
    assert_eq!(named(&owner, "main").await.exported_at, Some(NOW_S));
    // A backup from before takes nothing back, and neither does a newer one of somebody else.
    assert_eq!(restore(&here, &before, true).await, told(&[("main", Decided::Unchanged)]));
    assert_eq!(named(&here, "main").await.exported_at, Some(NOW_S));
    put(&owner, &login("acct", "newer", NOW_S + 60)).await;
    let restored = here.restore(&snapshot(&owner).await, &taking(false)).await.expect("restored");
    assert!(restored[0].decided == Decided::Updated && restored[0].detail.contains("handed"), "{restored:?}");
    let now = named(&here, "main").await;
    assert_eq!((now.exported_at, now.unconfirmed, tokens_of(&now).1), (Some(NOW_S), false, Some("r-newer")));
}

pub(super) async fn an_operators_choice_stays<E: Engine>(engine: &E) {
    let (empty, chosen) = (E::new().await, E::new().await);
    let (here, empty, chosen) = (engine.open().await, empty.open().await, chosen.open().await);
    put(&here, &login("acct", "one", NOW_S)).await;
    here.set_order(PROVIDER, &["main".into()]).await.expect("ordered");
    let backup = snapshot(&here).await;
    let items = restore(&empty, &backup, false).await;
    assert_eq!(items, told(&[("main", Decided::Created), (PROVIDER, Decided::Created)]));
    assert_eq!(empty.selection(PROVIDER).await.expect("read"), Mode::Order);
    put(&chosen, &login("acct", "one", NOW_S)).await;
    chosen.select_by_session(PROVIDER).await.expect("chosen");
    let items = restore(&chosen, &backup, false).await;
    assert_eq!(items, told(&[("main", Decided::Unchanged), (PROVIDER, Decided::Kept)]));
    assert_eq!(chosen.selection(PROVIDER).await.expect("read"), Mode::Session);
    let mut json = serde_json::to_value(here.snapshot().await.expect("read")).expect("JSON");
    json["selections"][0]["mode"] = "by-mood".into();
    let newer = serde_json::from_value(json).expect("a snapshot");
    assert!(restore(&E::new().await.open().await, &newer, false).await.contains(&(PROVIDER.into(), Decided::Skipped)));
}

fn secret(hash: u8) -> NewSecret {
    NewSecret { prefix: "sbk_another_".into(), hash: [hash; 32] }
}

pub(super) async fn limits_and_rotations_come_along<E: Engine>(engine: &E) {
    let other = E::new().await;
    let (here, elsewhere) = (engine.open().await, other.open().await);
    let limits = Limits { requests_per_minute: Some(1), concurrent_calls: Some(2), tokens_per_day: Some(3) };
    here.insert_agent_key(&NewAgentKey { limits, ..key("one", 1) }).await.expect("made");
    here.rotate_agent_key("one", &secret(2), 30).await.expect("rotated");
    assert_eq!(restore(&elsewhere, &snapshot(&here).await, false).await, told(&[("one", Decided::Created)]));
    for hash in [1, 2] {
        let found = elsewhere.agent_key_by_hash(&[hash; 32]).await.expect("read").expect("there");
        assert_eq!((found.limits, found.previous_until, found.rotated_at), (limits, Some(NOW_S + 30), Some(NOW_S)));
    }
}

pub(super) async fn a_rotated_key_stays_as_it_is_here<E: Engine>(engine: &E) {
    let other = E::new().await;
    let (here, elsewhere) = (engine.open().await, other.open().await);
    here.insert_agent_key(&key("one", 1)).await.expect("made");
    let before = snapshot(&here).await;
    restore(&elsewhere, &before, false).await;
    here.rotate_agent_key("one", &secret(2), 30).await.expect("rotated");
    assert_eq!(restore(&here, &before, true).await, told(&[("one", Decided::Kept)]));
    assert_eq!(restore(&elsewhere, &snapshot(&here).await, false).await, told(&[("one", Decided::Kept)]));
    here.rotate_agent_key("one", &secret(3), 30).await.expect("rotated");
    let told_ = here.restore(&before, &taking(true)).await.expect("restored");
    assert_eq!(told_[0].decided, Decided::Kept);
    assert!(here.agent_key_by_hash(&[1; 32]).await.expect("read").is_none(), "what was ended stays ended");
    assert_eq!(here.list_agent_keys().await.expect("listed").len(), 1);
}

pub(super) async fn the_day_of_a_key_goes_on<E: Engine>(engine: &E) {
    let store = engine.open().await;
    let id = store.insert_agent_key(&key("one", 1)).await.expect("made").id;
    let backup = snapshot(&store).await;
    store.add_key_usage("batch-1", &[Used { key_id: id, tokens: 8, at: NOW_S }]).await.expect("added");
    assert_eq!(restore(&store, &backup, true).await, told(&[("one", Decided::Unchanged)]));
    assert_eq!(today(&store).await, 8, "a restore gives it no second allowance");
}

pub(super) async fn no_more_spent_tokens_are_kept_than_can_come_back<E: Engine>(engine: &E) {
    let here = engine.open().await;
    let id = put(&here, &login("acct", "one", NOW_S)).await.id;
    let mut json = serde_json::to_value(snapshot(&here).await).expect("JSON");
    let spent = |n: u64| {
        let hash = [n.to_be_bytes(), [0; 8], [0; 8], [0; 8]].concat();
        serde_json::json!({ "credential_id": id, "hash": { "base64": STANDARD.encode(hash) } })
    };
    json["spent_tokens"] = (0..1100).map(spent).collect();
    let backup = serde_json::from_value(json).expect("a snapshot");
    let elsewhere = E::new().await.open().await;
    restore(&elsewhere, &backup, false).await;
    assert_eq!(elsewhere.spent_tokens(&id).await.expect("read").len(), 1000);
}
