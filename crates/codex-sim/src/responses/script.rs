//! What a stream will say, step by step, before a byte of it is sent.
//!
//! Scripts are iterators: a long one costs no memory, and breaking one off is a matter of taking less.

use std::iter;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::{
    responses::{
        chosen::Chosen,
        events::{self, Writer},
        prompt::Prompt,
        quirks, shapes, validate,
    },
    scenario::Scenario,
};

/// Texts longer than this are not repeated whole in the closing events.
const REPEATED_TEXT_BYTES: usize = 4 * 1024 * 1024;

/// A long text's piece of the length that times have (Unix nanoseconds), and what stands before it in an event.
const TIME: &[u8] = b"word word word word";
const BEFORE_TIME: &[u8] = b"\"delta\":\"";

/// One move of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A whole event.
    Event(Bytes),
    /// The terminal event; the outcome to record.
    Last(Bytes, &'static str),
    /// A whole event but for the time of its sending, which stands between these bytes.
    Stamped(Bytes, Bytes),
    /// Bytes that are not a whole event.
    Chunk(Bytes),
    /// A TCP reset.
    Cut,
    /// An HTTP/2 stream reset.
    Reset,
    /// Nothing more, on an open connection.
    Silence,
    /// The end of the body, and then of the connection.
    EndAndClose,
}

/// The steps of a stream, and the response they end with.
pub(crate) struct Script {
    pub(crate) steps: Box<dyn Iterator<Item = Step> + Send>,
    /// The response object as a request without `stream` gets it.
    pub(crate) response: Value,
}

/// Who asks for what.
pub(crate) struct Request<'a> {
    pub(crate) body: &'a Map<String, Value>,
    pub(crate) prompt: &'a Prompt,
    /// The account id or key label that sealed content is bound to.
    pub(crate) account: &'a str,
}

/// Writes the script of an answer.
pub(crate) fn write(request: &Request<'_>, chosen: &Chosen) -> Script {
    let script = shaped(request, chosen.shape.as_ref());
    Script { steps: broken(script.steps, chosen.breaks.as_ref()), ..script }
}

fn shaped(request: &Request<'_>, shape: Option<&Scenario>) -> Script {
    match shape {
        Some(Scenario::Failed { code, message }) => failed(request, code, message.as_deref()),
        Some(Scenario::Policy { code }) => failed(request, code, None),
        Some(Scenario::Incomplete { reason }) => incomplete(request, reason),
        Some(Scenario::Parallel { calls }) => plain(shapes::parallel(request, *calls)),
        Some(Scenario::Refusal) => plain(shapes::refusal(request)),
        Some(Scenario::Minimal) => plain(shapes::minimal(answer(request, false))),
        Some(Scenario::Long { deltas, bytes, .. }) => long(request, *deltas, *bytes),
        Some(Scenario::Stamped { deltas, .. }) => stamped(request, *deltas),
        Some(Scenario::UnknownEvents) => {
            let (events, response) = answer(request, false);
            Script { steps: Box::new(quirks::dressed(events)), response }
        }
        Some(Scenario::Garbage) => with_extra(request, Step::Chunk(quirks::garbage())),
        Some(Scenario::HugeEvent { bytes }) => with_extra(request, Step::Event(quirks::huge(*bytes))),
        Some(Scenario::Reasoning) => plain(answer(request, true)),
        _ if shapes::asks_for_compaction(request) => plain(shapes::compaction(request)),
        _ => plain(answer(request, false)),
    }
}

/// Breaks a script off; a terminal event never comes before the break, unless the break is to come after it.
fn broken(
    steps: Box<dyn Iterator<Item = Step> + Send>,
    breaks: Option<&Scenario>,
) -> Box<dyn Iterator<Item = Step> + Send> {
    let (after, end) = match breaks {
        Some(Scenario::CutAtEnd) => return Box::new(steps.chain([Step::Cut])),
        Some(Scenario::ResetAtEnd) => return Box::new(steps.chain([Step::Reset])),
        Some(Scenario::SilenceAtEnd) => return Box::new(steps.chain([Step::Silence])),
        Some(Scenario::CloseIdle) => return Box::new(steps.chain([Step::EndAndClose])),
        Some(Scenario::CutBeforeEvent) => (0, Some(Step::Cut)),
        Some(Scenario::Cut { after }) => (*after, Some(Step::Cut)),
        Some(Scenario::ResetStream { after }) => (*after, Some(Step::Reset)),
        Some(Scenario::Silence { after }) => (*after, Some(Step::Silence)),
        Some(Scenario::EndEarly { after }) => (*after, None),
        _ => return steps,
    };
    Box::new(steps.filter(|step| !matches!(step, Step::Last(..))).take(after).chain(end))
}

fn plain((events, response): (Vec<Bytes>, Value)) -> Script {
    Script { steps: Box::new(steps(events, "completed").into_iter()), response }
}

