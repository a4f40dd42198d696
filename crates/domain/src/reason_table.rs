//! The one table of reasons.
//!
//! A 503 or 502 of the upstream carries no Retry-After of ours: Codex CLI 0.169 stops by itself at
//! `server_is_overloaded`, but with the header it asked 30 times. What a retry cannot mend is a 400 even where the fault is
//! ours (PEER_REFUSED, SEAL_REFUSED): at a 500 it asks just as often, and says "experiencing high demand" in the end.

use crate::reason::{After, GrpcCode, Reason, Row};

/// The row of a reason. The match has no wildcard arm: a new reason does not compile without its row.
pub(crate) fn row(reason: Reason) -> &'static Row {
    match reason {
        Reason::AgentKeyInvalid => &AGENT_KEY_INVALID,
        Reason::AgentNotAllowed => &AGENT_NOT_ALLOWED,
        Reason::AgentLimited => &AGENT_LIMITED,
        Reason::RequestInvalid => &REQUEST_INVALID,
        Reason::RequestTooLarge => &REQUEST_TOO_LARGE,
        Reason::Unsupported => &UNSUPPORTED,
        Reason::NotFound => &NOT_FOUND,
        Reason::RouteUnknown => &ROUTE_UNKNOWN,
        Reason::CredentialNotBound => &CREDENTIAL_NOT_BOUND,
        Reason::CredentialNeedsLogin => &CREDENTIAL_NEEDS_LOGIN,
        Reason::IdentityUnavailable => &IDENTITY_UNAVAILABLE,
        Reason::CredentialRejected => &CREDENTIAL_REJECTED,
        Reason::NotEntitled => &NOT_ENTITLED,
        Reason::PolicyRefused => &POLICY_REFUSED,
        Reason::UsageLimit => &USAGE_LIMIT,
        Reason::RateLimited => &RATE_LIMITED,
        Reason::UpstreamOverloaded => &UPSTREAM_OVERLOADED,
        Reason::UpstreamError => &UPSTREAM_ERROR,
        Reason::UpstreamTimeout => &UPSTREAM_TIMEOUT,
        Reason::WrongEndpoint => &WRONG_ENDPOINT,
        Reason::EdgeChallenge => &EDGE_CHALLENGE,
        Reason::EdgeBlocked => &EDGE_BLOCKED,
        Reason::RequestRejected => &REQUEST_REJECTED,
        Reason::ContextTooLong => &CONTEXT_TOO_LONG,
        Reason::ClientOutdated => &CLIENT_OUTDATED,
        Reason::StreamCut => &STREAM_CUT,
        Reason::StreamIdle => &STREAM_IDLE,
        Reason::EgressUnreachable => &EGRESS_UNREACHABLE,
        Reason::PeerUnavailable => &PEER_UNAVAILABLE,
        Reason::PeerRefused => &PEER_REFUSED,
        Reason::SealRefused => &SEAL_REFUSED,
        Reason::Shed => &SHED,
        Reason::StoreUnavailable => &STORE_UNAVAILABLE,
        Reason::Deadline => &DEADLINE,
        Reason::Cancelled => &CANCELLED,
        Reason::Internal => &INTERNAL,
    }
}

const AGENT_KEY_INVALID: Row = Row {
    grpc: GrpcCode::Unauthenticated,
    http: 401,
    error_type: "authentication_error",
    error_code: "invalid_api_key",
    retryable: false,
    retry_after_seconds: None,
    after: After::Stop,
    when: "the agent key is missing, wrong, revoked or expired",
    next_step: "send `Authorization: Bearer sbk_…` with a live key; `switchboard keys list` shows them, `switchboard keys create` makes one",
};

const AGENT_NOT_ALLOWED: Row = Row {
    grpc: GrpcCode::PermissionDenied,
    http: 400,
    error_type: "invalid_request_error",
    error_code: "model_not_allowed",
    retryable: false,
    retry_after_seconds: None,
    // A credential's list says nothing about a fallback's credentials; a model's is looked at before any attempt.
    after: After::NextFallback,
    when: "the model, or every credential of the route, is outside the key's or the agent's list",
    next_step: "use an allowed model, or extend the list: `[agents.<name>] allowed` and `credentials`, or a key with others",
};

