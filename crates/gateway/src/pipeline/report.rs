//! Telling auth-svc what changes a credential's standing: at once, and again until it has heard. However many calls fail
//! while it does not hear, each credential, version, reason and model has one task at a time that tells the newest of it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::{Failure, Reason};
use http::HeaderMap;
use proto::auth::v1::{Bound, ReportOutcomeRequest};
use proto::common::v1::QuotaWindow;
use tokio::sync::oneshot;
use tracing::{Instrument, Span};

use crate::core::Core;

/// Wait before the second try; doubles with each.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Longest wait between tries.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Tries before a report is given up: about five minutes.
const MAX_TRIES: u32 = 64;
/// Most reports that wait for auth-svc. There are as many credentials as operators have added, but model names are callers'.
const MOST_WAITING: usize = 10_000;

/// What a report is about: credential, version, reason, model.
type About = (String, i32, String, String);

/// The reports that are under way, each with a newer one of the same that came meanwhile.
#[derive(Default)]
pub(crate) struct Reports(Mutex<HashMap<About, Option<ReportOutcomeRequest>>>);

/// What becomes of a report.
#[derive(Debug, PartialEq)]
enum Entered {
    /// Whoever entered it delivers it.
    Deliver,
    /// Whoever delivers the one before it delivers it, too.
    Joined,
    /// There is no room for it.
    Lost,
}

impl Reports {
    fn lock(&self) -> MutexGuard<'_, HashMap<About, Option<ReportOutcomeRequest>>> {
        // A panic elsewhere cannot leave the map half changed in a way that matters.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, outcome: &ReportOutcomeRequest) -> Entered {
        let mut waiting = self.lock();
        let full = waiting.len() >= MOST_WAITING;
        match waiting.entry(about(outcome)) {
            Entry::Occupied(mut newer) => {
                newer.insert(Some(outcome.clone()));
                Entered::Joined
            }
            Entry::Vacant(_) if full => Entered::Lost,
            Entry::Vacant(free) => {
                free.insert(None);
                Entered::Deliver
            }
        }
    }

    /// The newest of the same, if it says anything else than `outcome`.
    fn newer(&self, outcome: &ReportOutcomeRequest) -> Option<ReportOutcomeRequest> {
        self.lock().get_mut(&about(outcome))?.take().filter(|newer| newer != outcome)
    }

    /// `outcome` was heard. What has come meanwhile is to be told next; without it this one is over.
    fn heard(&self, outcome: &ReportOutcomeRequest) -> Option<ReportOutcomeRequest> {
        let mut waiting = self.lock();
        let about = about(outcome);
        let newer = waiting.get_mut(&about)?.take().filter(|newer| newer != outcome);
        if newer.is_none() {
            waiting.remove(&about);
        }
        newer
    }

    fn give_up(&self, outcome: &ReportOutcomeRequest) {
        self.lock().remove(&about(outcome));
    }
}

fn about(outcome: &ReportOutcomeRequest) -> About {
    let ReportOutcomeRequest { credential_id, version, reason, upstream_model, .. } = outcome.clone();
    (credential_id, version, reason, upstream_model)
}

/// True for failures that auth-svc must hear of. A challenge or block at the edge is none of them: it says nothing
/// about the credential.
pub(crate) fn changes_standing(reason: Reason) -> bool {
    matches!(reason, Reason::UsageLimit | Reason::RateLimited | Reason::NotEntitled | Reason::CredentialRejected)
}

/// Reports in a task that outlives the call. `exhausted` is the window that a USAGE_LIMIT is about, where the upstream
/// has said. The receiver hears when the first try is over.
pub(crate) fn report(
    core: &Arc<Core>,
    bound: &Bound,
    upstream_model: &str,
    failure: &Failure,
    exhausted: Option<QuotaWindow>,
) -> oneshot::Receiver<()> {
    let (limit, window_seconds) = exhausted.map_or((None, None), |w| (Some(w.limit), Some(w.window_seconds)));
    let outcome = ReportOutcomeRequest {
        credential_id: bound.credential_id.clone(),
        version: bound.version,
        reason: failure.reason.as_str().to_owned(),
        upstream_model: upstream_model.to_owned(),
        resets_at: failure.resets_at.map(|s| s as f64),
        retry_after_seconds: failure.retry_after_seconds,
        limit,
        // 0 is a window whose length the upstream did not say.
        window_seconds: window_seconds.filter(|seconds| *seconds > 0),
    };
    let (tried, first_try) = oneshot::channel();
    match core.reports.enter(&outcome) {
        Entered::Deliver => {
            let task = deliver(Arc::clone(core), outcome, bound.credential.clone(), tried);
            drop(core.tasks.spawn(task.instrument(detached_span())));
        }
        // Whoever waits is let go: auth-svc hears of this credential as soon as it can.
        Entered::Joined => {}
        Entered::Lost => tracing::error!(
            credential = bound.credential,
            reason = outcome.reason,
            "auth-svc will not hear what came of a credential: {MOST_WAITING} reports wait for it already"
        ),
    }
    first_try
}

