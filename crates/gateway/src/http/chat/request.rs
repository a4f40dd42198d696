//! A Chat Completions request as a Responses body. docs/clients.md has the table of every parameter.

use bytes::Bytes;
use domain::Failure;
use serde::Serialize;
use serde_json::Value;

use super::fields::{Dropped, Fields, Raw, invalid, is_string, unsupported, value, word, wrong};
use super::messages::{self, Item};
use super::tools::{self, Choice, Tool};

/// What an answer has to know of its request.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Wanted {
    /// The answer is streamed.
    pub(super) stream: bool,
    /// The stream ends with a chunk that tells the tokens.
    pub(super) include_usage: bool,
    /// Names of fields that had no place in the Responses body.
    pub(super) dropped: Vec<String>,
    /// How the caller called `max_output_tokens`.
    pub(super) limit: Option<&'static str>,
}

#[derive(Serialize)]
struct Responses<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<Raw<'a>>,
    stream: bool,
    store: bool,
    input: Vec<Item<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Choice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parallel_tool_calls: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<Reasoning<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<Raw<'a>>,
    #[serde(flatten)]
    same: Same<'a>,
}

/// What both APIs call by one name and mean alike.
#[derive(Serialize)]
struct Same<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<Raw<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<Raw<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Raw<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<Raw<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    safety_identifier: Option<Raw<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<Raw<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_cache_key: Option<Raw<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_cache_options: Option<Raw<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_cache_retention: Option<Raw<'a>>,
}

#[derive(Serialize)]
struct Reasoning<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    effort: Option<Raw<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<Summary<'a>>,
}

/// How much of its reasoning the model shows.
#[derive(Serialize)]
#[serde(untagged)]
enum Summary<'a> {
    /// As the caller says.
    Given(Raw<'a>),
    /// The caller wants reasoning and says no more of it.
    Auto(&'static str),
}

#[derive(Serialize)]
struct Text<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<Format<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verbosity: Option<Raw<'a>>,
}

/// What the answer's text must look like.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Format<'a> {
    Text,
    JsonObject,
    JsonSchema {
        name: Raw<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<Raw<'a>>,
        schema: Raw<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        strict: Option<Raw<'a>>,
    },
}

/// A parameter that the Responses API does not have: what it may hold so that it says nothing, and what to do instead.
struct Lacking {
    name: &'static str,
    neutral: fn(&Value) -> bool,
    instead: &'static str,
}

const RESPONSES: &str = "leave it out, or use POST /v1/responses";
const LACKING: &[Lacking] = &[
    Lacking { name: "n", neutral: |v| v == 1, instead: "make a call for each answer" },
    Lacking { name: "stop", neutral: is_blank, instead: "cut the text where it is received" },
    Lacking { name: "presence_penalty", neutral: is_zero, instead: "leave it out" },
    Lacking { name: "frequency_penalty", neutral: is_zero, instead: "leave it out" },
    Lacking { name: "logit_bias", neutral: is_blank, instead: "leave it out" },
    Lacking { name: "logprobs", neutral: |v| v == false, instead: RESPONSES },
    Lacking { name: "top_logprobs", neutral: is_zero, instead: RESPONSES },
    Lacking {
        name: "modalities",
        neutral: |v| is_blank(v) || *v == serde_json::json!(["text"]),
        instead: "ask for text",
    },
    Lacking { name: "audio", neutral: |_| false, instead: "ask for text" },
    Lacking {
        name: "web_search_options",
        neutral: |_| false,
        instead: "use POST /v1/responses with a web search tool",
    },
    Lacking { name: "moderation", neutral: |_| false, instead: RESPONSES },
    Lacking { name: "functions", neutral: is_blank, instead: "use `tools`" },
    Lacking { name: "function_call", neutral: |v| v == "none" || v == "auto", instead: "use `tool_choice`" },
];

fn is_zero(value: &Value) -> bool {
    value.as_f64() == Some(0.0)
}

