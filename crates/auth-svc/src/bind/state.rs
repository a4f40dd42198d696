//! The state of a credential as an operator sees it, apart from any route: by the same rules as a binding.

use domain::{CandidateReason, timestamp_ms};

use super::judge::{Refusal, Route, Verdict, judge, limit_reached};
use crate::refresh::{Note, expiry_s};
use crate::store::{Credential, RestKind};

/// A credential's state.
pub(crate) struct State {
    /// `ready`, `login_due`, `expired`, `needs_login`, `undecryptable`, `resting` or `unconfirmed`.
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
            let ended = if credential.latch.is_some() { "was rejected by the upstream" } else { "has expired" };
            let expired = || format!("its access token {ended}; refreshed at the next call");
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
        let (model, until) = (rest.model.as_ref()?, timestamp_ms(rest.until_ms));
        Some(match rest.kind {
            RestKind::UsageLimit => {
                format!("{}; it rests for {model} until {until}, other models try it", limit_reached(credential, rest))
            }
            RestKind::RateLimited => format!("too many requests: it rests for {model} until {until}"),
            RestKind::NotEntitled => format!("its account may not use {model}; asked again after {until}"),
        })
    });
    let mut limits: Vec<String> = limits.collect();
    if credential.unconfirmed {
        let until = expiry_s(credential).map(|at| format!(" until {}", timestamp_ms(at.saturating_mul(1000))));
        limits.push(format!(
            "restored and unconfirmed: its access token is used{}, and it is not refreshed before `switchboard \
             credentials confirm {}` or a new login",
            until.unwrap_or_default(),
            credential.label
        ));
    }
    let detail = (!limits.is_empty()).then(|| limits.join("; "));
    let until = in_force().filter(|rest| rest.kind == RestKind::UsageLimit).map(|rest| rest.until_ms).max();
    let name = match (credential.refused(), until) {
        // That a person has to do something comes before what passes by itself.
        (Some(_), _) => "login_due",
        (None, Some(_)) => "resting",
        (None, None) => "ready",
    };
    State { name, detail, rest_until_ms: until }
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
