//! `messages` as `input`.

use std::collections::HashSet;

use domain::Failure;
use serde::Serialize;

use super::fields::{Dropped, Fields, Raw, invalid, is_string, list, unsupported, wrong};

/// An input item of the Responses API.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Item<'a> {
    /// A message.
    Message { role: &'static str, content: Vec<Part<'a>> },
    /// A call that the model made, and what it was to call with.
    FunctionCall { call_id: Raw<'a>, name: Raw<'a>, arguments: Raw<'a> },
    /// The same of a tool that takes any text.
    CustomToolCall { call_id: Raw<'a>, name: Raw<'a>, input: Raw<'a> },
    /// What a function gave.
    FunctionCallOutput { call_id: Raw<'a>, output: Output<'a> },
    /// What a tool gave that takes any text.
    CustomToolCallOutput { call_id: Raw<'a>, output: Output<'a> },
}

/// What a tool gave.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Output<'a> {
    /// One text.
    Text(Raw<'a>),
    /// Several, or images among them.
    Parts(Vec<Part<'a>>),
}

/// A part of a message.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Part<'a> {
    /// Text for the model.
    InputText {
        text: Raw<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        prompt_cache_breakpoint: Option<Raw<'a>>,
    },
    /// An image for the model, by its address or in a data URL.
    InputImage {
        image_url: Raw<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        detail: Option<Raw<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        prompt_cache_breakpoint: Option<Raw<'a>>,
    },
    /// A file for the model.
    InputFile {
        #[serde(skip_serializing_if = "Option::is_none")]
        file_data: Option<Raw<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        file_id: Option<Raw<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        filename: Option<Raw<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        prompt_cache_breakpoint: Option<Raw<'a>>,
    },
    /// Text by the model.
    OutputText { text: Raw<'a> },
    /// The model's words for not answering.
    Refusal { refusal: Raw<'a> },
}

/// Whose words a text is.
#[derive(Clone, Copy, PartialEq)]
enum Speaker {
    Model,
    /// Anybody but the model.
    Others,
}

/// The messages so far.
struct Input<'a> {
    items: Vec<Item<'a>>,
    /// Call ids of tools that take any text.
    custom: HashSet<&'a str>,
}

/// The messages of a request as input items, in their order.
///
/// # Errors
///
/// REQUEST_INVALID for what is no message, UNSUPPORTED for audio and for functions of the old kind.
pub(super) fn input<'a>(messages: Raw<'a>, dropped: &mut Dropped) -> Result<Vec<Item<'a>>, Failure> {
    let messages = list(messages, "messages")?;
    if messages.is_empty() {
        return Err(invalid("`messages` is empty".to_owned()).param("messages"));
    }
    let mut input = Input { items: Vec::with_capacity(messages.len()), custom: HashSet::new() };
    let last = messages.len() - 1;
    let mut leading = true;
    for (index, message) in messages.into_iter().enumerate() {
        let mut message = Fields::of(message, format!("messages[{index}]"))?;
        let role = message.word("role")?.ok_or_else(|| message.missing("role"))?;
        let from_system = matches!(role.as_ref(), "system" | "developer");
        match role.as_ref() {
            // Leading ones are moved into `instructions` where the target wants that. Elsewhere the Codex backend takes
            // no system messages, and today's models read a developer's in their stead.
            "system" if leading && index < last => input.message("system", &mut message, dropped)?,
            "system" | "developer" => input.message("developer", &mut message, dropped)?,
            "user" => input.message("user", &mut message, dropped)?,
            "assistant" => input.assistant(&mut message, dropped)?,
            "tool" => input.tool(&mut message, dropped)?,
            "function" => {
                let instead = "use the role `tool` with a `tool_call_id`, and `tools` instead of `functions`";
                return Err(unsupported(&message.path("role"), "the role `function`", instead));
            }
            _ => {
                let roles = "one of system, developer, user, assistant and tool";
                return Err(wrong(&message.path("role"), roles));
            }
        }
        leading &= from_system;
        message.drop_rest("messages[]", dropped);
    }
    Ok(input.items)
}

impl<'a> Input<'a> {
    fn message(&mut self, role: &'static str, message: &mut Fields<'a>, dropped: &mut Dropped) -> Result<(), Failure> {
        let content = message.take("content").ok_or_else(|| message.missing("content"))?;
        let content = parts(content, &message.path("content"), Speaker::Others, dropped)?;
        self.items.push(Item::Message { role, content });
        Ok(())
    }

    /// What the model said, then what it called, as it stands in the output of the response that this was.
    fn assistant(&mut self, message: &mut Fields<'a>, dropped: &mut Dropped) -> Result<(), Failure> {
        for name in ["function_call", "audio"] {
            if message.take(name).is_some() {
                let instead = if name == "audio" { "send its transcript as text" } else { "use `tool_calls`" };
                return Err(unsupported(&message.path(name), &format!("`{name}` in a message"), instead));
            }
        }
        let mut content = match message.take("content") {
            Some(content) => parts(content, &message.path("content"), Speaker::Model, dropped)?,
            None => Vec::new(),
        };
        content.extend(message.text("refusal")?.map(|refusal| Part::Refusal { refusal }));
        content.retain(|part| !is_empty(part));
        if !content.is_empty() {
            self.items.push(Item::Message { role: "assistant", content });
        }
        let place = message.path("tool_calls");
        for (index, call) in message.list("tool_calls")?.unwrap_or_default().into_iter().enumerate() {
            let call = Fields::of(call, format!("{place}[{index}]"))?;
            self.call(call, dropped)?;
        }
        Ok(())
    }

