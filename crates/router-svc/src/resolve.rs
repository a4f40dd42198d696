//! The rules that make routes of a model name. Pure: a table and a question in, routes or a refusal out.
//!
//! Fallbacks belong to the agent (or to the defaults), not to the model: they follow whatever model was asked for, in
//! their order, less those that are that very route or that a list does not allow.

use domain::{Failure, ModelRef, Reason, service};
use proto::router::v1::{Refusal, Route};

use crate::names::{Misnamed, Named};
use crate::nearest::nearest;
use crate::table::{Agent, Table};

/// What is asked.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Question<'a> {
    /// Model name as the caller gave it; empty means the agent's own.
    pub(crate) model: &'a str,
    /// Agent that calls.
    pub(crate) agent: &'a str,
    /// Patterns of the agent's key; empty allows all.
    pub(crate) key_allows: &'a [String],
}

/// Why there is no route.
#[derive(Debug, PartialEq)]
pub(crate) struct Refused {
    pub(crate) reason: Reason,
    pub(crate) message: String,
    /// Known names that may have been meant, the nearest first. Only names that this caller may use.
    pub(crate) nearest: Vec<String>,
}

impl Refused {
    pub(crate) fn into_failure(self) -> Failure {
        Failure::new(self.reason, service::ROUTER, self.message).param("model")
    }

    pub(crate) fn into_proto(self) -> Refusal {
        Refusal { reason: self.reason.as_str().to_owned(), message: self.message, nearest: self.nearest }
    }
}

/// Takes down how a name was resolved, for `Explain`; a call does not pay for it.
#[derive(Debug)]
pub(crate) struct Steps(Option<Vec<String>>);

impl Steps {
    pub(crate) fn off() -> Self {
        Self(None)
    }

    pub(crate) fn on() -> Self {
        Self(Some(Vec::new()))
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        self.0.unwrap_or_default()
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.0 {
            lines.push(line());
        }
    }
}

/// The route of a name, then its fallbacks.
pub(crate) fn resolve(table: &Table, question: Question<'_>, steps: &mut Steps) -> Result<Vec<Route>, Refused> {
    let agent = table.agent(question.agent);
    let lists = Lists::new(table, question, agent);
    steps.note(|| {
        let own = if table.agents.contains_key(question.agent) { "has its table" } else { "has no table of its own" };
        format!("agent {:?} {own} in the configuration", question.agent)
    });
    let requested = requested(table, question, agent, &lists)?;
    let name = requested.canonical();
    steps.note(|| match question.model.trim() {
        "" => format!("no model asked for -> {name} ({})", requested.rule),
        text => format!("{text:?} -> {name} ({})", requested.rule),
    });
    if !table.models.contains_key(&name.to_string()) {
        steps.note(|| format!("{name} is not under [models]; the name goes upstream as it is"));
    }
    if let Some(list) = lists.refusing(&name) {
        return Err(Refused {
            reason: Reason::AgentNotAllowed,
            message: format!("agent {:?} may not use model {name}: it is not in {list}", question.agent),
            nearest: Vec::new(),
        });
    }
    steps.note(|| lists.describe());
    steps.note(|| describe(&requested));
    let mut routes = vec![route(table, &requested, agent, false)];
    add_fallbacks(table, &mut routes, &requested, agent, &lists, steps);
    Ok(routes)
}

/// What the caller asked for, or the agent's own model.
fn requested(table: &Table, question: Question<'_>, agent: &Agent, lists: &Lists<'_>) -> Result<Named, Refused> {
    let text = question.model.trim();
    if text.is_empty() {
        let rule = format!("{}; {}", agent.model_from, agent.model.rule);
        return Ok(Named { rule, ..agent.model.clone() });
    }
    table.names.find(text).map_err(|error| match error {
        Misnamed::Malformed(why) => Refused {
            reason: Reason::RequestInvalid,
            message: format!("{} is not a model name: {why}", shown(text)),
            nearest: Vec::new(),
        },
        Misnamed::UnknownPrefix(prefix) => {
            let nearest = nearest(table, text, |name| lists.refusing(name).is_none());
            let known = if nearest.is_empty() {
                "no known name is open to this agent".to_owned()
            } else {
                format!("the nearest known names are {}", nearest.join(", "))
            };
            let message = format!("no route for model {}: no provider or alias {prefix:?}; {known}", shown(text));
            Refused { reason: Reason::RouteUnknown, message, nearest }
        }
    })
}

