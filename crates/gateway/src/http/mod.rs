//! The HTTP face: what clients of the Responses API expect, under `/v1` and `/backend-api/codex` alike, and what those
//! of Chat Completions expect under `/v1`. Each dialect is a file or folder of its own; `answer` is what they share.

mod answer;
mod body;
mod calls;
mod chat;
mod compact;
mod decode;
mod deltas;
mod error;
mod keep_alive;
mod models;
mod responses;
mod rest;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use domain::{Failure, Reason, service};
use http::{HeaderMap, HeaderValue, StatusCode, Version, header};
use service_kit::is_grpc;
use tonic::Status;

use crate::core::Core;
use crate::http::error::failure_response;

/// The routes and the JSON answers for everything else.
pub(crate) fn router(core: &Arc<Core>) -> Router {
    let v1 = "/v1";
    let codex = "/backend-api/codex";
    [v1, codex]
        .into_iter()
        .fold(Router::new(), |router, prefix| {
            router
                .route(&format!("{prefix}/responses"), post(responses::create).get(no_upgrade))
                .route(&format!("{prefix}/responses/compact"), post(compact::create))
                .route(&format!("{prefix}/models"), get(models::list))
                .route(&format!("{prefix}/models/{{*id}}"), get(models::show))
                .route(&format!("{prefix}/switchboard/calls/{{id}}"), get(calls::show))
        })
        .route("/v1/chat/completions", post(chat::create))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(core), count))
        .method_not_allowed_fallback(wrong_method)
        .fallback(unknown)
        // Over all else, the answers of the fallbacks included.
        .layer(axum::middleware::from_fn(rest::read))
        .with_state(Arc::clone(core))
}

/// Makes the account of what is held of the body, for as long as the call holds it.
async fn count(State(core): State<Arc<Core>>, mut request: Request, next: Next) -> Response {
    let held = core.room.held_for(announced(request.headers()), core.max_body_bytes);
    request.extensions_mut().insert(held);
    next.run(request).await
}

/// Bytes that a body will have, where that is said: what a compressed one needs is not.
fn announced(headers: &HeaderMap) -> Option<usize> {
    let plain = !headers.contains_key(header::CONTENT_ENCODING);
    headers.get(header::CONTENT_LENGTH).filter(|_| plain).and_then(|length| length.to_str().ok()?.parse().ok())
}

/// `GET` on the responses path: a client that tries a WebSocket first gets the answer that sends it to plain HTTP.
async fn no_upgrade(request: Request) -> Response {
    let upgrade =
        request.headers().get(header::UPGRADE).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"websocket"));
    if !upgrade {
        return wrong_method(request).await;
    }
    let failure = Failure::new(Reason::Unsupported, service::GATEWAY, "WebSockets are not served here")
        .next_step("send the request with POST over HTTP; answers stream as server-sent events");
    let mut response = failure_response(&failure, 0);
    *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
    if request.version() <= Version::HTTP_11 {
        // 426 has to name a protocol, and in HTTP/2 must not.
        response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("HTTP/1.1"));
    }
    response
}

async fn wrong_method(request: Request) -> Response {
    let message = format!("{} is not served at {}", request.method(), shown(request.uri().path()));
    let failure = Failure::new(Reason::Unsupported, service::GATEWAY, message)
        .next_step("use the method that the Allow header names");
    let mut response = failure_response(&failure, 0);
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    if request.uri().path().ends_with("/responses") {
        // GET is there to refuse WebSockets.
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
    }
    response
}

async fn unknown(request: Request) -> Response {
    if is_grpc(request.headers()) {
        let message = format!("no service of this name: {}", shown(request.uri().path()));
        return Status::unimplemented(message).into_http::<Body>();
    }
    let message = format!("no such path: {} {}", request.method(), shown(request.uri().path()));
    let failure = Failure::new(Reason::NotFound, service::GATEWAY, message).next_step(
        "a base URL ends with `/v1`; POST /v1/responses, POST /v1/responses/compact, POST /v1/chat/completions, GET \
         /v1/models and GET /v1/switchboard/calls/{id} are served",
    );
    failure_response(&failure, 0)
}

/// A path for a message: not longer than a person reads.
fn shown(path: &str) -> String {
    path.chars().take(200).collect()
}

/// The last part of a path, as axum reads it.
type Id = Result<Path<String>, PathRejection>;

/// The last part of a path. One that is no text once decoded names nothing.
fn named(id: Id) -> Result<String, Failure> {
    let nothing = |_| Failure::new(Reason::NotFound, service::GATEWAY, "the path is not UTF-8 once decoded");
    id.map(|Path(id)| id).map_err(nothing)
}

fn json(status: StatusCode, body: impl Into<Body>) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body.into()).into_response()
}
