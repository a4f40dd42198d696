//! Failures as HTTP clients read them, from the one table of reasons: status and headers of every answer, and the body in
//! OpenAI's shape, which its dialects and all that is no call share.

use axum::response::Response;
use domain::{Candidate, Failure, Reason};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::http::answer::Dialect;
use crate::limits::LONG_WAIT_S;
use crate::pipeline::Ended;

#[derive(Serialize)]
struct Body<'a> {
    error: Error<'a>,
}

/// The first four are OpenAI's; then what its clients read; then ours.
#[derive(Serialize)]
struct Error<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    code: &'a str,
    param: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resets_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resets_in_seconds: Option<i64>,
    reason: &'a str,
    service: &'a str,
    next_step: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    call_id: Option<&'a str>,
    #[serde(skip_serializing_if = "<[Candidate]>::is_empty")]
    candidates: &'a [Candidate],
}

/// Type and code of the error. A client waits out a limit that ends soon, and has to stop at one that does not: that
/// one has the name at which clients stop.
fn names(failure: &Failure) -> (&'static str, &'static str) {
    let wait = failure.retry_after_seconds.unwrap_or(0.0);
    let row = if failure.reason == Reason::AgentLimited && wait > LONG_WAIT_S {
        Reason::UsageLimit.row()
    } else {
        failure.reason.row()
    };
    (row.error_type, row.error_code)
}

/// The error body of `failure` in OpenAI's shape; `now_s` is Unix time, for what is left until a reset.
pub(super) fn body(failure: &Failure, call_id: Option<&str>, now_s: i64) -> String {
    let (kind, code) = names(failure);
    let error = Error {
        message: &failure.message,
        kind,
        code,
        param: failure.param.as_deref(),
        plan_type: failure.plan_type.as_deref(),
        resets_at: failure.resets_at,
        resets_in_seconds: failure.resets_at.map(|at| at.saturating_sub(now_s).max(0)),
        reason: failure.reason.as_str(),
        service: &failure.service,
        next_step: &failure.next_step,
        call_id,
        candidates: &failure.candidates,
    };
    // Fails only for maps with keys that are no strings, and there is no map here.
    serde_json::to_string(&Body { error }).unwrap_or_default()
}

/// A failure outside any call.
pub(super) fn failure_response(failure: &Failure, now_s: i64) -> Response {
    respond(failure, body(failure, None, now_s))
}

/// The failure of a call that has sent nothing yet, in the words of its dialect.
pub(super) fn call_response<D: Dialect>(failure: &Failure, ended: &Ended, now_s: i64) -> Response {
    let mut response = respond(failure, D::error(failure, Some(&ended.record.trace.call_id), now_s));
    crate::headers::add_upstream(response.headers_mut(), &ended.headers);
    let id = failure.upstream_request_id.as_deref().and_then(|id| HeaderValue::try_from(id).ok());
    if let Some(id) = id
        && !response.headers().contains_key("x-request-id")
    {
        response.headers_mut().insert("x-request-id", id);
    }
    response
}

/// An answer with this body, and the status and retry advice of `failure`.
pub(super) fn respond(failure: &Failure, body: String) -> Response {
    let status = StatusCode::from_u16(failure.reason.row().http).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = super::json(status, body);
    let headers = response.headers_mut();
    if !failure.retryable {
        headers.insert("x-should-retry", HeaderValue::from_static("false"));
    }
    if let Some(seconds) = failure.retry_after_seconds.filter(|s| s.is_finite() && *s >= 0.0) {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.ceil() as u64));
    }
    response
}

/// The event that ends a stream which has begun: clients of the Responses API know no other way to hear of a failure.
pub(super) fn failed_event(failure: &Failure, response_id: Option<&str>, call_id: &str) -> String {
    let error = serde_json::json!({ "code": failure.reason.as_str(), "message": failure.message,
        "service": failure.service, "next_step": failure.next_step, "call_id": call_id });
    let response = serde_json::json!({ "id": response_id, "object": "response", "status": "failed", "error": error });
    let data = serde_json::json!({ "type": "response.failed", "response": response });
    format!("event: response.failed\ndata: {data}\n\n")
}

#[cfg(test)]
mod tests {
    use domain::CandidateReason;

    use super::*;

    #[test]
    fn bodies_have_openais_shape_and_ours_beside_it() {
        let mut failure = Failure::new(Reason::UsageLimit, "upstream", "the limit is reached");
        failure.plan_type = Some("plus".into());
        failure.resets_at = Some(1_100);
        let body: serde_json::Value = serde_json::from_str(&body(&failure, Some("c1"), 1_000)).unwrap();
        let expected = serde_json::json!({ "error": { "message": "the limit is reached", "type": "usage_limit_reached",
            "code": "usage_limit_reached", "param": null, "plan_type": "plus", "resets_at": 1_100,
            "resets_in_seconds": 100, "reason": "USAGE_LIMIT", "service": "upstream",
            "next_step": Reason::UsageLimit.row().next_step, "call_id": "c1" } });
        assert_eq!(body, expected);
        let candidate = Candidate {
            credential: "main".into(),
            eligible: false,
            reason: Some(CandidateReason::Undecryptable),
            detail: None,
        };
        let failure = Failure::new(Reason::CredentialNotBound, "auth-svc", "none").candidates(vec![candidate]);
        let body: serde_json::Value = serde_json::from_str(&super::body(&failure, None, 0)).unwrap();
        assert_eq!(body["error"]["candidates"][0]["reason"], "undecryptable");
    }

    #[test]
    fn a_keys_limit_has_the_name_that_fits_the_wait() {
        let named = |wait: f64| names(&Failure::new(Reason::AgentLimited, "gateway", "limited").retry_after(wait));
        assert_eq!(named(60.0), ("rate_limit_error", "rate_limit_exceeded"));
        assert_eq!(named(61.0), ("usage_limit_reached", "usage_limit_reached"));
        let elsewhere = Failure::new(Reason::RateLimited, "upstream", "limited").retry_after(600.0);
        assert_eq!(names(&elsewhere), ("rate_limit_error", "rate_limit_exceeded"));
    }

    #[test]
    fn every_reason_has_its_status_and_retry_advice() {
        for reason in Reason::ALL {
            let row = reason.row();
            let response = failure_response(&Failure::new(*reason, "gateway", "x"), 0);
            assert_eq!(response.status().as_u16(), row.http, "{reason}");
            assert_eq!(response.headers().contains_key("x-should-retry"), !row.retryable, "{reason}");
            assert_eq!(response.headers().contains_key("retry-after"), row.retry_after_seconds.is_some(), "{reason}");
        }
    }

    #[test]
    fn a_broken_stream_ends_with_one_event() {
        let event = failed_event(&Failure::new(Reason::StreamCut, "upstream", "cut"), Some("resp_1"), "c1");
        let data = event.strip_prefix("event: response.failed\ndata: ").and_then(|e| e.strip_suffix("\n\n")).unwrap();
        let data: serde_json::Value = serde_json::from_str(data).unwrap();
        assert_eq!(data["type"], "response.failed");
        assert_eq!(data["response"]["id"], "resp_1");
        assert_eq!(data["response"]["error"]["code"], "STREAM_CUT");
    }
}
