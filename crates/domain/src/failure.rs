//! One failure: a reason from the table, the place, the next step, and what clients need beside them.

use std::fmt;

use serde::Serialize;

use crate::{Candidate, CandidateReason, Reason};

/// Names of the services, as they stand in failures, hops and logs.
pub mod service {
    /// The front door.
    pub const GATEWAY: &str = "gateway";
    /// Routes.
    pub const ROUTER: &str = "router-svc";
    /// Credentials.
    pub const AUTH: &str = "auth-svc";
    /// Upstream calls.
    pub const TRANSPORT: &str = "transport-svc";
    /// The provider itself.
    pub const UPSTREAM: &str = "upstream";
    /// The command line.
    pub const CLI: &str = "switchboard";
}

/// Why a call failed. The message reads alone and holds no secret.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The reason.
    pub reason: Reason,
    /// What happened, for a person.
    pub message: String,
    /// Where: one of [`service`].
    pub service: String,
    /// What to do next; the table's text unless the case knows better.
    pub next_step: String,
    /// True where the same call can succeed later without anybody changing anything.
    pub retryable: bool,
    /// Seconds to wait before the next try.
    pub retry_after_seconds: Option<f64>,
    /// Unix seconds at which the upstream's limit ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resets_at: Option<i64>,
    /// The account's plan as the upstream names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan_type: Option<String>,
    /// The request field at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub param: Option<String>,
    /// Every credential that was considered.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<Candidate>,
    /// HTTP status of the upstream's answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_status: Option<u16>,
    /// The edge's ray id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ray_id: Option<String>,
    /// The upstream's request id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_request_id: Option<String>,
}

impl Failure {
    /// A failure with the table's next step and retry advice.
    pub fn new(reason: Reason, service: &str, message: impl Into<String>) -> Self {
        let row = reason.row();
        Self {
            reason,
            message: message.into(),
            service: service.to_owned(),
            next_step: row.next_step.to_owned(),
            retryable: row.retryable,
            retry_after_seconds: row.retry_after_seconds,
            resets_at: None,
            plan_type: None,
            param: None,
            candidates: Vec::new(),
            upstream_status: None,
            ray_id: None,
            upstream_request_id: None,
        }
    }

    /// With a next step that fits this case better than the table's.
    #[must_use]
    pub fn next_step(mut self, text: impl Into<String>) -> Self {
        self.next_step = text.into();
        self
    }

    /// With the request field at fault.
    #[must_use]
    pub fn param(mut self, name: impl Into<String>) -> Self {
        self.param = Some(name.into());
        self
    }

    /// With the seconds to wait before the next try.
    #[must_use]
    pub fn retry_after(mut self, seconds: f64) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }

    /// Where trying again is what the caller must not do unasked, whatever the table says of the reason.
    #[must_use]
    pub fn not_retryable(mut self) -> Self {
        self.retryable = false;
        self.retry_after_seconds = None;
        self
    }

    /// The message without the candidates that [`listing`] has put at its end: for those who print them below it.
    pub fn summary(&self) -> &str {
        let listed = self.candidates.first().map(|first| format!(": {}: {} (", first.credential, reason_of(first)));
        listed.and_then(|listed| self.message.find(&listed)).map_or(self.message.as_str(), |at| &self.message[..at])
    }

    /// With the credentials that were considered.
    #[must_use]
    pub fn candidates(mut self, candidates: Vec<Candidate>) -> Self {
        self.candidates = candidates;
        self
    }
}

/// A message that names every candidate behind `what`: many clients show nothing but the message. Details are cut at a
/// word; the candidates themselves have the whole text.
pub fn listing(what: &str, candidates: &[Candidate]) -> String {
    let each: Vec<String> = candidates
        .iter()
        .map(|one| {
            let detail = shorten(one.detail.as_deref().unwrap_or_default());
            format!("{}: {} ({detail})", one.credential, reason_of(one))
        })
        .collect();
    if each.is_empty() { what.to_owned() } else { format!("{what}: {}", each.join("; ")) }
}

fn reason_of(candidate: &Candidate) -> &'static str {
    candidate.reason.map_or("", CandidateReason::as_str)
}

fn shorten(detail: &str) -> String {
    const MOST: usize = 160;
    if detail.chars().count() <= MOST {
        return detail.to_owned();
    }
    let cut: String = detail.chars().take(MOST).collect();
    // A word that is cut, a time above all, says something else.
    let whole = cut.rfind(' ').map_or(cut.as_str(), |at| cut[..at].trim_end_matches([' ', ',', ';', ':']));
    format!("{whole} …")
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.reason, self.service, self.message)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_listed_can_be_taken_away_again() {
        let candidate = |name: &str, detail: String| Candidate {
            credential: name.into(),
            eligible: false,
            reason: Some(CandidateReason::Resting),
            detail: Some(detail),
        };
        let long = format!("{} 2026-11-23T10:57:46Z", "word ".repeat(30));
        let all = vec![candidate("a", "until noon".into()), candidate("b", long)];
        let message = listing("no usable credential", &all);
        assert!(message.starts_with("no usable credential: a: resting (until noon); b: resting (word"), "{message}");
        assert!(message.ends_with("word …)"), "no word is cut: {message}");
        let failure = Failure::new(Reason::UsageLimit, service::AUTH, message).candidates(all);
        assert_eq!(failure.summary(), "no usable credential");
        assert_eq!(Failure { candidates: Vec::new(), ..failure.clone() }.summary(), failure.message);
        assert_eq!(listing("nothing", &[]), "nothing");
    }
}
