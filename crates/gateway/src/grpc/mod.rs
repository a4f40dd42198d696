//! The gRPC face.

mod admit;
mod answer;

use std::pin::Pin;
use std::sync::Arc;

use domain::{Failure, Reason, service};
use futures_util::{Stream, StreamExt, stream};
use proto::gateway::v1::gateway_service_server::GatewayService;
use proto::gateway::v1::{
    CallRecord, CompleteRequest, CompleteResponse, GetCallRequest, GetCallResponse, GetStatusRequest,
    GetStatusResponse, ListCallsRequest, ListCallsResponse, ListModelsRequest, ListModelsResponse, RespondRequest,
    RespondResponse,
};
use service_kit::{
    failure_to_proto, status_from_failure, status_from_failure_with_trace, trace_to_proto, usage_to_proto,
};
use tonic::{Request, Response, Status};

use crate::budget::Budget;
use crate::caller::Caller;
use crate::core::Core;
use crate::headers;
use crate::models;
use crate::pipeline::{self, Ask, Call, CallStream, Words};
use crate::records::{Face, Record, no_such_call};
use crate::status::status;

pub(crate) use admit::Admitting;
use admit::introduced;

/// Calls listed when the caller does not say how many.
const CALLS_LISTED: usize = 50;

/// The gateway's service for agents and operators.
pub(crate) struct Grpc {
    core: Arc<Core>,
}

impl Grpc {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// Who asks, for questions that are no calls.
    fn identify<T>(&self, request: &Request<T>, agent: &str) -> Result<(Caller, Budget), Status> {
        let budget = Budget::from_headers(request.metadata().as_ref());
        let caller = introduced(request.extensions()).speaking_for(agent).result;
        Ok((caller.map_err(|f| status_from_failure(&f))?, budget))
    }

    /// Begins a call. Failures that come before it are failures of the call: recorded, and with its trace.
    fn begin<T>(&self, request: &Request<T>, words: Words<'_>, agent: &str) -> Result<(CallStream, String), Status> {
        let metadata = request.metadata().as_ref();
        let mut call = Call::accept(&self.core, Face::Grpc, metadata, request.extensions());
        let call_id = call.id.clone();
        let asked = match call.admit(introduced(request.extensions()).speaking_for(agent)) {
            Ok(()) => self.ask(words, metadata),
            Err(failure) => Err(failure),
        };
        match asked {
            Ok(ask) => Ok((pipeline::run(call, ask), call_id)),
            Err(failure) => {
                let ended = call.finish(Some(failure), None);
                Err(failed(&ended.record))
            }
        }
    }

    fn ask(&self, words: Words<'_>, metadata: &http::HeaderMap) -> Result<Ask, Failure> {
        let limit = self.core.max_body_bytes;
        if words.body_json.len().max(words.message.len()) > limit {
            let message = format!("the request is over the limit of {limit} bytes");
            return Err(Failure::new(Reason::RequestTooLarge, service::GATEWAY, message));
        }
        let mut passing = headers::passing(metadata);
        // The user agent of a gRPC library says nothing about the agent.
        passing.retain(|header| header.name != "user-agent");
        Ask::from_words(words, passing, headers::session(metadata))
    }
}

/// The status of a failed call, with its trace.
fn failed(record: &Record) -> Status {
    let unknown = || Failure::new(Reason::Internal, service::GATEWAY, "the call failed without a reason");
    let failure = record.failure.clone().unwrap_or_else(unknown);
    with_call_id(status_from_failure_with_trace(&failure, &record.trace), &record.trace.call_id)
}

fn with_call_id(mut status: Status, call_id: &str) -> Status {
    if let Ok(value) = call_id.parse() {
        status.metadata_mut().insert("x-switchboard-call-id", value);
    }
    status
}

fn answered<T>(message: T, call_id: &str) -> Response<T> {
    let mut response = Response::new(message);
    if let Ok(value) = call_id.parse() {
        response.metadata_mut().insert("x-switchboard-call-id", value);
    }
    response
}

#[tonic::async_trait]
impl GatewayService for Grpc {
    type RespondStream = Pin<Box<dyn Stream<Item = Result<RespondResponse, Status>> + Send>>;

    async fn respond(&self, request: Request<RespondRequest>) -> Result<Response<Self::RespondStream>, Status> {
        let asked = request.get_ref();
        let (events, call_id) = self.begin(&request, answer::respond_words(asked), &asked.agent)?;
        let events = answer::typed(events, call_id.clone(), asked.include_raw);
        // The answer's head waits for the winner's first event, so that a failure before it is a plain status.
        let mut events = Box::pin(events);
        match events.next().await {
            Some(Ok(first)) => {
                let events = stream::once(async { Ok(first) }).chain(events);
                Ok(answered(Box::pin(events) as Self::RespondStream, &call_id))
            }
            Some(Err(status)) => Err(status),
            None => Err(with_call_id(Status::internal("the call ended without an event"), &call_id)),
        }
    }

    async fn complete(&self, request: Request<CompleteRequest>) -> Result<Response<CompleteResponse>, Status> {
        let asked = request.get_ref();
        let (events, call_id) = self.begin(&request, answer::complete_words(asked), &asked.agent)?;
        let whole = answer::whole(events, asked.include_raw).await?;
        Ok(answered(whole, &call_id))
    }

    async fn list_models(&self, request: Request<ListModelsRequest>) -> Result<Response<ListModelsResponse>, Status> {
        let (caller, budget) = self.identify(&request, &request.get_ref().agent)?;
        let listed = models::list(&self.core, &caller, budget).await.map_err(|f| status_from_failure(&f))?;
        Ok(Response::new(ListModelsResponse { models: listed.models, catalogues: listed.catalogues }))
    }

    async fn get_status(&self, request: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        let asked = request.get_ref();
        let (caller, budget) = self.identify(&request, &asked.agent)?;
        let found = status(&self.core, &caller, &asked.agent, asked.probe, budget).await;
        found.map(Response::new).map_err(|f| status_from_failure(&f))
    }

    async fn list_calls(&self, request: Request<ListCallsRequest>) -> Result<Response<ListCallsResponse>, Status> {
        let (caller, _) = self.identify(&request, "")?;
        let ListCallsRequest { limit, failed } = request.into_inner();
        let limit = usize::try_from(limit).ok().filter(|n| *n > 0).unwrap_or(CALLS_LISTED);
        let calls = self.core.records.list(&caller, limit, failed).iter().map(|r| record_to_proto(r)).collect();
        Ok(Response::new(ListCallsResponse { calls }))
    }

    async fn get_call(&self, request: Request<GetCallRequest>) -> Result<Response<GetCallResponse>, Status> {
        let (caller, _) = self.identify(&request, "")?;
        let call_id = request.into_inner().call_id;
        let Some(record) = self.core.records.find(&call_id, &caller) else {
            return Err(status_from_failure(&no_such_call(&call_id)));
        };
        Ok(Response::new(GetCallResponse { call: Some(record_to_proto(&record)) }))
    }
}

fn record_to_proto(record: &Record) -> CallRecord {
    CallRecord {
        call_id: record.trace.call_id.clone(),
        agent: record.agent.clone(),
        status: if record.failure.is_some() { "error" } else { "ok" }.to_owned(),
        started_at: record.started_at_ms as f64 / 1e3,
        elapsed_ms: record.elapsed_ms,
        face: record.face.as_str().to_owned(),
        error: record.failure.as_ref().map(failure_to_proto),
        execution_trace: Some(trace_to_proto(&record.trace)),
        usage: record.usage.as_ref().map(usage_to_proto),
    }
}
