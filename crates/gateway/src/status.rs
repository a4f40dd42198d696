//! Whether each route in use would bind, found by the functions that calls run: router-svc's Resolve and auth-svc's
//! one bind decision. With a probe the credential is bound for real and the upstream is asked.

use std::collections::BTreeMap;
use std::sync::Arc;

use domain::{CandidateReason, Failure, Reason, service};
use futures_util::{StreamExt, stream};
use proto::auth::v1::Bound;
use proto::gateway::v1::{
    BoundStatus, ConfigStatus, EgressStatus, GetStatusResponse, OauthStatus, ProbeStatus, RouteStatus,
};
use proto::router::v1::{Agent, ListModelsRequest, ListModelsResponse, ResolveRequest, Route};
use proto::transport::v1::{ProbeRequest, ProbeResponse};
use service_kit::{candidate_to_proto, failure_from_proto, failure_to_proto};

use crate::bound::{self, Checked, check};
use crate::budget::Budget;
use crate::caller::Caller;
use crate::core::Core;
use crate::egress::{Pass, Verdict, Wish, best_allowed, would_choose};
use crate::links::Egress;
use crate::pipeline::judged;

/// Routes looked at together.
const AT_ONCE: usize = 8;

/// One route as it was found.
struct Found {
    status: RouteStatus,
    subscription: bool,
}

/// The first route that `model` means to `caller`: the very question that a call asks.
pub(crate) async fn resolve_one(core: &Core, caller: &Caller, model: &str, budget: Budget) -> Result<Route, Failure> {
    let question =
        ResolveRequest { model: model.to_owned(), agent: caller.agent.clone(), allowed: caller.models.clone() };
    let answer = core.links.resolve(question, budget).await.result?;
    let nothing = || Failure::new(Reason::Internal, service::ROUTER, "router-svc gave no route");
    answer.routes.into_iter().next().ok_or_else(nothing)
}

/// Why a route is not bound, in the words of `models status`: what is wrong with the candidate that came closest, else
/// the failure's reason.
pub(crate) fn reason_of(failure: &Failure) -> String {
    if failure.reason == Reason::AgentNotAllowed {
        return CandidateReason::NotAllowed.as_str().to_owned();
    }
    let far = |reason: &CandidateReason| {
        matches!(reason, CandidateReason::WrongRealm | CandidateReason::WrongIssuer | CandidateReason::NotAllowed)
    };
    let reasons: Vec<CandidateReason> = failure.candidates.iter().filter_map(|c| c.reason).collect();
    let closest = reasons.iter().find(|r| !far(r)).or(reasons.first());
    closest.map_or_else(|| failure.reason.as_str(), |r| r.as_str()).to_owned()
}

/// The whole status for `caller`; `agent` narrows it for operators.
pub(crate) async fn status(
    core: &Arc<Core>,
    caller: &Caller,
    agent: &str,
    probe: bool,
    budget: Budget,
) -> Result<GetStatusResponse, Failure> {
    let table = core.links.list_models(ListModelsRequest::default(), budget).await.result?;
    let agents = agents_in_question(&table, caller, agent);
    let allowed = match agents.as_slice() {
        [one] if one.allowed.is_empty() => caller.models.clone(),
        [one] => one.allowed.clone(),
        _ => Vec::new(),
    };
    let looks = agents.iter().flat_map(|agent| {
        let caller = Caller { agent: agent.name.clone(), ..caller.clone() };
        models_of(agent).into_iter().map(move |model| (caller.clone(), model))
    });
    let silent = &core.links.silent_egresses().await;
    let found: Vec<Found> = stream::iter(looks.collect::<Vec<_>>())
        .map(|(caller, model)| async move { look(core, &caller, &model, silent, probe, budget).await })
        .buffered(AT_ONCE)
        .collect()
        .await;
    Ok(GetStatusResponse {
        default_model: table.configured_default,
        resolved_default: table.default_model,
        fallbacks: table.fallbacks,
        allowed,
        missing: missing(&found),
        oauth: oauth(&found),
        config: Some(ConfigStatus { digest: table.table_digest, rejected: table.rejected }),
        routes: found.into_iter().map(|f| f.status).collect(),
        egresses: egresses(core, silent),
    })
}

/// The agents to look at. One that the configuration does not name is one with an empty table.
fn agents_in_question(table: &ListModelsResponse, caller: &Caller, agent: &str) -> Vec<Agent> {
    let everyone = caller.operator && agent.is_empty();
    if everyone && !table.agents.is_empty() {
        return table.agents.clone();
    }
    let named = table.agents.iter().find(|a| a.name == caller.agent).cloned();
    vec![named.unwrap_or_else(|| Agent {
        name: caller.agent.clone(),
        model: table.default_model.clone(),
        fallbacks: table.fallbacks.clone(),
        ..Agent::default()
    })]
}

