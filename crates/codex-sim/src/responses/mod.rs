//! The Responses endpoints: the Codex backend's, its compaction, and the public API's.

mod chosen;
mod events;
pub(crate) mod gate;
mod headers;
mod prompt;
mod quirks;
pub(crate) mod refusal;
mod script;
mod shapes;
mod stream;
mod validate;

use std::time::Duration;

use serde_json::{Map, Value, json};

use self::{
    chosen::Chosen,
    prompt::Prompt,
    script::{Request, Script},
};
use crate::{
    call::Call,
    reply::{self, Abort, Reply},
    scenario::{Scenario, UnknownScenario},
};

/// A request's body, what it asks for, and the scenarios that apply to it.
struct Asked {
    body: Result<Map<String, Value>, Reply>,
    prompt: Prompt,
    chosen: Chosen,
}

/// `POST /backend-api/codex/responses`
pub(crate) async fn codex(call: &mut Call) -> Result<Reply, Abort> {
    let asked = match ask(call) {
        Ok(asked) => asked,
        Err(unknown) => return Ok(reply::detail(400, unknown.to_string())),
    };
    if let Some(reply) = gate::edge(call, &asked.chosen).await? {
        return Ok(reply);
    }
    Ok(codex_answer(call, asked).unwrap_or_else(|refusal| refusal))
}

fn codex_answer(call: &mut Call, asked: Asked) -> Result<Reply, Reply> {
    let account_id = gate::chatgpt_account(call, &asked.chosen)?;
    gate::routing_override(call, &account_id)?;
    let body = asked.body?;
    validate::codex(&body, &call.state.config().rules, &account_id)?;
    let model = body.get("model").and_then(Value::as_str).unwrap_or_default();
    let account = call.state.book().logins.account(&account_id).cloned();
    if let Some(refusal) = refused(&asked.chosen, model, account.as_ref()) {
        return Err(refusal);
    }
    let request = Request { body: &body, prompt: &asked.prompt, account: &account_id };
    let script = script::write(&request, &asked.chosen);
    let mut reply = event_stream(call, script, &asked.chosen);
    if let Some(account) = account {
        headers::codex(&mut reply, call, model, &account);
    }
    Ok(reply)
}

/// `POST /backend-api/codex/responses/compact`
pub(crate) async fn compact(call: &mut Call) -> Result<Reply, Abort> {
    let asked = match ask(call) {
        Ok(asked) => asked,
        Err(unknown) => return Ok(reply::detail(400, unknown.to_string())),
    };
    if let Some(reply) = gate::edge(call, &asked.chosen).await? {
        return Ok(reply);
    }
    Ok(compact_answer(call, asked).unwrap_or_else(|refusal| refusal))
}

/// The last user message, and the rest as one sealed item.
fn compact_answer(call: &Call, asked: Asked) -> Result<Reply, Reply> {
    let account_id = gate::chatgpt_account(call, &asked.chosen)?;
    let body = asked.body?;
    validate::codex_compact(&body, &call.state.config().rules, &account_id)?;
    let model = body.get("model").and_then(Value::as_str).unwrap_or_default();
    let account = call.state.book().logins.account(&account_id).cloned();
    if let Some(refusal) = refused(&asked.chosen, model, account.as_ref()) {
        return Err(refusal);
    }
    let mut reply = reply::json(200, &json!({ "output": compacted(&body, &account_id) }));
    if let Some(account) = account {
        headers::codex(&mut reply, call, model, &account);
    }
    Ok(reply)
}

fn compacted(body: &Map<String, Value>, account: &str) -> Vec<Value> {
    let input = body.get("input").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let last_user = input.iter().rev().find(|item| item["role"] == "user").cloned();
    let sealed = json!({ "type": "compaction", "encrypted_content": validate::sealed(account) });
    last_user.into_iter().chain([sealed]).collect()
}

/// `POST /v1/responses/compact`
pub(crate) async fn openai_compact(call: &mut Call) -> Result<Reply, Abort> {
    openai_call(call, openai_compact_answer).await
}

