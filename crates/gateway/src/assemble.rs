//! A stream of Responses events as what a person or an unary caller wants of it: texts, tool calls, the whole object.

use bytes::Bytes;
use domain::sse::{Event, MAX_WHOLE_EVENT_BYTES, Splitter};
use proto::gateway::v1::ToolCall;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// Largest stream of which a response is put together: more would not fit in one answer of ours either.
const MAX_STREAM_BYTES: usize = 128 * 1024 * 1024;

/// One event, as the typed face tells it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Told {
    /// What it means.
    pub(crate) kind: Kind,
    /// Its JSON as it came.
    pub(crate) data: Bytes,
}

/// What an event means.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    /// A piece of the answer's text.
    Text(String),
    /// A piece of the reasoning summary.
    Reasoning(String),
    /// A complete tool call.
    Tool(ToolCall),
    /// Any other, by its type.
    Other(String),
}

/// Collects a response.
#[derive(Default)]
pub(crate) struct Assembler {
    splitter: Option<Splitter>,
    /// Finished items, as they came.
    items: Vec<Box<RawValue>>,
    /// Texts of finished messages.
    texts: Vec<String>,
    tool_calls: Vec<ToolCall>,
    /// Text of the message that has not finished.
    pending: String,
    /// The response object of the terminal event.
    response: Option<Box<RawValue>>,
    /// Bytes taken so far.
    taken: usize,
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    delta: Option<&'a RawValue>,
    #[serde(borrow)]
    item: Option<&'a RawValue>,
    #[serde(borrow)]
    response: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Item {
    #[serde(rename = "type", default)]
    kind: String,
    id: Option<String>,
    call_id: Option<String>,
    #[serde(default)]
    name: String,
    arguments: Option<String>,
    input: Option<String>,
    content: Option<Vec<Part>>,
}

#[derive(Deserialize)]
struct Part {
    text: Option<String>,
    refusal: Option<String>,
}

#[derive(Deserialize)]
struct Output<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    output: Option<&'a RawValue>,
}

/// A field that is there, even as `null`: its place in the text matters.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

impl Assembler {
    /// Takes bytes of the stream; gives the events that end in them.
    pub(crate) fn push(&mut self, bytes: Bytes) -> Vec<Told> {
        self.taken = self.taken.saturating_add(bytes.len());
        let piece = self.splitter.get_or_insert_with(|| Splitter::new(MAX_WHOLE_EVENT_BYTES)).push(bytes);
        let events = piece.map(|p| p.events).unwrap_or_default();
        events.into_iter().filter(|e| e.data.as_ref() != b"[DONE]" && !e.digest).map(|event| self.tell(event)).collect()
    }

    fn tell(&mut self, event: Event) -> Told {
        let kind = event.kind();
        let wire = serde_json::from_slice::<Wire<'_>>(&event.data).ok();
        let meaning = wire.and_then(|wire| self.read(&kind, &wire));
        if self.is_too_large() {
            // Its events can be told all the same, one by one.
            (self.items, self.texts, self.tool_calls) = Default::default();
            (self.pending, self.response) = Default::default();
        }
        Told { kind: meaning.unwrap_or(Kind::Other(kind)), data: event.data }
    }

    /// True once more has come than is put together: there is no response then, and no result.
    pub(crate) fn is_too_large(&self) -> bool {
        self.taken > MAX_STREAM_BYTES
    }

    fn read(&mut self, kind: &str, wire: &Wire<'_>) -> Option<Kind> {
        let delta = || serde_json::from_str::<String>(wire.delta?.get()).ok();
        match kind {
            "response.output_text.delta" | "response.refusal.delta" => {
                let delta = delta()?;
                self.pending.push_str(&delta);
                Some(Kind::Text(delta))
            }
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => delta().map(Kind::Reasoning),
            "response.output_item.done" => {
                let item = wire.item?;
                self.items.push(item.to_owned());
                self.finished(serde_json::from_str(item.get()).ok()?)
            }
            "response.completed" | "response.incomplete" | "response.done" => {
                self.response = wire.response.map(ToOwned::to_owned);
                None
            }
            _ => None,
        }
    }

