//! What is asked: a Responses body as it came, of which only what routing needs is read, or a body made from a message.

use bytes::Bytes;
use domain::{Failure, Reason, service};
use proto::common::v1::Header;
use proto::transport::v1::Resource;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

/// Reasoning efforts that the upstream knows.
const EFFORTS: [&str; 5] = ["minimal", "low", "medium", "high", "xhigh"];

/// Longest name of a session that is passed on as it is, in bytes.
const MAX_SESSION: usize = 256;

/// One call's request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ask {
    /// Model name as the caller gave it; empty means the agent's default.
    pub(crate) model: String,
    /// The request body for transport-svc, which applies the rules of its target.
    pub(crate) body: Bytes,
    /// What is asked for upstream: a response, or a compaction.
    pub(crate) resource: Resource,
    /// True if the body asks for a stream.
    pub(crate) stream: bool,
    /// Caller headers that pass.
    pub(crate) headers: Vec<Header>,
    /// The caller's session, for sticky credentials; may be empty.
    pub(crate) session: String,
}

/// A call in words, as gRPC takes it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Words<'a> {
    pub(crate) model: &'a str,
    pub(crate) message: &'a str,
    pub(crate) body_json: &'a str,
    pub(crate) session: &'a str,
    pub(crate) thinking: &'a str,
    pub(crate) instructions: &'a str,
}

/// The fields that are read; all others pass unseen.
#[derive(Deserialize)]
struct Read<'a> {
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    #[serde(borrow)]
    stream: Option<&'a RawValue>,
    #[serde(borrow)]
    prompt_cache_key: Option<&'a RawValue>,
}

impl Ask {
    /// A Responses body as it came.
    ///
    /// # Errors
    ///
    /// REQUEST_INVALID for what is no JSON object in UTF-8 or has a field of the wrong type, naming the field.
    pub(crate) fn from_body(body: Bytes, headers: Vec<Header>, session: Option<String>) -> Result<Self, Failure> {
        let text = std::str::from_utf8(&body)
            .map_err(|e| invalid(format!("the body is not UTF-8: byte {} is wrong", e.valid_up_to())))?;
        if !text.trim_start().starts_with('{') {
            return Err(invalid("the body is not a JSON object".to_owned()));
        }
        let read: Read<'_> =
            serde_json::from_str(text).map_err(|e| invalid(format!("the body is not valid JSON: {e}")))?;
        let model = field::<String>("model", read.model)?.unwrap_or_default();
        let stream = field::<bool>("stream", read.stream)?.unwrap_or(false);
        let key = field::<String>("prompt_cache_key", read.prompt_cache_key)?;
        // A header names the session itself; a cache key may be shared by several, and is all that most clients send.
        let session = session.or(key).map(bounded).unwrap_or_default();
        Ok(Self { model, resource: Resource::Responses, stream, headers, session, body: body.clone() })
    }

    /// A call in words, or with a body beside them.
    ///
    /// # Errors
    ///
    /// As [`Ask::from_body`], and REQUEST_INVALID for words that do not go together.
    pub(crate) fn from_words(words: Words<'_>, headers: Vec<Header>, session: Option<String>) -> Result<Self, Failure> {
        let named = (!words.session.is_empty()).then(|| words.session.to_owned());
        let session = named.or(session);
        if words.body_json.is_empty() {
            return words.into_message(headers, session);
        }
        let only_with_message =
            [("message", words.message), ("thinking", words.thinking), ("instructions", words.instructions)];
        if let Some((name, _)) = only_with_message.iter().find(|(_, value)| !value.is_empty()) {
            return Err(
                invalid(format!("`{name}` does not go with `body_json`, which holds the whole request")).param(*name)
            );
        }
        let mut ask = Self::from_body(Bytes::copy_from_slice(words.body_json.as_bytes()), headers, session)?;
        if !words.model.is_empty() {
            words.model.clone_into(&mut ask.model);
        }
        Ok(ask)
    }
}

