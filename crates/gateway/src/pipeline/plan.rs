//! What a call has still to try, and what it has tried.

use std::time::Duration;

use domain::{After, Failure, Reason, service};
use proto::auth::v1::{Bound, Rejected};
use proto::router::v1::Route;
use proto::transport::v1::{Chunk, Head, Outcome};
use tokio::time::Instant;

use crate::pipeline::decide::{Failed, NextStep, Room, next_step};
use crate::pipeline::limit::{Limit, is_limit, waits};
use crate::retry::LONGEST_WAIT;

/// The answer of an upstream that refused, for a caller that gets no better one.
#[derive(Default)]
pub(crate) struct Refusal {
    /// The route that was tried.
    pub(crate) route: Route,
    /// The upstream's headers.
    pub(crate) head: Head,
    /// What transport-svc said.
    pub(crate) outcome: Option<Outcome>,
    /// Events that were held back.
    pub(crate) held: Vec<Chunk>,
}

/// By which egress an attempt was made.
#[derive(Clone, Copy)]
pub(crate) struct Way<'a> {
    /// Its name.
    pub(crate) egress: &'a str,
    /// True if another one is allowed that may be tried now.
    pub(crate) others: bool,
}

struct Excluded {
    id: String,
    /// True if no other route could use it either.
    for_good: bool,
}

/// The routes of a call, and where it stands among them.
pub(crate) struct Plan {
    routes: Vec<Route>,
    at: usize,
    excluded: Vec<Excluded>,
    /// The next bind is to replace this token.
    rejected: Option<Rejected>,
    /// Credentials that were refreshed in this call.
    refreshed: Vec<String>,
    repeated: bool,
    /// From here on the encrypted reasoning of earlier turns is left out.
    drop_reasoning: bool,
    attempts: u32,
    /// Most attempts.
    max_attempts: u32,
    /// Egresses that are not to be tried again on the current route.
    egresses: Vec<String>,
    /// True once a limit was waited out.
    waited: bool,
    /// True once an attempt was made on the current route.
    tried: bool,
    /// The last real upstream failure.
    failed: Option<(Failure, Refusal)>,
    /// Limits that were met before the last failure.
    limits: Vec<Limit>,
    /// When the last failure was met.
    failed_at: Instant,
    /// The first route's failure to bind.
    unbound: Option<Failure>,
}

impl Plan {
    pub(crate) fn new(routes: Vec<Route>, max_attempts: u32) -> Self {
        Self {
            routes,
            at: 0,
            excluded: Vec::new(),
            rejected: None,
            refreshed: Vec::new(),
            repeated: false,
            drop_reasoning: false,
            attempts: 0,
            max_attempts,
            egresses: Vec::new(),
            waited: false,
            tried: false,
            failed: None,
            limits: Vec::new(),
            failed_at: Instant::now(),
            unbound: None,
        }
    }

    /// The route to try next.
    pub(crate) fn route(&self) -> Option<&Route> {
        self.routes.get(self.at)
    }

    /// Credentials that are not to be bound again.
    pub(crate) fn excluded(&self) -> Vec<String> {
        self.excluded.iter().map(|e| e.id.clone()).collect()
    }

    /// The token that the next bind is to replace.
    pub(crate) fn rejected(&self) -> Option<Rejected> {
        self.rejected.clone()
    }

    /// Egresses that are not to be tried again on the current route.
    pub(crate) fn excluded_egresses(&self) -> &[String] {
        &self.egresses
    }

    /// True before the first attempt.
    pub(crate) fn is_fresh(&self) -> bool {
        self.attempts == 0
    }

    /// True once an attempt was made on the current route: that no further credential is bound is then no news.
    pub(crate) fn tried(&self) -> bool {
        self.tried
    }

    /// True if this credential was refreshed in this call: its rejection is final.
    pub(crate) fn refreshed(&self, credential_id: &str) -> bool {
        self.refreshed.iter().any(|id| id == credential_id)
    }