const AGENT_LIMITED: Row = Row {
    grpc: GrpcCode::ResourceExhausted,
    http: 429,
    error_type: "rate_limit_error",
    error_code: "rate_limit_exceeded",
    retryable: true,
    retry_after_seconds: Some(1.0),
    after: After::Stop,
    when: "over the key's own limit; with more than 60 s to wait, type and code of the error are `usage_limit_reached`",
    next_step: "slow down, or raise the key's limit",
};

const REQUEST_INVALID: Row = Row {
    grpc: GrpcCode::InvalidArgument,
    http: 400,
    error_type: "invalid_request_error",
    error_code: "invalid_request",
    retryable: false,
    retry_after_seconds: None,
    after: After::Stop,
    when: "the request is malformed",
    next_step: "correct the request as the message says",
};

const REQUEST_TOO_LARGE: Row = Row {
    grpc: GrpcCode::ResourceExhausted,
    http: 413,
    error_type: "invalid_request_error",
    error_code: "request_too_large",
    retryable: false,
    retry_after_seconds: None,
    after: After::Stop,
    when: "the request is over the size limit",
    next_step: "send less, or raise `[gateway] max_body_bytes`",
};

const UNSUPPORTED: Row = Row {
    grpc: GrpcCode::Unimplemented,
    http: 400,
    error_type: "invalid_request_error",
    error_code: "unsupported_parameter",
    retryable: false,
    retry_after_seconds: None,
    after: After::Stop,
    when: "a parameter or feature that is not served",
    next_step: "leave the named parameter out",
};

const NOT_FOUND: Row = Row {
    grpc: GrpcCode::NotFound,
    http: 404,
    error_type: "invalid_request_error",
    error_code: "not_found",
    retryable: false,
    retry_after_seconds: None,
    after: After::Stop,
    when: "no such path, call or page",
    next_step: "check the path or id",
};

const ROUTE_UNKNOWN: Row = Row {
    grpc: GrpcCode::NotFound,
    http: 400,
    error_type: "invalid_request_error",
    error_code: "model_not_found",
    retryable: false,
    retry_after_seconds: None,
    after: After::Stop,
    when: "no route for this model name",
    next_step: "use one of the nearest names, or add a provider; `switchboard models list` shows what is known",
};

const CREDENTIAL_NOT_BOUND: Row = Row {
    grpc: GrpcCode::FailedPrecondition,
    http: 400,
    error_type: "invalid_request_error",
    error_code: "credential_not_bound",
    retryable: false,
    retry_after_seconds: None,
    after: After::NextFallback,
    when: "no usable credential for the route",
    next_step: "see each candidate's reason; `switchboard models status` shows the same",
};

const CREDENTIAL_NEEDS_LOGIN: Row = Row {
    grpc: GrpcCode::FailedPrecondition,
    http: 400,
    error_type: "invalid_request_error",
    error_code: "credential_needs_login",
    retryable: false,
    retry_after_seconds: None,
    after: After::NextCredential,
    when: "the identity provider refused the refresh token for good",
    next_step: "log in again: `switchboard login codex`",
};

const IDENTITY_UNAVAILABLE: Row = Row {
    grpc: GrpcCode::Unavailable,
    http: 503,
    error_type: "server_error",
    error_code: "identity_unavailable",
    retryable: true,
    retry_after_seconds: Some(5.0),
    after: After::NextCredential,
    when: "the identity provider does not answer as it should",
    next_step: "wait and retry; the login itself is kept. If it lasts, check auth-svc's way to the identity provider",
};

const CREDENTIAL_REJECTED: Row = Row {
    grpc: GrpcCode::FailedPrecondition,
    http: 400,
    error_type: "invalid_request_error",
    error_code: "credential_rejected",
    retryable: false,
    retry_after_seconds: None,
    after: After::NextCredential,
    when: "the upstream rejected the access token, also after one refresh",
    next_step: "a login: `switchboard credentials refresh LABEL`, and if that does not help `switchboard login codex`; an \
                API key: `switchboard login api-key` with a new one",
};

const NOT_ENTITLED: Row = Row {
    grpc: GrpcCode::PermissionDenied,
    http: 400,
    error_type: "invalid_request_error",
    error_code: "not_entitled",
    retryable: false,
    retry_after_seconds: None,
    after: After::NextFallback,
    when: "the account may not use this model or product",
    next_step: "use a model that the plan includes, or another account",
};

