//! OpenClaw's state directory, as versions 2026.2 to 2026.5 leave it: profiles for each agent, sidecars with tokens,
//! the order of profiles, and routes.
//!
//! From 2026.9 on the profiles lie in SQLite databases whose schema is private and versioned. Those are not read, but
//! named, with the way out.

mod agents;
mod overrides;
mod profiles;
mod references;
mod routes;
pub(crate) mod sidecar;
mod state;

use std::collections::BTreeMap;

use proto::auth::v1::{ImportCredentialsRequest, ImportFile};
use serde_json::{Map, Value};

pub(super) use routes::Routes;

use super::input::{self, Refused};
use super::plan::{Context, Plan};
use super::{CODEX, DEFAULT_LABEL, OPENAI};
use crate::names::{LONGEST as LONGEST_LABEL, is_hidden, label_problem};
use sidecar::Sidecars;

/// The agent whose profiles all others inherit.
pub(crate) const MAIN: &str = "main";
/// The configuration.
const CONFIG: &str = "openclaw.json";

/// What one agent's directory holds.
#[derive(Default)]
pub(crate) struct AgentFiles {
    /// `auth-profiles.json`, and the name by which errors shall call it.
    pub(crate) profiles: Option<(String, Map<String, Value>)>,
    /// `auth-state.json`, likewise.
    state: Option<(String, Map<String, Value>)>,
}

/// The whole directory, read.
#[derive(Default)]
pub(crate) struct StateDir<'a> {
    /// By agent.
    pub(crate) agents: BTreeMap<String, AgentFiles>,
    /// By id.
    pub(crate) sidecars: BTreeMap<&'a str, &'a ImportFile>,
    config: Option<Map<String, Value>>,
    /// SQLite files, by name.
    pub(crate) databases: Vec<&'a str>,
}

pub(super) fn plan(context: &Context<'_>, request: &ImportCredentialsRequest) -> Result<Plan, Refused> {
    if request.label.is_some() {
        return Err(
            Refused::new("an OpenClaw import keeps the names of the profiles; a label is for auth.json").param("label")
        );
    }
    let dir = read(&request.files)?;
    if dir.agents.values().all(|agent| agent.profiles.is_none()) {
        return Err(no_profiles(&dir));
    }
    let seed = request.secret_seed.as_ref().map(|seed| Ok((seed.name.as_str(), input::text(seed)?.trim())));
    let sidecars = Sidecars::new(&dir.sidecars, seed.transpose()?);

    let mut plan = Plan::default();
    let found = agents::read(context, &dir, &sidecars)?;
    plan.orders = state::order(&dir, MAIN, &found);
    let credentials = found.agents_apart().into_iter().map(|agent| {
        let labels = state::order(&dir, agent, &found).into_iter().flat_map(|order| order.labels).collect();
        (agent.to_owned(), labels)
    });
    plan.routes = routes::read(dir.config.as_ref(), credentials.collect(), &found.items, &mut plan.notes);
    plan.items = found.items;
    plan.notes.extend(dir.databases.first().map(|name| {
        format!(
            "{name}: this OpenClaw keeps its profiles in SQLite now, which is not read; the JSON files that were read \
             may be older, and their refresh tokens spent. If a credential needs a login, run `switchboard login codex`"
        )
    }));
    plan.other_holder = Some(
        "OpenClaw still holds it: stop its gateway and every other agent that uses the login, or point them at \
         Switchboard"
            .to_owned(),
    );
    Ok(plan)
}

/// Sorts the files by what they are and reads all but the sidecars, whose faults are their profiles' own.
pub(crate) fn read(files: &[ImportFile]) -> Result<StateDir<'_>, Refused> {
    let mut dir = StateDir::default();
    for file in files {
        let path: Vec<&str> = file.name.split('/').filter(|part| *part != ".").collect();
        match path.as_slice() {
            [CONFIG] => dir.config = Some(input::lenient_object(file)?),
            ["agents", agent, "agent", "auth-profiles.json"] => {
                let profiles = Some((file.name.clone(), input::object(file)?));
                dir.agents.entry((*agent).to_owned()).or_default().profiles = profiles;
            }
            ["agents", agent, "agent", "auth-state.json"] => {
                let state = Some((file.name.clone(), input::object(file)?));
                dir.agents.entry((*agent).to_owned()).or_default().state = state;
            }
            ["credentials", "auth-profiles", sidecar] => {
                dir.sidecars.insert(sidecar.strip_suffix(".json").unwrap_or(sidecar), file);
            }
            [.., last] if last.ends_with(".sqlite") => dir.databases.push(&file.name),
            _ => {
                return Err(Refused::new(format!(
                    "{} is no file of an OpenClaw state directory that an import reads",
                    file.name
                )));
            }
        }
    }
    Ok(dir)
}

fn no_profiles(dir: &StateDir<'_>) -> Refused {
    match dir.databases.first() {
        Some(name) => Refused::new(format!(
            "this OpenClaw keeps its profiles in SQLite ({name}), whose schema is private and changes: it is not read, \
             and there is no agents/*/agent/auth-profiles.json"
        ))
        .next_step(
            "run `switchboard login codex` for a login of Switchboard's own, or `switchboard import codex` if Codex CLI \
             is logged in on this host; a state directory from before the move (2026.5 or older) can be imported too",
        ),
        None => Refused::new("there is no agents/*/agent/auth-profiles.json: this is no OpenClaw state directory")
            .next_step("name the state directory: `switchboard import openclaw STATE_DIR` (OpenClaw's default is ~/.openclaw)"),
    }
}

/// Our provider for one of OpenClaw's names; none for those that are not served.
pub(crate) fn provider(name: &str) -> Option<&'static str> {
    match name.trim().to_ascii_lowercase().as_str() {
        "openai-codex" | "codex" | "codex-cli" => Some(CODEX),
        "openai" => Some(OPENAI),
        _ => None,
    }
}

/// A profile's name as a label: what a person would type at a prompt. Without the account's address, which many profiles
/// are named by: labels stand in metrics and logs.
pub(in crate::import) fn label(name: &str) -> String {
    let plain = |c: char| if is_hidden(c) || c.is_whitespace() { '-' } else { c };
    let parts: Vec<String> = name
        .split('/')
        .map(|part| part.split(':').filter(|word| !word.contains('@')).collect::<Vec<_>>().join(":"))
        .filter(|part| !part.is_empty())
        .collect();
    let label: String = parts.join("/").chars().map(plain).take(LONGEST_LABEL).collect();
    if label_problem(&label).is_some() { DEFAULT_LABEL.to_owned() } else { label }
}

/// The profile of an item, as its agent calls it.
pub(crate) fn profile_name(agent: &str, id: &str) -> String {
    if agent == MAIN { id.to_owned() } else { format!("{agent}/{id}") }
}
