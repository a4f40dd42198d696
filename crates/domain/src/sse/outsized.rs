//! An event that is too large to be held: read line by line as it passes.

use bytes::Bytes;

use super::Event;
use super::skim::{OF_EVENT, Skim};

/// Longest `event:` field that is kept, in bytes.
const MAX_NAME_BYTES: usize = 256;
/// Bytes of a field's name that tell it from the others.
const MAX_FIELD_BYTES: usize = 6;

/// What the bytes of a line belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum In {
    /// The field's name.
    Field,
    /// Right after the colon: one space is not part of the value.
    Space(Value),
    Value(Value),
}

/// Whose value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    Data,
    Name,
    Other,
}

/// The event so far.
#[derive(Debug)]
pub(super) struct Outsized {
    within: In,
    field: Vec<u8>,
    name: Option<Vec<u8>>,
    data: Option<Skim>,
}

impl Outsized {
    pub(super) fn new() -> Self {
        Self { within: In::Field, field: Vec::new(), name: None, data: None }
    }

    /// Takes the event's next bytes.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while let Some(end) = bytes.iter().position(|b| matches!(b, b'\n' | b'\r')) {
            let (line, rest) = bytes.split_at(end);
            self.part(line);
            self.line_over();
            // The LF of a CRLF is then one more line, an empty one, which says nothing.
            bytes = rest.get(1..).unwrap_or_default();
        }
        self.part(bytes);
    }

    /// The event as far as it was kept, if it has data.
    pub(super) fn finish(mut self) -> Option<Event> {
        self.line_over();
        let data = self.data?.finish();
        let name = self.name.map(Bytes::from);
        Some(Event { name, data: data.into(), digest: true })
    }

    /// Part of a line.
    fn part(&mut self, mut part: &[u8]) {
        if self.within == In::Field {
            let colon = part.iter().position(|b| *b == b':');
            let (field, rest) = part.split_at(colon.unwrap_or(part.len()));
            let room = MAX_FIELD_BYTES.saturating_sub(self.field.len());
            self.field.extend(field.iter().take(room));
            if colon.is_none() {
                return;
            }
            self.within = In::Space(self.begin_value());
            part = rest.get(1..).unwrap_or_default();
        }
        if let In::Space(value) = self.within {
            let Some(first) = part.first() else { return };
            part = if *first == b' ' { part.get(1..).unwrap_or_default() } else { part };
            self.within = In::Value(value);
        }
        match self.within {
            In::Value(Value::Data) => self.data.iter_mut().for_each(|data| data.feed(part)),
            In::Value(Value::Name) => {
                let name = self.name.get_or_insert_default();
                let room = MAX_NAME_BYTES.saturating_sub(name.len());
                name.extend(part.iter().take(room));
            }
            _ => {}
        }
    }

    /// The field's name is over.
    fn begin_value(&mut self) -> Value {
        match self.field.as_slice() {
            b"data" => {
                match &mut self.data {
                    // Lines of data are joined by line feeds.
                    Some(data) => data.feed(b"\n"),
                    None => self.data = Some(Skim::new(&OF_EVENT)),
                }
                Value::Data
            }
            b"event" => {
                self.name = Some(Vec::new());
                Value::Name
            }
            _ => Value::Other,
        }
    }

    fn line_over(&mut self) {
        // A line without a colon is a field without a value.
        if self.within == In::Field {
            self.begin_value();
        }
        self.field.clear();
        self.within = In::Field;
    }
}
