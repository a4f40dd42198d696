//! `BindingService`: the call path's side.

use std::sync::Arc;

use domain::{Failure, Reason, service};
use proto::auth::v1 as pb;
use proto::auth::v1::binding_service_server::BindingService;
use service_kit::{candidate_to_proto, failure_to_proto};
use tonic::{Request, Response, Status};

use super::key::limits;
use super::status;
use crate::bind::{Binder, Decision, Winner};
use crate::keys::{Keys, Verified};

/// The face.
#[derive(Clone)]
pub(crate) struct Binding {
    binder: Arc<Binder>,
    keys: Arc<Keys>,
}

impl Binding {
    pub(crate) fn new(binder: Arc<Binder>, keys: Arc<Keys>) -> Self {
        Self { binder, keys }
    }
}

fn wanted(wanted: Option<pb::Wanted>) -> Result<pb::Wanted, Status> {
    wanted.ok_or_else(|| {
        let message = "the request does not say what a credential is wanted for";
        status(Failure::new(Reason::RequestInvalid, service::AUTH, message).param("wanted"))
    })
}

fn bound(winner: &Winner) -> pb::Bound {
    pb::Bound {
        credential_id: winner.credential.id.clone(),
        credential: winner.credential.label.clone(),
        version: winner.credential.version,
        expires_at: winner.credential.access_expires_at.map(|s| s as f64),
        refreshed: winner.refreshed,
        egress: winner.credential.egress.to_proto(),
    }
}

fn candidates(decision: &Decision) -> Vec<proto::common::v1::Candidate> {
    decision.candidates.iter().map(candidate_to_proto).collect()
}

#[tonic::async_trait]
impl BindingService for Binding {
    async fn bind(&self, request: Request<pb::BindRequest>) -> Result<Response<pb::BindResponse>, Status> {
        let request = request.into_inner();
        let wanted = wanted(request.wanted)?;
        let span = tracing::Span::current();
        span.record("switchboard.call_id", request.call_id.as_str());
        let decision =
            self.binder.decide(&wanted, request.rejected.as_ref(), &request.exclude).await.map_err(status)?;
        if let Some(failure) = &decision.failure {
            span.record("switchboard.reason", failure.reason.as_str());
        }
        let sealed = decision
            .winner
            .as_ref()
            .map(|winner| self.binder.seal(winner, &wanted.target, &request.call_id))
            .transpose()
            .map_err(status)?;
        let workspace = decision.winner.as_ref().map(|winner| self.binder.workspace_question(winner));
        let workspace = workspace.transpose().map_err(status)?.flatten();
        Ok(Response::new(pb::BindResponse {
            bound: decision.winner.as_ref().map(bound),
            failure: decision.failure.as_ref().map(failure_to_proto),
            candidates: candidates(&decision),
            sealed,
            workspace,
        }))
    }

    async fn check_binding(
        &self,
        request: Request<pb::CheckBindingRequest>,
    ) -> Result<Response<pb::CheckBindingResponse>, Status> {
        let request = request.into_inner();
        let wanted = wanted(request.wanted)?;
        let decision = self.binder.decide(&wanted, None, &request.exclude).await.map_err(status)?;
        Ok(Response::new(pb::CheckBindingResponse {
            bound: decision.winner.as_ref().map(bound),
            failure: decision.failure.as_ref().map(failure_to_proto),
            candidates: candidates(&decision),
        }))
    }

    async fn report_outcome(
        &self,
        request: Request<pb::ReportOutcomeRequest>,
    ) -> Result<Response<pb::ReportOutcomeResponse>, Status> {
        self.binder.report(request.get_ref()).await.map_err(status)?;
        Ok(Response::new(pb::ReportOutcomeResponse {}))
    }

    async fn report_usage(
        &self,
        request: Request<pb::ReportUsageRequest>,
    ) -> Result<Response<pb::ReportUsageResponse>, Status> {
        let batch = request.into_inner();
        // What may safely be done twice comes first: if the count fails, the whole batch comes again.
        self.binder.note_usage(&batch.credentials).await.map_err(status)?;
        self.keys.add_usage(&batch.batch_id, &batch.keys).await.map_err(status)?;
        Ok(Response::new(pb::ReportUsageResponse {}))
    }

    async fn claim_probes(
        &self,
        _request: Request<pb::ClaimProbesRequest>,
    ) -> Result<Response<pb::ClaimProbesResponse>, Status> {
        Ok(Response::new(self.binder.claim_probes().await.map_err(status)?))
    }

    async fn report_workspace(
        &self,
        request: Request<pb::ReportWorkspaceRequest>,
    ) -> Result<Response<pb::ReportWorkspaceResponse>, Status> {
        self.binder.note_workspace(request.get_ref()).await.map_err(status)?;
        Ok(Response::new(pb::ReportWorkspaceResponse {}))
    }

    async fn verify_key(
        &self,
        request: Request<pb::VerifyKeyRequest>,
    ) -> Result<Response<pb::VerifyKeyResponse>, Status> {
        let Verified { key, expires_at, exhausted_until } =
            self.keys.verify(&request.get_ref().key_hash).await.map_err(status)?;
        Ok(Response::new(pb::VerifyKeyResponse {
            limits: limits(key.limits),
            key_id: key.id,
            name: key.name,
            agent: key.agent,
            models: key.models,
            credentials: key.credentials,
            exhausted_until: exhausted_until.map(|s| s as f64),
            expires_at: expires_at.map(|s| s as f64),
        }))
    }
}
