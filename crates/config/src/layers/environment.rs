//! The layer of the environment: `SWITCHBOARD__SECTION__KEY`.

use super::Layers;
use crate::{
    problem::{Problem, Source},
    schema::{self, Found},
};

/// Two underscores, so that `SWITCHBOARD_CONFIG` and what a container platform adds (`SWITCHBOARD_PORT`) are not ours.
const PREFIX: &str = "SWITCHBOARD__";

impl Layers {
    /// Lay the variables that are meant for us over what is there.
    pub(crate) fn add_environment(&mut self, variables: &[(String, String)]) {
        let mut ours: Vec<_> = variables.iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
        // The environment has no order of its own; errors should have one.
        ours.sort();
        for (name, text) in ours {
            let source = Source::Env { name: name.clone() };
            match self.path_of(&name[PREFIX.len()..]) {
                Ok(path) => match schema::find(&path) {
                    Found::Key(kind) => self.add_value(path, kind, kind.read(text), source),
                    _ => self.refuse(source, &path, None, "a table; name a key in it".to_owned()),
                },
                Err(message) => self.problems.push(Problem { source, key: String::new(), value: None, message }),
            }
        }
    }

    /// The key that a variable names. A name of the user's choice is one that is there already when both agree in
    /// letters and digits, so that `CHATGPT_CODEX` is `chatgpt-codex`; otherwise it is new, with `-` for `_`.
    fn path_of(&self, variable: &str) -> Result<Vec<String>, String> {
        let mut path: Vec<String> = Vec::new();
        for part in variable.split("__") {
            let known = schema::children(&path);
            let name = match known.as_slice() {
                ["*"] => self.entry_named(&path, part)?,
                known => known.iter().find(|name| normal(name) == normal(part)).map(|name| (*name).to_owned()),
            };
            let Some(name) = name else {
                path.push(part.to_lowercase());
                let near = schema::nearest(&path)
                    .map_or_else(String::new, |near| format!("; the nearest is {}", variable_of(&near)));
                return Err(format!("unknown variable{near}"));
            };
            path.push(name);
        }
        Ok(path)
    }

    /// The entry of a table with names of the user's choice; none when the part can be no name.
    fn entry_named(&self, table: &[String], part: &str) -> Result<Option<String>, String> {
        let depth = table.len();
        let mut there = self.entries.keys().filter(|path| path.len() == depth + 1 && path.starts_with(table));
        let mut matching = there.by_ref().map(|path| &path[depth]).filter(|name| normal(name) == normal(part));
        match (matching.next(), matching.next()) {
            (Some(name), None) => Ok(Some(name.clone())),
            (Some(one), Some(other)) => Err(format!("may mean {one} or {other}: say it in the file")),
            (None, _) if table == ["models"] => {
                Err("no such model: a variable cannot spell \"provider/model\", so add its table to the file first"
                    .to_owned())
            }
            (None, _) if part.is_empty() => Ok(None),
            (None, _) => Ok(Some(part.to_lowercase().replace('_', "-"))),
        }
    }
}

/// The variable that names a key.
fn variable_of(path: &[String]) -> String {
    let parts: Vec<_> = path.iter().map(|part| if part == "*" { "*".to_owned() } else { normal(part) }).collect();
    format!("{PREFIX}{}", parts.join("__").to_uppercase())
}

/// What a name and its form in a variable have in common.
fn normal(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect()
}
