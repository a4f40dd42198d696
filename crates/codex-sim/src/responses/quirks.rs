//! Streams that are valid but not usual, and one line that is not valid.
//!
//! Everything here is allowed by the event stream format, and some of it has broken parsers: a byte order
//! mark, comments, CRLF, `data:` without a space, data over several lines, characters split across
//! chunks, types and fields from the future. `id` and `retry` are left out: the real stream has neither, and
//! OpenAI's Python SDK takes a block that has only one of them for an event without data.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::responses::script::Step;

/// Chunks this small split every character of more than one byte somewhere.
const CHUNK_BYTES: usize = 7;

/// A good answer in unusual clothes: the text is the same, the bytes are not.
pub(crate) fn dressed(events: Vec<Bytes>) -> impl Iterator<Item = Step> + Send {
    let mut wire = String::from("\u{feff}: an unusual stream\r\n\r\n");
    let last = events.len().saturating_sub(1);
    for (index, event) in events.iter().enumerate() {
        if index == last {
            // Behind the terminal event nothing is read.
            wire.push_str(": keep-alive é🙂\r\n\r\n");
        }
        wire.push_str(&dress(index, &String::from_utf8_lossy(event)));
        if index == 1 {
            wire.push_str("event: response.sparkle.delta\r\ndata:{\"type\":\"response.sparkle.delta\",\r\n");
            wire.push_str("data: \"glitter\":\"é🙂日本語\",\"nested\":{\"a\":[1,null]}}\r\n\r\n");
        }
    }
    let mut chunks: Vec<Step> =
        wire.into_bytes().chunks(CHUNK_BYTES).map(|chunk| Step::Chunk(Bytes::copy_from_slice(chunk))).collect();
    if let Some(Step::Chunk(bytes)) = chunks.pop() {
        chunks.push(Step::Last(bytes, "completed"));
    }
    chunks.into_iter()
}

/// One event with CRLF, an unknown field, and its data over two lines.
fn dress(index: usize, event: &str) -> String {
    let mut dressed = String::new();
    for line in event.lines().filter(|line| !line.is_empty()) {
        match line.strip_prefix("data: ").and_then(|data| serde_json::from_str::<Value>(data).ok()) {
            Some(mut data) => {
                data["x_future"] = json!({ "note": "é🙂", "index": index });
                // Between two members, where JSON takes a line break.
                let data = data.to_string().replacen(",\"", ",\r\ndata:\"", 1);
                dressed.push_str(&format!("data: {data}\r\n"));
            }
            None => dressed.push_str(&format!("{line}\r\n")),
        }
    }
    dressed.push_str("\r\n");
    dressed
}

/// An event whose data is not JSON.
pub(crate) fn garbage() -> Bytes {
    Bytes::from_static(b"event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\", oops\n\n")
}

/// One event of about `bytes` bytes, of the type that is large in real life.
pub(crate) fn huge(bytes: usize) -> Bytes {
    let image = "A".repeat(bytes);
    format!(
        "event: response.image_generation_call.partial_image\n\
         data: {{\"type\":\"response.image_generation_call.partial_image\",\"output_index\":0,\"item_id\":\"ig_sim\",\
         \"partial_image_index\":0,\"partial_image_b64\":\"{image}\"}}\n\n"
    )
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::responses::events::Writer;

    #[test]
    fn a_dressed_stream_still_says_the_same() {
        let mut writer = Writer::default();
        let events = vec![
            writer.event("response.created", json!({ "response": { "id": "r", "text": "a,\"b" } })),
            writer.event("response.in_progress", json!({})),
            writer.event("response.completed", json!({ "response": { "id": "r" } })),
        ];
        let bytes: Vec<u8> = dressed(events)
            .flat_map(|step| match step {
                Step::Chunk(bytes) | Step::Last(bytes, _) => bytes.to_vec(),
                other => panic!("{other:?}"),
            })
            .collect();
        let text = String::from_utf8(bytes).unwrap();
        let blocks = text.split("\r\n\r\n").filter(|block| block.contains("data:"));
        let types: Vec<String> = blocks
            .map(|block| {
                let data = block.lines().filter_map(|line| line.strip_prefix("data:")).collect::<Vec<_>>().join("\n");
                serde_json::from_str::<Value>(&data).unwrap()["type"].as_str().unwrap().to_owned()
            })
            .collect();
        assert_eq!(types, ["response.created", "response.in_progress", "response.sparkle.delta", "response.completed"]);
    }
}
