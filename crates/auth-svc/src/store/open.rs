//! Opening the database, and making it at first start.
//!
//! A new database is made under another name and renamed when it is complete, so that a file under the right name is
//! always a whole database, and whatever else stands there is damage to report, not a leftover to write over.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::Clock;
use service_kit::SecretKey;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Row, SqlitePool};

use super::{Store, cause};
use crate::error::BuildError;
use crate::vault::{Place, Vault};

static MIGRATIONS: Migrator = sqlx::migrate!();

/// First bytes of every SQLite file.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// Connections that read.
const READERS: u32 = 4;
const CANARY: Place<'static> = Place { table: "vault_canary", row: "1", column: "sealed" };
const CANARY_TEXT: &[u8] = b"switchboard";

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal)
        // A rotated refresh token that a power cut takes back is a login lost.
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(5))
}

/// A pool of connections that stay: a file does not go away as a network does, so nothing is gained by asking whether
/// they live, at every use, nor by opening them again.
fn lasting(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(Duration::from_secs(5))
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
}

async fn writer(path: &Path) -> Result<SqlitePool, sqlx::Error> {
    lasting(1).connect_with(options(path)).await
}

/// Makes a new database at `path`, lets `fill` put the first content into it, and opens it.
pub(crate) async fn create<F>(path: &Path, key: SecretKey, clock: Clock, fill: F) -> Result<Store, BuildError>
where
    F: AsyncFnOnce(&Store) -> Result<(), BuildError>,
{
    let unfinished = with_suffix(path, ".new");
    // A start that was cut off may have left it; nothing else uses the name.
    remove(&unfinished);
    let made = make(path, &unfinished, key.clone(), clock.clone(), fill).await;
    if made.is_err() {
        remove(&unfinished);
    }
    made?;
    open(path, key, "its key", clock).await
}

async fn make<F>(path: &Path, unfinished: &Path, key: SecretKey, clock: Clock, fill: F) -> Result<(), BuildError>
where
    F: AsyncFnOnce(&Store) -> Result<(), BuildError>,
{
    let failed = |cause: String| BuildError::Create { path: path.display().to_string(), cause };
    // Made by us, so that it is private from its first byte; SQLite gives its side files the same mode.
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(unfinished);
    file.map_err(|e| failed(e.to_string()))?;
    let pool = writer(unfinished).await.map_err(|e| failed(cause(&e)))?;
    MIGRATIONS.run(&pool).await.map_err(|error| match error {
        MigrateError::Execute(e) | MigrateError::ExecuteMigration(e, _) => failed(cause(&e)),
        other => failed(other.to_string()),
    })?;
    let vault = Vault::new(key);
    write_canary(&pool, &vault).await.map_err(failed)?;
    let store = Store::new(pool.clone(), pool, vault, unfinished.to_owned(), clock);
    let filled = fill(&store).await;
    store.close().await;
    filled?;
    fs::rename(unfinished, path).map_err(|e| failed(e.to_string()))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // So that a power cut does not take the new name back.
    fs::File::open(parent).and_then(|dir| dir.sync_all()).map_err(|e| failed(e.to_string()))
}

/// Removes a database that was not finished, with its side files.
fn remove(unfinished: &Path) {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let _ = fs::remove_file(with_suffix(unfinished, suffix));
    }
}

async fn write_canary(pool: &SqlitePool, vault: &Vault) -> Result<(), String> {
    let sealed = vault.seal(CANARY, CANARY_TEXT).map_err(|e| e.to_string())?;
    sqlx::query("INSERT INTO vault_canary (id, key_id, sealed) VALUES (1, ?, ?)")
        .bind(vault.key_id())
        .bind(sealed)
        .execute(pool)
        .await
        .map_err(|error| cause(&error))?;
    Ok(())
}

