//! Where requests of an account must go: what the provider has told, and what of it is followed here.
//!
//! The provider names an origin and a routing override for each account. An override that is known becomes a header; an
//! origin takes the place of the target's own if the configuration allows it. What is not followed is said, and the
//! target's own origin is used: a discovery that fails, or says what nobody understands, fails no call.

use std::sync::Arc;

use config::{Config, TargetKind};
use service_kit::UpstreamUrl;

use crate::store::Credential;

/// The origin that stands for the usual one: whatever the target's base URL is then, it is meant (a relay, for one).
const USUAL: &str = "https://chatgpt.com";
/// The value that is sent for the overrides that are known (facts: Codex CLI sends it for `us` and `us_cr` alike).
const SENT: &str = "us_cr";
/// First wait after a question that brought nothing, in milliseconds; it doubles with each further one.
const AGAIN_MS: i64 = 60_000;

/// What this deployment makes of it. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Workspaces(Arc<Rules>);

#[derive(Debug)]
struct Rules {
    /// Origin of the Codex backend's base URL.
    own: Option<String>,
    /// Origins that may take its place.
    allowed: Vec<String>,
    /// How long what was told is good, in milliseconds; 0 is never asking.
    refresh_ms: i64,
}

/// What is followed of what the provider has told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Followed {
    /// What takes the place of the target's own origin: an origin without a path.
    pub(crate) origin: Option<UpstreamUrl>,
    /// Value of the account routing header.
    pub(crate) routing: Option<&'static str>,
    /// What is not followed, and why.
    pub(crate) problem: Option<String>,
}

impl Workspaces {
    /// As configured.
    pub(crate) fn new(config: &Config) -> Self {
        let origin = |url: &str| UpstreamUrl::parse(url).ok().map(|url| url.origin);
        let target = config.targets.values().find(|target| target.kind == TargetKind::ChatgptCodex);
        let refresh_ms = i64::try_from(config.auth.workspace_refresh.as_secs()).unwrap_or(0).saturating_mul(1000);
        Self(Arc::new(Rules {
            own: target.and_then(|target| origin(&target.base_url)),
            allowed: target.into_iter().flat_map(|t| &t.workspace_origins).filter_map(|url| origin(url)).collect(),
            refresh_ms,
        }))
    }

    /// True if anybody is asked at all.
    pub(crate) fn asks(&self) -> bool {
        self.0.refresh_ms > 0
    }

    /// Unix milliseconds at which an account is asked about again, after an answer.
    pub(crate) fn next_ms(&self, now_ms: i64) -> i64 {
        now_ms.saturating_add(self.0.refresh_ms)
    }

    /// The same, after so many questions in a row that brought nothing.
    pub(crate) fn again_ms(&self, now_ms: i64, failures: u32) -> i64 {
        let wait = AGAIN_MS.saturating_mul(1 << failures.saturating_sub(1).min(16));
        now_ms.saturating_add(wait.min(self.0.refresh_ms.max(AGAIN_MS)))
    }

    /// What requests to the Codex backend follow.
    pub(crate) fn follow(&self, credential: &Credential) -> Followed {
        let told = credential.workspace.as_ref();
        let (routing, strange) = match told.and_then(|told| told.routing.as_deref()) {
            None => (None, None),
            Some("us" | "us_cr") => (Some(SENT), None),
            Some(other) => {
                (None, Some(format!("its account routing override is {other:?}, which is not known here and not sent")))
            }
        };
        let (origin, foreign) = match told.and_then(|told| told.origin.as_deref()) {
            None => (None, None),
            Some(origin) => self.origin(origin),
        };
        let problems: Vec<String> = strange.into_iter().chain(foreign).collect();
        Followed {
            origin,
            // FedRAMP accounts need it in any case (facts).
            routing: routing.or(credential.fedramp.then_some(SENT)),
            problem: (!problems.is_empty()).then(|| problems.join("; ")),
        }
    }

    fn origin(&self, told: &str) -> (Option<UpstreamUrl>, Option<String>) {
        match UpstreamUrl::parse(told).ok().filter(|url| url.path.is_empty()) {
            Some(url) if url.origin == USUAL || self.0.own.as_ref() == Some(&url.origin) => (None, None),
            Some(url) if self.0.allowed.contains(&url.origin) => (Some(url), None),
            _ => {
                let why = format!(
                    "its requests should go to {told:?}, which `[targets.chatgpt-codex] workspace_origins` does not allow: \
                     they go to the target's own origin"
                );
                (None, Some(why))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bind::test_credential;
    use crate::store::Workspace;

    fn workspaces() -> Workspaces {
        let mut config = Config::default();
        let target = config.targets.get_mut("chatgpt-codex").expect("built in");
        target.workspace_origins = vec!["https://eu.example.com".into()];
        Workspaces::new(&config)
    }

    fn followed(origin: Option<&str>, routing: Option<&str>, fedramp: bool) -> Followed {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let workspace = Workspace { origin: owned(origin), routing: owned(routing), ..Workspace::default() };
        workspaces().follow(&Credential { workspace: Some(workspace), fedramp, ..test_credential() })
    }

    #[test]
    fn only_what_is_known_and_allowed_is_followed() {
        assert_eq!(workspaces().follow(&test_credential()), Followed::default());
        assert_eq!(followed(Some(USUAL), None, false), Followed::default());
        for known in ["us", "us_cr"] {
            assert_eq!(followed(None, Some(known), false).routing, Some("us_cr"), "{known}");
        }
        let strange = followed(None, Some("moon"), false);
        assert_eq!(strange.routing, None);
        assert!(strange.problem.is_some_and(|why| why.contains("\"moon\"")));
        assert_eq!(followed(None, None, true).routing, Some("us_cr"), "a FedRAMP account needs it");
        let there = followed(Some("https://eu.example.com/"), None, false);
        assert_eq!(
            (there.origin.map(|url| url.origin).as_deref(), there.problem),
            (Some("https://eu.example.com"), None)
        );
        for bad in [
            "https://evil.example",
            "http://eu.example.com",
            "https://u:p@eu.example.com",
            "https://eu.example.com/x",
            "x",
        ] {
            let refused = followed(Some(bad), Some("us"), false);
            assert_eq!((refused.origin, refused.routing), (None, Some("us_cr")), "{bad}");
            assert!(refused.problem.is_some_and(|why| why.contains("workspace_origins")), "{bad}");
        }
    }

    #[test]
    fn waits_double_and_end_at_the_usual_age() {
        let all = workspaces();
        let waits: Vec<i64> = (1..=12).map(|failures| all.again_ms(0, failures) / 60_000).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 360, 360, 360]);
        assert_eq!(all.next_ms(0), 6 * 3_600_000);
    }
}
