//! Codex CLI's `auth.json`.
//!
//! The file can hold several credentials at once; its mode says which of them Codex CLI uses, and that one is taken. The
//! others are named and left alone: a key that the owner did not use is not put to use, and billed, by an import.

use proto::auth::v1::ImportCredentialsRequest;
use secrecy::ExposeSecret as _;
use serde_json::{Map, Value};

use super::input::{self, Refused};
use super::plan::{Context, Item, Plan};
use super::{CODEX, DEFAULT_LABEL, OPENAI};
use crate::jwt::unverified_claims;
use crate::names::label_problem;
use crate::store::{Kind, NewCredential, Secrets, Source};

const TOKENS: &str = "tokens";
const API_KEY: &str = "OPENAI_API_KEY";

/// What Codex CLI does with the file.
#[derive(PartialEq, Eq)]
enum Mode {
    /// Uses the login's tokens.
    Tokens,
    /// Uses the API key.
    ApiKey,
    /// Uses something else, by its name.
    Other(String),
}

pub(super) fn plan(context: &Context<'_>, request: &ImportCredentialsRequest) -> Result<Plan, Refused> {
    let [file] = request.files.as_slice() else {
        let count = request.files.len();
        return Err(Refused::new(format!("the import of a Codex login takes one file, auth.json; {count} came")));
    };
    let label = request.label.as_deref().map_or(DEFAULT_LABEL, str::trim);
    if let Some(why) = label_problem(label) {
        return Err(Refused::new(format!("a label is one word; this one {why}")).param("label"));
    }
    let root = input::object(file)?;
    let mode = mode(&root).map_err(|why| Refused::new(format!("{}: {why}", file.name)))?;
    let in_file = |why: String| Refused::new(format!("{}: {why}", file.name));

    let mut plan = Plan::default();
    if is_set(&root, TOKENS) {
        plan.items.push(tokens(context, &root, &mode, label).map_err(in_file)?);
    }
    if is_set(&root, API_KEY) {
        plan.items.push(api_key(context, &root, &mode, label).map_err(in_file)?);
    }
    for (field, why) in [
        ("personal_access_token", "personal access tokens are not served; log in with `switchboard login codex`"),
        ("bedrock_api_key", "it is a key of Amazon Bedrock, which is not served"),
        ("agent_identity", "agent identities are not served; log in with `switchboard login codex`"),
    ] {
        if is_set(&root, field) {
            plan.items.push(Item::skip(field, "", why));
        }
    }
    if plan.items.is_empty() {
        return Err(Refused::new(format!("{} holds no credential", file.name)).next_step(
            "run `codex login`; if Codex CLI keeps its login in the keyring (cli_auth_credentials_store in its \
             config.toml), set that to \"file\" first, or use `switchboard login codex`",
        ));
    }
    plan.other_holder = Some(format!(
        "Codex CLI still holds it in {}: delete that file or point Codex CLI at Switchboard, and do not run `codex \
         logout`, which revokes the login for Switchboard too",
        file.name
    ));
    Ok(plan)
}

/// The mode that the file names; else the one that Codex CLI infers.
fn mode(root: &Map<String, Value>) -> Result<Mode, String> {
    let named = match input::string(root, "auth_mode")? {
        Some(named) => named,
        None if is_set(root, "personal_access_token") => "personalAccessToken".to_owned(),
        None if is_set(root, "bedrock_api_key") => "bedrockApiKey".to_owned(),
        None if is_set(root, API_KEY) => return Ok(Mode::ApiKey),
        None => return Ok(Mode::Tokens),
    };
    Ok(match named.as_str() {
        "chatgpt" | "chatgptAuthTokens" => Mode::Tokens,
        "apikey" => Mode::ApiKey,
        _ => Mode::Other(named),
    })
}

/// True if the field is there and holds something.
fn is_set(root: &Map<String, Value>, field: &str) -> bool {
    match root.get(field) {
        None | Some(Value::Null) => false,
        Some(Value::String(text)) => !text.trim().is_empty(),
        Some(_) => true,
    }
}

fn in_words(mode: &Mode) -> String {
    match mode {
        Mode::Tokens => "Codex CLI uses the login of this file (auth_mode \"chatgpt\")".to_owned(),
        Mode::ApiKey => "Codex CLI uses the API key of this file, not the login".to_owned(),
        Mode::Other(name) => format!("this file's auth_mode is {name:?}, which is not served"),
    }
}

