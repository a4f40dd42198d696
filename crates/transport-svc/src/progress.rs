//! How far one upstream request has come, and the account of it at the end: the outcome, the span, a log line.

use std::sync::Arc;

use domain::{Failure, Usage};
use http::{HeaderMap, Version};
use proto::common::v1::{Header, QuotaWindow};
use proto::transport::v1::{Outcome, Sent, Timings};
use secrecy::{ExposeSecret, SecretString};
use service_kit::{failure_to_proto, usage_to_proto};
use tokio::time::Instant;
use tracing::{Span, field};

use crate::classify::{self, quota};
use crate::headers;
use crate::send::{Handed, Response};
use crate::targets::{Endpoint, Target};

/// So much of a token's beginning is looked for; a shorter one is no secret worth the search.
const MIN_SECRET_BYTES: usize = 8;

/// One request under way. Dropped before its end, it was given up by the caller, and its span says so.
#[derive(Debug)]
pub(crate) struct Progress {
    received: Instant,
    call_id: String,
    credential_id: String,
    egress: Arc<str>,
    url: String,
    token: SecretString,
    span: Span,
    pub(crate) handed: Handed,
    pub(crate) sent: Sent,
    status: Option<u16>,
    /// The upstream's response headers.
    pub(crate) headers: Arc<HeaderMap>,
    http_version: &'static str,
    headers_at: Option<Instant>,
    first_event_at: Option<Instant>,
    pub(crate) response_id: Option<String>,
    pub(crate) usage: Option<Usage>,
    /// Events relayed.
    pub(crate) events: i32,
    pub(crate) terminal_relayed: bool,
    /// What the response headers say of the quota.
    quota: Vec<QuotaWindow>,
    /// True once a head has told the headers and the quota.
    head_told: bool,
    /// The upstream cannot read encrypted reasoning of earlier turns.
    pub(crate) reasoning_refused: bool,
    /// True if the request holds such reasoning: only then is there another request to make.
    pub(crate) holds_reasoning: bool,
    finished: bool,
}

/// What a request is known by.
#[derive(Debug)]
pub(crate) struct About<'a> {
    pub(crate) received: Instant,
    pub(crate) call_id: &'a str,
    pub(crate) credential_id: &'a str,
    pub(crate) egress: &'a Arc<str>,
    pub(crate) target: &'a Target,
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) method: &'static str,
    pub(crate) token: SecretString,
}

impl Progress {
    /// Opens the upstream span, a child of the current one.
    pub(crate) fn begin(about: About<'_>) -> Self {
        let name = format!("{} {}", about.method, about.endpoint.path);
        let span = tracing::info_span!(target: "hop", "upstream", otel.name = name.as_str(), otel.kind = "client",
            switchboard.service = domain::service::UPSTREAM, switchboard.call_id = about.call_id,
            switchboard.target = about.target.id.as_str(), switchboard.egress = about.egress.as_ref(),
            http.request.method = about.method, url.full = about.endpoint.shown.as_str(),
            server.address = about.endpoint.base.host.as_str(), network.protocol.version = field::Empty,
            http.response.status_code = field::Empty, upstream.request_id = field::Empty, cf.ray = field::Empty,
            otel.status_code = field::Empty, switchboard.reason = field::Empty);
        Self {
            received: about.received,
            call_id: about.call_id.to_owned(),
            credential_id: about.credential_id.to_owned(),
            egress: Arc::clone(about.egress),
            url: about.endpoint.shown.clone(),
            token: about.token,
            span,
            handed: Handed::default(),
            sent: Sent::Sent,
            status: None,
            headers: Arc::default(),
            http_version: "",
            headers_at: None,
            first_event_at: None,
            response_id: None,
            usage: None,
            events: 0,
            terminal_relayed: false,
            quota: Vec::new(),
            head_told: false,
            reasoning_refused: false,
            holds_reasoning: false,
            finished: false,
        }
    }

    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    /// The response headers have come.
    pub(crate) fn headers_arrived(&mut self, response: &Response, now_s: i64) {
        self.headers_at = Some(Instant::now());
        self.status = Some(response.status().as_u16());
        self.headers = Arc::clone(response.headers());
        self.quota = quota::windows(&self.headers, now_s);
        self.http_version = match response.version() {
            Version::HTTP_2 => "HTTP/2",
            Version::HTTP_10 => "HTTP/1.0",
            _ => "HTTP/1.1",
        };
        self.span.record("http.response.status_code", response.status().as_u16());
        self.span.record("network.protocol.version", self.http_version.trim_start_matches("HTTP/"));
        if let Some(id) = classify::request_id(&self.headers) {
            self.span.record("upstream.request_id", id.as_str());
        }
        if let Some(ray) = classify::ray_id(&self.headers) {
            self.span.record("cf.ray", ray.as_str());
        }
    }

    /// The upstream's status; 0 before it came.
    pub(crate) fn status(&self) -> u16 {
        self.status.unwrap_or_default()
    }

