//! System messages as `instructions`.
//!
//! The Codex backend reads the system prompt from `instructions`, and did not accept system messages inside `input` as a
//! substitute; generic Responses clients send nothing else. Those that cannot become instructions become the developer's. Codex CLI's own requests are left as they are: since 0.169
//! it sends its prompt as a developer message on purpose.

use std::borrow::Cow;

use domain::Failure;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Fields, text};

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow, rename = "type", default)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    role: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    text: Cow<'a, str>,
}

/// Makes a list of an `input` that is one string: the backend takes lists only.
pub(super) fn list_input(fields: &mut Fields<'_>) {
    let Some(input) = fields.get("input").filter(|input| input.starts_with('"')) else { return };
    let list = format!(r#"[{{"type":"message","role":"user","content":[{{"type":"input_text","text":{input}}}]}}]"#);
    fields.set("input", list.into());
}

/// Moves the leading text-only system and developer messages of `input` into `instructions`, where there are none.
pub(super) fn instructions(fields: &mut Fields<'_>) -> Result<(), Failure> {
    if fields.filled("instructions").is_some_and(|value| value.as_ref() != "\"\"") {
        return Ok(());
    }
    let Some(input) = fields.get("input") else { return Ok(()) };
    // What is no list is for the upstream to refuse, in its own words.
    let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(input) else { return Ok(()) };
    // The last item stays in any case: an empty input is no request.
    let movable = items.get(..items.len().saturating_sub(1)).unwrap_or_default();
    let texts: Vec<String> = movable.iter().map_while(|item| system_text(item.get())).collect();
    if texts.is_empty() {
        return Ok(());
    }
    let rest: Vec<&str> = items.iter().skip(texts.len()).map(|item| item.get()).collect();
    let rest = format!("[{}]", rest.join(","));
    let filled: Vec<&str> = texts.iter().map(String::as_str).filter(|text| !text.is_empty()).collect();
    fields.set("input", rest.into());
    fields.set("instructions", text(&filled.join("\n\n"))?);
    Ok(())
}

/// Gives the system messages that are left in `input` to the developer: the backend takes none there, and today's models
/// read a developer's in their stead.
pub(super) fn developers(fields: &mut Fields<'_>) {
    let Some(input) = fields.get("input").filter(|input| input.contains("\"system\"")) else { return };
    let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(input) else { return };
    let items: Vec<Cow<'_, str>> = items.iter().map(|item| developers_item(item.get())).collect();
    let list = format!("[{}]", items.join(","));
    fields.set("input", list.into());
}

/// An item, with another role if it is a system message.
fn developers_item(item: &str) -> Cow<'_, str> {
    let read = serde_json::from_str::<Item<'_>>(item).ok();
    let is_message = |item: &Item<'_>| item.kind.as_deref().is_none_or(|kind| kind == "message");
    if !read.is_some_and(|item| is_message(&item) && item.role.as_deref() == Some("system")) {
        return item.into();
    }
    Fields::parse(item.as_bytes()).map_or_else(
        |_| item.into(),
        |mut fields| {
            fields.set("role", "\"developer\"".into());
            fields.write().into()
        },
    )
}

/// The text of a system or developer message that holds nothing else.
fn system_text(item: &str) -> Option<String> {
    let item: Item<'_> = serde_json::from_str(item).ok()?;
    let is_message = item.kind.is_none_or(|kind| kind == "message");
    if !is_message || !matches!(item.role.as_deref(), Some("system" | "developer")) {
        return None;
    }
    let content = item.content?.get();
    if let Ok(text) = serde_json::from_str::<String>(content) {
        return Some(text);
    }
    let parts: Vec<Part<'_>> = serde_json::from_str(content).ok()?;
    let is_text = |part: &Part<'_>| matches!(part.kind.as_ref(), "input_text" | "text" | "output_text");
    parts.iter().all(is_text).then(|| parts.iter().map(|part| part.text.as_ref()).collect::<Vec<_>>().join("\n"))
}