fn openai_compact_answer(call: &mut Call, asked: Asked) -> Result<Reply, Reply> {
    let label = gate::api_key(call, &asked.chosen)?;
    let body = asked.body.map_err(|_| unreadable())?;
    validate::openai_compact(&body, &call.state.config().rules, &label)?;
    let model = body.get("model").and_then(Value::as_str).unwrap_or_default();
    if let Some(refusal) = refused(&asked.chosen, model, None) {
        return Err(refusal);
    }
    let usage = json!({ "input_tokens": 11, "output_tokens": 7, "total_tokens": 18 });
    let object = json!({ "id": "resp_compact_1", "object": "response.compaction", "created_at": 1_750_000_000,
        "output": compacted(&body, &label), "usage": usage });
    Ok(reply::json(200, &object))
}

/// `POST /v1/responses`
pub(crate) async fn openai(call: &mut Call) -> Result<Reply, Abort> {
    openai_call(call, openai_answer).await
}

/// What both have around their answers.
async fn openai_call(call: &mut Call, answer: fn(&mut Call, Asked) -> Result<Reply, Reply>) -> Result<Reply, Abort> {
    let asked = match ask(call) {
        Ok(asked) => asked,
        Err(unknown) => {
            return Ok(reply::error(400, "invalid_request_error", "unknown_scenario", &unknown.to_string()));
        }
    };
    if let Some(reply) = gate::edge(call, &asked.chosen).await? {
        return Ok(reply);
    }
    let mut reply = answer(call, asked).unwrap_or_else(|refusal| refusal);
    headers::openai(&mut reply);
    Ok(reply)
}

fn openai_answer(call: &mut Call, asked: Asked) -> Result<Reply, Reply> {
    let label = gate::api_key(call, &asked.chosen)?;
    let body = asked.body.map_err(|_| unreadable())?;
    validate::openai(&body, &call.state.config().rules, &label)?;
    let model = body.get("model").and_then(Value::as_str).unwrap_or_default();
    if let Some(refusal) = refused(&asked.chosen, model, None) {
        return Err(refusal);
    }
    let request = Request { body: &body, prompt: &asked.prompt, account: &label };
    let script = script::write(&request, &asked.chosen);
    if body.get("stream") == Some(&Value::Bool(true)) {
        Ok(event_stream(call, script, &asked.chosen))
    } else {
        Ok(reply::json(200, &script.response))
    }
}

/// The platform's words for a body that is no JSON.
fn unreadable() -> Reply {
    let message = "We could not parse the JSON body of your request.";
    reply::error(400, "invalid_request_error", "invalid_json", message)
}

/// Reads body and scenarios. A body that cannot be read asks for nothing, and is refused in its turn.
fn ask(call: &Call) -> Result<Asked, UnknownScenario> {
    let body = parse(call);
    let prompt = body.as_ref().map_or_else(|_| Ok(Prompt::default()), Prompt::read)?;
    let chosen = gate::choose(call, &prompt)?;
    Ok(Asked { body, prompt, chosen })
}

fn parse(call: &Call) -> Result<Map<String, Value>, Reply> {
    if !call.is_json() {
        return Err(reply::detail(415, "Unsupported content type"));
    }
    serde_json::from_slice(&call.body).map_err(|_| reply::detail(400, "The body is not a JSON object"))
}

fn refused(chosen: &Chosen, model: &str, account: Option<&crate::state::Account>) -> Option<Reply> {
    let of_scenario = chosen.before.as_ref().and_then(|scenario| refusal::of(scenario, model, account));
    of_scenario.or_else(|| account.and_then(|account| refusal::out_of_quota(model, account)))
}

fn event_stream(call: &mut Call, script: Script, chosen: &Chosen) -> Reply {
    let pace = match chosen.shape {
        Some(Scenario::Long { pace_ms: Some(pace), .. } | Scenario::Stamped { pace_ms: Some(pace), .. }) => {
            Duration::from_millis(pace)
        }
        _ => call.state.config().pace,
    };
    let mut reply = Reply::new(stream::body(call, script, pace));
    reply::set(&mut reply, "content-type", "text/event-stream; charset=utf-8");
    reply::set(&mut reply, "cache-control", "no-cache");
    reply
}
