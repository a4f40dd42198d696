//! Backups: one file, encrypted under a passphrase, that any engine's store can be filled from, on any host.
//!
//! `document` says what is in it, `envelope` how it is encrypted, and the store's `snapshot` which of it is taken in.

mod document;
mod envelope;

use domain::{Clock, Failure, Reason, service};
use secrecy::SecretString;

use crate::store::{Decided, Restored, Store, Taking};
use document::Document;
use envelope::{EnvelopeError, open, seal};

/// What came of a restore.
#[derive(Debug)]
pub(crate) struct Report {
    /// One for each credential and key of the backup.
    pub(crate) items: Vec<Restored>,
    /// Unix seconds at which the backup was made.
    pub(crate) made_at: i64,
    /// What the operator must know, in order.
    pub(crate) notes: Vec<String>,
}

fn invalid(message: impl Into<String>) -> Failure {
    Failure::new(Reason::RequestInvalid, service::AUTH, message)
}

/// Work for the processor, away from the threads that serve calls.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Failure::new(Reason::Internal, service::AUTH, format!("the encryption ended: {error}")))
}

/// A backup of `store` as it is now: the bytes of the file.
pub(crate) async fn make(store: &Store, clock: &Clock, passphrase: SecretString) -> Result<Vec<u8>, Failure> {
    check(&passphrase)?;
    let document = Document::new(store.snapshot().await?, store.database_id(), clock.now_s());
    let sealed = beside(move || seal(&document.to_json()?, &passphrase)).await?;
    sealed.map_err(|error| Failure::new(Reason::Internal, service::AUTH, error.to_string()))
}

/// Takes a backup in.
pub(crate) async fn restore(
    store: &Store,
    file: bytes::Bytes,
    passphrase: SecretString,
    busy: &(dyn Fn(&str) -> bool + Sync),
    dry_run: bool,
) -> Result<Report, Failure> {
    check(&passphrase)?;
    let document = beside(move || Document::from_json(&open(&file, &passphrase)?)).await?.map_err(unusable)?;
    let same_database = document.database_id == store.database_id();
    let taking = Taking { same_database, busy, dry_run };
    let items = store.restore(&document.tables, &taking).await?;
    let notes = notes(&items, &document);
    Ok(Report { items, made_at: document.made_at, notes })
}

fn check(passphrase: &SecretString) -> Result<(), Failure> {
    use secrecy::ExposeSecret;
    match passphrase.expose_secret().is_empty() {
        true => Err(invalid("the passphrase is empty").param("passphrase")),
        false => Ok(()),
    }
}

fn unusable(error: EnvelopeError) -> Failure {
    let next = match &error {
        EnvelopeError::Passphrase => "give the passphrase that the backup was made under",
        EnvelopeError::NotABackup => "name a file that `switchboard backup` has made",
        EnvelopeError::Newer(_) => "restore it with the newer version of Switchboard that has made it",
        EnvelopeError::Damaged(_) => "fetch the file again from where it is kept, or take another backup",
        EnvelopeError::Seal(_) => "see the cause",
    };
    invalid(format!("{error}; nothing was changed")).next_step(next)
}

fn notes(items: &[Restored], document: &Document) -> Vec<String> {
    let mut notes = vec![format!("made by switchboard {}", document.made_by)];
    let waiting: Vec<&str> = items.iter().filter(|one| one.unconfirmed).map(|one| one.name.as_str()).collect();
    if !waiting.is_empty() {
        notes.push(format!(
            "unconfirmed: {}. Their access tokens are used while they live, their refresh tokens are not: one that was \
             spent since the backup ends its login. If nothing else has used these logins since, run `switchboard \
             credentials confirm LABEL` for each; else `switchboard login codex`",
            waiting.join(", ")
        ));
    }
    if items.iter().any(|one| one.decided == Decided::Created && one.kind == "key") {
        notes.push("the agent keys of the backup work here now: `switchboard keys list`".to_owned());
    }
    notes
}
