//! One refresh: the intent, the request, and what its answer means.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use domain::{Failure, timestamp_ms};
use secrecy::ExposeSecret;
use serde_json::json;
use tokio::sync::OwnedMutexGuard;

use super::classify::{Refusal, Tokens, classify};
use super::counters::Outcome;
use super::{Refresher, Why, expiry_s, lock, outlook, schedule};
use crate::fail_point::fail_point;
use crate::identity::{CLIENT_ID, NoAnswer, TOKEN_PATH, Unanswered};
use crate::store::{Begun, Credential, Doubt, Intent, RefreshFailure};

/// How often a refresh looks whether another process has ended its own.
pub(super) const POLL: Duration = Duration::from_millis(100);
/// OAuth clients whose turns are kept although nobody waits for them.
const MOST_CLIENTS: usize = 100;

/// A refresh that may send its request. While this lives no other token request of the client starts in this process;
/// the database says so to others.
pub(super) struct Begin {
    pub(super) intent: Intent,
    _turn: OwnedMutexGuard<()>,
}

impl Refresher {
    /// How long turn and intent are kept from others: the request's time, and as much again to store its answer.
    pub(crate) fn lease(&self) -> Duration {
        self.inner.identity.timeout().saturating_mul(2)
    }

    /// The lease in milliseconds.
    pub(super) fn lease_ms(&self) -> i64 {
        i64::try_from(self.lease().as_millis()).unwrap_or(i64::MAX)
    }

    fn turn(&self, client_id: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = lock(&self.inner.turns);
        if turns.len() >= MOST_CLIENTS {
            // Those that nobody waits for.
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        }
        turns.entry(client_id.to_owned()).or_default().clone()
    }

    /// Waits until version `seen` may be refreshed, and makes the intent to do it durable. Whoever else was at it may have
    /// refreshed it, lost the answer or been refused, so everything is read and asked again after each wait. `None`: there
    /// is nothing to do any more, or somebody else does it and did not end in time.
    pub(super) async fn begin(&self, id: &str, seen: i32, why: Why) -> Result<Option<(Credential, Begin)>, Failure> {
        let attempt = self.inner.attempts.fetch_add(1, Ordering::Relaxed);
        let owner = format!("{}/{attempt}", self.inner.owner);
        let began = Instant::now();
        let mut first = None;
        loop {
            let Some(credential) = self.inner.store.credential_by_id(id).await? else { return Ok(None) };
            if credential.version > seen || !self.may_send(&credential, why, first.as_ref()) {
                return Ok(None);
            }
            let client_id = credential.client_id.as_deref().unwrap_or(CLIENT_ID);
            let turn = self.turn(client_id).lock_owned().await;
            if self.inner.closing.is_cancelled() {
                // A shutdown waits for the request that is under way, and for no other.
                let now = self.inner.clock.now_ms();
                let cause = "auth-svc is shutting down";
                self.inner.notes.failed(&credential.id, credential.version, cause, None, now, 0);
                return Ok(None);
            }
            match self.inner.store.begin_refresh(&credential, client_id, &owner, self.lease_ms()).await? {
                Begun::Taken(intent) => {
                    if let Some(doubt) = &intent.doubt {
                        tracing::warn!(credential = %credential.label, why = why.as_str(),
                            "a refresh token that may be spent is sent again: {}", outlook::describe(doubt));
                    }
                    return Ok(Some((credential, Begin { intent, _turn: turn })));
                }
                Begun::Moved => return Ok(None),
                Begun::Doubted => drop(turn),
                Begun::Held { same, owner: holder, until_ms } => {
                    drop(turn);
                    if began.elapsed() >= self.lease() {
                        self.held(&credential, same, &holder, until_ms);
                        return Ok(None);
                    }
                    tokio::time::sleep(POLL).await;
                }
            }
            first.get_or_insert(credential);
        }
    }

    /// May a request for this token be sent? `first` is what stood here before the wait, if there was one.
    fn may_send(&self, credential: &Credential, why: Why, first: Option<&Credential>) -> bool {
        if self.can_refresh(credential).is_err() || credential.refused().is_some() {
            return false;
        }
        if why == Why::Proactive && !self.is_due(credential) {
            return false;
        }
        let Some(first) = first else { return true };
        let now = self.inner.clock.now_ms();
        let lives = expiry_s(credential).is_none_or(|at| at > now / 1000);
        if lives && credential.refresh.doubt.is_some() && first.refresh.doubt.is_none() {
            // Somebody else's answer was lost during the wait. Who asks again knows of it.
            return false;
        }
        match &credential.refresh.failing {
            Some(failing) if failing.next_ms > now && failures(credential) != failures(first) => {
                let wait = (failing.next_ms - now) as f64 / 1000.0;
                self.inner.notes.failed(&credential.id, credential.version, &failing.cause, Some(wait), now, 0);
                false
            }
            _ => true,
        }
    }

