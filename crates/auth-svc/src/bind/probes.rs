//! Usage requests that are due. Whoever can make one claims it, makes it, and reports what came of it.
//!
//! The plan of when to ask again is kept in memory: a restart begins it anew, which costs the provider one request more
//! and nobody anything else. A claim moves the plan on, so that the next one to ask gets nothing, and one that is never
//! reported is handed out again at its next time.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use config::{Seconds, TargetKind};
use domain::Failure;
use proto::auth::v1::{ClaimProbesResponse, UsageProbe};

use super::judge::{Route, Verdict, judge};
use super::{Binder, Winner};
use crate::store::{Credential, Kind, RestKind};

/// Longest wait between two requests while a limit is met, in milliseconds; a first wait that is longer stays.
const MOST_MS: i64 = 15 * 60_000;
/// Requests that one caller gets at a time: each seal lives for a minute.
pub(super) const AT_ONCE: usize = 8;
/// Bounds of the time after which a caller asks again, in milliseconds.
const ASK_AGAIN_MS: (i64, i64) = (1_000, 60_000);
/// Longest first wait, in milliseconds: as good as never, and no sum of times overflows.
const LATEST_FIRST_MS: i64 = 2 * 365 * 24 * 3_600_000;

/// When one credential's quota is asked for.
#[derive(Clone, Copy, Debug)]
struct Plan {
    /// Unix milliseconds of the next request.
    due_ms: i64,
    /// Wait after that one.
    wait_ms: i64,
    /// Unix milliseconds at which the limit ends as far as we know: asked once right then.
    reset_ms: Option<i64>,
}

/// All plans, by credential id.
#[derive(Debug)]
pub(super) struct Probes {
    plans: Mutex<HashMap<String, Plan>>,
    /// First wait before asking, in milliseconds; doubles each time. Also what a start leaves to calls: their answers
    /// tell of the quota, too.
    first_ms: i64,
}

impl Probes {
    /// The first request of each credential waits for `first` seconds, which are not zero.
    pub(super) fn new(first: Seconds) -> Self {
        let first_ms = i64::try_from(first.as_secs()).unwrap_or(i64::MAX).saturating_mul(1000);
        Self { plans: Mutex::default(), first_ms: first_ms.clamp(ASK_AGAIN_MS.0, LATEST_FIRST_MS) }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Plan>> {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn starting(&self, now_ms: i64) -> Plan {
        let wait_ms = (2 * self.first_ms).min(self.most_ms());
        Plan { due_ms: now_ms + self.first_ms, wait_ms, reset_ms: None }
    }

    fn most_ms(&self) -> i64 {
        MOST_MS.max(self.first_ms)
    }

    /// A call has met a usage limit.
    pub(super) fn limit_met(&self, id: &str, now_ms: i64, until_ms: i64) {
        let mut plans = self.lock();
        let going_on = plans.get(id).copied().filter(|plan| plan.reset_ms.is_some_and(|at| at > now_ms));
        let plan = going_on.unwrap_or_else(|| self.starting(now_ms));
        let reset_ms = Some(plan.reset_ms.map_or(until_ms, |at| at.min(until_ms)));
        plans.insert(id.to_owned(), Plan { reset_ms, ..plan });
    }

    /// A request has brought an answer, and no limit is left: the next is due when nothing was heard for `refresh_ms`.
    pub(super) fn answered(&self, id: &str, now_ms: i64, refresh_ms: i64) {
        let next = Plan { due_ms: now_ms + refresh_ms.max(self.first_ms), ..self.starting(now_ms) };
        self.lock().insert(id.to_owned(), next);
    }

    /// A request has failed: the next waits for as long as planned, or as the provider asks.
    pub(super) fn failed(&self, id: &str, now_ms: i64, retry_after_s: Option<f64>) {
        let Some(seconds) = retry_after_s else { return };
        if let Some(plan) = self.lock().get_mut(id) {
            // Casts saturate, and what is not a number becomes 0.
            plan.due_ms = plan.due_ms.max(now_ms + ((seconds * 1000.0) as i64).clamp(0, MOST_MS));
        }
    }

    /// Takes what is due at `now_ms` out of `asked`, and says when it is worth asking again, in milliseconds from now.
    fn take<'a>(&self, asked: &[Asked<'a>], now_ms: i64) -> (Vec<&'a Credential>, i64) {
        let mut plans = self.lock();
        let there: HashSet<&str> = asked.iter().map(|one| one.credential.id.as_str()).collect();
        plans.retain(|id, _| there.contains(id.as_str()));
        let mut due = Vec::new();
        // A limit that is met right after this is asked about in time.
        let mut next = ASK_AGAIN_MS.1.min(self.first_ms);
        for one in asked {
            let reset = plans.get(&one.credential.id).and_then(|plan| plan.reset_ms);
            let over = reset.is_some_and(|at| at <= now_ms);
            if one.limit_until_ms.is_none() && !one.stale && !over {
                continue;
            }
            let plan = plans.entry(one.credential.id.clone()).or_insert_with(|| self.starting(now_ms));
            if !one.askable {
                continue;
            }
            if (over || plan.due_ms <= now_ms) && due.len() < AT_ONCE {
                due.push(one.credential);
                plan.due_ms = now_ms + plan.wait_ms;
                plan.wait_ms = (plan.wait_ms * 2).min(self.most_ms());
                plan.reset_ms = None;
            }
            plan.reset_ms = plan.reset_ms.filter(|at| *at <= now_ms).or(one.limit_until_ms);
            let soonest = plan.reset_ms.map_or(plan.due_ms, |at| at.min(plan.due_ms));
            next = next.min(soonest - now_ms);
        }
        (due, next.clamp(ASK_AGAIN_MS.0, ASK_AGAIN_MS.1))
    }
}

