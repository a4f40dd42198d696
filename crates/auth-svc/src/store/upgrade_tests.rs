//! A database of the first version, and one of a later version than this.

mod rows;

use std::borrow::Cow;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use domain::Clock;
use secrecy::ExposeSecret;
use service_kit::SecretKey;
use sqlx::migrate::Migrator;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqliteConnection};

use super::open::{CANARY, CANARY_TEXT, MIGRATIONS};
use super::{Keys, Store, copies, open};
use crate::error::BuildError;
use crate::vault::{Place, Vault};

async fn connect(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(path).create_if_missing(true).connect().await.expect("connected")
}

/// The database as the first version made it.
async fn first_version(path: &Path, key: &SecretKey) {
    of_version(path, key, 1).await;
}

/// The database as a program of this schema version made it: its schema, its canary, and one login.
async fn of_version(path: &Path, key: &SecretKey, version: i64) {
    let mut connection = connect(path).await;
    let mut first = Migrator::DEFAULT;
    first.migrations = Cow::Owned(MIGRATIONS.iter().filter(|known| known.version <= version).cloned().collect());
    first.run(&mut connection).await.expect("made");
    let vault = Vault::new(key.clone());
    sqlx::query("INSERT INTO vault_canary (id, key_id, sealed) VALUES (1, ?, ?)")
        .bind(key.id())
        .bind(vault.seal(CANARY, CANARY_TEXT).expect("sealed"))
        .execute(&mut connection)
        .await
        .expect("written");
    let place = |column| Place { table: "credentials", row: "id-1", column };
    sqlx::query(
        "INSERT INTO credentials (id, label, provider, kind, position, source, created_at, access_token, refresh_token)
         VALUES ('id-1', 'main', 'openai-codex', 'oauth', 0, 'codex', 1, ?, ?)",
    )
    .bind(vault.seal(place("access_token"), b"a-one").expect("sealed"))
    .bind(vault.seal(place("refresh_token"), b"r-one").expect("sealed"))
    .execute(&mut connection)
    .await
    .expect("written");
    connection.close().await.expect("closed");
}

async fn start(path: &Path, key: &SecretKey) -> Result<Store, BuildError> {
    let keys = Keys { current: key.clone(), next: None, source: "its key".to_owned() };
    open(path, keys, Clock::manual(0)).await
}

async fn works(store: &Store) {
    let main = store.credential_by_label("main").await.expect("read").expect("there");
    assert_eq!(main.secrets.refresh().map(ExposeSecret::expose_secret), Some("r-one"));
    assert!(!main.unconfirmed);
    store.check().await.expect("it takes writes");
}

fn newest() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().expect("some")
}

fn place() -> (tempfile::TempDir, PathBuf, SecretKey) {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("switchboard.db");
    (dir, path, SecretKey::generate().expect("random"))
}

#[tokio::test]
async fn a_database_of_the_first_version_is_copied_and_goes_on() {
    let (_dir, path, key) = place();
    first_version(&path, &key).await;
    // Copies of earlier upgrades: the newest three of all are kept.
    for version in [-3, -2, -1] {
        std::fs::write(format!("{}.before-{version}", path.display()), "old").expect("written");
    }
    let store = start(&path, &key).await.expect("opened");
    works(&store).await;
    let (from, to) = store.upgraded().map(|done| (done.from, done.to)).expect("it was upgraded");
    assert_eq!((from, to), (1, newest()));
    store.close().await;
    let found: Vec<i64> = copies(&path).into_iter().map(|(version, _)| version).collect();
    assert_eq!(found, [newest(), -1, -2]);
    let (_, copy) = copies(&path).swap_remove(0);
    assert_eq!(std::fs::metadata(&copy).expect("there").permissions().mode() & 0o777, 0o600);
    let bytes = std::fs::read(&copy).expect("read");
    assert!(!bytes.windows(5).any(|window| window == b"r-one"), "its values stay sealed");
    // Nothing is due any more: no further copy is made.
    std::fs::remove_file(&copy).expect("removed");
    start(&path, &key).await.expect("opened").close().await;
    assert!(!copy.exists());
}

#[tokio::test]
async fn without_a_copy_there_is_no_migration() {
    let (_dir, path, key) = place();
    first_version(&path, &key).await;
    // The name is taken by what cannot be removed, as a full disk would have it.
    let hindrance = PathBuf::from(format!("{}.before-{}.new", path.display(), newest()));
    std::fs::create_dir(&hindrance).expect("made");
    let before = std::fs::read(&path).expect("read");
    let refused = start(&path, &key).await.expect_err("refused");
    assert!(matches!(refused, BuildError::NoCopy { .. }) && !refused.is_configuration(), "{refused}");
    let text = refused.to_string();
    assert!(text.contains("Nothing was changed") && text.contains(".before-"), "{text}");
    let mut connection = connect(&path).await;
    let versions: Vec<i64> =
        sqlx::query_scalar("SELECT version FROM _sqlx_migrations").fetch_all(&mut connection).await.expect("read");
    assert_eq!(versions, [1]);
    connection.close().await.expect("closed");
    assert_eq!(std::fs::read(&path).expect("read").len(), before.len());
    std::fs::remove_dir(&hindrance).expect("removed");
    works(&start(&path, &key).await.expect("opened")).await;
}