impl Words<'_> {
    fn into_message(self, headers: Vec<Header>, session: Option<String>) -> Result<Ask, Failure> {
        if self.message.is_empty() {
            return Err(invalid("neither `message` nor `body_json` is given".to_owned()).param("message"));
        }
        let content = json!([{ "type": "input_text", "text": self.message }]);
        let mut body = json!({ "model": self.model, "stream": true,
            "input": [{ "type": "message", "role": "user", "content": content }] });
        if !self.instructions.is_empty() {
            body["instructions"] = self.instructions.into();
        }
        if !self.thinking.is_empty() {
            if !EFFORTS.contains(&self.thinking) {
                let message = format!("`thinking` is {:?}; it is one of {}", self.thinking, EFFORTS.join(", "));
                return Err(invalid(message).param("thinking"));
            }
            body["reasoning"] = json!({ "effort": self.thinking });
        }
        if let Some(session) = &session {
            body["prompt_cache_key"] = session.as_str().into();
        }
        let (model, session) = (self.model.to_owned(), session.map(bounded).unwrap_or_default());
        let (resource, body) = (Resource::Responses, body.to_string().into());
        Ok(Ask { model, resource, session, headers, stream: true, body })
    }
}

/// A session only has to be the same each time: a long one is told by its hash.
fn bounded(session: String) -> String {
    if session.len() <= MAX_SESSION { session } else { blake3::hash(session.as_bytes()).to_hex().to_string() }
}

fn invalid(message: String) -> Failure {
    Failure::new(Reason::RequestInvalid, service::GATEWAY, message)
}

fn field<'a, T: Deserialize<'a>>(name: &str, value: Option<&'a RawValue>) -> Result<Option<T>, Failure> {
    let Some(value) = value else { return Ok(None) };
    serde_json::from_str(value.get()).map_err(|e| {
        // The position counts from the field's beginning and would mislead.
        let what = e.to_string();
        let what = what.split(" at line ").next().unwrap_or_default();
        invalid(format!("`{name}` has the wrong type: {what}")).param(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &'static str) -> Result<Ask, Failure> {
        Ask::from_body(Bytes::from_static(text.as_bytes()), vec![], None)
    }

    #[test]
    fn a_body_passes_as_it_came() {
        let text =
            "{ \"model\":\"codex/gpt-5.5\" ,\"x\":1.50,\"stream\":true,\"prompt_cache_key\":\"s\",\"store\":null}";
        let ask = body(text).unwrap();
        assert_eq!((ask.model.as_str(), ask.stream, ask.session.as_str()), ("codex/gpt-5.5", true, "s"));
        assert_eq!(ask.body, text.as_bytes());
        let stateful = r#"{"previous_response_id":"r","background":true}"#;
        assert_eq!(body(stateful).map(|a| a.body), Ok(Bytes::from_static(stateful.as_bytes())), "its target decides");
    }

    #[test]
    fn faults_name_the_field() {
        for (text, reason, param) in [
            ("", Reason::RequestInvalid, None),
            ("[]", Reason::RequestInvalid, None),
            ("{\"model\":", Reason::RequestInvalid, None),
            ("{\"model\":5}", Reason::RequestInvalid, Some("model")),
            ("{\"stream\":\"yes\"}", Reason::RequestInvalid, Some("stream")),
        ] {
            let failure = body(text).unwrap_err();
            assert_eq!((failure.reason, failure.param.as_deref()), (reason, param), "{text}: {}", failure.message);
        }
        let failure = Ask::from_body(Bytes::from_static(b"{\"a\":\"\xff\"}"), vec![], None).unwrap_err();
        assert!(failure.message.contains("byte 6"), "{}", failure.message);
    }

    #[test]
    fn words_become_a_body() {
        let words = Words {
            model: "codex/gpt-5.5",
            message: "Hello",
            session: "s1",
            thinking: "low",
            instructions: "Be brief.",
            ..Words::default()
        };
        let ask = Ask::from_words(words, vec![], None).unwrap();
        let body: serde_json::Value = serde_json::from_slice(&ask.body).unwrap();
        let expected = json!({ "model": "codex/gpt-5.5", "stream": true, "instructions": "Be brief.",
            "input": [{ "type": "message", "role": "user", "content": [{ "type": "input_text", "text": "Hello" }] }],
            "reasoning": { "effort": "low" }, "prompt_cache_key": "s1" });
        assert_eq!(body, expected);
        assert_eq!(ask.session, "s1");
    }

    #[test]
    fn words_must_go_together() {
        let refused = |words| Ask::from_words(words, vec![], None).unwrap_err().param.unwrap_or_default();
        assert_eq!(refused(Words::default()), "message");
        assert_eq!(refused(Words { message: "m", thinking: "loud", ..Words::default() }), "thinking");
        assert_eq!(refused(Words { message: "m", body_json: "{}", ..Words::default() }), "message");
        let words = Words { model: "a/b", body_json: "{\"model\":\"c/d\"}", ..Words::default() };
        assert_eq!(Ask::from_words(words, vec![], None).map(|a| a.model), Ok("a/b".to_owned()));
    }
}
