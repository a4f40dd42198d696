//! The models and agents that the table knows.

use std::collections::BTreeMap;

use proto::router::v1::{self as pb, ListModelsRequest, ListModelsResponse, Model};

use crate::names::Named;
use crate::resolve::{Lists, Question};
use crate::table::{Agent, Table};

/// One line of the list before it is written out.
struct Listed<'a> {
    named: &'a Named,
    tags: Vec<&'static str>,
}

/// What `request` may see. With an agent: the listed models and its own, as far as its lists go, and that agent alone.
/// Without: everything, and every agent that the configuration names.
pub(crate) fn list(table: &Table, request: &ListModelsRequest, rejected: Option<String>) -> ListModelsResponse {
    let whole = request.agent.is_empty();
    let agent = table.agent(&request.agent);
    let mut listed: BTreeMap<String, Listed<'_>> = BTreeMap::new();
    let mut add = |named, tag: Option<&'static str>| note(&mut listed, named, tag);
    // Of the agent's own model and fallbacks, which are the defaults' where it says nothing.
    add(&agent.model, Some("default"));
    agent.fallbacks.iter().for_each(|named| add(named, Some("fallback")));
    table.models.values().for_each(|(named, _)| add(named, Some("configured")));
    if whole {
        // Another agent's default is nobody else's: it is listed, without a tag.
        let others = table.agents.values().flat_map(|agent| agent.fallbacks.iter().chain([&agent.model]));
        others.for_each(|named| add(named, None));
    }
    let question = Question { model: "", agent: &request.agent, key_allows: &request.allowed };
    let lists = Lists::new(table, question, agent);
    listed.retain(|_, entry| lists.refusing(&entry.named.canonical()).is_none());

    let agents = if whole {
        table.agents.iter().map(|(name, agent)| agent_to_proto(name, agent)).collect()
    } else {
        vec![agent_to_proto(&request.agent, agent)]
    };
    ListModelsResponse {
        models: listed.into_iter().map(|(id, entry)| model(table, id, entry)).collect(),
        table_digest: table.digest().to_owned(),
        default_model: table.anyone.model.canonical().to_string(),
        fallbacks: canonical(&table.anyone.fallbacks),
        agents,
        rejected,
        configured_default: table.configured_default.clone(),
    }
}

fn note<'a>(listed: &mut BTreeMap<String, Listed<'a>>, named: &'a Named, tag: Option<&'static str>) {
    let entry = listed.entry(named.canonical().to_string()).or_insert_with(|| Listed { named, tags: Vec::new() });
    if let Some(tag) = tag.filter(|tag| !entry.tags.contains(tag)) {
        entry.tags.push(tag);
    }
}

fn model(table: &Table, id: String, entry: Listed<'_>) -> Model {
    let known = table.models.get(&id).map(|(_, model)| model.clone()).unwrap_or_default();
    let tokens = |count: Option<u64>| count.map(|count| i32::try_from(count).unwrap_or(i32::MAX));
    Model {
        name: if known.name.is_empty() { entry.named.model.clone() } else { known.name },
        provider: entry.named.provider.name.clone(),
        context_window: tokens(known.context_window),
        max_output_tokens: tokens(known.max_output_tokens),
        input: known.input,
        tags: entry.tags.into_iter().map(str::to_owned).collect(),
        local: entry.named.provider.local,
        id,
    }
}

fn agent_to_proto(name: &str, agent: &Agent) -> pb::Agent {
    pb::Agent {
        name: name.to_owned(),
        model: agent.model.canonical().to_string(),
        fallbacks: canonical(&agent.fallbacks),
        allowed: agent.allowed.clone(),
        credentials: agent.credentials.clone(),
    }
}

fn canonical(models: &[Named]) -> Vec<String> {
    models.iter().map(|named| named.canonical().to_string()).collect()
}
