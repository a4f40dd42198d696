//! Whether what has failed works again, asked where no call comes to find out: a circuit that is due for a test, and that
//! no call tests in its time, is tested with the request that `models status --probe` makes. So statuses and metrics tell
//! the truth of an egress that nobody uses for now. Nothing is asked while nothing has failed.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use domain::{Failure, Reason, service};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use proto::router::v1::{ListModelsRequest, Route};
use proto::transport::v1::ProbeRequest;
use telemetry::metrics;
use tracing::Instrument;

use crate::bound;
use crate::budget::Budget;
use crate::caller::{Caller, DEFAULT_AGENT};
use crate::core::Core;
use crate::egress::{Known, Verdict, Wish, is_allowed};
use crate::pipeline::Binding;
use crate::status::{models_of, probe, resolve_one};

/// Circuits that are tested at a time.
const AT_ONCE: usize = 4;
/// Most models that are looked at to find a route that leads there.
const MAX_MODELS: usize = 200;

/// Begins to ask, until the gateway closes.
pub(crate) fn start(core: &Arc<Core>) {
    let core = Arc::clone(core);
    let tasks = core.tasks.clone();
    drop(tasks.spawn(async move {
        tokio::select! {
            () = ask_for_ever(&core) => {}
            () = core.closing.cancelled() => {}
        }
    }));
}

async fn ask_for_ever(core: &Core) {
    let (mut due, mut asking) = (VecDeque::new(), FuturesUnordered::new());
    loop {
        tokio::select! {
            // Beside what is being asked: an egress that hangs must not keep others from a test.
            more = core.health.due() => due.extend(more),
            Some(()) = asking.next() => {}
        }
        while asking.len() < AT_ONCE
            && let Some((egress, target)) = due.pop_front()
        {
            asking.push(ask(core, egress, target));
        }
    }
}

/// Asks once, in a trace of its own. It is no call and leaves no record.
async fn ask(core: &Core, egress: String, target: String) {
    let call_id = domain::new_call_id();
    let span = tracing::info_span!(target: "hop", parent: None, "probe", otel.name = "probe",
        switchboard.service = service::GATEWAY, switchboard.call_id = call_id.as_str(),
        switchboard.egress = egress.as_str(), switchboard.target = target.as_str());
    let asked = async {
        let shown = if target.is_empty() { "-" } else { target.as_str() };
        let outcome = match test(core, &egress, &target, &call_id).await {
            Ok(Some(Verdict::Works)) => "works",
            Ok(Some(Verdict::TargetFails | Verdict::EgressFails)) => "fails",
            Ok(Some(Verdict::Nothing)) => "nothing",
            // A call was faster, or has found the egress itself in trouble.
            Ok(None) => return,
            Err(failure) => {
                tracing::info!(egress, target = shown, reason = %failure.reason,
                    "it could not be asked whether this works again: {}", failure.message);
                "nothing"
            }
        };
        metrics::circuit_probed(&egress, shown, outcome);
    };
    asked.instrument(span).await;
}

/// Asks through `egress` what `target` lists; an empty one is any target. `None` if no test is due by now. An error means
/// that nothing was asked.
async fn test(core: &Core, egress: &str, target: &str, call_id: &str) -> Result<Option<Verdict>, Failure> {
    let known = core.links.known();
    let Some(index) = known.iter().position(|one| one.name == egress) else { return Ok(None) };
    let (Some(link), Some(only)) = (core.links.egress(index), known.get(index..=index)) else { return Ok(None) };
    let (mut why_not, mut tested) = (None, false);
    for (caller, route) in routes(core, target).await? {
        let bound = match bound_to(core, only, &caller, &route, call_id).await {
            Ok(bound) => bound,
            Err(failure) => {
                why_not.get_or_insert(failure);
                continue;
            }
        };
        // Not before: a place that is taken while a credential is refreshed keeps calls out for nothing.
        match core.health.test(egress, &route.target) {
            Some(pass) => {
                let target = route.target;
                let question = ProbeRequest { call_id: call_id.to_owned(), target, credential: Some(bound.sealed) };
                let (verdict, _) = probe(link, question, pass, Budget::default()).await;
                return Ok(Some(verdict));
            }
            // Another target may tell of the egress itself.
            None if target.is_empty() => tested = true,
            None => return Ok(None),
        }
    }
    let nowhere = || Failure::new(Reason::RouteUnknown, service::GATEWAY, "no route in use leads there");
    if tested { Ok(None) } else { Err(why_not.unwrap_or_else(nowhere)) }
}

/// A credential for `route` with which the one egress may make requests.
async fn bound_to(
    core: &Core,
    only: &[Known],
    caller: &Caller,
    route: &Route,
    call_id: &str,
) -> Result<Binding, Failure> {
    let bound = bound::bind_for(core, only, caller, route, call_id, Budget::default()).await?;
    is_allowed(only, Wish { route, bound: &bound.bound, session: "", excluded: &[] })?;
    Ok(bound)
}

/// One route in use to each target that is wanted, with an agent who uses it: what agents use unless they ask for more, and
/// then whatever else is listed.
async fn routes(core: &Core, target: &str) -> Result<Vec<(Caller, Route)>, Failure> {
    let table = core.links.list_models(ListModelsRequest::default(), Budget::default()).await.result?;
    let operator = |agent: &str| Caller {
        agent: agent.to_owned(),
        operator: true,
        models: Vec::new(),
        credentials: Vec::new(),
        key_id: None,
    };
    let used =
        table.agents.iter().flat_map(|agent| models_of(agent).into_iter().map(|model| (operator(&agent.name), model)));
    let listed = table.models.iter().map(|model| (operator(DEFAULT_AGENT), model.id.clone()));
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    for (caller, model) in used.chain(listed).take(MAX_MODELS) {
        let Ok(route) = resolve_one(core, &caller, &model, Budget::default()).await else { continue };
        let wanted = target.is_empty() || route.target == target;
        if wanted && seen.insert((route.target.clone(), route.provider.clone(), caller.agent.clone())) {
            found.push((caller, route));
        }
    }
    Ok(found)
}