/// Events as steps; the last one is the terminal one.
fn steps(events: Vec<Bytes>, outcome: &'static str) -> Vec<Step> {
    let last = events.len().saturating_sub(1);
    let step = |(index, bytes)| if index == last { Step::Last(bytes, outcome) } else { Step::Event(bytes) };
    events.into_iter().enumerate().map(step).collect()
}

/// A good answer with something put in after the opening events.
fn with_extra(request: &Request<'_>, extra: Step) -> Script {
    let (events, response) = answer(request, false);
    let mut steps = steps(events, "completed");
    steps.insert(2, extra);
    Script { steps: Box::new(steps.into_iter()), response }
}

/// The events of a good answer: a tool call if one is asked for and possible, else a text.
fn answer(request: &Request<'_>, reasoning: bool) -> (Vec<Bytes>, Value) {
    let mut writer = Writer::default();
    let response = events::response(request.body);
    let mut out = opening(&mut writer, &response);
    let mut output = Vec::new();
    if reasoning {
        output.push(reasoning_item(&mut writer, &mut out, request));
    }
    output.push(match tool_call(request) {
        Some((name, arguments)) => call_item(&mut writer, &mut out, output.len(), &name, &arguments),
        None => text_item(&mut writer, &mut out, output.len(), &request.prompt.answer()),
    });
    let response = events::ended(&response, "completed", output, Value::Null, Value::Null);
    out.push(writer.lifecycle("response.completed", &response));
    (out, response)
}

pub(super) fn opening(writer: &mut Writer, response: &Value) -> Vec<Bytes> {
    vec![writer.lifecycle("response.created", response), writer.lifecycle("response.in_progress", response)]
}

/// The tool to call and its arguments, if a call is asked for and its output is not there yet.
fn tool_call(request: &Request<'_>) -> Option<(String, String)> {
    let wish = request.prompt.tool.as_ref().filter(|_| request.prompt.tool_output.is_none())?;
    let (name, default) = callable(request)?;
    Some((name, wish.arguments.clone().unwrap_or(default)))
}

/// The function that a call would go to, with arguments for it.
pub(super) fn callable(request: &Request<'_>) -> Option<(String, String)> {
    let tools = request.body.get("tools")?.as_array()?;
    let named = |wanted: &str| tools.iter().find(|tool| tool["name"] == wanted);
    let tool = named("exec_command")
        .or_else(|| named("shell"))
        .or_else(|| tools.iter().find(|tool| tool["type"] == "function"))?;
    let name = tool["name"].as_str()?;
    let default = match name {
        "shell" => json!({ "command": ["bash", "-lc", "echo hello-from-tool"] }),
        _ => json!({ "cmd": "echo hello-from-tool" }),
    };
    Some((name.to_owned(), default.to_string()))
}

pub(super) fn text_item(writer: &mut Writer, out: &mut Vec<Bytes>, index: usize, text: &str) -> Value {
    let id = events::new_id("msg");
    message_head(writer, out, index, &id);
    for piece in pieces(text) {
        out.push(writer.delta(&id, index, &Value::from(piece).to_string()));
    }
    message_tail(writer, out, index, &id, text)
}

fn message_head(writer: &mut Writer, out: &mut Vec<Bytes>, index: usize, id: &str) {
    let item = events::message(id, "in_progress", None);
    out.push(writer.event("response.output_item.added", json!({ "output_index": index, "item": item })));
    let part = json!({ "item_id": id, "output_index": index, "content_index": 0, "part": events::output_text("") });
    out.push(writer.event("response.content_part.added", part));
}

fn message_tail(writer: &mut Writer, out: &mut Vec<Bytes>, index: usize, id: &str, text: &str) -> Value {
    let place = json!({ "item_id": id, "output_index": index, "content_index": 0 });
    let with = |field: &str, value: Value| {
        let mut fields = place.clone();
        fields[field] = value;
        fields
    };
    out.push(writer.event("response.output_text.done", with("text", text.into())));
    out.push(writer.event("response.content_part.done", with("part", events::output_text(text))));
    let item = events::message(id, "completed", Some(text));
    out.push(writer.event("response.output_item.done", json!({ "output_index": index, "item": item })));
    item
}

fn call_item(writer: &mut Writer, out: &mut Vec<Bytes>, index: usize, name: &str, arguments: &str) -> Value {
    let (id, call_id) = (events::new_id("fc"), events::new_id("call"));
    let begun = events::function_call(&id, &call_id, name, "", "in_progress");
    out.push(writer.event("response.output_item.added", json!({ "output_index": index, "item": begun })));
    for piece in pieces(arguments) {
        let delta = json!({ "item_id": id, "output_index": index, "delta": piece });
        out.push(writer.event("response.function_call_arguments.delta", delta));
    }
    let done = json!({ "item_id": id, "output_index": index, "name": name, "arguments": arguments });
    out.push(writer.event("response.function_call_arguments.done", done));
    let item = events::function_call(&id, &call_id, name, arguments, "completed");
    out.push(writer.event("response.output_item.done", json!({ "output_index": index, "item": item })));
    item
}

