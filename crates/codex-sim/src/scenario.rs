//! How a reply goes wrong, by name.
//!
//! A scenario has a string form, `name` or `name:argument`, and reaches a request in one of these ways,
//! the later ones going over the earlier ones:
//!
//! 1. for everyone: [`SimConfig::scenario`](crate::SimConfig::scenario), or the target `*`;
//! 2. for a credential: [`SimState::set_scenario`](crate::SimState::set_scenario) with an account id or
//!    an API key;
//! 3. for one request: `[[sim:NAME]]` in the text of the last user message (any number of them);
//! 4. for one request: the header `x-sim-scenario: NAME[, NAME…]`.
//!
//! A scenario takes one of four places of a reply (before it, its shape, how it breaks off, its delay),
//! and scenarios of different places combine: an account set to `cut:20` asked with `[[sim:long:100]]` cuts
//! a long stream. `ok` clears all places. A directive that is not known gets a 400 that says so: a typing
//! error in a test must not pass for a success.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One behaviour of the Responses endpoints. See [`FORMS`] for the string forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// A normal answer.
    Ok,
    /// Cloudflare's challenge page on the right path.
    Challenge,
    /// Cloudflare's block page, which lacks the challenge's headers.
    Block,
    /// 401 `token_expired`, whatever the token.
    Unauthorized,
    /// 401 for the tokens issued so far; those that a refresh brings are good.
    UnauthorizedOnce,
    /// 429 `usage_limit_reached`.
    UsageLimit {
        /// Seconds until the window resets.
        resets_in: u64,
    },
    /// 429 `rate_limit_exceeded`.
    RateLimit {
        /// The `retry-after` header, in seconds.
        retry_after: u64,
    },
    /// 429 `usage_not_included`.
    UsageNotIncluded,
    /// 429 `insufficient_quota`.
    InsufficientQuota,
    /// 500 with a JSON error.
    ServerError,
    /// 503 `server_is_overloaded`.
    Overloaded,
    /// 502 with an HTML page of the edge.
    BadGateway,
    /// 520: the edge cannot make sense of the origin's answer.
    Origin520,
    /// 400: the account may not use this model.
    NotSupportedModel,
    /// 400: the model needs a newer client.
    ClientTooOld,
    /// 400 `context_length_exceeded`.
    ContextTooLong,
    /// 400 `invalid_encrypted_content`.
    EncryptedContent,
    /// 403 with a JSON error: the account, not the edge, is refused.
    Json403,
    /// 404 with an HTML page.
    Html404,
    /// 307 to another path.
    Redirect,
    /// Nothing is ever answered.
    NoHeaders,
    /// The connection is closed instead of an answer.
    Hangup,
    /// HTTP/2: GOAWAY naming the request's stream as not processed. HTTP/1.1: as `hangup`.
    Goaway,
    /// HTTP/2: GOAWAY that includes the request's stream, and no answer. HTTP/1.1: as `hangup`.
    GoawayIncluded,
    /// A good answer on a connection that takes no more requests: HTTP/2 says so by GOAWAY, before the headers.
    GoawayAnswered,
    /// HTTP/2: RST_STREAM with REFUSED_STREAM. HTTP/1.1: as `hangup`.
    RefusedStream,
    /// HTTP/2: RST_STREAM with INTERNAL_ERROR instead of headers. HTTP/1.1: as `hangup`.
    ResetRequest,
    /// A TCP reset when a part of the body has been read. Set it for an account, a key or `*`.
    CutUpload,
    /// The body is not read past its first part, and nothing is answered. Set it for an account, a key or `*`.
    StallUpload,
    /// A good answer, after which the connection is closed while it is idle.
    CloseIdle,
    /// Headers, then a TCP reset before any event.
    CutBeforeEvent,
    /// A TCP reset after some events.
    Cut {
        /// How many events are sent.
        after: usize,
    },
    /// HTTP/2: RST_STREAM after some events, the connection stays. HTTP/1.1: closed without the last chunk.
    ResetStream {
        /// How many events are sent.
        after: usize,
    },
    /// The whole answer, then a TCP reset before the end of the body.
    CutAtEnd,
    /// The whole answer, then HTTP/2: RST_STREAM; HTTP/1.1: closed without the last chunk.
    ResetAtEnd,
    /// The whole answer, then silence: the body does not end.
    SilenceAtEnd,
    /// A clean end of the body without a terminal event.
    EndEarly {
        /// How many events are sent.
        after: usize,
    },
    /// Silence on an open connection.
    Silence {
        /// How many events are sent first.
        after: usize,
    },
    /// `response.failed` in the stream.
    Failed {
        /// The error code.
        code: String,
        /// The message; without one, the usual text for the code.
        message: Option<String>,
    },
    /// `response.failed` with one of the policy codes.
    Policy {
        /// `cyber_policy`, `misalignment_policy_violation`, `bio_policy` or `invalid_prompt`.
        code: String,
    },
    /// `response.incomplete`.
    Incomplete {
        /// `max_output_tokens` or `content_filter`.
        reason: String,
    },
    /// Several function calls whose arguments come interleaved, if the request has tools.
    Parallel {
        /// How many calls.
        calls: usize,
    },
    /// A refusal instead of a text.
    Refusal,
    /// A good answer in finished items only: no deltas, and nothing said of the response but its id.
    Minimal,
    /// A good answer in unusual clothes: unknown events and fields, comments, CRLF, multi-line data,
    /// characters split across chunks.
    UnknownEvents,
    /// A `data:` line that is not JSON, amid a good answer.
    Garbage,
    /// A sealed reasoning item before the message, with a summary if the request asks for one.
    Reasoning,
    /// One very large event amid a good answer.
    HugeEvent {
        /// The size of its payload.
        bytes: usize,
    },
    /// A long text in many deltas.
    Long {
        /// How many deltas.
        deltas: usize,
        /// The size of each.
        bytes: usize,
        /// Milliseconds between two events; `None` keeps the simulator's pace.
        pace_ms: Option<u64>,
    },
    /// A text whose deltas are the times at which they are sent, for a benchmark: Unix nanoseconds.
    Stamped {
        /// How many deltas.
        deltas: usize,
        /// Milliseconds between two events; `None` keeps the simulator's pace.
        pace_ms: Option<u64>,
    },
    /// A good answer whose headers come late.
    Delay {
        /// Milliseconds before the headers.
        ms: u64,
    },
}