    /// Events were relayed, or with `part` the beginning of one.
    pub(crate) fn relayed(&mut self, events: usize, part: bool) {
        if events > 0 || part {
            self.first_event_at.get_or_insert_with(Instant::now);
        }
        self.events = self.events.saturating_add(i32::try_from(events).unwrap_or(i32::MAX));
    }

    pub(crate) fn relayed_headers(&self) -> Vec<Header> {
        headers::relayed(&self.headers)
    }

    /// The quota for the head; the outcome does not repeat it.
    pub(crate) fn tell_quota(&mut self) -> Vec<QuotaWindow> {
        self.head_told = true;
        self.quota.clone()
    }

    /// Closes the account.
    pub(crate) fn finish(&mut self, failure: Option<Failure>) -> Outcome {
        self.finished = true;
        let failure = failure.map(|failure| self.scrubbed(failure));
        let total_us = self.since(Instant::now());
        self.tell(failure.as_ref(), total_us);
        let exhausted = failure.as_ref().and_then(|f| quota::exhausted_by(f, &self.headers, &self.quota));
        let quota = std::mem::take(&mut self.quota);
        Outcome {
            failure: failure.as_ref().map(failure_to_proto),
            status: self.status.map(i32::from),
            url: self.url.clone(),
            upstream_request_id: classify::request_id(&self.headers),
            ray_id: classify::ray_id(&self.headers),
            response_id: self.response_id.clone(),
            usage: self.usage.as_ref().map(usage_to_proto),
            sent: self.sent as i32,
            terminal_relayed: self.terminal_relayed,
            egress: self.egress.as_ref().to_owned(),
            timings: Some(Timings {
                sent_us: self.handed.at().map(|at| self.since(at)),
                headers_us: self.headers_at.map(|at| self.since(at)),
                first_event_us: self.first_event_at.map(|at| self.since(at)),
                total_us,
            }),
            http_version: self.http_version.to_owned(),
            events: self.events,
            headers: if failure.is_some() || !self.head_told { self.relayed_headers() } else { Vec::new() },
            span_id: telemetry::span_id(&self.span).unwrap_or_default(),
            quota: if self.head_told { Vec::new() } else { quota },
            exhausted,
            reasoning_refused: failure.is_some() && self.reasoning_refused && self.holds_reasoning,
        }
    }

    fn since(&self, at: Instant) -> f64 {
        at.saturating_duration_since(self.received).as_secs_f64() * 1e6
    }

    /// An upstream that quotes the credential back must not make us print it.
    fn scrubbed(&self, mut failure: Failure) -> Failure {
        let token = self.token.expose_secret();
        failure.message = without(&failure.message, token);
        failure.param = failure.param.map(|param| without(&param, token));
        failure
    }

    fn tell(&self, failure: Option<&Failure>, total_us: f64) {
        let duration_ms = (total_us / 1000.0).round();
        let (call_id, credential, url) = (&self.call_id, &self.credential_id, &self.url);
        let Some(failure) = failure else {
            tracing::debug!(%call_id, %credential, %url, events = self.events, duration_ms, "upstream request completed");
            return;
        };
        self.span.record("otel.status_code", "ERROR");
        self.span.record("switchboard.reason", failure.reason.as_str());
        tracing::warn!(%call_id, %credential, %url, reason = %failure.reason, status = self.status,
            upstream_request_id = failure.upstream_request_id, ray_id = failure.ray_id, events = self.events,
            duration_ms, "upstream request failed: {}", failure.message);
    }
}

/// `text` without the token. A quotation is cut to a length before it gets here, so the token may be there in part: what
/// begins like it is taken out as far as its letters go.
fn without(text: &str, token: &str) -> String {
    let Some(beginning) = token.get(..MIN_SECRET_BYTES) else { return text.to_owned() };
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, found)) = rest.find(beginning).and_then(|at| rest.split_at_checked(at)) {
        clean.push_str(before);
        clean.push_str("[redacted]");
        rest = found.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || "-._~+/=".contains(c));
    }
    clean + rest
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        self.span.record("otel.status_code", "ERROR");
        self.span.record("switchboard.reason", domain::Reason::Cancelled.as_str());
        tracing::info!(call_id = %self.call_id, url = %self.url, events = self.events,
            "upstream request given up: the caller went away");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_token_is_taken_out_whole_or_cut() {
        let token = "eyJhbGciOiJI.eyJzdWIi.c2ln";
        assert_eq!(
            without(&format!("it says \"Bearer {token}\", twice: {token}"), token),
            "it says \"Bearer [redacted]\", twice: [redacted]"
        );
        assert_eq!(without("cut: eyJhbGciOiJI.eyJz…\"", token), "cut: [redacted]…\"");
        assert_eq!(without("nothing of it", token), "nothing of it");
        assert_eq!(without("short", "short"), "short");
    }
}
