//! Making durable what a refresh brought. Until it is, it is held in memory, and nobody is handed it.

use std::time::{Duration, Instant};

use domain::Failure;
use secrecy::ExposeSecret;

use super::classify::Tokens;
use super::counters::Outcome;
use super::{Refresher, Why, lock, schedule};
use crate::fail_point::fail_point;
use crate::jwt::unverified_claims;
use crate::store::{Credential, Intent, RefreshFailure, RefreshedTokens};

/// First wait before a refreshed token is written again, and the wait while the process ends.
const SOON: Duration = Duration::from_millis(200);

/// Refreshed tokens that the database did not take yet.
#[derive(Clone)]
pub(super) struct Pending {
    pub(super) label: String,
    intent: Intent,
    tokens: RefreshedTokens,
    /// What is wrong with them.
    problem: Option<RefreshFailure>,
    /// When they came.
    received: Instant,
}

impl Refresher {
    /// Labels of credentials whose refreshed tokens wait to be written.
    pub(crate) fn pending(&self) -> Vec<String> {
        lock(&self.inner.pending).values().map(|p| p.label.clone()).collect()
    }

    pub(super) fn has_pending(&self, id: &str) -> bool {
        lock(&self.inner.pending).contains_key(id)
    }

    /// Makes what a refresh brought durable.
    pub(super) async fn keep(
        &self,
        credential: &Credential,
        intent: Intent,
        (tokens, received): (Tokens, Instant),
        why: Why,
    ) -> Result<(), Failure> {
        let claims = tokens.access.as_ref().map(|t| unverified_claims(t.expose_secret())).unwrap_or_default();
        let now_s = self.inner.clock.now_s();
        let expires = claims.exp.or(tokens.expires_in.map(|seconds| now_s.saturating_add(seconds)));
        // What came is stored all the same, for its refresh token; the next try has to wait like after a failure.
        let problem = match (&tokens.access, expires) {
            (None, _) => Some("the identity provider answered without an access token"),
            (Some(_), Some(at)) if at <= now_s => {
                Some("it brought an access token that has expired by this host's clock; is this host's clock right?")
            }
            _ => None,
        };
        let failures = credential.refresh.failing.as_ref().map_or(0, |failing| failing.failures);
        let next_ms = self.inner.clock.now_ms().saturating_add(schedule::backoff_ms(failures, None));
        let tokens = RefreshedTokens {
            access_expires_at: expires,
            plan: claims.plan,
            email: claims.email,
            recovery: why == Why::Rejected,
            access: tokens.access,
            refresh: tokens.refresh,
            id_token: tokens.id_token,
        };
        let problem = problem.map(|cause| RefreshFailure { cause: cause.to_owned(), next_ms });
        let pending = Pending { label: credential.label.clone(), intent, tokens, problem, received };
        lock(&self.inner.pending).insert(credential.id.clone(), pending);
        fail_point("before_commit");
        let written = self.write_pending(&credential.id).await;
        fail_point("after_commit");
        if written.is_err() {
            self.retry_in_background(credential.id.clone(), credential.version);
        }
        written
    }

    /// Writes what an earlier refresh brought, if the database did not take it then.
    pub(super) async fn write_pending(&self, id: &str) -> Result<(), Failure> {
        let waiting = lock(&self.inner.pending).get(id).cloned();
        let Some(Pending { label, intent, tokens, problem, received }) = waiting else { return Ok(()) };
        match self.inner.store.store_refreshed(&intent, &tokens, problem.as_ref()).await {
            Ok(Some(version)) => {
                let after = received.elapsed();
                lock(&self.inner.pending).remove(id);
                self.inner.counters.count(Outcome::Refreshed);
                self.inner.counters.committed(after);
                let answer_to_commit_us = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
                tracing::info!(credential = %label, version, answer_to_commit_us, "refreshed a token");
                self.note_problem(id, version, problem.as_ref(), &label);
                Ok(())
            }
            Ok(None) => {
                lock(&self.inner.pending).remove(id);
                self.inner.counters.count(Outcome::Late);
                tracing::warn!(credential = %label, version = intent.version, "a refresh came too late: there is a newer login");
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

    fn note_problem(&self, id: &str, version: i32, problem: Option<&RefreshFailure>, label: &str) {
        let Some(problem) = problem else { return self.inner.notes.forget(id) };
        tracing::warn!(credential = %label, cause = %problem.cause, "a refresh did not help");
        let now = self.inner.clock.now_ms();
        let wait = problem.next_ms.saturating_sub(now).max(0) as f64 / 1000.0;
        self.inner.notes.failed(id, version, &problem.cause, Some(wait), now, 0);
    }

    fn retry_in_background(&self, id: String, spent: i32) {
        let this = self.clone();
        let retry = async move {
            let mut wait = SOON;
            let mut told = false;
            loop {
                if tokio::time::timeout(wait, this.inner.closing.cancelled()).await.is_ok() {
                    // The end is near: what is not written by then is lost. The drain of a shutdown is the limit.
                    wait = SOON;
                    tokio::time::sleep(wait).await;
                }
                this.hold_on(&id).await;
                // Through the single flight, so that no refresh starts beside it.
                let Err(failure) = this.refresh(&id, spent, Why::Expiry).await else { return };
                if !this.inner.closing.is_cancelled() {
                    wait = (wait * 2).min(Duration::from_secs(5));
                } else if !std::mem::replace(&mut told, true) {
                    tracing::error!(%failure, "shutting down with a refreshed token that the database does not take");
                }
            }
        };
        self.inner.tracker.spawn(retry);
    }

    /// Keeps other processes off a token whose successor is here. A database that does not take this either lets none
    /// of them take over.
    async fn hold_on(&self, id: &str) {
        let waiting = lock(&self.inner.pending).get(id).map(|pending| pending.intent.clone());
        if let Some(intent) = waiting
            && let Err(error) = self.inner.store.extend_refresh(&intent, self.lease_ms()).await
        {
            tracing::debug!(%error, "the lease of a refresh is not extended");
        }
    }
}
