//! Which path leads where. The real service is three hosts; here the path alone decides.
//!
//! **A path under `/backend-api` that is not exactly one of the known ones gets a challenge page**, token
//! or not: that is how the real edge answers a wrong base URL, and taking it for an authentication failure
//! is the mistake that Switchboard exists to prevent.

use std::sync::Arc;

use http::{Method, Request};
use hyper::body::Incoming;

use crate::{
    admin, backend,
    call::Call,
    identity,
    reply::{self, Abort, Reply},
    responses,
    server::line::Line,
    state::SimState,
};

/// Answers one request.
pub(crate) async fn serve(state: SimState, line: Arc<Line>, request: Request<Incoming>) -> Result<Reply, Abort> {
    let number = line.count_request();
    if state.config().admin && request.uri().path().starts_with("/sim/") {
        return Ok(admin::answer(&state, request).await);
    }
    let mut call = match Call::read(state, line, number, request).await {
        Ok(call) => call,
        Err((exchange, refusal)) => {
            if let Some(mut exchange) = exchange {
                exchange.note(|record| record.status = Some(refusal.status().as_u16()));
                exchange.finish("answered");
            }
            return Ok(refusal);
        }
    };
    let mut answer = dispatch(&mut call).await;
    match &mut answer {
        Ok(reply) => {
            stamp(&call, reply);
            let status = reply.status().as_u16();
            call.exchange.note(|record| record.status = Some(status));
            // Nothing happens here if a stream has taken the exchange over.
            call.exchange.finish("answered");
        }
        Err(_) => call.exchange.finish("refused_stream"),
    }
    answer
}

async fn dispatch(call: &mut Call) -> Result<Reply, Abort> {
    let path = std::mem::take(&mut call.path);
    let post = call.method == Method::POST;
    let get = call.method == Method::GET;
    match path.as_str() {
        "/backend-api/codex/responses" | "/v1/responses" if wants_websocket(call) => {
            // What makes clients that prefer WebSockets fall back to HTTP at once.
            Ok(reply::detail(426, "WebSocket connections are not served here"))
        }
        "/backend-api/codex/responses" if post => responses::codex(call).await,
        "/backend-api/codex/responses/compact" if post => responses::compact(call).await,
        "/backend-api/codex/responses" | "/backend-api/codex/responses/compact" => Ok(reply::wrong_method("POST")),
        "/backend-api/codex/models" if get => backend::models(call).await,
        "/backend-api/wham/accounts/check" if get => backend::accounts_check(call).await,
        "/backend-api/wham/usage" if get => backend::usage(call).await,
        "/backend-api/codex/models" | "/backend-api/wham/accounts/check" | "/backend-api/wham/usage" => {
            Ok(reply::wrong_method("GET"))
        }
        path if path == "/backend-api" || path.starts_with("/backend-api/") => Ok(reply::challenge()),
        "/v1/responses" if post => responses::openai(call).await,
        "/v1/responses/compact" if post => responses::openai_compact(call).await,
        "/v1/models" if get => backend::openai_models(call).await,
        path if path == "/v1" || path.starts_with("/v1/") => Ok(backend::unknown_openai_path(call, path)),
        path => Ok(identity::answer(call, path).await),
    }
}

fn wants_websocket(call: &Call) -> bool {
    call.method == Method::GET && call.header("upgrade").is_some_and(|to| to.eq_ignore_ascii_case("websocket"))
}

/// What the edge and the services put on every answer. A page of the edge has no request id: no service
/// ever saw the request.
fn stamp(call: &Call, reply: &mut Reply) {
    let page = reply.headers().get("content-type").is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    reply::set(reply, "cf-ray", call.ray());
    if !page {
        reply::set(reply, "x-request-id", &call.request_id);
        reply::set(reply, "server", "cloudflare");
    }
}
