//! Holding back the first events while another attempt is possible, and reading from chunks what that needs.

use std::time::Duration;

use bytes::Bytes;
use domain::Usage;
use domain::sse::{Splitter, is_lifecycle};
use serde::Deserialize;
use tokio::time::Instant;

/// Most bytes held back.
const MAX_BYTES: usize = 16 * 1024;
/// Longest time anything is held back.
const MAX_TIME: Duration = Duration::from_secs(1);

/// The event that ends a response.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Terminal {
    /// True unless it says that the response failed.
    pub(crate) success: bool,
    /// Id of the response.
    pub(crate) response_id: Option<String>,
    /// Tokens.
    pub(crate) usage: Option<Usage>,
}

/// What is of interest in one chunk.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Look {
    /// The terminal event in it.
    pub(crate) terminal: Option<Terminal>,
    /// True if it holds lifecycle events and a failure, and nothing of an answer.
    pub(crate) only_failure: bool,
}

/// Looks into a chunk. Costs a scan for most chunks: only one that may hold a terminal event is parsed.
pub(crate) fn look(chunk: &Bytes) -> Look {
    const ENDS: [&str; 5] =
        ["response.completed", "response.failed", "response.incomplete", "response.done", "\"error\""];
    let text = String::from_utf8_lossy(chunk);
    if !ENDS.iter().any(|end| text.contains(end)) {
        return Look::default();
    }
    let mut splitter = Splitter::new(usize::MAX);
    let Some(piece) = splitter.push(chunk.clone()) else { return Look::default() };
    let mut look = Look::default();
    let (mut failures, mut others) = (0, 0);
    for event in &piece.events {
        let kind = event.kind();
        match kind.as_str() {
            "response.completed" | "response.done" | "response.incomplete" => {
                look.terminal = Some(terminal(&event.data, true));
                others += 1;
            }
            "response.failed" => {
                look.terminal = Some(terminal(&event.data, false));
                failures += 1;
            }
            "error" => failures += 1,
            kind if is_lifecycle(kind) => {}
            _ => others += 1,
        }
    }
    look.only_failure = failures > 0 && others == 0;
    look
}

/// Id of the response that begins in a chunk: a failure that transport-svc cannot tell any more is told under it.
pub(crate) fn begun(chunk: &Bytes) -> Option<String> {
    if !String::from_utf8_lossy(chunk).contains("response.created") {
        return None;
    }
    let piece = Splitter::new(usize::MAX).push(chunk.clone())?;
    let created = piece.events.iter().find(|event| event.kind() == "response.created")?;
    serde_json::from_slice::<Wire>(&created.data).ok()?.response?.id
}

#[derive(Deserialize)]
struct Wire {
    response: Option<WireResponse>,
}

#[derive(Deserialize)]
struct WireResponse {
    id: Option<String>,
    usage: Option<WireUsage>,
}

#[derive(Deserialize)]
struct WireUsage {
    #[serde(default)]
    input_tokens: u32,
    #[serde(default)]
    output_tokens: u32,
    input_tokens_details: Option<InputDetails>,
    output_tokens_details: Option<OutputDetails>,
}

#[derive(Deserialize)]
struct InputDetails {
    #[serde(default)]
    cached_tokens: u32,
}

#[derive(Deserialize)]
struct OutputDetails {
    #[serde(default)]
    reasoning_tokens: u32,
}

fn terminal(data: &Bytes, success: bool) -> Terminal {
    let response = serde_json::from_slice::<Wire>(data).ok().and_then(|wire| wire.response);
    let (response_id, usage) = response.map_or((None, None), |r| (r.id, r.usage));
    let usage = usage.map(|u| Usage {
        input_tokens: u.input_tokens,
        cached_input_tokens: u.input_tokens_details.map_or(0, |d| d.cached_tokens),
        output_tokens: u.output_tokens,
        reasoning_tokens: u.output_tokens_details.map_or(0, |d| d.reasoning_tokens),
    });
    Terminal { success, response_id, usage }
}

/// True for a chunk without an event: comment lines, which keep a connection alive, and blank ones.
pub(crate) fn is_silent(chunk: &[u8]) -> bool {
    chunk.split(|byte| matches!(byte, b'\n' | b'\r')).all(|line| line.is_empty() || line.starts_with(b":"))
}

/// Chunks held back.
#[derive(Debug, Default)]
pub(crate) struct Hold {
    chunks: Vec<Bytes>,
    bytes: usize,
    since: Option<Instant>,
}