    fn held(&self, credential: &Credential, same: bool, holder: &str, until_ms: i64) {
        let what = if same { "its refresh" } else { "a token request of the same OAuth client" };
        let cause =
            format!("{what} is under way or was cut off ({holder}); taken over after {}", timestamp_ms(until_ms));
        let now = self.inner.clock.now_ms();
        let wait = until_ms.saturating_sub(now).max(0) as f64 / 1000.0;
        self.inner.notes.failed(&credential.id, credential.version, &cause, Some(wait), now, 0);
    }

    /// Sends the request.
    pub(super) async fn ask(&self, credential: &Credential, why: Why) -> Result<(Tokens, Instant), Refusal> {
        let Some(refresh_token) = credential.secrets.refresh() else {
            return Err(Refusal::Permanent { cause: "it has no refresh token".to_owned(), maybe_spent: false });
        };
        let body = json!({
            "client_id": credential.client_id.as_deref().unwrap_or(CLIENT_ID),
            "grant_type": "refresh_token",
            "refresh_token": refresh_token.expose_secret(),
            "refresh_reason": why.as_str(),
        });
        let identity = self.inner.identity.by(&credential.egress).map_err(|NoAnswer(cause)| Refusal::Transient {
            cause,
            retry_after: None,
            in_doubt: false,
        })?;
        fail_point("before_post");
        let answer = identity.exchange_json(TOKEN_PATH, &body).await;
        let received = Instant::now();
        fail_point("after_answer");
        match answer {
            Ok(answer) => classify(&answer).map(|tokens| (tokens, received)),
            Err(Unanswered { cause, maybe_sent }) => {
                Err(Refusal::Transient { cause, retry_after: None, in_doubt: maybe_sent })
            }
        }
    }

    /// Records that the provider gave no tokens.
    pub(super) async fn refused(
        &self,
        credential: &Credential,
        intent: &Intent,
        refusal: Refusal,
    ) -> Result<(), Failure> {
        match refusal {
            Refusal::Permanent { cause, maybe_spent } => {
                self.inner.counters.count(Outcome::Refused);
                let cause = outlook::refused(&cause, intent.doubt.as_ref().filter(|_| maybe_spent));
                let note = self.inner.notes.get(&credential.id, credential.version);
                let rejected = note.is_some_and(|note| note.rejected);
                // The store is read again in the same transaction: another process may have stored what came after this
                // token, or a login may have replaced it.
                if self.inner.store.refuse_refresh(intent, &cause, rejected).await? {
                    tracing::warn!(credential = %credential.label, %cause, "the identity provider refused a refresh for good");
                } else {
                    tracing::info!(credential = %credential.label, %cause, "a refused refresh token was replaced already");
                }
            }
            Refusal::Transient { cause, retry_after, in_doubt } => {
                let lost = || Doubt { at_ms: intent.started_ms, cause: Some(cause.clone()) };
                let doubt = intent.doubt.clone().or_else(|| in_doubt.then(lost));
                self.inner.counters.count(if in_doubt { Outcome::InDoubt } else { Outcome::Failed });
                if in_doubt {
                    tracing::warn!(credential = %credential.label, %cause,
                        "a refresh was sent and brought no answer: its refresh token may be spent");
                } else {
                    tracing::warn!(credential = %credential.label, %cause, "a refresh failed for now");
                }
                let now = self.inner.clock.now_ms();
                let failures = credential.refresh.failing.as_ref().map_or(0, |failing| failing.failures);
                self.inner.notes.failed(&credential.id, credential.version, &cause, retry_after, now, failures);
                let next_ms = now.saturating_add(schedule::backoff_ms(failures, retry_after));
                let failure = RefreshFailure { cause, next_ms };
                if let Err(error) = self.inner.store.end_refresh(intent, doubt.as_ref(), &failure).await {
                    // The intent stays: whoever finds it takes the token for one that may be spent.
                    tracing::error!(credential = %credential.label, %error, "a failed refresh is not on record");
                }
            }
        }
        Ok(())
    }
}

/// What tells one failure on record from another: its times are read anew each time.
fn failures(credential: &Credential) -> Option<(u32, &str)> {
    credential.refresh.failing.as_ref().map(|failing| (failing.failures, failing.cause.as_str()))
}
