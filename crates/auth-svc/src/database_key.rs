//! Where the database key comes from, and how it is changed.
//!
//! A change survives a cut at every point. First the new key is durable in a place of its own (`<key file>.next`, or the
//! variable's `_NEXT`), then one transaction seals everything with it, then it takes the old one's place. As long as the
//! next key is there, a start knows both: the database's canary says which of them is in force, what the other has
//! sealed is sealed anew, and the files are put in order. No copy of the old key is kept.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::{Failure, Reason, service};
use service_kit::{KeyFileError, SecretKey, files, parse_key};
use zeroize::Zeroizing;

use crate::error::BuildError;
use crate::fail_point::fail_point;
use crate::store::{Rekeyed, Store, copies};

/// Holds the database key instead of a file: 64 hex digits. It wins over the file.
pub(crate) const VARIABLE: &str = "SWITCHBOARD_DATABASE_KEY";
/// Holds the key that a change shall bring, where the key itself is in [`VARIABLE`].
pub(crate) const NEXT_VARIABLE: &str = "SWITCHBOARD_DATABASE_KEY_NEXT";

/// Where the database key comes from.
#[derive(Clone, Debug)]
pub(crate) enum KeySource {
    /// Environment variables: the key, and the one that shall follow it.
    Environment {
        /// The key.
        key: SecretKey,
        /// The one that shall follow it.
        next: Option<SecretKey>,
    },
    /// A file.
    File(PathBuf),
}

/// A change that is done.
#[derive(Debug)]
pub(crate) struct Changed {
    /// Public name of the old key.
    pub(crate) old: String,
    /// Public name of the new one.
    pub(crate) new: String,
    /// Where the new one is, for a person.
    pub(crate) place: String,
    /// Values that were sealed anew.
    pub(crate) values: i32,
}

