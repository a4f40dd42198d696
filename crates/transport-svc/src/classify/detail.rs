//! The upstream's own account of an error, in the shapes it comes in.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use serde_json::Value;

use crate::headers;

/// Most characters of the upstream's text that a message quotes.
const MAX_TEXT: usize = 300;

/// An error as the upstream tells it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct UpstreamError {
    /// `error.code`.
    pub(super) code: Option<String>,
    /// `error.type`.
    pub(super) kind: Option<String>,
    /// `error.message` or `detail`.
    pub(super) message: Option<String>,
    pub(super) param: Option<String>,
    pub(super) plan_type: Option<String>,
    /// Unix seconds; 0 says nothing.
    pub(super) resets_at: Option<i64>,
    pub(super) resets_in_seconds: Option<f64>,
}

impl UpstreamError {
    /// From an answer: its JSON body, completed from the `x-error-json` header. `None` if neither is JSON.
    pub(super) fn of_answer(headers: &HeaderMap, body: &[u8]) -> Option<Self> {
        let from_body = serde_json::from_slice::<Value>(body).ok().filter(Value::is_object).map(|v| Self::of_value(&v));
        let encoded = headers::text(headers, "x-error-json");
        let from_header = encoded
            .and_then(|text| STANDARD.decode(text).ok())
            .and_then(|json| serde_json::from_slice::<Value>(&json).ok())
            .filter(Value::is_object)
            .map(|value| Self::of_value(&value));
        match (from_body, from_header) {
            (Some(mut error), Some(more)) => {
                error.code = error.code.or(more.code);
                error.kind = error.kind.or(more.kind);
                error.message = error.message.or(more.message);
                Some(error)
            }
            (body, header) => body.or(header),
        }
    }

    /// `{"error":{…}}`, `{"error":"…"}`, `{"detail":…}`, or the fields themselves (an `error` event, some local servers).
    pub(crate) fn of_value(value: &Value) -> Self {
        match (value.get("error"), value.get("detail")) {
            (Some(error @ Value::Object(_)), _) => Self::of_fields(error),
            (Some(Value::String(text)), _) => Self { message: Some(text.clone()), ..Self::of_fields(value) },
            (_, Some(detail)) => Self::of_detail(detail),
            _ => Self::of_fields(value),
        }
    }

    /// FastAPI's `detail`: a text, a list of what is wrong with the body, or an object.
    fn of_detail(detail: &Value) -> Self {
        let text = match detail {
            Value::String(text) => text.clone(),
            Value::Array(items) => {
                let texts = items.iter().filter_map(|item| item.get("msg").and_then(Value::as_str));
                texts.collect::<Vec<_>>().join("; ")
            }
            _ => return Self::of_fields(detail),
        };
        // The name is all that a client can act on, and this shape has no field for it.
        let param = text.strip_prefix("Unsupported parameter: ").filter(|name| !name.contains(char::is_whitespace));
        Self { param: param.map(str::to_owned), message: Some(text), ..Self::default() }
    }

    fn of_fields(fields: &Value) -> Self {
        let text = |name: &str| fields.get(name).and_then(Value::as_str).filter(|s| !s.is_empty()).map(str::to_owned);
        let number = |name: &str| fields.get(name).and_then(Value::as_f64);
        Self {
            code: text("code"),
            kind: text("type"),
            message: text("message"),
            param: text("param"),
            plan_type: text("plan_type"),
            resets_at: number("resets_at").map(|s| s as i64).filter(|s| *s > 0),
            resets_in_seconds: number("resets_in_seconds").filter(|s| *s > 0.0),
        }
    }

    /// The code, or the type where there is none.
    pub(super) fn name(&self) -> Option<&str> {
        self.code.as_deref().or(self.kind.as_deref())
    }

    /// The upstream's words, for a message: `code: "text"`.
    pub(super) fn quoted(&self) -> String {
        let text = self.message.as_deref().map(|text| format!("{:?}", shorten(text, MAX_TEXT)));
        match (self.name().map(|name| shorten(name, 80)), text) {
            (Some(name), Some(text)) => format!("{name}: {text}"),
            (Some(name), None) => name,
            (None, Some(text)) => text,
            (None, None) => "an error without a code or a text".to_owned(),
        }
    }
}

/// At most `most` characters, on one line.
pub(super) fn shorten(text: &str, most: usize) -> String {
    let mut clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let short: String = clean.by_ref().take(most).collect();
    if clean.next().is_some() { format!("{short}…") } else { short }
}
