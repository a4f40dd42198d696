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
    /// Lay a file over what is there.
    pub(crate) fn add_file(&mut self, path: &Path) {
        let source = |line, column| Source::File { path: path.to_owned(), line, column };
        let broken = |source, message| Problem { source, key: String::new(), value: None, message };
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return self.problems.push(broken(source(None, None), "no such file".to_owned()));
            }
            Err(error) => return self.problems.push(broken(source(None, None), format!("cannot be read: {error}"))),
        };
        match String::from_utf8(bytes) {
            Ok(text) => self.add_document(&text, |line, column| source(Some(line), column)),
            Err(error) => {
                let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
                let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
                self.problems.push(broken(source(Some(line), None), "not UTF-8 text".to_owned()));
            }
        }
    }

    /// Lay a TOML text over what is there; `source` makes a source from a line and, for what is no TOML, a column.
    pub(super) fn add_document(&mut self, text: &str, source: impl Fn(usize, Option<usize>) -> Source) {
        match DeTable::parse(text) {
            Ok(table) => {
                self.add_entries(table.get_ref(), &mut Vec::new(), &|span| source(position(text, span).0, None))
            }
            Err(error) => {
                let (line, column) = position(text, error.span().unwrap_or_default());
                // Not the error's `Display`: it quotes the line, which may hold a password.
                let message = format!("not TOML: {}", error.message().replace('\n', ", "));
                self.problems.push(Problem {
                    source: source(line, Some(column)),
                    key: String::new(),
                    value: None,
                    message,
                });
            }
        }
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
                    let message = format!("expected a table with {}", schema::children(path).join(", "));
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
