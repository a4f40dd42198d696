//! In which order OpenClaw tried the profiles of a provider: `auth-state.json`, before it the profiles' own file, and
//! the configuration.

use serde_json::{Map, Value};

use super::agents::{Own, Profiles};
use super::{CONFIG, MAIN, StateDir};
use crate::import::plan::Order;
use crate::import::{CODEX, OPENAI};

/// The order for one agent, for each provider that it has credentials of.
pub(super) fn order(dir: &StateDir<'_>, agent: &str, profiles: &Profiles) -> Vec<Order> {
    let visible = profiles.visible(agent);
    // OpenClaw honours the order of `openai` for logins too: newer versions know no other name.
    [(CODEX, &["openai-codex", "codex", "codex-cli", "openai"][..]), (OPENAI, &["openai"])]
        .into_iter()
        .filter_map(|(provider, names)| {
            let mine: Vec<&Own> = visible.iter().filter(|own| own.provider == provider).collect();
            (!mine.is_empty()).then(|| order_of(dir, agent, provider, names, &mine))
        })
        .collect()
}

fn order_of(dir: &StateDir<'_>, agent: &str, provider: &'static str, names: &[&str], mine: &[&Own]) -> Order {
    let listed = sources(dir, agent).find_map(|(place, document)| {
        let lists = names.iter().filter_map(|name| document.get("order")?.get(name)?.as_array());
        let mut lists = lists.map(|list| pick(list.iter().filter_map(Value::as_str), mine));
        lists.find(|list| !list.is_empty()).map(|list| (place, list))
    });
    let (first, note) = match listed {
        Some((place, first)) => {
            let rest: Vec<&str> = mine.iter().filter(|own| !has(&first, own)).map(|own| own.id.as_str()).collect();
            let mut note = format!("{provider} credentials are tried in OpenClaw's order ({place}): {}", ids(&first));
            if !rest.is_empty() {
                note.push_str(&format!("; OpenClaw left out {}, here they follow", rest.join(", ")));
            }
            (first, Some(note))
        }
        None => {
            let good = sources(dir, agent).find_map(|(place, document)| {
                let id = names.iter().find_map(|name| document.get("lastGood")?.get(name)?.as_str())?;
                Some((place, pick(std::iter::once(id), mine))).filter(|(_, found)| !found.is_empty())
            });
            let note = good.as_ref().filter(|_| mine.len() > 1).map(|(place, found)| {
                format!("{provider} credentials: {} is tried first, which OpenClaw last used ({place})", ids(found))
            });
            (good.map(|(_, found)| found).unwrap_or_default(), note)
        }
    };
    let rest = mine.iter().copied().filter(|own| !has(&first, own));
    let labels = first.iter().copied().chain(rest).map(|own| own.label.clone()).collect();
    Order { provider, labels: unique(labels), note }
}

/// Documents that may hold the order, first come first served.
fn sources<'a>(dir: &'a StateDir<'_>, agent: &str) -> impl Iterator<Item = (&'a str, &'a Map<String, Value>)> {
    let own = dir.agents.get(agent);
    let main = dir.agents.get(MAIN).filter(|_| agent != MAIN);
    let files = own.into_iter().chain(main).flat_map(|files| [&files.state, &files.profiles]);
    let files = files.flatten().map(|(name, document)| (name.as_str(), document));
    let config = dir.config.as_ref().and_then(|config| config.get("auth")?.as_object());
    files.chain(config.map(|auth| (CONFIG, auth)))
}

fn pick<'a>(ids: impl Iterator<Item = &'a str>, mine: &[&'a Own]) -> Vec<&'a Own> {
    ids.filter_map(|id| mine.iter().copied().find(|own| own.id == id)).collect()
}

fn has(list: &[&Own], own: &Own) -> bool {
    list.iter().any(|listed| listed.id == own.id)
}

fn ids(list: &[&Own]) -> String {
    list.iter().map(|own| own.id.as_str()).collect::<Vec<_>>().join(", ")
}

/// Two profiles that are one login have one label.
fn unique(labels: Vec<String>) -> Vec<String> {
    let mut seen = Vec::with_capacity(labels.len());
    for label in labels {
        if !seen.contains(&label) {
            seen.push(label);
        }
    }
    seen
}
