//! Refreshing: once per version, whoever asks and however often.
//!
//! The rules are those of Codex CLI's own gateway login. A refresh runs in a tracked task that outlives its callers: a
//! refresh token is good once, so an answer that nobody waits for any more must still reach the database. What it
//! brought is durable before anybody is handed it; while the database fails it is kept in memory and written again.
//!
//! Before the request is sent, the intent to send it is durable, and says which token it spends: what a process that
//! dies in between leaves behind is known for what it is.

mod attempt;
mod classify;
mod counters;
mod keep;
#[cfg(test)]
mod model_tests;
mod notes;
pub(crate) mod outlook;
mod proactive;
mod schedule;
#[cfg(test)]
mod takeover_tests;

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use config::Config;
use domain::{Clock, Failure, Reason, service};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::fail_point::fail_point;
use crate::identity::Identity;
use crate::store::{Credential, Kind, Store};

#[cfg(test)]
pub(crate) use classify::Tokens;
#[cfg(any(test, fuzzing))]
pub(crate) use classify::{Refusal, classify};
pub(crate) use counters::Counters;
use keep::Pending;
pub(crate) use notes::{Note, Notes};
pub(crate) use outlook::{describe, login_due};
pub(crate) use schedule::{Rules, expiry_s, is_due, rejected_again_s};

/// Why a token is refreshed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// It has expired, or is about to.
    Expiry,
    /// Half of its life is over. Nobody waits.
    Proactive,
    /// The upstream rejected it.
    Rejected,
    /// An operator asked.
    Operator,
}

impl Why {
    /// As Codex CLI tells the provider.
    fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "unauthorized_recovery",
            Self::Expiry | Self::Proactive | Self::Operator => "proactive_expiry",
        }
    }
}

type Flight = Shared<BoxFuture<'static, Result<(), Failure>>>;

/// Refreshes credentials. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Refresher {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    identity: Identity,
    clock: Clock,
    tracker: TaskTracker,
    closing: CancellationToken,
    notes: Notes,
    flights: Mutex<HashMap<String, Flight>>,
    pending: Mutex<HashMap<String, Pending>>,
    /// Held by whoever writes what is pending.
    writing: tokio::sync::Mutex<()>,
    /// One for each OAuth client.
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    counters: Counters,
    rules: Rules,
    /// Names this process among all that may share the database.
    owner: String,
    attempts: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes a flight off the list when its task ends, also by a panic.
struct Landing<'a>(&'a Inner, &'a str);

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        lock(&self.0.flights).remove(self.1);
    }
}

