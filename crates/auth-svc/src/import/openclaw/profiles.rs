//! One profile of `auth-profiles.json`.

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value};

use super::sidecar::{Sidecars, Tokens};
use super::{label, provider};
use crate::import::codex::{openai_key, without};
use crate::import::input;
use crate::import::plan::{Context, Item};
use crate::import::{CODEX, OPENAI};
use crate::jwt::{Claims, unverified_claims};
use crate::store::{Kind, NewCredential, Secrets, Source};

/// Values that OpenClaw writes where a key belongs although no key is meant.
const MARKERS: [&str; 3] = ["codex-app-server", "custom-local", "oauth"];

/// Reads a profile. What is wrong with it is its own fate: the other profiles are imported all the same.
pub(super) fn read(context: &Context<'_>, sidecars: &Sidecars<'_>, name: &str, id: &str, profile: &Value) -> Item {
    let Value::Object(profile) = profile else {
        return Item::skip(name, "", format!("it is {}, not an object", input::kind(profile)));
    };
    let written = input::string(profile, "provider").ok().flatten();
    // Early profiles name their provider in the id alone.
    let written = written.unwrap_or_else(|| id.split(':').next().unwrap_or_default().to_owned());
    let Some(provider) = provider(&written) else {
        return Item::skip(name, written.as_str(), format!("the provider {written:?} is not served by Switchboard"));
    };
    let read = match (input::string(profile, "type"), provider) {
        (Ok(Some(kind)), _) if kind == "oauth" => oauth(context, sidecars, name, id, profile),
        (Ok(Some(kind)), OPENAI) if kind == "api_key" => api_key(name, profile),
        (Ok(Some(kind)), _) if kind == "api_key" => Err(format!(
            "an API key does not open the subscription's backend ({provider}); if it is a key of the OpenAI platform, \
             run `switchboard login api-key --provider openai`"
        )),
        (Ok(Some(kind)), _) if kind == "token" => {
            Err("a bare token is no Codex login: it cannot be refreshed; run `switchboard login codex`".to_owned())
        }
        (Ok(Some(kind)), _) => Err(format!("profiles of type {kind:?} are not read")),
        (Ok(None), _) => Err("it has no `type`".to_owned()),
        (Err(why), _) => Err(why),
    };
    match read {
        Ok(credential) => context.take(name, credential),
        Err(why) => {
            // A login of provider `openai` is one of the subscription, whatever became of it.
            let is_login = profile.get("type").and_then(Value::as_str) == Some("oauth");
            Item::skip(name, if is_login { CODEX } else { provider }, why)
        }
    }
}

fn api_key(name: &str, profile: &Map<String, Value>) -> Result<NewCredential, String> {
    let reference = ["keyRef", "key"].into_iter().find_map(|field| profile.get(field)).and_then(reference);
    if let Some(reference) = reference {
        return Err(format!(
            "its key is {reference}, which an import does not resolve; hand the key over with \
             `switchboard login api-key --provider openai`"
        ));
    }
    let key = input::secret(profile, "key")?.ok_or("it has no `key`")?;
    if MARKERS.contains(&key.expose_secret()) {
        return Err("its `key` is a marker of OpenClaw's, not a key".to_owned());
    }
    Ok(NewCredential {
        email: input::string(profile, "email")?,
        secrets: Secrets::Present { access: None, refresh: None, id_token: None, api_key: Some(key) },
        extra: without(profile, &[&["key"]]),
        profile: Some(name.to_owned()),
        ..openai_key(&label(name), Source::OpenClaw)
    })
}

/// What a value refers to, if it is a reference in place of a secret: `{source, id}`, `${NAME}`, `secretref-…`.
fn reference(value: &Value) -> Option<String> {
    match value {
        Value::Object(map) => {
            let part = |field| input::string(map, field).ok().flatten();
            let source = part("source").unwrap_or_else(|| "unknown source".to_owned());
            Some(
                part("id")
                    .map_or_else(|| format!("a reference ({source})"), |id| format!("a reference ({source}: {id})")),
            )
        }
        Value::String(text) => {
            let text = text.trim();
            let name = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
            let name = name.or_else(|| text.strip_prefix('$')).or_else(|| text.strip_prefix("secretref-env:"));
            // Only what can be nothing but a variable's name is shown: a key may begin with a dollar sign too.
            let is_name = |name: &&str| name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
            let name = name.filter(is_name);
            name.map(|name| format!("a reference (env: {name})"))
        }
        _ => None,
    }
}

fn oauth(
    context: &Context<'_>,
    sidecars: &Sidecars<'_>,
    name: &str,
    id: &str,
    profile: &Map<String, Value>,
) -> Result<NewCredential, String> {
    for field in ["access", "refresh", "idToken"] {
        if let Some(reference) = profile.get(field).and_then(reference) {
            return Err(format!(
                "its `{field}` is {reference}: OpenClaw refuses this for logins, and an import does too"
            ));
        }
    }
    let inline = Tokens::read(profile)?;
    let opened = match profile.get("oauthRef").filter(|reference| !reference.is_null()) {
        // Inline tokens are what later versions write back over a reference.
        _ if !inline.is_empty() => Ok(inline),
        Some(reference) => sidecars.open(id, profile, reference),
        None => return Err("it holds neither tokens nor a reference to them (oauthRef): log in again".to_owned()),
    };
    let claims = |token: Option<&SecretString>| token.map(|t| unverified_claims(t.expose_secret())).unwrap_or_default();
    let (of_access, of_id) = match &opened {
        Ok(tokens) => (claims(tokens.access.as_ref()), claims(tokens.id_token.as_ref())),
        Err(_) => (Claims::default(), Claims::default()),
    };
    Ok(NewCredential {
        label: label(name),
        provider: CODEX.to_owned(),
        kind: Kind::OAuth,
        issuer: Some(context.issuer(None, [&of_access, &of_id])),
        client_id: input::string(profile, "clientId")?,
        account_id: input::string(profile, "accountId")?.or(of_access.account_id).or(of_id.account_id),
        email: input::string(profile, "email")?.or(of_access.email).or(of_id.email),
        plan: input::string(profile, "chatgptPlanType")?.or(of_access.plan).or(of_id.plan),
        user_id: of_access.user_id.or(of_id.user_id),
        fedramp: of_access.fedramp || of_id.fedramp,
        source: Source::OpenClaw,
        secrets: match opened {
            Ok(Tokens { access, refresh, id_token }) => Secrets::Present { access, refresh, id_token, api_key: None },
            Err(detail) => Secrets::Undecryptable { detail },
        },
        extra: without(profile, &[&["access"], &["refresh"], &["idToken"]]),
        // The token's own word before that of the file, which may be older.
        access_expires_at: of_access.exp.or_else(|| expires(profile)),
        last_refresh: None,
        borrowed: context.borrow,
        profile: Some(name.to_owned()),
    })
}

/// Unix seconds from `expires`, which is in milliseconds; OpenClaw takes anything but a positive number for unknown.
fn expires(profile: &Map<String, Value>) -> Option<i64> {
    let ms = profile.get("expires")?;
    let ms = ms.as_i64().or_else(|| ms.as_f64().map(|ms| ms as i64))?;
    (ms > 0).then_some(ms / 1000)
}