    fn call(&mut self, mut call: Fields<'a>, dropped: &mut Dropped) -> Result<(), Failure> {
        let call_id = call.needed_text("id")?;
        let kind = call.word("type")?;
        let place = call.path("type");
        let item = match kind.as_deref() {
            // Some clients leave the type out.
            None | Some("function") => {
                let mut function = call.needed_object("function")?;
                let (name, arguments) = (function.needed_text("name")?, function.needed_text("arguments")?);
                function.drop_rest("messages[].tool_calls[].function", dropped);
                Item::FunctionCall { call_id, name, arguments }
            }
            Some("custom") => {
                let mut custom = call.needed_object("custom")?;
                let (name, input) = (custom.needed_text("name")?, custom.needed_text("input")?);
                custom.drop_rest("messages[].tool_calls[].custom", dropped);
                self.custom.insert(call_id.get());
                Item::CustomToolCall { call_id, name, input }
            }
            Some(_) => return Err(wrong(&place, "`function` or `custom`")),
        };
        self.items.push(item);
        // Clients that gather a stream send the numbers of its calls back.
        call.take("index");
        call.drop_rest("messages[].tool_calls[]", dropped);
        Ok(())
    }

    fn tool(&mut self, message: &mut Fields<'a>, dropped: &mut Dropped) -> Result<(), Failure> {
        let call_id = message.needed_text("tool_call_id")?;
        let content = message.take("content").ok_or_else(|| message.missing("content"))?;
        let parts = parts(content, &message.path("content"), Speaker::Others, dropped)?;
        let output = match parts.as_slice() {
            // The shape that every server knows.
            [Part::InputText { text, prompt_cache_breakpoint: None }] => Output::Text(text),
            _ => Output::Parts(parts),
        };
        self.items.push(if self.custom.contains(call_id.get()) {
            Item::CustomToolCallOutput { call_id, output }
        } else {
            Item::FunctionCallOutput { call_id, output }
        });
        Ok(())
    }
}

/// The content of a message, be it one text or parts.
fn parts<'a>(content: Raw<'a>, place: &str, speaker: Speaker, dropped: &mut Dropped) -> Result<Vec<Part<'a>>, Failure> {
    if is_string(content) {
        return Ok(vec![text(content, None, speaker)]);
    }
    let parts = list(content, place).map_err(|_| wrong(place, "a string or a list of parts"))?;
    let part = |(index, part)| {
        let mut part = Fields::of(part, format!("{place}[{index}]"))?;
        let read = read_part(&mut part, &format!("{place}[{index}]"), speaker, dropped)?;
        part.drop_rest("messages[].content[]", dropped);
        Ok(read)
    };
    parts.into_iter().enumerate().map(part).collect()
}

fn read_part<'a>(
    part: &mut Fields<'a>,
    place: &str,
    speaker: Speaker,
    dropped: &mut Dropped,
) -> Result<Part<'a>, Failure> {
    let kind = part.word("type")?.ok_or_else(|| part.missing("type"))?;
    let prompt_cache_breakpoint = part.take("prompt_cache_breakpoint");
    match (kind.as_ref(), speaker) {
        ("text", _) => Ok(text(part.needed_text("text")?, prompt_cache_breakpoint, speaker)),
        ("refusal", Speaker::Model) => Ok(Part::Refusal { refusal: part.needed_text("refusal")? }),
        ("image_url", Speaker::Others) => {
            let image = part.take("image_url").ok_or_else(|| part.missing("image_url"))?;
            // Some clients send the address alone.
            if is_string(image) {
                return Ok(Part::InputImage { image_url: image, detail: None, prompt_cache_breakpoint });
            }
            let mut image = Fields::of(image, part.path("image_url"))?;
            let (image_url, detail) = (image.needed_text("url")?, image.text("detail")?);
            image.drop_rest("messages[].content[].image_url", dropped);
            Ok(Part::InputImage { image_url, detail, prompt_cache_breakpoint })
        }
        ("file", Speaker::Others) => {
            let mut file = part.needed_object("file")?;
            let (file_data, file_id, filename) =
                (file.text("file_data")?, file.text("file_id")?, file.text("filename")?);
            file.drop_rest("messages[].content[].file", dropped);
            Ok(Part::InputFile { file_data, file_id, filename, prompt_cache_breakpoint })
        }
        ("input_audio", _) => Err(unsupported(place, "audio input", "send a transcript as text")),
        (_, Speaker::Model) => Err(wrong(&part.path("type"), "`text` or `refusal`")),
        (_, Speaker::Others) => Err(wrong(&part.path("type"), "one of text, image_url and file")),
    }
}

fn text<'a>(text: Raw<'a>, prompt_cache_breakpoint: Option<Raw<'a>>, speaker: Speaker) -> Part<'a> {
    match speaker {
        Speaker::Model => Part::OutputText { text },
        Speaker::Others => Part::InputText { text, prompt_cache_breakpoint },
    }
}

/// True for words of the model that say nothing: an answer that only called tools comes back with them.
fn is_empty(part: &Part<'_>) -> bool {
    matches!(part, Part::OutputText { text: words } | Part::Refusal { refusal: words } if words.get() == "\"\"")
}
