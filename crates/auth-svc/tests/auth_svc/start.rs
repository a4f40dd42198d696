//! First starts and bad starts: each names the file and the cause, and nothing is lost or overwritten.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use auth_svc::{AuthOptions, build};
use codex_sim::SeedLogin;
use domain::Clock;
use service_kit::startup::StartError;
use sqlx::Connection;

use crate::support::Rig;

fn mode(path: &std::path::Path) -> u32 {
    fs::metadata(path).expect("there").permissions().mode() & 0o777
}

async fn refused(rig: &Rig) -> (String, bool) {
    let error = rig.try_start(true).await.expect_err("refused");
    let next = match error.start_error(&rig.data_dir()) {
        StartError::Failure(failure) | StartError::Unfit(failure) => failure.next_step,
        _ => String::new(),
    };
    (format!("{error}\n{next}"), error.is_configuration())
}

/// A rig whose database holds one credential.
async fn used() -> Rig {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    rig.import(&peer, SeedLogin::account("acct"), "main").await;
    peer.service.shutdown().await;
    rig
}

#[tokio::test]
async fn a_first_start_makes_everything_private_and_only_once() {
    let rig = Rig::new().await;
    assert!(rig.try_start(false).await.expect_err("absent").to_string().contains("does not exist"));
    let data_dir = rig.data_dir();
    let options = |create| AuthOptions {
        config: &rig.config,
        data_dir: &data_dir,
        seal_key: None,
        create,
        first_agent_key: true,
        clock: Clock::system(),
    };
    build(options(true)).await.expect("made").shutdown().await;
    let data = rig.root.path().join("data");
    let files = ["switchboard.db", "database.key", "seal.key", "agent.key"];
    let before: Vec<Vec<u8>> = files.iter().map(|name| fs::read(data.join(name)).expect("made")).collect();
    for name in files {
        assert_eq!(mode(&data.join(name)), 0o600, "{name}");
    }
    for create in [true, false] {
        build(options(create)).await.expect("opened").shutdown().await;
    }
    let after: Vec<Vec<u8>> = files.iter().map(|name| fs::read(data.join(name)).expect("there")).collect();
    assert_eq!(before[1..], after[1..]);

    fs::remove_file(data.join("seal.key")).expect("removed");
    let error = build(options(false)).await.expect_err("nothing is made unasked");
    assert!(error.is_configuration() && error.to_string().contains("seal.key does not exist"), "{error}");
    assert!(error.to_string().contains("`auth-svc --init`"), "{error}");
    // As where a data directory was used by all services in one process before.
    build(options(true)).await.expect("the seal key is made anew").shutdown().await;
    assert_eq!(mode(&data.join("seal.key")), 0o600);
    fs::copy(data.join("database.key"), data.join("seal.key")).expect("copied");
    let error = build(options(true)).await.expect_err("the same key twice");
    assert!(error.is_configuration() && error.to_string().contains("another one"), "{error}");
}

#[tokio::test]
async fn a_wrong_or_missing_key_is_told_from_damage() {
    let rig = used().await;
    let key_file = rig.root.path().join("data/database.key");
    let key = fs::read(&key_file).expect("read");

    fs::remove_file(&key_file).expect("removed");
    let (message, configuration) = refused(&rig).await;
    assert!(configuration && message.contains("switchboard.db") && message.contains("database.key"), "{message}");
    assert!(!key_file.exists(), "no new key beside an old database");

    fs::write(&key_file, "ab".repeat(32)).expect("written");
    fs::set_permissions(&key_file, Permissions::from_mode(0o600)).expect("chmod");
    let (message, configuration) = refused(&rig).await;
    assert!(configuration && message.contains("was encrypted with key"), "{message}");
    assert!(message.contains("database.key") && message.contains("switchboard.db"), "{message}");

    fs::write(&key_file, "not a key").expect("written");
    let (message, configuration) = refused(&rig).await;
    assert!(configuration && message.contains("64 hex digits"), "{message}");

    fs::write(&key_file, &key).expect("written");
    fs::set_permissions(&key_file, Permissions::from_mode(0o644)).expect("chmod");
    let (message, configuration) = refused(&rig).await;
    assert!(configuration && message.contains("chmod 600"), "{message}");

    fs::set_permissions(&key_file, Permissions::from_mode(0o600)).expect("chmod");
    assert_eq!(rig.start().await.bound().await.credential, "main", "nothing was lost");
}

#[tokio::test]
async fn a_damaged_database_is_named_and_left_as_it_is() {
    let whole = fs::read(used().await.database()).expect("read");
    let mut torn = whole.clone();
    torn.truncate(whole.len() / 2);
    let mut scribbled = whole.clone();
    for byte in scribbled.iter_mut().skip(4096).step_by(7) {
        *byte ^= 0x55;
    }
    for (what, bytes) in [("empty", Vec::new()), ("text", b"hello".to_vec()), ("torn", torn), ("scribbled", scribbled)]
    {
        let rig = used().await;
        fs::write(rig.database(), &bytes).expect("written");
        let (message, configuration) = refused(&rig).await;
        assert!(!configuration, "{what}: {message}");
        assert!(message.contains("switchboard.db") && message.contains("damaged"), "{what}: {message}");
        let data = rig.data_dir().path().display().to_string();
        assert!(message.contains(&format!("--data-dir '{data}' restore FILE\n")), "{what}: {message}");
        assert!(
            !message.contains("***") && !message.contains("database disk image is malformed\n"),
            "{what}: {message}"
        );
        assert_eq!(fs::read(rig.database()).expect("read"), bytes, "{what}: left as it is");
    }
}

