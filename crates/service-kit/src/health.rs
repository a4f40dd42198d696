//! Asking a peer whether it serves.

use std::time::Duration;

use domain::{Failure, Reason, service};
use tonic::Status;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::channel::PeerChannel;
use crate::status::failure_from_status;

/// Asks a peer whether it serves. Answers within 3 seconds.
pub async fn check_health(channel: PeerChannel) -> Result<(), Failure> {
    let peer = channel.peer();
    let place = channel.describe();
    let mut request = tonic::Request::new(HealthCheckRequest { service: String::new() });
    request.set_timeout(Duration::from_secs(3));
    let mut client = HealthClient::new(channel);
    let checked = tokio::time::timeout(Duration::from_secs(3), client.check(request)).await;
    let response = checked
        .map_err(|_| Status::deadline_exceeded("no answer within 3 s"))
        .and_then(|r| r)
        .map_err(|status| failure_from_status(&status, peer))?;
    if response.into_inner().status == ServingStatus::Serving as i32 {
        return Ok(());
    }
    Err(Failure::new(Reason::PeerUnavailable, service::CLI, format!("{place} answers, but is not serving")))
}
