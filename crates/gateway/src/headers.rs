//! Which of a caller's headers reach the upstream, and which of the upstream's reach the caller.

use http::{HeaderMap, HeaderName, HeaderValue};
use proto::common::v1::Header;

/// Caller headers that pass. Account and routing headers come from the credential alone, so none of them is here.
const PASS: [&str; 9] = [
    "session-id",
    "session_id",
    "thread-id",
    "conversation_id",
    "x-client-request-id",
    "openai-beta",
    "originator",
    "user-agent",
    "version",
];
/// Caller headers that pass by the beginning of their names.
const PASS_PREFIX: &str = "x-codex-";
/// Where a session is named, first match first. Codex sends `session-id`; older builds and others the rest.
const SESSION: [&str; 4] = ["session-id", "session_id", "conversation_id", "thread-id"];
/// Longest value that passes.
const MAX_VALUE: usize = 16 * 1024;

/// The caller's headers that pass, in lower case, as they came. Whether originator, user agent and version are a known
/// client's is transport-svc's decision.
pub(crate) fn passing(headers: &HeaderMap) -> Vec<Header> {
    let passes = |name: &str| PASS.contains(&name) || name.starts_with(PASS_PREFIX);
    headers
        .iter()
        .filter(|(name, value)| passes(name.as_str()) && value.len() <= MAX_VALUE)
        .filter_map(|(name, value)| {
            Some(Header { name: name.as_str().to_owned(), value: value.to_str().ok()?.to_owned() })
        })
        .collect()
}

/// The session that the caller's headers name.
pub(crate) fn session(headers: &HeaderMap) -> Option<String> {
    let value = SESSION.iter().find_map(|name| headers.get(*name)?.to_str().ok().filter(|v| !v.is_empty()))?;
    Some(value.to_owned())
}

/// Adds the upstream's headers to ours. transport-svc has chosen them; what frames our own message stays ours.
pub(crate) fn add_upstream(ours: &mut HeaderMap, upstream: &[Header]) {
    const FRAMING: [&str; 6] =
        ["content-type", "content-length", "content-encoding", "transfer-encoding", "connection", "retry-after"];
    for header in upstream {
        let name = HeaderName::try_from(header.name.as_str()).ok();
        if let (Some(name), Ok(value)) = (name, HeaderValue::try_from(header.value.as_str()))
            && !FRAMING.contains(&name.as_str())
            && !name.as_str().starts_with("x-switchboard-")
        {
            ours.append(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_allow_list_passes() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("Session-Id", "s1"),
            ("X-Codex-Turn-State", "t"),
            ("OpenAI-Beta", "b"),
            ("User-Agent", "codex_exec/0.169.0"),
            ("Authorization", "Bearer sbk_secret"),
            ("Cookie", "a=b"),
            ("ChatGPT-Account-Id", "other"),
            ("X-OpenAI-Account-Routing-Override", "us_cr"),
            ("X-Stainless-Os", "Linux"),
            ("Content-Length", "3"),
        ] {
            headers.insert(HeaderName::try_from(name).unwrap(), HeaderValue::from_static(value));
        }
        let mut names: Vec<_> = passing(&headers).into_iter().map(|h| h.name).collect();
        names.sort();
        assert_eq!(names, ["openai-beta", "session-id", "user-agent", "x-codex-turn-state"]);
        assert_eq!(session(&headers).as_deref(), Some("s1"));
    }

    #[test]
    fn the_upstream_does_not_frame_our_answer() {
        let mut ours = HeaderMap::new();
        let header = |name: &str| Header { name: name.into(), value: "v".into() };
        add_upstream(
            &mut ours,
            &[header("x-request-id"), header("content-length"), header("bad name"), header("x-switchboard-call-id")],
        );
        assert_eq!(ours.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-request-id"]);
    }
}
