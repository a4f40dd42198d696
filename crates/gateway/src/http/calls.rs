//! `GET /v1/switchboard/calls/{id}`: a call with its execution trace.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use domain::{ExecutionTrace, Failure, Usage};
use http::StatusCode;
use serde::Serialize;
use service_kit::Peer;

use crate::budget::Budget;
use crate::core::Core;
use crate::http::Id;
use crate::http::error::failure_response;
use crate::records::{Record, no_such_call};

/// A call as it was recorded; names as in `call --json`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    status: &'a str,
    call_id: &'a str,
    agent: &'a str,
    face: &'a str,
    /// Unix seconds.
    started_at: f64,
    elapsed_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a Failure>,
    execution_trace: &'a ExecutionTrace,
    usage: Option<Usage>,
}

impl<'a> From<&'a Record> for Shown<'a> {
    fn from(record: &'a Record) -> Self {
        Self {
            status: if record.failure.is_some() { "error" } else { "ok" },
            call_id: &record.trace.call_id,
            agent: &record.agent,
            face: record.face.as_str(),
            started_at: record.started_at_ms as f64 / 1e3,
            elapsed_ms: record.elapsed_ms,
            error: record.failure.as_ref(),
            execution_trace: &record.trace,
            usage: record.usage,
        }
    }
}

pub(super) async fn show(State(core): State<Arc<Core>>, id: Id, request: Request) -> Response {
    let budget = Budget::from_headers(request.headers());
    let peer = request.extensions().get::<Peer>().cloned();
    let found = match core.identify(request.headers(), peer, "", budget).await {
        Ok(caller) => super::named(id).and_then(|id| core.records.find(&id, &caller).ok_or_else(|| no_such_call(&id))),
        Err(failure) => Err(failure),
    };
    match found {
        // Fails only for maps with keys that are no strings, and there is no map here.
        Ok(record) => super::json(StatusCode::OK, serde_json::to_string(&Shown::from(&*record)).unwrap_or_default()),
        Err(failure) => failure_response(&failure, core.clock.now_s()),
    }
}
