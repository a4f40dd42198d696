//! Handing a request to a connection, and waiting for the response headers.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use domain::Failure;
use http::{HeaderMap, StatusCode, Version};
use http_body::{Frame, SizeHint};
use proto::transport::v1::Sent;
use reqwest::Request;
use tokio::time::Instant;

use crate::egress::{self, Cut};
use crate::plain;
use crate::pool::{Client, Lease};

/// Notes when a connection took the request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Handed(Arc<OnceLock<Instant>>);

impl Handed {
    /// When, if it did.
    pub(crate) fn at(&self) -> Option<Instant> {
        self.0.get().copied()
    }
}

/// A request body that notes when it is first asked for, which is when the connection writes the request.
pub(crate) struct NotedBody {
    data: Option<Bytes>,
    handed: Handed,
}

impl NotedBody {
    pub(crate) fn request(data: Bytes, handed: Handed) -> reqwest::Body {
        reqwest::Body::wrap(Self { data: Some(data), handed })
    }
}

impl http_body::Body for NotedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.handed.0.get_or_init(Instant::now);
        Poll::Ready(self.data.take().map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.data.as_ref().map_or(0, |data| data.len() as u64))
    }
}

/// An answer: its head, and its body as it comes.
#[derive(Debug)]
pub(crate) struct Response {
    status: StatusCode,
    headers: Arc<HeaderMap>,
    version: Version,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Pooled(Box<reqwest::Response>),
    Plain(Box<plain::Reading>),
}

impl Response {
    fn pooled(mut response: reqwest::Response) -> Self {
        let headers = Arc::new(std::mem::take(response.headers_mut()));
        let (status, version) = (response.status(), response.version());
        Self { status, headers, version, body: Body::Pooled(Box::new(response)) }
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn headers(&self) -> &Arc<HeaderMap> {
        &self.headers
    }

    pub(crate) fn version(&self) -> Version {
        self.version
    }

    /// The next bytes of the body; `None` at its end. May be dropped before it is ready, and nothing is lost.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Cut> {
        match &mut self.body {
            Body::Pooled(response) => response.chunk().await.map_err(Cut::Pooled),
            Body::Plain(reading) => reading.chunk().await.map_err(Cut::Plain),
        }
    }
}

/// Sends a request and waits for the response headers, `limit` at most.
pub(crate) async fn send(
    lease: &Lease,
    request: Request,
    url: &str,
    limit: Duration,
) -> Result<Response, (Failure, Sent)> {
    let answered = async {
        match &lease.client {
            Client::Pooled(client) => {
                let response = client
                    .execute(request)
                    .await
                    .map_err(|error| egress::no_headers(&error, url, lease.proxy.as_deref()))?;
                Ok(Response::pooled(response))
            }
            Client::Plain(plain) => {
                let (head, body) = plain.send(request).await.map_err(|error| egress::unanswered(&error, url))?;
                let (status, headers, version) = (head.status, Arc::new(head.headers), head.version);
                Ok(Response { status, headers, version, body: Body::Plain(Box::new(body)) })
            }
        }
    };
    match tokio::time::timeout(limit, answered).await {
        Ok(answered) => answered,
        // Even if nothing was written yet, that cannot be known for sure here.
        Err(_) => Err((egress::late_headers(url, limit), Sent::Sent)),
    }
}

/// Reads a body up to `most` bytes and for `limit` at most; what came by then is kept.
pub(crate) async fn read_some(response: &mut Response, most: usize, limit: Duration) -> (Bytes, bool) {
    let until = Instant::now() + limit;
    let mut body = Vec::new();
    let mut whole = false;
    while body.len() < most {
        match tokio::time::timeout_at(until, response.chunk()).await {
            Ok(Ok(Some(chunk))) => body.extend_from_slice(&chunk),
            Ok(Ok(None)) => {
                whole = true;
                break;
            }
            Ok(Err(_)) | Err(_) => break,
        }
    }
    body.truncate(most);
    (body.into(), whole)
}
