//! Codex CLI's `auth.json`.

use proto::auth::v1::ExportCredentialsRequest;
use secrecy::ExposeSecret;
use serde_json::{Map, Value};

use super::replace::Standing;
use super::{Outgoing, Written, refusal, render};
use crate::import::input::{self, Refused};
use crate::import::{CODEX, OPENAI};
use crate::store::{Credential, Kind, Secrets};

/// What the file is called where there is none yet.
const FILE: &str = "auth.json";
const TOKENS: &str = "tokens";
const API_KEY: &str = "OPENAI_API_KEY";

pub(super) fn write(request: &ExportCredentialsRequest, outgoing: &[Outgoing], now_s: i64) -> Result<Written, Refused> {
    let (file, [out]) = (request.files.first(), outgoing) else {
        return Err(Refused::new("auth.json holds one credential").param("credentials"));
    };
    if request.files.len() > 1 {
        return Err(Refused::new(format!("the export to Codex CLI takes one file; {} came", request.files.len())));
    }
    let mut root = match file {
        Some(file) => input::object(file)?,
        None => left_by_import(out),
    };
    let mut written = Written::default();
    let label = &out.credential.label;
    let (profile, done) = match (out.credential.kind, out.credential.provider.as_str()) {
        _ if refusal(&out.credential).is_some() => (TOKENS, refusal(&out.credential).map_or(Ok(()), Err)),
        (Kind::OAuth, CODEX) => (TOKENS, tokens(&mut root, out, now_s)),
        (Kind::ApiKey, OPENAI) => (API_KEY, api_key(&mut root, &out.credential)),
        (_, provider) => (TOKENS, Err(format!("Codex CLI has no use for a credential of provider {provider}"))),
    };
    if done.is_ok() {
        let name = file.map_or(FILE, |file| file.name.as_str());
        written.files.insert(name.to_owned(), render(&root, file.map(|file| &*file.content))?);
        if file.is_none() {
            written.notes.push(
                "there was no auth.json: a Codex CLI that keeps its login in the keyring reads the file only with \
                 cli_auth_credentials_store = \"file\" in its config.toml"
                    .to_owned(),
            );
        }
    }
    written.line(label, profile, done);
    Ok(written)
}

/// What an import has kept of the file, where that is gone.
fn left_by_import(out: &Outgoing) -> Map<String, Value> {
    let mut root = out.extra.as_object().cloned().unwrap_or_default();
    // OpenClaw's profiles have other fields.
    if !root.contains_key(TOKENS) && !root.contains_key("auth_mode") {
        return Map::new();
    }
    if out.credential.kind == Kind::ApiKey {
        // A login beside the key was not imported, and may be dead by now.
        root.shift_remove(TOKENS);
    }
    root
}

fn tokens(root: &mut Map<String, Value>, out: &Outgoing, now_s: i64) -> Result<(), String> {
    let own = &out.credential;
    let mut tokens = match root.get(TOKENS) {
        Some(Value::Object(tokens)) => tokens.clone(),
        None | Some(Value::Null) => out.extra[TOKENS].as_object().cloned().unwrap_or_default(),
        Some(other) => return Err(format!("its `tokens` is {}, not an object", input::kind(other))),
    };
    out.may_replace(&Standing {
        access: input::secret(&tokens, "access_token")?,
        refresh: input::secret(&tokens, "refresh_token")?,
        account_id: input::string(&tokens, "account_id")?,
    })?;
    let Secrets::Present { access, refresh, id_token, .. } = &own.secrets else { return Ok(()) };
    for (field, secret) in [("id_token", id_token), ("access_token", access), ("refresh_token", refresh)] {
        if let Some(secret) = secret {
            tokens.insert(field.to_owned(), Value::from(secret.expose_secret()));
        }
    }
    if let Some(account) = &own.account_id {
        tokens.insert("account_id".to_owned(), Value::from(account.as_str()));
    }
    let keeps_mode = root.get("auth_mode").and_then(Value::as_str).is_some_and(|mode| mode.starts_with("chatgpt"));
    if !keeps_mode {
        root.insert("auth_mode".to_owned(), Value::from("chatgpt"));
    }
    root.entry(API_KEY).or_insert(Value::Null);
    root.insert(TOKENS.to_owned(), Value::Object(tokens));
    let at = own.last_refresh.unwrap_or(now_s);
    let at = jiff::Timestamp::from_second(at).map_err(|_| "its last refresh is no time".to_owned())?;
    root.insert("last_refresh".to_owned(), Value::from(at.to_string()));
    Ok(())
}

fn api_key(root: &mut Map<String, Value>, own: &Credential) -> Result<(), String> {
    let Secrets::Present { api_key: Some(key), .. } = &own.secrets else { return Ok(()) };
    let standing = input::secret(root, API_KEY)?;
    let is_other = standing.is_some_and(|standing| standing.expose_secret() != key.expose_secret());
    if is_other && own.profile.as_deref() != Some(API_KEY) {
        return Err("another API key stands there, which would be lost: move it away first".to_owned());
    }
    root.insert("auth_mode".to_owned(), Value::from("apikey"));
    root.insert(API_KEY.to_owned(), Value::from(key.expose_secret()));
    Ok(())
}
