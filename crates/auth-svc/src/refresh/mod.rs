//! Refreshing: once per version, whoever asks and however often.
//!
//! The rules are those of Codex CLI's own gateway login. A refresh runs in a tracked task that outlives its callers: a
//! refresh token is good once, so an answer that nobody waits for any more must still reach the database. What it
//! brought is durable before anybody is handed it; while the database fails it is kept in memory and written again.

mod classify;
mod notes;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::{Clock, Failure, Reason, service};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use secrecy::ExposeSecret;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::identity::{CLIENT_ID, Identity, NoAnswer};
use crate::jwt::unverified_claims;
use crate::store::{Credential, Kind, LatchKind, RefreshedTokens, Store};

pub(crate) use classify::Tokens;
use classify::{Refusal, classify};
pub(crate) use notes::{Note, Notes};

const TOKEN_PATH: &str = "/oauth/token";

/// Why a token is refreshed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// It has expired, or is about to.
    Expiry,
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
            Self::Expiry | Self::Operator => "proactive_expiry",
        }
    }
}

type Flight = Shared<BoxFuture<'static, Result<(), Failure>>>;

/// Refreshed tokens that the database did not take yet.
struct Pending {
    label: String,
    spent: i32,
    tokens: RefreshedTokens,
}

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
    ) -> Self {
        let (flights, pending) = (Mutex::default(), Mutex::default());
        let notes = Notes::default();
        Self { inner: Arc::new(Inner { store, identity, clock, tracker, closing, notes, flights, pending }) }
    }

    /// What is known for the moment.
    pub(crate) fn notes(&self) -> &Notes {
        &self.inner.notes
    }

    /// The only origin that is sent a refresh token.
    pub(crate) fn origin(&self) -> &str {
        self.inner.identity.origin()
    }

    /// May this credential be refreshed here at all? If not, why.
    pub(crate) fn can_refresh(&self, credential: &Credential) -> Result<(), String> {
        can_refresh(credential, self.origin())
    }

    /// Labels of credentials whose refreshed tokens wait to be written.
    pub(crate) fn pending(&self) -> Vec<String> {
        lock(&self.inner.pending).values().map(|p| p.label.clone()).collect()
    }

    /// True while a refresh of this credential is under way, or what it brought waits for the database.
    pub(crate) fn is_at(&self, id: &str) -> bool {
        lock(&self.inner.flights).contains_key(id) || lock(&self.inner.pending).contains_key(id)
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
        flight.await
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
        // Read anew: the version that the caller saw may be refreshed already.
        let Some(credential) = self.inner.store.credential_by_id(id).await? else { return Ok(()) };
        if credential.version > seen || self.can_refresh(&credential).is_err() || needs_login(&credential) {
            return Ok(());
        }
        match self.ask(&credential, why).await {
            Ok(tokens) => self.keep(&credential, tokens, why).await,
            Err(Refusal::Permanent(cause)) => {
                tracing::warn!(credential = %credential.label, %cause, "the identity provider refused a refresh for good");
                self.inner.store.latch(id, credential.version, LatchKind::NeedsLogin, &cause).await?;
                Ok(())
            }
            Err(Refusal::Transient { cause, retry_after }) => {
                tracing::warn!(credential = %credential.label, %cause, "a refresh failed for now");
                let now_ms = self.inner.clock.now_ms();
                self.inner.notes.failed(id, credential.version, &cause, retry_after, now_ms);
                Ok(())
            }
        }
    }

    async fn ask(&self, credential: &Credential, why: Why) -> Result<Tokens, Refusal> {
        let Some(refresh_token) = credential.secrets.refresh() else {
            return Err(Refusal::Permanent("it has no refresh token".to_owned()));
        };
        let body = json!({
            "client_id": credential.client_id.as_deref().unwrap_or(CLIENT_ID),
            "grant_type": "refresh_token",
            "refresh_token": refresh_token.expose_secret(),
            "refresh_reason": why.as_str(),
        });
        match self.inner.identity.post_json(TOKEN_PATH, &body).await {
            Ok(answer) => classify(&answer),
            Err(NoAnswer(cause)) => Err(Refusal::transient(cause)),
        }
    }

    /// Makes what a refresh brought durable.
    async fn keep(&self, credential: &Credential, tokens: Tokens, why: Why) -> Result<(), Failure> {
        let claims = tokens.access.as_ref().map(|t| unverified_claims(t.expose_secret())).unwrap_or_default();
        let now_s = self.inner.clock.now_s();
        if tokens.access.is_none() {
            // Written all the same, for its refresh token; the next try has to wait like after a failure.
            let cause = "the identity provider answered without an access token";
            let next = credential.version.saturating_add(1);
            self.inner.notes.failed(&credential.id, next, cause, None, self.inner.clock.now_ms());
        }
        let has_access = tokens.access.is_some();
        let tokens = RefreshedTokens {
            access_expires_at: claims.exp.or(tokens.expires_in.map(|seconds| now_s.saturating_add(seconds))),
            plan: claims.plan,
            email: claims.email,
            recovery: why == Why::Rejected,
            access: tokens.access,
            refresh: tokens.refresh,
            id_token: tokens.id_token,
        };
        let pending = Pending { label: credential.label.clone(), spent: credential.version, tokens };
        lock(&self.inner.pending).insert(credential.id.clone(), pending);
        let written = self.write_pending(&credential.id).await;
        match &written {
            Ok(()) if has_access => self.inner.notes.forget(&credential.id),
            Ok(()) => {}
            Err(_) => self.retry_in_background(credential.id.clone(), credential.version),
        }
        written
    }

    /// Writes what an earlier refresh brought, if the database did not take it then.
    async fn write_pending(&self, id: &str) -> Result<(), Failure> {
        let waiting = lock(&self.inner.pending).get(id).map(|p| (p.label.clone(), p.spent, p.tokens.clone()));
        let Some((label, spent, tokens)) = waiting else { return Ok(()) };
        match self.inner.store.store_refreshed(id, spent, &tokens).await {
            Ok(written) => {
                lock(&self.inner.pending).remove(id);
                if written {
                    tracing::info!(credential = %label, version = spent + 1, "refreshed a token");
                } else {
                    tracing::warn!(credential = %label, version = spent, "a refresh came too late: there is a newer login");
                }
                Ok(())
            }
            Err(error) => {
                tracing::error!(credential = %label, %error, "a refreshed token is not written yet; it is kept in memory");
                let mut failure = Failure::from(error);
                failure.message = format!(
                    "the refreshed token of credential {label} could not be written, and is not used before it is: {}",
                    failure.message
                );
                Err(failure)
            }
        }
    }

    fn retry_in_background(&self, id: String, spent: i32) {
        let this = self.clone();
        let retry = async move {
            let mut wait = Duration::from_millis(200);
            loop {
                let closing = tokio::time::timeout(wait, this.inner.closing.cancelled()).await.is_ok();
                // Through the single flight, so that no refresh starts beside it.
                let written = this.refresh(&id, spent, Why::Expiry).await;
                match written {
                    Ok(()) => return,
                    Err(failure) if closing => {
                        tracing::error!(%failure, "shutting down with a refreshed token that the database did not take");
                        return;
                    }
                    Err(_) => wait = (wait * 2).min(Duration::from_secs(5)),
                }
            }
        };
        self.inner.tracker.spawn(retry);
    }
}

fn needs_login(credential: &Credential) -> bool {
    credential.latch.as_ref().is_some_and(|latch| latch.kind == LatchKind::NeedsLogin)
}

/// May `credential` be refreshed at the identity provider of this origin? If not, why.
pub(crate) fn can_refresh(credential: &Credential, origin: &str) -> Result<(), String> {
    if credential.kind != Kind::OAuth {
        return Err("it is an API key, which is never refreshed".to_owned());
    }
    if credential.borrowed {
        return Err("it is borrowed: its other holder refreshes it; import it again for its newer token".to_owned());
    }
    if !issued_by(credential, origin) {
        let issuer = credential.issuer.as_deref().unwrap_or("an unknown issuer");
        return Err(format!(
            "it was issued by {issuer}, and a refresh token goes to no other origin than its issuer's"
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
