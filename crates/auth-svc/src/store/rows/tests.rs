//! Rows that this build cannot read whole.

use domain::Clock;
use service_kit::SecretKey;
use sqlx::AssertSqlSafe;

use crate::store::{NewCredential, Secrets, Upserted, create, sample};

fn login(account: &str, tokens: &str) -> NewCredential {
    sample::login(account, &format!("a-{tokens}"), &format!("r-{tokens}"))
}

#[tokio::test]
async fn a_broken_row_is_one_broken_credential_and_a_login_mends_it() {
    let dir = tempfile::tempdir().expect("tempdir");
    let key = SecretKey::generate().expect("random");
    let made = create(&dir.path().join("t.db"), key, Clock::manual(0), async |_| Ok(())).await;
    let store = made.expect("made");
    for account in ["sound", "broken"] {
        store.upsert_credential(&login(account, account), false).await.expect("stored");
    }
    let far = i64::from(i32::MAX) + 1;
    for (round, (what, why)) in [
        ("latch = 'by-mood', latch_version = version".to_owned(), "its latch is \"by-mood\""),
        (format!("version = {far}"), "its version is out of range"),
        (format!("version = -{far} * 2"), "its version is out of range"),
        ("source = 'elsewhere'".to_owned(), "its source is \"elsewhere\""),
    ]
    .into_iter()
    .enumerate()
    {
        let mut tx = store.write().await.expect("begun");
        let sql = AssertSqlSafe(format!("UPDATE credentials SET {what} WHERE label = 'broken'"));
        sqlx::query(sql).execute(&mut *tx).await.expect("broken");
        tx.commit().await.expect("kept");
        let all = store.list_credentials(None).await.expect("listed");
        assert!(all.len() == 2 && all[0].secrets.upstream().is_some(), "{what}: the other one works on");
        let Secrets::Undecryptable { detail } = &all[1].secrets else { panic!("{what}: it is not used") };
        assert!(detail.contains(why) && detail.contains("log in"), "{what}: {detail}");
        let named = store.credential_by_label("broken").await.expect("read").expect("there");
        assert!(named.secrets.upstream().is_none(), "{what}");
        let again = login("broken", &format!("again-{round}"));
        assert_eq!(store.upsert_credential(&again, false).await.expect("stored").1, Upserted::Updated, "{what}");
        let mended = store.credential_by_label("broken").await.expect("read").expect("there");
        assert!(mended.secrets.upstream().is_some() && mended.latch.is_none(), "{what}: {mended:?}");
    }
}
