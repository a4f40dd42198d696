//! What stands before a reply: the scenarios that apply, the edge, and the credential.
//!
//! The order is the real one: the edge looks first and never at the token; a dead token is refused before
//! the body is looked at.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::Version;
use serde_json::json;

use crate::{
    call::{Bearer, Call},
    config::HeaderVerdict,
    reply::{self, Abort, Reply},
    responses::{chosen::Chosen, prompt::Prompt},
    scenario::{Scenario, UnknownScenario},
    server::line::{Ending, Leaving},
    state::AccessCheck,
};

/// The scenarios of a Responses request, the later ones over the earlier ones.
pub(crate) fn choose(call: &Call, prompt: &Prompt) -> Result<Chosen, UnknownScenario> {
    let mut chosen = Chosen::default();
    let mut book = call.state.book();
    let set = ["*"].into_iter().chain(call.bearer.label()).filter_map(|target| book.rules.take_scenario(target));
    set.for_each(|scenario| chosen.apply(scenario));
    drop(book);
    prompt.scenarios.iter().cloned().for_each(|scenario| chosen.apply(scenario));
    for form in call.header("x-sim-scenario").into_iter().flat_map(|value| value.split(',')) {
        chosen.apply(form.parse()?);
    }
    note(call, &chosen);
    Ok(chosen)
}

/// The scenarios of a request to another endpoint of the same host: those that strike everything there.
pub(crate) fn choose_for_read(call: &Call) -> Chosen {
    use Scenario as S;
    let mut chosen = Chosen::default();
    let book = call.state.book();
    let set = ["*"].into_iter().chain(call.bearer.label()).filter_map(|target| book.rules.peek_scenario(target));
    set.cloned().for_each(|scenario| chosen.apply(scenario));
    drop(book);
    for form in call.header("x-sim-scenario").into_iter().flat_map(|value| value.split(',')) {
        if let Ok(scenario) = form.parse() {
            chosen.apply(scenario);
        }
    }
    let everywhere = |scenario: &Scenario| {
        matches!(scenario, S::Challenge | S::Block | S::BadGateway | S::Origin520 | S::Redirect)
            || matches!(scenario, S::NoHeaders | S::Hangup | S::Goaway | S::RefusedStream)
            || matches!(scenario, S::Unauthorized | S::UnauthorizedOnce | S::ServerError | S::Overloaded)
    };
    let chosen = Chosen { before: chosen.before.filter(everywhere), delay_ms: chosen.delay_ms, ..Chosen::default() };
    note(call, &chosen);
    chosen
}

fn note(call: &Call, chosen: &Chosen) {
    if let Some(label) = chosen.label() {
        call.exchange.note(|record| record.scenario = Some(label));
    }
}

/// What happens whoever asks: the network and the edge.
pub(crate) async fn edge(call: &mut Call, chosen: &Chosen) -> Result<Option<Reply>, Abort> {
    if chosen.delay_ms > 0 {
        tokio::time::sleep(Duration::from_millis(chosen.delay_ms)).await;
    }
    let Some(scenario) = &chosen.before else { return Ok(None) };
    Ok(Some(match scenario {
        Scenario::Challenge => reply::challenge(),
        Scenario::Block => reply::block(),
        Scenario::BadGateway => reply::edge_error(502, "Bad gateway"),
        Scenario::Origin520 => reply::edge_error(520, "Web server is returning an unknown error"),
        Scenario::Html404 => {
            reply::html(404, "<!DOCTYPE html><html><head><title>404</title></head><body>Not Found</body></html>")
        }
        Scenario::Redirect => {
            let mut reply = reply::html(307, "");
            reply::set(&mut reply, "location", "https://chatgpt.com/backend-api/elsewhere");
            reply
        }
        Scenario::NoHeaders => std::future::pending().await,
        Scenario::RefusedStream => return Err(Abort::reset(h2::Reason::REFUSED_STREAM)),
        Scenario::Goaway if call.version == Version::HTTP_2 => {
            // Clients number their streams 1, 3, 5, …: this request's is the first not to be processed.
            let last = (2 * call.number).saturating_sub(3);
            end(call, "goaway", Ending::Goaway(last)).await
        }
        Scenario::GoawayIncluded if call.version == Version::HTTP_2 => {
            let last = (2 * call.number).saturating_sub(1);
            end(call, "goaway", Ending::Goaway(last)).await
        }
        Scenario::GoawayAnswered => {
            call.line.leave(Leaving::WhenAnswered);
            return Ok(None);
        }
        Scenario::ResetRequest => {
            call.exchange.finish("reset");
            return Err(Abort::reset(h2::Reason::INTERNAL_ERROR));
        }
        Scenario::Hangup | Scenario::Goaway | Scenario::GoawayIncluded => end(call, "hangup", Ending::Close).await,
        _ => return Ok(None),
    }))
}

