//! The few values that matter of a JSON document that is too large to be held.
//!
//! The document is read byte by byte as it passes. What comes out is a small document of the same shape with the wanted
//! values alone, so that whoever reads events need not know which of the two is before them. No crate does this: those
//! that take their input in pieces hold each text whole, and a text is what makes a document large.

/// Most bytes of one value. A longer one is left out.
const MAX_VALUE_BYTES: usize = 8 * 1024;
/// Most bytes of all: a document that repeats a name for ever is none that anybody reads.
const MAX_BYTES: usize = 64 * 1024;
/// Deepest nesting, as serde_json has it.
const MAX_DEPTH: usize = 128;
/// Longest name as it stands in the document: the longest wanted one, written in escapes.
const MAX_NAME_BYTES: usize = 128;

/// What is wanted of a value.
#[derive(Debug)]
pub(super) enum Want {
    /// All of it.
    Whole,
    /// These members, where it is an object; all of it where it is not.
    Members(&'static [(&'static str, Want)]),
}

/// What is wanted of an event: its type, and what its reader looks at in a response or an error.
pub(super) const OF_EVENT: Want = Want::Members(&[
    ("type", Want::Whole),
    ("code", Want::Whole),
    ("message", Want::Whole),
    ("error", OF_ERROR),
    (
        "response",
        Want::Members(&[
            ("id", Want::Whole),
            ("usage", Want::Whole),
            ("error", OF_ERROR),
            ("incomplete_details", Want::Members(&[("reason", Want::Whole)])),
        ]),
    ),
]);

const OF_ERROR: Want = Want::Members(&[
    ("code", Want::Whole),
    ("type", Want::Whole),
    ("message", Want::Whole),
    ("param", Want::Whole),
    ("plan_type", Want::Whole),
    ("resets_at", Want::Whole),
    ("resets_in_seconds", Want::Whole),
]);

/// Where in the grammar the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Value,
    /// After `[`.
    FirstValue,
    /// After `{`.
    FirstName,
    /// After the comma of an object.
    NextName,
    Name,
    Colon,
    Text,
    /// A number, `true`, `false` or `null`.
    Word,
    AfterValue,
    End,
    /// This is no JSON, or none that is read.
    Broken,
}

/// An array or object that is open.
#[derive(Debug)]
struct Open {
    array: bool,
    /// Its members that are wanted; `None` where it is passed over, or kept whole.
    members: Option<&'static [(&'static str, Want)]>,
    /// A member of it stands in the output.
    kept: bool,
}

/// A value that is being kept whole.
#[derive(Debug)]
struct Keeping {
    /// Length of the output before it and its name.
    before: usize,
    /// As [`Open::kept`] before it.
    kept: bool,
    /// Arrays and objects that were open when it began.
    depth: usize,
}

/// Reads a document as it passes.
#[derive(Debug)]
pub(super) struct Skim {
    at: At,
    open: Vec<Open>,
    /// The next byte of a text follows a backslash.
    escaped: bool,
    /// The name of the member that comes, as it stands in the document, while its object is one with wanted members.
    name: Vec<u8>,
    /// What is wanted of the value that comes.
    next: Option<(&'static str, &'static Want)>,
    keeping: Option<Keeping>,
    out: Vec<u8>,
}

impl Skim {
    /// Before the first byte of a document of which `want` is wanted.
    pub(super) fn new(want: &'static Want) -> Self {
        Self {
            at: At::Value,
            open: Vec::new(),
            escaped: false,
            name: Vec::new(),
            next: Some(("", want)),
            keeping: None,
            out: Vec::new(),
        }
    }