const POLICY_REFUSED: Row = Row {
    grpc: GrpcCode::FailedPrecondition,
    http: 400,
    error_type: "invalid_request_error",
    error_code: "policy_refused",
    retryable: false,
    retry_after_seconds: None,
    after: After::Stop,
    when: "the upstream's policy refused the content",
    next_step: "change the request; the upstream's own text says why",
};

const USAGE_LIMIT: Row = Row {
    grpc: GrpcCode::ResourceExhausted,
    http: 429,
    error_type: "usage_limit_reached",
    error_code: "usage_limit_reached",
    retryable: false,
    retry_after_seconds: None,
    after: After::NextCredential,
    when: "the plan's usage limit is reached",
    next_step: "wait for the reset, or add a credential or a fallback",
};

const RATE_LIMITED: Row = Row {
    grpc: GrpcCode::ResourceExhausted,
    http: 429,
    error_type: "rate_limit_error",
    error_code: "rate_limit_exceeded",
    retryable: true,
    retry_after_seconds: Some(1.0),
    after: After::NextCredential,
    when: "too many requests for the moment",
    next_step: "wait as long as Retry-After says",
};

const UPSTREAM_OVERLOADED: Row = Row {
    grpc: GrpcCode::Unavailable,
    http: 503,
    error_type: "server_error",
    error_code: "server_is_overloaded",
    retryable: true,
    retry_after_seconds: None,
    after: After::Repeat,
    when: "the upstream is overloaded",
    next_step: "wait and retry",
};

const UPSTREAM_ERROR: Row = Row {
    grpc: GrpcCode::Unavailable,
    http: 502,
    error_type: "server_error",
    error_code: "upstream_error",
    retryable: true,
    retry_after_seconds: None,
    after: After::Repeat,
    when: "the upstream failed",
    next_step: "wait and retry; the upstream's request id helps its support",
};

const UPSTREAM_TIMEOUT: Row = Row {
    grpc: GrpcCode::DeadlineExceeded,
    http: 504,
    error_type: "server_error",
    error_code: "upstream_timeout",
    retryable: true,
    retry_after_seconds: None,
    after: After::Stop,
    when: "no response headers in time",
    next_step: "retry if the work may be done twice; `[transport] headers_timeout` sets the limit",
};

const WRONG_ENDPOINT: Row = Row {
    grpc: GrpcCode::FailedPrecondition,
    http: 400,
    error_type: "invalid_request_error",
    error_code: "wrong_endpoint",
    retryable: false,
    retry_after_seconds: None,
    after: After::Stop,
    when: "the URL that was called is not the target's",
    next_step: "correct `base_url` of the target as the message says; the login is not the cause",
};

const EDGE_CHALLENGE: Row = Row {
    grpc: GrpcCode::Unavailable,
    http: 400,
    error_type: "invalid_request_error",
    error_code: "edge_challenge",
    retryable: false,
    retry_after_seconds: None,
    after: After::NextEgress,
    when: "the edge in front of the upstream asks this egress for a browser challenge",
    next_step: "use another egress (other address or proxy); the credential is fine and keeps its standing",
};

const EDGE_BLOCKED: Row = Row {
    grpc: GrpcCode::Unavailable,
    http: 400,
    error_type: "invalid_request_error",
    error_code: "edge_blocked",
    retryable: false,
    retry_after_seconds: None,
    after: After::NextEgress,
    when: "the edge in front of the upstream blocks this egress",
    next_step: "use another egress (other address or proxy); the credential is fine and keeps its standing",
};

const REQUEST_REJECTED: Row = Row {
    grpc: GrpcCode::InvalidArgument,
    http: 400,
    error_type: "invalid_request_error",
    error_code: "request_rejected",
    retryable: false,
    retry_after_seconds: None,
    after: After::Stop,
    when: "the upstream refused the request",
    next_step: "correct the request as the upstream's text says",
};

const CONTEXT_TOO_LONG: Row = Row {
    grpc: GrpcCode::InvalidArgument,
    http: 400,
    error_type: "invalid_request_error",
    error_code: "context_length_exceeded",
    retryable: false,
    retry_after_seconds: None,
    after: After::Stop,
    when: "the conversation is longer than the model's context",
    next_step: "shorten or compact the conversation",
};

