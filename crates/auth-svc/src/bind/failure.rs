//! From the candidates' reasons to the one reason of the whole.

use domain::{CandidateReason, Failure, Reason, service};

use super::Considered;
use super::judge::{Refusal, Route};
use crate::store::{Kind, LatchKind, RestKind};

/// Why no credential was bound. `considered` holds no eligible one.
pub(super) fn overall(route: &Route<'_>, considered: &[Considered], now_ms: i64) -> Failure {
    let refusals: Vec<&Refusal> = considered.iter().filter_map(|one| one.refusal.as_ref()).collect();
    // Where our own database is at fault, neither waiting for a limit nor looking for the provider helps.
    if let Some(ours) = refusals.iter().find_map(|refusal| refusal.ours.as_deref()) {
        let candidates = considered.iter().map(|one| one.candidate.clone()).collect();
        return Failure { candidates, ..ours.clone() };
    }
    let passing = passing(considered, now_ms);
    let passes = passing.is_some();
    let mut failure = passing.unwrap_or_else(|| Failure::new(latched(&refusals), service::AUTH, ""));
    failure.message = message(route, considered);
    let dead = considered.iter().find(|one| one.refusal.as_ref().is_some_and(|refusal| refusal.latch.is_some()));
    if let Some(dead) = dead.filter(|_| passes) {
        // Waiting is not the only way.
        failure.next_step = format!("{}; credential {} needs a login", failure.next_step, dead.candidate.credential);
    }
    if failure.reason == Reason::CredentialNotBound {
        failure.next_step = next_step(route, &refusals).to_owned();
    }
    failure.candidates = considered.iter().map(|one| one.candidate.clone()).collect();
    failure
}

fn message(route: &Route<'_>, considered: &[Considered]) -> String {
    let each: Vec<String> = considered
        .iter()
        .map(|one| {
            let reason = one.candidate.reason.map_or("", CandidateReason::as_str);
            let detail = shorten(one.candidate.detail.as_deref().unwrap_or_default());
            format!("{}: {reason} ({detail})", one.candidate.credential)
        })
        .collect();
    let model = if route.model.is_empty() { "*" } else { route.model };
    format!("no usable credential for {}/{model} ({}): {}", route.provider, route.realm, each.join("; "))
}

