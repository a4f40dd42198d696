//! Every key there is and the type of its value, in the order of the default file.
//!
//! serde knows this too, but tells only the first unknown key or wrong type it meets, and nothing to an environment
//! variable that wants to know whether `7411` is text. A test holds this table, the types and the default file together.

use toml::Value;

use crate::{
    key::{dotted, quoted},
    types::Seconds,
};

/// The type of a key's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    /// A string that is not empty.
    Text,
    /// A whole number, not negative.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// A duration, see [`Seconds`].
    Duration,
    /// A list of strings that are not empty.
    List,
    /// One of these strings.
    Choice(&'static [&'static str]),
}

/// What stands at a path.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Found {
    Key(Kind),
    Table,
    Nothing,
}

use Kind::{Boolean, Choice, Duration, Integer, List, Text};

/// `*` is a name of the user's choice.
pub(crate) const KEYS: &[(&str, Kind)] = &[
    ("gateway.listen", Text),
    ("gateway.admin_listen", Text),
    ("gateway.control_listen", Text),
    ("gateway.allow_plaintext", Boolean),
    ("gateway.tls_cert", Text),
    ("gateway.tls_key", Text),
    ("gateway.max_body_bytes", Integer),
    ("gateway.max_calls", Integer),
    ("gateway.max_held_bytes", Integer),
    ("gateway.max_key_share", Integer),
    ("gateway.max_connections", Integer),
    ("gateway.headers_timeout", Duration),
    ("gateway.body_timeout", Duration),
    ("gateway.idle_timeout", Duration),
    ("gateway.reader_timeout", Duration),
    ("gateway.drain_seconds", Integer),
    ("gateway.keep_alive", Duration),
    ("gateway.router", Text),
    ("gateway.auth", Text),
    ("gateway.max_attempts", Integer),
    ("gateway.retry_percent", Integer),
    ("gateway.circuit_failures", Integer),
    ("gateway.circuit_open", Duration),
    ("gateway.circuit_open_max", Duration),
    ("gateway.circuit_probe", Boolean),
    ("gateway.transports.*.address", Text),
    ("gateway.transports.*.labels", List),
    ("auth.listen", Text),
    ("auth.admin_listen", Text),
    ("auth.database", Text),
    ("auth.key_file", Text),
    ("auth.seal_key_file", Text),
    ("auth.identity_url", Text),
    ("auth.refresh_margin", Duration),
    ("auth.proactive_refresh", Boolean),
    ("auth.identity_timeout", Duration),
    ("auth.proxy", Text),
    ("auth.usage_refresh", Duration),
    ("auth.usage_probe_after", Duration),
    ("auth.workspace_refresh", Duration),
    ("auth.max_calls", Integer),
    ("router.listen", Text),
    ("router.admin_listen", Text),
    ("router.max_calls", Integer),
    ("transport.listen", Text),
    ("transport.admin_listen", Text),
    ("transport.name", Text),
    ("transport.seal_key_file", Text),
    ("transport.ca_file", Text),
    ("transport.connect_timeout", Duration),
    ("transport.headers_timeout", Duration),
    ("transport.idle_timeout", Duration),
    ("transport.max_calls", Integer),
    ("transport.max_held_bytes", Integer),
    ("transport.proxy", Text),
    ("egresses.*.proxy", Text),
    ("tls.ca", Text),
    ("tls.cert", Text),
    ("tls.key", Text),
    ("telemetry.log_format", Choice(&["text", "json"])),
    ("defaults.model", Text),
    ("defaults.fallbacks", List),
    ("targets.*.kind", Choice(&["chatgpt-codex", "openai-api", "custom"])),
    ("targets.*.base_url", Text),
    ("targets.*.backend_url", Text),
    ("targets.*.originator", Text),
    ("targets.*.user_agent", Text),
    ("targets.*.version", Text),
    ("targets.*.hoist_instructions", Choice(&["auto", "always", "never"])),
    ("targets.*.api", Text),
    ("targets.*.workspace_origins", List),
    ("providers.*.aliases", List),
    ("providers.*.target", Text),
    ("providers.*.realm", Choice(&["subscription", "api-key"])),
    ("providers.*.egress.require", List),
    ("providers.*.egress.prefer", List),
    ("models.*.name", Text),
    ("models.*.context_window", Integer),
    ("models.*.max_output_tokens", Integer),
    ("models.*.input", List),
    ("agents.*.model", Text),
    ("agents.*.fallbacks", List),
    ("agents.*.credentials", List),
    ("agents.*.allowed", List),
    ("agents.*.egress.require", List),
    ("agents.*.egress.prefer", List),
];

/// Keys without which a table of the user's own means nothing, and what to write.
pub(crate) const REQUIRED: &[(&str, &str, &str)] = &[
    ("gateway.transports.*", "address", "the egress has no address: \"unix:///path\" or \"https://host:port\""),
    (
        "targets.*",
        "kind",
        "the built-in targets are chatgpt-codex and openai-api; a server of your own needs kind = \"custom\"",
    ),
    ("targets.*", "base_url", "the target has no URL, such as \"http://127.0.0.1:8080/v1\""),
    ("providers.*", "target", "the provider has no target, a name under [targets]"),
    ("providers.*", "realm", "the provider has no realm: \"subscription\" or \"api-key\""),
];

