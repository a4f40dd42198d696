//! The rules: which egresses are allowed, and in which order they are tried.

use proto::common::v1::EgressRule;

/// An egress as rules see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    /// Its name in the configuration.
    pub(crate) name: String,
    /// Its labels.
    pub(crate) labels: Vec<String>,
}

impl Known {
    fn is(&self, word: &str) -> bool {
        self.name == word || self.labels.iter().any(|label| label == word)
    }

    /// With its labels, for a person.
    pub(crate) fn told(&self) -> String {
        if self.labels.is_empty() { self.name.clone() } else { format!("{} ({})", self.name, self.labels.join(", ")) }
    }
}

/// The rules that an egress has to satisfy, all of them.
#[derive(Clone, Copy, Default)]
pub(super) struct Rules<'a> {
    /// The route's: its provider's and its agent's.
    pub(super) route: Option<&'a EgressRule>,
    /// The credential's own.
    pub(super) credential: Option<&'a EgressRule>,
}

impl Rules<'_> {
    fn allow(self, egress: &Known) -> bool {
        let rules = [self.route, self.credential];
        rules.into_iter().flatten().all(|rule| rule.require.is_empty() || rule.require.iter().any(|w| egress.is(w)))
    }

    /// How far down the list of what is preferred; the credential's list counts first.
    fn rank(self, egress: &Known) -> (usize, usize) {
        let of = |rule: Option<&EgressRule>| {
            let wanted = rule.map(|rule| rule.prefer.as_slice()).unwrap_or_default();
            wanted.iter().position(|word| egress.is(word)).unwrap_or(wanted.len())
        };
        (of(self.credential), of(self.route))
    }

    /// True if a rule prefers this egress: then it shares the calls with those that are preferred alike.
    fn prefers(self, egress: &Known) -> bool {
        let rules = [self.route, self.credential];
        rules.into_iter().flatten().any(|rule| rule.prefer.iter().any(|word| egress.is(word)))
    }
}

/// Places of the allowed egresses in `known`, the best first. Those that one word prefers share the sessions among them,
/// each session always with the same one; the others keep their order.
pub(super) fn order(known: &[Known], rules: Rules<'_>, session: &str) -> Vec<usize> {
    let mut allowed: Vec<_> = known.iter().enumerate().filter(|(_, egress)| rules.allow(egress)).collect();
    allowed.sort_by_cached_key(|(index, egress)| {
        let shares = !session.is_empty() && rules.prefers(egress);
        (rules.rank(egress), if shares { weight(session, &egress.name) } else { [0; 32] }, *index)
    });
    allowed.into_iter().map(|(index, _)| index).collect()
}

/// Rendezvous: the egress with the least weight takes the session, and no other session moves when one goes.
fn weight(session: &str, egress: &str) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(session.as_bytes()).update(b"\0").update(egress.as_bytes());
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Vec<Known> {
        let egress = |name: &str, labels: &[&str]| Known {
            name: name.into(),
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        };
        vec![egress("local", &[]), egress("a", &["eu", "home"]), egress("b", &["eu"]), egress("c", &["us"])]
    }

    fn rule(require: &[&str], prefer: &[&str]) -> EgressRule {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        EgressRule { require: owned(require), prefer: owned(prefer) }
    }

    fn names(route: Option<EgressRule>, credential: Option<EgressRule>, session: &str) -> Vec<String> {
        let (all, rules) = (known(), Rules { route: route.as_ref(), credential: credential.as_ref() });
        order(&all, rules, session).into_iter().map(|index| all[index].name.clone()).collect()
    }

    #[test]
    fn both_rules_require_and_the_credentials_preference_comes_first() {
        assert_eq!(names(None, None, "s"), ["local", "a", "b", "c"]);
        assert_eq!(names(Some(rule(&["eu"], &[])), None, ""), ["a", "b"]);
        assert_eq!(names(Some(rule(&["eu"], &[])), Some(rule(&["home", "us"], &[])), ""), ["a"]);
        assert!(names(Some(rule(&["us"], &[])), Some(rule(&["home"], &[])), "").is_empty());
        assert!(names(Some(rule(&["nowhere"], &[])), None, "").is_empty());
        assert_eq!(names(Some(rule(&[], &["c", "b"])), None, ""), ["c", "b", "local", "a"]);
        assert_eq!(names(Some(rule(&[], &["c"])), Some(rule(&[], &["b"])), ""), ["b", "c", "local", "a"]);
    }

    #[test]
    fn a_session_stays_and_sessions_spread_over_what_is_preferred_alike() {
        let of = |session: &str| names(Some(rule(&[], &["eu"])), None, session);
        let firsts: Vec<String> = (0..40).map(|n| of(&format!("s{n}")).remove(0)).collect();
        assert!(firsts.iter().any(|name| name == "a") && firsts.iter().any(|name| name == "b"), "{firsts:?}");
        assert!(firsts.iter().all(|name| name == "a" || name == "b"));
        assert_eq!(of("s7"), of("s7"));
        assert_eq!(of("s7")[2..], ["local", "c"]);
    }
}