/// The string forms with what they do; `[…]` marks what may be left out.
pub const FORMS: &[(&str, &str)] = &[
    ("ok", "a normal answer"),
    ("challenge", "403 challenge page on the right path"),
    ("block", "403 block page"),
    ("unauthorized", "401 JSON token_expired"),
    ("unauthorized_once", "401 until the token has been refreshed"),
    ("usage_limit[:SECONDS]", "429 usage_limit_reached, resets in SECONDS (7200)"),
    ("rate_limit[:SECONDS]", "429 rate_limit_exceeded with retry-after (1)"),
    ("usage_not_included", "429 usage_not_included"),
    ("insufficient_quota", "429 insufficient_quota"),
    ("server_error", "500 JSON"),
    ("overloaded", "503 server_is_overloaded"),
    ("bad_gateway", "502 HTML"),
    ("origin_520", "520 HTML of the edge"),
    ("not_supported_model", "400 detail: model not for this account"),
    ("client_too_old", "400 detail: newer version of Codex required"),
    ("context_too_long", "400 context_length_exceeded"),
    ("encrypted_content", "400 invalid_encrypted_content"),
    ("json_403", "403 JSON"),
    ("html_404", "404 HTML"),
    ("redirect", "307"),
    ("no_headers", "never answers"),
    ("hangup", "closes the connection instead of answering"),
    ("goaway", "HTTP/2 GOAWAY, request not processed"),
    ("goaway_included", "HTTP/2 GOAWAY that includes the request, no answer"),
    ("goaway_answered", "a normal answer after a GOAWAY that includes the request"),
    ("refused_stream", "HTTP/2 RST_STREAM REFUSED_STREAM"),
    ("reset_request", "HTTP/2 RST_STREAM INTERNAL_ERROR instead of headers"),
    ("cut_upload", "TCP reset when a part of the body has been read"),
    ("stall_upload", "reads a part of the body, never answers"),
    ("close_idle", "a normal answer, then the idle connection is closed"),
    ("cut_before_event", "headers, then TCP reset"),
    ("cut[:N]", "TCP reset after N (2) events"),
    ("reset_stream[:N]", "RST_STREAM after N (2) events"),
    ("cut_at_end", "TCP reset after the terminal event"),
    ("reset_at_end", "RST_STREAM after the terminal event"),
    ("silence_at_end", "nothing more after the terminal event, not even the end"),
    ("end_early[:N]", "clean end after N (4) events, no terminal event"),
    ("silence[:N]", "nothing more after N (0) events"),
    ("failed:CODE[:MESSAGE]", "response.failed"),
    ("policy[:CODE]", "response.failed with a policy code (cyber_policy)"),
    ("incomplete[:REASON]", "response.incomplete (max_output_tokens)"),
    ("parallel[:N]", "N (2) function calls at once, if there are tools"),
    ("refusal", "a refusal instead of a text"),
    ("minimal", "finished items only, no deltas"),
    ("unknown_events", "valid but unusual stream"),
    ("garbage", "an unparsable data line amid a good answer"),
    ("reasoning", "a reasoning item before the message: sealed, and with a summary where one is asked for"),
    ("huge_event:BYTES", "one very large event"),
    ("long:N[:BYTES[:PACE_MS]]", "N deltas of BYTES (16), PACE_MS apart"),
    ("stamped:N[:PACE_MS]", "N deltas that are the Unix nanoseconds of their sending, PACE_MS apart"),
    ("delay:MS", "headers after MS"),
];

