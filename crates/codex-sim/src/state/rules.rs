//! API keys, and which scenario is set for whom.

use std::collections::{HashMap, HashSet};

use crate::{identity::fault::TokenScenario, scenario::Scenario, tokens};

/// A scenario that is set, for good or for some requests.
struct Rule<T> {
    value: T,
    remaining: Option<u32>,
}

/// Keys and scenarios. Targets are account ids, labels of API keys, and `*`.
#[derive(Default)]
pub(crate) struct Rules {
    keys: HashMap<String, String>,
    scenarios: HashMap<String, Rule<Scenario>>,
    token_scenarios: HashMap<String, Rule<TokenScenario>>,
    /// Keys that `unauthorized_once` has refused.
    rejected_keys: HashSet<String>,
}

/// How records call an API key.
pub(crate) fn key_label(key: &str) -> String {
    format!("key:{}", tokens::fingerprint(key, 12))
}

impl Rules {
    pub(crate) fn add_key(&mut self, key: &str) -> String {
        let label = key_label(key);
        self.keys.insert(key.to_owned(), label.clone());
        label
    }

    /// Every valid key.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &String> {
        self.keys.keys()
    }

    /// The label of a key that is valid.
    pub(crate) fn key(&self, key: &str) -> Option<String> {
        self.keys.get(key).cloned()
    }

    pub(crate) fn set_scenario(&mut self, target: &str, scenario: Option<Scenario>, times: Option<u32>) {
        let target = self.target(target);
        self.rejected_keys.remove(&target);
        set(&mut self.scenarios, target, scenario, times);
    }

    pub(crate) fn set_token_scenario(&mut self, target: &str, scenario: Option<TokenScenario>, times: Option<u32>) {
        set(&mut self.token_scenarios, target.to_owned(), scenario, times);
    }

    /// The scenario of a credential, counted as used.
    pub(crate) fn take_scenario(&mut self, target: &str) -> Option<Scenario> {
        take(&mut self.scenarios, target)
    }

    /// The scenario of a credential, for a look.
    pub(crate) fn peek_scenario(&self, target: &str) -> Option<&Scenario> {
        self.scenarios.get(target).map(|rule| &rule.value)
    }

    /// The identity provider's scenario for an account, else the one for everyone; counted as used.
    pub(crate) fn take_token_scenario(&mut self, account_id: Option<&str>) -> Option<TokenScenario> {
        account_id.and_then(|id| take(&mut self.token_scenarios, id)).or_else(|| take(&mut self.token_scenarios, "*"))
    }

    /// The identity provider's scenario for everyone, for endpoints that no account is known at.
    pub(crate) fn peek_token_scenario(&self) -> Option<&TokenScenario> {
        self.token_scenarios.get("*").map(|rule| &rule.value)
    }

    /// `unauthorized_once` for an API key, which has no versions: the first request only.
    pub(crate) fn rejected_key_once(&mut self, label: &str) -> bool {
        self.rejected_keys.insert(label.to_owned())
    }

    /// A key may be named by itself or by its label.
    fn target(&self, target: &str) -> String {
        if target.starts_with("sk-") { key_label(target) } else { target.to_owned() }
    }
}

fn set<T>(rules: &mut HashMap<String, Rule<T>>, target: String, value: Option<T>, remaining: Option<u32>) {
    match value.filter(|_| remaining != Some(0)) {
        Some(value) => {
            rules.insert(target, Rule { value, remaining });
        }
        None => {
            rules.remove(&target);
        }
    }
}

fn take<T: Clone>(rules: &mut HashMap<String, Rule<T>>, target: &str) -> Option<T> {
    let rule = rules.get_mut(target)?;
    let value = rule.value.clone();
    if let Some(remaining) = &mut rule.remaining {
        *remaining = remaining.saturating_sub(1);
        if *remaining == 0 {
            rules.remove(target);
        }
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counted_rule_ends_and_a_key_is_found_by_itself() {
        let mut rules = Rules::default();
        let label = rules.add_key("sk-1");
        rules.set_scenario("sk-1", Some(Scenario::ServerError), Some(1));
        assert_eq!(rules.take_scenario(&label), Some(Scenario::ServerError));
        assert_eq!(rules.take_scenario(&label), None);
        assert!(rules.rejected_key_once(&label) && !rules.rejected_key_once(&label));
    }
}