    /// An item has finished. Deltas are only a preview of it; where there were none, it is told whole.
    fn finished(&mut self, item: Item) -> Option<Kind> {
        match item.kind.as_str() {
            "message" => {
                let previewed = !std::mem::take(&mut self.pending).is_empty();
                let text = text_of(item)?;
                self.texts.push(text.clone());
                (!previewed).then_some(Kind::Text(text))
            }
            "function_call" | "custom_tool_call" => {
                let call = tool_call(item);
                self.tool_calls.push(call.clone());
                Some(Kind::Tool(call))
            }
            _ => None,
        }
    }

    /// The response object as the upstream gave it. Its `output` is filled in from the finished items where the upstream
    /// left it out; not a byte of the rest is changed. `None` if there was no terminal event with one.
    pub(crate) fn response(&self) -> Option<String> {
        let response = self.response.as_deref()?.get();
        let output = serde_json::from_str::<Output<'_>>(response).ok()?.output;
        let lacks = output.is_none_or(|o| o.get() == "null" || o.get().trim_matches(['[', ']', ' ', '\n']).is_empty());
        if !lacks || self.items.is_empty() {
            return Some(response.to_owned());
        }
        let items: Vec<&str> = self.items.iter().map(|i| i.get()).collect();
        let items = format!("[{}]", items.join(","));
        Some(match output {
            // `raw_value` borrows from `response`, so its address tells its place.
            Some(raw) => {
                let from = (raw.get().as_ptr() as usize).saturating_sub(response.as_ptr() as usize);
                let (before, after) = (response.get(..from)?, response.get(from + raw.get().len()..)?);
                format!("{before}{items}{after}")
            }
            None => {
                let rest = response.trim_start().strip_prefix('{')?;
                let comma = if rest.trim_start().starts_with('}') { "" } else { "," };
                format!("{{\"output\":{items}{comma}{rest}")
            }
        })
    }

    /// Texts and tool calls: of the finished items, else of the response object, else of the deltas.
    pub(crate) fn result(mut self) -> (Vec<String>, Vec<ToolCall>) {
        if self.items.is_empty()
            && let Some(response) = &self.response
            && let Some(output) = serde_json::from_str::<Output<'_>>(response.get()).ok().and_then(|r| r.output)
        {
            for item in serde_json::from_str::<Vec<&RawValue>>(output.get()).unwrap_or_default() {
                match serde_json::from_str::<Item>(item.get()) {
                    Ok(item) if item.kind == "message" => self.texts.extend(text_of(item)),
                    Ok(item) if matches!(item.kind.as_str(), "function_call" | "custom_tool_call") => {
                        self.tool_calls.push(tool_call(item));
                    }
                    _ => {}
                }
            }
            if !self.texts.is_empty() {
                self.pending.clear();
            }
        }
        if !self.pending.is_empty() {
            self.texts.push(self.pending);
        }
        (self.texts, self.tool_calls)
    }
}

fn text_of(item: Item) -> Option<String> {
    let parts = item.content?.into_iter().filter_map(|part| part.text.or(part.refusal));
    Some(parts.collect())
}

