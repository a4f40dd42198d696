//! Server-sent events beside the bytes that carry them.
//!
//! The bytes are what the caller gets; the events are what we learn from them. [`Splitter`] takes chunks as they come,
//! gives the same bytes back cut only where an event ends, and says which events they hold. So a stream that breaks
//! off never leaves half an event with the caller, and nothing is serialised again.
//! An event that outgrows the buffer passes as it comes, and what matters of it is picked out of the passing bytes:
//! memory stays bounded, and the end of a stream is seen however large its event is. Of such an event, and of it alone,
//! a stream that breaks off may leave a half behind.

mod outsized;
mod skim;

use bytes::{Bytes, BytesMut};
use memchr::{memchr, memchr_iter, memchr2};
use serde::Deserialize;

use self::outsized::Outsized;

/// Bytes held back for an unfinished event before they pass. `response.completed` repeats the whole answer, the
/// instructions and the tools; few are larger. It is a quarter of what a stream may hold over all hops (1 MiB).
pub const MAX_HELD_BYTES: usize = 256 * 1024;

/// Most bytes of an event that is held whole, where an answer is put together from its events.
pub const MAX_WHOLE_EVENT_BYTES: usize = 64 * 1024 * 1024;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The `event:` field.
    pub name: Option<Bytes>,
    /// The `data:` lines, joined by line feeds.
    pub data: Bytes,
    /// The event was too large to be held: of `data` there is what ends a stream alone (its type, id, usage and error,
    /// as JSON of the same shape), or nothing if it is no JSON.
    pub digest: bool,
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
            .or_else(|| self.name.as_deref().map(|name| String::from_utf8_lossy(name).into_owned()))
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
    /// The events that end in them.
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
    /// The current event, where its head has passed already.
    outsized: Option<Box<Outsized>>,
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
            outsized: None,
            at_start: true,
        }
    }

    /// Takes a chunk. Gives everything up to the end of the last event in it, if one ends there, and all of it inside an
    /// event that is too large to be held.
    pub fn push(&mut self, mut chunk: Bytes) -> Option<Piece> {
        let Some(ends) = self.boundaries(&chunk) else { return self.more(chunk) };
        let head = chunk.split_to(ends.last);
        let piece = match self.outsized.take() {
            Some(mut outsized) => {
                let rest = head.slice(ends.first..);
                outsized.feed(head.get(..ends.first).unwrap_or_default());
                let events = outsized.finish().into_iter().chain(self.parse(rest)).collect();
                Piece { bytes: head, events, oversized: true }
            }
            None => {
                let bytes = if self.held.is_empty() {
                    head
                } else {
                    self.held.extend_from_slice(&head);
                    self.held.split().freeze()
                };
                Piece { events: self.parse(bytes.clone()), bytes, oversized: false }
            }
        };
        self.held.extend_from_slice(&chunk);
        Some(piece)
    }

    /// Gives what is left when the stream ends: half an event, or nothing.
    pub fn finish(&mut self) -> Option<Piece> {
        (!self.held.is_empty()).then(|| Piece { bytes: self.held.split().freeze(), ..Piece::default() })
    }

    /// Takes a chunk in which no event ends.
    fn more(&mut self, chunk: Bytes) -> Option<Piece> {
        if let Some(outsized) = &mut self.outsized {
            outsized.feed(&chunk);
            return (!chunk.is_empty()).then(|| Piece { bytes: chunk, events: Vec::new(), oversized: true });
        }
        self.held.extend_from_slice(&chunk);
        if self.held.len() <= self.max_held {
            return None;
        }
        let bytes = self.held.split().freeze();
        let oversized = self.in_event;
        if oversized {
            let mut outsized = Outsized::new();
            outsized.feed(&self.without_mark(bytes.clone()));
            self.outsized = Some(Box::new(outsized));
        }
        Some(Piece { bytes, events: Vec::new(), oversized })
    }

    /// Bytes without the byte order mark that a stream may begin with.
    fn without_mark(&mut self, bytes: Bytes) -> Bytes {
        let marked = std::mem::take(&mut self.at_start) && bytes.starts_with(b"\xEF\xBB\xBF");
        if marked { bytes.slice(3..) } else { bytes }
    }

    /// Positions after the blank lines that end events. CR, LF and CRLF all end a line; a CR at the end of a chunk counts
    /// at once, and an LF that follows it is then a line end of nothing.
    fn boundaries(&mut self, chunk: &[u8]) -> Option<Ends> {
        if !self.after_cr && memchr(b'\r', chunk).is_none() {
            return self.line_feeds(chunk);
        }
        let mut ends: Option<Ends> = None;
        for (i, &byte) in chunk.iter().enumerate() {
            if byte == b'\n' && self.after_cr {
                self.after_cr = false;
                if let Some(ends) = &mut ends {
                    ends.stretch(i);
                }
                continue;
            }
            self.after_cr = byte == b'\r';
            if byte == b'\n' || byte == b'\r' {
                if self.line_empty && self.in_event {
                    ends = Some(Ends { first: ends.map_or(i + 1, |ends| ends.first), last: i + 1 });
                    self.in_event = false;
                }
                self.line_empty = true;
            } else {
                self.line_empty = false;
                self.in_event = true;
            }
        }
        ends
    }

    /// As [`Self::boundaries`], where lines end with LF alone, as nearly all do.
    fn line_feeds(&mut self, chunk: &[u8]) -> Option<Ends> {
        let mut ends: Option<Ends> = None;
        let mut line = 0;
        for at in memchr_iter(b'\n', chunk) {
            let empty = at == line && self.line_empty;
            self.in_event |= at > line;
            if empty && self.in_event {
                ends = Some(Ends { first: ends.map_or(at + 1, |ends| ends.first), last: at + 1 });
                self.in_event = false;
            }
            self.line_empty = true;
            line = at + 1;
        }
        if line < chunk.len() {
            self.line_empty = false;
            self.in_event = true;
        }
        ends
    }

    /// The events of bytes that begin and end between events.
    fn parse(&mut self, bytes: Bytes) -> Vec<Event> {
        let mut rest = self.without_mark(bytes);
        let mut events = Vec::new();
        let mut building = Building::default();
        while let Some(line) = take_line(&mut rest) {
            if line.is_empty() {
                events.extend(std::mem::take(&mut building).finish());
            } else {
                building.line(&line);
            }
        }
        events
    }
}