/// Opens the database at `path`, which exists. `key_source` names where the key comes from.
pub(crate) async fn open(path: &Path, key: SecretKey, key_source: &str, clock: Clock) -> Result<Store, BuildError> {
    check_file(path)?;
    let name = path.display().to_string();
    let failed = |error: sqlx::Error| database_error(&name, &error);
    let pool = writer(path).await.map_err(failed)?;
    // A torn file is found now and not in the middle of a call. The database is small: this takes milliseconds.
    let verdict: String = sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&pool).await.map_err(failed)?;
    if verdict != "ok" {
        return Err(BuildError::Corrupt { path: name, cause: verdict });
    }
    let vault = Vault::new(key);
    check_canary(&pool, &vault, &name, key_source).await?;
    migrate(&pool, &name).await?;
    let readers = lasting(READERS).connect_with(options(path).pragma("query_only", "ON")).await.map_err(failed)?;
    Ok(Store::new(pool, readers, vault, path.to_owned(), clock))
}

/// Is it a database at all? Nothing is written to a file that is not.
fn check_file(path: &Path) -> Result<(), BuildError> {
    let name = || path.display().to_string();
    let unreadable = |error: std::io::Error| BuildError::Unreadable { path: name(), cause: error.to_string() };
    let mut file = fs::File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode();
    let mut head = Vec::with_capacity(MAGIC.len());
    file.by_ref().take(MAGIC.len() as u64).read_to_end(&mut head).map_err(unreadable)?;
    if head != MAGIC {
        let cause = if head.is_empty() { "it is empty" } else { "it is not a SQLite database" };
        return Err(BuildError::Corrupt { path: name(), cause: cause.to_owned() });
    }
    if mode & 0o077 != 0 && fs::set_permissions(path, Permissions::from_mode(0o600)).is_err() {
        tracing::warn!(path = %path.display(), "others can read the database file; run: chmod 600");
    }
    Ok(())
}

async fn check_canary(pool: &SqlitePool, vault: &Vault, path: &str, key_source: &str) -> Result<(), BuildError> {
    let failed = |error: sqlx::Error| database_error(path, &error);
    let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema WHERE name = 'vault_canary'")
        .fetch_one(pool)
        .await
        .map_err(failed)?;
    let foreign =
        || BuildError::Corrupt { path: path.to_owned(), cause: "it is not a Switchboard database".to_owned() };
    if tables == 0 {
        return Err(foreign());
    }
    let row = sqlx::query("SELECT key_id, sealed FROM vault_canary WHERE id = 1")
        .fetch_optional(pool)
        .await
        .map_err(failed)?
        .ok_or_else(foreign)?;
    let key_id: String = row.try_get("key_id").map_err(failed)?;
    let sealed: Vec<u8> = row.try_get("sealed").map_err(failed)?;
    if key_id != vault.key_id() {
        return Err(BuildError::WrongKey {
            path: path.to_owned(),
            database_key: key_id,
            key_source: key_source.to_owned(),
            key: vault.key_id().to_owned(),
        });
    }
    match vault.open(CANARY, &sealed) {
        Ok(_) => Ok(()),
        Err(e) => Err(BuildError::Corrupt { path: path.to_owned(), cause: format!("its test row: {e}") }),
    }
}

async fn migrate(pool: &SqlitePool, path: &str) -> Result<(), BuildError> {
    MIGRATIONS.run(pool).await.map_err(|error| match error {
        MigrateError::VersionMissing(version) => BuildError::NewerSchema { path: path.to_owned(), version },
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => database_error(path, &error),
        other => BuildError::Corrupt { path: path.to_owned(), cause: other.to_string() },
    })
}

/// Damage is told from everything else: what is damaged needs a backup, the rest needs a working disk.
fn database_error(path: &str, error: &sqlx::Error) -> BuildError {
    let text = cause(error);
    let damaged = ["file is not a database", "malformed", "disk image", "unsupported file format"];
    if damaged.iter().any(|mark| text.contains(mark)) {
        BuildError::Corrupt { path: path.to_owned(), cause: text }
    } else {
        BuildError::Open { path: path.to_owned(), cause: text }
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
