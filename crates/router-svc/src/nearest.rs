//! Known names near an unknown one.

use domain::ModelRef;

use crate::table::Table;

/// Most names that are suggested.
const MOST: usize = 3;
/// A prefix this many edits away may be a slip of the keyboard; one further away is another word.
const SLIP: usize = 2;

/// Up to three names that `text` may have meant, the nearest first: the same model behind a prefix that is spelt alike,
/// then what the table lists. Only names that `may` passes, so that no list of one agent shows in another's error.
pub(crate) fn nearest(table: &Table, text: &str, may: impl Fn(&ModelRef) -> bool) -> Vec<String> {
    // The model stays as it was written; only the comparison ignores case.
    let (prefix, model) = text.split_once('/').unwrap_or((text, ""));
    let (prefix, text) = (prefix.to_ascii_lowercase(), text.to_lowercase());
    let mut slips: Vec<(usize, &str)> =
        table.names.prefixes().map(|known| (strsim::osa_distance(known, &prefix), known)).collect();
    slips.retain(|(distance, _)| *distance <= SLIP);
    slips.sort_unstable();
    let slips = slips.into_iter().map(|(_, known)| format!("{known}/{model}"));

    let listed = table.models.keys().cloned();
    let own = table.anyone.fallbacks.iter().chain([&table.anyone.model]).map(|named| named.canonical().to_string());
    let mut listed: Vec<(usize, String)> =
        listed.chain(own).map(|name| (strsim::osa_distance(&name.to_lowercase(), &text), name)).collect();
    listed.sort_unstable();

    let mut names: Vec<String> = Vec::new();
    for name in slips.chain(listed.into_iter().map(|(_, name)| name)) {
        let canonical = table.names.find(&name).ok().map(|named| named.canonical());
        if names.len() < MOST && !names.contains(&name) && canonical.is_some_and(|canonical| may(&canonical)) {
            names.push(name);
        }
    }
    names
}