/// Sealed, and with a summary where one was asked for.
fn reasoning_item(writer: &mut Writer, out: &mut Vec<Bytes>, request: &Request<'_>) -> Value {
    let id = events::new_id("rs");
    let sealed = validate::sealed(request.account);
    let item =
        |summary: Value| json!({ "id": id, "type": "reasoning", "summary": summary, "encrypted_content": sealed });
    let event = |item: &Value| json!({ "output_index": 0, "item": item });
    out.push(writer.event("response.output_item.added", event(&item(json!([])))));
    let asked = request.body.get("reasoning").is_some_and(|reasoning| reasoning["summary"].is_string());
    let summary = if asked { shapes::summary(writer, out, &id) } else { json!([]) };
    let item = item(summary);
    out.push(writer.event("response.output_item.done", event(&item)));
    item
}

fn failed(request: &Request<'_>, code: &str, message: Option<&str>) -> Script {
    let mut writer = Writer::default();
    let response = events::response(request.body);
    let created = writer.lifecycle("response.created", &response);
    let error = json!({ "code": code, "message": message.unwrap_or_else(|| usual_message(code)) });
    let response = events::ended(&response, "failed", Vec::new(), error, Value::Null);
    let last = writer.lifecycle("response.failed", &response);
    Script { steps: Box::new(steps(vec![created, last], "failed").into_iter()), response }
}

fn usual_message(code: &str) -> &'static str {
    match code {
        "rate_limit_exceeded" => "Rate limit reached. Please try again in 1.5s.",
        "context_length_exceeded" => "Your input exceeds the context window of this model.",
        "insufficient_quota" => "You exceeded your current quota, please check your plan and billing details.",
        "usage_not_included" => "To use Codex with your ChatGPT plan, upgrade to Plus.",
        "server_is_overloaded" | "slow_down" => "Our servers are currently overloaded. Please try again later.",
        "cyber_policy" => "This request was flagged as a possible cybersecurity risk.",
        "misalignment_policy_violation" | "bio_policy" => "This request violates our usage policies.",
        "invalid_prompt" => "Invalid prompt: your prompt was flagged as potentially violating our usage policy.",
        _ => "The model failed to produce a response.",
    }
}

/// Half a text, then `response.incomplete`.
fn incomplete(request: &Request<'_>, reason: &str) -> Script {
    let mut writer = Writer::default();
    let response = events::response(request.body);
    let mut out = opening(&mut writer, &response);
    let text = request.prompt.answer();
    let half: String = text.chars().take(text.chars().count().div_ceil(2)).collect();
    let id = events::new_id("msg");
    message_head(&mut writer, &mut out, 0, &id);
    out.push(writer.delta(&id, 0, &Value::from(half.as_str()).to_string()));
    let item = events::message(&id, "incomplete", Some(&half));
    let reason = json!({ "reason": reason });
    let response = events::ended(&response, "incomplete", vec![item], Value::Null, reason);
    out.push(writer.lifecycle("response.incomplete", &response));
    Script { steps: Box::new(steps(out, "incomplete").into_iter()), response }
}

/// A text of `deltas` pieces of `bytes` bytes each, made as it is sent.
fn long(request: &Request<'_>, deltas: usize, bytes: usize) -> Script {
    let mut writer = Writer::default();
    let response = events::response(request.body);
    let mut head = opening(&mut writer, &response);
    let id = events::new_id("msg");
    message_head(&mut writer, &mut head, 0, &id);
    let piece: String = "word ".chars().cycle().take(bytes).collect();
    let quoted = Value::from(piece.as_str()).to_string();

    let mut closing = Writer { sequence: writer.sequence + deltas as u64 };
    let text = piece.repeat(deltas.min(REPEATED_TEXT_BYTES / bytes.max(1)));
    let mut tail = Vec::new();
    let item = message_tail(&mut closing, &mut tail, 0, &id, &text);
    let response = events::ended(&response, "completed", vec![item], Value::Null, Value::Null);
    tail.push(closing.lifecycle("response.completed", &response));

    let middle = iter::repeat_with(move || Step::Event(writer.delta(&id, 0, &quoted))).take(deltas);
    let steps = head.into_iter().map(Step::Event).chain(middle).chain(steps(tail, "completed"));
    Script { steps: Box::new(steps), response }
}

/// A text of `deltas` times.
fn stamped(request: &Request<'_>, deltas: usize) -> Script {
    let script = long(request, deltas, TIME.len());
    let step = |step| match step {
        Step::Event(bytes) => match bytes.windows(BEFORE_TIME.len()).position(|part| part == BEFORE_TIME) {
            Some(at) => {
                let from = at + BEFORE_TIME.len();
                Step::Stamped(bytes.slice(..from), bytes.slice(from + TIME.len()..))
            }
            None => Step::Event(bytes),
        },
        other => other,
    };
    Script { steps: Box::new(script.steps.map(step)), ..script }
}

/// A text in a handful of pieces, cut between characters.
pub(super) fn pieces(text: &str) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    let size = characters.len().div_ceil(4).clamp(1, 24);
    characters.chunks(size).map(|piece| piece.iter().collect()).collect()
}
