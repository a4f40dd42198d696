//! What came of a bound credential. Only what says something about the credential changes it: a challenge, a block, an
//! overloaded upstream or a wrong URL never does.

use domain::{Failure, Reason, service};
use proto::auth::v1::ReportOutcomeRequest;

use super::Binder;
use crate::store::{LatchKind, Rest, RestKind};

/// Rest after a usage limit that names no end, in milliseconds.
const USAGE_REST_MS: i64 = 5 * 60_000;
/// Longest rest that a usage limit can ask for, in milliseconds: a month, the longest window of any plan.
pub(super) const USAGE_MOST_MS: i64 = 31 * 24 * 3_600_000;
/// Longest rest of our own after rate limits, in milliseconds.
const RATE_MOST_MS: i64 = 60_000;
/// Longest rest that a rate limit can ask for, in milliseconds.
const RATE_MOST_ASKED_MS: i64 = 3_600_000;
/// How long it is remembered that an account may not use a model, in milliseconds.
const ENTITLEMENT_MS: i64 = 3_600_000;

impl Binder {
    /// Takes note of an outcome.
    pub(crate) async fn report(&self, report: &ReportOutcomeRequest) -> Result<(), Failure> {
        let id = report.credential_id.as_str();
        if report.reason.is_empty() {
            return Ok(self.store.forget_ended_rests(id).await?);
        }
        let reason: Reason = report
            .reason
            .parse()
            .map_err(|error: String| Failure::new(Reason::RequestInvalid, service::AUTH, error).param("reason"))?;
        let now = self.clock.now_ms();
        let model = (!report.upstream_model.is_empty()).then_some(report.upstream_model.as_str());
        let rest = |kind, until_ms| Rest {
            model: model.map(str::to_owned),
            kind,
            window_s: 0,
            limit: String::new(),
            began_ms: now,
            until_ms,
        };
        match reason {
            Reason::CredentialRejected => {
                let detail = "the upstream rejected its token (401), also after a refresh";
                self.store.latch(id, report.version, LatchKind::Rejected, detail).await?;
            }
            Reason::UsageLimit => {
                // Models may count against limits of their own, so the others try for themselves.
                let until = ends(report, now).unwrap_or(now + USAGE_REST_MS).min(now + USAGE_MOST_MS);
                let rest = Rest {
                    window_s: report.window_seconds.unwrap_or(0).max(0),
                    limit: report.limit.as_deref().map(limit_id).unwrap_or_default(),
                    ..rest(RestKind::UsageLimit, until)
                };
                self.store.rest(id, &rest).await?;
                self.probes.limit_met(id, now, until);
            }
            Reason::RateLimited => match ends(report, now) {
                Some(until) => {
                    let until = until.min(now + RATE_MOST_ASKED_MS);
                    self.store.rest(id, &rest(RestKind::RateLimited, until)).await?;
                }
                None => self.store.back_off(id, model, RATE_MOST_MS).await?,
            },
            Reason::NotEntitled => {
                self.store.rest(id, &rest(RestKind::NotEntitled, now + ENTITLEMENT_MS)).await?;
            }
            other => tracing::debug!(reason = %other, "an outcome that says nothing about the credential"),
        }
        Ok(())
    }
}

/// An id of a limit as it is kept: bounded, since it comes from outside.
pub(super) fn limit_id(id: &str) -> String {
    id.chars().filter(|c| !c.is_control()).take(100).collect()
}

/// Unix milliseconds at which the limit ends, as the upstream says; `None` where it says nothing that lies ahead.
fn ends(report: &ReportOutcomeRequest, now_ms: i64) -> Option<i64> {
    // Casts saturate, and what is not a number becomes 0.
    let reset = report.resets_at.map(|at| (at * 1000.0).ceil() as i64);
    let wait = report.retry_after_seconds.map(|seconds| now_ms.saturating_add((seconds * 1000.0).ceil() as i64));
    reset.filter(|at| *at > now_ms).or_else(|| wait.filter(|at| *at > now_ms))
}
