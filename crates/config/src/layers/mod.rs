//! The layers, one laid over the other: defaults, file, environment, flags.
//!
//! Everything lies in one flat map from path to value and source. Merging is insertion, so tables of the user's own
//! merge entry by entry and key by key, and the source of a value is never lost. A value of the wrong type is reported
//! and left out: what lies below shows through, and everything else can still be checked in the same run.

mod environment;
mod file;

use std::collections::BTreeMap;

use toml::{Table, Value};

use crate::{
    key,
    problem::{ConfigError, Problem, Source},
    redact::inline,
    schema::{self, Found, Kind},
};

/// All layers so far, and what was wrong with them.
#[derive(Default)]
pub(crate) struct Layers {
    entries: BTreeMap<Vec<String>, Entry>,
    problems: Vec<Problem>,
}

/// A value, or a table when there is none, and where it was said.
struct Entry {
    value: Option<Value>,
    source: Source,
}

impl Layers {
    /// The embedded defaults.
    pub(crate) fn built_in() -> Self {
        let mut layers = Self::default();
        layers.add_document(crate::DEFAULT_FILE, |_, _| Source::Default);
        layers
    }

    /// Lay flags over what is there: a dotted key and its value as text.
    pub(crate) fn add_flags(&mut self, flags: &[(String, String)]) {
        for (key, text) in flags {
            let path = key::parse(key).unwrap_or_else(|| key.split('.').map(str::to_owned).collect());
            match schema::find(&path) {
                Found::Key(kind) => self.add_value(path, kind, kind.read(text), Source::Flag),
                Found::Table => self.refuse(Source::Flag, &path, None, "a table; name a key in it".to_owned()),
                Found::Nothing => self.refuse(Source::Flag, &path, None, schema::unknown(&path)),
            }
        }
    }

    /// Report every table of the user's own that lacks what it cannot do without.
    pub(crate) fn require_keys(&mut self) {
        let mut missing = Vec::new();
        for (pattern, name, message) in schema::REQUIRED {
            let depth = pattern.split('.').count();
            for (table, entry) in self.entries.iter().filter(|(path, _)| path.len() == depth) {
                let path = [table.clone(), vec![(*name).to_owned()]].concat();
                if schema::starts_with(pattern, table) && !self.entries.contains_key(&path) {
                    missing.push((entry.source.clone(), path, *message));
                }
            }
        }
        for (source, path, message) in missing {
            self.refuse(source, &path, None, format!("missing: {message}"));
        }
    }

    /// Everything as one nested table, the source of every key and table by its dotted name, and what was wrong.
    pub(crate) fn into_parts(self) -> (Table, BTreeMap<String, Source>, Vec<Problem>) {
        let mut root = Table::new();
        let mut sources = BTreeMap::new();
        for (path, entry) in self.entries {
            sources.insert(key::dotted(&path), entry.source);
            place(&mut root, &path, entry.value.unwrap_or_else(|| Value::Table(Table::new())));
        }
        (root, sources, self.problems)
    }

    /// What was wrong, when there is no point in going on.
    pub(crate) fn into_error(self) -> ConfigError {
        ConfigError::new(self.problems)
    }

    /// Lay one value over what is there, if it is of the right type.
    fn add_value(&mut self, path: Vec<String>, kind: Kind, value: Value, source: Source) {
        if kind.accepts(&value) {
            (1..path.len()).for_each(|depth| self.add_table(path[..depth].to_vec(), &source));
            self.entries.insert(path, Entry { value: Some(value), source });
        } else {
            let message = match &value {
                Value::String(text) if text.is_empty() => "empty; leave it out instead".to_owned(),
                _ => format!("expected {}", kind.expected()),
            };
            self.refuse(source, &path, Some(&value), message);
        }
    }

    /// Note that a table is there; the first to say so is its source.
    fn add_table(&mut self, path: Vec<String>, source: &Source) {
        self.entries.entry(path).or_insert_with(|| Entry { value: None, source: source.clone() });
    }

    fn refuse(&mut self, source: Source, path: &[String], value: Option<&Value>, message: String) {
        let key = key::dotted(path);
        let value = value.map(|value| inline(&key, value));
        self.problems.push(Problem { source, key, value, message });
    }
}

/// Put a value into nested tables. Paths come sorted, so that a table is placed before what stands in it.
fn place(table: &mut Table, path: &[String], value: Value) {
    match path {
        [] => {}
        [name] => {
            table.insert(name.clone(), value);
        }
        [name, rest @ ..] => {
            if let Some(Value::Table(inner)) = table.get_mut(name) {
                place(inner, rest, value);
            }
        }
    }
}
