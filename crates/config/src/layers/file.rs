//! The layer of a file, with the line of every key.

use std::{io, ops::Range, path::Path};

use serde::{Deserialize as _, de::IntoDeserializer as _};
use toml::{
    Spanned, Value,
    de::{DeTable, DeValue, ValueDeserializer},
};

use super::Layers;
use crate::{
    problem::{Problem, Source},
    schema::{self, Found},
};

impl Layers {
    /// Lay a file over what is there. Whether it could be read at all.
    pub(crate) fn add_file(&mut self, path: &Path) -> bool {
        let source = |line, column| Source::File { path: path.to_owned(), line, column };
        match read(path) {
            Ok(text) => self.add_document(&text, |line, column| source(Some(line), column)),
            Err((line, message)) => self.reject_document(source(line, None), message),
        }
    }

    /// Lay a TOML text over what is there; `source` makes a source from a line and, for what is no TOML, a column.
    pub(super) fn add_document(&mut self, text: &str, source: impl Fn(usize, Option<usize>) -> Source) -> bool {
        match DeTable::parse(text) {
            Ok(table) => {
                let source_of = |span| source(position(text, span).0, None);
                self.add_entries(table.get_ref(), &mut Vec::new(), &source_of);
                true
            }
            Err(error) => {
                let (line, column) = position(text, error.span().unwrap_or_default());
                // Not the error's `Display`: it quotes the line, which may hold a password.
                let message = format!("not TOML: {}", error.message().replace('\n', ", "));
                self.reject_document(source(line, Some(column)), message)
            }
        }
    }

    fn reject_document(&mut self, source: Source, message: String) -> bool {
        self.problems.push(Problem { source, key: String::new(), value: None, message });
        false
    }

    fn add_entries(&mut self, table: &DeTable<'_>, path: &mut Vec<String>, source: &dyn Fn(Range<usize>) -> Source) {
        for (name, value) in table {
            path.push(name.get_ref().to_string());
            let source_here = source(name.span());
            match (schema::find(path), value.get_ref()) {
                (Found::Nothing, _) => self.refuse(source_here, path, None, schema::unknown(path)),
                (Found::Table, DeValue::Table(inner)) => {
                    self.add_table(path.clone(), &source_here);
                    self.add_entries(inner, path, source);
                }
                (Found::Table, _) => {
                    let message = match schema::children(path).as_slice() {
                        ["*"] => "expected a table with one table for each name".to_owned(),
                        known => format!("expected a table with {}", known.join(", ")),
                    };
                    self.refuse(source_here, path, plain(value).as_ref(), message);
                }
                (Found::Key(kind), _) => match plain(value) {
                    Some(value) => self.add_value(path.clone(), kind, value, source_here),
                    None => self.refuse(source_here, path, None, format!("expected {}", kind.expected())),
                },
            }
            path.pop();
        }
    }
}

/// The text of a file, or what is wrong with it and, where that can be told, at which line.
fn read(path: &Path) -> Result<String, (Option<usize>, String)> {
    let bytes = std::fs::read(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => (None, "no such file".to_owned()),
        _ => (None, format!("cannot be read: {error}")),
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        (Some(1 + valid.iter().filter(|byte| **byte == b'\n').count()), "not UTF-8 text".to_owned())
    })
}

/// A value without its spans; none for a table, and for a number that fits no type.
fn plain(value: &Spanned<DeValue<'_>>) -> Option<Value> {
    match value.get_ref() {
        DeValue::Table(_) => None,
        _ => Value::deserialize(ValueDeserializer::from(value.clone()).into_deserializer()).ok(),
    }
}

/// Line and column, in characters, both from one.
fn position(text: &str, span: Range<usize>) -> (usize, usize) {
    let before = text.get(..span.start).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or_default();
    (1 + before.matches('\n').count(), 1 + line.chars().count())
}