    /// True once the upstream has refused the encrypted reasoning of earlier turns: no attempt sends it again.
    pub(crate) fn drops_reasoning(&self) -> bool {
        self.drop_reasoning
    }

    /// An attempt begins.
    pub(crate) fn begin(&mut self) {
        self.attempts += 1;
        self.tried = true;
        self.rejected = None;
    }

    /// True if a failure of the current attempt could be followed by another one. `others` says that auth-svc has
    /// another eligible credential for this route.
    pub(crate) fn could_go_on(&self, others: bool) -> bool {
        self.attempts < self.max_attempts && (others || self.at + 1 < self.routes.len())
    }

    /// No credential was bound for the current route.
    pub(crate) fn not_bound(&mut self, failure: Failure) {
        // Of auth-svc, that a peer does not answer, or that it is full: another egress would not help, nor asking once more.
        let of_auth = matches!(failure.reason, Reason::PeerUnavailable | Reason::Shed);
        let stops = failure.reason.row().after == After::Stop || of_auth;
        let after_rejection = self.rejected.take().is_some();
        match &mut self.failed {
            // The refresh that should have helped says more than the rejection that asked for it.
            Some((last, _)) if after_rejection && explains_rejection(failure.reason) => *last = failure,
            Some((last, _)) if after_rejection && last.candidates.is_empty() => last.candidates = failure.candidates,
            // What was not tried may come back before what was.
            Some((last, _)) if is_limit(last) && waits(&failure).is_some() => {
                let limit = Limit { failure, refusal: Refusal::default(), met: Instant::now() };
                self.limits.push(limit);
            }
            Some(_) => {}
            None => {
                self.unbound.get_or_insert(failure);
            }
        }
        if stops { self.stop() } else { self.next_route() }
    }

    /// No egress makes an attempt with this credential. With `other_credential` another one may be allowed another egress.
    pub(crate) fn no_egress(&mut self, failure: Failure, bound: &Bound, other_credential: bool) {
        self.rejected = None;
        self.tried = true;
        if self.failed.is_none() {
            self.unbound.get_or_insert(failure);
        }
        if other_credential {
            self.excluded.push(Excluded { id: bound.credential_id.clone(), for_good: false });
        } else {
            self.next_route();
        }
    }

    /// An attempt with `bound` through `way` failed before anything went to the caller.
    pub(crate) fn attempt_failed(
        &mut self,
        failed: Failed,
        failure: Failure,
        bound: &Bound,
        way: Way<'_>,
        refusal: Refusal,
    ) -> NextStep {
        let step = next_step(&failed, &self.room(bound, way));
        self.repeated = match step {
            NextStep::Repeat => true,
            NextStep::NextCredential | NextStep::NextEgress => false,
            NextStep::Refresh | NextStep::DropReasoning | NextStep::NextRoute | NextStep::Stop => self.repeated,
        };
        match step {
            NextStep::Refresh => {
                self.refreshed.push(bound.credential_id.clone());
                self.rejected = Some(Rejected { credential_id: bound.credential_id.clone(), version: bound.version });
            }
            NextStep::Repeat => {}
            NextStep::NextEgress => self.egresses.push(way.egress.to_owned()),
            NextStep::DropReasoning => self.drop_reasoning = true,
            NextStep::NextCredential => {
                // A rejected token is no good anywhere; a limit may hold for one model only, and auth-svc knows which.
                let for_good = failure.reason == Reason::CredentialRejected;
                self.excluded.push(Excluded { id: bound.credential_id.clone(), for_good });
            }
            NextStep::NextRoute => self.next_route(),
            NextStep::Stop => self.stop(),
        }
        let met = std::mem::replace(&mut self.failed_at, Instant::now());
        if let Some((failure, refusal)) = self.failed.replace((failure, refusal))
            && is_limit(&failure)
        {
            self.limits.push(Limit { failure, refusal, met });
        }
        step
    }