fn tokens(context: &Context<'_>, root: &Map<String, Value>, mode: &Mode, label: &str) -> Result<Item, String> {
    if *mode != Mode::Tokens {
        let why = format!(
            "{}; to use the login, run `codex login` with ChatGPT and import again, or `switchboard login codex`",
            in_words(mode)
        );
        return Ok(Item::skip(TOKENS, CODEX, why));
    }
    let Some(Value::Object(tokens)) = root.get(TOKENS) else {
        return Err(format!("its `tokens` is {}, not an object", input::kind(&root[TOKENS])));
    };
    let secret = |field| input::secret(tokens, field).map_err(|why| format!("tokens: {why}"));
    let (access, refresh, id_token) = (secret("access_token")?, secret("refresh_token")?, secret("id_token")?);
    if access.is_none() && refresh.is_none() {
        return Ok(Item::skip(
            TOKENS,
            CODEX,
            "it holds neither an access token nor a refresh token: run `codex login`",
        ));
    }
    let claims = |token: &Option<secrecy::SecretString>| {
        token.as_ref().map(|token| unverified_claims(token.expose_secret())).unwrap_or_default()
    };
    let (of_access, of_id) = (claims(&access), claims(&id_token));
    let provenance = tokens.get("oauth_provenance").and_then(Value::as_object);
    let provenance = |field| provenance.map_or(Ok(None), |map| input::string(map, field));
    let issuer = context.issuer(provenance("issuer")?.as_deref(), [&of_access, &of_id]);
    let credential = NewCredential {
        label: label.to_owned(),
        provider: CODEX.to_owned(),
        kind: Kind::OAuth,
        issuer: Some(issuer),
        client_id: provenance("client_id")?,
        account_id: input::string(tokens, "account_id")?.or(of_id.account_id).or(of_access.account_id),
        email: of_id.email.or(of_access.email),
        plan: of_id.plan.or(of_access.plan),
        user_id: of_id.user_id.or(of_access.user_id),
        fedramp: of_id.fedramp || of_access.fedramp,
        source: Source::Codex,
        secrets: Secrets::Present { access, refresh, id_token, api_key: None },
        extra: without(root, &[&[TOKENS, "access_token"], &[TOKENS, "refresh_token"], &[TOKENS, "id_token"]]),
        access_expires_at: of_access.exp,
        last_refresh: last_refresh(root),
        borrowed: context.borrow,
        profile: Some(TOKENS.to_owned()),
    };
    Ok(context.take(TOKENS, credential))
}

fn api_key(context: &Context<'_>, root: &Map<String, Value>, mode: &Mode, label: &str) -> Result<Item, String> {
    if *mode != Mode::ApiKey {
        let why = format!(
            "{}; the key bills a platform account: to use it too, run `switchboard login api-key --provider openai`",
            in_words(mode)
        );
        return Ok(Item::skip(API_KEY, OPENAI, why));
    }
    let credential = NewCredential {
        secrets: Secrets::Present {
            access: None,
            refresh: None,
            id_token: None,
            api_key: input::secret(root, API_KEY)?,
        },
        extra: without(root, &[&[API_KEY]]),
        profile: Some(API_KEY.to_owned()),
        ..openai_key(label, Source::Codex)
    };
    Ok(context.take(API_KEY, credential))
}

/// An API key of the OpenAI platform, without the key.
pub(super) fn openai_key(label: &str, source: Source) -> NewCredential {
    NewCredential {
        label: label.to_owned(),
        provider: OPENAI.to_owned(),
        kind: Kind::ApiKey,
        issuer: None,
        client_id: None,
        account_id: None,
        email: None,
        plan: None,
        user_id: None,
        fedramp: false,
        source,
        secrets: Secrets::none(),
        extra: Value::Null,
        access_expires_at: None,
        last_refresh: None,
        borrowed: false,
        profile: None,
    }
}

/// Unix seconds of the last refresh. Codex CLI writes RFC 3339; anything else only means that we do not know.
fn last_refresh(root: &Map<String, Value>) -> Option<i64> {
    root.get("last_refresh")?.as_str()?.parse::<jiff::Timestamp>().ok().map(|at| at.as_second())
}

/// The whole document less the fields at `paths`: what the vault keeps in columns of its own.
pub(super) fn without(root: &Map<String, Value>, paths: &[&[&str]]) -> Value {
    let mut rest = Value::Object(root.clone());
    for path in paths {
        if let [parents @ .., field] = path
            && let Some(parent) = parents.iter().try_fold(&mut rest, |value, name| value.get_mut(*name))
            && let Some(parent) = parent.as_object_mut()
        {
            parent.shift_remove(*field);
        }
    }
    rest
}
