//! Usage requests that are due: a limit that may have ended early, or a quota that nobody has seen for long. auth-svc
//! says which and when; here they are made, by the egress that calls leave by, and reported at once.

use std::sync::Arc;
use std::time::Duration;

use domain::{Failure, Reason, service};
use futures_util::{StreamExt, stream};
use proto::auth::v1::{Bound, CredentialUsage, ReportUsageRequest, UsageProbe};
use proto::router::v1::Route;
use proto::transport::v1::{FetchUsageRequest, FetchUsageResponse, Outcome};
use service_kit::failure_to_proto;
use tracing::Instrument;

use crate::bound::no_egress;
use crate::core::Core;
use crate::egress::{Pass, Wish, best_allowed, would_choose};
use crate::links::Egress;
use crate::pipeline::judged;
use crate::usage::OLD_PEER_PAUSE;
use crate::workspaces::ask_again;

/// Soonest time to ask again, whatever auth-svc says.
const SOONEST: Duration = Duration::from_secs(1);
/// Latest time to ask again.
const LATEST: Duration = Duration::from_secs(60);
/// Requests made at once.
const AT_ONCE: usize = 4;
/// Most requests taken from one answer: their seals live a minute.
const MAX_PROBES: usize = 32;
/// Failures in a row after which it is said that auth-svc is away: one may be its start.
const AWAY_AFTER: u32 = 3;
/// Waits between tries to report; then auth-svc gives the request to somebody again.
const REPORT_WAITS: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(9)];

/// Runs until the gateway closes. What is under way then is given up: auth-svc hands it out again.
pub(super) async fn run(core: Arc<Core>) {
    tokio::select! {
        () = ask_for_ever(&core) => {}
        () = core.closing.cancelled() => {}
    }
}

async fn ask_for_ever(core: &Core) {
    let (mut pause, mut failures, mut old) = (SOONEST, 0u32, false);
    loop {
        tokio::time::sleep(pause).await;
        match core.links.claim_probes().await {
            Ok(Some(due)) => {
                if failures >= AWAY_AFTER {
                    tracing::info!("auth-svc answers again: usage requests go on");
                }
                failures = 0;
                pause = until_next(due.next_in_seconds);
                let workspaces = due.workspaces;
                let due = due.probes.into_iter().take(MAX_PROBES);
                stream::iter(due).for_each_concurrent(AT_ONCE, |probe| make(core, probe)).await;
                let due = workspaces.into_iter().take(MAX_PROBES);
                stream::iter(due).for_each_concurrent(AT_ONCE, |question| ask_again(core, question)).await;
            }
            Ok(None) => {
                if !std::mem::replace(&mut old, true) {
                    tracing::info!(
                        "this auth-svc asks for no usage requests, it is of an earlier version: none are made"
                    );
                }
                pause = OLD_PEER_PAUSE;
            }
            Err(failure) => {
                failures = failures.saturating_add(1);
                pause = (pause * 2).clamp(SOONEST, LATEST);
                if failures == AWAY_AFTER {
                    tracing::warn!(reason = %failure.reason, "auth-svc cannot be asked for usage requests: {}",
                        failure.message);
                }
            }
        }
    }
}

/// auth-svc's word, within bounds.
fn until_next(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(LATEST).clamp(SOONEST, LATEST)
}

/// Makes one request and reports it, in a trace of its own. It is no call and leaves no record.
async fn make(core: &Core, probe: UsageProbe) {
    let span = tracing::info_span!(target: "hop", parent: None, "usage", otel.name = "usage",
        switchboard.service = service::GATEWAY, switchboard.call_id = probe.call_id.as_str(),
        switchboard.credential = probe.credential.as_str(), switchboard.target = probe.target.as_str(),
        otel.status_code = tracing::field::Empty, switchboard.reason = tracing::field::Empty);
    made(core, probe).instrument(span).await;
}

async fn made(core: &Core, probe: UsageProbe) {
    let fetched = fetch(core, &probe).await;
    let UsageProbe { credential_id, credential, .. } = probe;
    let usage = seen(credential_id, fetched, core.clock.now_s());
    if let Some(failure) = &usage.failure {
        let span = tracing::Span::current();
        span.record("otel.status_code", "ERROR");
        span.record("switchboard.reason", failure.reason.as_str());
        // transport-svc has said why, with everything that is known of it.
        tracing::debug!(credential, reason = failure.reason, "a usage request brought nothing");
    }
    report(core, usage, &credential).await;
}

