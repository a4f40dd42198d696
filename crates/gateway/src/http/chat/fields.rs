//! JSON objects of a request, field by field.
//!
//! A value that only moves to another place is never taken apart: it goes out as the very bytes it came in. A field is
//! taken by its name, so that what is left at the end is what nobody has read, and can be named. Errors name the field
//! and never quote the value, which is a part of somebody's conversation.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use domain::{Failure, Reason, service};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

/// A value as it came.
pub(super) type Raw<'a> = &'a RawValue;

/// Most names of dropped fields that are told, and the longest of them in bytes.
const MAX_DROPPED: (usize, usize) = (32, 64);

/// An object.
pub(super) struct Fields<'a> {
    /// How it is called in errors; empty for the body itself.
    place: String,
    list: Vec<(Cow<'a, str>, Raw<'a>)>,
}

impl<'a> Fields<'a> {
    /// The body.
    ///
    /// # Errors
    ///
    /// REQUEST_INVALID if it is no JSON object in UTF-8.
    pub(super) fn of_body(body: &'a [u8]) -> Result<Self, Failure> {
        let text = std::str::from_utf8(body)
            .map_err(|e| invalid(format!("the body is not UTF-8: byte {} is wrong", e.valid_up_to())))?;
        let list: List<'a> = serde_json::from_str(text).map_err(|e| {
            // The parser's own words for a wrong type would quote the body.
            let what = if e.is_data() { "not a JSON object".to_owned() } else { format!("not valid JSON: {e}") };
            invalid(format!("the body is {what}"))
        })?;
        Self::new(list, String::new())
    }

    /// The object that `value` is.
    pub(super) fn of(value: Raw<'a>, place: String) -> Result<Self, Failure> {
        let list = serde_json::from_str(value.get()).map_err(|_| wrong(&place, "an object"))?;
        Self::new(list, place)
    }

    fn new(List(list): List<'a>, place: String) -> Result<Self, Failure> {
        let mut names = HashSet::with_capacity(list.len());
        if let Some((twice, _)) = list.iter().find(|(name, _)| !names.insert(name.as_ref())) {
            let path = join(&place, twice);
            return Err(invalid(format!("`{path}` is given twice")).param(path));
        }
        Ok(Self { place, list })
    }

    /// How the field `name` is called in errors.
    pub(super) fn path(&self, name: &str) -> String {
        join(&self.place, name)
    }

    /// True if the field is there, even as null.
    pub(super) fn has(&self, name: &str) -> bool {
        self.list.iter().any(|(field, _)| field == name)
    }

    /// Takes a field. Null is as good as nothing.
    pub(super) fn take(&mut self, name: &str) -> Option<Raw<'a>> {
        let at = self.list.iter().position(|(field, _)| field == name)?;
        Some(self.list.remove(at).1).filter(|value| value.get() != "null")
    }

    /// Takes a string, as it came.
    pub(super) fn text(&mut self, name: &str) -> Result<Option<Raw<'a>>, Failure> {
        let taken = self.take(name);
        match taken {
            Some(value) if !is_string(value) => Err(wrong(&self.path(name), "a string")),
            _ => Ok(taken),
        }
    }

    /// Takes a string that must be there, as it came.
    pub(super) fn needed_text(&mut self, name: &str) -> Result<Raw<'a>, Failure> {
        self.text(name)?.ok_or_else(|| self.missing(name))
    }

    /// Takes a string, to be looked at.
    pub(super) fn word(&mut self, name: &str) -> Result<Option<Cow<'a, str>>, Failure> {
        Ok(self.text(name)?.map(word))
    }

    /// Takes a truth value.
    pub(super) fn truth(&mut self, name: &str) -> Result<Option<bool>, Failure> {
        let read =
            |value: Raw<'_>| serde_json::from_str(value.get()).map_err(|_| wrong(&self.path(name), "true or false"));
        let taken = self.list.iter().find(|(field, _)| field == name).map(|(_, value)| *value);
        let truth = taken.filter(|value| value.get() != "null").map(read).transpose()?;
        self.take(name);
        Ok(truth)
    }

    /// Takes a list.
    pub(super) fn list(&mut self, name: &str) -> Result<Option<Vec<Raw<'a>>>, Failure> {
        let taken = self.take(name);
        taken.map(|value| list(value, &self.path(name))).transpose()
    }

    /// Takes an object.
    pub(super) fn object(&mut self, name: &str) -> Result<Option<Fields<'a>>, Failure> {
        let taken = self.take(name);
        taken.map(|value| Self::of(value, self.path(name))).transpose()
    }

    /// Takes an object that must be there.
    pub(super) fn needed_object(&mut self, name: &str) -> Result<Fields<'a>, Failure> {
        self.object(name)?.ok_or_else(|| self.missing(name))
    }

    /// The failure for want of a field.
    pub(super) fn missing(&self, name: &str) -> Failure {
        let path = self.path(name);
        invalid(format!("`{path}` is missing")).param(path)
    }

    /// Notes what nobody has taken, as `kind`'s: `messages[]` stands for every message. What is empty said nothing.
    pub(super) fn drop_rest(self, kind: &str, dropped: &mut Dropped) {
        for (name, value) in self.list {
            if !matches!(value.get(), "null" | "[]" | "{}" | "\"\"") {
                dropped.note(join(kind, &name));
            }
        }
    }
}

