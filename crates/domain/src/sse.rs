//! Server-sent events beside the bytes that carry them.
//!
//! The bytes are what the caller gets; the events are what we learn from them. [`Splitter`] takes chunks as they come,
//! gives the same bytes back cut only where an event ends, and says which events they hold. So a stream that breaks
//! off never leaves half an event with the caller, and nothing is serialised again.
//! An event that outgrows the buffer passes unparsed: memory stays bounded, the bytes stay whole.

use bytes::{Bytes, BytesMut};
use serde::Deserialize;

/// Bytes held back for an unfinished event before they pass unparsed.
pub const MAX_HELD_BYTES: usize = 1024 * 1024;

/// Most bytes of an event that is read whole. `response.completed` repeats the whole answer, the instructions and the
/// tools, so it can have megabytes; one that passed unread would make the end of a good answer look like a cut.
pub const MAX_WHOLE_EVENT_BYTES: usize = 64 * 1024 * 1024;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The `event:` field.
    pub name: Option<String>,
    /// The `data:` lines, joined by line feeds.
    pub data: Bytes,
}

#[derive(Deserialize)]
struct Typed<'a> {
    #[serde(borrow, rename = "type")]
    kind: std::borrow::Cow<'a, str>,
}

impl Event {
    /// The event's type: the `type` of its JSON, which is what Responses clients go by, else its `event:` field.
    pub fn kind(&self) -> String {
        serde_json::from_slice::<Typed<'_>>(&self.data)
            .map(|t| t.kind.into_owned())
            .ok()
            .or_else(|| self.name.clone())
            .unwrap_or_default()
    }
}

/// True for events that announce a response and carry nothing of its content.
pub fn is_lifecycle(kind: &str) -> bool {
    matches!(kind, "response.created" | "response.in_progress" | "response.queued" | "response.metadata")
}

/// Bytes, and the events that end in them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// Bytes exactly as they came.
    pub bytes: Bytes,
    /// The events that end in them, but for oversized ones.
    pub events: Vec<Event>,
    /// True if the bytes begin or end inside an oversized event.
    pub oversized: bool,
}

/// Cuts a byte stream where events end.
#[derive(Debug)]
pub struct Splitter {
    held: BytesMut,
    max_held: usize,
    /// Nothing but line terminators since the last one.
    line_empty: bool,
    /// The last byte was CR: an LF now belongs to the same line end.
    after_cr: bool,
    /// Something other than blank lines has come since the last event ended.
    in_event: bool,
    /// The head of the current event has passed unparsed.
    skipping: bool,
    at_start: bool,
}

impl Default for Splitter {
    fn default() -> Self {
        Self::new(MAX_HELD_BYTES)
    }
}

impl Splitter {
    /// A splitter that holds back at most `max_held` bytes.
    pub fn new(max_held: usize) -> Self {
        Self {
            held: BytesMut::new(),
            max_held,
            line_empty: true,
            after_cr: false,
            in_event: false,
            skipping: false,
            at_start: true,
        }
    }

    /// Takes a chunk. Gives everything up to the end of the last event in it, if one ends there.
    pub fn push(&mut self, mut chunk: Bytes) -> Option<Piece> {
        match self.last_boundary(&chunk) {
            Some(end) => {
                let head = chunk.split_to(end);
                let bytes = if self.held.is_empty() {
                    head
                } else {
                    self.held.extend_from_slice(&head);
                    self.held.split().freeze()
                };
                let was_skipping = std::mem::take(&mut self.skipping);
                let piece = self.parse(bytes, was_skipping);
                self.held.extend_from_slice(&chunk);
                Some(piece)
            }
            None => {
                self.held.extend_from_slice(&chunk);
                None
            }
        }
        .or_else(|| self.overflow())
    }

    /// Gives what is left when the stream ends: half an event, or nothing.
    pub fn finish(&mut self) -> Option<Piece> {
        if self.held.is_empty() {
            return None;
        }
        Some(Piece { bytes: self.held.split().freeze(), events: Vec::new(), oversized: self.skipping })
    }

    fn overflow(&mut self) -> Option<Piece> {
        if self.held.len() <= self.max_held {
            return None;
        }
        self.skipping = true;
        Some(Piece { bytes: self.held.split().freeze(), events: Vec::new(), oversized: true })
    }

    /// Position after the last blank line that ends an event. CR, LF and CRLF all end a line; a CR at the end of a
    /// chunk counts at once, and an LF that follows it is then a line end of nothing.
    fn last_boundary(&mut self, chunk: &[u8]) -> Option<usize> {
        let mut last = None;
        for (i, &byte) in chunk.iter().enumerate() {
            if byte == b'\n' && self.after_cr {
                self.after_cr = false;
                if last == Some(i) {
                    last = Some(i + 1);
                }
                continue;
            }
            self.after_cr = byte == b'\r';
            if byte == b'\n' || byte == b'\r' {
                if self.line_empty && self.in_event {
                    last = Some(i + 1);
                    self.in_event = false;
                }
                self.line_empty = true;
            } else {
                self.line_empty = false;
                self.in_event = true;
            }
        }
        last
    }

