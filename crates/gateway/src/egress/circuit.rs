//! One circuit: a target as seen from one egress. Closed: calls go through. Open, after failures in a row: none is sent
//! until a time. Half open, from then on: one call goes through to see.

use std::time::Duration;

use domain::{Clock, Failure, Reason, timestamp};
use tokio::time::Instant;

/// Longest Retry-After that keeps a circuit open beyond its own time: it is the upstream's word, and may be nonsense.
const LONGEST_WORD: Duration = Duration::from_secs(15 * 60);
/// How long a timer leaves a circuit alone that a call is testing.
const TESTED_FOR: Duration = Duration::from_secs(1);

/// When circuits open, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Failures in a row.
    pub(crate) failures: u32,
    /// For how long at first.
    pub(crate) open: Duration,
    /// For how long at most.
    pub(crate) open_max: Duration,
}

impl Settings {
    /// As configured.
    pub(crate) fn of(config: &config::Gateway) -> Self {
        Self {
            failures: config.circuit_failures,
            open: config.circuit_open.duration(),
            open_max: config.circuit_open_max.duration(),
        }
    }
}

/// Why a circuit is not closed, and until when.
#[derive(Debug)]
struct Shut {
    failure: Failure,
    /// Unix seconds of the first failure that it stayed open for.
    since_s: i64,
    until: Instant,
    /// How long it is open this time.
    time: Duration,
    /// True while one call is let through.
    probing: bool,
    /// When a timer asks, if no call has come by then.
    ask_at: Instant,
}

/// A change that an operator should see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It has opened, for this long.
    Opened(Duration),
    /// It has closed again.
    Closed,
}

/// One circuit.
#[derive(Debug, Default)]
pub(super) struct Circuit {
    failures: u32,
    shut: Option<Shut>,
    /// When it last worked.
    worked: Option<Instant>,
    /// What came of the last request that tells, "ok" or a reason, and Unix seconds of that.
    last: Option<(&'static str, i64)>,
}

impl Circuit {
    /// Takes note of what came of a request; `None` is that it worked.
    pub(super) fn note(&mut self, failed: Option<Reason>, clock: &Clock) {
        self.last = Some((failed.map_or("ok", |reason| reason.as_str()), clock.now_s()));
    }

    /// What came of the last request that tells, "ok" or a reason, and Unix seconds of that.
    pub(super) fn last(&self) -> Option<(&'static str, i64)> {
        self.last
    }

    /// True if a call may go through: it is closed, or due for a test that nobody makes.
    pub(super) fn lets_through(&self, now: Instant) -> bool {
        self.shut.as_ref().is_none_or(|shut| now >= shut.until && !shut.probing)
    }

    /// A call goes through. True if it is the test of an open circuit.
    pub(super) fn enter(&mut self) -> bool {
        match &mut self.shut {
            Some(shut) => {
                shut.probing = true;
                true
            }
            None => false,
        }
    }

    /// The test of an open circuit ended without showing anything: the next call makes it.
    pub(super) fn untested(&mut self) {
        if let Some(shut) = &mut self.shut {
            shut.probing = false;
        }
    }

    /// A call has found it working.
    pub(super) fn worked(&mut self, now: Instant) -> Option<Change> {
        (self.failures, self.worked) = (0, Some(now));
        self.shut.take().map(|_| Change::Closed)
    }

    /// A call that began at `began` has failed there.
    pub(super) fn failed(
        &mut self,
        failure: &Failure,
        began: Instant,
        tested: bool,
        settings: Settings,
        clock: &Clock,
    ) -> Option<Change> {
        // Many calls fail at once where a server is started anew; what has worked since knows better.
        if self.worked.is_some_and(|worked| worked > began) {
            return None;
        }
        self.failures = self.failures.saturating_add(1);
        let (since_s, time) = match &self.shut {
            // Calls from before it opened tell nothing new.
            Some(_) if !tested => return None,
            Some(shut) => (shut.since_s, (shut.time * 2).min(settings.open_max)),
            None if self.failures < settings.failures => return None,
            None => (clock.now_s(), settings.open),
        };
        let word = failure.retry_after_seconds.and_then(|s| Duration::try_from_secs_f64(s).ok());
        let time = time.max(word.unwrap_or_default().min(LONGEST_WORD));
        let until = Instant::now() + time;
        // After a call had its time to come, and not at the moment at which other gateways ask.
        let ask_at = until + jittered(time.min(settings.open_max)) / 2;
        self.shut = Some(Shut { failure: failure.clone(), since_s, until, time, probing: false, ask_at });
        Some(Change::Opened(time))
    }

