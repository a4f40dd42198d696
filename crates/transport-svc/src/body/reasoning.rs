//! The encrypted reasoning of earlier turns.
//!
//! Only the account that it was made for can read it. When a conversation goes on with another account, the upstream
//! refuses the whole request for it, and the same request without it succeeds.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Fields;

/// How it is called among the dropped fields.
const NAME: &str = "input[].encrypted_content";

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow, rename = "type", default)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    encrypted_content: Option<&'a RawValue>,
}

/// True if there seems to be some. Two scans and no parsing, for it is asked of every request; a text that quotes both
/// words costs a needless second request at worst, and only after a refusal.
pub(super) fn is_held(fields: &Fields<'_>) -> bool {
    let holds = |input: &Cow<'_, str>| input.contains("\"encrypted_content\"") && input.contains("\"reasoning\"");
    fields.get("input").is_some_and(holds)
}

/// Removes every reasoning item whose content is encrypted, and names what was dropped. The item goes whole: nothing is
/// stored upstream, so without its content it would be refused as unknown. A compaction item stays although it is
/// encrypted too: it is the conversation itself, and an answer without it would be an answer to something else.
pub(super) fn drop_encrypted(fields: &mut Fields<'_>) -> Option<String> {
    let input = fields.get("input")?;
    let items: Vec<&RawValue> = serde_json::from_str(input).ok()?;
    let kept: Vec<&str> = items.iter().map(|item| item.get()).filter(|item| !is_encrypted_reasoning(item)).collect();
    if kept.len() == items.len() {
        return None;
    }
    let rest = format!("[{}]", kept.join(","));
    fields.set("input", rest.into());
    Some(NAME.to_owned())
}

fn is_encrypted_reasoning(item: &str) -> bool {
    let Ok(item) = serde_json::from_str::<Item<'_>>(item) else { return false };
    item.kind.is_some_and(|kind| kind == "reasoning") && item.encrypted_content.is_some_and(|c| c.get() != "null")
}