/// Names of fields that had no place in the request that was made of this one.
#[derive(Debug, Default)]
pub(super) struct Dropped(Vec<String>);

impl Dropped {
    /// Notes one, once. The names come from the caller and go into a header.
    pub(super) fn note(&mut self, name: String) {
        let fit = |c: char| if c.is_ascii_graphic() && c != ',' { c } else { '?' };
        let name: String = name.chars().map(fit).take(MAX_DROPPED.1).collect();
        if self.0.len() < MAX_DROPPED.0 && !self.0.contains(&name) {
            self.0.push(name);
        }
    }

    /// All of them.
    pub(super) fn into_names(self) -> Vec<String> {
        self.0
    }
}

/// The items of a list.
pub(super) fn list<'a>(value: Raw<'a>, place: &str) -> Result<Vec<Raw<'a>>, Failure> {
    serde_json::from_str(value.get()).map_err(|_| wrong(place, "a list"))
}

/// True for a JSON string.
pub(super) fn is_string(value: Raw<'_>) -> bool {
    value.get().starts_with('"')
}

/// What a JSON string says.
pub(super) fn word(value: Raw<'_>) -> Cow<'_, str> {
    let Key(word) = serde_json::from_str(value.get()).unwrap_or(Key(Cow::Borrowed("")));
    word
}

/// A small value, to be compared.
pub(super) fn value(raw: Raw<'_>) -> Value {
    serde_json::from_str(raw.get()).unwrap_or_default()
}

/// REQUEST_INVALID.
pub(super) fn invalid(message: String) -> Failure {
    Failure::new(Reason::RequestInvalid, service::GATEWAY, message)
}

/// REQUEST_INVALID for a value of the wrong type.
pub(super) fn wrong(place: &str, expected: &str) -> Failure {
    invalid(format!("`{place}` is not {expected}")).param(place)
}

/// UNSUPPORTED, with what to do instead.
pub(super) fn unsupported(place: &str, what: &str, instead: &str) -> Failure {
    let failure = Failure::new(Reason::Unsupported, service::GATEWAY, format!("{what} is not served"));
    failure.param(place).next_step(instead)
}

fn join(place: &str, name: &str) -> String {
    if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") }
}

/// A string that borrows where it can.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

struct List<'a>(Vec<(Cow<'a, str>, Raw<'a>)>);

impl<'de> Deserialize<'de> for List<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = List<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<List<'de>, A::Error> {
                let mut list = Vec::new();
                while let Some((Key(name), value)) = map.next_entry::<Key<'de>, Raw<'de>>()? {
                    list.push((name, value));
                }
                Ok(List(list))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_named_once_and_harmlessly() {
        let body = br#"{"a":1,"b":null,"c":[],"d\u0001,":2,"e":{"x":1},"f":true}"#;
        let mut fields = Fields::of_body(body).unwrap();
        assert_eq!(fields.take("a").map(|v| v.get()), Some("1"));
        assert_eq!(fields.truth("f"), Ok(Some(true)));
        assert!(fields.has("b") && fields.take("b").is_none() && !fields.has("f"));
        let mut dropped = Dropped::default();
        fields.drop_rest("m[]", &mut dropped);
        (0..99).for_each(|n| dropped.note(format!("{n}{}", "x".repeat(99))));
        let names = dropped.into_names();
        assert_eq!((&names[0][..], &names[1][..], names.len()), ("m[].d??", "m[].e", 32));
        assert!(names.iter().all(|name| name.len() <= 64));
    }

    #[test]
    fn faults_name_the_field_and_quote_nothing() {
        let failure = |body: &[u8], read: fn(&mut Fields<'_>) -> Option<Failure>| {
            let failure = match Fields::of_body(body) {
                Ok(mut fields) => read(&mut fields).unwrap(),
                Err(failure) => failure,
            };
            assert!(!failure.message.contains("secret"), "{failure}");
            (failure.reason, failure.param.unwrap_or_default())
        };
        for (body, param) in [
            (&b"\"secret\""[..], ""),
            (b"{\"a\":", ""),
            (b"{\"a\":\"\xff\"}", ""),
            (b"{\"a\":1,\"a\":2}", "a"),
            (b"{\"a\":[\"secret\"]}", "a"),
            (b"{\"a\":{\"b\":{},\"b\":1}}", "a.b"),
            (b"{}", "a"),
        ] {
            let read = |fields: &mut Fields<'_>| fields.needed_object("a").err();
            assert_eq!(failure(body, read), (Reason::RequestInvalid, param.to_owned()));
        }
        assert_eq!(failure(b"{\"a\":\"secret\"}", |f| f.truth("a").err()).1, "a");
        assert_eq!(failure(b"{\"a\":\"secret\"}", |f| f.list("a").err()).1, "a");
        assert_eq!(failure(b"{\"a\":7}", |f| f.text("a").err()).1, "a");
    }
}
