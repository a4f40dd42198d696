//! The models that a caller may use: those of the route table and those that upstreams list, each with what a call would
//! find out about its binding.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::Failure;
use futures_util::{StreamExt, stream};
use proto::gateway::v1::{Catalogue, Model};
use proto::router::v1::{self as router, Route};
use tokio::time::Instant;

use crate::bound::check;
use crate::budget::Budget;
use crate::caller::Caller;
use crate::catalogue;
use crate::core::Core;
use crate::status::{reason_of, resolve_one};

/// Bindings checked together.
const AT_ONCE: usize = 8;
/// How long a list is good for those who ask over HTTP: clients ask again and again.
const RECENT: Duration = Duration::from_secs(3);
/// Most lists kept for them.
const MAX_RECENT: usize = 1000;
/// The tag of a model that only the upstream lists.
const UPSTREAM: &str = "upstream";

/// What a caller may use.
#[derive(Clone)]
pub(crate) struct Listed {
    /// Sorted by name.
    pub(crate) models: Vec<Model>,
    /// What upstreams list, and how old that is.
    pub(crate) catalogues: Vec<Catalogue>,
}

/// Lists of a moment ago, by who asked.
#[derive(Default)]
pub(crate) struct Recent(Mutex<HashMap<Asker, (Instant, Arc<Listed>)>>);

/// What a list depends on.
#[derive(PartialEq, Eq, Hash)]
struct Asker {
    agent: String,
    operator: bool,
    models: Vec<String>,
    credentials: Vec<String>,
}

/// The list of a moment ago, or a new one.
pub(crate) async fn recent(core: &Arc<Core>, caller: &Caller, budget: Budget) -> Result<Arc<Listed>, Failure> {
    let Caller { agent, operator, models, credentials, .. } = caller.clone();
    let asker = Asker { agent, operator, models, credentials };
    let known = core.recent_models.0.lock().unwrap_or_else(PoisonError::into_inner).get(&asker).cloned();
    if let Some((at, listed)) = known
        && at.elapsed() < RECENT
    {
        return Ok(listed);
    }
    let listed = Arc::new(list(core, caller, budget).await?);
    let mut recent = core.recent_models.0.lock().unwrap_or_else(PoisonError::into_inner);
    if recent.len() >= MAX_RECENT {
        recent.retain(|_, (at, _)| at.elapsed() < RECENT);
    }
    if recent.len() < MAX_RECENT {
        recent.insert(asker, (Instant::now(), Arc::clone(&listed)));
    }
    Ok(listed)
}

/// The models that `caller` may use, now.
pub(crate) async fn list(core: &Arc<Core>, caller: &Caller, budget: Budget) -> Result<Listed, Failure> {
    let question = router::ListModelsRequest { agent: caller.agent.clone(), allowed: caller.models.clone() };
    let table = core.links.list_models(question, budget).await.result?.models;
    let mut models = look_at(core, caller, table, budget, false).await;
    let (further, catalogues) = of_upstreams(core, caller, &mut models, budget).await;
    models.extend(look_at(core, caller, further, budget, true).await);
    let mut models: Vec<Model> = models.into_iter().map(|one| one.model).collect();
    models.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(Listed { models, catalogues })
}

/// A model, and where a call of it would go.
struct Looked {
    model: Model,
    provider: String,
    /// The route and the credential that it would be bound to.
    bound: Option<(Route, proto::auth::v1::Bound)>,
}

/// Asks for each what a call would ask. `routable` leaves out what has no route for this caller.
async fn look_at(
    core: &Arc<Core>,
    caller: &Caller,
    models: Vec<router::Model>,
    budget: Budget,
    routable: bool,
) -> Vec<Looked> {
    let looked = stream::iter(models).map(|model| async move {
        let route = resolve_one(core, caller, &model.id, budget).await;
        if routable && route.is_err() {
            return None;
        }
        let bound = match route {
            Ok(route) => check(core, caller, &route, budget).await.map(|checked| (route, checked.bound)),
            Err(failure) => Err(failure),
        };
        let shown = Model {
            auth: bound.is_ok(),
            reason: bound.as_ref().err().map(reason_of),
            id: model.id,
            name: model.name,
            input: model.input,
            context_window: model.context_window,
            max_output_tokens: model.max_output_tokens,
            local: model.local,
            tags: model.tags,
        };
        Some(Looked { model: shown, provider: model.provider, bound: bound.ok() })
    });
    looked.buffered(AT_ONCE).filter_map(async |one| one).collect().await
}

/// The models that only upstreams list. Those that are listed already learn what the configuration does not say.
async fn of_upstreams(
    core: &Arc<Core>,
    caller: &Caller,
    models: &mut [Looked],
    budget: Budget,
) -> (Vec<router::Model>, Vec<Catalogue>) {
    // One credential of each provider, the one that a call would get, stands for it.
    let mut providers = BTreeMap::new();
    for one in models.iter() {
        if let Some((route, bound)) = &one.bound {
            providers.entry(one.provider.clone()).or_insert_with(|| (route.clone(), bound.clone(), one.model.local));
        }
    }
    let (mut further, mut catalogues) = (Vec::new(), Vec::new());
    for (provider, (route, bound, local)) in providers {
        let Some(known) = catalogue::of(core, caller, &route, &bound, budget).await else { continue };
        for listed in known.models.iter() {
            let id = format!("{provider}/{}", listed.id);
            match models.iter_mut().find(|one| one.model.id == id) {
                Some(one) => complete(&mut one.model, listed),
                None => further.push(router::Model {
                    name: listed.name.clone().unwrap_or_else(|| listed.id.clone()),
                    provider: provider.clone(),
                    context_window: listed.context_window,
                    max_output_tokens: listed.max_output_tokens,
                    input: listed.input.clone(),
                    tags: vec![UPSTREAM.to_owned()],
                    local,
                    id,
                }),
            }
        }
        catalogues.push(known.told(provider, bound.credential));
    }
    (further, catalogues)
}

/// What the configuration says of a model counts; where it says nothing, the upstream does.
fn complete(model: &mut Model, listed: &proto::transport::v1::UpstreamModel) {
    model.context_window = model.context_window.or(listed.context_window);
    model.max_output_tokens = model.max_output_tokens.or(listed.max_output_tokens);
    if model.input.is_empty() {
        model.input.clone_from(&listed.input);
    }
}
