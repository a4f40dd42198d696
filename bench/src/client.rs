//! A client of HTTP/1.1 that does no more than a measurement needs: it writes bytes that were made before, and takes the
//! chunks of the answer out of their frames. What it spends is missing to those that are measured on the same machine.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Failed;

/// More than the whole of a short stream.
const BUFFER_BYTES: usize = 64 * 1024;
/// Most bytes of headers.
const MAX_HEAD_BYTES: usize = 32 * 1024;

/// A kept connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Result<Self, Failed> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// Sends a request and reads its answer to the end. `seen` gets each part of the body as it arrives.
    ///
    /// # Errors
    ///
    /// An answer that is no good stream, with its beginning; a connection that ends.
    pub(crate) async fn call(&mut self, request: &[u8], mut seen: impl FnMut(&[u8])) -> Result<(), Failed> {
        let mut chunks = self.begin(request, &mut seen).await?;
        while !chunks.is_over() {
            self.more(&mut chunks, &mut seen).await?;
        }
        Ok(())
    }

    /// Sends a request and reads up to the first part of its body.
    pub(crate) async fn begin(&mut self, request: &[u8], seen: &mut impl FnMut(&[u8])) -> Result<Chunks, Failed> {
        self.stream.write_all(request).await?;
        // Taken while it is needed only: thousands of connections wait, and few read.
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(BUFFER_BYTES, 0);
        let mut filled = 0;
        let end = loop {
            let read = self.stream.read(buffer.get_mut(filled..).unwrap_or_default()).await?;
            if read == 0 {
                return Err("the connection ended before an answer".into());
            }
            filled += read;
            let have = buffer.get(..filled).unwrap_or_default();
            match have.windows(4).position(|four| four == b"\r\n\r\n") {
                Some(at) => break at + 4,
                None if filled >= MAX_HEAD_BYTES => return Err("the answer's headers do not end".into()),
                None => {}
            }
        };
        let (head, rest) = buffer.get(..filled).unwrap_or_default().split_at(end);
        check(head, rest)?;
        let mut chunks = Chunks::default();
        chunks.feed(rest, seen)?;
        self.buffer = buffer;
        while !chunks.any && !chunks.is_over() {
            self.more(&mut chunks, seen).await?;
        }
        Ok(chunks)
    }

    /// Reads once.
    pub(crate) async fn more(&mut self, chunks: &mut Chunks, seen: &mut impl FnMut(&[u8])) -> Result<(), Failed> {
        self.buffer.resize(BUFFER_BYTES, 0);
        let read = self.stream.read(&mut self.buffer).await?;
        if read == 0 {
            return Err("the connection ended in the middle of a stream".into());
        }
        chunks.feed(self.buffer.get(..read).unwrap_or_default(), seen)
    }

    /// Gives the buffer's memory back, and waits until something can be read.
    pub(crate) async fn rest(&mut self) -> Result<(), Failed> {
        self.buffer = Vec::new();
        Ok(self.stream.readable().await?)
    }
}

/// Refuses what is no stream of chunks.
fn check(head: &[u8], rest: &[u8]) -> Result<(), Failed> {
    let text = String::from_utf8_lossy(head).to_ascii_lowercase();
    if text.starts_with("http/1.1 200") && text.contains("transfer-encoding: chunked") {
        return Ok(());
    }
    Err(format!("no stream: {}{}", String::from_utf8_lossy(head), String::from_utf8_lossy(rest)).into())
}

/// A body in chunks, as far as it was read.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    state: State,
    /// Something of the body has come.
    any: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// In the line of a chunk's size, which is so much up to here.
    #[default]
    Start,
    Size(usize),
    /// Behind the size, up to the line's end.
    Extension(usize),
    /// So much is left.
    Data(usize),
    /// At the line end behind the data.
    Behind,
    /// After the last chunk; how much of the empty line has come.
    Last(usize),
    Over,
}

impl Chunks {
    pub(crate) fn is_over(&self) -> bool {
        self.state == State::Over
    }

    fn feed(&mut self, mut bytes: &[u8], seen: &mut impl FnMut(&[u8])) -> Result<(), Failed> {
        while let Some((first, rest)) = bytes.split_first() {
            if let State::Data(left) = self.state {
                let (data, behind) = bytes.split_at(left.min(bytes.len()));
                seen(data);
                self.any = true;
                self.state = if data.len() == left { State::Behind } else { State::Data(left - data.len()) };
                bytes = behind;
                continue;
            }
            bytes = rest;
            self.state = self.state.after(*first)?;
        }
        Ok(())
    }
}

impl State {
    /// The state after a byte that is no data.
    fn after(self, byte: u8) -> Result<Self, Failed> {
        Ok(match (self, byte) {
            (Self::Start, b'\r' | b'\n') => Self::Start,
            (Self::Start, digit) => Self::Size(hex(digit)?),
            (Self::Size(size) | Self::Extension(size), b'\n') if size > 0 => Self::Data(size),
            (Self::Size(_) | Self::Extension(_), b'\n') => Self::Last(0),
            (Self::Size(size), b'\r' | b';') | (Self::Extension(size), _) => Self::Extension(size),
            (Self::Size(size), digit) => Self::Size(size * 16 + hex(digit)?),
            (Self::Behind, b'\n') => Self::Start,
            (Self::Behind, _) => Self::Behind,
            (Self::Last(1), b'\n') => Self::Over,
            (Self::Last(_), b'\r') => Self::Last(1),
            (Self::Last(_), _) => Self::Last(2),
            (Self::Data(_) | Self::Over, _) => return Err("something comes behind the end of a stream".into()),
        })
    }
}

fn hex(digit: u8) -> Result<usize, Failed> {
    let value = char::from(digit).to_digit(16).ok_or_else(|| format!("{digit:?} is no size of a chunk"))?;
    Ok(usize::try_from(value)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_read_however_they_are_cut() {
        let body = b"5\r\nhello\r\n1;x=y\r\n \r\nB\r\nwide\r\nworld\r\n0\r\n\r\n";
        for step in 1..=body.len() {
            let mut chunks = Chunks::default();
            let mut data = Vec::new();
            for part in body.chunks(step) {
                assert!(!chunks.is_over());
                chunks.feed(part, &mut |part: &[u8]| data.extend_from_slice(part)).expect("good");
            }
            assert!(chunks.is_over() && data == b"hello wide\r\nworld", "{step}");
        }
        assert!(Chunks::default().feed(b"zz\r\n", &mut |_: &[u8]| ()).is_err());
    }

    #[test]
    fn only_a_stream_of_chunks_is_a_good_answer() {
        assert!(check(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"").is_ok());
        let refused = check(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n", b"no").expect_err("refused");
        assert!(refused.to_string().contains("400 Bad Request") && refused.to_string().ends_with("no"), "{refused}");
    }
}
