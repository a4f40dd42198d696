//! Questions to a target's account endpoints: under a seal of their own, through the same headers and classifier as a
//! call.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use domain::{Failure, Reason, service};
use http::{HeaderValue, Method, header};
use proto::transport::v1::{Outcome, SealedCredential};
use tokio::time::Instant;

use crate::call::{self, Asked};
use crate::classify::{self, Answer};
use crate::headers::{self, Caller};
use crate::send;
use crate::service::Inner;
use crate::targets::{Endpoint, Target};

/// Nobody waits for these answers as for a call's, and one that takes longer says nothing that is worth the wait.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most bytes of an answer.
const MAX_BYTES: usize = 256 * 1024;

/// A question.
pub(crate) struct Question<'a> {
    /// Id that the seal names.
    pub(crate) call_id: &'a str,
    /// The target.
    pub(crate) target: &'a Arc<Target>,
    /// Where it is asked; `None` where the target has no account endpoints.
    pub(crate) endpoint: Option<&'a Endpoint>,
    /// Whose account it is about, sealed for the account endpoints.
    pub(crate) credential: Option<SealedCredential>,
}

/// An answer, as its reader gets it.
pub(crate) struct Told<'a> {
    /// The body.
    pub(crate) body: &'a Bytes,
    /// Account id of the credential that asked.
    pub(crate) account_id: Option<&'a str>,
    /// Unix seconds.
    pub(crate) now_s: i64,
}

/// What an answer is that is not what was asked for.
pub(crate) enum Unread {
    /// Nothing of the kind.
    Foreign,
    /// Of the kind, and of no use: why.
    Useless(String),
}

/// Asks, and gives what `read` makes of the answer. An error means that nothing was sent.
pub(crate) async fn ask<T>(
    inner: &Arc<Inner>,
    question: Question<'_>,
    read: impl FnOnce(Told<'_>) -> Result<T, Unread>,
) -> Result<(Outcome, Option<T>), Failure> {
    let received = Instant::now();
    let Question { call_id, target, endpoint, credential } = question;
    let Some(endpoint) = endpoint else { return Err(unsupported(target)) };
    let lease = inner.lease(endpoint)?;
    let secret = inner.opener.open(credential.as_ref(), call_id, target, endpoint)?;
    let mut request_headers = headers::request(target, &secret, Caller(&[]), "")?;
    request_headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    let credential_id = credential.map(|c| c.credential_id).unwrap_or_default();
    let account_id = secret.account_id.clone();
    let credential_id = credential_id.as_str();
    let asked = Asked { received, call_id, credential_id, target, endpoint, method: Method::GET, secret };
    let (upstream, mut progress) = inner.begin(asked, request_headers);
    let patience = PATIENCE.min(inner.headers_timeout);
    let mut response = match send::send(&lease, upstream, &endpoint.shown, patience).await {
        Ok(response) => response,
        Err((failure, sent)) => {
            progress.sent = sent;
            return Ok((progress.finish(Some(failure)), None));
        }
    };
    progress.headers_arrived(&response, inner.clock.now_s());
    inner.cookies.keep(credential_id, &endpoint.base, response.headers());
    if !response.status().is_success() {
        let refusal = call::refusal(&mut response, target, endpoint, &inner.clock).await;
        return Ok((progress.finish(Some(refusal.failure)), None));
    }
    let (body, _) = send::read_some(&mut response, MAX_BYTES, PATIENCE).await;
    let now_s = inner.clock.now_s();
    let failure = match read(Told { body: &body, account_id: account_id.as_deref(), now_s }) {
        Ok(told) => return Ok((progress.finish(None), Some(told))),
        Err(Unread::Useless(why)) => {
            Failure::new(Reason::UpstreamError, service::UPSTREAM, format!("{}: {why}", endpoint.shown))
        }
        Err(Unread::Foreign) => {
            let (status, headers) = (response.status().as_u16(), response.headers());
            classify::refused(&Answer { target, endpoint, status, headers, body: &body, now_s }).failure
        }
    };
    Ok((progress.finish(Some(failure)), None))
}

fn unsupported(target: &Target) -> Failure {
    let message = format!("the target {} has no account endpoints, so nothing can be asked of its accounts", target.id);
    Failure::new(Reason::Unsupported, service::TRANSPORT, message)
}
