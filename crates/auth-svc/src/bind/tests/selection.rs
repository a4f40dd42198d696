//! Which credential a session keeps to.

use super::super::candidates::{Entry, entries};
use super::*;

/// Credentials `c0`, `c1`, … in this order.
fn stored(count: usize) -> Vec<Credential> {
    let one = |i| Credential { id: format!("id-{i}"), label: format!("c{i}"), ..oauth() };
    (0..count).map(one).collect()
}

fn wanted(session: &str) -> Wanted {
    Wanted { provider: "openai-codex".into(), session: session.into(), ..Wanted::default() }
}

/// Labels in the order in which they are tried.
fn order(stored: Vec<Credential>, wanted: &Wanted, by_session: bool) -> Vec<String> {
    let label = |entry| match entry {
        Entry::Stored(credential) => credential.label.clone(),
        Entry::Refused(label, _) => label,
    };
    entries(stored.into_iter().map(std::sync::Arc::new).collect(), wanted, by_session).into_iter().map(label).collect()
}

#[test]
fn sessions_are_spread_and_an_order_is_an_order() {
    let first = |i| order(stored(4), &wanted(&format!("session-{i}")), true).remove(0);
    let mut counts = std::collections::BTreeMap::<String, usize>::new();
    for i in 0..400 {
        *counts.entry(first(i)).or_default() += 1;
    }
    assert_eq!(counts.len(), 4);
    // 100 each, give or take five standard deviations; the hash is fixed, and so is the outcome.
    assert!(counts.values().all(|count| (57..144).contains(count)), "{counts:?}");
    assert_eq!(order(stored(4), &wanted("s"), false), ["c0", "c1", "c2", "c3"]);
}

proptest! {
    #![proptest_config(Cases { failure_persistence: None, ..Cases::default() })]

    /// A session's order does not depend on that of the store, and losing one credential leaves the order of the
    /// others: only sessions that were at it move, each to its next one. Read backwards, the same holds for one that
    /// is added.
    #[test]
    fn one_that_goes_moves_only_its_own_sessions(
        session in ".{1,40}", count in 2usize..9, gone in 0usize..9, turn in 0usize..9,
    ) {
        let gone = gone % count;
        let before = order(stored(count), &wanted(&session), true);
        let mut turned = stored(count);
        turned.rotate_left(turn % count);
        prop_assert_eq!(&order(turned, &wanted(&session), true), &before);
        let mut left = stored(count);
        let gone = left.remove(gone).label;
        let after = order(left, &wanted(&session), true);
        let expected: Vec<String> = before.iter().filter(|label| **label != gone).cloned().collect();
        prop_assert_eq!(&after, &expected);
        if before[0] != gone {
            prop_assert_eq!(&after[0], &before[0]);
        }
    }
}

#[tokio::test]
async fn what_was_said_last_decides_how_credentials_are_chosen() {
    let dir = tempfile::tempdir().expect("tempdir");
    let key = SecretKey::generate().expect("random");
    let store = create(&dir.path().join("t.db"), key, Clock::manual(NOW_MS), async |_| Ok(())).await.expect("made");
    let random = Random {
        own_provider: true,
        kind: Kind::OAuth,
        issuer: Some(IDENTITY),
        access: true,
        refresh: true,
        undecryptable: false,
        expires_in: None,
        borrowed: false,
        latch: None,
        rests: Vec::new(),
    };
    fill(&store, &[random.clone(), random]).await;
    let provider = "openai-codex";
    let labels = ["c1".to_owned(), "c0".to_owned()];
    let import = async |given: bool| {
        let mut intake = store.intake().await.expect("begun");
        intake.order(provider, &labels, given).await.expect("ordered");
        intake.finish(false).await.expect("stored");
    };
    let mode = async || store.selection(provider).await.expect("read");
    assert_eq!(mode().await, Mode::Session, "by default");
    import(false).await;
    assert_eq!(mode().await, Mode::Session, "nobody has asked for an order");
    import(true).await;
    assert_eq!(mode().await, Mode::Order);
    store.select_by_session(provider).await.expect("chosen");
    assert_eq!(mode().await, Mode::Session);
    import(true).await;
    assert_eq!(mode().await, Mode::Session, "an operator's word stands above another program's");
    store.set_order(provider, &labels).await.expect("ordered");
    assert_eq!(mode().await, Mode::Order);
    assert_eq!(
        store.selections().await.expect("read").into_iter().collect::<Vec<_>>(),
        [(provider.to_owned(), Mode::Order)]
    );
    let nobody = store.select_by_session("nobody").await.expect_err("no credential").to_string();
    assert!(nobody.contains("\"nobody\""), "{nobody}");
}
