//! Model names as agents write them: `provider/model`, or a bare `model`.

use std::fmt;

/// A model name, split at its first slash. The provider is in lower case; the model is kept as written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelRef {
    /// Provider or alias; `None` for a bare name.
    pub provider: Option<String>,
    /// Model name as the upstream knows it.
    pub model: String,
}

impl ModelRef {
    /// Splits a name. `None` if it is empty, longer than 256 bytes, has an empty half, or holds a control character
    /// or white space: such a name can only be a mistake, and would end up in logs.
    pub fn parse(name: &str) -> Option<Self> {
        let name = name.trim();
        if name.is_empty() || name.len() > 256 || name.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return None;
        }
        match name.split_once('/') {
            None => Some(Self { provider: None, model: name.to_owned() }),
            Some((provider, model)) if !provider.is_empty() && !model.is_empty() => {
                Some(Self { provider: Some(provider.to_ascii_lowercase()), model: model.to_owned() })
            }
            Some(_) => None,
        }
    }
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.provider {
            Some(provider) => write!(f, "{provider}/{}", self.model),
            None => f.write_str(&self.model),
        }
    }
}

/// True if `pattern` covers `model`. Both are canonical (`provider/model`); a pattern may end in `*`.
pub(crate) fn covers(pattern: &str, model: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => model.starts_with(prefix),
        None => pattern == model,
    }
}

impl ModelRef {
    /// True if one of `patterns` (canonical names, or prefixes that end in `*`) covers this model, or if there are none.
    pub fn allowed_by<S: AsRef<str>>(&self, patterns: &[S]) -> bool {
        let name = self.to_string();
        patterns.is_empty() || patterns.iter().any(|p| covers(p.as_ref(), &name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split_at_the_first_slash() {
        let name = ModelRef::parse("OpenAI-Codex/gpt-5.5").expect("a name");
        assert_eq!(name.provider.as_deref(), Some("openai-codex"));
        assert_eq!(name.model, "gpt-5.5");
        assert_eq!(ModelRef::parse("local/org/model").expect("a name").model, "org/model");
        assert_eq!(ModelRef::parse("gpt-5.5").expect("a name").provider, None);
        for bad in ["", "  ", "/x", "x/", "a b", "a/\u{7}b", &"x".repeat(257)] {
            assert_eq!(ModelRef::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn patterns_cover_names() {
        let name = ModelRef::parse("openai-codex/gpt-5.5").expect("a name");
        assert!(name.allowed_by::<&str>(&[]));
        assert!(name.allowed_by(&["openai-codex/*"]));
        assert!(name.allowed_by(&["openai/*", "openai-codex/gpt-5.5"]));
        assert!(!name.allowed_by(&["openai/*"]));
        assert!(!name.allowed_by(&["openai-codex/gpt-5"]));
    }
}
