//! `GET /v1/models` and `GET /v1/models/{id}`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use domain::{Failure, Reason};
use http::StatusCode;
use http::request::Parts;
use proto::gateway::v1::Model;
use serde::Serialize;
use service_kit::Peer;

use crate::bound::check;
use crate::budget::Budget;
use crate::caller::Caller;
use crate::core::Core;
use crate::http::Id;
use crate::http::error::failure_response;
use crate::models;
use crate::status::{reason_of, resolve_one};

/// The list: OpenAI's shape, and `models`, which Codex reads and which stays empty so that it keeps its own list.
#[derive(Serialize)]
struct List {
    object: &'static str,
    data: Vec<Entry>,
    models: [(); 0],
}

/// One model: OpenAI's fields, then ours.
#[derive(Serialize)]
struct Entry {
    id: String,
    object: &'static str,
    /// Unix seconds; the route table does not know it, and clients want a number.
    created: i64,
    owned_by: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    context_window: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<i32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    input: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    /// Whether a call would be bound to a credential, found out a moment ago as a call would.
    bound: bool,
    /// Why it would not.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl From<Model> for Entry {
    fn from(model: Model) -> Self {
        let owned_by = model.id.split_once('/').map(|(provider, _)| provider.to_owned()).unwrap_or_default();
        Self {
            owned_by,
            bound: model.auth,
            reason: model.reason,
            id: model.id,
            object: "model",
            created: 0,
            name: model.name,
            context_window: model.context_window,
            max_output_tokens: model.max_output_tokens,
            input: model.input,
            tags: model.tags,
        }
    }
}

pub(super) async fn list(State(core): State<Arc<Core>>, request: Request) -> Response {
    answer(&core, find_all(&core, &request.into_parts().0).await)
}

pub(super) async fn show(State(core): State<Arc<Core>>, id: Id, request: Request) -> Response {
    let found = match super::named(id) {
        Ok(id) => find(&core, &id, &request.into_parts().0).await,
        Err(failure) => Err(failure),
    };
    answer(&core, found)
}

async fn find_all(core: &Arc<Core>, request: &Parts) -> Result<List, Failure> {
    let (caller, budget) = identify(core, request).await?;
    let listed = models::recent(core, &caller, budget).await?;
    let data = listed.models.iter().cloned().map(Entry::from).collect();
    Ok(List { object: "list", data, models: [] })
}

/// A model by any name that a call could use.
async fn find(core: &Arc<Core>, id: &str, request: &Parts) -> Result<Entry, Failure> {
    let (caller, budget) = identify(core, request).await?;
    let route = resolve_one(core, &caller, id, budget).await.map_err(|failure| match failure.reason {
        Reason::RouteUnknown => Failure { reason: Reason::NotFound, ..failure },
        _ => failure,
    })?;
    let listed = models::recent(core, &caller, budget).await?;
    if let Some(model) = listed.models.iter().find(|model| model.id == route.model) {
        return Ok(model.clone().into());
    }
    // A model that is not listed can be called all the same.
    let reason = check(core, &caller, &route, budget).await.err().as_ref().map(reason_of);
    let unlisted = Model { id: route.model, auth: reason.is_none(), reason, ..Model::default() };
    Ok(unlisted.into())
}

async fn identify(core: &Core, request: &Parts) -> Result<(Caller, Budget), Failure> {
    let budget = Budget::from_headers(&request.headers);
    let peer = request.extensions.get::<Peer>().cloned();
    Ok((core.identify(&request.headers, peer, "", budget).await?, budget))
}

fn answer<T: Serialize>(core: &Core, found: Result<T, Failure>) -> Response {
    match found {
        // Fails only for maps with keys that are no strings, and there is no map here.
        Ok(found) => super::json(StatusCode::OK, serde_json::to_string(&found).unwrap_or_default()),
        Err(failure) => failure_response(&failure, core.clock.now_s()),
    }
}
