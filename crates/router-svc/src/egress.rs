//! Which egresses may make a route's calls: what its provider allows, and what the agent does.

use std::collections::BTreeMap;

use config::{Config, EgressRule};
use proto::common::v1 as pb;

/// Labels of every egress, by its name.
#[derive(Debug)]
pub(crate) struct Egresses(BTreeMap<String, Vec<String>>);

impl Egresses {
    pub(crate) fn of(config: &Config) -> Self {
        let labels = |(name, egress): (&String, &config::Egress)| (name.clone(), egress.labels.clone());
        Self(config.gateway.transports.iter().map(labels).collect())
    }

    /// For the table's digest: the names matter where two rules meet.
    pub(crate) fn digested(&self) -> &BTreeMap<String, Vec<String>> {
        &self.0
    }

    /// Both rules as one: an egress has to satisfy both; what the agent prefers comes first.
    pub(crate) fn rule(&self, provider: Option<&EgressRule>, agent: Option<&EgressRule>) -> Option<pb::EgressRule> {
        let (first, second) = match (provider, agent) {
            (None, None) => return None,
            (Some(one), None) | (None, Some(one)) => {
                return Some(pb::EgressRule { require: one.require.clone(), prefer: one.prefer.clone() });
            }
            (Some(provider), Some(agent)) => (agent, provider),
        };
        let prefer = [first.prefer.as_slice(), &second.prefer].concat();
        let require = match (first.require.as_slice(), second.require.as_slice()) {
            (only, []) | ([], only) => only.to_vec(),
            (agent, provider) => self.in_both(agent, provider),
        };
        Some(pb::EgressRule { require, prefer })
    }

    /// Names of the egresses that satisfy both lists. Where none does, one entry that is no name says so: an empty list
    /// would allow all.
    fn in_both(&self, agent: &[String], provider: &[String]) -> Vec<String> {
        let satisfies = |words: &[String], name: &String, labels: &[String]| {
            words.iter().any(|word| word == name || labels.contains(word))
        };
        let both = |(name, labels): &(&String, &Vec<String>)| {
            satisfies(agent, name, labels) && satisfies(provider, name, labels)
        };
        let names: Vec<String> = self.0.iter().filter(both).map(|(name, _)| name.clone()).collect();
        if names.is_empty() {
            return vec![format!("{} and {}", provider.join(" or "), agent.join(" or "))];
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(require: &[&str], prefer: &[&str]) -> EgressRule {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        EgressRule { require: owned(require), prefer: owned(prefer) }
    }

    #[test]
    fn an_egress_satisfies_both_rules() {
        let labels = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let egresses = Egresses(BTreeMap::from([
            ("a".to_owned(), labels(&["home", "eu"])),
            ("b".to_owned(), labels(&["cloud", "eu"])),
            ("c".to_owned(), labels(&["cloud"])),
        ]));
        let of = |provider: Option<EgressRule>, agent: Option<EgressRule>| {
            egresses.rule(provider.as_ref(), agent.as_ref()).map(|rule| (rule.require, rule.prefer))
        };
        assert_eq!(of(None, None), None);
        assert_eq!(of(Some(rule(&["eu"], &["b"])), None), Some((labels(&["eu"]), labels(&["b"]))));
        assert_eq!(
            of(Some(rule(&["eu"], &["b"])), Some(rule(&[], &["a"]))),
            Some((labels(&["eu"]), labels(&["a", "b"])))
        );
        assert_eq!(of(Some(rule(&["eu"], &[])), Some(rule(&["cloud"], &[]))), Some((labels(&["b"]), vec![])));
        let never = of(Some(rule(&["home"], &[])), Some(rule(&["c"], &[]))).expect("a rule");
        assert_eq!(never.0, ["home and c"], "no egress has such a name");
    }
}
