//! Questions about where an account's requests must go: who asks them, and when.
//!
//! An account that nobody has asked about is asked about when its first credential is bound: whoever binds it asks, and
//! binds again. What was told is good for hours, and is then asked again beside the calls, by one gateway over all.

use domain::Failure;
use proto::auth::v1::{ReportWorkspaceRequest, UsageProbe};

use super::probes::AT_ONCE;
use super::{Binder, Winner};
use crate::store::Credential;

/// Longest cause that is kept, in characters.
const LONGEST: usize = 300;

impl Binder {
    /// The question that has to be asked before requests with `winner` go where they must; `None`: it was asked before.
    pub(crate) fn workspace_question(&self, winner: &Winner) -> Result<Option<UsageProbe>, Failure> {
        let credential = &winner.credential;
        if credential.workspace.is_some() || self.account_of(credential).is_none() {
            return Ok(None);
        }
        self.usage_probe(credential)
    }

    /// The account that can be asked about, if this deployment asks at all.
    fn account_of<'a>(&self, credential: &'a Credential) -> Option<&'a str> {
        let account = credential.account_id.as_deref().filter(|id| !id.is_empty())?;
        (self.workspaces.asks() && self.account_target(credential).is_some()).then_some(account)
    }

    /// Hands out the questions that are due again.
    pub(super) async fn claim_workspaces(&self, credentials: &[Credential]) -> Result<Vec<UsageProbe>, Failure> {
        let now = self.clock.now_ms();
        let mut questions = Vec::new();
        for credential in credentials {
            let due = credential.workspace.as_ref().is_some_and(|known| known.next_ms <= now);
            let Some(account) = self.account_of(credential).filter(|_| due && self.askable(credential)) else {
                continue;
            };
            if questions.len() < AT_ONCE && self.store.claim_workspace(account).await? {
                questions.extend(self.usage_probe(credential)?);
            }
        }
        Ok(questions)
    }

    /// Takes note of what was found out, or of why nothing was: then what was told before stays.
    pub(crate) async fn note_workspace(&self, report: &ReportWorkspaceRequest) -> Result<(), Failure> {
        // One that was removed meanwhile has no account any more.
        let Some(credential) = self.store.credential_by_id(&report.credential_id).await? else { return Ok(()) };
        let Some(account) = credential.account_id.clone().filter(|id| !id.is_empty()) else { return Ok(()) };
        let now = self.clock.now_ms();
        let Some(told) = &report.workspace else {
            let failures = credential.workspace.as_ref().map_or(0, |known| known.failures).saturating_add(1);
            let why = report.failure.as_ref().map_or_else(String::new, |f| format!("{}: {}", f.reason, f.message));
            let why: String = why.chars().take(LONGEST).collect();
            tracing::warn!(credential = %credential.label, cause = %why, failures,
                "where requests of its account must go could not be asked; what was told last stays");
            self.store.miss_workspace(&account, &why, self.workspaces.again_ms(now, failures)).await?;
            return Ok(());
        };
        let (origin, routing) = (told.origin.as_deref(), told.routing_override.as_deref());
        self.store.learn_workspace(&account, origin, routing, self.workspaces.next_ms(now)).await?;
        let Some(after) = self.store.credential_by_id(&credential.id).await? else { return Ok(()) };
        let (before, followed) = (self.workspaces.follow(&credential), self.workspaces.follow(&after));
        if let Some(problem) = &followed.problem {
            tracing::warn!(credential = %credential.label, problem, "not all that the provider demands is followed");
        } else if before != followed {
            tracing::info!(credential = %credential.label, origin = followed.origin.as_ref().map(|url| url.origin.as_str()), routing = followed.routing,
                "where requests of its account must go has changed");
        }
        Ok(())
    }
}
