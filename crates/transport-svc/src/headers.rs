//! Which headers pass, in both directions: what a list names, and nothing else.
//!
//! Account headers come from the sealed credential alone. A caller's authorization and cookies stop here, whatever the
//! gateway let through.

use config::TargetKind;
use domain::{Failure, Reason, service};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use proto::common::v1::Header;
use secrecy::ExposeSecret;
use service_kit::UpstreamSecret;

use crate::targets::Target;

/// First-party originators of Codex (facts: Codex CLI, login/src/auth/default_client.rs); its desktop programs say
/// `Codex …`.
const CODEX_CLIENTS: &[&str] = &["codex_cli_rs", "codex-tui", "codex_vscode", "codex_exec"];
/// Caller headers that pass, beside `x-codex-*`.
const CALLER_HEADERS: &[&str] =
    &["session-id", "session_id", "thread-id", "conversation_id", "x-client-request-id", "openai-beta"];
/// Codex names the model in it; it passes only if that is the model which is called.
const ROUTING_HINT: &str = "x-codex-routing-hint";
/// By which a workspace tells where its requests are handled.
const ACCOUNT_ROUTING: &str = "x-openai-account-routing-override";
/// Upstream response headers that pass, beside `x-codex-*`, `x-ratelimit-*` and the windows of other limits.
const RESPONSE_HEADERS: &[&str] = &[
    "cf-ray",
    "content-type",
    "openai-model",
    "openai-processing-ms",
    "openai-version",
    "retry-after",
    "retry-after-ms",
    "x-models-etag",
    "x-oai-request-id",
    "x-reasoning-included",
    "x-request-id",
];
/// What ends the name of a header about a limit: `x-<limit id>-primary-used-percent` and its kin.
const LIMIT_SUFFIXES: &[&str] =
    &["-used-percent", "-window-minutes", "-reset-at", "-reset-after-seconds", "-limit-name"];

/// The caller's headers, as the gateway passed them on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller<'a>(pub(crate) &'a [Header]);

impl<'a> Caller<'a> {
    fn get(self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|h| h.name.eq_ignore_ascii_case(name)).map(|h| h.value.as_str())
    }

    /// The name of the Codex client that calls, if one does.
    fn codex_client(self) -> Option<&'a str> {
        let known = |name: &&str| CODEX_CLIENTS.contains(name) || name.starts_with("Codex ");
        let from_agent = || self.get("user-agent").and_then(|agent| agent.split('/').next());
        self.get("originator").filter(known).or_else(|| from_agent().filter(known))
    }

    /// True if the caller is Codex CLI or another Codex program.
    pub(crate) fn is_codex(self) -> bool {
        self.codex_client().is_some()
    }
}

/// The headers of a request to `target`, but for cookies.
pub(crate) fn request(
    target: &Target,
    secret: &UpstreamSecret,
    caller: Caller<'_>,
    model: &str,
) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    pass_on(&mut headers, target.kind, caller, model);
    identify(&mut headers, target, caller);
    authorize(&mut headers, target.kind, secret)?;
    Ok(headers)
}

/// Adds what the account's workspace demands of a Responses request (facts: Codex CLI sends it with no other).
pub(crate) fn route(headers: &mut HeaderMap, kind: TargetKind, secret: &UpstreamSecret) -> Result<(), Failure> {
    let Some(routing) = secret.routing.as_deref().filter(|_| kind == TargetKind::ChatgptCodex) else { return Ok(()) };
    let value = HeaderValue::from_str(routing).map_err(|_| {
        let message = "the account's routing override holds characters that cannot be sent in a header";
        Failure::new(Reason::Internal, service::TRANSPORT, message)
    })?;
    headers.insert(ACCOUNT_ROUTING, value);
    Ok(())
}

fn pass_on(headers: &mut HeaderMap, kind: TargetKind, caller: Caller<'_>, model: &str) {
    for Header { name, value } in caller.0 {
        let name = name.to_ascii_lowercase();
        let listed = CALLER_HEADERS.contains(&name.as_str()) || name.starts_with("x-codex-");
        let misleads = name == ROUTING_HINT && (kind != TargetKind::ChatgptCodex || !names_model(value, model));
        if !listed || misleads {
            continue;
        }
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.append(name, value);
        }
    }
}

/// `model=gpt-5.5;tier=priority`
fn names_model(hint: &str, model: &str) -> bool {
    hint.split(';').any(|part| part.trim().strip_prefix("model=").is_some_and(|named| named == model))
}

/// Who calls: a known client by its own name, everybody else by ours.
fn identify(headers: &mut HeaderMap, target: &Target, caller: Caller<'_>) {
    let client = caller.codex_client();
    let own = |name: &str| client.and_then(|_| caller.get(name)).and_then(|v| HeaderValue::from_str(v).ok());
    let originator = client.and_then(|name| HeaderValue::from_str(name).ok());
    if target.kind == TargetKind::ChatgptCodex {
        headers.insert("originator", originator.unwrap_or_else(|| target.originator.clone()));
    } else if let Some(originator) = originator {
        headers.insert("originator", originator);
    }
    headers.insert(header::USER_AGENT, own("user-agent").unwrap_or_else(|| target.user_agent.clone()));
    if let Some(version) = own("version").or_else(|| target.version.clone()) {
        headers.insert("version", version);
    }
}

