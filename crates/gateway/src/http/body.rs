//! Reading a request body within its limit.

use std::error::Error;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use domain::{Failure, Reason, service};
use http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};

/// How long a body that is refused is read and thrown away.
const DRAIN_TIME: Duration = Duration::from_secs(2);
/// Most bytes of it, decoded.
const DRAIN_BYTES: usize = 128 * 1024 * 1024;

/// Reads the body, decoded already where it came as gzip or zstd. `limit` is for the decoded bytes, so that a small body
/// cannot become a large one.
///
/// # Errors
///
/// REQUEST_TOO_LARGE over the limit, UNSUPPORTED for another encoding, REQUEST_INVALID for a body that does not decode
/// or breaks off.
pub(super) async fn read(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, Failure> {
    // The decoding layer takes the header away when it understands it.
    if let Some(encoding) =
        headers.get(header::CONTENT_ENCODING).filter(|e| !e.as_bytes().eq_ignore_ascii_case(b"identity"))
    {
        let message = format!("the content-encoding {encoding:?} is not served; send zstd, gzip or none");
        return Err(Failure::new(Reason::Unsupported, service::GATEWAY, message).param("content-encoding"));
    }
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|bytes| bytes > limit) {
        drain(body).await;
        return Err(too_large(limit));
    }
    let mut body = body;
    match Limited::new(&mut body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if is_length_limit(error.as_ref()) => {
            drain(body).await;
            Err(too_large(limit))
        }
        Err(error) => {
            let message = format!("the body cannot be read or decoded: {}", root_cause(error.as_ref()));
            Err(Failure::new(Reason::RequestInvalid, service::GATEWAY, message))
        }
    }
}

/// Throws away what is left of a body that is refused. A connection that is closed over unread bytes is reset, and the
/// refusal is lost with it: a client that sends before it reads would take it for the network's fault and try again.
pub(super) async fn drain(mut body: Body) {
    let all = async {
        let mut left = DRAIN_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                Some(less) => left = less,
                None => return,
            }
        }
    };
    // A body that has not ended by then is cut off after all.
    let _ = tokio::time::timeout(DRAIN_TIME, all).await;
}

fn too_large(limit: usize) -> Failure {
    let message = format!("the body is over the limit of {limit} bytes, after decompression");
    Failure::new(Reason::RequestTooLarge, service::GATEWAY, message)
}

fn is_length_limit(error: &(dyn Error + 'static)) -> bool {
    error.is::<LengthLimitError>() || error.source().is_some_and(is_length_limit)
}

fn root_cause(error: &(dyn Error + 'static)) -> String {
    error.source().map_or_else(|| error.to_string(), root_cause)
}
