//! The copy that is made before a migration: the way back to an older version. Its values stay sealed with the database
//! key.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use service_kit::files::{create_private, directory, put_in_place, unwritten};
use sqlx::migrate::Migrator;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqlitePool};

use super::cause;
use crate::error::BuildError;

/// Copies that are kept.
const KEPT: usize = 3;
const MARK: &str = ".before-";

/// A migration that was due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgraded {
    /// Schema before.
    pub from: i64,
    /// Schema now.
    pub to: i64,
    /// The copy of the database as it was before.
    pub copy: PathBuf,
}

/// Makes a copy of the database at `path` if `migrations` hold any that it has not seen, and tells so. Without the copy
/// there is no migration.
pub(super) async fn before_migration(
    pool: &SqlitePool,
    path: &Path,
    migrations: &Migrator,
) -> Result<Option<Upgraded>, BuildError> {
    let applied = applied(pool).await.map_err(|error| super::open::database_error(path, &error))?;
    let newest = migrations.iter().map(|migration| migration.version).max().unwrap_or(0);
    if migrations.iter().all(|migration| applied.contains(&migration.version)) {
        return Ok(None);
    }
    let present = applied.iter().copied().max().unwrap_or(0);
    let copy = named(path, newest);
    if let Some((older, _)) = head(&copy).await
        && older < present
    {
        // A migration to this very version was cut off half-way: the copy of the state before it is the better one.
        return Ok(Some(Upgraded { from: older, to: newest, copy }));
    }
    let failed = |cause: String| BuildError::NoCopy {
        path: path.display().to_string(),
        copy: copy.display().to_string(),
        cause,
    };
    make(pool, &copy).await.map_err(failed)?;
    tracing::info!(copy = %copy.display(), from = present, to = newest, "copied the database before its migration");
    for (_, old) in copies(path).into_iter().skip(KEPT) {
        match fs::remove_file(&old) {
            Ok(()) => tracing::info!(copy = %old.display(), "removed an old copy; the newest {KEPT} are kept"),
            Err(error) => tracing::warn!(copy = %old.display(), %error, "an old copy cannot be removed"),
        }
    }
    Ok(Some(Upgraded { from: present, to: newest, copy }))
}

async fn make(pool: &SqlitePool, copy: &Path) -> Result<(), String> {
    let mut unfinished = copy.as_os_str().to_owned();
    unfinished.push(".new");
    let unfinished = PathBuf::from(unfinished);
    // A start that was cut off may have left it.
    let _ = fs::remove_file(&unfinished);
    let done = async {
        let text = |error: std::io::Error| unwritten(copy, &error);
        let file = create_private(&unfinished).map_err(text)?;
        let name = unfinished.to_str().ok_or("its path is not UTF-8")?;
        sqlx::query("VACUUM INTO ?").bind(name).execute(pool).await.map_err(|error| cause(copy, &error))?;
        file.sync_all().and_then(|()| put_in_place(&unfinished, copy)).map_err(text)
    };
    let done: Result<(), String> = done.await;
    if done.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    done
}

async fn applied(pool: &SqlitePool) -> Result<Vec<i64>, sqlx::Error> {
    sqlx::query_scalar("SELECT version FROM _sqlx_migrations WHERE success").fetch_all(pool).await
}

/// Schema version of a copy, and the name of the key that its values are sealed with; `None` if it cannot be read.
async fn head(copy: &Path) -> Option<(i64, String)> {
    // Immutable: nothing is made beside it.
    let options = SqliteConnectOptions::new().filename(copy).read_only(true).immutable(true);
    let mut connection = options.connect().await.ok()?;
    let version = sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations WHERE success");
    let version: Option<i64> = version.fetch_one(&mut connection).await.ok()?;
    let key = sqlx::query_scalar("SELECT key_id FROM vault_canary").fetch_one(&mut connection).await.ok()?;
    let _ = connection.close().await;
    Some((version?, key))
}

fn named(path: &Path, version: i64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!("{MARK}{version}"));
    name.into()
}

/// All copies of the database at `path`, that before the newest version first.
pub(crate) fn copies(path: &Path) -> Vec<(i64, PathBuf)> {
    let mut start: OsString = path.file_name().unwrap_or_default().to_owned();
    start.push(MARK);
    let start = start.to_string_lossy().into_owned();
    let mut found: Vec<(i64, PathBuf)> = fs::read_dir(directory(path))
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.strip_prefix(&start)?.parse().ok()?;
            Some((version, entry.path()))
        })
        .collect();
    found.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    found
}

/// The newest copy of the database at `path` that a program whose newest schema is `known` opens with the key `key_id`.
pub(super) async fn usable(path: &Path, known: i64, key_id: &str) -> Option<PathBuf> {
    for (_, copy) in copies(path) {
        if head(&copy).await.is_some_and(|(version, key)| version <= known && key == key_id) {
            return Some(copy);
        }
    }
    None
}
