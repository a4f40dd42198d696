//! One Responses call, from the request to the stream of its answer.

use std::sync::Arc;
use std::time::Duration;

use async_stream::stream;
use config::{HoistInstructions, TargetKind};
use domain::{Clock, Failure, Reason, service};
use futures_util::Stream;
use http::{HeaderMap, HeaderValue, Method, header};
use proto::transport::v1::respond_response::Message;
use proto::transport::v1::{Head, Resource, RespondRequest, RespondResponse};
use reqwest::Request;
use service_kit::{HeldBytes, UpstreamSecret};
use tokio::time::Instant;

use crate::body::{self, Edited, Rules};
use crate::classify::{self, Answer, Refused};
use crate::document::Document;
use crate::headers::{self, Caller};
use crate::pool::Lease;
use crate::progress::{About, Progress};
use crate::relay::{Relay, Step};
use crate::send::{self, NotedBody, Response};
use crate::service::Inner;
use crate::targets::{Endpoint, Target};

/// Bodies from this size on are rewritten on a thread that may be busy.
const LARGE_BODY_BYTES: usize = 1024 * 1024;
/// A compaction is answered whole, when the work is done: its headers may take as many times the silence that a stream
/// may keep (facts: Codex CLI, codex-api/src/endpoint/compact.rs).
const COMPACT_PATIENCE: u32 = 4;
/// Most bytes of a refusal that are read.
const MAX_REFUSAL_BYTES: usize = 64 * 1024;
/// How long the body of a refusal may take.
const REFUSAL_TIME: Duration = Duration::from_secs(5);

/// A call that is ready to be made.
#[derive(Debug)]
pub(crate) struct Call {
    inner: Arc<Inner>,
    target: Arc<Target>,
    resource: Resource,
    credential_id: String,
    request: Request,
    lease: Lease,
    dropped: Vec<String>,
    progress: Progress,
}

/// Prepares a call. A failure means that nothing was sent. `held` is the room that the request's body takes.
pub(crate) async fn prepare(
    inner: &Arc<Inner>,
    request: RespondRequest,
    held: Option<HeldBytes>,
) -> Result<Call, Failure> {
    let received = Instant::now();
    let target = inner.target_for(&request.target, request.credential.as_ref())?;
    let resource = Resource::try_from(request.resource).map_err(|_| {
        let message = format!("there is no resource {}", request.resource);
        Failure::new(Reason::RequestInvalid, service::TRANSPORT, message)
    })?;
    let endpoint = target.of(resource);
    // First of all: a seal that was opened opens nothing any more, and what is edited is held.
    let lease = inner.lease(endpoint)?;
    let secret = inner.opener.open(request.credential.as_ref(), &request.call_id, &target, endpoint)?;
    let caller = Caller(&request.headers);
    let mut request_headers = headers::request(&target, &secret, caller, &request.upstream_model)?;
    headers::route(&mut request_headers, target.kind, &secret)?;
    let accept = if resource == Resource::Compact { "application/json" } else { "text/event-stream" };
    request_headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
    request_headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let edited = edit(&target, resource, caller, &request).await?;

    let credential_id = request.credential.map(|c| c.credential_id).unwrap_or_default();
    let asked = Asked {
        received,
        call_id: &request.call_id,
        credential_id: &credential_id,
        target: &target,
        endpoint,
        method: Method::POST,
        secret,
    };
    let (mut upstream, mut progress) = inner.begin(asked, request_headers);
    progress.holds_reasoning = edited.holds_reasoning;
    // Its room is given back when a connection has written the last of it, or will not.
    let body = match held {
        Some(held) => held.keep(edited.body),
        None => edited.body,
    };
    *upstream.body_mut() = Some(NotedBody::request(body, progress.handed.clone()));
    Ok(Call {
        inner: Arc::clone(inner),
        target,
        resource,
        credential_id,
        request: upstream,
        lease,
        dropped: edited.dropped,
        progress,
    })
}

async fn edit(
    target: &Target,
    resource: Resource,
    caller: Caller<'_>,
    request: &RespondRequest,
) -> Result<Edited, Failure> {
    let hoist = match target.hoist {
        HoistInstructions::Auto => !caller.is_codex(),
        HoistInstructions::Always => true,
        HoistInstructions::Never => false,
    };
    let compact = resource == Resource::Compact;
    let rules = Rules { kind: target.kind, compact, hoist, drop_reasoning: request.drop_encrypted_reasoning };
    let (model, body) = (request.upstream_model.clone(), request.body.clone());
    let edit = move || body::edit(rules, &model, &body);
    if request.body.len() < LARGE_BODY_BYTES {
        return edit();
    }
    let failed = |e: tokio::task::JoinError| {
        Failure::new(Reason::Internal, service::TRANSPORT, format!("the request body could not be rewritten: {e}"))
    };
    tokio::task::spawn_blocking(edit).await.map_err(failed)?
}

