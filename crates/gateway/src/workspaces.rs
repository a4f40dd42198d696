//! Where requests of an account must go: asked by the egress that its calls leave by, and told to auth-svc, which seals
//! credentials accordingly from then on.
//!
//! The first call of an account waits for the answer, for a moment. Calls of the same credential wait together, and none
//! fails for it: without an answer they go where the target says.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::{Failure, Reason, service};
use http::HeaderMap;
use proto::auth::v1::{ReportWorkspaceRequest, UsageProbe};
use proto::transport::v1::{DiscoverWorkspaceRequest, DiscoverWorkspaceResponse};
use service_kit::failure_to_proto;
use tokio::sync::watch;
use tracing::Instrument;

use crate::budget::Budget;
use crate::core::Core;
use crate::usage::leave_by;

/// How long a call waits for the answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Waits between tries to tell auth-svc; then the next call asks again.
const REPORT_WAITS: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];

/// The questions that are being asked, by credential id.
#[derive(Default)]
pub(crate) struct Workspaces(Mutex<HashMap<String, watch::Receiver<()>>>);

/// Takes a question off the list when its task ends, and lets go who waits for it.
struct Asking {
    core: Arc<Core>,
    id: String,
    _ended: watch::Sender<()>,
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.core.workspaces.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

/// Asks the question, or waits for whoever does. True if it was asked in time: binding again is worth it.
pub(crate) async fn discover(core: &Arc<Core>, question: UsageProbe, budget: Budget) -> bool {
    let mut ended = {
        let mut asked = core.workspaces.0.lock().unwrap_or_else(PoisonError::into_inner);
        match asked.get(&question.credential_id) {
            Some(ended) => ended.clone(),
            None => {
                let (end, ended) = watch::channel(());
                asked.insert(question.credential_id.clone(), ended.clone());
                let asking = Asking { core: Arc::clone(core), id: question.credential_id.clone(), _ended: end };
                // It outlives the call that needs it: the next one is glad of it.
                let span = span(&question);
                let mut context = HeaderMap::new();
                telemetry::inject(&tracing::Span::current(), &mut context);
                // In the call's trace, without keeping the call's own span open.
                telemetry::set_parent(&span, &context);
                drop(core.tasks.spawn(async move { ask(&asking.core, question).await }.instrument(span)));
                ended
            }
        }
    };
    let gone = async { while ended.changed().await.is_ok() {} };
    tokio::time::timeout(budget.limit(PATIENCE).time, gone).await.is_ok()
}

/// Asks a question that is due again, in a trace of its own.
pub(crate) async fn ask_again(core: &Core, question: UsageProbe) {
    let span = span(&question);
    ask(core, question).instrument(span).await;
}

fn span(question: &UsageProbe) -> tracing::Span {
    tracing::info_span!(target: "hop", parent: None, "workspace", otel.name = "workspace",
        switchboard.service = service::GATEWAY, switchboard.call_id = question.call_id.as_str(),
        switchboard.credential = question.credential.as_str(), switchboard.target = question.target.as_str())
}

async fn ask(core: &Core, question: UsageProbe) {
    let found = tokio::select! {
        found = fetch(core, &question) => found,
        () = core.closing.cancelled() => return,
    };
    let report = report(question.credential_id, found);
    let mut waits = REPORT_WAITS.iter();
    while let Err(failure) = core.links.report_workspace(report.clone()).await {
        let Some(wait) = waits.next() else {
            tracing::warn!(credential = question.credential, reason = %failure.reason,
                "auth-svc did not hear where requests of an account must go: {}", failure.message);
            return;
        };
        tokio::time::sleep(*wait).await;
    }
}

async fn fetch(core: &Core, question: &UsageProbe) -> Result<DiscoverWorkspaceResponse, Failure> {
    let leave = leave_by(core, question)?;
    let UsageProbe { target, call_id, sealed, .. } = question.clone();
    let request = DiscoverWorkspaceRequest { call_id, target, credential: sealed };
    let answer = leave.egress.discover_workspace(request).await;
    leave.settle(answer.as_ref().map(|answer| answer.outcome.as_ref()));
    answer
}

fn report(credential_id: String, found: Result<DiscoverWorkspaceResponse, Failure>) -> ReportWorkspaceRequest {
    let failed = |failure| ReportWorkspaceRequest { failure: Some(failure), ..ReportWorkspaceRequest::default() };
    let report = match found {
        Ok(DiscoverWorkspaceResponse { outcome: Some(outcome), workspace }) => match (outcome.failure, workspace) {
            (None, Some(workspace)) => ReportWorkspaceRequest { workspace: Some(workspace), ..Default::default() },
            (Some(failure), _) => failed(failure),
            (None, None) => failed(failure_to_proto(&silent())),
        },
        Ok(_) => failed(failure_to_proto(&silent())),
        Err(failure) => failed(failure_to_proto(&failure)),
    };
    ReportWorkspaceRequest { credential_id, ..report }
}

fn silent() -> Failure {
    Failure::new(Reason::Internal, service::TRANSPORT, "transport-svc gave no outcome")
}
