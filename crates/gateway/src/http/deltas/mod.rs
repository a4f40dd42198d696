//! A stream of Responses events as the pieces of one assistant message: what every dialect but Responses itself wants.
//!
//! Streamed and whole answers are made of the same pieces, so that both say the same. Finished items are what counts:
//! deltas are a preview of them that a stream may leave out, in part or altogether. Of an item nothing is kept but how
//! much of it has been told, and that only until it is finished.

mod wire;

use bytes::Bytes;
use domain::Usage;
use domain::sse::{Event, MAX_WHOLE_EVENT_BYTES, Splitter};
use serde::de::DeserializeOwned;

use wire::{Delta, Ending, Item, ItemEvent, Response};

/// What stands between two messages, or two parts of a reasoning summary, of one answer.
const BETWEEN: &str = "\n\n";

/// A piece of the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Text.
    Text(String),
    /// The model's words for not answering.
    Refusal(String),
    /// Reasoning, as far as the upstream shows it.
    Reasoning(String),
    /// A tool call begins. Calls are counted from 0 in the order in which they begin.
    CallBegins(CallBegins),
    /// A part of the arguments or the input of the call with this number.
    CallInput(usize, ToolKind, String),
}

/// A tool call as it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CallBegins {
    /// Its number.
    pub(super) index: usize,
    /// The id by which its output is matched.
    pub(super) id: String,
    /// The tool's name.
    pub(super) name: String,
    /// What kind of tool it is.
    pub(super) kind: ToolKind,
}

/// What a tool takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ToolKind {
    /// Arguments in JSON.
    Function,
    /// Any text.
    Custom,
}

/// What a response says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Identity {
    /// Its id.
    pub(super) id: Option<String>,
    /// When it was created, in Unix seconds.
    pub(super) created: Option<i64>,
    /// The model that answers.
    pub(super) model: Option<String>,
}

/// How a response ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct End {
    /// Why it stops short; `None` if it is complete.
    pub(super) incomplete: Option<String>,
    /// Tokens.
    pub(super) usage: Option<Usage>,
    /// The service tier that served it.
    pub(super) service_tier: Option<String>,
}

/// Reads the stream.
pub(super) struct Reader {
    splitter: Splitter,
    identity: Identity,
    /// Items that have begun and not finished.
    open: Vec<Open>,
    /// Items that have finished.
    finished: usize,
    /// Tool calls so far.
    calls: usize,
    /// Some text has been told.
    text: bool,
    /// Some reasoning has been told.
    reasoning: bool,
    end: Option<End>,
}

/// An item that has not finished.
struct Open {
    class: Class,
    /// Its place in the output.
    place: Option<u64>,
    id: Option<String>,
    /// The number and kind of a call that has been told.
    call: Option<(usize, ToolKind)>,
    /// Bytes of its text, its reasoning, its arguments or its input that have been told.
    told: usize,
    /// Bytes of its refusal that have been told.
    refused: usize,
    /// Where in the reasoning the last piece was: the event's type and the part's number.
    part: Option<(bool, Option<u64>)>,
}

/// What an item is: where a server names neither its place nor its id, that and the order of events are all there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Message,
    Reasoning,
    Call,
}

impl Class {
    fn of(item: &Item) -> Self {
        match item.kind.as_str() {
            "message" => Self::Message,
            "reasoning" => Self::Reasoning,
            _ => Self::Call,
        }
    }
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            splitter: Splitter::new(MAX_WHOLE_EVENT_BYTES),
            identity: Identity::default(),
            open: Vec::new(),
            finished: 0,
            calls: 0,
            text: false,
            reasoning: false,
            end: None,
        }
    }
}

