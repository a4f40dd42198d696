//! What the fuzz targets in `fuzz/` call: everything that reads bytes which others wrote, with what must hold for all of
//! them. An ordinary test runs the targets over their seeds, so that they never rot.

use proto::auth::v1::{ImportCredentialsRequest, ImportFile};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::ExposeSecret as _;
use serde_json::Value;

use crate::identity::{Answer, Body};
use crate::import;
use crate::jwt::unverified_claims;
use crate::refresh::{Refusal, classify};

/// Divides the files of one input.
const SEPARATOR: u8 = 0x1e;
/// The files of OpenClaw's state directory, in the order of an input's parts; the last part is the sidecars' seed.
const OPENCLAW: [&str; 5] = [
    "agents/main/agent/auth-profiles.json",
    "agents/main/agent/auth-state.json",
    "openclaw.json",
    "credentials/auth-profiles/0123456789abcdef0123456789abcdef.json",
    "agents/second/agent/auth-profiles.json",
];
/// Fields of the foreign files that hold secrets.
const SECRETS: [&str; 9] =
    ["access_token", "refresh_token", "id_token", "OPENAI_API_KEY", "access", "refresh", "idToken", "key", "token"];

/// Codex CLI's `auth.json`: never a panic, and no word that is said of it holds one of its secrets.
pub fn codex_import(data: &[u8]) {
    import_of("codex", vec![file("auth.json", data)], None);
}

/// OpenClaw's state directory: parts divided by the byte 0x1e. The same must hold.
pub fn openclaw_import(data: &[u8]) {
    let mut parts = data.split(|byte| *byte == SEPARATOR);
    let files = OPENCLAW.iter().zip(&mut parts).filter(|(_, part)| !part.is_empty());
    let files = files.map(|(name, part)| file(name, part)).collect();
    let seed = parts.next().map(|seed| file("auth-profile-secret-key", seed));
    import_of("openclaw", files, seed);
}

/// A JSON web token: never a panic; text that is no claim is none.
pub fn claims(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let claims = unverified_claims(text);
    assert!(text.contains('.') || claims == crate::jwt::Claims::default(), "claims of what is no token");
    for said in [&claims.email, &claims.account_id, &claims.plan, &claims.user_id].into_iter().flatten() {
        assert!(!said.is_empty(), "an empty claim is none");
    }
}

/// An answer of the token endpoint: the first two bytes are the status, the third says which headers come along. What is
/// a page or a challenge never ends a login, no secret of the answer is said, and what is a refusal has a cause.
pub fn token_answer(data: &[u8]) {
    let [high, low, flags, body @ ..] = data else { return };
    let status = 100 + u16::from_be_bytes([*high, *low]) % 500;
    let mut headers = HeaderMap::new();
    let known: [(&'static str, &'static str); 6] = [
        ("content-type", "application/json"),
        ("content-type", "text/html; charset=utf-8"),
        ("cf-mitigated", "challenge"),
        ("cf-ray", "8f1d2c3b4a59-FRA"),
        ("retry-after", "7"),
        ("retry-after", "1e308"),
    ];
    for (bit, (name, value)) in known.into_iter().enumerate() {
        if flags & (1 << bit) != 0 {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
    }
    let answer = Answer::raw(status, &headers, body);
    let page = matches!(answer.body, Body::Challenge(_) | Body::Page | Body::Redirect);
    match classify(&answer) {
        Ok(tokens) => {
            assert!((200..300).contains(&status) && !page, "tokens from a status {status}");
            assert!(tokens.expires_in.is_none_or(|seconds| seconds > 0), "a lifetime that is none");
            for token in [&tokens.access, &tokens.refresh, &tokens.id_token].into_iter().flatten() {
                assert!(!token.expose_secret().is_empty(), "an empty token is none");
            }
        }
        Err(Refusal::Permanent { cause, .. }) => {
            assert!(!page && (400..500).contains(&status), "a page or status {status} ended a login");
            assert_silent(body, body, &[cause]);
        }
        Err(refusal) => assert_silent(body, body, &[format!("{refusal:?}")]),
    }
}

fn file(name: &str, content: &[u8]) -> ImportFile {
    ImportFile { name: name.to_owned(), content: content.to_vec().into() }
}

fn import_of(format: &str, files: Vec<ImportFile>, seed: Option<ImportFile>) {
    let parts: Vec<Vec<u8>> = files.iter().map(|file| file.content.to_vec()).collect();
    let request =
        ImportCredentialsRequest { format: format.to_owned(), files, secret_seed: seed, ..Default::default() };
    let said = import::said_of(request);
    let whole = parts.concat();
    for part in &parts {
        assert_silent(part, &whole, &said);
    }
}

/// No secret of the JSON in `bytes` is part of what was said. A secret that stands twice in the whole input may be a name
/// too.
fn assert_silent(bytes: &[u8], whole: &[u8], said: &[String]) {
    let (Ok(text), whole) = (std::str::from_utf8(bytes), String::from_utf8_lossy(whole)) else { return };
    let Ok(json) = serde_json::from_str::<Value>(text) else { return };
    let mut secrets = Vec::new();
    gather(&json, &mut secrets);
    for secret in secrets.into_iter().filter(|secret| whole.matches(secret).count() == 1) {
        assert!(said.iter().all(|line| !line.contains(secret)), "a secret was said");
    }
}

/// Long, of a token's characters, and no URL, which may be one of our own words.
fn could_be_a_token(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.+/=".contains(&b);
    text.len() >= 24 && text.bytes().all(plain) && text.bytes().any(|b| b.is_ascii_digit())
}

fn gather<'a>(json: &'a Value, secrets: &mut Vec<&'a str>) {
    match json {
        Value::Object(map) => {
            for (name, value) in map {
                match value.as_str().map(str::trim) {
                    Some(text) if SECRETS.contains(&name.as_str()) && could_be_a_token(text) => secrets.push(text),
                    _ => gather(value, secrets),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| gather(item, secrets)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    type Target = fn(&[u8]);

    #[test]
    fn every_target_holds_for_its_seeds() {
        let targets: [(&str, Target); 4] = [
            ("codex_import", super::codex_import),
            ("openclaw_import", super::openclaw_import),
            ("claims", super::claims),
            ("token_answer", super::token_answer),
        ];
        for (name, target) in targets {
            let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(name);
            let mut run = 0;
            for entry in std::fs::read_dir(&seeds).expect("seeds") {
                let seed = std::fs::read(entry.expect("an entry").path()).expect("a seed");
                target(&seed);
                // Cut anywhere, it is still somebody's file.
                for end in 0..seed.len() {
                    target(&seed[..end]);
                }
                run += 1;
            }
            assert!(run > 1, "{name} has no seeds");
        }
    }
}
