//! Health over gRPC: a process serves as long as it is ready, by the same functions that `/readyz` asks; and asking a peer
//! for it.

use std::time::Duration;

use domain::{Failure, Reason, service};
use prost::Message;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status};
use tonic_health::ServingStatus;
use tonic_health::pb;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::server::{HealthReporter, HealthService, WatchStream};

use crate::admin::{Readiness, first_failure};
use crate::channel::PeerChannel;
use crate::convert::{failure_from_proto, failure_to_proto};
use crate::status::failure_from_status;

/// Why it does not serve, in the metadata of an answer: the answer itself has no room for it.
const FAILURE: &str = "switchboard-failure-bin";
/// Longest wait for an answer: whoever is asked may have to ask its own peers.
const PATIENCE: Duration = Duration::from_secs(5);

/// The health of a process. Each gRPC service that is mounted serves; the whole, which has no name, while it is ready.
pub(crate) struct ReadyHealth {
    known: HealthService,
    reporter: HealthReporter,
    ready: Vec<Readiness>,
}

/// A health service for a process with these gRPC services.
pub(crate) async fn ready_health(names: &[&'static str], ready: Vec<Readiness>) -> HealthServer<ReadyHealth> {
    let reporter = HealthReporter::new();
    for name in names {
        reporter.set_service_status(*name, ServingStatus::Serving).await;
    }
    let known = HealthService::from_health_reporter(reporter.clone());
    HealthServer::new(ReadyHealth { known, reporter, ready })
}

#[tonic::async_trait]
impl Health for ReadyHealth {
    async fn check(
        &self,
        request: Request<pb::HealthCheckRequest>,
    ) -> Result<Response<pb::HealthCheckResponse>, Status> {
        if !request.get_ref().service.is_empty() {
            return self.known.check(request).await;
        }
        let failure = first_failure(&self.ready).await;
        let status = if failure.is_none() { ServingStatus::Serving } else { ServingStatus::NotServing };
        // Whoever watches hears of it, too.
        self.reporter.set_service_status("", status).await;
        let mut answer = self.known.check(request).await?;
        if let Some(failure) = failure {
            let why = MetadataValue::from_bytes(&failure_to_proto(&failure).encode_to_vec());
            answer.metadata_mut().insert_bin(FAILURE, why);
        }
        Ok(answer)
    }

    type WatchStream = WatchStream;

    async fn watch(&self, request: Request<pb::HealthCheckRequest>) -> Result<Response<WatchStream>, Status> {
        self.known.watch(request).await
    }
}

/// Why a peer that answers so does not serve; `None` if it serves, or does not say.
pub fn why_not_serving(answer: &Response<pb::HealthCheckResponse>) -> Option<Failure> {
    let why = answer.metadata().get_bin(FAILURE)?.to_bytes().ok()?;
    Some(failure_from_proto(&proto::common::v1::Failure::decode(why).ok()?))
}

/// Asks a peer whether it serves. Answers within 5 seconds.
///
/// # Errors
///
/// What the peer says is in the way, else PEER_UNAVAILABLE.
pub async fn check_health(channel: PeerChannel) -> Result<(), Failure> {
    let peer = channel.peer();
    let place = channel.describe();
    let mut request = tonic::Request::new(pb::HealthCheckRequest { service: String::new() });
    request.set_timeout(PATIENCE);
    let mut client = HealthClient::new(channel);
    let checked = tokio::time::timeout(PATIENCE, client.check(request)).await;
    let response = checked
        .map_err(|_| Status::deadline_exceeded("no answer within 5 s"))
        .and_then(|r| r)
        .map_err(|status| failure_from_status(&status, peer))?;
    if response.get_ref().status == pb::health_check_response::ServingStatus::Serving as i32 {
        return Ok(());
    }
    let unsaid = || Failure::new(Reason::PeerUnavailable, service::CLI, format!("{place} answers, but is not serving"));
    Err(why_not_serving(&response).unwrap_or_else(unsaid))
}
