//! Which egresses may make requests with a credential.

use super::snapshots::{snapshot, taking};
use super::{Engine, NOW_S, login, named, put};
use crate::store::{Decided, EgressRule};

fn rule(require: &[&str], prefer: &[&str]) -> EgressRule {
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    EgressRule { require: owned(require), prefer: owned(prefer) }
}

pub(super) async fn a_rule_lasts_and_outlives_new_tokens(engine: &impl Engine) {
    let store = engine.open().await;
    let main = put(&store, &login("acct", "1", NOW_S)).await;
    assert!(main.egress.is_empty());
    let set = rule(&["eu", "home"], &["second"]);
    store.set_egress(&main.id, &set).await.expect("set");
    assert_eq!(named(&engine.open().await, "main").await.egress, set);
    assert_eq!(put(&store, &login("acct", "2", NOW_S + 9)).await.egress, set, "newer tokens are of the same login");
    store.set_egress(&main.id, &EgressRule::default()).await.expect("taken away");
    assert!(named(&store, "main").await.egress.is_empty());
}

pub(super) async fn a_login_comes_in_with_its_rule(engine: &impl Engine) {
    let store = engine.open().await;
    let mut intake = store.intake().await.expect("begun");
    let (label, _) = intake.take(&login("acct", "1", NOW_S)).await.expect("taken");
    intake.tie(&label, &rule(&["vps"], &[])).await.expect("tied");
    intake.finish(true).await.expect("undone");
    assert!(store.list_credentials(None).await.expect("listed").is_empty());
    let mut intake = store.intake().await.expect("begun");
    let (label, _) = intake.take(&login("acct", "1", NOW_S)).await.expect("taken");
    intake.tie(&label, &rule(&["vps"], &[])).await.expect("tied");
    intake.finish(false).await.expect("stored");
    assert_eq!(named(&store, &label).await.egress, rule(&["vps"], &[]));
}

pub(super) async fn a_backup_carries_it_and_replaces_none<E: Engine>(_: &E) {
    let (here, elsewhere) = (E::new().await, E::new().await);
    let (here, elsewhere) = (here.open().await, elsewhere.open().await);
    let there = put(&elsewhere, &login("acct", "1", NOW_S)).await;
    elsewhere.set_egress(&there.id, &rule(&["vps"], &[])).await.expect("set");
    here.restore(&snapshot(&elsewhere).await, &taking(false)).await.expect("restored");
    let main = named(&here, "main").await;
    assert_eq!(main.egress, rule(&["vps"], &[]));
    // What an operator has said here stays where the tokens are replaced.
    here.set_egress(&main.id, &rule(&["home"], &["eu"])).await.expect("set");
    put(&elsewhere, &login("acct", "2", NOW_S + 9)).await;
    let restored = here.restore(&snapshot(&elsewhere).await, &taking(false)).await.expect("restored");
    assert_eq!(restored[0].decided, Decided::Updated, "{restored:?}");
    assert_eq!(named(&here, "main").await.egress, rule(&["home"], &["eu"]));
}
