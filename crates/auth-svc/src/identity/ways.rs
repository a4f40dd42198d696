//! By which way requests to the identity provider leave. A credential that is tied to an egress has its login and its
//! refreshes leave by the proxy of that egress, too: a provider that sees one login from two addresses may end it.

use std::fmt;
use std::sync::Arc;

use config::Config;
use reqwest::{ClientBuilder, NoProxy, Proxy};

use super::{BuildError, innermost};
use crate::store::EgressRule;

/// Address of a transport service that shares this process, or this data directory.
const HERE: &str = "in-process";

/// One way out.
#[derive(Clone)]
pub(super) struct Way {
    pub(super) http: reqwest::Client,
    /// For messages: the egress and its proxy, without its password. `None` where nothing is configured.
    pub(super) told: Option<Arc<str>>,
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Way").field("told", &self.told).finish_non_exhaustive()
    }
}

/// An egress of the configuration.
#[derive(Debug)]
struct Known {
    name: String,
    labels: Vec<String>,
    /// By its proxy, where it has one.
    way: Option<Way>,
    /// True if its transport service is not the one of this place, and so may leave by another address.
    elsewhere: bool,
    /// True if gateways that read this file know it.
    called: bool,
}

impl Known {
    fn is(&self, word: &str) -> bool {
        self.name == word || self.labels.iter().any(|label| label == word)
    }

    fn told(&self) -> String {
        if self.labels.is_empty() { self.name.clone() } else { format!("{} ({})", self.name, self.labels.join(", ")) }
    }
}

/// Every egress of the configuration, `local` first, the others by name, as gateways have them.
#[derive(Debug)]
pub(super) struct Ways(Vec<Known>);

impl Ways {
    /// `base` makes the client without its proxy; `direct`: the provider is reached without one in any case.
    pub(super) fn new(config: &Config, direct: bool, base: impl Fn() -> ClientBuilder) -> Result<Self, BuildError> {
        let transports = &config.gateway.transports;
        let mut names: Vec<&String> = transports.keys().chain(config.egresses.keys()).collect();
        names.sort_by_key(|name| (*name != "local", *name));
        names.dedup();
        let known = names.into_iter().map(|name| {
            let transport = transports.get(name);
            let proxy = config.proxy_of(name).filter(|_| !direct);
            Ok(Known {
                name: name.clone(),
                labels: transport.map(|transport| transport.labels.clone()).unwrap_or_default(),
                way: proxy.map(|proxy| by_proxy(name, proxy, base())).transpose()?,
                elsewhere: transport.is_none_or(|transport| transport.address != HERE),
                called: transport.is_some(),
            })
        });
        known.collect::<Result<_, _>>().map(Self)
    }

    /// The first of these words that is neither name nor label of an egress, with what there is.
    pub(super) fn unknown<'a>(&self, words: impl Iterator<Item = &'a String>) -> Option<String> {
        let mut words = words;
        let word = words.find(|word| !self.0.iter().any(|known| known.is(word)))?;
        Some(format!("no egress has the name or label {word:?}; {}", self.there()))
    }

    fn there(&self) -> String {
        let all: Vec<String> = self.0.iter().map(Known::told).collect();
        if all.is_empty() { "there are none".to_owned() } else { format!("there are {}", all.join(", ")) }
    }

    /// The egress that a rule means: the best of those that it allows. `None`: it means none in particular.
    ///
    /// # Errors
    ///
    /// Why there is none, for a rule that requires one.
    fn meant(&self, rule: &EgressRule) -> Result<Option<&Known>, String> {
        let rank = |known: &Known| rule.prefer.iter().position(|word| known.is(word)).unwrap_or(rule.prefer.len());
        let allowed = self.0.iter().filter(|known| rule.require.is_empty() || rule.require.iter().any(|w| known.is(w)));
        match allowed.min_by_key(|known| rank(known)) {
            Some(best) if !rule.require.is_empty() || rank(best) < rule.prefer.len() => Ok(Some(best)),
            None if !rule.require.is_empty() => Err(format!(
                "it requires egress {}, which is not configured; {}",
                rule.require.join(" or "),
                self.there()
            )),
            _ => Ok(None),
        }
    }

    /// The way that a rule means; `None` is the usual one.
    pub(super) fn by(&self, rule: &EgressRule) -> Result<Option<&Way>, String> {
        Ok(self.meant(rule)?.and_then(|known| known.way.as_ref()))
    }

    /// What an operator should know of a rule: that the legs to the identity provider may not follow it.
    pub(super) fn note(&self, rule: &EgressRule) -> Option<String> {
        let known = self.meant(rule).ok().flatten()?;
        if !known.called {
            let name = &known.name;
            return Some(format!(
                "egress {name} is not among this file's [gateway.transports]: a gateway that reads it, too, makes no call there"
            ));
        }
        let blind = known.elsewhere && known.way.is_none();
        blind.then(|| {
            let name = &known.name;
            format!(
                "auth-svc knows no proxy of egress {name}: login and refreshes leave from auth-svc's own host; if {name} \
                 leaves by another address, name a proxy that does so, too, in `[egresses.{name}] proxy`"
            )
        })
    }
}

