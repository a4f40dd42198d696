//! How much of an account's quota is used, asked for: `GET {backend}/wham/usage`, under a seal of its own, through the
//! same headers and classifier as a call.

use std::sync::Arc;
use std::time::Duration;

use domain::{Failure, Reason, service};
use http::{HeaderValue, Method, header};
use proto::transport::v1::{FetchUsageRequest, FetchUsageResponse, Outcome};
use tokio::time::Instant;

use crate::call::{self, Asked};
use crate::classify::{self, Answer};
use crate::headers::{self, Caller};
use crate::progress::Progress;
use crate::send;
use crate::service::Inner;
use crate::targets::{Endpoint, Target};

mod answer;

use answer::Usage;

/// Nobody waits for this answer as for a call's, and one that takes longer says nothing that is worth the wait.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most bytes of an answer.
const MAX_BYTES: usize = 256 * 1024;

/// Asks for the usage. A failure means that nothing was sent.
pub(crate) async fn fetch(inner: &Arc<Inner>, request: FetchUsageRequest) -> Result<FetchUsageResponse, Failure> {
    let received = Instant::now();
    let target = inner.target(&request.target)?;
    let Some(endpoint) = &target.usage else { return Err(unsupported(&target)) };
    let secret = inner.opener.open(request.credential.as_ref(), &request.call_id, &target, endpoint)?;
    let mut request_headers = headers::request(&target, &secret, Caller(&[]), "")?;
    request_headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    let credential_id = request.credential.map(|c| c.credential_id).unwrap_or_default();
    let asked = Asked {
        received,
        call_id: &request.call_id,
        credential_id: &credential_id,
        target: &target,
        endpoint,
        method: Method::GET,
        secret,
    };
    let (upstream, mut progress) = inner.begin(asked, request_headers);
    let lease = inner.lease(endpoint)?;
    let patience = PATIENCE.min(inner.headers_timeout);
    let mut response = match send::send(&lease.client, upstream, &endpoint.shown, patience).await {
        Ok(response) => response,
        Err((failure, sent)) => {
            progress.sent = sent;
            return Ok(refused(progress.finish(Some(failure))));
        }
    };
    progress.headers_arrived(&response, inner.clock.now_s());
    inner.cookies.keep(&credential_id, &endpoint.base, response.headers());
    if !response.status().is_success() {
        let refusal = call::refusal(&mut response, &target, endpoint, &inner.clock).await;
        return Ok(refused(progress.finish(Some(refusal.failure))));
    }
    Ok(read(inner, &target, endpoint, &mut response, &mut progress).await)
}

async fn read(
    inner: &Inner,
    target: &Target,
    endpoint: &Endpoint,
    response: &mut reqwest::Response,
    progress: &mut Progress,
) -> FetchUsageResponse {
    let (body, _) = send::read_some(response, MAX_BYTES, PATIENCE).await;
    let now_s = inner.clock.now_s();
    if let Some(Usage { windows, plan, allowed }) = Usage::read(&body, now_s) {
        return FetchUsageResponse { outcome: Some(progress.finish(None)), windows, plan, allowed };
    }
    let (status, headers) = (response.status().as_u16(), response.headers());
    let refusal = classify::refused(&Answer { target, endpoint, status, headers, body: &body, now_s });
    refused(progress.finish(Some(refusal.failure)))
}

fn refused(outcome: Outcome) -> FetchUsageResponse {
    FetchUsageResponse { outcome: Some(outcome), ..FetchUsageResponse::default() }
}

fn unsupported(target: &Target) -> Failure {
    let message = format!("the target {} has no account endpoints, so its usage cannot be asked for", target.id);
    Failure::new(Reason::Unsupported, service::TRANSPORT, message)
}
