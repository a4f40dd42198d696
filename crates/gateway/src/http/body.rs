//! Reading a request body within its limit.

use std::error::Error;
use std::time::Duration;

use axum::BoxError;
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use domain::{Failure, Reason, service};
use http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::sync::Semaphore;

use crate::http::decode::{Coding, decoded};
use crate::room::{Counted, Held, Refused, Travelled};

/// How long the next piece of a body may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a body that is refused is read and thrown away.
const DRAIN_TIME: Duration = Duration::from_secs(2);
/// How many are read so at a time; more are cut off at once.
static DRAINS: Semaphore = Semaphore::const_new(256);
/// Most bytes of it.
const DRAIN_BYTES: usize = 128 * 1024 * 1024;

/// What a body may be.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// Its most bytes, decoded.
    pub(super) bytes: usize,
    /// How long it may take beyond what its size allows.
    pub(super) patience: Duration,
}

/// Reads the body, and decodes it where it comes as gzip or zstd. What is left of one that is refused stays (`rest` sees to
/// it). The limit is for the decoded bytes, so that a small body
/// cannot become a large one; what is read is entered in `held`.
///
/// # Errors
///
/// REQUEST_TOO_LARGE over the limit, UNSUPPORTED for another encoding, SHED where there is no room, REQUEST_INVALID for a
/// body that does not decode, breaks off or comes too slowly.
pub(super) async fn read(headers: &HeaderMap, mut body: Body, held: Held, limits: Limits) -> Result<Bytes, Failure> {
    let Limits { bytes: limit, patience } = limits;
    let coding = Coding::of(headers)?;
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|bytes| bytes > limit) {
        return Err(too_large(limit));
    }
    let (travelled, came) = Travelled::new(&mut body);
    let counted = Counted::decoded(decoded(coding, travelled), held, patience, came);
    Err(match collect(Limited::new(counted, limit)).await {
        Ok(Ok(bytes)) => return Ok(bytes),
        Ok(Err(error)) if is_length_limit(error.as_ref()) => too_large(limit),
        Ok(Err(error)) => refusal(error.as_ref()).cloned().unwrap_or_else(|| {
            let message = format!("the body cannot be read or decoded: {}", root_cause(error.as_ref()));
            Failure::new(Reason::RequestInvalid, service::GATEWAY, message)
        }),
        Err(Stalled) => {
            let message = format!("the body broke off: nothing more came within {} s", PATIENCE.as_secs());
            Failure::new(Reason::RequestInvalid, service::GATEWAY, message)
        }
    })
}

/// Nothing more came of a body, and its end neither.
struct Stalled;

/// All of a body. A caller that stops in the middle of it, or vanished, does not hold the connection for ever.
async fn collect<B>(mut body: Limited<B>) -> Result<Result<Bytes, BoxError>, Stalled>
where
    B: http_body::Body<Data = Bytes, Error = BoxError> + Unpin,
{
    let mut all = BytesMut::new();
    let mut first = Bytes::new();
    loop {
        let frame = match tokio::time::timeout(PATIENCE, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(error))) => return Ok(Err(error)),
            Ok(None) => break,
            Err(_) => return Err(Stalled),
        };
        let Ok(data) = frame.into_data() else { continue };
        if first.is_empty() && all.is_empty() {
            // Most bodies come in one piece, which needs no copy.
            first = data;
            continue;
        }
        all.extend_from_slice(&std::mem::take(&mut first));
        all.extend_from_slice(&data);
    }
    Ok(Ok(if all.is_empty() { first } else { all.freeze() }))
}

/// Throws away what is left of a body that is refused. A connection that is closed over unread bytes is reset, and the
/// refusal is lost with it: a client that sends before it reads would take it for the network's fault and try again.
pub(super) async fn drain(mut body: Body) {
    let Ok(_one) = DRAINS.try_acquire() else { return };
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

/// The failure of a body that is refused: there is no room for it, or it comes too slowly.
fn refusal<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Failure> {
    let refused = error.downcast_ref::<Refused>().map(|refused| &refused.0);
    refused.or_else(|| error.source().and_then(refusal))
}

fn root_cause(error: &(dyn Error + 'static)) -> String {
    error.source().map_or_else(|| error.to_string(), root_cause)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::{StreamExt, stream};

    use super::*;
    use crate::room::{Measures, Room};

    const MEASURES: Measures = Measures { calls: 1, bytes: 0, key_percent: 100, body_bytes: 0 };

    fn pieces(pieces: &[&'static str]) -> stream::Iter<std::vec::IntoIter<Result<Bytes, Infallible>>> {
        stream::iter(pieces.iter().map(|piece| Ok(Bytes::from_static(piece.as_bytes()))).collect::<Vec<_>>())
    }

    async fn read_whole(body: Body) -> Result<Bytes, Failure> {
        let limits = Limits { bytes: 10, patience: PATIENCE * 2 };
        read(&HeaderMap::new(), body, Room::new(MEASURES).held(), limits).await
    }

    #[tokio::test(start_paused = true)]
    async fn pieces_become_one_body_within_its_limit_and_a_stall_ends_it() {
        for parts in [&[][..], &["abc"], &["", "a", "", "bc", "def"]] {
            assert_eq!(read_whole(Body::from_stream(pieces(parts))).await, Ok(Bytes::from(parts.concat())));
        }
        let over = read_whole(Body::from_stream(pieces(&["0123456789", "0"]))).await;
        assert_eq!(over.map_err(|f| f.reason), Err(Reason::RequestTooLarge));
        let stalled = pieces(&["abc"]).chain(stream::pending());
        let failure = read_whole(Body::from_stream(stalled)).await.unwrap_err();
        assert_eq!(failure.reason, Reason::RequestInvalid);
        assert!(failure.message.contains("broke off"), "{failure}");
    }
}