    fn room(&self, bound: &Bound, way: Way<'_>) -> Room {
        Room {
            attempts: self.attempts,
            max_attempts: self.max_attempts,
            refreshed: self.refreshed(&bound.credential_id),
            repeated: self.repeated,
            reasoning_dropped: self.drop_reasoning,
            other_egress: way.others,
        }
    }

    /// How long until the one limit that was met ends, where that is a moment, the upstream has said so itself, and there
    /// was nothing else to try. Once in a call; the route may then be tried again.
    pub(crate) fn wait_out(&mut self) -> Option<Duration> {
        let (failure, refusal) = self.failed.as_ref()?;
        let only = self.routes.len() == 1 && self.attempts == 1;
        let headers = refusal.outcome.as_ref().map(|outcome| outcome.headers.as_slice()).unwrap_or_default();
        let told = headers.iter().any(|header| header.name.starts_with("retry-after"));
        if self.waited || !only || !told || !is_limit(failure) || self.attempts >= self.max_attempts {
            return None;
        }
        let wait = Duration::try_from_secs_f64(waits(failure)?).ok().filter(|wait| *wait <= LONGEST_WAIT)?;
        Some((self.failed_at + wait).saturating_duration_since(Instant::now()))
    }

    /// The limit has been waited out: it is no answer any more.
    pub(crate) fn begin_again(&mut self) {
        (self.waited, self.at, self.tried) = (true, 0, true);
        self.excluded.clear();
        self.limits.clear();
        self.failed = None;
    }

    fn next_route(&mut self) {
        self.at += 1;
        self.repeated = false;
        self.egresses.clear();
        self.tried = false;
        self.excluded.retain(|e| e.for_good);
    }

    /// Nothing more is tried.
    pub(crate) fn stop(&mut self) {
        self.at = self.routes.len();
    }

    /// Nothing is left to try: the last real upstream failure, else why the first route was not bound. Where that
    /// failure is a limit, the answer is the limit that ends first, whichever credential met it.
    pub(crate) fn verdict(&mut self) -> (Failure, Refusal) {
        if let Some((failure, refusal)) = self.failed.take() {
            if !is_limit(&failure) {
                return (failure, refusal);
            }
            return self.earliest(Limit { failure, refusal, met: self.failed_at });
        }
        let nothing = || Failure::new(Reason::Internal, service::GATEWAY, "router-svc gave no route");
        (self.unbound.take().unwrap_or_else(nothing), Refusal::default())
    }
}

impl Plan {
    /// Of `last` and the limits before it, the one that ends first, with the candidates as auth-svc judged them at last.
    fn earliest(&mut self, last: Limit) -> (Failure, Refusal) {
        let judged = self.limits.iter().rev().find(|limit| !limit.failure.candidates.is_empty());
        let candidates = judged.map(|limit| limit.failure.candidates.clone()).unwrap_or_default();
        let now = Instant::now();
        let mut first = last;
        for limit in std::mem::take(&mut self.limits) {
            // The same limit is told twice: by the upstream, and rounded up by auth-svc. The upstream's own word stays.
            if limit.left(now) + 1.0 < first.left(now) {
                first = limit;
            }
        }
        let Limit { mut failure, refusal, met } = first;
        let passed = now.duration_since(met).as_secs_f64();
        failure.retry_after_seconds = failure.retry_after_seconds.map(|seconds| (seconds - passed).max(0.0));
        // One candidate explains nothing that the failure itself does not.
        if failure.candidates.is_empty() && candidates.len() > 1 {
            failure.candidates = candidates;
        }
        (failure, refusal)
    }
}

fn explains_rejection(reason: Reason) -> bool {
    matches!(reason, Reason::CredentialNeedsLogin | Reason::IdentityUnavailable)
}

#[cfg(test)]
mod tests;
