//! What an operator should know: found by auth-svc about credentials and the store, and by `doctor` about the rest.

use std::fmt;

use domain::Reason;
use proto::common::v1 as pb;
use serde::Serialize;

/// How bad it is. The order is the order in which findings are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It makes calls fail now.
    Error,
    /// It will, or may.
    Warning,
    /// It was looked at and is well.
    Ok,
}

impl Severity {
    /// Its name in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Ok => "ok",
        }
    }
}

/// Something that was found, with what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about, e.g. "credential main".
    pub subject: String,
    /// What was found; reads alone, holds no secret.
    pub message: String,
    /// What to do; empty where nothing is.
    pub next_step: String,
    /// The reason that calls fail with, or would.
    pub reason: Option<String>,
}

impl Finding {
    /// Of a severity.
    pub fn new(severity: Severity, subject: impl Into<String>, message: impl Into<String>) -> Self {
        let (subject, message) = (subject.into(), message.into());
        Self { severity, subject, message, next_step: String::new(), reason: None }
    }

    /// It was looked at and is well.
    pub fn ok(subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Severity::Ok, subject, message)
    }

    /// It will make calls fail, or may.
    pub fn warning(subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, subject, message)
    }

    /// It makes calls fail now.
    pub fn error(subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, subject, message)
    }

    /// What to do.
    #[must_use]
    pub fn next(mut self, step: impl Into<String>) -> Self {
        self.next_step = step.into();
        self
    }

    /// The reason that calls fail with.
    #[must_use]
    pub fn reason(mut self, reason: Reason) -> Self {
        self.reason = Some(reason.as_str().to_owned());
        self
    }

    /// As it is told beside a service's health. What is wrong with one credential is a warning there, since the service
    /// serves and to start it again would mend nothing; `doctor` calls it an error. A database that takes no writes is
    /// what makes a service not ready, and stays an error.
    #[must_use]
    pub fn beside(self) -> Self {
        let ours = self.reason.as_deref() == Some(Reason::StoreUnavailable.as_str());
        Self { severity: if ours { self.severity } else { self.severity.max(Severity::Warning) }, ..self }
    }

    /// As it travels.
    pub fn to_proto(&self) -> pb::Finding {
        pb::Finding {
            severity: self.severity.as_str().to_owned(),
            subject: self.subject.clone(),
            message: self.message.clone(),
            next_step: self.next_step.clone(),
            reason: self.reason.clone(),
        }
    }

    /// As it came. A severity that this build does not know is at least worth a look.
    pub fn from_proto(finding: pb::Finding) -> Self {
        let severity = match finding.severity.as_str() {
            "ok" => Severity::Ok,
            "error" => Severity::Error,
            _ => Severity::Warning,
        };
        let pb::Finding { subject, message, next_step, reason, .. } = finding;
        Self { severity, subject, message, next_step, reason }
    }
}

impl fmt::Display for Finding {
    /// One line, and the next step indented.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Warning => "warn",
            other => other.as_str(),
        };
        write!(f, "{severity:<5}  {}: {}", self.subject, self.message)?;
        if self.next_step.is_empty() {
            return Ok(());
        }
        // Commands stand on lines of their own, and stay there.
        write!(f, "\n       next: {}", self.next_step.replace('\n', "\n       "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_travel_and_are_sorted_by_how_bad_they_are() {
        let warning = Finding::warning("credential main", "it is borrowed").next("log in");
        let error = Finding::error("database", "it is full").reason(Reason::StoreUnavailable);
        let ok = Finding::ok("server", "serving");
        let mut all = vec![ok.clone(), warning.clone(), error.clone()];
        all.sort_by_key(|finding| finding.severity);
        assert_eq!(all, [error.clone(), warning.clone(), ok.clone()]);
        for finding in [error, warning, ok] {
            assert_eq!(Finding::from_proto(finding.to_proto()), finding);
        }
        assert_eq!(all[1].to_string(), "warn   credential main: it is borrowed\n       next: log in");
        let steps = Finding::error("database", "it is damaged").next("type\n  ls").to_string();
        assert_eq!(steps, "error  database: it is damaged\n       next: type\n         ls");
    }
}
