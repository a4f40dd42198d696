//! What `openclaw.json` says of providers: addresses, API names, keys. None of it is taken over, and what that means is
//! said: most of these settings are the workarounds for the failures that Switchboard ends.

use serde_json::{Map, Value};

use super::{CONFIG, provider};
use crate::import::CODEX;

/// Paths on chatgpt.com that OpenClaw's versions have used for the Codex backend; of these only `/backend-api/codex`
/// answers.
const VARIANTS: [&str; 6] = [
    "/backend-api",
    "/backend-api/v1",
    "/backend-api/responses",
    "/backend-api/codex",
    "/backend-api/codex/v1",
    "/backend-api/codex/responses",
];
/// Names of the Responses API.
const APIS: [&str; 3] = ["openai-responses", "openai-codex-responses", "openai-chatgpt-responses"];

/// Says what becomes of the settings of providers that we serve.
pub(super) fn note(config: &Map<String, Value>, notes: &mut Vec<String>) {
    if config.contains_key("$include") {
        notes.push(format!("{CONFIG} includes other files ($include), which were not read: check the routes"));
    }
    let providers = config.get("models").and_then(|models| models.get("providers")).and_then(Value::as_object);
    for (name, settings) in providers.into_iter().flatten() {
        let Some(ours) = provider(name) else { continue };
        let key = format!("{CONFIG}, models.providers.{name}");
        let text = |field| settings.get(field).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty());
        if let Some(base_url) = text("baseUrl") {
            notes.extend(about_address(&key, ours, base_url));
        }
        if let Some(api) = text("api").filter(|api| ours == CODEX && !APIS.contains(api)) {
            notes.push(format!(
                "{key}.api = {api:?} is not what the Codex backend speaks; nothing was taken over of it"
            ));
        }
        // The Codex provider's key is a marker of OpenClaw's.
        if ours != CODEX && settings.get("apiKey").is_some_and(|key| !key.is_null()) {
            notes.push(format!(
                "{key}.apiKey was not taken over; hand it over with `switchboard login api-key --provider openai`"
            ));
        }
    }
}

fn about_address(key: &str, ours: &str, base_url: &str) -> Option<String> {
    let url = base_url.trim_end_matches('/').to_ascii_lowercase();
    let path = url.strip_prefix("https://chatgpt.com").or_else(|| url.strip_prefix("http://chatgpt.com"));
    match path {
        Some("/backend-api/codex") => None,
        Some(path) if VARIANTS.contains(&path) => Some(format!(
            "{key}.baseUrl is a variant of the Codex backend's address; Switchboard calls \
             https://chatgpt.com/backend-api/codex by itself, nothing needs to be set"
        )),
        Some(path) if path.is_empty() || path.starts_with('/') => Some(format!(
            "{key}.baseUrl is on chatgpt.com, but not the Codex backend; Switchboard calls \
             https://chatgpt.com/backend-api/codex instead, nothing needs to be set"
        )),
        _ if ours != CODEX && url == "https://api.openai.com/v1" => None,
        // The address itself is not shown: it may hold credentials.
        _ => Some(format!(
            "{key}.baseUrl is another server's, and was not taken over: a [targets.…] table of kind \"custom\" with a \
             provider of its own leads there, and no imported login is ever sent to it"
        )),
    }
}
