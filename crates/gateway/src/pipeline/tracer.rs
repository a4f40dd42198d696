//! Writes the execution trace while a call runs.

use std::time::Duration;

use domain::{Attempt, AttemptResult, ExecutionTrace, Failure, Hop, Reason, service};
use http::Uri;
use proto::router::v1::Route;
use proto::transport::v1::Outcome;
use service_kit::{HopInfo, hostname};
use tokio::time::Instant;

use crate::links::Asked;

/// An attempt that has not ended.
struct Open {
    attempt: Attempt,
    began: Instant,
    info: HopInfo,
    fallback: bool,
}

/// The trace of one call so far.
pub(crate) struct Tracer {
    started: Instant,
    trace: ExecutionTrace,
    open: Option<Open>,
}

impl Tracer {
    pub(crate) fn new(call_id: &str, trace_id: &str) -> Self {
        let trace = ExecutionTrace {
            runner: "switchboard".to_owned(),
            call_id: call_id.to_owned(),
            trace_id: trace_id.to_owned(),
            ..ExecutionTrace::default()
        };
        Self { started: Instant::now(), trace, open: None }
    }

    /// The call began earlier: what was asked before it could be accepted belongs to it.
    pub(crate) fn began(&mut self, at: Instant) {
        self.started = self.started.min(at);
    }

    /// Since the call was accepted.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Notes the model as the caller named it.
    pub(crate) fn requested(&mut self, model: &str) {
        // An absurd name must not fill the records.
        self.trace.requested_model = model.chars().take(300).collect();
    }

    /// Notes the route table's digest.
    pub(crate) fn table(&mut self, digest: String) {
        self.trace.route_table = digest;
    }

    /// Notes a question to a peer.
    pub(crate) fn asked<T>(&mut self, asked: &Asked<T>) {
        let outcome = asked.result.as_ref().err().map(|f| f.reason);
        self.hop(asked.service, asked.name, asked.began, asked.took, &asked.info, outcome);
    }

    fn hop(
        &mut self,
        service: &str,
        name: &str,
        began: Instant,
        took: Duration,
        info: &HopInfo,
        outcome: Option<Reason>,
    ) {
        self.trace.hops.push(Hop {
            service: service.to_owned(),
            host: info.host.clone(),
            name: name.to_owned(),
            start_us: micros(began.saturating_duration_since(self.started)),
            duration_us: micros(took),
            outcome: outcome.map_or("ok", Reason::as_str).to_owned(),
            span_id: info.span_id.clone(),
        });
    }

    /// Notes a route that no credential was bound for.
    pub(crate) fn skipped(&mut self, route: &Route, took: Duration, reason: Reason) {
        let mut attempt = draft(route, None, None);
        attempt.result = AttemptResult::Skipped;
        attempt.reason = Some(reason.as_str().to_owned());
        attempt.elapsed_ms = took.as_secs_f64() * 1e3;
        self.trace.attempts.push(attempt);
    }

    /// Notes an egress that is not tried for now, once; without its name, that the rules allow none.
    pub(crate) fn no_egress(&mut self, route: &Route, credential: &str, egress: Option<&str>, reason: Reason) {
        let mut attempt = draft(route, Some(credential), egress);
        attempt.result = AttemptResult::Skipped;
        attempt.reason = Some(reason.as_str().to_owned());
        if !self.trace.attempts.contains(&attempt) {
            self.trace.attempts.push(attempt);
        }
    }

    /// An attempt begins.
    pub(crate) fn begin(&mut self, route: &Route, credential: &str, egress: &str) {
        let attempt = draft(route, Some(credential), Some(egress));
        self.open = Some(Open { attempt, began: Instant::now(), info: HopInfo::default(), fallback: route.fallback });
    }

    /// transport-svc has taken the attempt.
    pub(crate) fn taken(&mut self, info: HopInfo) {
        if let Some(open) = &mut self.open {
            open.info = info;
        }
    }

