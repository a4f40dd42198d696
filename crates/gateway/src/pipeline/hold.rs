//! Holding back the first events while another attempt is possible.

use std::time::Duration;

use domain::Usage;
use proto::transport::v1::{Chunk, TerminalKind};
use service_kit::usage_from_proto;
use tokio::time::Instant;

/// Most bytes held back.
const MAX_BYTES: usize = 16 * 1024;
/// Longest time anything is held back.
const MAX_TIME: Duration = Duration::from_secs(1);

/// The event that ends a response.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Terminal {
    /// Which.
    pub(crate) kind: TerminalKind,
    /// Tokens.
    pub(crate) usage: Option<Usage>,
    /// Why the answer stops short.
    pub(crate) incomplete_reason: Option<String>,
}

impl Terminal {
    /// What transport-svc says of a chunk.
    pub(crate) fn of(chunk: &Chunk) -> Option<Self> {
        let terminal = chunk.terminal.as_ref()?;
        Some(Self {
            kind: terminal.kind(),
            usage: terminal.usage.as_ref().map(usage_from_proto),
            incomplete_reason: terminal.incomplete_reason.clone(),
        })
    }

    /// True unless it says that the response failed.
    pub(crate) fn success(&self) -> bool {
        self.kind != TerminalKind::Failed
    }
}

/// True for a chunk without an event: comment lines, which keep a connection alive, and blank ones.
pub(crate) fn is_silent(chunk: &[u8]) -> bool {
    chunk.split(|byte| matches!(byte, b'\n' | b'\r')).all(|line| line.is_empty() || line.starts_with(b":"))
}

/// Chunks held back.
#[derive(Debug, Default)]
pub(crate) struct Hold {
    chunks: Vec<Chunk>,
    bytes: usize,
    since: Option<Instant>,
}

impl Hold {
    /// Takes a chunk. False if from now on everything has to go to the caller. A failure that comes before any content is
    /// held, too: it is what the holding is for.
    pub(crate) fn take(&mut self, chunk: Chunk) -> bool {
        let nothing_yet = !chunk.content || chunk.only_failure;
        self.bytes += chunk.data.len();
        self.chunks.push(chunk);
        self.since.get_or_insert_with(Instant::now);
        nothing_yet && self.bytes <= MAX_BYTES
    }

    /// Takes a chunk without an event. It waits for the first event, however long that takes; what is too much is let go of:
    /// it says nothing, and while nothing is said another attempt is possible.
    pub(crate) fn take_silent(&mut self, chunk: Chunk) {
        if self.bytes + chunk.data.len() <= MAX_BYTES {
            self.bytes += chunk.data.len();
            self.chunks.push(chunk);
        }
    }

    /// When holding must end.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.since.map(|since| since + MAX_TIME)
    }

    /// What was held, in order.
    pub(crate) fn release(self) -> Vec<Chunk> {
        self.chunks
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const CREATED: &str =
        "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r\"}}\n\n";

    fn chunk(text: &str) -> Chunk {
        Chunk { data: Bytes::from(text.to_owned()), ..Chunk::default() }
    }

    #[test]
    fn lifecycle_is_held_until_it_is_too_much_or_content_comes() {
        let mut hold = Hold::default();
        assert!(hold.until().is_none());
        assert!(hold.take(chunk(CREATED)) && hold.until().is_some());
        let failure = Chunk { content: true, only_failure: true, ..chunk("failed") };
        assert!(hold.take(failure), "an early failure is held whatever it is called");
        assert!(!hold.take(Chunk { content: true, ..chunk("delta") }));
        let held: Vec<Bytes> = hold.release().into_iter().map(|chunk| chunk.data).collect();
        assert_eq!(held.concat(), [CREATED, "failed", "delta"].concat().as_bytes());
        let mut hold = Hold::default();
        assert!(!hold.take(chunk(&": x\n\n".repeat(MAX_BYTES / 5 + 1))));
    }

    #[test]
    fn comments_wait_for_an_event_without_a_limit_of_time() {
        assert!(is_silent(b": keep-alive\n\n") && is_silent(b"\r\n:\r\n\r\n") && is_silent(b""));
        assert!(!is_silent(CREATED.as_bytes()) && !is_silent(b": x\n\ndata: y\n\n") && !is_silent(b"event: x\n\n"));
        let mut hold = Hold::default();
        hold.take_silent(chunk(": x\n\n"));
        // Too much is let go of, and nothing else.
        hold.take_silent(chunk(&":".repeat(MAX_BYTES)));
        hold.take_silent(chunk(": y\n\n"));
        assert!(hold.until().is_none());
        let held: Vec<Bytes> = hold.release().into_iter().map(|chunk| chunk.data).collect();
        assert_eq!(held.concat(), b": x\n\n: y\n\n");
    }
}
