//! URLs that calls and logins go to.
//!
//! A wrong path on chatgpt.com is the most expensive mistake there is: the edge answers it with an HTML page and status
//! 403, every program reports a login problem, and people log in again and again. So the paths of the known hosts are
//! fixed here. Loopback takes any path: simulators and local models live there.

use url::{Host, Url};

use super::Findings;
use crate::types::TargetKind;

const CODEX_URL: &str = "https://chatgpt.com/backend-api/codex";
const CODEX_BACKEND_URL: &str = "https://chatgpt.com/backend-api";
const PLATFORM_URL: &str = "https://api.openai.com/v1";
const IDENTITY_URL: &str = "https://auth.openai.com";

/// Write a URL the one way that is compared: no trailing slash, and what the standard normalises (case of the host,
/// default ports, dots in the path). Anything that is no http URL stays as it is, to be refused.
pub(crate) fn canonicalise(text: &mut String) {
    if let Ok(url) = Url::parse(text.trim())
        && url.has_host()
    {
        *text = url.as_str().trim_end_matches('/').to_owned();
    }
}

/// A target's base URL.
pub(super) fn check_base(id: &str, kind: TargetKind, text: &str, findings: &mut Findings) {
    let key = ["targets", id, "base_url"];
    let example = match kind {
        TargetKind::ChatgptCodex => CODEX_URL,
        TargetKind::OpenaiApi => PLATFORM_URL,
        TargetKind::Custom => "https://host/v1",
    };
    let Some(url) = parse(&key, text, example, findings) else { return };
    if is_loopback(&url) {
        return;
    }
    let host = host(&url);
    if is_chatgpt(&host) && kind != TargetKind::ChatgptCodex {
        return findings.text(&key, text, only_codex(&host));
    }
    if is_chatgpt(&host) && !has_path(&url, "/backend-api/codex") {
        let message = format!(
            "any other path on {host} is answered with an HTML 403 page that looks like a login problem and is none; \
             use \"{CODEX_URL}\""
        );
        return findings.text(&key, text, message);
    }
    if is_platform(&host) && kind == TargetKind::ChatgptCodex {
        let message = format!(
            "{host} takes API keys, not subscriptions: that is the target openai-api; here use \"{CODEX_URL}\""
        );
        return findings.text(&key, text, message);
    }
    if is_platform(&host) && !has_path(&url, "/v1") {
        return findings.text(&key, text, format!("the API of {host} stands below /v1; use \"https://{host}/v1\""));
    }
    check_encrypted(&key, text, &url, findings);
}

/// A target's account endpoints.
pub(super) fn check_backend(id: &str, kind: TargetKind, text: &str, findings: &mut Findings) {
    let key = ["targets", id, "backend_url"];
    let Some(url) = parse(&key, text, CODEX_BACKEND_URL, findings) else { return };
    let host = host(&url);
    if is_chatgpt(&host) && kind != TargetKind::ChatgptCodex {
        return findings.text(&key, text, only_codex(&host));
    }
    if is_chatgpt(&host) && !has_path(&url, "/backend-api") {
        let message = format!("the account endpoints of {host} stand below /backend-api; use \"{CODEX_BACKEND_URL}\"");
        return findings.text(&key, text, message);
    }
    check_encrypted(&key, text, &url, findings);
}

fn only_codex(host: &str) -> String {
    format!(
        "{host} is reached only through the target chatgpt-codex ({CODEX_URL}): give the provider \
         target = \"chatgpt-codex\""
    )
}

/// The identity provider.
pub(super) fn check_identity(text: &str, findings: &mut Findings) {
    let key = ["auth", "identity_url"];
    let Some(url) = parse(&key, text, IDENTITY_URL, findings) else { return };
    if host(&url) == "auth.openai.com" && !has_path(&url, "") {
        return findings.text(
            &key,
            text,
            format!("the paths of {} are added to it; use \"{IDENTITY_URL}\"", host(&url)),
        );
    }
    check_encrypted(&key, text, &url, findings);
}

/// Origins that a subscription's calls may be moved to: encrypted, and without a path, which stays the target's own.
pub(super) fn check_origins(id: &str, kind: TargetKind, origins: &[String], findings: &mut Findings) {
    let key = ["targets", id, "workspace_origins"];
    for text in origins {
        let Some(url) = parse(&key, text, "https://workspace.example", findings) else { continue };
        if kind != TargetKind::ChatgptCodex {
            findings.text(&key, text, "only accounts of the target chatgpt-codex have workspaces");
        } else if url.path() != "/" {
            findings.text(&key, text, "an origin has no path: that of base_url is added to it");
        } else {
            check_encrypted(&key, text, &url, findings);
        }
    }
}

/// A URL with scheme and host and nothing that a path cannot be appended to.
fn parse(key: &[&str], text: &str, example: &str, findings: &mut Findings) -> Option<Url> {
    let problem = match Url::parse(text) {
        Err(_) => "not a URL",
        Ok(url) if !["http", "https"].contains(&url.scheme()) => "neither an http nor an https URL",
        Ok(url) if !url.username().is_empty() || url.password().is_some() => "a URL here holds no credentials",
        Ok(url) if url.query().is_some() || url.fragment().is_some() => "a URL here has no query and no fragment",
        Ok(url) => return Some(url),
    };
    findings.text(key, text, format!("{problem}; expected one such as \"{example}\""));
    None
}

/// Tokens travel on these connections.
fn check_encrypted(key: &[&str], text: &str, url: &Url, findings: &mut Findings) {
    if url.scheme() == "http" && !is_loopback(url) {
        findings.text(key, text, "plain http is for loopback only (127.0.0.0/8, ::1, localhost); use https");
    }
}

fn host(url: &Url) -> String {
    // A trailing dot names the same host.
    url.host_str().unwrap_or_default().trim_end_matches('.').to_owned()
}

fn is_chatgpt(host: &str) -> bool {
    host == "chatgpt.com" || host.ends_with(".chatgpt.com") || host == "chat.openai.com"
}

/// With its regional hosts, such as `eu.api.openai.com`.
fn is_platform(host: &str) -> bool {
    host == "api.openai.com" || host.ends_with(".api.openai.com")
}

/// Whether a known host is asked for exactly this path, on its own port.
fn has_path(url: &Url, path: &str) -> bool {
    let asked = url.path();
    url.port().is_none() && asked.strip_suffix('/').unwrap_or(asked) == path
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_urls_one_way() {
        for (text, canonical) in [
            ("https://chatgpt.com/backend-api/codex/", "https://chatgpt.com/backend-api/codex"),
            ("HTTPS://ChatGPT.com:443/backend-api/codex", "https://chatgpt.com/backend-api/codex"),
            ("https://auth.openai.com/", "https://auth.openai.com"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("nonsense", "nonsense"),
        ] {
            let mut url = text.to_owned();
            canonicalise(&mut url);
            assert_eq!(url, canonical);
        }
    }
}
