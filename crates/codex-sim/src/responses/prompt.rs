//! What a request asks of the simulator: its last user message, directives in it, and tool outputs.

use serde_json::{Map, Value};

use crate::scenario::{Scenario, UnknownScenario};

const OPEN: &str = "[[sim:";
const CLOSE: &str = "]]";
/// The bare word that asks for a tool call, for clients that mangle brackets.
const TOOL_WORD: &str = "sim:tool";

/// A tool call that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ToolWish {
    /// The arguments, if the directive gave some.
    pub(crate) arguments: Option<String>,
}

/// The readable part of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Prompt {
    /// The text of the last user message, directives removed.
    pub(crate) text: String,
    pub(crate) scenarios: Vec<Scenario>,
    pub(crate) tool: Option<ToolWish>,
    /// What tools gave since that message.
    pub(crate) tool_output: Option<String>,
}

impl Prompt {
    /// Reads a body; one without a user message asks for nothing.
    pub(crate) fn read(body: &Map<String, Value>) -> Result<Self, UnknownScenario> {
        let Some(input) = body.get("input") else { return Ok(Self::default()) };
        if let Some(text) = input.as_str() {
            return Self::from_text(text, None);
        }
        let items = input.as_array().map(Vec::as_slice).unwrap_or_default();
        let is_user =
            |item: &&Value| item["role"] == "user" && item["type"].as_str().is_none_or(|kind| kind == "message");
        let Some(last) = items.iter().rposition(|item| is_user(&item)) else { return Ok(Self::default()) };
        let outputs: Vec<String> = items[last..].iter().filter_map(tool_output).collect();
        Self::from_text(&content_text(&items[last]["content"]), (!outputs.is_empty()).then(|| outputs.join("\n")))
    }

    fn from_text(text: &str, tool_output: Option<String>) -> Result<Self, UnknownScenario> {
        let mut prompt = Self { tool_output, ..Self::default() };
        let mut rest = text;
        while let Some(start) = rest.find(OPEN) {
            prompt.text.push_str(&rest[..start]);
            let directive = &rest[start + OPEN.len()..];
            let end = directive_end(directive).ok_or_else(|| UnknownScenario(directive.chars().take(80).collect()))?;
            prompt.direct(&directive[..end])?;
            rest = &directive[end + CLOSE.len()..];
        }
        prompt.text.push_str(rest);
        if prompt.tool.is_none() && prompt.text.contains(TOOL_WORD) {
            prompt.tool = Some(ToolWish { arguments: None });
        }
        prompt.text = prompt.text.trim().to_owned();
        Ok(prompt)
    }

    fn direct(&mut self, directive: &str) -> Result<(), UnknownScenario> {
        match directive.trim().strip_prefix("tool") {
            Some(arguments) => {
                let arguments = arguments.trim();
                self.tool = Some(ToolWish { arguments: (!arguments.is_empty()).then(|| arguments.to_owned()) });
            }
            None => self.scenarios.push(directive.parse()?),
        }
        Ok(())
    }

    /// The answer in words: what was asked for, what a tool gave, or an echo.
    pub(crate) fn answer(&self) -> String {
        if let Some(output) = &self.tool_output {
            return format!("The tool answered: {output}");
        }
        match self.text.rsplit_once("Reply exactly:") {
            Some((_, wanted)) => wanted.trim().lines().next().unwrap_or_default().trim().to_owned(),
            None if self.text.is_empty() => "Hello from the simulated Codex backend.".to_owned(),
            None => format!("You said: {}", self.text.chars().take(400).collect::<String>()),
        }
    }
}

/// Where a directive ends. Arguments are JSON and may hold brackets of their own.
fn directive_end(directive: &str) -> Option<usize> {
    let close = directive.find(CLOSE)?;
    match directive.find('{') {
        Some(brace) if brace < close => {
            let mut values = serde_json::Deserializer::from_str(&directive[brace..]).into_iter::<Value>();
            values.next()?.ok()?;
            let after = brace + values.byte_offset();
            directive[after..].find(CLOSE).map(|close| after + close)
        }
        _ => Some(close),
    }
}

/// The text of a message's content, be it a string or a list of parts.
fn content_text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n"),
        _ => String::new(),
    }
}

fn tool_output(item: &Value) -> Option<String> {
    let kind = item["type"].as_str()?;
    matches!(kind, "function_call_output" | "custom_tool_call_output" | "local_shell_call_output")
        .then(|| content_text(&item["output"]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(input: Value) -> Prompt {
        Prompt::read(json!({ "input": input }).as_object().unwrap()).unwrap()
    }

    #[test]
    fn the_last_user_message_counts_and_directives_are_taken_out() {
        let prompt = read(json!([
            { "role": "user", "content": "[[sim:server_error]]" },
            { "type": "message", "role": "user", "content": [
                { "type": "input_text", "text": "Reply exactly: OK [[sim:long:3]] [[sim:cut:2]]" } ] },
        ]));
        assert_eq!(prompt.answer(), "OK");
        assert_eq!(prompt.scenarios.len(), 2);
    }

    #[test]
    fn tool_arguments_may_hold_brackets() {
        let prompt = read(json!("please [[sim:tool {\"cmd\":\"echo ]]\",\"a\":[[1]]}]] now"));
        let wish = prompt.tool.unwrap();
        assert_eq!(wish.arguments.as_deref(), Some("{\"cmd\":\"echo ]]\",\"a\":[[1]]}"));
        assert_eq!(prompt.text, "please  now");
        assert!(read(json!("do sim:tool")).tool.is_some());
    }

    #[test]
    fn a_tool_output_counts_only_after_the_last_user_message() {
        let output = json!({ "type": "function_call_output", "call_id": "c", "output": "hi" });
        let user = json!({ "role": "user", "content": "sim:tool" });
        assert_eq!(read(json!([user, output])).answer(), "The tool answered: hi");
        assert!(read(json!([output, user])).tool_output.is_none());
    }

    #[test]
    fn a_typing_error_in_a_directive_is_an_error() {
        let body = json!({ "input": "[[sim:usage_limt]]" });
        assert!(Prompt::read(body.as_object().unwrap()).is_err());
    }
}