/// A span in the call's trace that does not keep the call's own span open: the call is over before the report may be.
fn detached_span() -> Span {
    let mut context = HeaderMap::new();
    telemetry::inject(&Span::current(), &mut context);
    let span = tracing::info_span!(target: "hop", parent: None, "report", otel.name = "report_outcome");
    telemetry::set_parent(&span, &context);
    span
}

async fn deliver(core: Arc<Core>, mut outcome: ReportOutcomeRequest, credential: String, tried: oneshot::Sender<()>) {
    let mut tried = Some(tried);
    let (mut wait, mut attempt) = (FIRST_WAIT, 0);
    loop {
        attempt += 1;
        let last = core.closing.is_cancelled();
        let result = core.links.report(outcome.clone()).await;
        if let Some(tried) = tried.take() {
            // Nobody waits any more if the call was given up.
            let _ = tried.send(());
        }
        let Err(failure) = result else {
            let Some(newer) = core.reports.heard(&outcome) else { return };
            (outcome, wait, attempt) = (newer, FIRST_WAIT, 0);
            continue;
        };
        if last || attempt == MAX_TRIES {
            core.reports.give_up(&outcome);
            tracing::error!(credential, reason = outcome.reason, %failure, attempt,
                "auth-svc did not hear what came of a credential");
            return;
        }
        tracing::warn!(credential, reason = outcome.reason, %failure, attempt,
            "auth-svc could not be told what came of a credential; trying again");
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = core.closing.cancelled() => {}
        }
        wait = (wait * 2).min(LONGEST_WAIT);
        outcome = core.reports.newer(&outcome).unwrap_or(outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(model: &str, resets_at: f64) -> ReportOutcomeRequest {
        let (credential_id, reason) = ("c".to_owned(), "USAGE_LIMIT".to_owned());
        let (upstream_model, resets_at) = (model.to_owned(), Some(resets_at));
        ReportOutcomeRequest { credential_id, reason, upstream_model, resets_at, ..Default::default() }
    }

    #[test]
    fn what_is_told_of_the_same_is_told_once_and_the_newest_of_it() {
        let reports = Reports::default();
        let first = outcome("m", 1.0);
        assert_eq!(reports.enter(&first), Entered::Deliver);
        assert_eq!(reports.enter(&outcome("n", 1.0)), Entered::Deliver, "another model is another matter");
        assert_eq!((reports.enter(&first), reports.newer(&first)), (Entered::Joined, None), "no news");
        assert_eq!(reports.enter(&outcome("m", 2.0)), Entered::Joined);
        assert_eq!(reports.enter(&outcome("m", 3.0)), Entered::Joined);
        let newest = reports.newer(&first).expect("news");
        assert_eq!((newest.resets_at, reports.newer(&newest)), (Some(3.0), None));
        assert_eq!(reports.enter(&outcome("m", 4.0)), Entered::Joined);
        let newest = reports.heard(&newest).expect("news");
        assert_eq!((newest.resets_at, reports.heard(&newest)), (Some(4.0), None));
        assert_eq!(reports.enter(&first), Entered::Deliver, "it was over");
        reports.give_up(&first);
        assert_eq!(reports.lock().len(), 1);
    }

    #[test]
    fn reports_that_wait_are_bounded() {
        let reports = Reports::default();
        for n in 0..MOST_WAITING {
            assert_eq!(reports.enter(&outcome(&n.to_string(), 1.0)), Entered::Deliver);
        }
        assert_eq!(reports.enter(&outcome("one more", 1.0)), Entered::Lost);
        assert_eq!(reports.enter(&outcome("0", 2.0)), Entered::Joined);
    }
}
