//! What the provider tells of quotas: kept for people, and what ends a rest early.

use domain::{Failure, MAIN_LIMIT};
use proto::auth::v1::CredentialUsage;
use proto::common::v1::QuotaWindow;

use super::Binder;
use super::report::{USAGE_MOST_MS, limit_id};
use crate::store::{Credential, Rest, RestKind, Window};

/// Windows of one credential that are taken from one report.
const WINDOWS: usize = 32;
/// At and above this a window is used up.
const FULL: f64 = 100.0;

impl Binder {
    /// Takes note of what was heard of credentials' quotas. Safe to repeat: it says what is, not what to add.
    pub(crate) async fn note_usage(&self, usages: &[CredentialUsage]) -> Result<(), Failure> {
        for usage in usages {
            // One that was removed meanwhile has no quota any more.
            if let Some(credential) = self.store.credential_by_id(&usage.credential_id).await? {
                self.note_one(&credential, usage).await?;
            }
        }
        Ok(())
    }

    async fn note_one(&self, credential: &Credential, usage: &CredentialUsage) -> Result<(), Failure> {
        let now = self.clock.now_ms();
        let observed_ms = ((usage.observed_at * 1000.0) as i64).clamp(0, now);
        let windows: Vec<Window> =
            usage.windows.iter().take(WINDOWS).filter_map(|told| window(told, observed_ms, now)).collect();
        // A refusal, too, tells of quotas in its headers.
        self.store.note_quota(&credential.id, &windows).await?;
        if let Some(failure) = &usage.failure {
            tracing::debug!(credential = %credential.label, reason = failure.reason, "a quota could not be asked for");
            self.probes.failed(&credential.id, now, failure.retry_after_seconds);
            return Ok(());
        }
        if let Some(plan) =
            usage.plan.as_deref().filter(|plan| !plan.is_empty() && credential.plan.as_deref() != Some(plan))
        {
            self.store.set_plan(&credential.id, &limit_id(plan)).await?;
        }
        if usage.probe {
            self.correct(credential, &windows, usage.allowed, observed_ms).await?;
        }
        Ok(())
    }

    /// Ends and moves the rests of a credential by what a usage request has found.
    async fn correct(
        &self,
        credential: &Credential,
        windows: &[Window],
        allowed: Option<bool>,
        observed_ms: i64,
    ) -> Result<(), Failure> {
        let now = self.clock.now_ms();
        let in_force = |rest: &&Rest| rest.kind == RestKind::UsageLimit && rest.until_ms > now;
        let limits: Vec<&Rest> = credential.rests.iter().filter(in_force).collect();
        let found: Vec<(Rest, Option<Rest>)> = limits
            .iter()
            // A limit that was met after the answer is news to the answer.
            .filter(|rest| rest.began_ms <= observed_ms)
            .map(|rest| ((*rest).clone(), corrected(rest, windows, allowed, now)))
            .collect();
        let changes: Vec<_> = found.iter().filter(|(old, new)| new.as_ref() != Some(old)).cloned().collect();
        for (old, new) in &changes {
            let until = new.as_ref().map_or(now, |rest| rest.until_ms);
            tracing::info!(
                credential = %credential.label,
                model = old.model.as_deref().unwrap_or("*"),
                was_until = %domain::timestamp_ms(old.until_ms),
                until = %domain::timestamp_ms(until),
                "the provider tells that a usage limit ends at another time"
            );
        }
        if !changes.is_empty() {
            self.store.correct_rests(&credential.id, &changes).await?;
        }
        if found.len() == limits.len() && found.iter().all(|(_, new)| new.is_none()) {
            self.probes.answered(&credential.id, now, self.usage_refresh_ms);
        }
        Ok(())
    }
}

/// What a usage request says of a rest: the rest as it should be, or `None` if it is over.
pub(super) fn corrected(rest: &Rest, windows: &[Window], allowed: Option<bool>, now_ms: i64) -> Option<Rest> {
    let main = rest.limit.is_empty() || rest.limit == MAIN_LIMIT;
    let limit = if main { MAIN_LIMIT } else { rest.limit.as_str() };
    let of_limit: Vec<&Window> = windows.iter().filter(|window| window.limit == limit).collect();
    let same = |window: &&Window| rest.window_s == 0 || window.window_s == rest.window_s;
    let same: Vec<&Window> = of_limit.iter().copied().filter(same).collect();
    let has_room = same.iter().all(|window| window.used_percent < FULL);
    let over = match allowed {
        // A window that is not told any more is one that the plan has not.
        Some(true) if main => rest.window_s == 0 || has_room,
        Some(false) => false,
        Some(true) | None => has_room && !same.is_empty(),
    };
    if over {
        return None;
    }
    let last = |windows: &[&Window]| {
        let full = windows.iter().filter(|window| window.used_percent >= FULL);
        full.filter_map(|window| Some((window.resets_at.filter(|at| at * 1000 > now_ms)?, window.window_s))).max()
    };
    // Calls are refused, and not for this window: then for another one of its limit.
    match last(&same).or_else(|| last(&of_limit).filter(|_| allowed == Some(false))) {
        Some((resets_at, window_s)) => Some(Rest {
            window_s,
            limit: limit.to_owned(),
            until_ms: (resets_at * 1000).min(now_ms + USAGE_MOST_MS),
            ..rest.clone()
        }),
        None => Some(rest.clone()),
    }
}

/// A window as it is kept: bounded, since it comes from outside. `None` if it is none.
fn window(told: &QuotaWindow, observed_ms: i64, now_ms: i64) -> Option<Window> {
    if told.window_seconds < 0 || told.limit.is_empty() || !told.used_percent.is_finite() {
        return None;
    }
    let latest = (now_ms + USAGE_MOST_MS * 12) / 1000;
    Some(Window {
        limit: limit_id(&told.limit),
        window_s: told.window_seconds,
        used_percent: told.used_percent.clamp(0.0, 1000.0),
        resets_at: told.resets_at.filter(|at| *at >= 1.0).map(|at| (at.ceil() as i64).min(latest)),
        name: told.limit_name.as_deref().map(limit_id).filter(|name| !name.is_empty()),
        observed_ms,
    })
}
