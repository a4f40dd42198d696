//! `POST /oauth/token`: refreshes, and exchanges of authorization codes.
//!
//! Codex CLI refreshes with JSON, OpenClaw with a form; both exchange codes with a form. A token is spent
//! when the request is processed, not when its answer arrives: whatever is lost afterwards stays spent.

use serde_json::{Map, Value, json};

use crate::{
    call::{Call, fields},
    identity::{
        fault::{TokenFault, TokenScenario},
        fault_page, oauth_error,
    },
    record::TokenRequest,
    reply::{self, Reply},
    responses::gate,
    server::line::Ending,
    state::{AdoptTokens, RedirectRule, RefreshRefusal, SeedLogin, SeededLogin},
    tokens::{self, CLIENT_ID},
};

const SCOPE: &str = "openid profile email offline_access api.connectors.read api.connectors.invoke";

/// A request's fields, and the record that is made of it.
struct Asked {
    fields: Map<String, Value>,
    form: bool,
    record: TokenRequest,
}

impl Asked {
    fn text(&self, name: &str) -> Option<&str> {
        self.fields.get(name).and_then(Value::as_str)
    }
}

/// What processing gave: tokens, or a refusal with the name it is recorded under.
type Processed = Result<SeededLogin, (String, Reply)>;

pub(crate) async fn answer(call: &mut Call) -> Reply {
    let mut asked = read(call);
    let (processed, scenario) = match asked.record.grant_type.as_str() {
        "refresh_token" => refresh(call, &mut asked),
        "authorization_code" => exchange(call, &mut asked),
        _ => (refuse(400, "unsupported_grant_type", "unsupported grant_type"), TokenScenario::default()),
    };
    asked.record.outcome = match &processed {
        Ok(_) => scenario.fault.as_ref().map_or_else(|| "ok".to_owned(), |_| scenario.to_string()),
        Err((outcome, _)) => outcome.clone(),
    };
    call.exchange.note(|record| record.credential = asked.record.account_id.clone());
    call.state.recorder().token_request(asked.record);
    if !scenario.delay.is_zero() {
        tokio::time::sleep(scenario.delay).await;
    }
    match (&scenario.fault, processed) {
        (Some(TokenFault::Stall | TokenFault::StallSpent), _) => std::future::pending().await,
        (Some(TokenFault::DropAnswer), Ok(_)) => gate::end(call, "hangup", Ending::Close).await,
        (_, Err((_, refusal))) => refusal,
        (fault, Ok(login)) => reply::json(200, &tokens_of(&login, fault.as_ref())),
    }
}

fn read(call: &Call) -> Asked {
    let fields = fields(&call.body);
    let form = call.header("content-type").is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
    let text = |name: &str| fields.get(name).and_then(Value::as_str).map(str::to_owned);
    let secret = text("refresh_token").or_else(|| text("code"));
    let record = TokenRequest {
        at_unix_ms: tokens::now_ms(),
        grant_type: text("grant_type").unwrap_or_default(),
        encoding: if form { "form" } else { "json" }.to_owned(),
        client_id: text("client_id"),
        refresh_reason: text("refresh_reason"),
        account_id: None,
        fingerprint: secret.map(|secret| tokens::fingerprint(secret, 12)),
        outcome: String::new(),
    };
    Asked { fields, form, record }
}

fn refresh(call: &Call, asked: &mut Asked) -> (Processed, TokenScenario) {
    let Some(token) = asked.text("refresh_token").map(str::to_owned) else {
        return (refuse(400, "invalid_request", "refresh_token is missing"), TokenScenario::default());
    };
    let mut book = call.state.book();
    if book.logins.account_of_refresh(&token).is_none()
        && call.state.config().adopt_own_tokens
        && let Some(account) = tokens::read_own_refresh_token(&token)
    {
        let own = AdoptTokens {
            account_id: Some(account.account_id),
            email: Some(account.email),
            plan: Some(account.plan),
            refresh_token: Some(token.clone()),
            ..AdoptTokens::default()
        };
        // The account is named, so this cannot fail; if it did, the token would stay unknown.
        let _ = book.logins.adopt(own, call.state.access_token_ttl());
    }
    let account_id = book.logins.account_of_refresh(&token).map(str::to_owned);
    let scenario = book.rules.take_token_scenario(account_id.as_deref()).unwrap_or_default();
    asked.record.account_id = account_id;
    if let Some(refusal) = scenario.fault.as_ref().and_then(unspent) {
        return (Err(refusal), scenario);
    }
    if asked.text("client_id") != Some(CLIENT_ID) {
        return (refuse(401, "invalid_client", "unknown client_id"), scenario);
    }
    let rotate = scenario.fault != Some(TokenFault::OmitRefreshToken);
    let refreshed = book.logins.refresh(&token, call.state.access_token_ttl(), rotate);
    (refreshed.map_err(refused), scenario)
}

