//! Which egress makes an attempt: one that the rules of route and credential allow, and whose circuit lets it through.
//!
//! An egress is a transport-svc. What one sees of a target says nothing of what another one sees, so health is kept for
//! each pair, from what came of real calls.

mod circuit;
mod health;
mod rule;

use std::sync::Arc;

use domain::{Candidate, CandidateReason, Failure, Reason, service};
use proto::auth::v1::Bound;
use proto::router::v1::Route;

pub(crate) use circuit::Settings;
pub(crate) use health::{Health, Pass, Verdict};
pub(crate) use rule::Known;

use rule::Rules;

/// What an egress is wanted for.
#[derive(Clone, Copy)]
pub(crate) struct Wish<'a> {
    /// The route of the attempt.
    pub(crate) route: &'a Route,
    /// The credential of the attempt.
    pub(crate) bound: &'a Bound,
    /// Calls of one session leave by the same egress while it is well; empty for a call without one.
    pub(crate) session: &'a str,
    /// Egresses that this call has tried in vain.
    pub(crate) excluded: &'a [String],
}

/// An egress that is not tried, by its name, and why.
pub(crate) type Skipped = (String, Failure);

/// An egress for one attempt.
pub(crate) struct Chosen {
    /// Its place among the known ones.
    pub(crate) index: usize,
    /// To be settled with what came of the attempt.
    pub(crate) pass: Pass,
    /// Better ones that are not tried for now.
    pub(crate) skipped: Vec<Skipped>,
}

/// No egress for an attempt.
pub(crate) struct Refused {
    /// Why.
    pub(crate) failure: Failure,
    /// Those that are allowed and not tried for now.
    pub(crate) skipped: Vec<Skipped>,
    /// True if the rules allow none; another credential may have another rule.
    pub(crate) by_rule: bool,
}

/// The best egress that is allowed and may be tried; a circuit that is due for a test lets exactly one call through.
pub(crate) fn choose(health: &Arc<Health>, known: &[Known], wish: Wish<'_>) -> Result<Chosen, Box<Refused>> {
    let mut skipped = Vec::new();
    for (index, egress) in candidates(known, wish)? {
        match health.enter(&egress.name, &wish.route.target) {
            Ok(pass) => return Ok(Chosen { index, pass, skipped }),
            Err(failure) => skipped.push((egress.name.clone(), failure)),
        }
    }
    Err(shut(skipped))
}

/// What [`choose`] would say, without letting anything through: for a status, and for the question what is left to try.
pub(crate) fn would_choose(health: &Health, known: &[Known], wish: Wish<'_>) -> Result<usize, Box<Refused>> {
    let mut skipped = Vec::new();
    for (index, egress) in candidates(known, wish)? {
        match health.would_enter(&egress.name, &wish.route.target) {
            Ok(()) => return Ok(index),
            Err(failure) => skipped.push((egress.name.clone(), failure)),
        }
    }
    Err(shut(skipped))
}

/// The best egress that the rules allow, whatever its circuit: for who asks in order to see.
pub(crate) fn best_allowed(known: &[Known], wish: Wish<'_>) -> Result<usize, Failure> {
    let all = candidates(known, wish).map_err(|refused| refused.failure)?;
    all.first().map(|(index, _)| *index).ok_or_else(|| shut(Vec::new()).failure)
}

/// Whether the rules of route and credential allow any egress.
pub(crate) fn is_allowed(known: &[Known], wish: Wish<'_>) -> Result<(), Failure> {
    candidates(known, wish).map(drop).map_err(|refused| refused.failure)
}

/// Egresses that are allowed and not excluded, the best first.
fn candidates<'a>(known: &'a [Known], wish: Wish<'_>) -> Result<Vec<(usize, &'a Known)>, Box<Refused>> {
    let rules = Rules { route: wish.route.egress.as_ref(), credential: wish.bound.egress.as_ref() };
    let order = rule::order(known, rules, wish.session);
    if order.is_empty() {
        return Err(Box::new(Refused { failure: forbidden(known, wish), skipped: Vec::new(), by_rule: true }));
    }
    let all = order.into_iter().filter_map(|index| known.get(index).map(|egress| (index, egress)));
    Ok(all.filter(|(_, egress)| !wish.excluded.contains(&egress.name)).collect())
}

/// Every allowed egress has been tried, or is not tried for now: the failure is that of the best one.
fn shut(skipped: Vec<Skipped>) -> Box<Refused> {
    let tried = || Failure::new(Reason::EgressUnreachable, service::GATEWAY, "no further egress is allowed");
    let failure = skipped.first().map_or_else(tried, |(_, failure)| failure.clone());
    Box::new(Refused { failure, skipped, by_rule: false })
}

/// No egress satisfies the rules. It takes a person to change that, and a retry is useless: a candidate for the route
/// that cannot be used.
fn forbidden(known: &[Known], wish: Wish<'_>) -> Failure {
    let said = |whose: &str, rule: Option<&proto::common::v1::EgressRule>| {
        let words = rule.map(|rule| rule.require.join(" or ")).filter(|words| !words.is_empty())?;
        Some(format!("{whose} requires {words}"))
    };
    let route = said(&format!("route {}", wish.route.model), wish.route.egress.as_ref());
    let credential = said(&format!("credential {}", wish.bound.credential), wish.bound.egress.as_ref());
    let rules: Vec<String> = route.into_iter().chain(credential).collect();
    let there: Vec<String> = known.iter().map(Known::told).collect();
    let both = if rules.len() > 1 { ", and none satisfies both" } else { "" };
    let detail = format!("no egress may make this call: {}{both}; there are {}", rules.join(", "), there.join(", "));
    let candidate = Candidate {
        credential: wish.bound.credential.clone(),
        eligible: false,
        reason: Some(CandidateReason::NotAllowed),
        detail: Some(detail.clone()),
    };
    Failure::new(Reason::CredentialNotBound, service::GATEWAY, detail)
        .next_step(format!(
            "label an egress accordingly (`[gateway.transports.NAME] labels`), or change the rule: that of the route is in \
             `[providers.*] egress` and `[agents.*] egress`, that of the credential `switchboard credentials egress {}`",
            wish.bound.credential
        ))
        .candidates(vec![candidate])
}
