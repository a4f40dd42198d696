//! Request bodies that come compressed.
//!
//! What a decoder needs is in the hands of who sends: a zstd frame of a few bytes may ask for a window of 128 MiB. Here it
//! gets the 8 MiB that every decoder of HTTP contents has to grant (RFC 9659), and no more.

use std::io;
use std::pin::Pin;

use async_compression::tokio::bufread::{GzipDecoder, ZstdDecoder};
use async_compression::zstd::DParameter;
use axum::BoxError;
use bytes::Bytes;
use domain::{Failure, Reason, service};
use futures_util::{Stream, StreamExt, TryStreamExt};
use http::{HeaderMap, header};
use http_body::Frame;
use http_body_util::{BodyDataStream, Either, StreamBody};
use tokio::io::AsyncRead;
use tokio_util::io::{ReaderStream, StreamReader};

/// The largest window of a zstd frame, as a power of two.
const WINDOW_LOG: u32 = 23;
/// Bytes that are decoded at a time.
const PIECE_BYTES: usize = 32 * 1024;

/// How a body is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Identity,
    Gzip,
    Zstd,
}

impl Coding {
    /// As the headers say.
    ///
    /// # Errors
    ///
    /// UNSUPPORTED for any other one.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Failure> {
        let mut all = headers.get_all(header::CONTENT_ENCODING).iter();
        let Some(named) = all.next() else { return Ok(Self::Identity) };
        // Several lines are one after the other, as several names in a line are.
        let several = all.next().is_some();
        let known = [("identity", Self::Identity), ("gzip", Self::Gzip), ("zstd", Self::Zstd)];
        let is = |name: &str| named.as_bytes().trim_ascii().eq_ignore_ascii_case(name.as_bytes());
        let found = known.iter().find(|(name, _)| !several && is(name));
        found.map(|(_, coding)| *coding).ok_or_else(|| {
            let message = format!("the content-encoding {named:?} is not served; send zstd, gzip or none");
            Failure::new(Reason::Unsupported, service::GATEWAY, message).param("content-encoding")
        })
    }
}

type Pieces<'a> = Pin<Box<dyn Stream<Item = io::Result<Frame<Bytes>>> + Send + 'a>>;

/// The body as it was before it was encoded.
pub(super) fn decoded<'a, B>(coding: Coding, body: B) -> Either<B, StreamBody<Pieces<'a>>>
where
    B: http_body::Body<Data = Bytes, Error = axum::Error> + Send + Unpin + 'a,
{
    if coding == Coding::Identity {
        return Either::Left(body);
    }
    let raw = StreamReader::new(
        BodyDataStream::new(body).map_err(|error: axum::Error| io::Error::other(BoxError::from(error))),
    );
    let pieces = if coding == Coding::Gzip {
        let mut decoder = GzipDecoder::new(raw);
        decoder.multiple_members(true);
        pieces(decoder)
    } else {
        let mut decoder = ZstdDecoder::with_params(raw, &[DParameter::window_log_max(WINDOW_LOG)]);
        decoder.multiple_members(true);
        pieces(decoder)
    };
    Either::Right(StreamBody::new(pieces))
}

fn pieces<'a>(decoder: impl AsyncRead + Send + 'a) -> Pieces<'a> {
    Box::pin(ReaderStream::with_capacity(decoder, PIECE_BYTES).map(|piece| piece.map(Frame::data)))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use axum::body::Body;
    use http::HeaderValue;
    use http_body_util::BodyExt;

    use super::*;

    async fn read(coding: Coding, bytes: Vec<u8>) -> Result<Bytes, BoxError> {
        let mut body = Body::from(bytes);
        decoded(coding, &mut body).collect().await.map(http_body_util::Collected::to_bytes)
    }

    #[test]
    fn encodings_are_known_by_name() {
        let of = |text: &'static str| {
            let headers = HeaderMap::from_iter([(header::CONTENT_ENCODING, HeaderValue::from_static(text))]);
            Coding::of(&headers).map_err(|failure| failure.reason)
        };
        assert_eq!(
            (of("identity"), of("GZIP"), of("zstd ")),
            (Ok(Coding::Identity), Ok(Coding::Gzip), Ok(Coding::Zstd))
        );
        assert_eq!(Coding::of(&HeaderMap::new()).ok(), Some(Coding::Identity));
        for other in ["br", "", "gzip, zstd", "deflate"] {
            assert_eq!(of(other), Err(Reason::Unsupported), "{other}");
        }
    }

    #[tokio::test]
    async fn bodies_are_decoded_and_broken_ones_are_not() {
        let text = b"hello ".repeat(100_000);
        let zstd = zstd::encode_all(text.as_slice(), 3).unwrap();
        assert_eq!(read(Coding::Zstd, zstd.clone()).await.unwrap(), text);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&text).unwrap();
        let gzip = gzip.finish().unwrap();
        assert_eq!(read(Coding::Gzip, gzip.clone()).await.unwrap(), text);
        assert!(read(Coding::Zstd, gzip).await.is_err());
        let half = zstd.get(..zstd.len() / 2).unwrap();
        assert!(read(Coding::Zstd, half.to_vec()).await.is_err());
    }

    #[tokio::test]
    async fn a_frame_that_asks_for_a_large_window_is_not_decoded() {
        let frame = |window_log: u32| {
            let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
            encoder.window_log(window_log).unwrap();
            encoder.write_all(&vec![0; 1024]).unwrap();
            encoder.finish().unwrap()
        };
        assert_eq!(read(Coding::Zstd, frame(23)).await.unwrap().len(), 1024);
        assert!(read(Coding::Zstd, frame(27)).await.is_err());
    }
}
