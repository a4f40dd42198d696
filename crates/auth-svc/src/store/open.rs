//! Opening the database, and making it at first start.
//!
//! A new database is made under another name and renamed when it is complete, so that a file under the right name is
//! always a whole database, and whatever else stands there is damage to report, not a leftover to write over.

use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::Clock;
use service_kit::SecretKey;
use service_kit::files::{create_private, put_in_place, unwritten};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection, Row, SqliteConnection, SqlitePool};

use super::error::is_damage;
use super::{Store, Upgraded, cause, copy, meta};
use crate::error::BuildError;
use crate::vault::{Place, Vault};

pub(super) static MIGRATIONS: Migrator = sqlx::migrate!();

/// First bytes of every SQLite file.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// Connections that read.
const READERS: u32 = 4;
/// Longest wait for a connection: a hundred calls at once on a slow machine are no failed database, and a caller with less
/// patience leaves the queue by itself.
const QUEUED: Duration = Duration::from_secs(60);
pub(super) const CANARY: Place<'static> = Place { table: "vault_canary", row: "1", column: "sealed" };
pub(super) const CANARY_TEXT: &[u8] = b"switchboard";

/// The keys that a database may have.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    /// The one that it should have.
    pub(crate) current: SecretKey,
    /// The one that it has if a change of keys was cut off after its commit.
    pub(crate) next: Option<SecretKey>,
    /// Where they come from, for a person.
    pub(crate) source: String,
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal)
        // A rotated refresh token that a power cut takes back is a login lost.
        .synchronous(SqliteSynchronous::Full)
        // What was replaced or removed is wiped from the file, too: it may be a secret under a key that has leaked.
        .pragma("secure_delete", "ON")
        .busy_timeout(Duration::from_secs(5))
}

/// A pool of connections that stay: a file does not go away as a network does, so nothing is gained by asking whether
/// they live, at every use, nor by opening them again.
fn lasting(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(QUEUED)
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
        .before_acquire(|connection, _| Box::pin(sound(connection)))
}

/// After a write that the disk did not take, SQLite has ended the transaction by itself, and sqlx counts on it still: no
/// transaction would ever begin on this connection again. `false` replaces it.
async fn sound(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    if !connection.is_in_transaction() {
        return Ok(true);
    }
    // A rollback may be under way; this comes after it.
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
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
    open(path, Keys { current: key, next: None, source: "its key".to_owned() }, clock).await
}

async fn make<F>(path: &Path, unfinished: &Path, key: SecretKey, clock: Clock, fill: F) -> Result<(), BuildError>
where
    F: AsyncFnOnce(&Store) -> Result<(), BuildError>,
{
    let failed = |cause: String| BuildError::Create { path: path.display().to_string(), cause };
    // Made by us, so that it is private from its first byte; SQLite gives its side files the same mode.
    drop(create_private(unfinished).map_err(|e| failed(unwritten(path, &e)))?);
    let pool = writer(unfinished).await.map_err(|e| failed(cause(path, &e)))?;
    MIGRATIONS.run(&pool).await.map_err(|error| match error {
        MigrateError::Execute(e) | MigrateError::ExecuteMigration(e, _) => failed(cause(path, &e)),
        other => failed(other.to_string()),
    })?;
    let vault = Vault::new(key);
    write_canary(&pool, &vault, path).await.map_err(failed)?;
    let database_id = meta::database_id(&pool).await.map_err(|error| failed(cause(path, &error)))?;
    let store = Store::new(pool.clone(), pool, vault, unfinished.to_owned(), clock, database_id);
    let filled = fill(&store).await;
    store.close().await;
    filled?;
    put_in_place(unfinished, path).map_err(|e| failed(unwritten(path, &e)))
}

/// Removes a database that was not finished, with its side files.
fn remove(unfinished: &Path) {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let _ = fs::remove_file(with_suffix(unfinished, suffix));
    }
}

async fn write_canary(pool: &SqlitePool, vault: &Vault, path: &Path) -> Result<(), String> {
    let sealed = vault.seal(CANARY, CANARY_TEXT).map_err(|e| e.to_string())?;
    sqlx::query("INSERT INTO vault_canary (id, key_id, sealed) VALUES (1, ?, ?)")
        .bind(vault.key_id())
        .bind(sealed)
        .execute(pool)
        .await
        .map_err(|error| cause(path, &error))?;
    Ok(())
}

