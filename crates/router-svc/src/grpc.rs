//! The gRPC face.

use domain::{Failure, Reason, service};
use proto::router::v1::router_service_server;
use proto::router::v1::{
    ExplainRequest, ExplainResponse, ListModelsRequest, ListModelsResponse, ReloadRequest, ReloadResponse,
    ResolveRequest, ResolveResponse,
};
use service_kit::{Peer, status_from_failure};
use tonic::{Request, Response, Status};

use crate::list::list;
use crate::resolve::{Question, Steps, resolve};
use crate::service::RouterService;

pub(crate) struct Grpc {
    service: RouterService,
}

impl Grpc {
    pub(crate) fn new(service: RouterService) -> Self {
        Self { service }
    }
}

#[tonic::async_trait]
impl router_service_server::RouterService for Grpc {
    async fn resolve(&self, request: Request<ResolveRequest>) -> Result<Response<ResolveResponse>, Status> {
        let request = request.into_inner();
        let table = &self.service.in_force().table;
        let question = Question { model: &request.model, agent: &request.agent, key_allows: &request.allowed };
        let routes = resolve(table, question, &mut Steps::off())
            .map_err(|refused| with_digest(status_from_failure(&refused.into_failure()), table.digest()))?;
        Ok(Response::new(ResolveResponse { routes, table_digest: table.digest().to_owned() }))
    }

    async fn explain(&self, request: Request<ExplainRequest>) -> Result<Response<ExplainResponse>, Status> {
        let request = request.into_inner();
        let table = &self.service.in_force().table;
        let mut steps = Steps::on();
        let question = Question { model: &request.model, agent: &request.agent, key_allows: &[] };
        let (routes, refusal) = match resolve(table, question, &mut steps) {
            Ok(routes) => (routes, None),
            Err(refused) => (Vec::new(), Some(refused.into_proto())),
        };
        let table_digest = table.digest().to_owned();
        Ok(Response::new(ExplainResponse { steps: steps.into_lines(), routes, refusal, table_digest }))
    }

    async fn list_models(&self, request: Request<ListModelsRequest>) -> Result<Response<ListModelsResponse>, Status> {
        let in_force = self.service.in_force();
        Ok(Response::new(list(&in_force.table, request.get_ref(), in_force.rejected.clone())))
    }

    async fn reload(&self, request: Request<ReloadRequest>) -> Result<Response<ReloadResponse>, Status> {
        let peer = request.extensions().get::<Peer>().cloned();
        let actor = peer.map_or_else(|| "unknown".to_owned(), |peer| peer.describe());
        let outcome = self.service.reload_off_the_runtime().await.ok_or_else(|| {
            let message = "reading the configuration again failed; the old route table stays in force";
            Failure::new(Reason::Internal, service::ROUTER, message)
        });
        // An operator's act. The audit log itself is in the database, which is auth-svc's alone.
        let came_of_it = match &outcome {
            Ok(outcome) if outcome.rejected.is_some() => "rejected",
            Ok(_) => "ok",
            Err(failure) => failure.reason.as_str(),
        };
        tracing::info!(target: "audit", actor, act = "config.reload", outcome = came_of_it, "an operator acted");
        let outcome = outcome.map_err(|failure| status_from_failure(&failure))?;
        Ok(Response::new(ReloadResponse {
            table_digest: outcome.digest,
            changed: outcome.changed,
            rejected: outcome.rejected,
        }))
    }
}

/// A refusal too says which table it comes from.
fn with_digest(mut status: Status, digest: &str) -> Status {
    if let Ok(value) = digest.parse() {
        status.metadata_mut().insert("x-switchboard-route-table", value);
    }
    status
}
