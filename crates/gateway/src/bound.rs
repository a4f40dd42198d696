//! Bindings for questions that are no calls: what a call would get, found as a call finds it. A credential whose own rule
//! and the route's together allow no egress is passed over, for the next one may have another rule.

use domain::{CandidateReason, Failure, Reason, service};
use proto::auth::v1::{BindRequest, Bound, CheckBindingRequest};
use proto::common::v1::Candidate;
use proto::router::v1::Route;
use service_kit::{candidate_from_proto, candidate_to_proto};

use crate::budget::Budget;
use crate::caller::Caller;
use crate::core::Core;
use crate::egress::{Known, Wish, is_allowed};
use crate::pipeline::{Binding, binding, unbound, wanted};

/// Most credentials that are passed over.
const MOST: usize = 100;

/// A route that would be bound.
pub(crate) struct Checked {
    /// What it would be bound to.
    pub(crate) bound: Bound,
    /// Everything that was considered, as far as the caller may know of it.
    pub(crate) candidates: Vec<Candidate>,
}

/// The credentials that no egress may make the call with.
#[derive(Default)]
struct Passed {
    ids: Vec<String>,
    /// Why, for each.
    failures: Vec<Failure>,
}

impl Passed {
    /// Passes over `bound` if its own rule leaves no egress.
    fn over(&mut self, egresses: &[Known], route: &Route, bound: &Bound) -> bool {
        let wish = Wish { route, bound, session: "", excluded: &[] };
        // Without a rule of its own the next one fares no better.
        let Some(Err(failure)) = bound.egress.is_some().then(|| is_allowed(egresses, wish)) else {
            return false;
        };
        if self.ids.len() >= MOST || self.ids.contains(&bound.credential_id) {
            return false;
        }
        self.ids.push(bound.credential_id.clone());
        self.failures.push(failure);
        true
    }

    /// auth-svc's candidates, with the real reason of those that were passed over.
    fn explain(&self, candidates: &mut [Candidate]) {
        for known in self.failures.iter().flat_map(|failure| &failure.candidates) {
            if let Some(one) = candidates.iter_mut().find(|one| one.credential == known.credential) {
                *one = candidate_to_proto(known);
            }
        }
    }

    /// What to say where nothing is left: why the first was passed over, as a call would.
    fn or(self, failure: Failure) -> Failure {
        self.failures.into_iter().next().unwrap_or(failure)
    }
}

/// Whether a call of `caller` on `route` would be bound: the very decision that a call gets.
pub(crate) async fn check(core: &Core, caller: &Caller, route: &Route, budget: Budget) -> Result<Checked, Failure> {
    let mut passed = Passed::default();
    loop {
        let question = CheckBindingRequest { wanted: Some(wanted(caller, route, "")), exclude: passed.ids.clone() };
        let mut answer = core.links.check_binding(question, budget).await.result?;
        let Some(bound) = answer.bound else {
            let mut failure = unbound(answer.failure.as_ref());
            if caller.operator {
                passed.explain(&mut answer.candidates);
                failure.candidates = answer.candidates.iter().map(candidate_from_proto).collect();
            }
            let candidates = failure.candidates.clone();
            let failure = passed.or(failure);
            return Err(if caller.operator { failure.candidates(candidates) } else { failure });
        };
        if passed.over(core.links.known(), route, &bound) {
            continue;
        }
        let mut candidates = answer.candidates;
        passed.explain(&mut candidates);
        // What the lists leave out is for operators to know.
        candidates.retain(|one| caller.operator || one.reason.as_deref() != Some(CandidateReason::NotAllowed.as_str()));
        return Ok(Checked { bound, candidates });
    }
}

/// Binds for real, for the request `call_id`, which is no call.
pub(crate) async fn bind(
    core: &Core,
    caller: &Caller,
    route: &Route,
    call_id: &str,
    budget: Budget,
) -> Result<Binding, Failure> {
    bind_for(core, core.links.known(), caller, route, call_id, budget).await
}

/// As [`bind`], with a credential that one of these egresses may make requests with.
pub(crate) async fn bind_for(
    core: &Core,
    egresses: &[Known],
    caller: &Caller,
    route: &Route,
    call_id: &str,
    budget: Budget,
) -> Result<Binding, Failure> {
    let mut passed = Passed::default();
    loop {
        let question = BindRequest {
            call_id: call_id.to_owned(),
            wanted: Some(wanted(caller, route, "")),
            exclude: passed.ids.clone(),
            ..BindRequest::default()
        };
        let bound = match core.links.bind(question, budget).await.and_then(binding).result {
            Ok(bound) => bound,
            Err(failure) if failure.reason == Reason::CredentialNotBound => return Err(passed.or(failure)),
            Err(failure) => return Err(failure),
        };
        if !passed.over(egresses, route, &bound.bound) {
            return Ok(bound);
        }
    }
}

/// There is an egress for everything that was configured: its place says so.
pub(crate) fn no_egress() -> Failure {
    Failure::new(Reason::Internal, service::GATEWAY, "no egress is configured")
}
