//! Every way in which an upstream can refuse, as one reason.
//!
//! The order matters more than the rules. First the path: a path that the backend does not know is answered with a page
//! that looks like a refused login, and whatever that page says, the URL is the cause. Then the edge, which answers
//! before the service does and knows nothing of credentials. Only what is left is the service's own word.
//! No text about the path or the edge tells anybody to log in again: that advice has cost people their logins.

mod codes;
mod detail;
mod limits;
mod page;
pub(crate) mod quota;
mod status;
#[cfg(test)]
mod tests;

use domain::{Failure, Reason, service};
use http::{HeaderMap, header};

pub(crate) use self::detail::UpstreamError;
use self::page::Page;
use crate::headers;
use crate::targets::{Endpoint, Target};

/// An answer that is no event stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer<'a> {
    pub(crate) target: &'a Target,
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) status: u16,
    pub(crate) headers: &'a HeaderMap,
    /// The body, or its beginning.
    pub(crate) body: &'a [u8],
    /// Unix seconds.
    pub(crate) now_s: i64,
}

/// What a refusal means.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) failure: Failure,
    /// True if the upstream cannot read the encrypted reasoning that the request holds.
    pub(crate) reasoning: bool,
}

/// The failure that an answer means.
pub(crate) fn refused(answer: &Answer<'_>) -> Refused {
    let error = UpstreamError::of_answer(answer.headers, answer.body);
    let mut failure = judge(answer, error.as_ref());
    if failure.retry_after_seconds.is_some() || failure.retryable {
        failure.retry_after_seconds = limits::retry_after(answer.headers, answer.now_s).or(failure.retry_after_seconds);
    }
    let failure = identified(failure, answer.status, answer.headers);
    let reasoning = failure.reason == Reason::RequestRejected && error.as_ref().is_some_and(codes::refuses_reasoning);
    Refused { failure, reasoning }
}

/// True if the error of a stream says that the encrypted reasoning of earlier turns cannot be read.
pub(crate) fn refuses_reasoning(error: &UpstreamError) -> bool {
    codes::refuses_reasoning(error)
}

/// The failure that an event of a stream means: `response.failed`, or `error`. `headers` are those of the stream's head.
pub(crate) fn failed_event(error: &UpstreamError, status: u16, headers: &HeaderMap, now_s: i64) -> Failure {
    let reason = codes::reason(error).unwrap_or(Reason::UpstreamError);
    let failure = match reason {
        Reason::UsageLimit => limits::usage_limit(error, headers, now_s),
        Reason::RateLimited => limits::rate_limited(error),
        _ => upstream(reason, format!("the upstream ended the response with {}", error.quoted())),
    };
    identified(failure, status, headers)
}

/// With the ids by which the upstream's support finds the request.
fn identified(mut failure: Failure, status: u16, headers: &HeaderMap) -> Failure {
    failure.upstream_status = Some(status);
    failure.ray_id = ray_id(headers);
    failure.upstream_request_id = request_id(headers);
    failure
}

/// The upstream's id of a request.
pub(crate) fn request_id(headers: &HeaderMap) -> Option<String> {
    let id = headers::text(headers, "x-request-id").or_else(|| headers::text(headers, "x-oai-request-id"));
    id.map(str::to_owned)
}

/// The edge's id of a request.
pub(crate) fn ray_id(headers: &HeaderMap) -> Option<String> {
    headers::text(headers, "cf-ray").map(str::to_owned)
}

fn upstream(reason: Reason, message: String) -> Failure {
    Failure::new(reason, service::UPSTREAM, message)
}

fn judge(answer: &Answer<'_>, error: Option<&UpstreamError>) -> Failure {
    let page = Page::of(answer.headers, answer.body);
    if answer.endpoint.is_wrong_path() {
        return wrong_path(answer);
    }
    if (300..400).contains(&answer.status) {
        return redirected(answer);
    }
    if answer.endpoint.is_custom_base() {
        if page.is_html() && answer.status < 500 {
            let what = format!("{} with an HTML page{}", answer.status, page.titled());
            return wrong_base(answer, &what);
        }
        if matches!(answer.status, 404 | 405 | 410) && !error.is_some_and(codes::names_model) {
            return wrong_base(answer, &answer.status.to_string());
        }
    } else if let Some(failure) = edge(answer, &page, error) {
        return failure;
    }
    status::judge(answer, &page, error)
}

fn wrong_path(answer: &Answer<'_>) -> Failure {
    let (target, url, key) = (answer.target, &answer.endpoint.shown, answer.endpoint.key);
    let right = answer.endpoint.right_base().unwrap_or_default();
    let message = format!(
        "the request went to {url}, a path that {} does not have (it answered {}); the right base URL is {right}",
        target.id, answer.status
    );
    upstream(Reason::WrongEndpoint, message)
        .next_step(format!("set `[targets.{}] {key}` to {right}; the credential is not the cause", target.id))
}

fn redirected(answer: &Answer<'_>) -> Failure {
    let to = headers::text(answer.headers, header::LOCATION.as_str()).unwrap_or("nowhere");
    // A query may hold what is nobody's business.
    let to = detail::shorten(to.split(['?', '#']).next().unwrap_or(to), 200);
    let message = format!(
        "{} answered {}, a redirect to {to}; redirects are not followed, for the credential is for this URL alone",
        answer.endpoint.shown, answer.status
    );
    let failure = upstream(Reason::WrongEndpoint, message);
    let (id, key) = (&answer.target.id, answer.endpoint.key);
    match answer.endpoint.right_base() {
        Some(right) => failure.next_step(format!("check `[targets.{id}] {key}`: it should be {right}")),
        None => failure.next_step(format!("set `[targets.{id}] {key}` to where the server really is")),
    }
}

fn wrong_base(answer: &Answer<'_>, what: &str) -> Failure {
    let Endpoint { base, key, shown, path, .. } = answer.endpoint;
    let right = answer.endpoint.right_base().map(|right| format!(", or is it {right}?")).unwrap_or_default();
    let suffix = path.strip_prefix(base.path.as_str()).unwrap_or(path);
    let missing = if *key == "base_url" { "no Responses API is there" } else { "no account endpoints are there" };
    let message = format!("{shown} answered {what}: {missing}");
    upstream(Reason::WrongEndpoint, message).next_step(format!(
        "correct `[targets.{}] {key}` (now {base}); `{suffix}` is appended to it{right}",
        answer.target.id
    ))
}

/// The edge's own refusals, on a path that is right.
fn edge(answer: &Answer<'_>, page: &Page, error: Option<&UpstreamError>) -> Option<Failure> {
    let host = &answer.endpoint.base.host;
    let status = answer.status;
    let ray = ray_id(answer.headers).map(|ray| format!(", ray {ray}")).unwrap_or_default();
    if page.is_challenge(status) {
        let message = format!(
            "the edge in front of {host} asks this egress for a browser challenge (status {status}{ray}); \
             the request did not reach the service, and says nothing about the credential"
        );
        return Some(upstream(Reason::EdgeChallenge, message));
    }
    let region = error.is_some_and(codes::is_region);
    if region || page.is_block(status) || (status == 403 && error.is_none()) {
        let why = if region { "does not serve the region of this egress" } else { "blocks this egress" };
        let message = format!(
            "the edge in front of {host} {why} (status {status}{ray}); \
             the request did not reach the service, and says nothing about the credential"
        );
        return Some(upstream(Reason::EdgeBlocked, message));
    }
    None
}
