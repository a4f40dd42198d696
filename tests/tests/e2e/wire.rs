//! The agents' port as those reach it who keep to no rule: raw bytes, and frames of HTTP/2 made by hand.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long a connection may live on that is to be ended. Generous: the machine is rarely idle.
const ENDED_WITHIN: Duration = Duration::from_secs(60);

/// Types of frames (RFC 9113, section 6).
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;
/// Flags.
pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
/// An error code: nobody wants the stream any more.
pub(crate) const CANCEL: u32 = 8;
/// An error code: the peer sees what is going on, and has enough of it.
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

/// A frame of HTTP/2.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// A frame as it stands on the wire.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame's length").to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A field for a header block: a literal without indexing (RFC 7541, section 6.2.2).
pub(crate) fn field(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        match text.len() {
            short @ 0..127 => bytes.push(u8::try_from(short).expect("short")),
            long => {
                bytes.push(127);
                let mut rest = long - 127;
                while rest >= 128 {
                    bytes.push(u8::try_from(rest % 128).expect("seven bits") | 128);
                    rest /= 128;
                }
                bytes.push(u8::try_from(rest).expect("seven bits"));
            }
        }
        bytes.extend(text.as_bytes());
    }
    bytes
}

/// The header block of a call.
pub(crate) fn call_headers(key: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let bearer = format!("Bearer {key}");
    let usual = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/v1/responses"),
        (":authority", "x"),
        ("content-type", "application/json"),
        ("authorization", bearer.as_str()),
    ];
    usual.iter().chain(more).flat_map(|(name, value)| field(name, value)).collect()
}

/// A connection of HTTP/2, with these settings.
pub(crate) async fn http2(address: &str, settings: &[(u16, u32)]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    let payload: Vec<u8> =
        settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("sent");
    stream.write_all(&frame(SETTINGS, 0, 0, &payload)).await.expect("sent");
    stream
}

/// Writes, as long as the other side takes it; false once it does not.
pub(crate) async fn write(stream: &mut TcpStream, bytes: &[u8]) -> bool {
    matches!(tokio::time::timeout(Duration::from_secs(2), stream.write_all(bytes)).await, Ok(Ok(())))
}

/// All that comes until the other side ends the connection.
///
/// # Panics
///
/// If it does not.
pub(crate) async fn until_ended(mut stream: TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let read = async {
        // A reset is an end too.
        while stream.read_buf(&mut all).await.is_ok_and(|read| read > 0) {}
    };
    let ended = tokio::time::timeout(ENDED_WITHIN, read).await.is_ok();
    assert!(ended, "the connection was not ended after {} bytes: {}", all.len(), String::from_utf8_lossy(&all));
    all
}

/// The frames that these bytes are.
pub(crate) fn frames(bytes: &[u8]) -> Vec<Frame> {
    take_frames(&mut bytes.to_vec())
}

/// The whole frames at the beginning of these bytes, which are left without them.
pub(crate) fn take_frames(all: &mut Vec<u8>) -> Vec<Frame> {
    let (mut found, mut bytes) = (Vec::new(), all.as_slice());
    while let Some((head, rest)) = bytes.split_at_checked(9) {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let Some((payload, rest)) = rest.split_at_checked(length) else { break };
        found.push(Frame { kind: head[3], stream, payload: payload.to_vec() });
        bytes = rest;
    }
    let left = bytes.len();
    all.drain(..all.len() - left);
    found
}

/// The error code with which the other side has ended the connection.
pub(crate) fn goaway(bytes: &[u8]) -> Option<u32> {
    let last = frames(bytes).into_iter().rfind(|frame| frame.kind == GOAWAY)?;
    Some(u32::from_be_bytes(last.payload.get(4..8)?.try_into().ok()?))
}
