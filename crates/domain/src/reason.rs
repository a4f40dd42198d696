//! The closed list of reasons. Everything that depends on a reason (gRPC status, HTTP status, error body, retry
//! decision, documentation) follows from its row in the one table, `reason_table.rs`.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::reason_table::row;

/// gRPC status codes, by their numbers in the gRPC specification; `domain` knows no gRPC crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum GrpcCode {
    /// 1
    Cancelled = 1,
    /// 3
    InvalidArgument = 3,
    /// 4
    DeadlineExceeded = 4,
    /// 5
    NotFound = 5,
    /// 7
    PermissionDenied = 7,
    /// 8
    ResourceExhausted = 8,
    /// 9
    FailedPrecondition = 9,
    /// 12
    Unimplemented = 12,
    /// 13
    Internal = 13,
    /// 14
    Unavailable = 14,
    /// 16
    Unauthenticated = 16,
}

/// What a call may try after an attempt failed for this reason, provided that rule 7 (no duplicate work) allows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// Nothing: any other attempt would fail alike, or might do the work twice.
    Stop,
    /// The next named fallback.
    NextFallback,
    /// The next credential of the same route, then the next named fallback.
    NextCredential,
    /// The same again, once, then the next named fallback.
    Repeat,
    /// Another egress for the same credential, then the next named fallback: it says nothing about the credential.
    NextEgress,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// gRPC status.
    pub grpc: GrpcCode,
    /// HTTP status, chosen for how real clients react.
    pub http: u16,
    /// `error.type` of the OpenAI-shaped body.
    pub error_type: &'static str,
    /// `error.code` of the OpenAI-shaped body.
    pub error_code: &'static str,
    /// True where the same call can succeed later without anybody changing anything.
    pub retryable: bool,
    /// Seconds to wait when nobody said how long.
    pub retry_after_seconds: Option<f64>,
    /// What a call may try next.
    pub after: After,
    /// What it means, in one line.
    pub when: &'static str,
    /// What a person does about it.
    pub next_step: &'static str,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        /// Why a call failed. The names are part of the contract.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $($(#[$doc])* $variant,)+
        }

        impl Reason {
            /// Every reason, in the order of the table.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant,)+];

            /// The name users see, e.g. `CREDENTIAL_NOT_BOUND`.
            pub fn as_str(self) -> &'static str {
                match self { $(Reason::$variant => $name,)+ }
            }

            /// The page about it, in Markdown: what happened, how to confirm it, what to do. From `docs/reasons/`; a reason
            /// without a page does not compile.
            pub fn page(self) -> &'static str {
                match self { $(Reason::$variant => include_str!(concat!("../../../docs/reasons/", $name, ".md")),)+ }
            }
        }
    };
}

reasons! {
    /// The agent key is missing, wrong, revoked or expired.
    AgentKeyInvalid = "AGENT_KEY_INVALID",
    /// The model or credential is outside the key's or agent's list.
    AgentNotAllowed = "AGENT_NOT_ALLOWED",
    /// Over the key's own limit.
    AgentLimited = "AGENT_LIMITED",
    /// Malformed request.
    RequestInvalid = "REQUEST_INVALID",
    /// Request over the size limit.
    RequestTooLarge = "REQUEST_TOO_LARGE",
    /// A parameter or feature that is not served.
    Unsupported = "UNSUPPORTED",
    /// No such path, call or page.
    NotFound = "NOT_FOUND",
    /// No route for this model name.
    RouteUnknown = "ROUTE_UNKNOWN",
    /// No usable credential.
    CredentialNotBound = "CREDENTIAL_NOT_BOUND",
    /// The refresh token was refused for good.
    CredentialNeedsLogin = "CREDENTIAL_NEEDS_LOGIN",
    /// The identity provider does not answer as it should; nothing latches.
    IdentityUnavailable = "IDENTITY_UNAVAILABLE",
    /// The upstream rejected the token, after one refresh of that version.
    CredentialRejected = "CREDENTIAL_REJECTED",
    /// The account may not use this model or this product.
    NotEntitled = "NOT_ENTITLED",
    /// The upstream's policy refused the content.
    PolicyRefused = "POLICY_REFUSED",
    /// The plan's usage limit is reached.
    UsageLimit = "USAGE_LIMIT",
    /// Too many requests for the moment.
    RateLimited = "RATE_LIMITED",
    /// The upstream is overloaded.
    UpstreamOverloaded = "UPSTREAM_OVERLOADED",
    /// The upstream failed (5xx).
    UpstreamError = "UPSTREAM_ERROR",
    /// No response headers in time.
    UpstreamTimeout = "UPSTREAM_TIMEOUT",
    /// The URL is not the target's.
    WrongEndpoint = "WRONG_ENDPOINT",
    /// The edge asks for a browser challenge, on the right path.
    EdgeChallenge = "EDGE_CHALLENGE",
    /// The edge blocks this egress, on the right path.
    EdgeBlocked = "EDGE_BLOCKED",
    /// The upstream refused the request (400).
    RequestRejected = "REQUEST_REJECTED",
    /// The conversation is longer than the model's context.
    ContextTooLong = "CONTEXT_TOO_LONG",
    /// The upstream wants a newer client version.
    ClientOutdated = "CLIENT_OUTDATED",
    /// The stream ended without a terminal event.
    StreamCut = "STREAM_CUT",
    /// The stream fell silent.
    StreamIdle = "STREAM_IDLE",
    /// DNS, connect, TLS or proxy failure.
    EgressUnreachable = "EGRESS_UNREACHABLE",
    /// One of our own services does not answer.
    PeerUnavailable = "PEER_UNAVAILABLE",
    /// One of our own services refused the caller's identity.
    PeerRefused = "PEER_REFUSED",
    /// transport-svc refused a sealed credential.
    SealRefused = "SEAL_REFUSED",
    /// We are full.
    Shed = "SHED",
    /// The database fails.
    StoreUnavailable = "STORE_UNAVAILABLE",
    /// The caller's deadline passed.
    Deadline = "DEADLINE",
    /// The caller went away.
    Cancelled = "CANCELLED",
    /// A defect of ours.
    Internal = "INTERNAL",
}

impl Reason {
    /// Where its page is in the project: `docs/reasons/<REASON>.md`.
    pub fn page_path(self) -> String {
        format!("docs/reasons/{self}.md")
    }

    /// This reason's row.
    pub fn row(self) -> &'static Row {
        row(self)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Reason {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.iter().copied().find(|r| r.as_str() == name).ok_or_else(|| format!("no reason {name:?}"))
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
