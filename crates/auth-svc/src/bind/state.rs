//! The state of a credential as an operator sees it, apart from any route: by the same rules as a binding.

use super::judge::{Refusal, Route, Verdict, judge, timestamp};
use crate::refresh::Note;
use crate::store::{Credential, Kind};
use domain::CandidateReason;

/// A credential's state.
pub(crate) struct State {
    /// `ready`, `expired`, `needs_login`, `undecryptable` or `resting`.
    pub(crate) name: &'static str,
    /// Why it is not ready, or what limits it.
    pub(crate) detail: Option<String>,
    /// Unix milliseconds until which all of it rests.
    pub(crate) rest_until_ms: Option<i64>,
}

/// The state of `credential` on the kind of route that it is made for.
pub(crate) fn state(credential: &Credential, note: Option<&Note>, identity: &str, now_ms: i64) -> State {
    let route = Route {
        provider: &credential.provider,
        // No model: what rests for one model only is ready for the others.
        model: "",
        realm: "",
        kind: credential.kind,
        target: "",
        codex: credential.kind == Kind::OAuth,
        identity,
        margin_s: 0,
    };
    match judge(credential, note, &route, now_ms) {
        Verdict::Usable | Verdict::Refresh { alive: true } => ready(credential, now_ms),
        Verdict::Refresh { alive: false } => {
            let detail = "its access token has expired; refreshed at the next call".to_owned();
            State { name: "ready", detail: Some(detail), rest_until_ms: None }
        }
        Verdict::No(refusal) => State {
            name: name(&refusal),
            rest_until_ms: refusal.rest.map(|(_, until_ms)| until_ms),
            detail: Some(refusal.detail),
        },
    }
}

fn ready(credential: &Credential, now_ms: i64) -> State {
    let limits: Vec<String> = credential
        .rests
        .iter()
        .filter(|rest| rest.until_ms > now_ms)
        .filter_map(|rest| {
            Some(format!("{} for {} until {}", rest.kind, rest.model.as_ref()?, timestamp(rest.until_ms)))
        })
        .collect();
    State { name: "ready", detail: (!limits.is_empty()).then(|| limits.join("; ")), rest_until_ms: None }
}

fn name(refusal: &Refusal) -> &'static str {
    match refusal.reason {
        CandidateReason::Undecryptable => "undecryptable",
        CandidateReason::Resting | CandidateReason::NotEntitled => "resting",
        CandidateReason::Expired | CandidateReason::RefreshFailed => "expired",
        // Nothing but a login where it belongs makes these usable.
        CandidateReason::NeedsLogin
        | CandidateReason::WrongIssuer
        | CandidateReason::WrongRealm
        | CandidateReason::NotAllowed
        | CandidateReason::Missing
        | CandidateReason::Unconfirmed => "needs_login",
    }
}