/// Ends the connection; the task that waits here ends with it.
pub(crate) async fn end(call: &mut Call, outcome: &str, ending: Ending) -> Reply {
    call.exchange.finish(outcome);
    call.line.end(ending);
    std::future::pending().await
}

/// The account of a valid access token under `/backend-api`.
pub(crate) fn chatgpt_account(call: &Call, chosen: &Chosen) -> Result<String, Reply> {
    let (account_id, check) = match &call.bearer {
        Bearer::Missing => {
            return Err(unauthorized("missing_authorization", "Missing bearer authentication in header"));
        }
        Bearer::Access { account_id, check } => (account_id, check),
        Bearer::Key { .. } | Bearer::WrongKey { .. } => {
            return Err(reply::detail(401, "Could not parse your authentication token. Please try signing in again."));
        }
        Bearer::Unknown => return Err(token_expired()),
    };
    match check {
        AccessCheck::Good { login, version } => {
            let once = chosen.before == Some(Scenario::UnauthorizedOnce);
            if once && call.state.book().logins.rejected_once(*login, *version) {
                return Err(token_expired());
            }
        }
        AccessCheck::Ended => {
            let message = "Your authentication token has been invalidated. Please try signing in again.";
            return Err(unauthorized("token_invalidated", message));
        }
        AccessCheck::Expired | AccessCheck::Unknown => return Err(token_expired()),
    }
    if chosen.before == Some(Scenario::Unauthorized) {
        return Err(token_expired());
    }
    account_header(call, account_id)?;
    Ok(account_id.clone())
}

/// The label of a valid API key under `/v1`.
pub(crate) fn api_key(call: &Call, chosen: &Chosen) -> Result<String, Reply> {
    let refuse = |code, message| Err(reply::error(401, "invalid_request_error", code, message));
    let label = match &call.bearer {
        Bearer::Key { label } => label,
        Bearer::Missing => return refuse("missing_api_key", "You didn't provide an API key."),
        Bearer::Access { .. } => {
            let message = "You have insufficient permissions for this operation. Missing scopes: api.responses.write.";
            return refuse("missing_scope", message);
        }
        Bearer::Unknown | Bearer::WrongKey { .. } => return refuse("invalid_api_key", "Incorrect API key provided."),
    };
    let once = || call.state.book().rules.rejected_key_once(label);
    match chosen.before {
        Some(Scenario::Unauthorized) => refuse("invalid_api_key", "Incorrect API key provided."),
        Some(Scenario::UnauthorizedOnce) if once() => refuse("invalid_api_key", "Incorrect API key provided."),
        _ => Ok(label.clone()),
    }
}

fn account_header(call: &Call, account_id: &str) -> Result<(), Reply> {
    let rules = &call.state.config().rules;
    let (verdict, message) = match call.header("chatgpt-account-id") {
        None => (rules.account_header_missing, "Missing chatgpt-account-id header"),
        Some(named) if named != account_id => {
            (rules.account_header_mismatch, "The chatgpt-account-id header does not match the token")
        }
        Some(_) => return Ok(()),
    };
    match verdict {
        HeaderVerdict::Accept => Ok(()),
        HeaderVerdict::Refuse(status) => {
            Err(reply::error(status, "invalid_request_error", "account_mismatch", message))
        }
    }
}

/// An account whose workspace is bound to a region must be asked there.
pub(crate) fn routing_override(call: &Call, account_id: &str) -> Result<(), Reply> {
    let book = call.state.book();
    let wanted = book.logins.account(account_id).map_or("NO_CONSTRAINT", |account| account.routing_override.as_str());
    let bound = matches!(wanted, "us" | "us_cr");
    if bound && call.header("x-openai-account-routing-override") != Some("us_cr") {
        let message = "This workspace must be reached with x-openai-account-routing-override: us_cr";
        return Err(reply::error(403, "invalid_request_error", "workspace_routing_required", message));
    }
    Ok(())
}

fn token_expired() -> Reply {
    unauthorized("token_expired", "Provided authentication token is expired.")
}

fn unauthorized(code: &str, message: &str) -> Reply {
    let mut reply = reply::error(401, "invalid_request_error", code, message);
    reply::set(&mut reply, "x-openai-authorization-error", code);
    reply::set(&mut reply, "x-error-json", STANDARD.encode(json!({ "error": { "code": code } }).to_string()));
    reply
}