/// Opens the database at `path`, which exists. If a change of keys was cut off, it is brought to its end here, as far as
/// the database is concerned: `Store::key_id` tells which of the keys it has.
pub(crate) async fn open(path: &Path, keys: Keys, clock: Clock) -> Result<Store, BuildError> {
    let key_id = keys.current.id();
    match open_whole(path, keys, clock).await {
        Err(BuildError::Corrupt { path: name, cause, .. }) => {
            let copy = copy::usable(path, newest_schema(), &key_id).await;
            Err(BuildError::Corrupt { path: name, cause, copy })
        }
        opened => opened,
    }
}

fn corrupt(path: &Path, cause: impl Into<String>) -> BuildError {
    BuildError::Corrupt { path: path.display().to_string(), cause: cause.into(), copy: None }
}

/// The newest schema that this program knows.
fn newest_schema() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
}

async fn open_whole(path: &Path, keys: Keys, clock: Clock) -> Result<Store, BuildError> {
    check_file(path)?;
    let failed = |error: sqlx::Error| database_error(path, &error);
    let pool = writer(path).await.map_err(failed)?;
    // A torn file is found now and not in the middle of a call. The database is small: this takes milliseconds.
    let verdict: String = sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&pool).await.map_err(failed)?;
    if verdict != "ok" {
        return Err(corrupt(path, verdict));
    }
    let vault = Vault::new(keys.current);
    let changing = keys.next.is_some();
    if let Some(next) = keys.next {
        vault.learn(next);
    }
    check_canary(&pool, &vault, path, &keys.source).await?;
    let migrated = migrate(&pool, path, &vault.key_id()).await;
    if migrated.is_err() {
        // Whoever is told to move the file away must not race with this connection's end.
        pool.close().await;
    }
    let upgraded = migrated?;
    let database_id = meta::database_id(&pool).await.map_err(failed)?;
    let readers = lasting(READERS).connect_with(options(path).pragma("query_only", "ON")).await.map_err(failed)?;
    let store = Store::new(pool, readers, vault, path.to_owned(), clock, database_id).after(upgraded);
    if changing {
        store.seal_leftovers().await.map_err(|error| error.at_open(path))?;
    }
    Ok(store)
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
        return Err(corrupt(path, cause));
    }
    if mode & 0o077 != 0 && fs::set_permissions(path, Permissions::from_mode(0o600)).is_err() {
        tracing::warn!(path = %path.display(), "others can read the database file; run: chmod 600");
    }
    Ok(())
}

async fn check_canary(pool: &SqlitePool, vault: &Vault, path: &Path, key_source: &str) -> Result<(), BuildError> {
    let failed = |error: sqlx::Error| database_error(path, &error);
    let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema WHERE name = 'vault_canary'")
        .fetch_one(pool)
        .await
        .map_err(failed)?;
    let foreign = || corrupt(path, "it is not a Switchboard database");
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
    if !vault.switch_to(&key_id) {
        return Err(BuildError::WrongKey {
            path: path.display().to_string(),
            database_key: key_id,
            key_source: key_source.to_owned(),
            key: vault.key_id(),
        });
    }
    match vault.open(CANARY, &sealed) {
        Ok(_) => Ok(()),
        Err(e) => Err(corrupt(path, format!("its test row: {e}"))),
    }
}

async fn migrate(pool: &SqlitePool, path: &Path, key_id: &str) -> Result<Option<Upgraded>, BuildError> {
    let known = newest_schema();
    let present: Vec<i64> = sqlx::query_scalar("SELECT version FROM _sqlx_migrations ORDER BY version DESC")
        .fetch_all(pool)
        .await
        .map_err(|error| database_error(path, &error))?;
    let unknown = |version: &i64| MIGRATIONS.iter().all(|migration| migration.version != *version);
    if let Some(version) = present.into_iter().find(unknown) {
        let copy = copy::usable(path, known, key_id).await;
        return Err(BuildError::NewerSchema { path: path.display().to_string(), version, known, copy });
    }
    let upgraded = copy::before_migration(pool, path, &MIGRATIONS).await?;
    MIGRATIONS.run(pool).await.map_err(|error| match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => database_error(path, &error),
        other => corrupt(path, other.to_string()),
    })?;
    Ok(upgraded)
}

/// Damage is told from everything else: what is damaged needs a backup, the rest needs a working disk.
pub(super) fn database_error(path: &Path, error: &sqlx::Error) -> BuildError {
    let cause = cause(path, error);
    if is_damage(&cause) { corrupt(path, cause) } else { BuildError::Open { path: path.display().to_string(), cause } }
}

pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