async fn run(rig: &Rig, sql: &'static str) {
    let url = format!("sqlite://{}", rig.database().display());
    let mut connection = sqlx::SqliteConnection::connect(&url).await.expect("opened");
    sqlx::query(sql).execute(&mut connection).await.expect("done");
    connection.close().await.expect("closed");
}

#[tokio::test]
async fn a_newer_schema_is_not_touched() {
    let rig = used().await;
    run(
        &rig,
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'later', 1, x'00', 1)",
    )
    .await;
    let (message, configuration) = refused(&rig).await;
    assert!(!configuration && message.contains("9999") && message.contains("newer"), "{message}");
    assert!(message.contains("backup ~/switchboard.backup\n") && message.contains("restore ~/"), "{message}");
}

#[tokio::test]
async fn damage_found_while_serving_is_named_and_nothing_more_is_written() {
    let rig = used().await;
    let peer = rig.start().await;
    run(&rig, "PRAGMA wal_checkpoint(TRUNCATE)").await;
    let mut bytes = fs::read(rig.database()).expect("read");
    // All but the first page, which says that it is a database.
    for byte in bytes.iter_mut().skip(4096) {
        *byte ^= 0x55;
    }
    fs::write(rig.database(), &bytes).expect("written");
    // Another process's write makes every connection read anew.
    let url = format!("sqlite://{}", rig.database().display());
    let mut other = sqlx::SqliteConnection::connect(&url).await.expect("opened");
    sqlx::query("PRAGMA user_version = 7").execute(&mut other).await.expect("written to the first page");
    let request = proto::auth::v1::ListCredentialsRequest::default();
    let status = peer.credentials().list_credentials(request).await.expect_err("damaged");
    let failure = service_kit::failure_from_status(&status, "auth-svc");
    assert_eq!(failure.reason, domain::Reason::StoreUnavailable, "{failure}");
    assert!(failure.message.contains("switchboard.db is damaged"), "{failure}");
    assert!(failure.next_step.contains("switchboard restore FILE"), "{}", failure.next_step);
    let ready = (peer.service.readiness())().await.expect_err("not ready");
    assert!(ready.message.contains("damaged"), "{ready}");
    let request = proto::auth::v1::CreateKeyRequest { name: "k".into(), agent: "a".into(), ..Default::default() };
    let refused = peer.keys().create_key(request).await.expect_err("nothing is written");
    assert!(refused.message().contains("damaged"), "{refused}");
    assert!(fs::read(rig.database()).expect("read")[4096..] == bytes[4096..], "it was left as it is");
    drop(other);
}

#[tokio::test]
async fn a_damaged_secret_is_one_undecryptable_credential_and_no_more() {
    let rig = used().await;
    run(&rig, "UPDATE credentials SET access_token = substr(access_token, 1, 60)").await;
    let peer = rig.start().await;
    let failure = peer.refused().await;
    assert_eq!(failure.candidates[0].reason, Some(domain::CandidateReason::Undecryptable), "{failure}");
    assert_eq!(peer.list().await[0].state, "undecryptable");
    // Importing it again heals it.
    rig.import(&peer, SeedLogin::account("acct"), "main").await;
    assert_eq!((peer.bound().await.credential.as_str(), peer.list().await.len()), ("main", 1));
}

#[tokio::test]
async fn what_a_start_that_was_cut_off_left_is_no_hindrance() {
    let rig = Rig::new().await;
    let data = rig.data_dir();
    fs::write(data.file("switchboard.db.new"), "half").expect("written");
    fs::write(data.file(".agent.key.switchboard-1-0"), "half").expect("written");
    let peer = rig.start().await;
    assert!(peer.service.first_agent_key().is_some());
    assert!(!data.file("switchboard.db.new").exists() && !data.file(".agent.key.switchboard-1-0").exists());
}

#[tokio::test]
async fn settings_that_cannot_be_used_are_named() {
    let mut rig = Rig::new().await;
    rig.config.auth.database = Some("postgres://nowhere".into());
    let (message, configuration) = refused(&rig).await;
    assert!(configuration && message.contains("auth.database") && message.contains("postgres://nowhere"), "{message}");
    rig.config.auth.database = None;
    rig.config.auth.identity_url = "http://auth.example".into();
    let (message, configuration) = refused(&rig).await;
    assert!(configuration && message.contains("auth.identity_url"), "{message}");
    rig.config.auth.identity_url = "https://auth.example".into();
    rig.config.transport.ca_file = Some(rig.root.path().join("nothing.pem"));
    let (message, configuration) = refused(&rig).await;
    assert!(configuration && message.contains("nothing.pem"), "{message}");
    assert!(!rig.database().exists(), "nothing was made");
}