/// What a request to the upstream is made of.
pub(crate) struct Asked<'a> {
    pub(crate) received: Instant,
    pub(crate) call_id: &'a str,
    pub(crate) credential_id: &'a str,
    pub(crate) target: &'a Target,
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) method: Method,
    pub(crate) secret: UpstreamSecret,
}

impl Inner {
    /// The request without its body, and the account of it.
    pub(crate) fn begin(&self, asked: Asked<'_>, mut headers: HeaderMap) -> (Request, Progress) {
        let progress = Progress::begin(About {
            received: asked.received,
            call_id: asked.call_id,
            credential_id: asked.credential_id,
            egress: &self.egress,
            target: asked.target,
            endpoint: asked.endpoint,
            method: if asked.method == Method::POST { "POST" } else { "GET" },
            token: asked.secret.token,
        });
        if asked.target.kind == TargetKind::Custom {
            // A server of the user's own may be part of the same trace; the provider is not.
            telemetry::inject(progress.span(), &mut headers);
        }
        if let Some(cookies) = self.cookies.header(asked.credential_id, &asked.endpoint.base) {
            headers.insert(header::COOKIE, cookies);
        }
        let mut request = Request::new(asked.method, asked.endpoint.url.clone());
        *request.headers_mut() = headers;
        (request, progress)
    }
}

/// Makes the call. One pulled stream: whoever drops it drops the upstream request.
pub(crate) fn answer(call: Call) -> impl Stream<Item = Message> + Send {
    let Call { inner, target, resource, credential_id, request, mut lease, dropped, mut progress } = call;
    stream! {
        let endpoint = target.of(resource);
        let url = endpoint.shown.clone();
        let compact = resource == Resource::Compact;
        let patience = if compact { inner.idle_timeout * COMPACT_PATIENCE } else { inner.headers_timeout };
        lease.begin();
        let mut response = match Box::pin(send::send(&lease, request, &url, patience)).await {
            Ok(response) => response,
            Err((failure, sent)) => {
                progress.sent = sent;
                yield Message::Outcome(progress.finish(Some(failure)));
                return;
            }
        };
        lease.answered(response.version());
        progress.headers_arrived(&response, inner.clock.now_s());
        inner.cookies.keep(&credential_id, &endpoint.base, response.headers());
        if !is_expected(&response, if compact { "application/json" } else { "text/event-stream" }) {
            let refused = Box::pin(refusal(&mut response, &target, endpoint, &inner.clock)).await;
            lease.end();
            progress.reasoning_refused = refused.reasoning;
            yield Message::Outcome(progress.finish(Some(refused.failure)));
            return;
        }
        yield Message::Head(Head {
            status: i32::from(response.status().as_u16()),
            headers: progress.relayed_headers(),
            dropped,
            quota: progress.tell_quota(),
        });
        let mut body = if compact {
            Body::Document(Document::new(response, url, inner.idle_timeout))
        } else {
            Body::Events(Relay::new(response, url, inner.idle_timeout, inner.clock.clone()))
        };
        loop {
            match body.next(&mut progress).await {
                Step::Chunk(chunk) => yield Message::Chunk(chunk),
                Step::End(failure) => {
                    lease.end();
                    yield Message::Outcome(progress.finish(failure));
                    return;
                }
            }
        }
    }
}

/// The body of an answer.
#[expect(clippy::large_enum_variant, reason = "nearly every body is a stream of events")]
enum Body {
    Events(Relay),
    Document(Document),
}

impl Body {
    async fn next(&mut self, progress: &mut Progress) -> Step {
        match self {
            Self::Events(relay) => relay.next(progress).await,
            Self::Document(document) => document.next(progress).await,
        }
    }
}

/// Reads a refusal and says what it means.
pub(crate) async fn refusal(response: &mut Response, target: &Target, endpoint: &Endpoint, clock: &Clock) -> Refused {
    let (body, _) = send::read_some(response, MAX_REFUSAL_BYTES, REFUSAL_TIME).await;
    classify::refused(&Answer {
        target,
        endpoint,
        status: response.status().as_u16(),
        headers: response.headers(),
        body: &body,
        now_s: clock.now_s(),
    })
}

/// A 2xx whose body is what was asked for. A server that does not say what it sends is believed to send that.
fn is_expected(response: &Response, asked_for: &str) -> bool {
    let kind = headers::text(response.headers(), header::CONTENT_TYPE.as_str());
    let right = kind.is_none_or(|kind| kind.to_ascii_lowercase().starts_with(asked_for));
    response.status().is_success() && right
}

/// A message of the answer.
pub(crate) fn response(message: Message) -> RespondResponse {
    RespondResponse { message: Some(message) }
}
