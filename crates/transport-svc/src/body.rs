//! The request rules of a target, applied to the caller's JSON.
//!
//! Only the top level is taken apart: a field that no rule names goes out as the very bytes it came in, and in its
//! place. The rules are those of `chatgpt-codex` alone, but for the model's name and `stream`: a call is always streamed
//! here, whatever its caller is given in the end, and a compaction never is.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use bytes::Bytes;
use config::TargetKind;
use domain::{Failure, Reason, service};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

mod hoist;
mod reasoning;

/// Fields that the Codex backend refuses (`Unsupported parameter: …`).
const DROPPED: &[&str] = &[
    "max_output_tokens",
    "metadata",
    "temperature",
    "top_p",
    "prompt_cache_retention",
    "prompt_cache_options",
    "safety_identifier",
    "user",
];
/// Fields that need state which the Codex backend keeps for nobody: it stores nothing. Left out, another question would be
/// answered than the one that was asked.
const REFUSED: &[&str] = &["previous_response_id", "conversation", "background"];
/// Fields that the Codex backend refuses, with the values that ask for what happens anyway. With another value they go out,
/// and the backend says what it thinks of them.
const ASKING_NOTHING: &[(&str, &[&str])] = &[
    ("previous_response_id", &["null"]),
    ("conversation", &["null"]),
    ("background", &["null", "false"]),
    ("truncation", &["null", "\"disabled\""]),
    ("prompt", &["null"]),
    ("max_tool_calls", &["null"]),
    ("top_logprobs", &["null", "0"]),
];
/// Fields of a Responses request that a compaction does not have: nothing is streamed, stored or added to it.
const NOT_COMPACT: &[&str] = &["stream", "stream_options", "store", "include", "tool_choice"];
/// Without it a later turn, possibly on another account, could not carry the reasoning on: nothing is stored upstream.
const INCLUDED: &str = "\"reasoning.encrypted_content\"";

/// A body as it goes upstream.
#[derive(Debug)]
pub(crate) struct Edited {
    pub(crate) body: Bytes,
    /// Fields that were dropped and held something.
    pub(crate) dropped: Vec<String>,
    /// True if it holds encrypted reasoning of earlier turns.
    pub(crate) holds_reasoning: bool,
}

/// Which rules apply.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Kind of the target.
    pub(crate) kind: TargetKind,
    /// The body asks for a compaction, which is answered whole.
    pub(crate) compact: bool,
    /// Leading system messages become `instructions` where there are none.
    pub(crate) hoist: bool,
    /// The encrypted reasoning of earlier turns goes: the upstream has refused it.
    pub(crate) drop_reasoning: bool,
}

/// Applies the rules of a target.
pub(crate) fn edit(rules: Rules, model: &str, body: &[u8]) -> Result<Edited, Failure> {
    let Rules { kind, compact, hoist, drop_reasoning } = rules;
    let mut fields = Fields::parse(body)?;
    fields.set("model", text(model)?);
    if !compact {
        fields.set("stream", "true".into());
    }
    let mut dropped = Vec::new();
    if kind == TargetKind::ChatgptCodex {
        fields.0.retain(|(name, value)| !asks_nothing(name, value));
        refuse(&fields)?;
        if compact {
            dropped = drop_fields(&mut fields, NOT_COMPACT);
        } else {
            fields.set("store", "false".into());
            include(&mut fields)?;
        }
        dropped.extend(drop_fields(&mut fields, DROPPED));
        hoist::list_input(&mut fields);
        if hoist {
            hoist::instructions(&mut fields)?;
            hoist::developers(&mut fields);
        }
    }
    if drop_reasoning {
        dropped.extend(reasoning::drop_encrypted(&mut fields));
    }
    Ok(Edited { holds_reasoning: reasoning::is_held(&fields), body: fields.write().into(), dropped })
}

/// The top-level fields, each with its value as JSON text.
pub(crate) struct Fields<'a>(Vec<(String, Cow<'a, str>)>);