const CLIENT_OUTDATED: Row = Row {
    grpc: GrpcCode::FailedPrecondition,
    http: 400,
    error_type: "invalid_request_error",
    error_code: "client_outdated",
    retryable: false,
    retry_after_seconds: None,
    after: After::Stop,
    when: "the upstream wants a newer client version for this model",
    next_step: "raise `[targets.chatgpt-codex] version`, or use another model",
};

const STREAM_CUT: Row = Row {
    grpc: GrpcCode::Unavailable,
    http: 502,
    error_type: "server_error",
    error_code: "stream_cut",
    retryable: true,
    retry_after_seconds: None,
    after: After::Stop,
    when: "the upstream's stream ended without a terminal event",
    next_step: "retry if the work may be done twice",
};

const STREAM_IDLE: Row = Row {
    grpc: GrpcCode::Unavailable,
    http: 502,
    error_type: "server_error",
    error_code: "stream_idle",
    retryable: true,
    retry_after_seconds: None,
    after: After::Stop,
    when: "the upstream fell silent in mid stream",
    next_step: "retry if the work may be done twice; `[transport] idle_timeout` sets the limit",
};

const EGRESS_UNREACHABLE: Row = Row {
    grpc: GrpcCode::Unavailable,
    http: 502,
    error_type: "server_error",
    error_code: "egress_unreachable",
    retryable: true,
    retry_after_seconds: None,
    after: After::NextEgress,
    when: "the upstream cannot be reached from this egress",
    next_step: "check name resolution, network, TLS and proxy as the message says",
};

const PEER_UNAVAILABLE: Row = Row {
    grpc: GrpcCode::Unavailable,
    http: 503,
    error_type: "server_error",
    error_code: "peer_unavailable",
    retryable: true,
    retry_after_seconds: Some(1.0),
    after: After::NextEgress,
    when: "one of Switchboard's own services does not answer",
    next_step: "start the named service; `switchboard health` shows each",
};

const PEER_REFUSED: Row = Row {
    grpc: GrpcCode::PermissionDenied,
    http: 400,
    error_type: "invalid_request_error",
    error_code: "peer_refused",
    retryable: false,
    retry_after_seconds: None,
    after: After::Stop,
    when: "a Switchboard service refused the caller's identity",
    next_step: "run the caller as the same user, or over the operator's socket",
};

const SEAL_REFUSED: Row = Row {
    grpc: GrpcCode::PermissionDenied,
    http: 400,
    error_type: "invalid_request_error",
    error_code: "seal_refused",
    retryable: false,
    retry_after_seconds: None,
    after: After::Stop,
    when: "transport-svc refused the sealed credential",
    next_step: "check that auth-svc and transport-svc have the same seal key, the same targets and the same time",
};

const SHED: Row = Row {
    grpc: GrpcCode::Unavailable,
    http: 503,
    error_type: "server_error",
    error_code: "switchboard_full",
    retryable: true,
    retry_after_seconds: Some(1.0),
    after: After::NextEgress,
    when: "Switchboard itself is full",
    next_step: "wait and retry, or add a gateway",
};

const STORE_UNAVAILABLE: Row = Row {
    grpc: GrpcCode::Unavailable,
    http: 503,
    error_type: "server_error",
    error_code: "store_unavailable",
    retryable: true,
    retry_after_seconds: Some(1.0),
    after: After::Stop,
    when: "auth-svc's database fails",
    next_step: "see auth-svc's log: disk space, permissions, integrity",
};

const DEADLINE: Row = Row {
    grpc: GrpcCode::DeadlineExceeded,
    http: 504,
    error_type: "server_error",
    error_code: "deadline_exceeded",
    retryable: true,
    retry_after_seconds: None,
    after: After::Stop,
    when: "the caller's deadline passed",
    next_step: "allow more time",
};

const CANCELLED: Row = Row {
    grpc: GrpcCode::Cancelled,
    http: 499,
    error_type: "server_error",
    error_code: "cancelled",
    retryable: true,
    retry_after_seconds: None,
    after: After::Stop,
    when: "the caller went away",
    next_step: "none",
};

const INTERNAL: Row = Row {
    grpc: GrpcCode::Internal,
    http: 500,
    error_type: "server_error",
    error_code: "internal_error",
    retryable: false,
    retry_after_seconds: None,
    after: After::Stop,
    when: "a defect of Switchboard",
    next_step: "report it with the call id and the log of the named service",
};