fn tool_call(item: Item) -> ToolCall {
    ToolCall {
        call_id: item.call_id.or(item.id).unwrap_or_default(),
        name: item.name,
        arguments: item.arguments.or(item.input).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = include_str!("../tests/fixtures/full_text.sse");
    const MINIMAL: &str = include_str!("../tests/fixtures/minimal_text.sse");
    const TOOL: &str = include_str!("../tests/fixtures/tool_call_turn1.sse");

    fn assemble(stream: &str) -> (Assembler, Vec<Kind>) {
        let mut assembler = Assembler::default();
        let told = assembler.push(Bytes::from(stream.to_owned()));
        (assembler, told.into_iter().map(|t| t.kind).collect())
    }

    #[test]
    fn deltas_preview_what_the_finished_item_says() {
        let (assembler, told) = assemble(FULL);
        assert_eq!(told.iter().filter(|k| matches!(k, Kind::Text(_))).count(), 1);
        assert_eq!(told[2], Kind::Text("MOCK ANSWER".into()));
        assert_eq!(told[4], Kind::Other("response.completed".into()));
        assert_eq!(assembler.result(), (vec!["MOCK ANSWER".into()], vec![]));
    }

    #[test]
    fn without_deltas_the_finished_item_is_told_whole() {
        let (assembler, told) = assemble(MINIMAL);
        assert_eq!(told[0], Kind::Text("MINIMAL ANSWER".into()));
        assert_eq!(assembler.result().0, ["MINIMAL ANSWER"]);
    }

    #[test]
    fn tool_calls_are_told_when_they_are_complete() {
        let call = ToolCall {
            call_id: "call_1".into(),
            name: "exec_command".into(),
            arguments: r#"{"cmd": "echo hello-from-tool"}"#.into(),
        };
        let (assembler, told) = assemble(TOOL);
        assert_eq!(told[1], Kind::Tool(call.clone()));
        assert_eq!(assembler.result(), (vec![], vec![call]));
        let custom = r#"{"type":"custom_tool_call","call_id":"c","name":"apply_patch","input":"*** Begin"}"#;
        let stream = format!("data: {{\"type\":\"response.output_item.done\",\"item\":{custom}}}\n\n");
        assert_eq!(assemble(&stream).0.result().1[0].arguments, "*** Begin");
    }

    #[test]
    fn output_is_filled_in_where_it_lacks_and_nothing_else_changes() {
        let item = r#"{"type":"message", "content":[{"type":"output_text","text":"Hi"}]}"#;
        for (response, expected) in [
            (r#"{"id":"r" , "x":1.50}"#, r#"{"output":[ITEM],"id":"r" , "x":1.50}"#),
            (r#"{"id":"r","output":[],"x":1e2}"#, r#"{"id":"r","output":[ITEM],"x":1e2}"#),
            (r#"{"output": null}"#, r#"{"output": [ITEM]}"#),
            ("{}", r#"{"output":[ITEM]}"#),
            (r#"{"output":[{"a":1}]}"#, r#"{"output":[{"a":1}]}"#),
        ] {
            let stream = format!(
                "data: {{\"type\":\"response.output_item.done\",\"item\":{item}}}\n\n\
                 data: {{\"type\":\"response.completed\",\"response\":{response}}}\n\n"
            );
            assert_eq!(assemble(&stream).0.response(), Some(expected.replace("ITEM", item)), "{response}");
        }
    }

    #[test]
    fn what_is_too_large_is_told_and_not_kept() {
        let mut assembler = Assembler::default();
        let big = "x".repeat(16 * 1024 * 1024);
        let delta = format!("data: {{\"type\":\"response.output_text.delta\",\"delta\":\"{big}\"}}\n\n");
        for _ in 0..9 {
            let told = assembler.push(Bytes::from(delta.clone()));
            assert_eq!(told.len(), 1);
        }
        assert!(assembler.is_too_large() && assembler.pending.is_empty());
        assert_eq!((assembler.response(), assembler.result()), (None, (vec![], vec![])));
    }

    #[test]
    fn what_is_no_item_comes_from_the_response_or_the_deltas() {
        let response = "data: {\"type\":\"response.completed\",\"response\":{\"output\":[{\"type\":\"message\",\
            \"content\":[{\"type\":\"output_text\",\"text\":\"whole\"}]}]}}\n\n";
        assert_eq!(assemble(response).0.result().0, ["whole"]);
        let delta = "data: {\"type\":\"response.output_text.delta\",\"delta\":\"half\"}\n\n";
        assert_eq!(assemble(delta).0.result().0, ["half"]);
        assert_eq!(assemble(&format!("{delta}{response}")).0.result().0, ["whole"]);
    }
}
