//! The audit log: every act of an operator, with who, what and what came of it.

use std::borrow::Cow;
use std::panic::AssertUnwindSafe;

use domain::{Clock, Failure, Reason, service};
use futures_util::FutureExt;
use service_kit::Peer;
use tokio_util::task::TaskTracker;
use tonic::Request;
use tracing::Instrument;

use crate::store::{AuditEntry, Store};

/// Longest subject, in characters.
const SUBJECT: usize = 200;
/// Longest detail, in characters.
const DETAIL: usize = 1000;

/// The outcome of what was done as it was asked for.
const OK: &str = "ok";

/// Who acts: whoever is at the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Actor(Option<Peer>);

impl Actor {
    /// Whoever is at the other end of the connection that `request` came by.
    pub(crate) fn of<T>(request: &Request<T>) -> Self {
        Self(request.extensions().get::<Peer>().cloned())
    }

    /// Who it is, for people. A user's name stands in a file, which is not read on the threads that serve calls.
    async fn name(&self) -> String {
        let Some(peer) = self.0.clone() else { return "unknown".to_owned() };
        tokio::task::spawn_blocking(move || peer.describe()).await.unwrap_or_else(|_| "unknown".to_owned())
    }
}

/// What an act was about, once it is over.
#[derive(Clone, Debug, Default)]
pub(crate) struct About {
    /// A label or name; empty where there is none.
    pub(crate) subject: String,
    /// More words; empty where there are none.
    pub(crate) detail: String,
    /// Why the act has failed all the same, where its result is an answer that says so.
    pub(crate) failure: Option<Failure>,
    /// What came of it in one word, `failed` or `partial`, where its result is an answer that tells more than success.
    pub(crate) outcome: Option<&'static str>,
}

impl About {
    /// An act on `subject` of which its result says the rest.
    pub(crate) fn new(subject: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { subject: subject.into(), detail: detail.into(), ..Self::default() }
    }
}

/// Writes the log. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Audit {
    store: Store,
    clock: Clock,
    tracker: TaskTracker,
}

impl Audit {
    /// Acts run on `tracker`.
    pub(crate) fn new(store: Store, clock: Clock, tracker: TaskTracker) -> Self {
        Self { store, clock, tracker }
    }

    /// Runs `act` to its end and records it by the name `name`, both in a task of their own: a caller that goes away, or
    /// whose time is up, loses neither. `about` says what it was about, as far as its result tells.
    ///
    /// # Errors
    ///
    /// Those of `act`; INTERNAL if it panics.
    pub(crate) async fn act<T: Send + 'static>(
        &self,
        by: Actor,
        name: &'static str,
        about: impl FnOnce(&Result<T, Failure>) -> About + Send + 'static,
        act: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Result<T, Failure> {
        let this = self.clone();
        let ended = move || Failure::new(Reason::Internal, service::AUTH, format!("{name} broke off"));
        let task = async move {
            let done = AssertUnwindSafe(act).catch_unwind().await.unwrap_or_else(|_| Err(ended()));
            let About { subject, detail, failure, outcome } = about(&done);
            let failure = done.as_ref().err().or(failure.as_ref());
            let outcome = failure.map_or(outcome.unwrap_or(OK), |failure| failure.reason.as_str());
            this.note(&by, name, &subject, outcome, &detail).await;
            done
        };
        self.tracker.spawn(task.in_current_span()).await.unwrap_or_else(|_| Err(ended()))
    }

    /// Records an act that is over. `act` is a dotted name, e.g. `key.revoke`; `subject` is a label or name; neither it
    /// nor `detail` holds a secret, and neither is kept longer than a person reads. A log that cannot be written does
    /// not undo the act: the entry goes to the process's own log instead. For what runs in a tracked task already.
    pub(crate) async fn record<T>(
        &self,
        by: &Actor,
        act: &'static str,
        subject: &str,
        detail: &str,
        result: &Result<T, Failure>,
    ) {
        let outcome = result.as_ref().map_or_else(|failure| failure.reason.as_str(), |_| OK);
        self.note(by, act, subject, outcome, detail).await;
    }

    /// As [`Self::record`], with the word for what came of it.
    pub(crate) async fn note(&self, by: &Actor, act: &'static str, subject: &str, outcome: &'static str, detail: &str) {
        let (subject, detail) = (&*shortened(subject, SUBJECT), &*shortened(detail, DETAIL));
        let actor = by.name().await;
        tracing::info!(actor, act, subject, outcome, detail, "an operator acted");
        let entry = AuditEntry {
            at_ms: self.clock.now_ms(),
            actor: actor.clone(),
            act: act.to_owned(),
            subject: subject.to_owned(),
            outcome: outcome.to_owned(),
            detail: detail.to_owned(),
        };
        if let Err(error) = self.store.insert_audit(&entry).await {
            tracing::error!(actor, act, subject, outcome, %error, "an act is missing from the audit log");
        }
    }
}

/// What was refused is in the log as it was asked for, and that may be of any length.
fn shortened(text: &str, most: usize) -> Cow<'_, str> {
    match text.char_indices().nth(most) {
        Some((end, _)) => Cow::Owned(format!("{}…", text.get(..end).unwrap_or_default())),
        None => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use service_kit::SecretKey;

    use super::*;

    #[tokio::test]
    async fn an_act_and_its_entry_outlive_their_caller_and_a_panic() {
        let clock = Clock::system();
        let key = SecretKey::generate().expect("random");
        let dir = tempfile::tempdir().expect("tempdir");
        let store =
            crate::store::create(&dir.path().join("db"), key, clock.clone(), async |_| Ok(())).await.expect("made");
        let (audit, acted) = (Audit::new(store.clone(), clock, TaskTracker::new()), tokio::sync::Notify::new());
        let acted = std::sync::Arc::new(acted);
        let done = acted.clone();
        let slow = async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            done.notify_one();
            Ok(())
        };
        let by = || Actor(Some(Peer::InProcess));
        let act = audit.act(by(), "key.revoke", |_| About::new("ci", ""), slow);
        // The caller goes away as soon as the act has begun.
        assert!(tokio::time::timeout(Duration::from_millis(1), act).await.is_err());
        acted.notified().await;
        let broken = async move { if store.path().exists() { panic!("on purpose") } else { Ok(()) } };
        let broken = audit.act(by(), "key.rotate", |_| About::new("ci", ""), broken).await;
        assert_eq!(broken.expect_err("broken").reason, Reason::Internal);
        audit.tracker.close();
        audit.tracker.wait().await;
        let entries = audit.store.list_audit(0, "", 10).await.expect("listed");
        let told: Vec<_> = entries.iter().map(|entry| (entry.act.as_str(), entry.outcome.as_str())).collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told.contains(&("key.revoke", "ok")) && told.contains(&("key.rotate", "INTERNAL")), "{told:?}");
    }

    #[test]
    fn texts_are_as_long_as_a_person_reads() {
        assert_eq!(shortened("four", 4), "four");
        assert_eq!(shortened("fünfe", 4), "fünf…");
        assert_eq!(shortened("", 4), "");
    }
}