impl Refresher {
    /// Tasks run on `tracker`; after `closing` nothing is retried any more.
    pub(crate) fn new(
        store: Store,
        identity: Identity,
        clock: Clock,
        tracker: TaskTracker,
        closing: CancellationToken,
        config: &Config,
    ) -> Self {
        let rules = Rules {
            origin: identity.origin().to_owned(),
            margin_s: i64::try_from(config.auth.refresh_margin.as_secs()).unwrap_or(i64::MAX),
            proactive: config.auth.proactive_refresh,
        };
        let inner = Inner {
            store,
            identity,
            clock,
            tracker,
            closing,
            notes: Notes::default(),
            flights: Mutex::default(),
            pending: Mutex::default(),
            writing: tokio::sync::Mutex::default(),
            turns: Mutex::default(),
            counters: Counters::default(),
            rules,
            owner: owner(),
            attempts: AtomicU64::new(0),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The identity provider.
    pub(crate) fn identity(&self) -> &Identity {
        &self.inner.identity
    }

    /// What refreshes came to so far.
    pub(crate) fn counters(&self) -> &Counters {
        &self.inner.counters
    }

    /// What is known for the moment.
    pub(crate) fn notes(&self) -> &Notes {
        &self.inner.notes
    }

    /// What this deployment has decided about refreshing.
    pub(crate) fn rules(&self) -> &Rules {
        &self.inner.rules
    }

    /// The only origin that is sent a refresh token.
    pub(crate) fn origin(&self) -> &str {
        &self.inner.rules.origin
    }

    /// May this credential be refreshed here at all? If not, why.
    pub(crate) fn can_refresh(&self, credential: &Credential) -> Result<(), String> {
        can_refresh(credential, self.origin())
    }

    /// True if `owner` is a refresh of this process.
    pub(crate) fn is_ours(&self, owner: &str) -> bool {
        owner.strip_prefix(self.inner.owner.as_str()).is_some_and(|rest| rest.starts_with('/'))
    }

    /// True while a refresh of this credential is under way, or what it brought waits for the database.
    pub(crate) fn is_at(&self, id: &str) -> bool {
        lock(&self.inner.flights).contains_key(id) || lock(&self.inner.pending).contains_key(id)
    }

    /// Waits until no refresh of this credential is under way, here or in another process, and what it brought is in the
    /// database, where that works.
    pub(crate) async fn settle(&self, id: &str) -> Result<(), Failure> {
        let flight = lock(&self.inner.flights).get(id).cloned();
        if let Some(flight) = flight {
            // What came of it stands in the database or in the notes.
            let _ = flight.await;
        }
        self.write_pending(id).await?;
        let began = std::time::Instant::now();
        while self.inner.store.refresh_is_open(id).await? && began.elapsed() < self.lease() {
            tokio::time::sleep(attempt::POLL).await;
        }
        Ok(())
    }

    /// Refreshes version `seen` of a credential, or waits for whoever does. When this returns, the database or the
    /// notes say what came of it. Fails only where the database does.
    pub(crate) async fn refresh(&self, id: &str, seen: i32, why: Why) -> Result<(), Failure> {
        let flight = {
            let mut flights = lock(&self.inner.flights);
            match flights.get(id) {
                Some(flight) => flight.clone(),
                None => {
                    let flight = self.launch(id.to_owned(), seen, why);
                    flights.insert(id.to_owned(), flight.clone());
                    flight
                }
            }
        };
        let done = flight.await;
        if why != Why::Proactive {
            fail_point("before_hand_out");
        }
        done
    }

    fn launch(&self, id: String, seen: i32, why: Why) -> Flight {
        let this = self.clone();
        let task = async move {
            let _landing = Landing(&this.inner, &id);
            this.run(&id, seen, why).await
        };
        let task = self.inner.tracker.spawn(task.in_current_span());
        let joined = async move {
            task.await.unwrap_or_else(|error| {
                Err(Failure::new(Reason::Internal, service::AUTH, format!("the refresh task ended: {error}")))
            })
        };
        joined.boxed().shared()
    }

    async fn run(&self, id: &str, seen: i32, why: Why) -> Result<(), Failure> {
        self.write_pending(id).await?;
        fail_point("before_intent");
        let Some((credential, begin)) = self.begin(id, seen, why).await? else { return Ok(()) };
        fail_point("after_intent");
        match self.ask(&credential, why).await {
            Ok(answer) => self.keep(&credential, begin.intent.clone(), answer, why).await,
            Err(refusal) => self.refused(&credential, &begin.intent, refusal).await,
        }
    }
}

/// Host, process, and what no other process has.
fn owner() -> String {
    let host = gethostname::gethostname().to_string_lossy().into_owned();
    format!("{host}/{}/{}", std::process::id(), uuid::Uuid::new_v4().simple())
}

/// May `credential` be refreshed at the identity provider of this origin? If not, why.
pub(crate) fn can_refresh(credential: &Credential, origin: &str) -> Result<(), String> {
    if credential.kind != Kind::OAuth {
        return Err("it is an API key, which is never refreshed".to_owned());
    }
    if credential.borrowed {
        return Err("it is borrowed: its other holder refreshes it; import it again for its newer token".to_owned());
    }
    if credential.exported_at.is_some() {
        return Err(
            "its ownership was given up by an export, and the other program refreshes it; import it again, or \
             log in, to take it back"
                .to_owned(),
        );
    }
    if !issued_by(credential, origin) {
        let issuer = credential.issuer.as_deref().unwrap_or("an unknown issuer");
        return Err(format!(
            "it was issued by {issuer}, and a refresh token goes to no other origin than its issuer's"
        ));
    }
    if credential.unconfirmed {
        return Err(format!(
            "it was restored from a backup, and its refresh token may be spent by now; if nothing else has used it \
             since, run `switchboard credentials confirm {}`",
            credential.label
        ));
    }
    match credential.secrets.refresh() {
        Some(_) => Ok(()),
        None => Err("it has no refresh token".to_owned()),
    }
}

/// True if the credential records this origin as its issuer.
pub(crate) fn issued_by(credential: &Credential, origin: &str) -> bool {
    let Some(issuer) = credential.issuer.as_deref() else { return false };
    match service_kit::UpstreamUrl::parse(issuer) {
        Ok(url) => url.origin == origin,
        Err(_) => issuer == origin,
    }
}
