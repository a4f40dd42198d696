//! The circuits of all egresses and targets, fed by what came of real calls.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::{Clock, Failure};
use proto::gateway::v1::EgressStatus;
use telemetry::metrics::{Sample, names};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::circuit::{Change, Circuit, Settings};
use super::rule::Known;

/// What came of an attempt, as far as its egress and target are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The target answered, whatever it said of the request or the credential.
    Works,
    /// The target failed, or cannot be reached from there.
    TargetFails,
    /// transport-svc itself does not answer: that concerns every target.
    EgressFails,
    /// Nothing that concerns them.
    Nothing,
}

/// Egress and target; an empty target is the egress itself.
type Pair = (String, String);

/// All circuits.
pub(crate) struct Health {
    settings: Settings,
    clock: Clock,
    circuits: Mutex<BTreeMap<Pair, Circuit>>,
    /// Told when a circuit opens.
    opened: Notify,
}

/// Leave for one attempt. Dropped without a word it says nothing, and a circuit's test is made by the next call.
pub(crate) struct Pass {
    health: Arc<Health>,
    egress: String,
    target: String,
    began: Instant,
    /// Whether it tests the egress's circuit, and the target's.
    tests: (bool, bool),
}

impl Health {
    /// Everything is closed.
    pub(crate) fn new(settings: Settings, clock: Clock) -> Self {
        Self { settings, clock, circuits: Mutex::default(), opened: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Pair, Circuit>> {
        // A panic elsewhere cannot leave a circuit half changed.
        self.circuits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leave for an attempt, or the failure of one that is not made.
    pub(super) fn enter(self: &Arc<Self>, egress: &str, target: &str) -> Result<Pass, Failure> {
        let mut circuits = self.lock();
        self.refusal(&circuits, egress, target).map_or(Ok(()), Err)?;
        let mut test = |target: &str| circuits.entry((egress.to_owned(), target.to_owned())).or_default().enter();
        let tests = (test(""), test(target));
        if tests.0 || tests.1 {
            tracing::info!(egress, target, "a call is let through to see whether it works again");
        }
        Ok(Pass {
            health: Arc::clone(self),
            egress: egress.to_owned(),
            target: target.to_owned(),
            began: Instant::now(),
            tests,
        })
    }

    /// Leave for a request that is made whatever the circuit says, for it is made in order to see: what comes of it tells
    /// of egress and target all the same.
    pub(crate) fn look(self: &Arc<Self>, egress: &str, target: &str) -> Pass {
        let mut circuits = self.lock();
        for target in ["", target] {
            circuits.entry((egress.to_owned(), target.to_owned())).or_default();
        }
        Pass {
            health: Arc::clone(self),
            egress: egress.to_owned(),
            target: target.to_owned(),
            began: Instant::now(),
            tests: (false, false),
        }
    }

    /// Waits until a timer has to ask whether something works again, which no call has tested in its time; gives egress and
    /// target of each, an empty target for the egress itself. Never while nothing has failed.
    pub(crate) async fn due(&self) -> Vec<(String, String)> {
        loop {
            let next = {
                let (mut circuits, now) = (self.lock(), Instant::now());
                let due =
                    circuits.iter_mut().filter_map(|(pair, circuit)| circuit.asks(now, self.settings).then_some(pair));
                let due: Vec<Pair> = due.cloned().collect();
                if !due.is_empty() {
                    return due;
                }
                circuits.values().filter_map(|circuit| circuit.ask_at(now)).min()
            };
            match next {
                Some(at) => drop(tokio::time::timeout_at(at, self.opened.notified()).await),
                None => self.opened.notified().await,
            }
        }
    }

    /// Leave for a timer's question, the one test that a circuit allows. `None` if it needs none by now, or may not be made.
    pub(crate) fn test(self: &Arc<Self>, egress: &str, target: &str) -> Option<Pass> {
        let mut circuits = self.lock();
        if self.refusal(&circuits, egress, target).is_some() {
            return None;
        }
        let mut test = |target: &str| {
            let circuit = circuits.get_mut(&(egress.to_owned(), target.to_owned()));
            circuit.is_some_and(|circuit| circuit.is_shut() && circuit.enter())
        };
        let tests = (test(""), test(target));
        let (health, began) = (Arc::clone(self), Instant::now());
        let (egress, target) = (egress.to_owned(), target.to_owned());
        (tests != (false, false)).then_some(Pass { health, egress, target, began, tests })
    }

    /// As [`Self::enter`], and nothing is let through.
    pub(super) fn would_enter(&self, egress: &str, target: &str) -> Result<(), Failure> {
        self.refusal(&self.lock(), egress, target).map_or(Ok(()), Err)
    }

    fn refusal(&self, circuits: &BTreeMap<Pair, Circuit>, egress: &str, target: &str) -> Option<Failure> {
        let now = Instant::now();
        ["", target].into_iter().find_map(|target| {
            let circuit = circuits.get(&(egress.to_owned(), target.to_owned()))?;
            if circuit.lets_through(now) { None } else { circuit.not_tried(egress, target, &self.clock) }
        })
    }

    /// Every egress and target that calls have used, and every egress that none has.
    pub(crate) fn status(&self, known: &[Known]) -> Vec<EgressStatus> {
        let (circuits, now) = (self.lock(), Instant::now());
        let mut found = Vec::new();
        for egress in known {
            let of_it = circuits.iter().filter(|((name, _), _)| *name == egress.name);
            // The egress itself is told of where there is something to tell, or nothing else.
            let told = of_it.filter(|((_, target), circuit)| !target.is_empty() || circuit.failures() > 0);
            let before = found.len();
            found.extend(told.map(|((_, target), circuit)| self.told(egress, target, circuit, now)));
            if found.len() == before {
                found.push(self.told(egress, "", &Circuit::default(), now));
            }
        }
        found
    }

    fn told(&self, egress: &Known, target: &str, circuit: &Circuit, now: Instant) -> EgressStatus {
        let why = circuit.why(&self.clock);
        EgressStatus {
            egress: egress.name.clone(),
            labels: egress.labels.clone(),
            target: target.to_owned(),
            circuit: circuit.state(now).to_owned(),
            reason: why.map(|(failure, _)| failure.reason.as_str().to_owned()),
            message: why.map(|(failure, _)| failure.message.clone()),
            retry_at: why.map(|(_, at)| at),
            failures: i32::try_from(circuit.failures()).unwrap_or(i32::MAX),
            last_outcome: circuit.last().map(|(outcome, _)| outcome.to_owned()),
            last_at: circuit.last().map(|(_, at)| at as f64),
        }
    }

    /// One gauge for each state of each circuit.
    pub(crate) fn gauges(&self) -> Vec<Sample> {
        let (circuits, now) = (self.lock(), Instant::now());
        let mut samples = Vec::new();
        for ((egress, target), circuit) in circuits.iter() {
            for state in names::CIRCUIT_STATES {
                let here = f64::from(u8::from(circuit.state(now) == state));
                let sample = Sample::new(names::EGRESS_CIRCUIT, here).label("egress", egress).label("target", target);
                samples.push(sample.label("state", state));
            }
        }
        samples
    }
}

impl Pass {
    /// Says what came of the attempt; `failure` where it failed.
    pub(crate) fn settle(mut self, verdict: Verdict, failure: Option<&Failure>) {
        let health = Arc::clone(&self.health);
        let mut circuits = health.lock();
        let mut of = |target: &str, tested: &mut bool, verdict: Verdict| {
            let Some(circuit) = circuits.get_mut(&(self.egress.clone(), target.to_owned())) else { return };
            match verdict {
                Verdict::Works => circuit.note(None, &health.clock),
                Verdict::TargetFails | Verdict::EgressFails => circuit.note(failure.map(|f| f.reason), &health.clock),
                Verdict::Nothing => {}
            }
            let change = match (verdict, failure) {
                (Verdict::Works, _) => circuit.worked(Instant::now()),
                (Verdict::TargetFails | Verdict::EgressFails, Some(failure)) => {
                    circuit.failed(failure, self.began, *tested, health.settings, &health.clock)
                }
                (Verdict::TargetFails | Verdict::EgressFails | Verdict::Nothing, _) => return,
            };
            *tested = false;
            if matches!(change, Some(Change::Opened(_))) {
                health.opened.notify_one();
            }
            note(change, &self.egress, target, failure);
        };
        let (mut egress, mut target) = self.tests;
        match verdict {
            Verdict::Works => {
                of("", &mut egress, Verdict::Works);
                of(&self.target, &mut target, Verdict::Works);
            }
            Verdict::TargetFails => {
                of("", &mut egress, Verdict::Works);
                of(&self.target, &mut target, Verdict::TargetFails);
            }
            Verdict::EgressFails => of("", &mut egress, Verdict::EgressFails),
            Verdict::Nothing => {}
        }
        drop(circuits);
        // What was not settled is given back below.
        self.tests = (egress, target);
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.tests == (false, false) {
            return;
        }
        let mut circuits = self.health.lock();
        for (target, tests) in [("", self.tests.0), (self.target.as_str(), self.tests.1)] {
            if tests && let Some(circuit) = circuits.get_mut(&(self.egress.clone(), target.to_owned())) {
                circuit.untested();
            }
        }
    }
}

fn note(change: Option<Change>, egress: &str, target: &str, failure: Option<&Failure>) {
    let target = if target.is_empty() { "-" } else { target };
    match change {
        Some(Change::Opened(time)) => {
            telemetry::metrics::circuit_opened(egress, target);
            let reason = failure.map(|f| f.reason.as_str());
            let cause = failure.map(|f| f.message.as_str());
            tracing::warn!(
                egress,
                target,
                reason,
                cause,
                open_s = time.as_secs(),
                "circuit opened: not tried for a while"
            );
        }
        Some(Change::Closed) => tracing::info!(egress, target, "circuit closed: it works again"),
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use domain::{Reason, service};

    use super::*;

    fn health() -> Arc<Health> {
        let settings = Settings { failures: 2, open: Duration::from_secs(2), open_max: Duration::from_secs(8) };
        Arc::new(Health::new(settings, Clock::system()))
    }

    fn fail(health: &Arc<Health>, egress: &str, target: &str, verdict: Verdict) {
        let failure = Failure::new(Reason::EdgeBlocked, service::UPSTREAM, "blocked");
        let pass = health.enter(egress, target).unwrap_or_else(|_| panic!("{egress} {target} is open"));
        pass.settle(verdict, Some(&failure));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pair_is_judged_alone_and_an_egress_for_all_its_targets() {
        let health = health();
        for _ in 0..2 {
            fail(&health, "a", "t", Verdict::TargetFails);
        }
        assert!(health.would_enter("a", "t").is_err());
        assert!(health.would_enter("a", "u").is_ok() && health.would_enter("b", "t").is_ok());
        for _ in 0..5 {
            fail(&health, "b", "t", Verdict::Nothing);
        }
        for _ in 0..2 {
            fail(&health, "b", "t", Verdict::EgressFails);
        }
        assert!(health.would_enter("b", "t").is_err() && health.would_enter("b", "u").is_err());
        let known = |name: &str| Known { name: name.into(), labels: vec![] };
        let told = health.status(&[known("a"), known("b"), known("c")]);
        let states: Vec<_> = told.iter().map(|s| (s.egress.as_str(), s.target.as_str(), s.circuit.as_str())).collect();
        assert_eq!(states, [("a", "t", "open"), ("b", "", "open"), ("b", "t", "closed"), ("c", "", "closed")]);
        let last: Vec<_> = told.iter().map(|s| s.last_outcome.as_deref()).collect();
        assert_eq!(last, [Some("EDGE_BLOCKED"), Some("EDGE_BLOCKED"), None, None]);
        // A question that is asked in order to see tells of it, too.
        health.look("a", "t").settle(Verdict::Works, None);
        assert!(health.would_enter("a", "t").is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn exactly_one_call_tests_and_one_that_was_given_up_frees_its_place() {
        let health = health();
        for _ in 0..2 {
            fail(&health, "a", "t", Verdict::TargetFails);
        }
        tokio::time::advance(Duration::from_secs(2)).await;
        let test = health.enter("a", "t");
        assert!(test.is_ok() && health.enter("a", "t").is_err());
        drop(test);
        let test = health.enter("a", "t").unwrap_or_else(|_| panic!("free again"));
        test.settle(Verdict::Works, None);
        assert!(health.enter("a", "t").is_ok() && health.enter("a", "t").is_ok());
    }
}
