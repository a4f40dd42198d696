//! Metrics: what is counted while it happens, and what is read when somebody asks.
//!
//! Counters and histograms go to the process's one recorder. Gauges that tell a state (a credential's, a queue's) are
//! not pushed: whoever knows the state gives its [`Sample`]s at each scrape, so that what is gone is gone from the
//! page too, and no number can be older than the question. No part of this opens a port: services render the page on
//! their admin port.

pub mod names;

use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use metrics::{Label, with_local_recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

/// One value of a gauge, as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The gauge's name: one of [`names`].
    pub name: &'static str,
    /// Labels and their values. Never a token or an account id: scrapes are kept for long. A credential is named by its
    /// label, which nobody but an operator makes an account's address (`--label`, or a database from before labels went
    /// without them).
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: f64,
}

impl Sample {
    /// A value without labels.
    pub fn new(name: &'static str, value: f64) -> Self {
        Self { name, labels: Vec::new(), value }
    }

    /// With a label.
    #[must_use]
    pub fn label(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.labels.push((name, value.into()));
        self
    }
}

/// The process's recorder, and when the process began.
struct Process {
    handle: PrometheusHandle,
    /// Its name.
    service: OnceLock<&'static str>,
    /// Unix seconds.
    began: f64,
}

static PROCESS: OnceLock<Process> = OnceLock::new();

fn process() -> &'static Process {
    PROCESS.get_or_init(|| {
        let recorder = recorder();
        let handle = recorder.handle();
        // Fails only where an embedding program has a recorder of its own; then that one gets what is counted here.
        let _ = metrics::set_global_recorder(recorder);
        let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Process { handle, service: OnceLock::new(), began: began.as_secs_f64() }
    })
}

fn recorder() -> PrometheusRecorder {
    let builder = names::BUCKETS.iter().try_fold(PrometheusBuilder::new(), |builder, (name, bounds)| {
        builder.set_buckets_for_metric(Matcher::Full((*name).to_owned()), bounds)
    });
    // Fails for an empty list only, and a test holds that there is none.
    builder.unwrap_or_default().build_recorder()
}

/// Starts counting; `service` names the process. Once for each process: more calls change nothing.
pub fn install(service: &'static str) {
    let process = process();
    if process.service.set(service).is_ok() {
        names::describe_counted();
    }
}

/// Takes what was recorded into the histograms' buckets. To be called now and then where nobody scrapes.
pub fn upkeep() {
    process().handle.run_upkeep();
}

/// The whole page, in Prometheus' text format: what was counted, what the process is, and `samples`.
pub fn render(samples: &[Sample]) -> String {
    let process = process();
    let of_now = recorder();
    with_local_recorder(&of_now, || {
        names::describe_gauges();
        set(&Sample::new(names::PROCESS_START, process.began));
        let service = process.service.get().copied().unwrap_or("switchboard");
        set(&Sample::new(names::BUILD_INFO, 1.0).label("service", service).label("version", env!("CARGO_PKG_VERSION")));
        samples.iter().for_each(set);
    });
    let mut page = process.handle.render();
    page.push_str(&of_now.handle().render());
    page
}

fn set(sample: &Sample) {
    let labels: Vec<Label> = sample.labels.iter().map(|(name, value)| Label::new(*name, value.clone())).collect();
    metrics::gauge!(sample.name, labels).set(sample.value);
}

/// This process refreshes credentials: the counters are on the page before the first one ends, so that a rate over them
/// sees it.
pub fn expect_refreshes() {
    for outcome in names::REFRESH_OUTCOMES {
        metrics::counter!(names::REFRESHES, "outcome" => outcome).increment(0);
    }
}

/// A refresh ended: `refreshed`, `refused` (for good), `failed` (for now), `in_doubt` (sent, and no answer came) or `late`
/// (there is a newer login by now).
pub fn refresh_ended(outcome: &'static str) {
    metrics::counter!(names::REFRESHES, "outcome" => outcome).increment(1);
}

/// The time from the identity provider's answer to our commit of it: a process that is killed within loses the login.
pub fn answer_committed(within: Duration) {
    metrics::histogram!(names::ANSWER_TO_COMMIT).record(within.as_secs_f64());
}

/// A target is no longer tried through an egress; `-` is every target.
pub fn circuit_opened(egress: &str, target: &str) {
    metrics::counter!(names::CIRCUIT_OPENINGS, "egress" => egress.to_owned(), "target" => target.to_owned())
        .increment(1);
}

/// A timer has asked whether a target works again through an egress; `outcome` is one of
/// [`names::CIRCUIT_PROBE_OUTCOMES`].
pub fn circuit_probed(egress: &str, target: &str, outcome: &'static str) {
    metrics::counter!(names::CIRCUIT_PROBES, "egress" => egress.to_owned(), "target" => target.to_owned(),
        "outcome" => outcome)
    .increment(1);
}

/// The retry budget was spent.
pub fn retry_refused() {
    metrics::counter!(names::RETRIES_REFUSED).increment(1);
}

/// Something was refused with SHED; `what` is one of [`names::SHED_KINDS`].
pub fn shed(what: &'static str) {
    metrics::counter!(names::SHED, "what" => what).increment(1);
}

/// A connection was closed on its client, or never served; `why` is one of [`names::CLOSED_REASONS`].
pub fn connection_closed(why: &'static str) {
    metrics::counter!(names::CONNECTIONS_CLOSED, "why" => why).increment(1);
}

/// A stream of a connection was reset because its client took nothing of it; `why` is one of [`names::RESET_REASONS`].
pub fn stream_reset(why: &'static str) {
    metrics::counter!(names::STREAMS_RESET, "why" => why).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_holds_what_was_counted_and_what_is() {
        install("auth-svc");
        install("gateway");
        refresh_ended("refreshed");
        answer_committed(Duration::from_millis(2));
        upkeep();
        let state = |value: f64| Sample::new(names::CREDENTIAL_STATE, value).label("credential", "a \"b\"");
        let page = render(&[state(1.0).label("state", "ready"), Sample::new(names::PENDING_WRITES, 0.0)]);
        for part in [
            "# TYPE switchboard_refresh_total counter",
            "switchboard_refresh_total{outcome=\"refreshed\"} 1",
            "switchboard_refresh_answer_to_commit_seconds_bucket{le=\"0.0025\"} 1",
            "# TYPE switchboard_credential_state gauge",
            "switchboard_credential_state{credential=\"a \\\"b\\\"\",state=\"ready\"} 1",
            "switchboard_pending_writes 0",
            "switchboard_build_info{service=\"auth-svc\",version=\"",
            "process_start_time_seconds 1",
        ] {
            assert!(page.contains(part), "{part} is not in\n{page}");
        }
        // What was there at the last scrape and is no more is not there any more.
        assert!(!render(&[]).contains("switchboard_credential_state{"));
    }

    #[test]
    fn every_histogram_has_buckets() {
        assert!(names::BUCKETS.iter().all(|(_, bounds)| !bounds.is_empty() && bounds.is_sorted()));
    }
}
