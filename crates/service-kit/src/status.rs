//! Between failures and gRPC statuses.
//!
//! A status carries the failure itself as a detail, so that it survives every hop unchanged, and the standard rich
//! errors beside it (`ErrorInfo`, `RetryInfo`, `Help`) for clients that know nothing of Switchboard.
//! Header lists are limited to 8 to 16 KB by common clients, so the details are kept short: a long trace loses its
//! hops first, then its oldest attempts.

use bytes::Bytes;
use domain::{ExecutionTrace, Failure, Reason};
use prost::Message;
use proto::common::v1 as pb;
use tonic::{Code, Status};
use tonic_types::pb as rpc;

use crate::convert::{failure_from_proto, failure_to_proto, trace_from_proto, trace_to_proto};

/// Most bytes of details, before base64.
const MAX_DETAILS: usize = 5000;
/// Longest message, in bytes.
const MAX_MESSAGE: usize = 1000;
const FAILURE_URL: &str = "type.googleapis.com/switchboard.common.v1.Failure";
const TRACE_URL: &str = "type.googleapis.com/switchboard.common.v1.ExecutionTrace";

fn any(type_url: &str, message: &impl Message) -> prost_types::Any {
    prost_types::Any { type_url: type_url.to_owned(), value: message.encode_to_vec() }
}

/// The gRPC status of a failure.
pub fn status_from_failure(failure: &Failure) -> Status {
    build(failure, None)
}

/// The gRPC status of a failed call, with its execution trace among the details.
pub fn status_from_failure_with_trace(failure: &Failure, trace: &ExecutionTrace) -> Status {
    build(failure, Some(trace))
}

fn build(failure: &Failure, trace: Option<&ExecutionTrace>) -> Status {
    let code = Code::from_i32(failure.reason.row().grpc as i32);
    let message = shorten(&failure.message, MAX_MESSAGE);
    let mut details = vec![any("type.googleapis.com/google.rpc.ErrorInfo", &error_info(failure, trace))];
    if let Some(seconds) = failure.retry_after_seconds.filter(|s| s.is_finite() && *s >= 0.0) {
        let retry = rpc::RetryInfo {
            retry_delay: Some(prost_types::Duration {
                seconds: seconds.trunc() as i64,
                nanos: (seconds.fract() * 1e9) as i32,
            }),
        };
        details.push(any("type.googleapis.com/google.rpc.RetryInfo", &retry));
    }
    let help = rpc::Help {
        links: vec![rpc::help::Link { description: shorten(&failure.next_step, 300), url: failure.reason.page_path() }],
    };
    details.push(any("type.googleapis.com/google.rpc.Help", &help));
    details.push(any(FAILURE_URL, &short_failure(failure)));
    let used: usize = details.iter().map(|d| d.value.len() + d.type_url.len()).sum();
    if let Some(trace) = trace {
        details.push(any(TRACE_URL, &short_trace(trace, MAX_DETAILS.saturating_sub(used))));
    }
    let status = rpc::Status { code: code as i32, message: message.clone(), details };
    Status::with_details(code, message, Bytes::from(status.encode_to_vec()))
}

fn error_info(failure: &Failure, trace: Option<&ExecutionTrace>) -> rpc::ErrorInfo {
    let mut metadata = std::collections::HashMap::new();
    metadata.insert("service".to_owned(), failure.service.clone());
    if let Some(trace) = trace {
        metadata.insert("call_id".to_owned(), trace.call_id.clone());
        if let Some(last) = trace.attempts.last() {
            metadata.insert("last_attempt".to_owned(), format!("{}/{} {}", last.provider, last.model, last.url));
        }
    }
    rpc::ErrorInfo { reason: failure.reason.as_str().to_owned(), domain: "switchboard".to_owned(), metadata }
}

fn short_failure(failure: &Failure) -> pb::Failure {
    let mut short = failure_to_proto(failure);
    short.message = shorten(&short.message, MAX_MESSAGE);
    short.next_step = shorten(&short.next_step, 400);
    short.candidates.truncate(16);
    // Few candidates may explain themselves; many share the room.
    let each = (1600 / short.candidates.len().max(1)).clamp(60, 400);
    for candidate in &mut short.candidates {
        candidate.detail = candidate.detail.take().map(|d| shorten(&d, each));
    }
    short
}

fn short_trace(trace: &ExecutionTrace, room: usize) -> pb::ExecutionTrace {
    let mut short = trace_to_proto(trace);
    if short.encoded_len() > room {
        short.hops.clear();
    }
    while short.encoded_len() > room && short.attempts.len() > 1 {
        short.attempts.remove(0);
    }
    short
}

fn shorten(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = (0..=most).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    format!("{}…", text.get(..end).unwrap_or_default())
}

fn detail<M: Message + Default>(status: &Status, type_url: &str) -> Option<M> {
    let whole = rpc::Status::decode(status.details()).ok()?;
    let found = whole.details.into_iter().find(|d| d.type_url == type_url)?;
    M::decode(found.value.as_slice()).ok()
}