fn add_fallbacks(
    table: &Table,
    routes: &mut Vec<Route>,
    requested: &Named,
    agent: &Agent,
    lists: &Lists<'_>,
    steps: &mut Steps,
) {
    if agent.fallbacks.is_empty() {
        steps.note(|| format!("no fallbacks: {} name none", agent.fallbacks_from));
    }
    let mut taken = vec![requested];
    for (index, fallback) in agent.fallbacks.iter().enumerate() {
        let name = fallback.canonical();
        if taken.iter().any(|other| other.is_same_route(fallback)) {
            steps.note(|| format!("fallback {name} left out: that route comes before it"));
            continue;
        }
        if let Some(list) = lists.refusing(&name) {
            steps.note(|| format!("fallback {name} left out: it is not in {list}"));
            continue;
        }
        let rule = format!("fallback {} of {}; {}", index + 1, agent.fallbacks_from, fallback.rule);
        let ruled = Named { rule, ..fallback.clone() };
        steps.note(|| format!("fallback {}", describe(&ruled)));
        routes.push(route(table, &ruled, agent, true));
        taken.push(fallback);
    }
}

fn route(table: &Table, named: &Named, agent: &Agent, fallback: bool) -> Route {
    let provider = &named.provider;
    Route {
        model: named.canonical().to_string(),
        provider: provider.name.clone(),
        upstream_model: named.model.clone(),
        target: provider.target.clone(),
        realm: provider.realm.as_str().to_owned(),
        url: provider.url.clone(),
        fallback,
        credentials: agent.credentials.clone(),
        rule: named.rule.clone(),
        egress: table.egresses.rule(provider.egress.as_ref(), agent.egress.as_ref()),
    }
}

fn describe(named: &Named) -> String {
    let provider = &named.provider;
    format!(
        "{} ({}) -> target {}, {} -> {}",
        named.canonical(),
        named.rule,
        provider.target,
        provider.realm.as_str(),
        provider.url
    )
}

/// Text from outside for a message: quoted, without control characters, not too long.
fn shown(text: &str) -> String {
    const MOST: usize = 80;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{:?}…", text.get(..end).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}

/// The agent's list and its key's list. A model must be in both; a list that is not there allows all.
pub(crate) struct Lists<'a> {
    agent_name: &'a str,
    agent: &'a [String],
    key: Vec<String>,
}

impl<'a> Lists<'a> {
    pub(crate) fn new(table: &Table, question: Question<'a>, agent: &'a Agent) -> Self {
        let key = question.key_allows.iter().map(|pattern| table.names.pattern(pattern)).collect();
        Self { agent_name: question.agent, agent: &agent.allowed, key }
    }

    /// The list that does not allow `name`, for a person; none if it is allowed.
    pub(crate) fn refusing(&self, name: &ModelRef) -> Option<String> {
        if !name.allowed_by(self.agent) {
            return Some(format!("[agents.{}] allowed ({})", self.agent_name, self.agent.join(", ")));
        }
        if !name.allowed_by(&self.key) {
            return Some(format!("the list of this agent's key ({})", self.key.join(", ")));
        }
        None
    }

    fn describe(&self) -> String {
        let list = |patterns: &[String]| {
            if patterns.is_empty() { "none, all models".to_owned() } else { patterns.join(", ") }
        };
        format!("allowed: the agent's list is {}; its key's is {}", list(self.agent), list(&self.key))
    }
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