impl Hold {
    /// Takes a chunk. False if from now on everything has to go to the caller. `content` is transport-svc's word that
    /// the chunk holds more than lifecycle events; a failure that comes with them is held all the same, for it is what
    /// the holding is for.
    pub(crate) fn take(&mut self, chunk: Bytes, content: bool, look: &Look) -> bool {
        self.bytes += chunk.len();
        self.chunks.push(chunk);
        self.since.get_or_insert_with(Instant::now);
        (!content || look.only_failure) && self.bytes <= MAX_BYTES
    }

    /// Takes a chunk without an event. It waits for the first event, however long that takes. False if it is too much.
    pub(crate) fn take_silent(&mut self, chunk: Bytes) -> bool {
        self.bytes += chunk.len();
        self.chunks.push(chunk);
        self.bytes <= MAX_BYTES
    }

    /// When holding must end.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.since.map(|since| since + MAX_TIME)
    }

    /// What was held, in order.
    pub(crate) fn release(self) -> Vec<Bytes> {
        self.chunks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREATED: &str =
        "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r\"}}\n\n";
    const FAILED: &str =
        "data: {\"type\":\"response.failed\",\"response\":{\"id\":\"r\",\"error\":{\"code\":\"x\"}}}\n\n";
    const DELTA: &str = "data: {\"type\":\"response.output_text.delta\",\"delta\":\"response.completed\"}\n\n";
    const COMPLETED: &str = "data: {\"type\":\"response.completed\",\"response\":{\"id\":\"r1\",\"usage\":\
        {\"input_tokens\":11,\"input_tokens_details\":{\"cached_tokens\":3},\"output_tokens\":7}}}\n\n";

    fn see(parts: &[&str]) -> Look {
        look(&Bytes::from(parts.concat()))
    }

    #[test]
    fn a_chunk_is_read_for_its_end() {
        assert_eq!(see(&[CREATED]), Look::default());
        assert_eq!(see(&[DELTA]), Look::default());
        let failed = see(&[CREATED, FAILED]);
        assert!(failed.only_failure && failed.terminal.is_some_and(|t| !t.success));
        let late = see(&[DELTA, FAILED]);
        assert!(!late.only_failure && late.terminal.is_some());
        let done = see(&[DELTA, COMPLETED]).terminal.unwrap();
        assert!(done.success);
        assert_eq!(done.response_id.as_deref(), Some("r1"));
        assert_eq!(done.usage.map(|u| (u.input_tokens, u.cached_input_tokens, u.output_tokens)), Some((11, 3, 7)));
        let begun = |parts: &[&str]| begun(&Bytes::from(parts.concat()));
        assert_eq!((begun(&[CREATED, DELTA]).as_deref(), begun(&[DELTA])), (Some("r"), None));
        assert!(see(&["event: error\ndata: {\"type\":\"error\",\"code\":\"x\"}\n\n"]).only_failure);
    }

    #[test]
    fn lifecycle_is_held_until_it_is_too_much_or_content_comes() {
        let mut hold = Hold::default();
        let take = |hold: &mut Hold, text: &str, content| {
            let chunk = Bytes::from(text.to_owned());
            let look = look(&chunk);
            hold.take(chunk, content, &look)
        };
        assert!(hold.until().is_none());
        assert!(take(&mut hold, CREATED, false) && hold.until().is_some());
        assert!(take(&mut hold, FAILED, true), "an early failure is held whatever it is called");
        assert!(!take(&mut hold, DELTA, true));
        assert_eq!(hold.release().concat(), [CREATED, FAILED, DELTA].concat().as_bytes());
        let mut hold = Hold::default();
        assert!(!take(&mut hold, &": x\n\n".repeat(MAX_BYTES / 5 + 1), false));
    }

    #[test]
    fn comments_wait_for_an_event_without_a_limit_of_time() {
        assert!(is_silent(b": keep-alive\n\n") && is_silent(b"\r\n:\r\n\r\n") && is_silent(b""));
        assert!(!is_silent(CREATED.as_bytes()) && !is_silent(b": x\n\ndata: y\n\n") && !is_silent(b"event: x\n\n"));
        let mut hold = Hold::default();
        assert!(hold.take_silent(Bytes::from_static(b": x\n\n")) && hold.until().is_none());
        assert!(!hold.take_silent(Bytes::from(vec![b':'; MAX_BYTES])));
    }
}