/// What stands at the path.
pub(crate) fn find<S: AsRef<str>>(path: &[S]) -> Found {
    let longer = KEYS.iter().find(|(pattern, _)| starts_with(pattern, path));
    match longer {
        Some((pattern, kind)) if pattern.split('.').count() == path.len() => Found::Key(*kind),
        Some(_) => Found::Table,
        None => Found::Nothing,
    }
}

/// The names that may stand below a path, `*` where the user chooses.
pub(crate) fn children<S: AsRef<str>>(path: &[S]) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = KEYS
        .iter()
        .filter(|(pattern, _)| starts_with(pattern, path))
        .filter_map(|(pattern, _)| pattern.split('.').nth(path.len()))
        .collect();
    names.dedup();
    names
}

/// Whether the pattern begins with the path.
pub(crate) fn starts_with<S: AsRef<str>>(pattern: &str, path: &[S]) -> bool {
    let mut parts = pattern.split('.');
    path.iter().all(|name| parts.next().is_some_and(|part| part == "*" || part == name.as_ref()))
}

/// The known key that an unknown one was probably meant to be; none when nothing is near.
pub(crate) fn nearest<S: AsRef<str>>(path: &[S]) -> Option<Vec<String>> {
    let (name, parent) = path.split_last()?;
    let name = name.as_ref();
    let siblings = children(parent);
    let near = |known: &&&str| **known != "*" && strsim::osa_distance(known, name) <= 1 + name.chars().count() / 3;
    let sibling = siblings.iter().filter(near).min_by_key(|known| strsim::osa_distance(known, name));
    let owned = |parts: &[S]| parts.iter().map(|part| part.as_ref().to_owned()).collect::<Vec<_>>();
    if let Some(sibling) = sibling {
        return Some([owned(parent), vec![(*sibling).to_owned()]].concat());
    }
    // Right name, wrong section.
    let (pattern, _) = KEYS.iter().find(|(pattern, _)| pattern.rsplit('.').next() == Some(name))?;
    Some(pattern.split('.').map(str::to_owned).collect())
}

/// What to say about an unknown key.
pub(crate) fn unknown<S: AsRef<str>>(path: &[S]) -> String {
    if let Some(near) = nearest(path) {
        let near: Vec<_> = near.iter().map(|part| if part == "*" { "*".to_owned() } else { quoted(part) }).collect();
        return format!("unknown key; the nearest is {}", near.join("."));
    }
    match path {
        [] | [_] => format!("unknown section; there are {}", children::<&str>(&[]).join(", ")),
        [parent @ .., _] => format!("unknown key; [{}] takes {}", dotted(parent), children(parent).join(", ")),
    }
}

impl Kind {
    /// Whether the value is of this type.
    pub(crate) fn accepts(self, value: &Value) -> bool {
        match (self, value) {
            (Text, Value::String(text)) => !text.is_empty(),
            (Integer, Value::Integer(number)) => *number >= 0,
            (Boolean, Value::Boolean(_)) => true,
            (Duration, Value::Integer(number)) => *number >= 0,
            (Duration, Value::String(text)) => text.parse::<Seconds>().is_ok(),
            (List, Value::Array(items)) => items.iter().all(|item| Text.accepts(item)),
            (Choice(choices), Value::String(text)) => choices.contains(&text.as_str()),
            _ => false,
        }
    }

    /// The value that a text outside TOML, in a variable or a flag, stands for: what is not of this type stays text, to
    /// be refused by [`Kind::accepts`] like any other value.
    pub(crate) fn read(self, text: &str) -> Value {
        let as_text = || Value::from(text);
        match self {
            Text | Duration | Choice(_) => as_text(),
            Integer => text.trim().parse::<i64>().map_or_else(|_| as_text(), Value::from),
            Boolean => text.trim().parse::<bool>().map_or_else(|_| as_text(), Value::from),
            List if text.trim_start().starts_with('[') => text.trim().parse().unwrap_or_else(|_| as_text()),
            List => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                Value::Array(items.map(Value::from).collect())
            }
        }
    }

    /// What a value of this type looks like, to follow "expected".
    pub(crate) fn expected(self) -> String {
        match self {
            Text => "text in quotes".to_owned(),
            Integer => "a whole number, not negative".to_owned(),
            Boolean => "true or false".to_owned(),
            Duration => "whole seconds or a duration such as \"30s\", \"5m\", \"2h\"".to_owned(),
            List => "a list of texts, such as [\"a\", \"b\"]".to_owned(),
            Choice(choices) => choices.iter().map(|choice| format!("\"{choice}\"")).collect::<Vec<_>>().join(" or "),
        }
    }
}
