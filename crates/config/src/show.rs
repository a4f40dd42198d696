//! The effective configuration as text.

use sha2::{Digest as _, Sha256};
use toml::{Table, Value};

use crate::{
    key::{dotted, quoted},
    load::Loaded,
    redact::inline,
    schema,
    types::Config,
};

/// The effective configuration as TOML, every key with a comment that names its source, without passwords.
pub fn show(loaded: &Loaded) -> String {
    let file = loaded.file.as_ref().map_or_else(|| "none".to_owned(), |file| file.display().to_string());
    let body = render(&loaded.config, &|key| format!("  # {}", loaded.source_of(key)));
    format!("# configuration {}, file: {file}\n{body}", loaded.digest)
}

/// See [`Loaded::digest`].
pub(crate) fn digest(config: &Config) -> String {
    let hash = Sha256::digest(render(config, &|_| String::new()));
    hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// TOML in the order of the schema; `comment` follows the value of each key.
fn render(config: &Config, comment: &dyn Fn(&str) -> String) -> String {
    let mut text = String::new();
    // Fails only for numbers beyond TOML's, which no file can say.
    let table = Table::try_from(config).unwrap_or_default();
    render_table(&table, &[], comment, &mut text);
    text
}

fn render_table(table: &Table, path: &[&str], comment: &dyn Fn(&str) -> String, text: &mut String) {
    let names: Vec<&str> = match schema::children(path).as_slice() {
        // Sorted: the types hold these in a `BTreeMap`.
        ["*"] => table.keys().map(String::as_str).collect(),
        known => known.to_vec(),
    };
    let entries = || names.iter().filter_map(|name| table.get(*name).map(|value| (*name, value)));
    // A table whose entries are all tables needs no header of its own.
    let has_values = entries().any(|(_, value)| !value.is_table());
    if !path.is_empty() && (has_values || table.is_empty()) {
        text.push_str(&format!("\n[{}]\n", dotted(path)));
    }
    for (name, value) in entries().filter(|(_, value)| !value.is_table()) {
        let key = dotted(&[path, &[name]].concat());
        text.push_str(&format!("{} = {}{}\n", quoted(name), inline(&key, value), comment(&key)));
    }
    for (name, value) in entries() {
        if let Value::Table(inner) = value {
            render_table(inner, &[path, &[name]].concat(), comment, text);
        }
    }
}