    /// The attempt has ended; `outcome` is missing where transport-svc gave none.
    pub(crate) fn end(&mut self, failure: Option<&Failure>, outcome: Option<&Outcome>) {
        let Some(Open { mut attempt, began, info, fallback }) = self.open.take() else { return };
        let reason = failure.map(|f| f.reason);
        attempt.elapsed_ms = began.elapsed().as_secs_f64() * 1e3;
        attempt.result = if failure.is_some() { AttemptResult::Failed } else { AttemptResult::Success };
        attempt.reason = reason.map(|r| r.as_str().to_owned());
        self.hop(service::TRANSPORT, "respond", began, began.elapsed(), &info, reason);
        if let Some(outcome) = outcome {
            fill(&mut attempt, outcome);
            self.upstream_hop(outcome, began, reason);
        }
        if failure.is_none() {
            self.trace.winner_provider = Some(attempt.provider.clone());
            self.trace.winner_model = Some(attempt.model.clone());
            self.trace.fallback_used = fallback;
        }
        self.trace.attempts.push(attempt);
    }

    fn upstream_hop(&mut self, outcome: &Outcome, began: Instant, reason: Option<Reason>) {
        let timings = outcome.timings.unwrap_or_default();
        // Without these nothing reached the upstream, and there is no hop to show.
        if timings.sent_us.is_none() && outcome.status.is_none() {
            return;
        }
        let url: Uri = outcome.url.parse().unwrap_or_default();
        let host = url.authority().map(|a| a.as_str().to_owned()).unwrap_or_default();
        let sent = timings.sent_us.unwrap_or(0.0).max(0.0);
        let took = Duration::try_from_secs_f64((timings.total_us - sent).max(0.0) / 1e6).unwrap_or_default();
        let start = began + Duration::try_from_secs_f64(sent / 1e6).unwrap_or_default();
        let info = HopInfo { host, span_id: outcome.span_id.clone(), ..HopInfo::default() };
        self.hop(service::UPSTREAM, &format!("POST {}", url.path()), start, took, &info, reason);
    }

    /// The hops known by now, as a `server-timing` header.
    pub(crate) fn server_timing(&self) -> String {
        let mut parts: Vec<String> = self
            .trace
            .hops
            .iter()
            .map(|hop| (hop.service.as_str(), hop.name.as_str(), hop.duration_us))
            // A name is a token, and an upstream hop's holds a path.
            .map(|(service, name, us)| match service {
                service::UPSTREAM => format!("upstream;dur={:.3}", us / 1e3),
                _ => format!("{service}.{name};dur={:.3}", us / 1e3),
            })
            .collect();
        if let Some(open) = &self.open {
            parts.push(format!("transport-svc.respond;dur={:.3}", micros(open.began.elapsed()) / 1e3));
        }
        parts.push(format!("gateway.call;dur={:.3}", micros(self.elapsed()) / 1e3));
        parts.join(", ")
    }

    /// The whole trace. An attempt that is still open ended with the call.
    pub(crate) fn finish(&mut self, failure: Option<&Failure>, span_id: String) -> ExecutionTrace {
        self.end(failure, None);
        let info = HopInfo { host: hostname().to_owned(), span_id, ..HopInfo::default() };
        let reason = failure.map(|f| f.reason);
        self.hop(service::GATEWAY, "call", self.started, self.elapsed(), &info, reason);
        self.trace.hops.sort_by(|a, b| a.start_us.total_cmp(&b.start_us));
        std::mem::take(&mut self.trace)
    }
}

fn micros(duration: Duration) -> f64 {
    // Whole nanoseconds are plenty; more digits are noise in JSON.
    (duration.as_secs_f64() * 1e9).round() / 1e3
}

fn draft(route: &Route, credential: Option<&str>, egress: Option<&str>) -> Attempt {
    Attempt {
        provider: route.provider.clone(),
        model: route.upstream_model.clone(),
        credential: credential.map(str::to_owned),
        egress: egress.map(str::to_owned),
        url: route.url.clone(),
        result: AttemptResult::Failed,
        reason: None,
        status: None,
        upstream_request_id: None,
        ray_id: None,
        elapsed_ms: 0.0,
    }
}

fn fill(attempt: &mut Attempt, outcome: &Outcome) {
    attempt.status = outcome.status.and_then(|s| u16::try_from(s).ok());
    attempt.upstream_request_id.clone_from(&outcome.upstream_request_id);
    attempt.ray_id.clone_from(&outcome.ray_id);
    if !outcome.url.is_empty() {
        attempt.url.clone_from(&outcome.url);
    }
}