/// The models that an agent uses unless it asks for others.
pub(crate) fn models_of(agent: &Agent) -> Vec<String> {
    let mut models = vec![agent.model.clone()];
    for fallback in &agent.fallbacks {
        if !models.contains(fallback) {
            models.push(fallback.clone());
        }
    }
    models
}

/// Egresses as calls have found them, and those that do not answer now.
fn egresses(core: &Core, silent: &[Silent]) -> Vec<EgressStatus> {
    let mut egresses = core.health.status(core.links.known());
    for (name, failure) in silent {
        // Its own circuit says so by now: once is enough.
        if egresses.iter().any(|told| told.egress == *name && told.target.is_empty() && told.reason.is_some()) {
            continue;
        }
        for told in egresses.iter_mut().filter(|told| told.egress == *name && told.reason.is_none()) {
            told.reason = Some(failure.reason.as_str().to_owned());
            told.message = Some(failure.message.clone());
        }
    }
    egresses
}

/// Whether an egress would take the call: the very choice that a call makes, less what does not answer now.
fn way_out(core: &Core, route: &Route, bound: &Bound, silent: &[Silent]) -> Result<usize, Failure> {
    let excluded: Vec<String> = silent.iter().map(|(name, _)| name.clone()).collect();
    let wish = Wish { route, bound, session: "", excluded: &excluded };
    would_choose(&core.health, core.links.known(), wish).map_err(|refused| {
        // Where no circuit is open, what does not answer is the reason.
        let unanswered = || silent.first().map(|(_, failure)| failure.clone());
        if refused.by_rule || !refused.skipped.is_empty() { None } else { unanswered() }.unwrap_or(refused.failure)
    })
}

/// An egress that does not answer.
type Silent = (String, Failure);

async fn look(core: &Core, caller: &Caller, model: &str, silent: &[Silent], probe: bool, budget: Budget) -> Found {
    let provider = model.split_once('/').map(|(provider, _)| provider.to_owned()).unwrap_or_default();
    let mut status =
        RouteStatus { agent: caller.agent.clone(), model: model.to_owned(), provider, ..RouteStatus::default() };
    let route = match resolve_one(core, caller, model, budget).await {
        Ok(route) => route,
        Err(failure) => {
            refuse(&mut status, &failure);
            return Found { status, subscription: false };
        }
    };
    status.model.clone_from(&route.model);
    status.provider.clone_from(&route.provider);
    status.target.clone_from(&route.target);
    status.url.clone_from(&route.url);
    match check(core, caller, &route, budget).await {
        Ok(Checked { bound, candidates }) => {
            status.candidates = candidates;
            match way_out(core, &route, &bound, silent) {
                Ok(_) => {
                    status.bound = Some(BoundStatus { credential: bound.credential, expires_at: bound.expires_at });
                }
                // A credential would be bound, and the call would fail all the same.
                Err(failure) => no_way_out(&mut status, &failure),
            }
            if probe {
                status.probe = Some(ask_upstream(core, caller, &route, silent, budget).await);
            }
        }
        Err(failure) => refuse(&mut status, &failure),
    }
    Found { status, subscription: route.realm == "subscription" }
}

fn refuse(status: &mut RouteStatus, failure: &Failure) {
    status.reason = Some(reason_of(failure));
    status.candidates = failure.candidates.iter().map(candidate_to_proto).collect();
    status.failure = Some(failure_to_proto(failure));
}

fn no_way_out(status: &mut RouteStatus, failure: &Failure) {
    status.reason = Some(failure.reason.as_str().to_owned());
    status.failure = Some(failure_to_proto(failure));
}

/// Binds for real and makes the cheapest upstream request.
async fn ask_upstream(core: &Core, caller: &Caller, route: &Route, silent: &[Silent], budget: Budget) -> ProbeStatus {
    let began = tokio::time::Instant::now();
    let (result, status) = match try_upstream(core, caller, route, silent, budget).await {
        Ok((failure, status)) => (failure.map_or(Ok(()), Err), status),
        Err(failure) => (Err(failure), None),
    };
    let elapsed_ms = began.elapsed().as_secs_f64() * 1e3;
    match result {
        Ok(()) => {
            let message = "the upstream listed its models".to_owned();
            ProbeStatus { result: "ok".to_owned(), message, status, elapsed_ms }
        }
        Err(failure) => {
            ProbeStatus { result: failure.reason.as_str().to_owned(), message: failure.message, status, elapsed_ms }
        }
    }
}

