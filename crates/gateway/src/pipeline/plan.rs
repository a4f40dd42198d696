//! What a call has still to try, and what it has tried.

use bytes::Bytes;
use domain::{Failure, Reason, service};
use proto::auth::v1::{Bound, Rejected};
use proto::router::v1::Route;
use proto::transport::v1::{Head, Outcome};

use crate::pipeline::decide::{Failed, MAX_ATTEMPTS, NextStep, Room, next_step};

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
        self.failed = Some((failure, refusal));
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

    /// Nothing is left to try: the last real upstream failure, else why the first route was not bound.
    pub(crate) fn verdict(&mut self) -> (Failure, Refusal) {
        if let Some(failed) = self.failed.take() {
            return failed;
        }
        let nothing = || Failure::new(Reason::Internal, service::GATEWAY, "router-svc gave no route");
        (self.unbound.take().unwrap_or_else(nothing), Refusal::default())
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
        plan.begin();
        let failed = Failed {
            reason,
            status: Some(status),
            sent: Sent::Sent,
            relayed: false,
            failed_event: false,
            reasoning_refused: false,
        };
        plan.attempt_failed(failed, failure(reason), &bound(id), Refusal::default())
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
