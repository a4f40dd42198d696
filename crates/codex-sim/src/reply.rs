//! Answers: their body type and the pages that do not depend on the request.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use serde_json::{Value, json};

/// The body of every answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, Abort>;
/// Every answer.
pub(crate) type Reply = Response<Body>;

/// An answer that is not given: over HTTP/2 the stream is reset with the code within (hyper looks for it in
/// the chain of sources), over HTTP/1.1 the connection is closed.
#[derive(Debug, thiserror::Error)]
#[error("the stream is reset on purpose")]
pub(crate) struct Abort(#[source] h2::Error);

impl Abort {
    pub(crate) fn reset(reason: h2::Reason) -> Self {
        Self(h2::Error::from(reason))
    }
}

/// Any status, even one that has no name.
pub(crate) fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

pub(crate) fn full(code: u16, content_type: &'static str, body: impl Into<Bytes>) -> Reply {
    let body = Full::new(body.into()).map_err(|never| match never {}).boxed_unsync();
    let mut reply = Response::new(body);
    *reply.status_mut() = status(code);
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

pub(crate) fn json(code: u16, body: &Value) -> Reply {
    full(code, "application/json", body.to_string())
}

/// FastAPI's shape, in which the Codex backend refuses bodies.
pub(crate) fn detail(code: u16, text: impl Into<String>) -> Reply {
    json(code, &json!({ "detail": text.into() }))
}

/// OpenAI's shape.
pub(crate) fn error(code: u16, kind: &str, name: &str, message: &str) -> Reply {
    json(code, &json!({ "error": { "message": message, "type": kind, "param": null, "code": name } }))
}

pub(crate) fn html(code: u16, page: impl Into<Bytes>) -> Reply {
    full(code, "text/html; charset=UTF-8", page)
}

/// Sets a header whose value is made at run time; one that HTTP cannot carry is left out.
pub(crate) fn set(reply: &mut Reply, name: &'static str, value: impl AsRef<str>) {
    if let Ok(value) = HeaderValue::from_str(value.as_ref()) {
        reply.headers_mut().insert(HeaderName::from_static(name), value);
    }
}

/// Sets a header whose name is made at run time too.
pub(crate) fn set_named(reply: &mut Reply, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
        reply.headers_mut().insert(name, value);
    }
}

/// Adds a header that may repeat.
pub(crate) fn add(reply: &mut Reply, name: &'static str, value: impl AsRef<str>) {
    if let Ok(value) = HeaderValue::from_str(value.as_ref()) {
        reply.headers_mut().append(HeaderName::from_static(name), value);
    }
}

/// Cloudflare's challenge: what any unknown path under `/backend-api` gets, and any path if the edge does
/// not like the client.
pub(crate) fn challenge() -> Reply {
    let mut reply = html(
        403,
        "<!DOCTYPE html><html lang=\"en-US\"><head><title>Just a moment...</title>\
         <meta name=\"robots\" content=\"noindex,nofollow\"></head><body><noscript>Enable JavaScript and cookies to \
         continue</noscript><script src=\"/cdn-cgi/challenge-platform/h/b/orchestrate/chl_page/v1\"></script>\
         </body></html>",
    );
    set(&mut reply, "cf-mitigated", "challenge");
    set(&mut reply, "server", "cloudflare");
    reply
}

/// Cloudflare's block page. It has neither the challenge's header nor a `server`.
pub(crate) fn block() -> Reply {
    html(
        403,
        "<!DOCTYPE html><html><head><title>Attention Required! | Cloudflare</title></head><body>\
         <h1>Sorry, you have been blocked</h1><h2>You are unable to access chatgpt.com</h2></body></html>",
    )
}

/// A page of the edge about an origin that failed.
pub(crate) fn edge_error(code: u16, title: &str) -> Reply {
    let page = format!(
        "<!DOCTYPE html><html><head><title>chatgpt.com | {code}: {title}</title></head><body><h1>{title}</h1>\
         <p>Error code {code}</p><p>Cloudflare</p></body></html>"
    );
    let mut reply = html(code, page);
    set(&mut reply, "server", "cloudflare");
    reply
}

/// The right path with the wrong method.
pub(crate) fn wrong_method(allowed: &str) -> Reply {
    let mut reply = detail(405, "Method Not Allowed");
    set(&mut reply, "allow", allowed);
    reply
}
