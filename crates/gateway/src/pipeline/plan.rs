//! What a call has still to try, and what it has tried.

use bytes::Bytes;
use domain::{Failure, Reason, service};
use proto::auth::v1::{Bound, Rejected};
use proto::router::v1::Route;
use proto::transport::v1::{Head, Outcome};
use tokio::time::Instant;

use crate::pipeline::decide::{Failed, MAX_ATTEMPTS, NextStep, Room, next_step};
use crate::pipeline::limit::{Limit, is_limit, waits};

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
    pub(crate) held: Vec<Bytes>,
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
    pub(crate) fn new(routes: Vec<Route>) -> Self {
        Self {
            routes,
            at: 0,
            excluded: Vec::new(),
            rejected: None,
            refreshed: Vec::new(),
            repeated: false,
            drop_reasoning: false,
            attempts: 0,
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
        self.attempts < MAX_ATTEMPTS && (others || self.at + 1 < self.routes.len())
    }

    /// No credential was bound for the current route.
    pub(crate) fn not_bound(&mut self, failure: Failure) {
        let stops = failure.reason.row().after == domain::After::Stop;
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

    /// An attempt with `bound` failed before anything went to the caller.
    pub(crate) fn attempt_failed(
        &mut self,
        failed: Failed,
        failure: Failure,
        bound: &Bound,
        refusal: Refusal,
    ) -> NextStep {
        let refreshed = self.refreshed(&bound.credential_id);
        let (attempts, repeated, reasoning_dropped) = (self.attempts, self.repeated, self.drop_reasoning);
        let step = next_step(&failed, &Room { attempts, refreshed, repeated, reasoning_dropped });
        match step {
            NextStep::Refresh => {
                self.refreshed.push(bound.credential_id.clone());
                self.rejected = Some(Rejected { credential_id: bound.credential_id.clone(), version: bound.version });
            }
            NextStep::Repeat => self.repeated = true,
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

    fn next_route(&mut self) {
        self.at += 1;
        self.tried = false;
        self.excluded.retain(|e| e.for_good);
    }

    fn stop(&mut self) {
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
mod tests {
    use proto::transport::v1::Sent;

    use super::*;

    fn route(model: &str) -> Route {
        Route { model: model.into(), ..Route::default() }
    }

    fn bound(id: &str) -> Bound {
        Bound { credential_id: id.into(), credential: id.into(), version: 1, ..Bound::default() }
    }

    fn failure(reason: Reason) -> Failure {
        Failure::new(reason, service::UPSTREAM, "no")
    }

    fn fail(plan: &mut Plan, reason: Reason, status: u16, id: &str) -> NextStep {
        fail_with(plan, failure(reason), status, id)
    }

    fn fail_with(plan: &mut Plan, failure: Failure, status: u16, id: &str) -> NextStep {
        plan.begin();
        let failed = Failed {
            reason: failure.reason,
            status: Some(status),
            sent: Sent::Sent,
            relayed: false,
            failed_event: false,
            reasoning_refused: false,
        };
        plan.attempt_failed(failed, failure, &bound(id), Refusal::default())
    }

    #[test]
    fn without_fallbacks_the_failure_is_the_upstreams_own() {
        let mut plan = Plan::new(vec![route("a")]);
        assert_eq!(fail(&mut plan, Reason::UsageLimit, 429, "c1"), NextStep::NextCredential);
        assert_eq!(plan.excluded(), ["c1"]);
        plan.not_bound(failure(Reason::CredentialNotBound));
        assert!(plan.route().is_none());
        assert_eq!(plan.verdict().0.reason, Reason::UsageLimit);
    }

    fn limit(reason: Reason, seconds: f64) -> Failure {
        Failure::new(reason, service::UPSTREAM, format!("ends in {seconds} s")).retry_after(seconds)
    }

    fn met(plan: &mut Plan, reason: Reason, seconds: f64, credential: &str) {
        let _ = fail_with(plan, limit(reason, seconds), 429, credential);
    }

    #[tokio::test(start_paused = true)]
    async fn of_several_limits_the_answer_is_the_one_that_ends_first() {
        for (first, second, untried, expected) in [
            (20.0, 3600.0, None, (Reason::UsageLimit, 15.0, service::UPSTREAM)),
            (3600.0, 20.0, None, (Reason::UsageLimit, 20.0, service::UPSTREAM)),
            (3600.0, 1800.0, Some((Reason::UsageLimit, 7.0)), (Reason::UsageLimit, 7.0, service::AUTH)),
            (3600.0, 1800.0, Some((Reason::RateLimited, 7.0)), (Reason::RateLimited, 7.0, service::AUTH)),
            (
                3600.0,
                1800.0,
                Some((Reason::IdentityUnavailable, 7.0)),
                (Reason::IdentityUnavailable, 7.0, service::AUTH),
            ),
            // auth-svc tells of the limit that was met just now.
            (3600.0, 1800.0, Some((Reason::UsageLimit, 1799.5)), (Reason::UsageLimit, 1800.0, service::UPSTREAM)),
            (20.0, 3600.0, Some((Reason::CredentialNotBound, 1.0)), (Reason::UsageLimit, 15.0, service::UPSTREAM)),
        ] {
            let mut plan = Plan::new(vec![route("a")]);
            met(&mut plan, Reason::UsageLimit, first, "c1");
            tokio::time::advance(std::time::Duration::from_secs(5)).await;
            met(&mut plan, Reason::UsageLimit, second, "c2");
            if let Some((reason, seconds)) = untried {
                plan.not_bound(Failure { service: service::AUTH.into(), ..limit(reason, seconds) });
            }
            let (told, _) = plan.verdict();
            let told = (told.reason, told.retry_after_seconds.unwrap_or_default(), told.service.as_str());
            assert_eq!(told, expected, "{first} {second} {untried:?}");
        }
    }

    #[test]
    fn a_limit_before_another_failure_is_not_the_answer() {
        let mut plan = Plan::new(vec![route("a"), route("b")]);
        met(&mut plan, Reason::UsageLimit, 20.0, "c1");
        fail(&mut plan, Reason::UpstreamError, 500, "c2");
        assert_eq!(plan.verdict().0.reason, Reason::UpstreamError);
    }

    #[test]
    fn a_rejected_token_is_refreshed_once_and_then_left_for_good() {
        let mut plan = Plan::new(vec![route("a"), route("b")]);
        assert_eq!(fail(&mut plan, Reason::CredentialRejected, 401, "c1"), NextStep::Refresh);
        assert_eq!(plan.rejected().map(|r| r.credential_id).as_deref(), Some("c1"));
        assert_eq!(fail(&mut plan, Reason::CredentialRejected, 401, "c1"), NextStep::NextCredential);
        assert!(plan.rejected().is_none() && plan.refreshed("c1"));
        assert_eq!(fail(&mut plan, Reason::RateLimited, 429, "c2"), NextStep::NextCredential);
        plan.not_bound(failure(Reason::CredentialNotBound));
        assert_eq!(plan.route().map(|r| r.model.as_str()), Some("b"));
        assert_eq!(plan.excluded(), ["c1"], "the limit of c2 may not hold for b");
    }

    #[test]
    fn refused_reasoning_is_left_out_for_the_rest_of_the_call() {
        let mut plan = Plan::new(vec![route("a"), route("b")]);
        plan.begin();
        let failed = Failed {
            reason: Reason::RequestRejected,
            status: Some(400),
            sent: Sent::Sent,
            relayed: false,
            failed_event: false,
            reasoning_refused: true,
        };
        let step = plan.attempt_failed(failed, failure(Reason::RequestRejected), &bound("c1"), Refusal::default());
        assert_eq!((step, plan.drops_reasoning(), plan.excluded()), (NextStep::DropReasoning, true, vec![]));
        assert_eq!(plan.route().map(|r| r.model.as_str()), Some("a"));
        assert_eq!(fail(&mut plan, Reason::UpstreamError, 500, "c1"), NextStep::NextRoute);
        assert!(plan.drops_reasoning(), "the fallback does not send it either");
    }

    #[test]
    fn a_refused_refresh_explains_the_rejection() {
        let mut plan = Plan::new(vec![route("a")]);
        fail(&mut plan, Reason::CredentialRejected, 401, "c1");
        plan.not_bound(failure(Reason::CredentialNeedsLogin));
        assert_eq!(plan.verdict().0.reason, Reason::CredentialNeedsLogin);
    }

    #[test]
    fn unbound_routes_are_told_by_the_first() {
        let mut plan = Plan::new(vec![route("a"), route("b")]);
        plan.not_bound(failure(Reason::UsageLimit));
        assert!(plan.route().is_some());
        plan.not_bound(failure(Reason::CredentialNotBound));
        assert_eq!(plan.verdict().0.reason, Reason::UsageLimit);
        let mut plan = Plan::new(vec![route("a"), route("b")]);
        plan.not_bound(failure(Reason::StoreUnavailable));
        assert!(plan.route().is_none(), "a failing store is not helped by a fallback");
    }
}
