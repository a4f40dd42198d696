//! What a configuration must mean: checks over the merged values, one module for each subject.

mod listeners;
mod models;
mod routes;
mod services;
pub(crate) mod urls;

use crate::{
    key::dotted,
    problem::{Problem, Source},
    redact::inline,
    types::Config,
};

/// Everything about the configuration that cannot be meant, in the order of its sections.
///
/// The problems name key and value; [`load`](crate::load()) adds where the value was said.
pub fn check(config: &Config) -> Vec<Problem> {
    findings(config).into_iter().map(|finding| finding.problem).collect()
}

/// As [`check`], for who can tell which of two values the user wrote.
pub(crate) fn findings(config: &Config) -> Vec<Finding> {
    let mut findings = Findings::default();
    listeners::check(config, &mut findings);
    services::check(config, &mut findings);
    routes::check(config, &mut findings);
    models::check(config, &mut findings);
    findings.0
}

/// A problem, and for two values that do not go together, the same one as seen from the other value: whichever the user
/// wrote is the one to name, and the other may be a default.
pub(crate) struct Finding {
    pub(crate) problem: Problem,
    pub(crate) counterpart: Option<Problem>,
}

/// The findings so far.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    /// Refuse the text of a key.
    fn text(&mut self, key: &[&str], text: &str, message: impl Into<String>) {
        self.problem(problem(key, Some(text), message));
    }

    /// Refuse the value of a key that is no text.
    fn value(&mut self, key: &[&str], value: impl ToString, message: impl Into<String>) {
        self.problem(Problem { value: Some(value.to_string()), ..problem(key, None, message) });
    }

    /// Refuse a key whatever its value is.
    fn key(&mut self, key: &[&str], message: impl Into<String>) {
        self.problem(problem(key, None, message));
    }

    fn problem(&mut self, problem: Problem) {
        self.0.push(Finding { problem, counterpart: None });
    }

    /// Refuse two values that do not go together.
    fn pair(&mut self, problem: Problem, counterpart: Problem) {
        self.0.push(Finding { problem, counterpart: Some(counterpart) });
    }
}

/// A problem with a key and, where it is the point, its text.
fn problem(key: &[&str], text: Option<&str>, message: impl Into<String>) -> Problem {
    let key = dotted(key);
    let value = text.map(|text| inline(&key, &text.into()));
    Problem { source: Source::Default, key, value, message: message.into() }
}