    /// When a timer has to look at it; `None` while it is closed.
    pub(super) fn ask_at(&self, now: Instant) -> Option<Instant> {
        // A test that is under way may yet show nothing.
        self.shut.as_ref().map(|shut| if shut.probing { shut.ask_at.max(now + TESTED_FOR) } else { shut.ask_at })
    }

    /// True if it is time for a timer to ask; that it does is noted, so that one which learns nothing asks again only after
    /// a pause.
    pub(super) fn asks(&mut self, now: Instant, settings: Settings) -> bool {
        let Some(shut) = self.shut.as_mut().filter(|shut| !shut.probing && now >= shut.ask_at) else { return false };
        shut.ask_at = now + jittered(settings.open_max);
        true
    }

    /// True unless calls go through as ever.
    pub(super) fn is_shut(&self) -> bool {
        self.shut.is_some()
    }

    /// Failures in a row.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// Its state, as statuses and metrics name it.
    pub(super) fn state(&self, now: Instant) -> &'static str {
        match &self.shut {
            None => "closed",
            Some(shut) if now < shut.until => "open",
            Some(_) => "half-open",
        }
    }

    /// The failure that keeps it open, and the Unix seconds at which the next call is let through.
    pub(super) fn why(&self, clock: &Clock) -> Option<(&Failure, f64)> {
        let left = |shut: &Shut| shut.until.saturating_duration_since(Instant::now()).as_secs_f64();
        self.shut.as_ref().map(|shut| (&shut.failure, clock.now_ms() as f64 / 1e3 + left(shut)))
    }

    /// The failure of a call that is not sent.
    pub(super) fn not_tried(&self, egress: &str, target: &str, clock: &Clock) -> Option<Failure> {
        let shut = self.shut.as_ref()?;
        let left = shut.until.saturating_duration_since(Instant::now()).as_secs_f64().max(if shut.probing {
            1.0
        } else {
            0.0
        });
        let to = if target.is_empty() { String::new() } else { format!(" to target {target}") };
        let (since, until) = (timestamp(shut.since_s), timestamp(clock.now_s() + left.ceil() as i64));
        let when = if shut.probing {
            "one call is seeing whether it works again".to_owned()
        } else {
            format!("not tried until {until}")
        };
        let message = format!(
            "egress {egress}{to}: {when}, {} failures in a row since {since}: {}",
            self.failures, shut.failure.message
        );
        // Codex CLI stops asking at an overload that comes without a time, and asks over and over at one with it.
        let retry_after_seconds = (shut.failure.reason != Reason::UpstreamOverloaded).then_some(left);
        Some(Failure { message, retry_after_seconds, ..shut.failure.clone() })
    }
}

/// Half of a time, and a random part of the other half.
fn jittered(time: Duration) -> Duration {
    // A random UUID's low bytes are random, and it is the generator that is here already.
    let [.., low] = *uuid::Uuid::new_v4().as_bytes();
    time / 2 + (time / 2) * u32::from(low) / 255
}

#[cfg(test)]
mod tests {
    use domain::service;

    use super::*;

    const SETTINGS: Settings = Settings { failures: 3, open: Duration::from_secs(2), open_max: Duration::from_secs(5) };

    fn failure() -> Failure {
        Failure::new(Reason::UpstreamError, service::UPSTREAM, "no")
    }

    fn fail(circuit: &mut Circuit, tested: bool) -> Option<Change> {
        circuit.failed(&failure(), Instant::now(), tested, SETTINGS, &Clock::manual(1_900_000_000_000))
    }

