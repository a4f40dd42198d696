//! By which egress an attempt is made, what it shows of that egress, and what the call does after it has failed.

use std::time::Duration;

use domain::{After, Failure};
use proto::router::v1::Route;
use proto::transport::v1::Sent;

use crate::egress::{Chosen, Pass, Refused, Skipped, Verdict, Wish, choose, would_choose};
use crate::pipeline::ask::Ask;
use crate::pipeline::call::{Binding, Call};
use crate::pipeline::decide::{Failed, NextStep, verdict};
use crate::pipeline::plan::Plan;
use crate::retry::backoff;

/// The egress of one attempt.
pub(crate) struct Leave {
    /// Its place among the known ones.
    pub(crate) index: usize,
    pass: Pass,
}

impl Leave {
    /// The attempt answers.
    pub(crate) fn works(self) {
        self.pass.settle(Verdict::Works, None);
    }

    /// The attempt has failed.
    pub(crate) fn failed(self, failed: &Failed, failure: &Failure) {
        self.pass.settle(verdict(failed), Some(failure));
    }
}

impl Call {
    /// The egress for the next attempt; without one the plan moves on.
    pub(crate) fn leave_by(&mut self, plan: &mut Plan, route: &Route, binding: &Binding, ask: &Ask) -> Option<Leave> {
        let (bound, excluded) = (&binding.bound, plan.excluded_egresses());
        let wish = Wish { route, bound, session: &ask.session, excluded };
        match choose(&self.core.health, self.core.links.known(), wish) {
            Ok(Chosen { index, pass, skipped }) => {
                self.note_skipped(route, binding, &skipped);
                Some(Leave { index, pass })
            }
            Err(refused) => {
                let Refused { failure, skipped, by_rule } = *refused;
                self.note_skipped(route, binding, &skipped);
                if by_rule {
                    self.tracer.no_egress(route, &bound.credential, None, failure.reason);
                }
                // Without a rule of its own another credential fares no better.
                plan.no_egress(failure, bound, bound.egress.is_some());
                None
            }
        }
    }

    /// True if another egress could make the attempt that has failed by `egress`; those that are not tried for now are
    /// noted where they would have been next.
    pub(crate) fn other_egress(
        &mut self,
        plan: &Plan,
        route: &Route,
        binding: &Binding,
        failed: &Failed,
        egress: &str,
    ) -> bool {
        if failed.reason.row().after != After::NextEgress {
            return false;
        }
        let excluded = [plan.excluded_egresses(), &[egress.to_owned()]].concat();
        let wish = Wish { route, bound: &binding.bound, session: "", excluded: &excluded };
        match would_choose(&self.core.health, self.core.links.known(), wish) {
            Ok(_) => true,
            Err(refused) => {
                self.note_skipped(route, binding, &refused.skipped);
                false
            }
        }
    }

    fn note_skipped(&mut self, route: &Route, binding: &Binding, skipped: &[Skipped]) {
        for (egress, failure) in skipped {
            self.tracer.no_egress(route, &binding.bound.credential, Some(egress), failure.reason);
        }
    }

    /// Before the next step: the retry budget pays for it, and repeating the same waits a little.
    pub(crate) async fn prepare(&self, plan: &mut Plan, step: NextStep, failed: &Failed) {
        if step.is_paid() && plan.route().is_some() && !self.core.retries.withdraw() {
            telemetry::metrics::retry_refused();
            tracing::warn!(
                call_id = self.id,
                reason = failed.reason.as_str(),
                "not tried again: too many calls fail already (the retry budget is spent)"
            );
            plan.stop();
            return;
        }
        let wait = if step == NextStep::Repeat { pause(failed) } else { Duration::ZERO };
        if !self.budget.outlasts(wait) {
            plan.stop();
            return;
        }
        tokio::time::sleep(wait).await;
    }

    /// Waits until the only credential's limit has ended, where that is a moment and the caller has the time.
    pub(crate) async fn waited_out(&self, plan: &mut Plan) -> bool {
        let Some(wait) = plan.wait_out().filter(|wait| self.budget.outlasts(*wait)) else { return false };
        if !self.core.retries.withdraw() {
            return false;
        }
        tokio::time::sleep(wait).await;
        plan.begin_again();
        true
    }
}

/// How long the same is left alone. What was not processed may come again at once: another connection takes it.
fn pause(failed: &Failed) -> Duration {
    if failed.sent == Sent::NotProcessed || failed.sent == Sent::NotSent {
        return Duration::ZERO;
    }
    let told = failed.retry_after.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    backoff(1).max(told.unwrap_or_default())
}