/// Where the first and the last event that end in a chunk do.
#[derive(Clone, Copy)]
struct Ends {
    first: usize,
    last: usize,
}

impl Ends {
    /// The byte at `i` belongs to the line end before it.
    fn stretch(&mut self, i: usize) {
        for end in [&mut self.first, &mut self.last] {
            *end = if *end == i { i + 1 } else { *end };
        }
    }
}

/// Cuts the next line off, without its terminator.
fn take_line(rest: &mut Bytes) -> Option<Bytes> {
    if rest.is_empty() {
        return None;
    }
    let end = memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
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
    name: Option<Bytes>,
    data: Option<Bytes>,
}

impl Building {
    fn line(&mut self, line: &Bytes) {
        let (field, value) = match memchr(b':', line) {
            Some(0) => return, // a comment
            Some(colon) => {
                let from = if line.get(colon + 1) == Some(&b' ') { colon + 2 } else { colon + 1 };
                (line.get(..colon).unwrap_or_default(), line.slice(from..))
            }
            None => (line.as_ref(), Bytes::new()),
        };
        match field {
            b"event" => self.name = Some(value),
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
        self.data.map(|data| Event { name: self.name, data, digest: false })
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
    fn an_oversized_event_passes_as_it_comes_and_its_end_is_understood() {
        let text = "x".repeat(5000);
        let completed = format!(
            "event: response.completed\r\ndata: {{\"type\":\"response.completed\",\r\ndata: \
            \"response\":{{\"output\":[\"{text}\"],\"id\":\"r\"}}}}\r\n\r\n"
        );
        let big = format!("\u{feff}: {text}\n\n{completed}data: small\n\ndata: {text}\n\nevent: {text}\n\n");
        for step in [1, 97, 1001, 5050, 20_000] {
            let cuts: Vec<usize> = (0..big.len()).step_by(step).collect();
            let (bytes, events, pieces) = run(big.as_bytes(), &cuts, 1000);
            assert_eq!(bytes, big.as_bytes());
            let seen: Vec<_> = events.iter().map(|e| (e.kind(), e.data.len() < 100)).collect();
            let expected =
                [("response.completed", true), ("", true), ("", true)].map(|(kind, short)| (kind.to_owned(), short));
            if step <= 1001 {
                assert_eq!(seen, expected, "{step}");
                let response = br#"{"type":"response.completed","response":{"id":"r"}}"#;
                assert_eq!((events[0].data.as_ref(), events[0].digest), (&response[..], true));
                assert_eq!((events[1].data.as_ref(), events[1].digest), (&b"small"[..], false));
                assert!(pieces.iter().all(|piece| piece.len() <= 1000 + step), "{step}");
            }
            assert_eq!(events.len(), 3, "{step}");
        }
    }

    proptest! {
        #[test]
        fn an_event_means_the_same_held_or_not(text in "[a-z\"\\\\{}\\[\\]:, \r\n]{0,40}", id in "\\PC{0,9}",
                                               kind in "response\\.[a-z]{0,9}", named in any::<bool>(),
                                               cuts in proptest::collection::vec(0usize..400, 0..40)) {
            let json = serde_json::json!({ "type": kind, "x": text, "response": { "output": [text], "id": id } });
            let name = if named { "event: other\r\n" } else { "" };
            let stream = format!("{name}data: {json}\n\n{text}\n\ndata:{json}\r\n\r\n");
            let (whole, all, _) = run(stream.as_bytes(), &cuts, MAX_HELD_BYTES);
            let (bytes, events, _) = run(stream.as_bytes(), &cuts, 1);
            prop_assert_eq!(whole, bytes);
            let means = |events: &[Event]| -> Vec<_> {
                let id = |e: &Event| serde_json::from_slice::<serde_json::Value>(&e.data).ok()?["response"]["id"].as_str().map(str::to_owned);
                events.iter().map(|e| (e.kind(), id(e))).collect()
            };
            prop_assert_eq!(means(&all), means(&events));
        }

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
