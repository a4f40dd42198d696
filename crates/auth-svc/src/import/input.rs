//! Foreign files as they come in: sizes, encodings, JSON, and values that claim to be secrets.
//!
//! No message here quotes a value: any of them may be a secret that somebody put in the wrong field.

use domain::{Failure, Reason, service};
use proto::auth::v1::ImportFile;
use secrecy::SecretString;
use serde_json::{Map, Value};

/// Largest file that is read, in bytes. Real ones have a few kilobytes.
pub(super) const MAX_FILE_BYTES: usize = 4 * 1024 * 1024;
/// Deepest nesting that is read; the same limit as serde_json's.
const MAX_DEPTH: usize = 127;

/// A request that cannot be imported. Small, so that it can be returned everywhere; a [`Failure`] in the end.
#[derive(Debug)]
pub(crate) struct Refused {
    message: String,
    next_step: Option<&'static str>,
    param: &'static str,
}

impl Refused {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), next_step: None, param: "files" }
    }

    /// With the field of the request that is at fault.
    pub(crate) fn param(mut self, name: &'static str) -> Self {
        self.param = name;
        self
    }

    pub(crate) fn next_step(mut self, text: &'static str) -> Self {
        self.next_step = Some(text);
        self
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        let next = refused.next_step.unwrap_or("correct the file or the command and import again; nothing was changed");
        Failure::new(Reason::RequestInvalid, service::AUTH, refused.message).param(refused.param).next_step(next)
    }
}

/// The text of a file, without a byte order mark.
pub(crate) fn text(file: &ImportFile) -> Result<&str, Refused> {
    let (name, bytes) = (&file.name, &file.content);
    if bytes.len() > MAX_FILE_BYTES {
        return Err(Refused::new(format!("{name} has {} bytes; at most {MAX_FILE_BYTES} are read", bytes.len())));
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|e| Refused::new(format!("{name} is not UTF-8: the byte at offset {} is invalid", e.valid_up_to())))?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// A file that holds one JSON object.
pub(crate) fn object(file: &ImportFile) -> Result<Map<String, Value>, Refused> {
    let value = serde_json::from_str(text(file)?).map_err(|e| not_json(&file.name, &e))?;
    into_object(&file.name, value)
}

/// The same for a file that people write by hand as JSON5: comments, trailing commas, bare keys.
pub(super) fn lenient_object(file: &ImportFile) -> Result<Map<String, Value>, Refused> {
    let text = text(file)?;
    let value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(strict) if !is_flat_enough(text) => return Err(not_json(&file.name, &strict)),
        Err(_) => json5::from_str(text).map_err(|e| {
            // Its own words may quote what it found; its code does not.
            let what = e.code().map_or_else(|| "not a value we can keep".to_owned(), |code| code.to_string());
            let place = e.position().map_or_else(String::new, |at| format!(" at {at}"));
            Refused::new(format!("{} is neither JSON nor JSON5: {what}{place}", file.name))
        })?,
    };
    into_object(&file.name, value)
}

/// What serde_json says of the syntax: words of its own and the position, nothing of the content.
fn not_json(name: &str, error: &serde_json::Error) -> Refused {
    let cut = if error.is_eof() { "; it looks cut off" } else { "" };
    Refused::new(format!("{name} is not JSON: {error}{cut}"))
}

fn into_object(name: &str, value: Value) -> Result<Map<String, Value>, Refused> {
    match value {
        Value::Object(map) => Ok(map),
        other => Err(Refused::new(format!("{name} holds {}, not a JSON object", kind(&other)))),
    }
}

/// What a value is, for messages.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// False for a text that nests deeper than [`MAX_DEPTH`]: the JSON5 reader recurses without a limit of its own.
fn is_flat_enough(text: &str) -> bool {
    let (mut depth, mut rest) = (0usize, text);
    while let Some(at) = rest.find(['[', '{', ']', '}', '"', '\'', '/']) {
        let after = rest.split_at(at).1;
        let mark = after.as_bytes().first().copied().unwrap_or_default();
        rest = match mark {
            b'[' | b'{' => {
                depth += 1;
                &after[1..]
            }
            b']' | b'}' => {
                depth = depth.saturating_sub(1);
                &after[1..]
            }
            b'/' if after.starts_with("//") => {
                after.split_once(['\n', '\r', '\u{2028}', '\u{2029}']).map_or("", |s| s.1)
            }
            b'/' if after.starts_with("/*") => after.split_once("*/").map_or("", |s| s.1),
            b'/' => &after[1..],
            quote => after_string(&after[1..], quote),
        };
        if depth > MAX_DEPTH {
            return false;
        }
    }
    true
}

/// What follows a string whose opening quote has been read.
fn after_string(text: &str, quote: u8) -> &str {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            _ if byte == quote => return text.get(at + 1..).unwrap_or_default(),
            _ => {}
        }
    }
    ""
}

/// A field that is a string, trimmed; absent, null and blank are the same. The error says what it is instead.
pub(crate) fn string(map: &Map<String, Value>, field: &str) -> Result<Option<String>, String> {
    match map.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.trim()).filter(|t| !t.is_empty()).map(str::to_owned)),
        Some(other) => Err(format!("its `{field}` is {}, not a string", kind(other))),
    }
}

/// A field that is a secret. One that no header could carry is refused: it can only be a mistake.
pub(crate) fn secret(map: &Map<String, Value>, field: &str) -> Result<Option<SecretString>, String> {
    match string(map, field)? {
        Some(text) if !text.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Err(format!("its `{field}` holds white space or characters that are not ASCII, which no token does"))
        }
        text => Ok(text.map(SecretString::from)),
    }
}