/// The failure behind a status that `peer` answered with. A status that is not ours is named for what it is.
pub fn failure_from_status(status: &Status, peer: &str) -> Failure {
    if let Some(failure) = detail::<pb::Failure>(status, FAILURE_URL) {
        return failure_from_proto(&failure);
    }
    let (reason, what) = match status.code() {
        Code::Unavailable => (Reason::PeerUnavailable, "does not answer"),
        // A status that has a cause did not come from the peer: it was made here, when the connection broke.
        Code::Internal | Code::Unknown if std::error::Error::source(status).is_some() => {
            (Reason::PeerUnavailable, "broke the connection off before its answer was whole")
        }
        Code::DeadlineExceeded => (Reason::Deadline, "did not answer within the caller's deadline"),
        Code::Cancelled => (Reason::Cancelled, "saw the call cancelled"),
        Code::ResourceExhausted => (Reason::RequestTooLarge, "refused a message"),
        Code::Unimplemented => return unknown_to(peer, None),
        _ => (Reason::Internal, "failed"),
    };
    let raw = status.message();
    let raw = if raw.is_empty() { String::new() } else { format!(" ({raw})") };
    Failure::new(reason, peer, format!("{peer} {what}{raw}"))
}

/// A peer of another version, which does not know what it was asked. `version` is the peer's, where it says.
pub(crate) fn unknown_to(peer: &str, version: Option<&str>) -> Failure {
    let own = env!("CARGO_PKG_VERSION");
    let whose = version.map(|version| format!(" (version {version})")).unwrap_or_default();
    let message = format!("the running {peer}{whose} does not know this request: it is older than who asks it");
    let next = match version {
        Some(_) => "start it again with the version of the program that asked".to_owned(),
        None => format!("start it again with this version, {own}"),
    };
    Failure::new(Reason::Unsupported, peer, message).next_step(next)
}

/// The execution trace among a status's details, if it holds one.
pub fn trace_from_status(status: &Status) -> Option<ExecutionTrace> {
    detail::<pb::ExecutionTrace>(status, TRACE_URL).map(|t| trace_from_proto(&t))
}

#[cfg(test)]
mod tests {
    use domain::{Candidate, CandidateReason, service};

    use super::*;

    #[test]
    fn a_failure_survives_the_wire() {
        let failure = Failure::new(Reason::CredentialNotBound, service::AUTH, "no usable credential")
            .candidates(vec![Candidate {
                credential: "main".into(),
                eligible: false,
                reason: Some(CandidateReason::Undecryptable),
                detail: Some("the sidecar's key is another one".into()),
            }])
            .retry_after(1.5);
        let trace = ExecutionTrace { call_id: "c1".into(), ..ExecutionTrace::default() };
        let status = status_from_failure_with_trace(&failure, &trace);
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert_eq!(failure_from_status(&status, "auth-svc"), failure);
        assert_eq!(trace_from_status(&status), Some(trace));
    }

    #[test]
    fn a_long_failure_fits_in_headers() {
        let mut failure = Failure::new(Reason::CredentialNotBound, service::AUTH, "x".repeat(9000));
        failure.candidates = (0..500)
            .map(|i| Candidate {
                credential: format!("c{i}"),
                eligible: false,
                reason: None,
                detail: Some("y".repeat(500)),
            })
            .collect();
        let hop = domain::Hop {
            service: "gateway".into(),
            host: "h".repeat(60),
            name: "call".into(),
            start_us: 0.0,
            duration_us: 1.0,
            outcome: "ok".into(),
            span_id: String::new(),
        };
        let trace = ExecutionTrace { hops: vec![hop; 200], ..ExecutionTrace::default() };
        assert!(status_from_failure_with_trace(&failure, &trace).details().len() < 6100);
    }

    #[test]
    fn a_foreign_status_is_named() {
        let failure = failure_from_status(&Status::unavailable("connection refused"), "router-svc");
        assert_eq!(failure.reason, Reason::PeerUnavailable);
        assert_eq!(
            (failure.service.as_str(), failure.message.as_str()),
            ("router-svc", "router-svc does not answer (connection refused)")
        );
        // What tonic says of a server that has never heard of the service.
        let old = Status::unimplemented("grpc-status header missing, mapped from HTTP status code 404");
        let failure = failure_from_status(&old, "auth-svc");
        assert_eq!((failure.reason, failure.service.as_str()), (Reason::Unsupported, "auth-svc"));
        assert!(failure.message.contains("older") && !failure.message.contains("404"), "{failure}");
        assert!(failure.next_step.contains(env!("CARGO_PKG_VERSION")), "{}", failure.next_step);
        let silent = failure_from_status(&Status::cancelled(""), "auth-svc");
        assert_eq!(silent.message, "auth-svc saw the call cancelled");
    }
}