async fn fetch(core: &Core, probe: &UsageProbe) -> Result<FetchUsageResponse, Failure> {
    let leave = leave_by(core, probe)?;
    let UsageProbe { target, call_id, sealed, .. } = probe.clone();
    let answer = leave.egress.fetch_usage(FetchUsageRequest { call_id, target, credential: sealed }).await.result;
    leave.settle(answer.as_ref().map(|answer| answer.outcome.as_ref()));
    answer
}

/// The egress of a request to an account's endpoints, which tells of its health as a call does.
pub(crate) struct Leave<'a> {
    /// It.
    pub(crate) egress: &'a Egress,
    pass: Pass,
}

impl Leave<'_> {
    /// What came of the request.
    pub(crate) fn settle(self, answer: Result<Option<&Outcome>, &Failure>) {
        let (verdict, failure) = judged(answer);
        self.pass.settle(verdict, failure.as_ref());
    }
}

/// The egress that a call of this credential to the target would leave by now; where none is tried for now, the best that
/// the rules allow.
pub(crate) fn leave_by<'a>(core: &'a Core, probe: &UsageProbe) -> Result<Leave<'a>, Failure> {
    let (target, egress) = (probe.target.clone(), probe.provider_egress.clone());
    let route = Route { model: target.clone(), target, egress, ..Route::default() };
    let (credential, egress) = (probe.credential.clone(), probe.egress.clone());
    let bound = Bound { credential, egress, ..Bound::default() };
    let wish = Wish { route: &route, bound: &bound, session: "", excluded: &[] };
    let known = core.links.known();
    let index = would_choose(&core.health, known, wish).or_else(|_| best_allowed(known, wish))?;
    let egress = core.links.egress(index).ok_or_else(no_egress)?;
    Ok(Leave { egress, pass: core.health.look(&egress.name, &route.target) })
}

/// What a request brought, for auth-svc.
fn seen(credential_id: String, fetched: Result<FetchUsageResponse, Failure>, now_s: i64) -> CredentialUsage {
    let nothing =
        CredentialUsage { credential_id, observed_at: now_s as f64, probe: true, ..CredentialUsage::default() };
    match fetched {
        Ok(FetchUsageResponse { outcome: Some(outcome), windows, plan, allowed }) => match outcome.failure {
            None => CredentialUsage { windows, plan, allowed, ..nothing },
            // What the headers of a refusal say of the quota is worth as much as ever.
            failure => CredentialUsage { windows: outcome.quota, failure, ..nothing },
        },
        Ok(_) => {
            let failure = Failure::new(Reason::Internal, service::TRANSPORT, "transport-svc gave no outcome");
            CredentialUsage { failure: Some(failure_to_proto(&failure)), ..nothing }
        }
        Err(failure) => CredentialUsage { failure: Some(failure_to_proto(&failure)), ..nothing },
    }
}

async fn report(core: &Core, usage: CredentialUsage, credential: &str) {
    let batch_id = uuid::Uuid::new_v4().to_string();
    let request = ReportUsageRequest { batch_id, credentials: vec![usage], keys: Vec::new() };
    let mut waits = REPORT_WAITS.iter();
    loop {
        let Err(failure) = core.links.report_usage(request.clone()).await else { return };
        let Some(wait) = waits.next() else {
            tracing::warn!(credential, reason = %failure.reason, "auth-svc did not hear what a usage request brought: {}",
                failure.message);
            return;
        };
        tokio::time::sleep(*wait).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_time_stays_within_bounds() {
        for (seconds, expected) in
            [(0.0, 1), (-5.0, 60), (f64::NAN, 60), (f64::INFINITY, 60), (7.0, 7), (3600.0, 60), (0.2, 1)]
        {
            assert_eq!(until_next(seconds), Duration::from_secs(expected), "{seconds}");
        }
    }

    #[test]
    fn a_request_that_brought_nothing_says_why() {
        let failure = Failure::new(Reason::EdgeChallenge, service::UPSTREAM, "a challenge");
        let outcome = Outcome { failure: Some(failure_to_proto(&failure)), ..Outcome::default() };
        let refused = FetchUsageResponse { outcome: Some(outcome), ..FetchUsageResponse::default() };
        for (fetched, reason) in [
            (Ok(refused), "EDGE_CHALLENGE"),
            (Ok(FetchUsageResponse::default()), "INTERNAL"),
            (Err(Failure::new(Reason::PeerUnavailable, service::GATEWAY, "away")), "PEER_UNAVAILABLE"),
        ] {
            let usage = seen("c1".into(), fetched, 7);
            assert_eq!(usage.failure.map(|f| f.reason).as_deref(), Some(reason));
            assert!(usage.probe && usage.allowed.is_none() && usage.observed_at == 7.0);
        }
    }
}
