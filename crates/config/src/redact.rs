//! Values as they may be shown: in errors, in `config show`, in `Debug`.

use toml::Value;

use crate::key::basic_string;

/// A key's text as it may be shown. URLs lose what may be secret in them; everything else is configuration, not secret.
fn shown(key: &str, text: &str) -> String {
    // A broken URL is shown too, so the key decides where the text does not look like one. A credential's label may
    // well be an e-mail address and stays whole.
    let is_url = key.ends_with("proxy") || key.ends_with("_url") || text.contains("://");
    if is_url { redact(text) } else { text.to_owned() }
}

/// A key's value as TOML on one line, as it may be shown.
pub(crate) fn inline(key: &str, value: &Value) -> String {
    match value {
        Value::String(text) => basic_string(&shown(key, text)),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(|item| inline(key, item)).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// A URL as it may be shown: without credentials, query and fragment.
pub fn redact(text: &str) -> String {
    let (scheme, rest) = text.find("://").map_or(("", text), |at| text.split_at(at + "://".len()));
    let (credentials, rest) = rest.rsplit_once('@').map_or(("", rest), |(_, host)| ("***@", host));
    let (rest, query) = rest.find(['?', '#']).map_or((rest, ""), |at| (&rest[..at], "?***"));
    format!("{scheme}{credentials}{rest}{query}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hides_credentials_and_queries_of_urls() {
        for (text, shown) in [
            ("http://user:hunter2@proxy:3128", "http://***@proxy:3128"),
            ("socks5://a:p@ss@proxy:1080/x", "socks5://***@proxy:1080/x"),
            ("user:hunter2@proxy:3128", "***@proxy:3128"),
            ("https://host/v1?key=hunter2", "https://host/v1?***"),
            ("https://u:p?w#x@host/v1#part", "https://***@host/v1?***"),
            ("https://chatgpt.com/backend-api/codex", "https://chatgpt.com/backend-api/codex"),
        ] {
            assert_eq!(redact(text), shown);
        }
    }

    #[test]
    fn leaves_what_is_no_url_alone() {
        assert_eq!(shown("agents.main.credentials", "me@example.com"), "me@example.com");
        assert_eq!(shown("auth.database", "sqlite:/srv/a@b/c.db?mode=rwc"), "sqlite:/srv/a@b/c.db?mode=rwc");
        assert_eq!(shown("transport.proxy", "me:hunter2@proxy"), "***@proxy");
        assert_eq!(shown("gateway.router", "https://me:hunter2@router:7413"), "https://***@router:7413");
    }
}
