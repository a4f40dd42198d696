//! Handing a request to a connection, and waiting for the response headers.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use domain::Failure;
use http_body::{Body, Frame, SizeHint};
use proto::transport::v1::Sent;
use reqwest::{Client, Request, Response};
use tokio::time::Instant;

use crate::egress;

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

impl Body for NotedBody {
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

/// Sends a request and waits for the response headers, `limit` at most.
pub(crate) async fn send(
    client: &Client,
    request: Request,
    url: &str,
    limit: Duration,
) -> Result<Response, (Failure, Sent)> {
    match tokio::time::timeout(limit, client.execute(request)).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(error)) => Err(egress::no_headers(&error, url)),
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
