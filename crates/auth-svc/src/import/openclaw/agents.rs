//! The profiles of all agents, each login once.
//!
//! OpenClaw merges an agent's own profiles over those of the agent `main`, and its agents copy refreshed tokens from one
//! another. So one login lies in several files, and only one of the copies has a refresh token that is not spent.

use std::collections::BTreeMap;

use serde_json::Value;

use super::sidecar::Sidecars;
use super::{MAIN, StateDir, profile_name, profiles};
use crate::import::input::{self, Refused};
use crate::import::plan::{Context, Item, Outcome, api_key, is_undecryptable, refresh_token};
use crate::import::{CODEX, OPENAI};
use crate::store::NewCredential;

/// What the agents' directories hold.
#[derive(Default)]
pub(super) struct Profiles {
    /// One line for each profile of each agent.
    pub(super) items: Vec<Item>,
    /// For each agent the profiles of its own that were taken, also where another agent's copy was.
    own: BTreeMap<String, Vec<Own>>,
}

/// A profile that an agent has of its own.
#[derive(Clone)]
pub(super) struct Own {
    /// Its id in the file.
    pub(super) id: String,
    /// Our provider.
    pub(super) provider: &'static str,
    /// The label that its credential would like.
    pub(super) label: String,
}

/// Reads every profile and keeps one of each login.
pub(super) fn read(context: &Context<'_>, dir: &StateDir<'_>, sidecars: &Sidecars<'_>) -> Result<Profiles, Refused> {
    let mut all = Profiles::default();
    let mut ids: Vec<String> = Vec::new();
    // `main` first: its labels are the plain ones.
    let (main, others): (Vec<_>, Vec<_>) = dir.agents.iter().partition(|(agent, _)| *agent == MAIN);
    for (agent, files) in main.into_iter().chain(others) {
        let own = all.own.entry(agent.clone()).or_default();
        let Some((file, document)) = &files.profiles else { continue };
        let profiles = match document.get("profiles") {
            Some(Value::Object(profiles)) => profiles,
            Some(other) => {
                return Err(Refused::new(format!("{file}: its `profiles` is {}, not an object", input::kind(other))));
            }
            None => return Err(Refused::new(format!("{file} has no `profiles`"))),
        };
        for (id, profile) in profiles {
            let item = profiles::read(context, sidecars, &profile_name(agent, id), id, profile);
            let taken = add(&mut all.items, &mut ids, id, item);
            own.extend(taken.map(|(provider, label)| Own { id: id.clone(), provider, label }));
        }
    }
    Ok(all)
}

/// Adds an item, once for each login, and returns provider and label under which the profile can be used.
fn add(items: &mut Vec<Item>, ids: &mut Vec<String>, id: &str, mut item: Item) -> Option<(&'static str, String)> {
    let taken = item.taken().map(|credential| {
        let original = items.iter().zip(&*ids).position(|(other, other_id)| {
            other.taken().is_some_and(|other| is_same_login(other, credential, other_id == id))
        });
        (if credential.provider == CODEX { CODEX } else { OPENAI }, original)
    });
    ids.push(id.to_owned());
    let Some((provider, original)) = taken else {
        items.push(item);
        return None;
    };
    let Some(original) = original.and_then(|at| items.get_mut(at)) else {
        let label = free(items, &item.taken()?.label);
        if let Outcome::Take(credential, _) = &mut item.outcome {
            credential.label.clone_from(&label);
        }
        items.push(item);
        return Some((provider, label));
    };
    let label = original.taken().map(|credential| credential.label.clone())?;
    if freshness(&item) > freshness(original) {
        std::mem::swap(original, &mut item);
        // The plainer of the two names stays.
        if let Outcome::Take(credential, _) = &mut original.outcome {
            credential.label.clone_from(&label);
        }
    }
    let why = format!("the same login as {}, whose tokens are as new or newer", original.profile);
    items.push(Item::skip(item.profile, item.provider, why));
    Some((provider, label))
}

/// `wanted`, or `wanted-2`, `wanted-3`, … where another of the items has it: orders and routes name them by it.
fn free(items: &[Item], wanted: &str) -> String {
    let taken = |label: &str| items.iter().filter_map(Item::taken).any(|other| other.label == label);
    let numbered = (2u32..).map(|n| format!("{wanted}-{n}"));
    std::iter::once(wanted.to_owned()).chain(numbered).find(|label| !taken(label)).unwrap_or_default()
}

/// True if both are one login: the same secret, the same user of the same account, or copies of one profile.
fn is_same_login(a: &NewCredential, b: &NewCredential, same_id: bool) -> bool {
    if a.provider != b.provider || a.kind != b.kind {
        return false;
    }
    if same(api_key(a), api_key(b)) || same(refresh_token(a), refresh_token(b)) {
        return true;
    }
    let same_account = same(a.account_id.as_deref(), b.account_id.as_deref());
    if is_undecryptable(a) || is_undecryptable(b) {
        let sidecar = |c: &NewCredential| c.extra["oauthRef"]["id"].as_str().map(str::to_owned);
        return same_id && (same_account || same(sidecar(a), sidecar(b)));
    }
    // One account may have several users, each with a login. The store tells logins apart in the same way.
    let user = |c: &NewCredential| c.user_id.clone().or_else(|| c.email.as_deref().map(str::to_lowercase));
    same_account && (user(a) == user(b) || user(a).is_none() || user(b).is_none())
}

fn same<T: PartialEq>(a: Option<T>, b: Option<T>) -> bool {
    a.is_some() && a == b
}

/// Which of two copies has the later tokens.
fn freshness(item: &Item) -> (bool, i64) {
    item.taken().map_or((false, 0), |c| (!is_undecryptable(c), c.access_expires_at.unwrap_or_default()))
}

impl Profiles {
    /// The profiles that an agent uses: its own, then those of `main` that it does not override.
    pub(super) fn visible(&self, agent: &str) -> Vec<Own> {
        let own = |agent: &str| self.own.get(agent).map(Vec::as_slice).unwrap_or_default();
        let mut visible = own(agent).to_vec();
        let inherited = own(MAIN).iter().filter(|main| visible.iter().all(|own| own.id != main.id));
        let inherited: Vec<Own> = inherited.cloned().collect();
        visible.extend(inherited);
        visible
    }

    /// The agents' names, if any of them has a login that `main` has not: then each must be kept to its own. Otherwise
    /// nothing, and every agent may use every credential.
    pub(super) fn agents_apart(&self) -> Vec<&str> {
        let shared: Vec<String> = self.visible(MAIN).into_iter().map(|own| own.label).collect();
        let is_apart = self.own.values().flatten().any(|own| !shared.contains(&own.label));
        if is_apart { self.own.keys().map(String::as_str).collect() } else { Vec::new() }
    }
}