fn is_blank(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// The Responses body that asks the same.
///
/// # Errors
///
/// REQUEST_INVALID for what is no such request, UNSUPPORTED for what cannot be asked; both name the field.
pub(super) fn translate(body: &[u8]) -> Result<(Bytes, Wanted), Failure> {
    let mut fields = Fields::of_body(body)?;
    let mut dropped = Dropped::default();
    refuse_lacking(&mut fields)?;
    let stream = fields.truth("stream")?.unwrap_or(false);
    let include_usage = include_usage(&mut fields, &mut dropped)?;
    let messages = fields.take("messages").ok_or_else(|| fields.missing("messages"))?;
    let given_tools = fields.list("tools")?.unwrap_or_default();
    let any_tools = !given_tools.is_empty();
    let (limit, max_output_tokens) = limit(&mut fields);
    let parallel_tool_calls = fields.truth("parallel_tool_calls")?.filter(|_| any_tools);
    let asked = Responses {
        model: fields.text("model")?,
        stream,
        // Without a word, Chat Completions means false and Responses means true.
        store: fields.truth("store")?.unwrap_or(false),
        input: messages::input(messages, &mut dropped)?,
        tools: tools::tools(given_tools, &mut dropped)?,
        tool_choice: fields.take("tool_choice").map(|c| tools::choice(c, any_tools)).transpose()?.flatten(),
        parallel_tool_calls,
        reasoning: reasoning(&mut fields, &mut dropped)?,
        text: text(&mut fields, &mut dropped)?,
        max_output_tokens,
        same: Same {
            temperature: fields.take("temperature"),
            top_p: fields.take("top_p"),
            metadata: fields.take("metadata"),
            user: fields.text("user")?,
            safety_identifier: fields.text("safety_identifier")?,
            service_tier: fields.text("service_tier")?,
            prompt_cache_key: fields.text("prompt_cache_key")?,
            prompt_cache_options: fields.take("prompt_cache_options"),
            prompt_cache_retention: fields.take("prompt_cache_retention"),
        },
    };
    fields.drop_rest("", &mut dropped);
    let body = serde_json::to_vec(&asked).map_err(|e| invalid(format!("the request cannot be written: {e}")))?;
    Ok((body.into(), Wanted { stream, include_usage, dropped: dropped.into_names(), limit }))
}

fn refuse_lacking(fields: &mut Fields<'_>) -> Result<(), Failure> {
    for Lacking { name, neutral, instead } in LACKING {
        if fields.take(name).is_some_and(|given| !neutral(&value(given))) {
            return Err(unsupported(name, &format!("`{name}` with this value"), instead));
        }
    }
    Ok(())
}

fn include_usage(fields: &mut Fields<'_>, dropped: &mut Dropped) -> Result<bool, Failure> {
    let Some(mut options) = fields.object("stream_options")? else { return Ok(false) };
    let include = options.truth("include_usage")?.unwrap_or(false);
    options.drop_rest("stream_options", dropped);
    Ok(include)
}

/// The most tokens of the answer, and how the caller called it. The newer name counts where both are given.
fn limit<'a>(fields: &mut Fields<'a>) -> (Option<&'static str>, Option<Raw<'a>>) {
    let (newer, older) = (fields.take("max_completion_tokens"), fields.take("max_tokens"));
    match (newer, older) {
        (Some(newer), _) => (Some("max_completion_tokens"), Some(newer)),
        (None, Some(older)) => (Some("max_tokens"), Some(older)),
        (None, None) => (None, None),
    }
}

/// `reasoning_effort`, or the object of the Responses API in its place or as `reasoning`. Whoever asks for an effort
/// is shown a summary, unless they say otherwise: that is what `reasoning_content` is made of.
fn reasoning<'a>(fields: &mut Fields<'a>, dropped: &mut Dropped) -> Result<Option<Reasoning<'a>>, Failure> {
    let mut asked = fields.object("reasoning")?;
    let mut effort = fields.take("reasoning_effort");
    if let Some(object) = effort.filter(|effort| !is_string(effort)) {
        effort = None;
        let object = Fields::of(object, fields.path("reasoning_effort"));
        asked = Some(object.map_err(|_| wrong("reasoning_effort", "a string"))?);
    }
    let mut summary = None;
    let mut silent = false;
    if let Some(mut asked) = asked {
        effort = asked.text("effort")?.or(effort);
        silent = asked.has("summary");
        summary = asked.text("summary")?.map(Summary::Given);
        asked.drop_rest("reasoning", dropped);
    }
    if summary.is_none() && !silent && effort.is_some_and(|effort| word(effort) != "none") {
        summary = Some(Summary::Auto("auto"));
    }
    Ok((effort.is_some() || summary.is_some()).then_some(Reasoning { effort, summary }))
}

fn text<'a>(fields: &mut Fields<'a>, dropped: &mut Dropped) -> Result<Option<Text<'a>>, Failure> {
    let format = fields.object("response_format")?.map(|format| text_format(format, dropped)).transpose()?;
    let verbosity = fields.text("verbosity")?;
    Ok((format.is_some() || verbosity.is_some()).then_some(Text { format, verbosity }))
}

fn text_format<'a>(mut format: Fields<'a>, dropped: &mut Dropped) -> Result<Format<'a>, Failure> {
    let place = format.path("type");
    match format.word("type")?.as_deref() {
        Some("text") => Ok(Format::Text),
        Some("json_object") => Ok(Format::JsonObject),
        Some("json_schema") => {
            let mut schema = format.needed_object("json_schema")?;
            let read = Format::JsonSchema {
                name: schema.needed_text("name")?,
                description: schema.text("description")?,
                schema: schema.take("schema").ok_or_else(|| schema.missing("schema"))?,
                strict: schema.take("strict"),
            };
            schema.drop_rest("response_format.json_schema", dropped);
            Ok(read)
        }
        Some(_) => Err(wrong(&place, "one of text, json_object and json_schema")),
        None => Err(format.missing("type")),
    }
}

#[cfg(test)]
mod tests;
