//! From the candidates' reasons to the one reason of the whole.

use domain::{Candidate, CandidateReason, Failure, Reason, listing, service, timestamp_ms};
use proto::auth::v1::Wanted;

use super::Considered;
use super::judge::{Listed, Refusal, Route};
use crate::store::{Kind, LatchKind, RestKind};

/// Why no credential was bound. `considered` holds no eligible one. The failure goes to the caller: what the caller's lists
/// leave out is not named in it.
pub(super) fn overall(route: &Route<'_>, wanted: &Wanted, considered: &[Considered], now_ms: i64) -> Failure {
    let refusals: Vec<&Refusal> = considered.iter().filter_map(|one| one.refusal.as_ref()).collect();
    let candidates = own(considered);
    // Where our own database is at fault, neither waiting for a limit nor looking for the provider helps.
    if let Some(ours) = refusals.iter().find_map(|refusal| refusal.ours.as_deref()) {
        return Failure { candidates, ..ours.clone() };
    }
    let listed = |one: &Refusal| matches!(one.listed, Some(Listed::LeftOut | Listed::Elsewhere));
    if refusals.iter().any(|one| one.is_left_out()) && refusals.iter().all(|one| listed(one)) {
        return outside(route, wanted, considered).candidates(candidates);
    }
    let passing = passing(considered, now_ms);
    let passes = passing.is_some();
    let mut failure = passing.unwrap_or_else(|| Failure::new(latched(&refusals), service::AUTH, ""));
    failure.message = message(route, &failure, &candidates, now_ms);
    let dead = considered.iter().find_map(|one| {
        let refusal = one.refusal.as_ref().filter(|refusal| !refusal.is_left_out())?;
        let needs = if refusal.latch? == LatchKind::Rejected { "a refresh or a login" } else { "a login" };
        Some(format!("credential {} needs {needs}", one.candidate.credential))
    });
    if let Some(dead) = dead.filter(|_| passes) {
        // Waiting is not the only way.
        failure.next_step = format!("{}; {dead}", failure.next_step);
    }
    if matches!(failure.reason, Reason::CredentialNeedsLogin | Reason::CredentialRejected) {
        let step = refusals.iter().find_map(|refusal| refusal.next_step.clone());
        failure.next_step = step.unwrap_or_else(|| next_step(route, &refusals).to_owned());
    }
    if failure.reason == Reason::CredentialNotBound {
        let near: Vec<&Refusal> = refusals.iter().copied().filter(|one| !one.is_left_out()).collect();
        failure.next_step = next_step(route, &near).to_owned();
    }
    failure.candidates(candidates)
}

/// The candidates that the caller may know of.
fn own(considered: &[Considered]) -> Vec<Candidate> {
    let own = considered.iter().filter(|one| one.refusal.as_ref().is_none_or(|refusal| !refusal.is_left_out()));
    own.map(|one| one.candidate.clone()).collect()
}

/// Names the time at which waiting is over: whoever reads this wants to know nothing more.
fn message(route: &Route<'_>, failure: &Failure, candidates: &[Candidate], now_ms: i64) -> String {
    let model = if route.model.is_empty() { "*" } else { route.model };
    let passes = failure.reason != Reason::CredentialNotBound;
    let wait = failure.retry_after_seconds.filter(|_| passes).map(|seconds| now_ms + (seconds * 1000.0) as i64 + 999);
    let before = wait.map(|at| format!(" before {}", timestamp_ms(at))).unwrap_or_default();
    listing(&format!("no usable credential for {}/{model} ({}){before}", route.provider, route.realm), candidates)
}

/// The lists are what stands in the way: neither a login nor a wait would help.
fn outside(route: &Route<'_>, wanted: &Wanted, considered: &[Considered]) -> Failure {
    let agent = &wanted.agent;
    let by_agent =
        |one: &Considered| !wanted.credentials.is_empty() && !wanted.credentials.contains(&one.candidate.credential);
    let mut left_out = considered.iter().filter(|one| one.refusal.as_ref().is_some_and(Refusal::is_left_out));
    let (whose, step) = if left_out.all(by_agent) {
        (format!("the list of agent {agent}"), format!("extend `[agents.{agent}] credentials`"))
    } else {
        let step = "use a key that allows one of this provider: `switchboard keys create NAME --credential LABEL`";
        ("the list of the caller's agent key".to_owned(), step.to_owned())
    };
    let message = format!("{whose} allows no credential of provider {}", route.provider);
    Failure::new(Reason::AgentNotAllowed, service::AUTH, listing(&message, &own(considered))).next_step(step)
}

/// What helps most, by the reason of the candidate that came closest.
fn next_step(route: &Route<'_>, refusals: &[&Refusal]) -> &'static str {
    if !refusals.is_empty() && refusals.iter().all(|refusal| refusal.listed.is_some()) {
        return "the list names what there is not: add a credential with that label (`switchboard login codex --label LABEL`), \
                or change `[agents.<name>] credentials` or the key's list";
    }
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
        // It has failed in this call.
        Some(CandidateReason::NotAllowed) => "see the call's attempts: `switchboard calls list`",
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