impl Reader {
    /// Takes bytes of the stream; gives the pieces that end in them.
    pub(super) fn push(&mut self, bytes: Bytes) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for event in self.splitter.push(bytes).map(|piece| piece.events).unwrap_or_default() {
            self.read(&event, &mut pieces);
        }
        pieces
    }

    /// What the response has said of itself by now.
    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// How it ended, once it has ended well.
    pub(super) fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// How many tool calls there are by now.
    pub(super) fn calls(&self) -> usize {
        self.calls
    }

    /// An event that cannot be read is passed over, as its other readers do.
    fn read(&mut self, event: &Event, out: &mut Vec<Piece>) {
        match event.kind().as_str() {
            "response.output_text.delta" => {
                let Some(delta) = parse::<Delta>(event) else { return };
                let open = self.open_at(Class::Message, delta.output_index, delta.item_id);
                self.tell_text(open, delta.delta, out);
            }
            "response.refusal.delta" => {
                let Some(delta) = parse::<Delta>(event) else { return };
                let open = self.open_at(Class::Message, delta.output_index, delta.item_id);
                self.open[open].refused += delta.delta.len();
                tell(Piece::Refusal, delta.delta, out);
            }
            "response.reasoning_summary_text.delta" => self.reasons(parse(event), true, out),
            "response.reasoning_text.delta" => self.reasons(parse(event), false, out),
            "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta" => {
                let Some(delta) = parse::<Delta>(event) else { return };
                // Without its beginning there is no name to call it by: it is told whole when it has finished.
                let Some(open) = self.find(Class::Call, delta.output_index, delta.item_id.as_deref()) else { return };
                let Some((index, kind)) = self.open[open].call else { return };
                self.open[open].told += delta.delta.len();
                tell(|text| Piece::CallInput(index, kind, text), delta.delta, out);
            }
            "response.output_item.added" => {
                let Some(ItemEvent { output_index, item }) = parse(event) else { return };
                if let Some(kind) = item.tool() {
                    let open = self.open_at(Class::Call, output_index, item.id.clone());
                    self.begin_call(open, &item, kind, out);
                }
            }
            "response.output_item.done" => {
                let Some(ItemEvent { output_index, item }) = parse(event) else { return };
                self.finish_item(output_index, item, out);
            }
            "response.created" | "response.in_progress" | "response.queued" => {
                let Some(ending) = parse::<Ending>(event) else { return };
                self.identify(ending.response);
            }
            "response.completed" | "response.incomplete" | "response.done" => self.finish(event, out),
            _ => {}
        }
    }

    /// Reasoning comes as a summary, as it was thought, or as both: what comes first of an item is what is told of it.
    fn reasons(&mut self, delta: Option<Delta>, summary: bool, out: &mut Vec<Piece>) {
        let Some(delta) = delta else { return };
        let open = self.open_at(Class::Reasoning, delta.output_index, delta.item_id);
        let part = (summary, if summary { delta.summary_index } else { delta.content_index });
        let next = match self.open[open].part {
            Some((other, _)) if other != summary => return,
            Some(last) => last != part,
            None => self.reasoning,
        };
        self.open[open].part = Some(part);
        self.open[open].told += delta.delta.len();
        self.reasoning = true;
        tell(Piece::Reasoning, if next { format!("{BETWEEN}{}", delta.delta) } else { delta.delta }, out);
    }

    /// The item at a place or with an id: servers leave out the one or the other. Where either is without both, it is the last
    /// of its class.
    fn find(&self, class: Class, place: Option<u64>, id: Option<&str>) -> Option<usize> {
        let is_it =
            |open: &Open| (place.is_some() && open.place == place) || (id.is_some() && open.id.as_deref() == id);
        let nameless = place.is_none() && id.is_none();
        let may_be = |open: &Open| open.class == class && (nameless || (open.place.is_none() && open.id.is_none()));
        self.open.iter().position(is_it).or_else(|| self.open.iter().rposition(may_be))
    }

    /// The same; a new one if it has not been seen.
    fn open_at(&mut self, class: Class, place: Option<u64>, id: Option<String>) -> usize {
        self.find(class, place, id.as_deref()).unwrap_or_else(|| {
            self.open.push(Open { class, place, id, call: None, told: 0, refused: 0, part: None });
            self.open.len() - 1
        })
    }

    fn tell_text(&mut self, open: usize, text: String, out: &mut Vec<Piece>) {
        let open = &mut self.open[open];
        let between = open.told == 0 && self.text && !text.is_empty();
        open.told += text.len();
        self.text |= !text.is_empty();
        tell(Piece::Text, if between { format!("{BETWEEN}{text}") } else { text }, out);
    }

    fn begin_call(&mut self, open: usize, item: &Item, kind: ToolKind, out: &mut Vec<Piece>) {
        if self.open[open].call.is_some() {
            return;
        }
        let index = self.calls;
        self.calls += 1;
        self.open[open].call = Some((index, kind));
        let id = item.call_id.clone().or_else(|| item.id.clone()).unwrap_or_default();
        out.push(Piece::CallBegins(CallBegins { index, id, name: item.name.clone().unwrap_or_default(), kind }));
    }

    /// Tells of a finished item what its deltas have not told.
    fn finish_item(&mut self, place: Option<u64>, item: Item, out: &mut Vec<Piece>) {
        self.finished += 1;
        let open = self.open_at(Class::of(&item), place, item.id.clone());
        match item.kind.as_str() {
            "message" => {
                let text = rest(item.text(), self.open[open].told);
                let refusal = rest(item.refusal(), self.open[open].refused);
                self.tell_text(open, text, out);
                tell(Piece::Refusal, refusal, out);
            }
            "reasoning" if self.open[open].told == 0 => {
                let text = item.reasoning(BETWEEN);
                let between = self.reasoning && !text.is_empty();
                self.reasoning |= !text.is_empty();
                tell(Piece::Reasoning, if between { format!("{BETWEEN}{text}") } else { text }, out);
            }
            _ => {
                if let Some(kind) = item.tool() {
                    self.begin_call(open, &item, kind, out);
                    let (index, kind) = self.open[open].call.unwrap_or((self.calls, kind));
                    let input = rest(item.arguments.or(item.input).unwrap_or_default(), self.open[open].told);
                    tell(|text| Piece::CallInput(index, kind, text), input, out);
                }
            }
        }
        self.open.remove(open);
    }

    fn finish(&mut self, event: &Event, out: &mut Vec<Piece>) {
        let ending = parse::<Ending>(event).unwrap_or_default();
        let end = ending.response.as_ref().map(|response| response.end(event.kind() == "response.incomplete"));
        self.end = Some(end.unwrap_or_default());
        self.identify(ending.response);
        if self.finished == 0 {
            // An upstream that tells of no items has them in the response.
            let output = parse::<wire::Output>(event).map(|output| output.response.output).unwrap_or_default();
            for (place, item) in output.into_iter().enumerate() {
                self.finish_item(Some(place as u64), item, out);
            }
        }
        self.open.clear();
    }

    fn identify(&mut self, response: Option<Response>) {
        let Some(response) = response else { return };
        let known = &mut self.identity;
        known.id = known.id.take().or(response.id);
        known.created = known.created.or(response.created_at);
        known.model = known.model.take().or(response.model);
    }
}

fn parse<T: DeserializeOwned>(event: &Event) -> Option<T> {
    serde_json::from_slice(&event.data).ok()
}

/// What follows the first `told` bytes.
fn rest(whole: String, told: usize) -> String {
    if told == 0 { whole } else { whole.get(told..).map(str::to_owned).unwrap_or_default() }
}

fn tell(piece: impl FnOnce(String) -> Piece, text: String, out: &mut Vec<Piece>) {
    if !text.is_empty() {
        out.push(piece(text));
    }
}

#[cfg(test)]
mod tests;
