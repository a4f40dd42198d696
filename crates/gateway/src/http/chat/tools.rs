//! `tools` and `tool_choice`: the same things, one level flatter.

use domain::Failure;
use serde::Serialize;
use serde_json::value::RawValue;

use super::fields::{Dropped, Fields, Raw, is_string, unsupported, word, wrong};

/// A tool of the Responses API.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Tool<'a> {
    /// It takes arguments in JSON.
    Function {
        name: Raw<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<Raw<'a>>,
        parameters: Parameters<'a>,
        strict: bool,
    },
    /// It takes any text.
    Custom {
        name: Raw<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<Raw<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        format: Option<Format<'a>>,
    },
}

/// The schema of a function's arguments.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Parameters<'a> {
    /// As it came.
    Given(Raw<'a>),
    /// None was given, which means that there are none; the Responses API wants that said.
    None(NoParameters),
}

/// The schema of no arguments.
#[derive(Serialize)]
pub(super) struct NoParameters {
    #[serde(rename = "type")]
    kind: &'static str,
    properties: Empty,
}

#[derive(Serialize)]
struct Empty {}

/// What a custom tool's text must look like.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Format<'a> {
    /// Any text.
    Text,
    /// A text of this grammar.
    Grammar { definition: Raw<'a>, syntax: Raw<'a> },
}

/// Which tools the model may or must call.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Choice<'a> {
    /// `none`, `auto` or `required`.
    Mode(Raw<'a>),
    /// This one.
    Named(Named<'a>),
    /// Only these.
    Allowed {
        #[serde(rename = "type")]
        kind: &'static str,
        mode: Raw<'a>,
        tools: Vec<Named<'a>>,
    },
}

/// A tool by its name.
#[derive(Serialize)]
pub(super) struct Named<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    name: &'a RawValue,
}

/// The tools of a request.
///
/// # Errors
///
/// REQUEST_INVALID for what is no tool, UNSUPPORTED for kinds that Chat Completions does not have.
pub(super) fn tools<'a>(tools: Vec<Raw<'a>>, dropped: &mut Dropped) -> Result<Vec<Tool<'a>>, Failure> {
    let tool = |(index, tool)| {
        let mut tool = Fields::of(tool, format!("tools[{index}]"))?;
        let read = match kind(&mut tool)? {
            "function" => function(tool.needed_object("function")?, dropped)?,
            _ => custom(tool.needed_object("custom")?, dropped)?,
        };
        tool.drop_rest("tools[]", dropped);
        Ok(read)
    };
    tools.into_iter().enumerate().map(tool).collect()
}

fn function<'a>(mut function: Fields<'a>, dropped: &mut Dropped) -> Result<Tool<'a>, Failure> {
    let none = NoParameters { kind: "object", properties: Empty {} };
    let tool = Tool::Function {
        name: function.needed_text("name")?,
        description: function.text("description")?,
        parameters: function.take("parameters").map_or(Parameters::None(none), Parameters::Given),
        // Without a word, Chat Completions means false and Responses means true.
        strict: function.truth("strict")?.unwrap_or(false),
    };
    function.drop_rest("tools[].function", dropped);
    Ok(tool)
}

fn custom<'a>(mut custom: Fields<'a>, dropped: &mut Dropped) -> Result<Tool<'a>, Failure> {
    let (name, description) = (custom.needed_text("name")?, custom.text("description")?);
    let format = custom.object("format")?.map(format).transpose()?;
    custom.drop_rest("tools[].custom", dropped);
    Ok(Tool::Custom { name, description, format })
}

fn format(mut format: Fields<'_>) -> Result<Format<'_>, Failure> {
    let place = format.path("type");
    match format.word("type")?.as_deref() {
        Some("text") => Ok(Format::Text),
        Some("grammar") => {
            let mut grammar = format.needed_object("grammar")?;
            Ok(Format::Grammar {
                definition: grammar.needed_text("definition")?,
                syntax: grammar.needed_text("syntax")?,
            })
        }
        _ => Err(wrong(&place, "`text` or `grammar`")),
    }
}

/// What is chosen of the tools; `None` if that is what happens without a choice.
///
/// # Errors
///
/// REQUEST_INVALID for what is no choice.
pub(super) fn choice<'a>(choice: Raw<'a>, any_tools: bool) -> Result<Option<Choice<'a>>, Failure> {
    if is_string(choice) {
        // Without tools these two change nothing, and a choice without tools may be refused.
        let idle = !any_tools && matches!(word(choice).as_ref(), "none" | "auto");
        return Ok((!idle).then_some(Choice::Mode(choice)));
    }
    let place = "tool_choice".to_owned();
    let mut choice = Fields::of(choice, place).map_err(|_| wrong("tool_choice", "a string or an object"))?;
    if choice.has("allowed_tools") {
        let mut allowed = choice.needed_object("allowed_tools")?;
        let mode = allowed.needed_text("mode")?;
        let place = allowed.path("tools");
        let tools = allowed.list("tools")?.ok_or_else(|| allowed.missing("tools"))?;
        let named = |(index, tool)| Fields::of(tool, format!("{place}[{index}]")).and_then(named);
        let tools = tools.into_iter().enumerate().map(named).collect::<Result<_, _>>()?;
        return Ok(Some(Choice::Allowed { kind: "allowed_tools", mode, tools }));
    }
    Ok(Some(Choice::Named(named(choice)?)))
}

fn named(mut tool: Fields<'_>) -> Result<Named<'_>, Failure> {
    let kind = kind(&mut tool)?;
    Ok(Named { kind, name: tool.needed_object(kind)?.needed_text("name")? })
}

/// The kind of a tool.
fn kind(tool: &mut Fields<'_>) -> Result<&'static str, Failure> {
    let place = tool.path("type");
    match tool.word("type")?.as_deref() {
        Some("function") => Ok("function"),
        Some("custom") => Ok("custom"),
        Some(_) => Err(unsupported(
            &place,
            "a tool that is neither `function` nor `custom`",
            "use POST /v1/responses, which passes tools of any kind",
        )),
        None => Err(tool.missing("type")),
    }
}