async fn try_upstream(
    core: &Core,
    caller: &Caller,
    route: &Route,
    silent: &[Silent],
    budget: Budget,
) -> Result<(Option<Failure>, Option<i32>), Failure> {
    let call_id = domain::new_call_id();
    let bound = bound::bind(core, caller, route, &call_id, budget).await?;
    // Whoever asks for a probe wants it made, and not to hear that calls are not.
    let excluded: Vec<String> = silent.iter().map(|(name, _)| name.clone()).collect();
    let wish = Wish { route, bound: &bound.bound, session: "", excluded: &excluded };
    let index = match best_allowed(core.links.known(), wish) {
        Ok(index) => index,
        Err(failure) if failure.reason == Reason::CredentialNotBound => return Err(failure),
        Err(failure) => return Err(silent.first().map_or(failure, |(_, silence)| silence.clone())),
    };
    let egress = core.links.egress(index).ok_or_else(bound::no_egress)?;
    let question = ProbeRequest { call_id, target: route.target.clone(), credential: Some(bound.sealed) };
    let pass = core.health.look(&egress.name, &route.target);
    let (_, answer) = probe(egress, question, pass, budget).await;
    let outcome = answer?.outcome.unwrap_or_default();
    Ok((outcome.failure.as_ref().map(failure_from_proto), outcome.status))
}

/// The cheapest upstream request, which tells of egress and target as a call does.
pub(crate) async fn probe(
    egress: &Egress,
    question: ProbeRequest,
    pass: Pass,
    budget: Budget,
) -> (Verdict, Result<ProbeResponse, Failure>) {
    let answer = egress.probe(question, budget).await.result;
    let (verdict, failure) = judged(answer.as_ref().map(|answer| answer.outcome.as_ref()));
    pass.settle(verdict, failure.as_ref());
    (verdict, answer)
}

/// Providers in use of which no route is bound.
fn missing(found: &[Found]) -> Vec<String> {
    let mut bound: BTreeMap<&str, bool> = BTreeMap::new();
    for Found { status, .. } in found {
        *bound.entry(&status.provider).or_default() |= status.bound.is_some();
    }
    bound.into_iter().filter(|(provider, bound)| !bound && !provider.is_empty()).map(|(p, _)| p.to_owned()).collect()
}

/// One line per subscription provider in use: "ok" only if every route of it would bind.
fn oauth(found: &[Found]) -> Vec<OauthStatus> {
    let mut lines: BTreeMap<&str, &str> = BTreeMap::new();
    for Found { status, .. } in found.iter().filter(|f| f.subscription) {
        let reason = status.reason.as_deref().unwrap_or("ok");
        let line = lines.entry(&status.provider).or_insert(reason);
        if *line == "ok" {
            *line = reason;
        }
    }
    let line = |(provider, status): (&str, &str)| OauthStatus { provider: provider.into(), status: status.into() };
    lines.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use domain::Candidate;

    use super::*;

    fn failure(reason: Reason, candidates: &[CandidateReason]) -> Failure {
        let candidate = |reason: &CandidateReason| Candidate {
            credential: "c".into(),
            eligible: false,
            reason: Some(*reason),
            detail: None,
        };
        Failure::new(reason, service::AUTH, "no").candidates(candidates.iter().map(candidate).collect())
    }

    #[test]
    fn the_reason_is_that_of_the_closest_candidate() {
        use CandidateReason as C;
        let told = |reason, candidates: &[C]| reason_of(&failure(reason, candidates));
        assert_eq!(told(Reason::CredentialNotBound, &[C::WrongRealm, C::Undecryptable]), "undecryptable");
        assert_eq!(told(Reason::CredentialNotBound, &[C::WrongRealm]), "wrong_realm");
        assert_eq!(told(Reason::UsageLimit, &[C::Resting]), "resting");
        assert_eq!(told(Reason::AgentNotAllowed, &[]), "not_allowed");
        assert_eq!(told(Reason::RouteUnknown, &[]), "ROUTE_UNKNOWN");
    }

    fn found(provider: &str, reason: Option<&str>, subscription: bool) -> Found {
        let bound = reason.is_none().then(BoundStatus::default);
        let reason = reason.map(str::to_owned);
        let status = RouteStatus { provider: provider.into(), bound, reason, ..RouteStatus::default() };
        Found { status, subscription }
    }

    #[test]
    fn a_provider_is_ok_only_if_all_its_routes_are() {
        let all = [
            found("openai-codex", None, true),
            found("openai-codex", Some("resting"), true),
            found("openai", Some("missing"), false),
        ];
        assert_eq!(missing(&all), ["openai"]);
        let lines = oauth(&all);
        assert_eq!(lines.len(), 1);
        assert_eq!((lines[0].provider.as_str(), lines[0].status.as_str()), ("openai-codex", "resting"));
    }
}