/// What helps most, by the reason of the candidate that came closest.
fn next_step(route: &Route<'_>, refusals: &[&Refusal]) -> &'static str {
    let closest = refusals.iter().map(|refusal| refusal.reason).find(|reason| !beside_the_point(*reason));
    match closest.or_else(|| refusals.first().map(|refusal| refusal.reason)) {
        Some(CandidateReason::Undecryptable) => {
            "import again with the right seed (--secret-key-file), or log in: `switchboard login codex`"
        }
        Some(CandidateReason::Expired) => "import its current tokens again, or log in: `switchboard login codex`",
        Some(CandidateReason::NeedsLogin) if route.kind == Kind::ApiKey => {
            "hand a new key over: `switchboard login api-key`"
        }
        Some(CandidateReason::NeedsLogin) => "log in again: `switchboard login codex`",
        Some(CandidateReason::WrongRealm) if route.kind == Kind::ApiKey => {
            "hand an API key over (`switchboard login api-key`); another realm is used only where `fallbacks` names it"
        }
        Some(CandidateReason::WrongRealm) => {
            "log in (`switchboard login codex`) or import a credential of this realm; another realm is used only where \
             `fallbacks` names it"
        }
        Some(CandidateReason::WrongIssuer) => {
            "log in at the identity provider of `[auth] identity_url`, or correct that URL"
        }
        Some(CandidateReason::NotAllowed) => "extend `[agents.<name>] credentials` or the key's credentials",
        Some(CandidateReason::NotEntitled) => "use a model that the plan includes, or another account",
        Some(CandidateReason::Unconfirmed) => {
            "`switchboard credentials confirm LABEL` if nothing else has used the login since its backup, else \
             `switchboard login codex`"
        }
        Some(CandidateReason::Missing) | None if route.kind == Kind::ApiKey => {
            "hand an API key over: `switchboard login api-key`"
        }
        Some(CandidateReason::Missing) | None => {
            "`switchboard login codex`, `switchboard import codex` or `switchboard import openclaw`"
        }
        Some(CandidateReason::RefreshFailed | CandidateReason::Resting) => {
            "wait; `switchboard models status` shows until when"
        }
    }
}

/// Many clients show nothing but the message, so it says why; the candidates have the whole text.
fn shorten(detail: &str) -> String {
    const MOST: usize = 160;
    if detail.chars().count() <= MOST {
        return detail.to_owned();
    }
    detail.chars().take(MOST).chain(['…']).collect()
}

/// What passes by itself: a limit that ends, or a refresh that is tried again. The caller waits for the first of them;
/// what could be used only after somebody has done something does not change that.
fn passing(considered: &[Considered], now_ms: i64) -> Option<Failure> {
    let resting = considered.iter().filter_map(|one| Some((one.refusal.as_ref()?.rest?, one.plan.as_ref())));
    let resting = resting.min_by_key(|((_, until_ms), _)| *until_ms);
    let failed = considered.iter().filter_map(|one| one.refusal.as_ref());
    let failed = failed.filter(|refusal| refusal.reason == CandidateReason::RefreshFailed);
    let failed = failed.map(|refusal| refusal.retry_at_ms).min_by_key(|at| at.unwrap_or(i64::MAX));
    match (resting, failed) {
        // A client that is told of a limit may stay away for days: it is told only if nothing else comes back before.
        (Some(((kind, until_ms), plan)), failed) if failed.flatten().is_none_or(|at| at >= until_ms) => {
            Some(limited(kind, until_ms, plan, now_ms))
        }
        (_, Some(retry_at_ms)) => {
            let mut failure = Failure::new(Reason::IdentityUnavailable, service::AUTH, "");
            if let Some(at) = retry_at_ms {
                failure.retry_after_seconds = Some(seconds_until(at, now_ms));
            }
            Some(failure)
        }
        (_, None) => None,
    }
}

fn limited(kind: RestKind, until_ms: i64, plan: Option<&String>, now_ms: i64) -> Failure {
    let reason = if kind == RestKind::UsageLimit { Reason::UsageLimit } else { Reason::RateLimited };
    let mut failure = Failure::new(reason, service::AUTH, "").retry_after(seconds_until(until_ms, now_ms));
    if kind == RestKind::UsageLimit {
        // Rounded up: a client that comes back at this very second must not come too early.
        failure.resets_at = Some((until_ms + 999).div_euclid(1000));
        failure.plan_type = plan.cloned();
    }
    failure
}

/// Whether new logins are the only thing that is missing.
fn latched(refusals: &[&Refusal]) -> Reason {
    let mut relevant = refusals.iter().filter(|refusal| !beside_the_point(refusal.reason)).peekable();
    if relevant.peek().is_none() {
        return Reason::CredentialNotBound;
    }
    let latches: Option<Vec<LatchKind>> = relevant.map(|refusal| refusal.latch).collect();
    match latches {
        None => Reason::CredentialNotBound,
        Some(latches) if latches.iter().all(|latch| *latch == LatchKind::Rejected) => Reason::CredentialRejected,
        Some(_) => Reason::CredentialNeedsLogin,
    }
}

/// Reasons of candidates that this route would not use in any state.
fn beside_the_point(reason: CandidateReason) -> bool {
    match reason {
        CandidateReason::WrongRealm | CandidateReason::NotAllowed | CandidateReason::Missing => true,
        CandidateReason::Undecryptable
        | CandidateReason::Expired
        | CandidateReason::NeedsLogin
        | CandidateReason::RefreshFailed
        | CandidateReason::Resting
        | CandidateReason::WrongIssuer
        | CandidateReason::NotEntitled
        | CandidateReason::Unconfirmed => false,
    }
}

fn seconds_until(unix_ms: i64, now_ms: i64) -> f64 {
    (unix_ms - now_ms).max(0) as f64 / 1000.0
}
