//! Telling auth-svc what changes a credential's standing: at once, and again until it has heard.

use std::sync::Arc;
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
    let task = deliver(Arc::clone(core), outcome, bound.credential.clone(), tried);
    drop(core.tasks.spawn(task.instrument(detached_span())));
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

async fn deliver(core: Arc<Core>, outcome: ReportOutcomeRequest, credential: String, tried: oneshot::Sender<()>) {
    let mut tried = Some(tried);
    let mut wait = FIRST_WAIT;
    for attempt in 1..=MAX_TRIES {
        let last = core.closing.is_cancelled();
        let result = core.links.report(outcome.clone()).await;
        if let Some(tried) = tried.take() {
            // Nobody waits any more if the call was given up.
            let _ = tried.send(());
        }
        let Err(failure) = result else { return };
        if last || attempt == MAX_TRIES {
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
    }
}