/// A credential whose provider tells of quotas.
struct Asked<'a> {
    credential: &'a Credential,
    /// Unix milliseconds at which the first of its usage limits ends; `None` if none is met.
    limit_until_ms: Option<i64>,
    /// True if its quota was not heard of for long.
    stale: bool,
    /// True if it could be bound but for its rests, without a refresh.
    askable: bool,
}

impl Binder {
    /// Hands out the usage requests that are due.
    pub(crate) async fn claim_probes(&self) -> Result<ClaimProbesResponse, Failure> {
        let credentials = self.store.list_credentials(None).await?;
        let quotas = self.store.quotas().await?;
        let now = self.clock.now_ms();
        let asked: Vec<Asked<'_>> = credentials
            .iter()
            .filter(|credential| self.account_target(credential).is_some())
            .map(|credential| {
                let heard = quotas.get(&credential.id).into_iter().flatten().map(|window| window.observed_ms).max();
                let limits = credential.rests.iter().filter(|rest| rest.kind == RestKind::UsageLimit);
                Asked {
                    credential,
                    limit_until_ms: limits.map(|rest| rest.until_ms).filter(|at| *at > now).min(),
                    stale: self.usage_refresh_ms > 0 && heard.is_none_or(|at| at + self.usage_refresh_ms <= now),
                    askable: self.askable(credential),
                }
            })
            .collect();
        let (due, next_ms) = self.probes.take(&asked, now);
        let probes = due.into_iter().filter_map(|credential| self.usage_probe(credential).transpose());
        let probes = probes.collect::<Result<_, _>>()?;
        let workspaces = self.claim_workspaces(&credentials).await.unwrap_or_else(|failure| {
            // It can wait; the quotas need no write.
            tracing::debug!(%failure, "no question about workspaces is handed out");
            Vec::new()
        });
        Ok(ClaimProbesResponse { probes, workspaces, next_in_seconds: next_ms as f64 / 1000.0 })
    }

    /// The target at whose account endpoints a credential's quota is asked for; `None` for those that have no such.
    pub(super) fn account_target(&self, credential: &Credential) -> Option<&str> {
        let target = self.providers.get(&credential.provider).filter(|_| credential.kind == Kind::OAuth)?;
        (self.targets.get(target)?.kind == TargetKind::ChatgptCodex).then_some(target.as_str())
    }

    /// Could it be bound now but for its rests, and without a refresh? A question about quotas is not worth one.
    pub(super) fn askable(&self, credential: &Credential) -> bool {
        let rested = Credential { rests: Vec::new(), ..credential.clone() };
        let note = self.refresher.notes().get(&rested.id, rested.version);
        let route = Route::of(&rested, self.refresher.origin());
        match judge(&rested, note.as_ref(), &route, self.clock.now_ms()) {
            Verdict::Usable | Verdict::Refresh { alive: true } => true,
            Verdict::Refresh { alive: false } | Verdict::No(_) => false,
        }
    }

    pub(super) fn usage_probe(&self, credential: &Credential) -> Result<Option<UsageProbe>, Failure> {
        let (Some(target), Some(token)) = (self.account_target(credential), credential.secrets.upstream()) else {
            return Ok(None);
        };
        let call_id = domain::new_call_id();
        let winner = Winner { credential: Arc::new(credential.clone()), token: token.clone(), refreshed: false };
        Ok(Some(UsageProbe {
            credential_id: credential.id.clone(),
            credential: credential.label.clone(),
            target: target.to_owned(),
            sealed: Some(self.seal_for_account(&winner, target, &call_id)?),
            call_id,
            egress: credential.egress.to_proto(),
            provider_egress: self.provider_egress.get(&credential.provider).cloned(),
        }))
    }
}
