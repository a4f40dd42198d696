//! What was read a moment ago, while nothing has been written since, by this process or by another.
//!
//! A call must not be bound by what another process has changed meanwhile, and asking SQLite costs more than all the rest
//! of a binding. So it is asked what SQLite itself asks when it wants to know whether its own page cache still stands: the
//! head of the write-ahead log's index, in the file beside the database that all its processes share. Every commit
//! changes it before it returns (<https://sqlite.org/walformat.html#the_wal_index_file_format>: a counter of changes, the
//! length of the log, the checksum of its last frame).

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::open::with_suffix;
use super::selections::Mode;
use super::{Credential, Store, StoreError};

/// The head is there twice: whoever reads while it is written sees two that differ.
const HEAD_BYTES: usize = 48;
/// Where in it a byte says that it is in use.
const IN_USE: usize = 12;
/// Rests and refreshes end by the clock: after so many milliseconds a reading is made again although nothing was written.
const LASTS_MS: i64 = 500;
/// Most readings kept: one for each provider that calls ask for.
const MOST: usize = 64;

/// The head of the log's index: equal heads, equal content.
type Head = [u8; HEAD_BYTES];

/// Open index files of this process, by their identity. One that exists is never closed here: closing any descriptor of
/// a file gives up all locks that the process has on it (POSIX), and SQLite's are on this one.
static OPEN: Mutex<Vec<Arc<File>>> = Mutex::new(Vec::new());

/// Readings of one database.
#[derive(Debug, Default)]
pub(super) struct Recent {
    index: Mutex<Option<Arc<File>>>,
    readings: Mutex<HashMap<String, Reading>>,
}

#[derive(Clone, Debug)]
struct Reading {
    head: Head,
    /// Unix milliseconds.
    at_ms: i64,
    credentials: Option<Vec<Arc<Credential>>>,
    mode: Option<Mode>,
}

impl Recent {
    /// The head now; `None` where there is none that could be relied on.
    fn head(&self, database: &Path) -> Option<Head> {
        let mut index = lock(&self.index);
        // A file without a name is one that SQLite has given up: the database has another by now, or none.
        if !index.as_ref().is_some_and(is_named) {
            *index = open(database);
        }
        let mut both = [0; 2 * HEAD_BYTES];
        index.as_ref()?.read_exact_at(&mut both, 0).ok()?;
        let (head, again) = both.split_first_chunk::<HEAD_BYTES>()?;
        (head == again && head.get(IN_USE).is_some_and(|byte| *byte == 1)).then_some(*head)
    }

    /// What was read of `provider` while the head was this one, and not long ago.
    fn reading(&self, provider: &str, head: &Head, now_ms: i64) -> Option<Reading> {
        let readings = lock(&self.readings);
        let found = readings.get(provider)?;
        let lasts = (0..LASTS_MS).contains(&(now_ms - found.at_ms));
        (lasts && found.head == *head).then(|| found.clone())
    }

    fn keep(&self, provider: &str, reading: Reading) {
        let mut readings = lock(&self.readings);
        if readings.len() >= MOST && !readings.contains_key(provider) {
            readings.clear();
        }
        readings.insert(provider.to_owned(), reading);
    }
}

impl Store {
    /// As [`Store::list_credentials`], possibly as it was read before, if no write has been committed since.
    pub(crate) async fn recent_credentials(&self, provider: Option<&str>) -> Result<Vec<Arc<Credential>>, StoreError> {
        // No provider is called like this.
        let name = provider.unwrap_or("");
        // Before the reading: what is read is of this moment or later, never earlier.
        let Some((head, known)) = self.known(name) else {
            return Ok(self.list_credentials(provider).await?.into_iter().map(Arc::new).collect());
        };
        if let Some(credentials) = known.as_ref().and_then(|known| known.credentials.as_ref()) {
            return Ok(credentials.clone());
        }
        let at_ms = self.clock().now_ms();
        let credentials: Vec<_> = self.list_credentials(provider).await?.into_iter().map(Arc::new).collect();
        let mode = known.and_then(|known| known.mode);
        let kept = Some(credentials.clone());
        self.inner.recent.keep(name, Reading { head, at_ms, credentials: kept, mode });
        Ok(credentials)
    }

    /// As [`Store::selection`], possibly as it was read before, if no write has been committed since.
    pub(crate) async fn recent_selection(&self, provider: &str) -> Result<Mode, StoreError> {
        let Some((head, known)) = self.known(provider) else { return self.selection(provider).await };
        if let Some(mode) = known.as_ref().and_then(|known| known.mode) {
            return Ok(mode);
        }
        let mode = self.selection(provider).await?;
        let fresh = Reading { head, at_ms: self.clock().now_ms(), credentials: None, mode: None };
        self.inner.recent.keep(provider, Reading { mode: Some(mode), ..known.unwrap_or(fresh) });
        Ok(mode)
    }

    fn known(&self, provider: &str) -> Option<(Head, Option<Reading>)> {
        let head = self.inner.recent.head(self.path())?;
        Some((head, self.inner.recent.reading(provider, &head, self.clock().now_ms())))
    }
}

/// Opens the index of the log, which stands beside the database itself, not beside a link to it.
fn open(database: &Path) -> Option<Arc<File>> {
    let path = with_suffix(&database.canonicalize().ok()?, "-shm");
    let mut open = lock(&OPEN);
    // Nobody has locks on a file that SQLite has given up.
    open.retain(is_named);
    let wanted = path.metadata().ok()?;
    let same = |file: &&Arc<File>| {
        file.metadata().is_ok_and(|found| (found.dev(), found.ino()) == (wanted.dev(), wanted.ino()))
    };
    if let Some(file) = open.iter().find(same) {
        return Some(Arc::clone(file));
    }
    let file = Arc::new(File::open(path).ok()?);
    open.push(Arc::clone(&file));
    Some(file)
}

fn is_named(file: &Arc<File>) -> bool {
    file.metadata().is_ok_and(|found| found.nlink() > 0)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere cannot leave any of these half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