    /// Takes the next bytes.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while let Some((&byte, rest)) = bytes.split_first() {
            bytes = match self.at {
                At::Broken => return,
                At::Name | At::Text => self.text(bytes),
                _ => {
                    self.token(byte);
                    rest
                }
            };
            if self.out.len() > MAX_BYTES {
                self.at = At::Broken;
            }
        }
    }

    /// The small document; nothing if the large one was none or broke off.
    pub(super) fn finish(mut self) -> Vec<u8> {
        if self.at == At::Word {
            self.value_over();
        }
        if self.at == At::End { self.out } else { Vec::new() }
    }

    /// Inside a text: takes what needs no look at each byte at once. Gives the rest.
    fn text<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let special = |b: &u8| matches!(b, b'"' | b'\\' | 0..0x20);
        let run =
            if std::mem::take(&mut self.escaped) { 1 } else { bytes.iter().position(special).unwrap_or(bytes.len()) };
        let (plain, rest) = bytes.split_at(run);
        self.keep(plain);
        // After an escaped byte the next one is looked at on its own turn.
        let Some((&byte, after)) = rest.split_first().filter(|(b, _)| special(b)) else { return rest };
        self.keep(&[byte]);
        match byte {
            b'\\' => self.escaped = true,
            b'"' if self.at == At::Name => self.named(),
            b'"' => self.value_over(),
            _ => self.at = At::Broken,
        }
        after
    }

    fn token(&mut self, byte: u8) {
        if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
            if self.at == At::Word {
                self.value_over();
            }
            return;
        }
        match (self.at, byte) {
            (At::Word, b',' | b']' | b'}') => {
                self.value_over();
                self.token(byte);
            }
            (At::Word, b'0'..=b'9' | b'a'..=b'z' | b'E' | b'+' | b'-' | b'.') => self.keep(&[byte]),
            (At::FirstValue, b']') => self.close(true),
            (At::Value | At::FirstValue, _) => self.value(byte),
            (At::FirstName, b'}') => self.close(false),
            (At::FirstName | At::NextName, b'"') => {
                self.keep(b"\"");
                self.name.clear();
                self.at = At::Name;
            }
            (At::Colon, b':') => {
                self.keep(b":");
                self.at = At::Value;
            }
            (At::AfterValue, b',') => {
                self.keep(b",");
                let array = self.open.last().is_some_and(|open| open.array);
                self.at = if array { At::Value } else { At::NextName };
            }
            (At::AfterValue, b']' | b'}') => self.close(byte == b']'),
            _ => self.at = At::Broken,
        }
    }

    /// The first byte of a value.
    fn value(&mut self, byte: u8) {
        if let Some((name, want)) = self.next.take() {
            let (before, kept) = (self.out.len(), self.begin_member(name));
            match want {
                Want::Members(members) if byte == b'{' => {
                    self.out.push(b'{');
                    return self.descend(false, Some(members));
                }
                Want::Members(_) | Want::Whole => {
                    self.keeping = Some(Keeping { before, kept, depth: self.open.len() });
                }
            }
        }
        self.keep(&[byte]);
        match byte {
            b'{' | b'[' => self.descend(byte == b'[', None),
            b'"' => self.at = At::Text,
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => self.at = At::Word,
            _ => self.at = At::Broken,
        }
    }

    fn descend(&mut self, array: bool, members: Option<&'static [(&'static str, Want)]>) {
        self.open.push(Open { array, members, kept: false });
        self.at = match array {
            _ if self.open.len() > MAX_DEPTH => At::Broken,
            true => At::FirstValue,
            false => At::FirstName,
        };
    }

    /// Writes the name of a member. Says whether one stood there before.
    fn begin_member(&mut self, name: &str) -> bool {
        let Some(open) = self.open.last_mut() else { return false };
        let kept = std::mem::replace(&mut open.kept, true);
        if kept {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        kept
    }

    /// The name of a member is over.
    fn named(&mut self) {
        self.at = At::Colon;
        let Some(members) = self.open.last().and_then(|open| open.members) else { return };
        // It ends with its quote, and begins behind one.
        let quoted = [b"\"".as_slice(), &self.name].concat();
        let Ok(name) = serde_json::from_slice::<String>(&quoted) else { return };
        self.next = members.iter().find(|(wanted, _)| *wanted == name).map(|(wanted, want)| (*wanted, want));
    }

    fn close(&mut self, array: bool) {
        let Some(open) = self.open.pop().filter(|open| open.array == array) else {
            self.at = At::Broken;
            return;
        };
        if open.members.is_some() {
            self.out.push(b'}');
        } else {
            self.keep(if array { b"]" } else { b"}" });
        }
        self.value_over();
    }

    fn value_over(&mut self) {
        self.keeping.take_if(|keeping| keeping.depth == self.open.len());
        self.at = if self.open.is_empty() { At::End } else { At::AfterValue };
    }

    /// Keeps bytes, if what they belong to is kept, and the name that may be a wanted one.
    fn keep(&mut self, bytes: &[u8]) {
        let Some(keeping) = &self.keeping else {
            let wanted = self.at == At::Name && self.open.last().is_some_and(|open| open.members.is_some());
            if wanted && self.name.len() <= MAX_NAME_BYTES {
                self.name.extend(bytes.iter().take(MAX_NAME_BYTES + 1));
            }
            return;
        };
        self.out.extend_from_slice(bytes.get(..MAX_VALUE_BYTES).unwrap_or(bytes));
        if bytes.len() > MAX_VALUE_BYTES || self.out.len() - keeping.before > MAX_VALUE_BYTES {
            self.out.truncate(keeping.before);
            let (kept, owner) = (keeping.kept, keeping.depth.checked_sub(1));
            if let Some(open) = owner.and_then(|owner| self.open.get_mut(owner)) {
                open.kept = kept;
            }
            self.keeping = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;

    /// What a skim should give, from the whole document.
    fn wanted(value: &Value, want: &Want) -> Value {
        match (want, value) {
            (Want::Members(members), Value::Object(object)) => {
                let kept = |(name, want): &(&str, Want)| Some(((*name).to_owned(), wanted(object.get(*name)?, want)));
                Value::Object(members.iter().filter_map(kept).collect::<Map<_, _>>())
            }
            _ => value.clone(),
        }
    }

    fn skim(text: &[u8], cuts: &[usize]) -> Vec<u8> {
        let mut skim = Skim::new(&OF_EVENT);
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (text.len() + 1)).chain([text.len()]).collect();
        ends.sort_unstable();
        let mut from = 0;
        for end in ends {
            skim.feed(&text[from..end]);
            from = end;
        }
        skim.finish()
    }

    fn document() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            // Halves are read back exactly.
            any::<i32>().prop_map(|n| Value::from(f64::from(n) / 2.0)),
            "\\PC{0,12}".prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        let names = "type|code|message|error|response|id|usage|incomplete_details|reason|output|\\PC{0,6}";
        leaf.prop_recursive(5, 60, 8, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                proptest::collection::hash_map(names, inner, 0..8).prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_finds_what_serde_json_finds(value in document(), pretty in any::<bool>(),
                                          cuts in proptest::collection::vec(0usize..4000, 0..20)) {
            let text = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) }.unwrap();
            let found: Value = serde_json::from_slice(&skim(&text, &cuts)).unwrap();
            prop_assert_eq!(found, wanted(&value, &OF_EVENT));
        }

        #[test]
        fn no_bytes_break_it(text in "[\\[\\]{}\",:0-9a-f\\\\ \"\"{}]{0,200}", bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let found = skim(text.as_bytes(), &[]);
            if let Ok(value) = serde_json::from_str::<Value>(&text) {
                prop_assert!(serde_json::from_slice::<Value>(&found).is_ok(), "{}", value);
            }
            skim(&bytes, &[]);
        }
    }

    #[test]
    fn what_is_long_is_left_out_and_the_rest_stays() {
        let long = "y".repeat(3 * MAX_BYTES);
        let event = json!({ "type": "response.failed", "message": long, "response": { "id": "r", "output": [long],
            "error": { "message": long, "code": "slow_down" }, "usage": { "input_tokens": 1 } } });
        for text in [serde_json::to_vec(&event).unwrap(), serde_json::to_vec_pretty(&event).unwrap()] {
            let cuts: Vec<usize> = (0..text.len()).step_by(1000).collect();
            for cuts in [&[][..], &cuts] {
                let found: Value = serde_json::from_slice(&skim(&text, cuts)).unwrap();
                let expected = json!({ "type": "response.failed", "response": { "id": "r",
                    "error": { "code": "slow_down" }, "usage": { "input_tokens": 1 } } });
                assert_eq!(found, expected);
            }
        }
    }

    #[test]
    fn what_is_no_document_gives_nothing_and_names_may_be_escaped() {
        assert_eq!(skim(br#" { "ty\u0070e" : "x" } "#, &[]), br#"{"type":"x"}"#);
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200));
        let forever = format!("{{{}\"a\":1}}", "\"type\":\"x\",".repeat(MAX_BYTES));
        for text in
            ["", "{", r#"{"type":"x""#, r#"{"type":"x"} 1"#, "{\"type\":\"a\nb\"}", "[}", "{]", "{\"a\" 1}", "{,}"]
        {
            assert_eq!(skim(text.as_bytes(), &[]), b"", "{text}");
        }
        assert_eq!((skim(deep.as_bytes(), &[]), skim(forever.as_bytes(), &[])), (vec![], vec![]));
    }
}
