//! Keys as paths and as people write them: `models."openai-codex/gpt-5.5".name`.

use toml::de::{DeTable, DeValue};

/// The dotted form of a path, its parts quoted where TOML asks for it.
pub(crate) fn dotted<S: AsRef<str>>(path: &[S]) -> String {
    path.iter().map(|part| quoted(part.as_ref())).collect::<Vec<_>>().join(".")
}

/// One part of a key, quoted where TOML asks for it.
pub(crate) fn quoted(part: &str) -> String {
    let is_bare = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if is_bare { part.to_owned() } else { basic_string(part) }
}

/// A text as TOML on one line, which the writer of the `toml` crate does not promise.
pub(crate) fn basic_string(text: &str) -> String {
    let escaped = text.chars().map(|c| match c {
        '"' | '\\' => format!("\\{c}"),
        '\n' => "\\n".to_owned(),
        '\t' => "\\t".to_owned(),
        c if c.is_control() => format!("\\u{:04X}", u32::from(c)),
        c => c.to_string(),
    });
    format!("\"{}\"", escaped.collect::<String>())
}

/// The path that a dotted key means; none when it is no key.
pub(crate) fn parse(key: &str) -> Option<Vec<String>> {
    let document = format!("{key} = true");
    let mut table: &DeTable<'_> = &DeTable::parse(&document).ok()?.into_inner();
    let mut path = Vec::new();
    loop {
        let mut entries = table.iter();
        let (Some((name, value)), None) = (entries.next(), entries.next()) else { return None };
        path.push(name.get_ref().to_string());
        match value.get_ref() {
            DeValue::Table(inner) => table = inner,
            DeValue::Boolean(true) => return Some(path),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_and_reads_back() {
        for (path, key) in [
            (vec!["gateway", "listen"], "gateway.listen"),
            (vec!["models", "openai-codex/gpt-5.5", "name"], r#"models."openai-codex/gpt-5.5".name"#),
            (vec!["agents", "", "model"], r#"agents."".model"#),
            (vec!["agents", "a\"\\\n\t\u{1}ü.b"], r#"agents."a\"\\\n\t\u0001ü.b""#),
        ] {
            assert_eq!(dotted(&path), key);
            assert_eq!(parse(key).expect("a key"), path);
        }
    }

    #[test]
    fn refuses_what_is_no_key() {
        for key in ["", "a b", "a = 1\nb", "a.", "a = 1 #", "models.openai/gpt"] {
            assert_eq!(parse(key), None, "{key}");
        }
    }
}