impl KeySource {
    /// The variable if it is set, else the file.
    pub(crate) fn find(
        file: PathBuf,
        variable: impl Fn(&str) -> Option<Zeroizing<String>>,
    ) -> Result<Self, BuildError> {
        let read = |name: &'static str| {
            // An empty variable is one that is not set.
            let text = variable(name).filter(|text| !text.trim().is_empty());
            text.map(|text| parse_key(&text).ok_or(BuildError::EnvironmentKey(name))).transpose()
        };
        Ok(match read(VARIABLE)? {
            Some(key) => Self::Environment { key, next: read(NEXT_VARIABLE)? },
            None => Self::File(file),
        })
    }

    /// The source, for a person.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Environment { .. } => format!("environment variable {VARIABLE}"),
            Self::File(file) => format!("key file {}", file.display()),
        }
    }

    /// The file, where it is one.
    pub(crate) fn file(&self) -> Option<&Path> {
        match self {
            Self::Environment { .. } => None,
            Self::File(file) => Some(file),
        }
    }

    /// The key. A first start makes one where there is none.
    pub(crate) fn key(&self, database: &Path, first_start: bool) -> Result<SecretKey, BuildError> {
        let file = match self {
            Self::Environment { key, .. } => return Ok(key.clone()),
            Self::File(file) => file,
        };
        match SecretKey::read(file) {
            // A key that was put there before the first start is used.
            Err(KeyFileError::Missing(_)) if first_start => {
                let key = SecretKey::generate()?;
                key.write_new(file)?;
                Ok(key)
            }
            Err(KeyFileError::Missing(key_file)) => {
                Err(BuildError::NoKey { database: database.display().to_string(), key_file, variable: VARIABLE })
            }
            read => Ok(read?),
        }
    }

    /// The key of a change that has begun, if there is one.
    pub(crate) fn next(&self) -> Result<Option<SecretKey>, BuildError> {
        match self {
            Self::Environment { next, .. } => Ok(next.clone()),
            Self::File(file) => match SecretKey::read(&next_file(file)) {
                Ok(key) => Ok(Some(key)),
                // It was cut off while it was written, so before the database was touched.
                Err(KeyFileError::Missing(_) | KeyFileError::Malformed(_)) => Ok(None),
                Err(error) => Err(error.into()),
            },
        }
    }

    /// The key with this public name; `None` if the source does not hold it.
    pub(crate) fn named(&self, id: &str) -> Result<Option<SecretKey>, BuildError> {
        // The next one first: a change that ends between the two looks moves it to where the second one goes.
        if let Ok(Some(next)) = self.next()
            && next.id() == id
        {
            return Ok(Some(next));
        }
        let key = match self {
            Self::Environment { key, .. } => key.clone(),
            Self::File(file) => SecretKey::read(file)?,
        };
        Ok(Some(key).filter(|key| key.id() == id))
    }

    /// Puts the files of a change that has begun in order (where several processes use them, within
    /// [`Store::with_key`]), for a database that has the key `in_force` and no other.
    pub(crate) fn settle(&self, in_force: &str) -> Result<(), BuildError> {
        let next = self.next()?;
        let taken = next.as_ref().is_some_and(|next| next.id() == in_force);
        match self {
            Self::Environment { key, .. } if taken && key.id() != in_force => {
                tracing::warn!(
                    "the database has the key of {NEXT_VARIABLE}: set {VARIABLE} to it, and take {NEXT_VARIABLE} away"
                );
                Ok(())
            }
            Self::Environment { .. } => Ok(()),
            Self::File(file) if taken => {
                let done = put_in_place(file).map_err(|error| BuildError::KeyChange(error.to_string()));
                tracing::info!(file = %file.display(), key = in_force, "finished a change of the database key");
                done
            }
            Self::File(file) => {
                let next = next_file(file);
                match fs::remove_file(&next) {
                    Ok(()) => {
                        tracing::info!(file = %next.display(), "removed the key of a change that never came about")
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    // It does no harm where it is.
                    Err(error) => tracing::warn!(file = %next.display(), %error, "a leftover key cannot be removed"),
                }
                Ok(())
            }
        }
    }

    /// Changes the key of `store`, which waits for `patience` until nobody refreshes. It must run to its end.
    pub(crate) async fn change(&self, store: &Store, patience: Duration) -> Result<Changed, Failure> {
        // An earlier change may have failed, here or in another process, and left its key.
        store.seal_leftovers().await?;
        let prepare = |old: &str| {
            self.settle(old).map_err(|error| failed(error.to_string()))?;
            self.prepare(old)
        };
        let changed = store.change_key_to(patience, prepare).await;
        if changed.is_err() {
            // Without a change its key is litter; the next start would clear it away, too.
            let cleared = store.with_key(|in_force| self.settle(in_force)).await;
            tracing::debug!(?cleared, "a change of the database key did not come about");
        }
        let Rekeyed { old, new, values } = changed?;
        fail_point("rekey-committed");
        // Before the old key goes: nothing that a writer had sealed with it may remain.
        let values = values.saturating_add(store.seal_leftovers().await?);
        fail_point("rekey-before-rename");
        let place = match self {
            Self::Environment { .. } => format!("environment variable {NEXT_VARIABLE}"),
            Self::File(file) => {
                store.with_key(|in_force| finish(file, in_force)).await?.map_err(|error| {
                    let place = next_file(file);
                    failed(format!(
                        "the database has its new key, but {} cannot be renamed to {}: {error}",
                        place.display(),
                        file.display()
                    ))
                    .next_step("mend that directory and start again, which renames it; remove neither of the two files")
                })?;
                file.display().to_string()
            }
        };
        fail_point("rekey-renamed");
        store.forget_old_values().await;
        remove_copies(store.path());
        Ok(Changed { old, new, place, values })
    }

    /// Makes the new key durable in a place of its own.
    fn prepare(&self, old: &str) -> Result<SecretKey, Failure> {
        match self {
            Self::Environment { next: Some(next), .. } if next.id() != old => Ok(next.clone()),
            Self::Environment { .. } => Err(Failure::new(
                Reason::RequestInvalid,
                service::AUTH,
                format!("the database key is in {VARIABLE}, which this process cannot change"),
            )
            .next_step(format!(
                "set {NEXT_VARIABLE} to a new key (`openssl rand -hex 32`) beside {VARIABLE}, restart, and run this again; \
                 then set {VARIABLE} to the new key and take {NEXT_VARIABLE} away"
            ))),
            Self::File(file) => {
                let new = SecretKey::generate().map_err(|error| failed(error.to_string()))?;
                new.write_new(&next_file(file)).map_err(|error| {
                    failed(format!("{error}; the database keeps its key, and nothing was changed"))
                        .next_step("the directory of the key file must be writable, and its disk must have room")
                })?;
                Ok(new)
            }
        }
    }
}

fn failed(message: String) -> Failure {
    Failure::new(Reason::StoreUnavailable, service::AUTH, message)
}

/// The file that a link points to is the one that is replaced.
fn real(file: &Path) -> PathBuf {
    fs::canonicalize(file).unwrap_or_else(|_| file.to_owned())
}

fn next_file(file: &Path) -> PathBuf {
    let mut name = real(file).into_os_string();
    name.push(".next");
    name.into()
}

fn put_in_place(file: &Path) -> Result<(), std::io::Error> {
    files::put_in_place(&next_file(file), &real(file))
}

/// Ends a change after its commit, unless another process has done so, which it does when it starts or changes the key
/// once more.
fn finish(file: &Path, in_force: &str) -> Result<(), std::io::Error> {
    let is_in_force = |key: Result<SecretKey, KeyFileError>| key.is_ok_and(|key| key.id() == in_force);
    match SecretKey::read(&next_file(file)) {
        Ok(next) if next.id() != in_force => Ok(()),
        Err(KeyFileError::Missing(_)) if is_in_force(SecretKey::read(file)) => Ok(()),
        _ => put_in_place(file),
    }
}

/// Copies from before migrations are sealed with the old key, which is gone: nothing opens them any more, unless the
/// old key is in the wrong hands.
fn remove_copies(database: &Path) {
    for (_, copy) in copies(database) {
        match fs::remove_file(&copy) {
            Ok(()) => tracing::info!(copy = %copy.display(), "removed a copy that was sealed with the old key"),
            Err(error) => tracing::warn!(copy = %copy.display(), %error, "a copy sealed with the old key stays"),
        }
    }
}
