//! The gRPC face.

use std::pin::Pin;
use std::sync::Arc;

use domain::{Failure, Reason, service};
use futures_util::{Stream, StreamExt, stream};
use proto::transport::v1::transport_service_server::TransportService as Contract;
use proto::transport::v1::{
    DiscoverWorkspaceRequest, DiscoverWorkspaceResponse, FetchModelsRequest, FetchModelsResponse, FetchUsageRequest,
    FetchUsageResponse, ProbeRequest, ProbeResponse, RespondRequest, RespondResponse,
};
use service_kit::{HeldBytes, status_from_failure};
use tonic::{Request, Response, Status};
use tracing::Span;

use crate::service::Inner;
use crate::{call, models, usage, workspace};

/// The service as gRPC serves it.
#[derive(Clone, Debug)]
pub(crate) struct Grpc(pub(crate) Arc<Inner>);

type Answer = Pin<Box<dyn Stream<Item = Result<RespondResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Contract for Grpc {
    type RespondStream = Answer;

    async fn respond(&self, request: Request<RespondRequest>) -> Result<Response<Answer>, Status> {
        let held = request.extensions().get::<HeldBytes>().cloned();
        let request = request.into_inner();
        Span::current().record("switchboard.call_id", request.call_id.as_str());
        let call = Box::pin(call::prepare(&self.0, request, held)).await.map_err(|f| refused(&f))?;
        // Held until the stream is dropped: shutdown waits for it.
        let open = self.0.open_calls.token();
        let stopping = self.0.stopping.clone();
        let messages = call::answer(call).map(|message| Ok(call::response(message)));
        let until_stop = messages.take_until(stopping.clone().cancelled_owned());
        // After its outcome a stream has nothing to say; one that was stopped before says why.
        let last = stream::once(async move { stopping.is_cancelled().then(|| Err(stopped())) });
        let answer = until_stop.chain(last.filter_map(|last| async move { last })).map(move |item| {
            let _open = &open;
            item
        });
        Ok(Response::new(Box::pin(answer)))
    }

    async fn probe(&self, request: Request<ProbeRequest>) -> Result<Response<ProbeResponse>, Status> {
        let request = request.into_inner();
        Span::current().record("switchboard.call_id", request.call_id.as_str());
        let found = Box::pin(models::probe(&self.0, request)).await.map_err(|f| refused(&f))?;
        Ok(Response::new(found))
    }

    async fn fetch_usage(&self, request: Request<FetchUsageRequest>) -> Result<Response<FetchUsageResponse>, Status> {
        let request = request.into_inner();
        Span::current().record("switchboard.call_id", request.call_id.as_str());
        let found = Box::pin(usage::fetch(&self.0, request)).await.map_err(|f| refused(&f))?;
        Ok(Response::new(found))
    }

    async fn fetch_models(
        &self,
        request: Request<FetchModelsRequest>,
    ) -> Result<Response<FetchModelsResponse>, Status> {
        let request = request.into_inner();
        Span::current().record("switchboard.call_id", request.call_id.as_str());
        let listed = Box::pin(models::fetch(&self.0, request)).await.map_err(|f| refused(&f))?;
        Ok(Response::new(listed))
    }

    async fn discover_workspace(
        &self,
        request: Request<DiscoverWorkspaceRequest>,
    ) -> Result<Response<DiscoverWorkspaceResponse>, Status> {
        let request = request.into_inner();
        Span::current().record("switchboard.call_id", request.call_id.as_str());
        let found = Box::pin(workspace::discover(&self.0, request)).await.map_err(|f| refused(&f))?;
        Ok(Response::new(found))
    }
}

fn refused(failure: &Failure) -> Status {
    tracing::warn!(reason = %failure.reason, "no upstream request was made: {}", failure.message);
    status_from_failure(failure)
}

fn stopped() -> Status {
    let message = "transport-svc stopped while the call was under way";
    status_from_failure(&Failure::new(Reason::PeerUnavailable, service::TRANSPORT, message))
}