/// The scenarios that take no argument.
static PLAIN: &[(&str, Scenario)] = &[
    ("ok", Scenario::Ok),
    ("challenge", Scenario::Challenge),
    ("block", Scenario::Block),
    ("unauthorized", Scenario::Unauthorized),
    ("unauthorized_once", Scenario::UnauthorizedOnce),
    ("usage_not_included", Scenario::UsageNotIncluded),
    ("insufficient_quota", Scenario::InsufficientQuota),
    ("server_error", Scenario::ServerError),
    ("overloaded", Scenario::Overloaded),
    ("bad_gateway", Scenario::BadGateway),
    ("origin_520", Scenario::Origin520),
    ("not_supported_model", Scenario::NotSupportedModel),
    ("client_too_old", Scenario::ClientTooOld),
    ("context_too_long", Scenario::ContextTooLong),
    ("encrypted_content", Scenario::EncryptedContent),
    ("json_403", Scenario::Json403),
    ("html_404", Scenario::Html404),
    ("redirect", Scenario::Redirect),
    ("no_headers", Scenario::NoHeaders),
    ("hangup", Scenario::Hangup),
    ("goaway", Scenario::Goaway),
    ("goaway_included", Scenario::GoawayIncluded),
    ("goaway_answered", Scenario::GoawayAnswered),
    ("refused_stream", Scenario::RefusedStream),
    ("reset_request", Scenario::ResetRequest),
    ("cut_upload", Scenario::CutUpload),
    ("stall_upload", Scenario::StallUpload),
    ("close_idle", Scenario::CloseIdle),
    ("cut_at_end", Scenario::CutAtEnd),
    ("reset_at_end", Scenario::ResetAtEnd),
    ("silence_at_end", Scenario::SilenceAtEnd),
    ("cut_before_event", Scenario::CutBeforeEvent),
    ("refusal", Scenario::Refusal),
    ("minimal", Scenario::Minimal),
    ("unknown_events", Scenario::UnknownEvents),
    ("garbage", Scenario::Garbage),
    ("reasoning", Scenario::Reasoning),
];

/// A string that names no scenario.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a scenario of codex-sim")]
pub struct UnknownScenario(pub String);

impl FromStr for Scenario {
    type Err = UnknownScenario;

    fn from_str(text: &str) -> Result<Self, UnknownScenario> {
        let text = text.trim();
        let unknown = || UnknownScenario(text.to_owned());
        if let Some((_, plain)) = PLAIN.iter().find(|(name, _)| *name == text) {
            return Ok(plain.clone());
        }
        let (name, argument) = match text.split_once(':') {
            Some((name, argument)) => (name, Some(argument)),
            None => (text, None),
        };
        let number = |default: u64| argument.map_or(Ok(default), |digits| digits.parse::<u64>().map_err(|_| unknown()));
        let count = |default: usize| argument.map_or(Ok(default), |digits| digits.parse().map_err(|_| unknown()));
        Ok(match name {
            "usage_limit" => Self::UsageLimit { resets_in: number(7200)? },
            "rate_limit" => Self::RateLimit { retry_after: number(1)? },
            "cut" => Self::Cut { after: count(2)? },
            "reset_stream" => Self::ResetStream { after: count(2)? },
            "end_early" => Self::EndEarly { after: count(4)? },
            "silence" => Self::Silence { after: count(0)? },
            "incomplete" => Self::Incomplete { reason: argument.unwrap_or("max_output_tokens").to_owned() },
            "parallel" => Self::Parallel { calls: count(2)? },
            "policy" => Self::Policy { code: argument.unwrap_or("cyber_policy").to_owned() },
            "failed" => {
                let argument = argument.ok_or_else(unknown)?;
                let (code, message) = match argument.split_once(':') {
                    Some((code, message)) => (code, Some(message.to_owned())),
                    None => (argument, None),
                };
                Self::Failed { code: code.to_owned(), message }
            }
            "delay" if argument.is_some() => Self::Delay { ms: number(0)? },
            "huge_event" if argument.is_some() => Self::HugeEvent { bytes: count(0)? },
            "long" => long(argument.ok_or_else(unknown)?).ok_or_else(unknown)?,
            "stamped" => stamped(argument.ok_or_else(unknown)?).ok_or_else(unknown)?,
            _ => return Err(unknown()),
        })
    }
}