    fn parse(&mut self, bytes: Bytes, skip_first: bool) -> Piece {
        let mut rest = bytes.clone();
        if std::mem::take(&mut self.at_start) && rest.starts_with(b"\xEF\xBB\xBF") {
            rest = rest.slice(3..);
        }
        let mut events = Vec::new();
        let mut building = Building::default();
        let mut skip = skip_first;
        while let Some(line) = take_line(&mut rest) {
            if !line.is_empty() {
                building.line(&line);
                continue;
            }
            let event = std::mem::take(&mut building);
            if event.any && !std::mem::take(&mut skip) {
                events.extend(event.finish());
            }
        }
        Piece { bytes, events, oversized: skip_first }
    }
}

/// Cuts the next line off, without its terminator.
fn take_line(rest: &mut Bytes) -> Option<Bytes> {
    if rest.is_empty() {
        return None;
    }
    let end = rest.iter().position(|b| *b == b'\n' || *b == b'\r').unwrap_or(rest.len());
    let line = rest.split_to(end);
    if rest.starts_with(b"\r\n") {
        let _ = rest.split_to(2);
    } else if !rest.is_empty() {
        let _ = rest.split_to(1);
    }
    Some(line)
}

#[derive(Default)]
struct Building {
    any: bool,
    name: Option<String>,
    data: Option<Bytes>,
}

impl Building {
    fn line(&mut self, line: &Bytes) {
        self.any = true;
        let (field, value) = match line.iter().position(|b| *b == b':') {
            Some(0) => return, // a comment
            Some(colon) => {
                let from = if line.get(colon + 1) == Some(&b' ') { colon + 2 } else { colon + 1 };
                (line.slice(..colon), line.slice(from..))
            }
            None => (line.clone(), Bytes::new()),
        };
        match field.as_ref() {
            b"event" => self.name = Some(String::from_utf8_lossy(&value).into_owned()),
            b"data" => {
                self.data = Some(match self.data.take() {
                    None => value,
                    Some(before) => [before.as_ref(), b"\n", value.as_ref()].concat().into(),
                });
            }
            _ => {}
        }
    }

    /// The event, if it has data: one without is not dispatched.
    fn finish(self) -> Option<Event> {
        self.data.map(|data| Event { name: self.name, data })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(input: &[u8], cuts: &[usize], max_held: usize) -> (Vec<u8>, Vec<Event>, Vec<Bytes>) {
        let mut splitter = Splitter::new(max_held);
        let (mut bytes, mut events, mut pieces) = (Vec::new(), Vec::new(), Vec::new());
        let mut from = 0;
        let mut ends: Vec<usize> = cuts.iter().map(|c| c % (input.len() + 1)).collect();
        ends.push(input.len());
        ends.sort_unstable();
        for end in ends {
            if let Some(piece) = splitter.push(Bytes::copy_from_slice(&input[from..end])) {
                bytes.extend_from_slice(&piece.bytes);
                pieces.push(piece.bytes);
                events.extend(piece.events);
            }
            from = end;
        }
        if let Some(piece) = splitter.finish() {
            bytes.extend_from_slice(&piece.bytes);
        }
        (bytes, events, pieces)
    }

    const STREAM: &[u8] = "\u{feff}event: response.created\ndata: {\"type\":\"response.created\"}\n\n: a comment\n\n\
        data:{\"type\":\"x\",\r\ndata: \"t\":\"gr\u{fc}\u{df}e \u{1f600}\"}\r\n\r\nevent: lonely\n\ndata\r\rdata: end\n\n"
        .as_bytes();

    #[test]
    fn events_are_read_in_every_dress() {
        let (_, events, _) = run(STREAM, &[], MAX_HELD_BYTES);
        let seen: Vec<_> = events.iter().map(|e| String::from_utf8_lossy(&e.data).into_owned()).collect();
        assert_eq!(
            seen,
            ["{\"type\":\"response.created\"}", "{\"type\":\"x\",\n\"t\":\"gr\u{fc}\u{df}e \u{1f600}\"}", "", "end"]
        );
        assert_eq!(events[0].kind(), "response.created");
        assert_eq!(events[1].kind(), "x");
        assert!(is_lifecycle(&events[0].kind()) && !is_lifecycle("response.output_text.delta"));
    }

    #[test]
    fn an_oversized_event_passes_whole_and_unparsed() {
        let big = format!("data: {}\n\ndata: small\n\n", "x".repeat(5000));
        let cuts: Vec<usize> = (0..big.len()).step_by(97).collect();
        let (bytes, events, _) = run(big.as_bytes(), &cuts, 1000);
        assert_eq!(bytes, big.as_bytes());
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].data.as_ref(), b"small");
    }

    proptest! {
        #[test]
        fn cuts_change_neither_bytes_nor_events(cuts in proptest::collection::vec(0usize..400, 0..40)) {
            let (whole, all, _) = run(STREAM, &[], MAX_HELD_BYTES);
            let (bytes, events, _) = run(STREAM, &cuts, MAX_HELD_BYTES);
            prop_assert_eq!(&bytes[..], STREAM);
            prop_assert_eq!(whole, bytes);
            prop_assert_eq!(all, events);
        }

        #[test]
        fn any_bytes_pass_unchanged(input in proptest::collection::vec(any::<u8>(), 0..600),
                                    cuts in proptest::collection::vec(0usize..600, 0..30),
                                    max in 1usize..200) {
            let (bytes, _, _) = run(&input, &cuts, max);
            prop_assert_eq!(bytes, input);
        }
    }
}
