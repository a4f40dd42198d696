//! Making durable what a refresh brought. Until it is, it is held in memory, and nobody is handed it.

use std::time::{Duration, Instant};

use domain::Failure;
use secrecy::ExposeSecret;

use super::classify::Tokens;
use super::counters::Outcome;
use super::{Refresher, Why, lock, schedule};
use crate::fail_point::fail_point;
use crate::jwt::unverified_claims;
use crate::store::{Credential, Intent, LatchKind, RefreshFailure, RefreshedTokens};

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

    /// True while a refreshed token of this credential waits to be written.
    pub(crate) fn is_pending(&self, id: &str) -> bool {
        self.has_pending(id)
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
            recovery: why == Why::Rejected
                || credential.latch.as_ref().is_some_and(|latch| latch.kind == LatchKind::Rejected),
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
        // An operator's act and a flight may come for it at once. The second finds nothing left, and not a login that
        // has other tokens by now.
        let _one = self.inner.writing.lock().await;
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

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::takeover_tests::Bench;
    use super::{Outcome, Pending};
    use crate::identity::CLIENT_ID;
    use crate::refresh::lock;
    use crate::store::{Begun, RefreshedTokens};

    #[tokio::test(flavor = "multi_thread")]
    async fn what_waits_is_written_once_whoever_comes_for_it() {
        // With another refresh token the second one would find itself late, and without it would make a version of its own.
        for refresh in [Some("r-two"), None] {
            let bench = Bench::new().await;
            let old = bench.read().await;
            let begun = bench.store.begin_refresh(&old, CLIENT_ID, "us", 60_000).await.expect("asked");
            let Begun::Taken(intent) = begun else { panic!("{begun:?}") };
            let tokens = RefreshedTokens {
                access: Some("a-two".into()),
                refresh: refresh.map(Into::into),
                id_token: None,
                access_expires_at: None,
                plan: None,
                email: None,
                recovery: false,
            };
            let waiting = Pending { label: old.label.clone(), intent, tokens, problem: None, received: Instant::now() };
            lock(&bench.refresher.inner.pending).insert(old.id.clone(), waiting);
            let write = || bench.refresher.write_pending(&old.id);
            let (one, two, three) = tokio::join!(write(), write(), write());
            one.and(two).and(three).expect("written");
            assert!(bench.refresher.pending().is_empty());
            assert_eq!(bench.read().await.version, 2);
            let counted = Outcome::ALL.map(|outcome| bench.refresher.counters().of(outcome));
            assert_eq!((counted.iter().sum::<u64>(), counted[Outcome::Refreshed as usize]), (1, 1));
        }
    }
}