/// `N[:BYTES[:PACE_MS]]`
fn long(argument: &str) -> Option<Scenario> {
    let mut numbers = argument.split(':');
    let deltas = numbers.next()?.parse().ok()?;
    let bytes = numbers.next().map_or(Some(16), |digits| digits.parse().ok())?;
    let pace_ms = match numbers.next() {
        Some(digits) => Some(digits.parse().ok()?),
        None => None,
    };
    numbers.next().is_none().then_some(Scenario::Long { deltas, bytes, pace_ms })
}

/// `N[:PACE_MS]`
fn stamped(argument: &str) -> Option<Scenario> {
    let (deltas, pace) = argument.split_once(':').map_or((argument, None), |(deltas, pace)| (deltas, Some(pace)));
    let pace_ms = pace.map(str::parse).transpose().ok()?;
    Some(Scenario::Stamped { deltas: deltas.parse().ok()?, pace_ms })
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UsageLimit { resets_in } => write!(f, "usage_limit:{resets_in}"),
            Self::RateLimit { retry_after } => write!(f, "rate_limit:{retry_after}"),
            Self::Cut { after } => write!(f, "cut:{after}"),
            Self::ResetStream { after } => write!(f, "reset_stream:{after}"),
            Self::EndEarly { after } => write!(f, "end_early:{after}"),
            Self::Silence { after } => write!(f, "silence:{after}"),
            Self::Failed { code, message: None } => write!(f, "failed:{code}"),
            Self::Failed { code, message: Some(message) } => write!(f, "failed:{code}:{message}"),
            Self::Incomplete { reason } => write!(f, "incomplete:{reason}"),
            Self::Parallel { calls } => write!(f, "parallel:{calls}"),
            Self::Policy { code } => write!(f, "policy:{code}"),
            Self::HugeEvent { bytes } => write!(f, "huge_event:{bytes}"),
            Self::Long { deltas, bytes, pace_ms: None } => write!(f, "long:{deltas}:{bytes}"),
            Self::Long { deltas, bytes, pace_ms: Some(pace) } => write!(f, "long:{deltas}:{bytes}:{pace}"),
            Self::Stamped { deltas, pace_ms: None } => write!(f, "stamped:{deltas}"),
            Self::Stamped { deltas, pace_ms: Some(pace) } => write!(f, "stamped:{deltas}:{pace}"),
            Self::Delay { ms } => write!(f, "delay:{ms}"),
            plain => {
                let name = PLAIN.iter().find(|(_, scenario)| scenario == plain).map_or("ok", |(name, _)| name);
                f.write_str(name)
            }
        }
    }
}

impl Serialize for Scenario {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Scenario {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_form_parses_and_prints_itself() {
        for (form, _) in FORMS {
            let bare = form.split('[').next().unwrap();
            let text = bare.replace("CODE", "rate_limit_exceeded").replace("BYTES", "9").replace("MS", "5");
            let text = text.replace(":N", ":3").replace(":SECONDS", ":4");
            let scenario: Scenario = text.parse().unwrap_or_else(|error| panic!("{form}: {error}"));
            assert_eq!(scenario.to_string().parse::<Scenario>().unwrap(), scenario, "{form}");
        }
        assert!(PLAIN.iter().all(|(name, _)| FORMS.iter().any(|(form, _)| form == name)));
    }

    #[test]
    fn a_wrong_name_or_argument_is_an_error() {
        for text in ["", "sparkle", "cut:x", "long", "long:1:2:3:4", "stamped:1:2:3", "failed", "ok:1", "delay"] {
            assert!(text.parse::<Scenario>().is_err(), "{text}");
        }
    }
}