fn by_proxy(name: &str, url: &str, base: ClientBuilder) -> Result<Way, BuildError> {
    // The value may hold a password: it stays out of the message.
    let setting = |cause: String| BuildError::Setting {
        key: "egresses.*.proxy",
        value: format!("(of {name}, not shown)"),
        cause,
    };
    let proxy = Proxy::all(url).map_err(|error| setting(error.to_string()))?;
    let http = base.proxy(proxy.no_proxy(NoProxy::from_env())).build().map_err(|error| setting(innermost(&error)))?;
    let told = format!("by egress {name}, proxy {}", config::redact(url));
    Ok(Way { http, told: Some(told.into()) })
}

#[cfg(test)]
mod tests {
    use config::{Egress, Way as Configured};

    use super::*;

    fn ways() -> Ways {
        let mut config = Config::default();
        let egress = |labels: &[&str]| Egress {
            address: "unix:///elsewhere.sock".into(),
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        };
        config.gateway.transports.insert("b".into(), egress(&["eu"]));
        config.gateway.transports.insert("a".into(), egress(&["eu", "home"]));
        for name in ["a", "vps"] {
            let proxy = Some(format!("http://me:hunter2@{name}.example:3128"));
            config.egresses.insert(name.into(), Configured { proxy });
        }
        Ways::new(&config, false, reqwest::Client::builder).expect("made")
    }

    fn rule(require: &[&str], prefer: &[&str]) -> EgressRule {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        EgressRule { require: owned(require), prefer: owned(prefer) }
    }

    #[test]
    fn a_rule_means_the_best_egress_that_it_allows() {
        let ways = ways();
        for (require, prefer, meant) in [
            (&[][..], &[][..], None),
            (&[], &["eu"], Some("a")),
            (&[], &["b", "eu"], Some("b")),
            (&[], &["nowhere"], None),
            (&["eu"], &[], Some("a")),
            (&["eu"], &["b"], Some("b")),
            (&["vps"], &["b"], Some("vps")),
            (&["local"], &[], Some("local")),
        ] {
            let found = ways.meant(&rule(require, prefer)).expect("allowed");
            assert_eq!(found.map(|known| known.name.as_str()), meant, "{require:?} {prefer:?}");
        }
        let none = ways.meant(&rule(&["nowhere"], &["a"])).expect_err("not there");
        assert_eq!(
            none,
            "it requires egress nowhere, which is not configured; there are local, a (eu, home), b (eu), vps"
        );
        assert_eq!(ways.unknown(["eu".to_owned(), "vps".to_owned()].iter()), None);
        assert!(ways.unknown(["x".to_owned()].iter()).is_some_and(|why| why.contains("\"x\"")));
    }

    #[test]
    fn its_proxy_is_told_without_a_password_and_a_missing_one_too() {
        let ways = ways();
        let told = |require: &str| ways.by(&rule(&[require], &[])).expect("allowed").and_then(|way| way.told.clone());
        assert_eq!(told("vps").as_deref(), Some("by egress vps, proxy http://***@vps.example:3128"));
        assert_eq!(told("b"), None);
        assert!(!format!("{ways:?}").contains("hunter2"), "{ways:?}");
        let note = |require: &str| ways.note(&rule(&[require], &[]));
        assert!(note("b").is_some_and(|note| note.contains("[egresses.b] proxy")));
        assert!(note("vps").is_some_and(|note| note.contains("[gateway.transports]")));
        assert_eq!((note("local"), note("a")), (None, None));
    }
}
