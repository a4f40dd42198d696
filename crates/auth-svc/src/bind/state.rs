//! The state of a credential as an operator sees it, apart from any route: by the same rules as a binding.

use super::judge::{Refusal, Route, Verdict, expiry_s, judge, limit_reached, timestamp};
use crate::refresh::Note;
use crate::store::{Credential, RestKind};
use domain::CandidateReason;

/// A credential's state.
pub(crate) struct State {
    /// `ready`, `expired`, `needs_login`, `undecryptable`, `resting` or `unconfirmed`.
    pub(crate) name: &'static str,
    /// Why it is not ready, or what limits it.
    pub(crate) detail: Option<String>,
    /// Unix milliseconds until which all of it rests.
    pub(crate) rest_until_ms: Option<i64>,
}

/// The state of `credential` on the kind of route that it is made for.
pub(crate) fn state(credential: &Credential, note: Option<&Note>, identity: &str, now_ms: i64) -> State {
    let route = Route::of(credential, identity);
    match judge(credential, note, &route, now_ms) {
        Verdict::Usable | Verdict::Refresh { alive: true } => ready(credential, now_ms),
        Verdict::Refresh { alive: false } => {
            let expired = || "its access token has expired; refreshed at the next call".to_owned();
            let state = ready(credential, now_ms);
            State { detail: state.detail.or_else(|| Some(expired())), ..state }
        }
        Verdict::No(refusal) => State {
            name: name(&refusal),
            rest_until_ms: refusal.rest.map(|(_, until_ms)| until_ms),
            detail: Some(refusal.detail),
        },
    }
}

/// One that can be used but for what rests for single models. A usage limit of any of them makes it `resting`: an
/// operator who sees calls fail must find it here.
fn ready(credential: &Credential, now_ms: i64) -> State {
    let in_force = || credential.rests.iter().filter(|rest| rest.until_ms > now_ms);
    let limits = in_force().filter_map(|rest| {
        let (model, until) = (rest.model.as_ref()?, timestamp(rest.until_ms));
        Some(match rest.kind {
            RestKind::UsageLimit => {
                format!("{}; it rests for {model} until {until}, other models try it", limit_reached(credential, rest))
            }
            RestKind::RateLimited | RestKind::NotEntitled => format!("{} for {model} until {until}", rest.kind),
        })
    });
    let mut limits: Vec<String> = limits.collect();
    if credential.unconfirmed {
        let until = expiry_s(credential).map(|at| format!(" until {}", timestamp(at.saturating_mul(1000))));
        limits.push(format!(
            "restored and unconfirmed: its access token is used{}, and it is not refreshed before `switchboard \
             credentials confirm {}` or a new login",
            until.unwrap_or_default(),
            credential.label
        ));
    }
    let detail = (!limits.is_empty()).then(|| limits.join("; "));
    let until = in_force().filter(|rest| rest.kind == RestKind::UsageLimit).map(|rest| rest.until_ms).max();
    State { name: if until.is_some() { "resting" } else { "ready" }, detail, rest_until_ms: until }
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
        | CandidateReason::Missing => "needs_login",
        CandidateReason::Unconfirmed => "unconfirmed",
    }
}