impl<'a> Fields<'a> {
    fn parse(body: &'a [u8]) -> Result<Self, Failure> {
        let text = std::str::from_utf8(body)
            .map_err(|e| invalid(format!("the request body is not UTF-8: byte {} is wrong", e.valid_up_to())))?;
        let fields: Self = serde_json::from_str(text).map_err(|e| {
            // The parser's own words for a wrong type would quote the body.
            let what = if e.is_data() { "it is not an object".to_owned() } else { e.to_string() };
            invalid(format!("the request body is not a JSON object: {what}"))
        })?;
        let mut names = HashSet::with_capacity(fields.0.len());
        match fields.0.iter().find(|(name, _)| !names.insert(name.as_str())) {
            Some((twice, _)) => Err(invalid(format!("the request body has the field {twice:?} twice")).param(twice)),
            None => Ok(fields),
        }
    }

    fn get(&self, name: &str) -> Option<&Cow<'a, str>> {
        self.0.iter().find(|(field, _)| field == name).map(|(_, value)| value)
    }

    /// The value, unless it is absent or null.
    fn filled(&self, name: &str) -> Option<&Cow<'a, str>> {
        self.get(name).filter(|value| value.as_ref() != "null")
    }

    /// Replaces a value in its place, or appends the field.
    fn set(&mut self, name: &str, value: Cow<'a, str>) {
        match self.0.iter_mut().find(|(field, _)| field == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    fn write(&self) -> String {
        let size = self.0.iter().map(|(name, value)| name.len() + value.len() + 8).sum::<usize>();
        let mut out = String::with_capacity(size + 2);
        for (i, (name, value)) in self.0.iter().enumerate() {
            out.push(if i == 0 { '{' } else { ',' });
            // A string is always JSON; the fallback is never taken.
            out.push_str(&serde_json::to_string(name).unwrap_or_default());
            out.push(':');
            out.push_str(value);
        }
        // The rules leave at least a model and `stream`.
        out.push('}');
        out
    }
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
                    fields.push((name, Cow::Borrowed(value.get())));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

fn include(fields: &mut Fields<'_>) -> Result<(), Failure> {
    let Some(value) = fields.filled("include") else {
        fields.set("include", format!("[{INCLUDED}]").into());
        return Ok(());
    };
    let items: Vec<String> =
        serde_json::from_str(value).map_err(|_| invalid("include is not a list of strings").param("include"))?;
    let wanted = INCLUDED.trim_matches('"');
    if items.iter().any(|item| item == wanted) {
        return Ok(());
    }
    let inner = value.trim().trim_start_matches('[').trim_end_matches(']').trim_end();
    let comma = if items.is_empty() { "" } else { "," };
    let longer = format!("[{inner}{comma}{INCLUDED}]");
    fields.set("include", longer.into());
    Ok(())
}

fn drop_fields(fields: &mut Fields<'_>, unknown: &[&str]) -> Vec<String> {
    // A null says nothing that could be missed, and `false` asks for what happens anyway.
    let asks = |name: &&&str| fields.filled(name).is_some_and(|value| value.as_ref() != "false");
    let dropped = unknown.iter().filter(asks).map(|name| (*name).to_owned()).collect();
    fields.0.retain(|(name, _)| !unknown.contains(&name.as_str()));
    dropped
}

fn asks_nothing(name: &str, value: &str) -> bool {
    ASKING_NOTHING.iter().any(|(field, values)| *field == name && values.contains(&value))
}

fn refuse(fields: &Fields<'_>) -> Result<(), Failure> {
    let Some(name) = REFUSED.iter().find(|name| fields.get(name).is_some()) else { return Ok(()) };
    let message = format!("`{name}` is not served by a subscription: its backend stores no responses");
    let next = if *name == "background" {
        "leave it out and read the stream"
    } else {
        "send the whole conversation in `input`"
    };
    Err(Failure::new(Reason::Unsupported, service::TRANSPORT, message).param(*name).next_step(next))
}

/// A JSON string.
fn text(value: &str) -> Result<Cow<'static, str>, Failure> {
    serde_json::to_string(value)
        .map(Cow::Owned)
        .map_err(|e| Failure::new(Reason::Internal, service::TRANSPORT, format!("text cannot be written as JSON: {e}")))
}

fn invalid(message: impl Into<String>) -> Failure {
    Failure::new(Reason::RequestInvalid, service::TRANSPORT, message)
}

#[cfg(test)]
mod tests;