/// The faults that leave the token as it is.
fn unspent(fault: &TokenFault) -> Option<(String, Reply)> {
    if let Some(page) = fault_page(fault) {
        return Some((TokenScenario { fault: Some(fault.clone()), ..TokenScenario::default() }.to_string(), page));
    }
    match fault {
        TokenFault::Expired => Some(refused(RefreshRefusal::Expired)),
        TokenFault::Invalidated => Some(refused(RefreshRefusal::Invalidated)),
        TokenFault::InvalidGrant => Some(refused(RefreshRefusal::Unknown)),
        // Its reply is never sent.
        TokenFault::Stall => Some(("stall".to_owned(), reply::detail(503, "stalled"))),
        _ => None,
    }
}

fn refused(refusal: RefreshRefusal) -> (String, Reply) {
    let (code, message) = match refusal {
        RefreshRefusal::Unknown => {
            let description = "The refresh token is malformed or unknown.";
            return ("invalid_grant".to_owned(), oauth_error(400, "invalid_grant", description));
        }
        RefreshRefusal::Expired => {
            ("refresh_token_expired", "Your refresh token has expired. Please try signing in again.")
        }
        RefreshRefusal::Reused => (
            "refresh_token_reused",
            "Your refresh token has already been used to generate a new access token. Please try signing in again.",
        ),
        RefreshRefusal::Invalidated => {
            ("refresh_token_invalidated", "Your session has ended. Please try signing in again.")
        }
    };
    (code.to_owned(), reply::error(401, "invalid_request_error", code, message))
}

fn exchange(call: &Call, asked: &mut Asked) -> (Processed, TokenScenario) {
    let mut book = call.state.book();
    let code = asked.text("code").unwrap_or_default().to_owned();
    let account_id = book.grants.account_of_code(&code).map(str::to_owned);
    let scenario = book.rules.take_token_scenario(account_id.as_deref()).unwrap_or_default();
    asked.record.account_id = account_id;
    if let Some(refusal) = scenario.fault.as_ref().and_then(unspent) {
        return (Err(refusal), scenario);
    }
    let wrong = if !asked.form {
        Some((400, "invalid_request", "the body must be application/x-www-form-urlencoded"))
    } else if asked.text("client_id") != Some(CLIENT_ID) {
        Some((401, "invalid_client", "unknown client_id"))
    } else {
        None
    };
    if let Some((status, code, description)) = wrong {
        return (refuse(status, code, description), scenario);
    }
    let Some(grant) = book.grants.take_code(&code) else {
        return (refuse(400, "invalid_grant", "the code is unknown, expired or used"), scenario);
    };
    let redirect = asked.text("redirect_uri").unwrap_or_default();
    let redirected = match &grant.redirect {
        RedirectRule::Exactly(uri) => redirect == uri,
        RedirectRule::Device => is_device_callback(call, redirect),
    };
    if !redirected {
        return (refuse(400, "invalid_grant", "redirect_uri does not match"), scenario);
    }
    if asked.text("code_verifier").is_none_or(|verifier| tokens::s256(verifier) != grant.challenge) {
        return (refuse(400, "invalid_grant", "code_verifier does not match the challenge"), scenario);
    }
    let login = book.logins.seed(&SeedLogin::from(grant.account), call.state.access_token_ttl());
    (Ok(login), scenario)
}

/// `…/deviceauth/callback` of the real provider, of this simulator by any name, or of a configured origin.
fn is_device_callback(call: &Call, redirect: &str) -> bool {
    let Some(origin) = redirect.strip_suffix("/deviceauth/callback") else { return false };
    let own = call.authority.as_deref().is_some_and(|authority| {
        origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://")) == Some(authority)
    });
    let configured = call.state.config().callback_origins.iter().any(|allowed| allowed == origin);
    own || configured || origin == "https://auth.openai.com" || origin == call.state.base_url()
}

fn refuse(status: u16, code: &str, description: &str) -> Processed {
    Err((code.to_owned(), oauth_error(status, code, description)))
}

fn tokens_of(login: &SeededLogin, fault: Option<&TokenFault>) -> Value {
    let mut answer = json!({
        "access_token": login.access_token,
        "expires_in": login.expires_at - tokens::now(),
        "id_token": login.id_token,
        "refresh_token": login.refresh_token,
        "scope": SCOPE,
        "token_type": "Bearer",
    });
    let omitted = match fault {
        Some(TokenFault::OmitRefreshToken) => "refresh_token",
        Some(TokenFault::OmitIdToken) => "id_token",
        Some(TokenFault::OmitExpiresIn) => "expires_in",
        _ => return answer,
    };
    if let Some(fields) = answer.as_object_mut() {
        fields.remove(omitted);
    }
    answer
}