fn authorize(headers: &mut HeaderMap, kind: TargetKind, secret: &UpstreamSecret) -> Result<(), Failure> {
    let bad = |what: &str| {
        let message = format!("the credential's {what} holds characters that cannot be sent in a header");
        Failure::new(Reason::Internal, service::TRANSPORT, message).next_step("import the credential again")
    };
    let sensitive = |text: &str, what: &str| {
        let mut value = HeaderValue::from_str(text).map_err(|_| bad(what))?;
        value.set_sensitive(true);
        Ok::<_, Failure>(value)
    };
    let bearer = secrecy::zeroize::Zeroizing::new(format!("Bearer {}", secret.token.expose_secret()));
    headers.insert(header::AUTHORIZATION, sensitive(&bearer, "token")?);
    if kind != TargetKind::ChatgptCodex {
        return Ok(());
    }
    if let Some(account) = secret.account_id.as_deref().filter(|id| !id.is_empty()) {
        headers.insert("chatgpt-account-id", HeaderValue::from_str(account).map_err(|_| bad("account id"))?);
    }
    if secret.fedramp {
        headers.insert("x-openai-fedramp", HeaderValue::from_static("true"));
    }
    Ok(())
}

/// The upstream's response headers that may pass to the caller.
pub(crate) fn relayed(headers: &HeaderMap) -> Vec<Header> {
    let passes = |name: &str| {
        RESPONSE_HEADERS.contains(&name)
            || name.starts_with("x-codex-")
            || name.starts_with("x-ratelimit-")
            || (name.starts_with("x-") && LIMIT_SUFFIXES.iter().any(|suffix| name.ends_with(suffix)))
    };
    let passing = headers.iter().filter(|(name, _)| passes(name.as_str()));
    // Only visible ASCII: what cannot be read as such is left out.
    passing
        .filter_map(|(name, value)| {
            Some(Header { name: name.as_str().to_owned(), value: value.to_str().ok()?.to_owned() })
        })
        .collect()
}

/// A header as text.
pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(name: &str, value: &str) -> Header {
        Header { name: name.into(), value: value.into() }
    }

    fn sent(id: &str, caller: &[Header]) -> HeaderMap {
        let base_url = "http://127.0.0.1:1/backend-api/codex".to_owned();
        let target = config::Target { base_url, version: Some("0.170.0".into()), ..Default::default() };
        let target = Target::new(id, &target).expect("good");
        let secret = UpstreamSecret {
            token: "tok".to_owned().into(),
            account_id: Some("acct".into()),
            fedramp: true,
            routing: None,
        };
        request(&target, &secret, Caller(caller), "gpt-5.5").expect("good")
    }

    #[test]
    fn only_what_is_listed_passes_up() {
        let caller = [
            header("authorization", "Bearer sbk_mine"),
            header("cookie", "a=b"),
            header("x-stainless-lang", "js"),
            header("chatgpt-account-id", "other"),
            header("x-openai-account-routing-override", "us"),
            header("Session-Id", "s1"),
            header("x-codex-turn-state", "t"),
            header("x-codex-routing-hint", "model=other"),
            header("user-agent", "OpenAI/JS 7.15.0"),
            header("originator", "somebody"),
            header("version", "9.9.9"),
        ];
        let headers = sent("chatgpt-codex", &caller);
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "authorization",
                "chatgpt-account-id",
                "originator",
                "session-id",
                "user-agent",
                "version",
                "x-codex-turn-state",
                "x-openai-fedramp"
            ]
        );
        assert_eq!(headers["authorization"], "Bearer tok");
        assert!(headers["authorization"].is_sensitive());
        assert_eq!(headers["chatgpt-account-id"], "acct");
        assert_eq!(headers["originator"], "switchboard");
        assert_eq!(headers["version"], "0.170.0");
        assert!(headers["user-agent"].to_str().expect("text").starts_with("switchboard/"));
    }

    #[test]
    fn a_codex_client_keeps_its_own_name() {
        let caller = [
            header("originator", "codex_exec"),
            header("user-agent", "codex_exec/0.169.0 (Debian 12.0.0; x86_64) xterm"),
            header("version", "0.169.0"),
            header("x-codex-routing-hint", "model=gpt-5.5;tier=priority"),
        ];
        let headers = sent("chatgpt-codex", &caller);
        assert_eq!(headers["originator"], "codex_exec");
        assert_eq!(headers["user-agent"], "codex_exec/0.169.0 (Debian 12.0.0; x86_64) xterm");
        assert_eq!(headers["version"], "0.169.0");
        assert!(headers.contains_key("x-codex-routing-hint"));
        assert!(Caller(&caller).is_codex());
        assert!(Caller(&[header("user-agent", "Codex Desktop/1.0")]).is_codex());
        assert!(!Caller(&[header("user-agent", "my-codex_exec/1")]).is_codex());
    }

    #[test]
    fn account_headers_stay_with_the_codex_backend() {
        let headers = sent("local", &[]);
        assert!(!headers.contains_key("chatgpt-account-id") && !headers.contains_key("x-openai-fedramp"));
        assert!(!headers.contains_key("originator"));
        assert_eq!(headers["authorization"], "Bearer tok");
    }

    #[test]
    fn only_what_is_listed_passes_down() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-request-id", "r"),
            ("set-cookie", "__cf_bm=1"),
            ("x-codex-primary-used-percent", "4"),
            ("x-gpt-5-codex-primary-reset-at", "9"),
            ("openai-organization", "org"),
            ("server", "cloudflare"),
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers.append("openai-model", HeaderValue::from_bytes(b"g\xfcnther").expect("bytes"));
        let mut names: Vec<_> = relayed(&headers).into_iter().map(|h| h.name).collect();
        names.sort_unstable();
        assert_eq!(names, ["x-codex-primary-used-percent", "x-gpt-5-codex-primary-reset-at", "x-request-id"]);
    }
}