    async fn pass(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_overload_is_told_without_a_time_to_ask_again() {
        let mut circuit = Circuit::default();
        let (clock, overload) = (Clock::manual(0), Failure::new(Reason::UpstreamOverloaded, service::UPSTREAM, "full"));
        for _ in 0..3 {
            let _ = circuit.failed(&overload, Instant::now(), false, SETTINGS, &clock);
        }
        let told = circuit.not_tried("a", "t", &clock).expect("not tried");
        assert_eq!((told.reason, told.retry_after_seconds), (Reason::UpstreamOverloaded, None));
    }

    #[tokio::test(start_paused = true)]
    async fn it_opens_after_failures_in_a_row_and_one_call_tests_it() {
        let mut circuit = Circuit::default();
        assert_eq!((fail(&mut circuit, false), fail(&mut circuit, false)), (None, None));
        assert_eq!(circuit.worked(Instant::now()), None);
        pass(1).await;
        for _ in 0..2 {
            assert_eq!(fail(&mut circuit, false), None, "the row begins anew");
        }
        assert!(circuit.lets_through(Instant::now()));
        assert_eq!(fail(&mut circuit, false), Some(Change::Opened(Duration::from_secs(2))));
        assert_eq!((circuit.lets_through(Instant::now()), circuit.state(Instant::now())), (false, "open"));
        // Calls that were under way add nothing.
        assert_eq!(fail(&mut circuit, false), None);
        let told = circuit.not_tried("a", "t", &Clock::manual(1_900_000_000_000)).expect("not tried");
        assert_eq!((told.reason, told.retry_after_seconds), (Reason::UpstreamError, Some(2.0)));
        assert!(told.message.starts_with("egress a to target t: not tried until 2030-03-17T17:46:42Z"), "{told:?}");
        for doubled in [4, 5, 5] {
            pass(5).await;
            assert_eq!(circuit.state(Instant::now()), "half-open");
            assert!(circuit.lets_through(Instant::now()) && circuit.enter());
            assert!(!circuit.lets_through(Instant::now()), "exactly one");
            assert_eq!(fail(&mut circuit, true), Some(Change::Opened(Duration::from_secs(doubled))));
        }
        pass(5).await;
        assert!(circuit.enter());
        circuit.untested();
        assert!(circuit.lets_through(Instant::now()), "a test that was given up is made by the next call");
        assert_eq!(circuit.worked(Instant::now()), Some(Change::Closed));
        assert!(circuit.lets_through(Instant::now()) && !circuit.enter());
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_asks_when_no_call_has_tested_it_and_not_often() {
        let mut circuit = Circuit::default();
        let asks = |circuit: &mut Circuit| circuit.asks(Instant::now(), SETTINGS);
        assert!(!asks(&mut circuit) && circuit.ask_at(Instant::now()).is_none(), "nothing has failed");
        for _ in 0..3 {
            let _ = fail(&mut circuit, false);
        }
        let (now, until) = (Instant::now(), SETTINGS.open);
        let at = circuit.ask_at(now).expect("it is open");
        assert!(at >= now + until + until / 4 && at <= now + until + until / 2, "{:?}", at - now);
        pass(2).await;
        assert!(circuit.lets_through(Instant::now()) && !asks(&mut circuit), "calls come first");
        pass(1).await;
        assert!(circuit.enter() && !asks(&mut circuit), "a call tests it");
        assert_eq!(circuit.ask_at(Instant::now()), Some(Instant::now() + TESTED_FOR));
        circuit.untested();
        assert!(asks(&mut circuit) && !asks(&mut circuit), "once");
        pass(2).await;
        assert!(!asks(&mut circuit));
        pass(3).await;
        assert!(asks(&mut circuit), "again, after a pause");
    }

    #[tokio::test(start_paused = true)]
    async fn what_began_before_it_worked_does_not_count_and_retry_after_does() {
        let mut circuit = Circuit::default();
        let began = Instant::now();
        pass(1).await;
        let _ = circuit.worked(Instant::now());
        for _ in 0..10 {
            assert_eq!(circuit.failed(&failure(), began, false, SETTINGS, &Clock::system()), None);
        }
        pass(1).await;
        let told = failure().retry_after(60.0);
        let fail = |circuit: &mut Circuit| circuit.failed(&told, Instant::now(), false, SETTINGS, &Clock::system());
        let _ = (fail(&mut circuit), fail(&mut circuit));
        assert_eq!(fail(&mut circuit), Some(Change::Opened(Duration::from_secs(60))));
    }
}