#[tokio::test]
async fn an_older_program_says_the_way_back_and_it_works() {
    let (dir, path, key) = place();
    first_version(&path, &key).await;
    start(&path, &key).await.expect("opened").close().await;
    // A newer program has used it since, which copied it before.
    let newer = PathBuf::from(format!("{}.before-9999", path.display()));
    std::fs::copy(&path, &newer).expect("copied");
    let mut connection = connect(&path).await;
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'later', 1, x'00', 1)",
    )
    .execute(&mut connection)
    .await
    .expect("written");
    connection.close().await.expect("closed");

    let told = |error: BuildError| format!("{error}\n{}", error.next_step("switchboard --data-dir D"));
    let refused = told(start(&path, &key).await.expect_err("refused"));
    let known = newest().to_string();
    let steps = ["switchboard --data-dir D backup ~/", "switchboard --data-dir D restore ~/"];
    for part in ["schema version 9999", known.as_str()].into_iter().chain(steps) {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    // The commands that are printed for the copy are carried out as they are.
    let (_, last) = refused.split_once("or go back").expect("the way with the copy");
    let commands: Vec<&str> =
        last.lines().filter(|line| line.starts_with("  ") && !line.ends_with("D up")).map(str::trim).collect();
    assert_eq!(commands.len(), 2, "{refused}");
    std::fs::write(format!("{}-wal", path.display()), "left by a kill").expect("written");
    for command in commands {
        assert!(Command::new("sh").args(["-c", command]).status().expect("run").success(), "{command}");
    }
    let store = start(&path, &key).await.expect("opened");
    works(&store).await;
    assert_eq!(store.upgraded(), None, "the copy is of this very schema");
    assert!(newer.exists() && dir.path().join("switchboard.db.set-aside-wal").exists());
    store.close().await;
    std::fs::remove_file(&newer).expect("removed");

    // A copy under a key that is gone is not named.
    std::fs::rename(dir.path().join("switchboard.db.set-aside"), &path).expect("renamed");
    for side in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{side}", path.display()));
    }
    first_version(&dir.path().join("other"), &SecretKey::generate().expect("random")).await;
    std::fs::rename(dir.path().join("other"), &newer).expect("renamed");
    for (_, copy) in copies(&path).into_iter().skip(1) {
        std::fs::remove_file(copy).expect("removed");
    }
    let refused = told(start(&path, &key).await.expect_err("refused"));
    assert!(!refused.contains("or go back") && refused.contains("D backup"), "{refused}");
}

/// A database as it was before selections, with its rests, and with an order where `ordered`.
async fn older(path: &Path, ordered: bool) -> sqlx::SqlitePool {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true).foreign_keys(true);
    let pool = sqlx::SqlitePool::connect_with(options).await.expect("made");
    let before: Vec<_> = MIGRATIONS.iter().filter(|migration| migration.version < 5).cloned().collect();
    let before = Migrator { migrations: before.into(), ..Migrator::DEFAULT };
    before.run(&pool).await.expect("migrated");
    for (id, position) in [("1", i64::from(ordered)), ("2", i64::from(!ordered))] {
        sqlx::query(
            "INSERT INTO credentials (id, label, provider, kind, position, source, created_at)
             VALUES (?1, ?1, 'openai-codex', 'oauth', ?2, 'login', 0)",
        )
        .bind(id)
        .bind(position)
        .execute(&pool)
        .await
        .expect("filled");
    }
    let rests = "INSERT INTO rests (credential_id, model, kind, until_ms, strikes)
        VALUES ('1', '', 'USAGE_LIMIT', 77, 1), ('2', 'm', 'RATE_LIMITED', 5, 4)";
    sqlx::query(rests).execute(&pool).await.expect("filled");
    MIGRATIONS.run(&pool).await.expect("upgraded");
    pool
}

#[tokio::test]
async fn an_older_database_keeps_its_rests_and_its_order() {
    let dir = tempfile::tempdir().expect("tempdir");
    for (name, ordered) in [("ordered.db", true), ("plain.db", false)] {
        let pool = older(&dir.path().join(name), ordered).await;
        let rests: Vec<(String, String, String, i64, String, i64, i64)> = sqlx::query_as(
            "SELECT credential_id, model, kind, window_s, limit_id, until_ms, strikes FROM rests ORDER BY credential_id",
        )
        .fetch_all(&pool)
        .await
        .expect("read");
        let kept = |id: &str, model: &str, kind: &str, until_ms, strikes| {
            (id.to_owned(), model.to_owned(), kind.to_owned(), 0, String::new(), until_ms, strikes)
        };
        assert_eq!(rests, [kept("1", "", "USAGE_LIMIT", 77, 1), kept("2", "m", "RATE_LIMITED", 5, 4)]);
        let selections: Vec<(String, String)> =
            sqlx::query_as("SELECT provider, mode FROM selections").fetch_all(&pool).await.expect("read");
        let order = ("openai-codex".to_owned(), "order".to_owned());
        assert_eq!(selections, if ordered { vec![order] } else { Vec::new() });
    }
}
