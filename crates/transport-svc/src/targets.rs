//! The targets: where a call may go, and which paths exist there.

use std::collections::BTreeMap;
use std::sync::Arc;

use config::{Config, HoistInstructions, TargetKind};
use http::HeaderValue;
use proto::transport::v1::Resource;
use reqwest::Url;
use service_kit::UpstreamUrl;

use crate::service::BuildError;

/// The base URL of the real Codex backend.
const CODEX_URL: &str = "https://chatgpt.com/backend-api/codex";
const CODEX_PATH: &str = "/backend-api/codex";
/// Every path below the Codex base URL that the backend knows (facts: model-provider-info, endpoint/*.rs of Codex CLI).
/// Any other path under `/backend-api` is answered with an HTML 403 page that looks like a refused login.
const CODEX_PATHS: &[&str] =
    &["/backend-api/codex/responses", "/backend-api/codex/responses/compact", "/backend-api/codex/models"];
/// The base URL of the account endpoints, and those that are asked.
const BACKEND_URL: &str = "https://chatgpt.com/backend-api";
const BACKEND_PATH: &str = "/backend-api";
const BACKEND_PATHS: &[&str] = &["/backend-api/wham/usage", "/backend-api/wham/accounts/check"];
const PLATFORM_URL: &str = "https://api.openai.com/v1";
const PLATFORM_PATHS: &[&str] = &["/v1/responses", "/v1/responses/compact", "/v1/models"];
/// The version for which the models list is asked when none is configured: that of the client whose list format is read.
const MODELS_VERSION: &str = "0.169.0";

/// Every target by its id.
#[derive(Debug)]
pub(crate) struct Targets {
    targets: BTreeMap<String, Arc<Target>>,
    /// The same targets at the other origins that are allowed, by id and origin.
    moved: BTreeMap<(String, String), Arc<Target>>,
}

/// One target.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) id: String,
    pub(crate) kind: TargetKind,
    /// `{base}/responses`.
    pub(crate) responses: Endpoint,
    /// `{base}/responses/compact`.
    pub(crate) compact: Endpoint,
    /// `{base}/models`.
    pub(crate) models: Endpoint,
    /// `{backend}/wham/usage`; only the Codex backend has account endpoints.
    pub(crate) usage: Option<Endpoint>,
    /// `{backend}/wham/accounts/check`, likewise.
    pub(crate) workspace: Option<Endpoint>,
    pub(crate) hoist: HoistInstructions,
    pub(crate) originator: HeaderValue,
    pub(crate) user_agent: HeaderValue,
    pub(crate) version: Option<HeaderValue>,
}

/// One URL of a target.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// What it stands below: a sealed credential must name exactly this.
    pub(crate) base: UpstreamUrl,
    /// The setting that it comes from.
    pub(crate) key: &'static str,
    pub(crate) url: Url,
    /// Without the query, as it stands in traces and messages.
    pub(crate) shown: String,
    /// Path alone.
    pub(crate) path: String,
    /// What is asked for there, for messages.
    pub(crate) expects: &'static str,
    /// The base URL that would be right, where that is known, and its path.
    canonical: Option<(&'static str, &'static str)>,
    /// The paths that exist there, where that is known.
    known_paths: Option<&'static [&'static str]>,
}

impl Targets {
    pub(crate) fn new(config: &Config) -> Result<Self, BuildError> {
        let mut all = Self { targets: BTreeMap::new(), moved: BTreeMap::new() };
        for (id, target) in &config.targets {
            let made = Target::new(id, target)?;
            for origin in &target.workspace_origins {
                let moved = moved(id, target, &made, origin)?;
                all.moved.insert((id.clone(), moved.responses.base.origin.clone()), Arc::new(moved));
            }
            all.targets.insert(id.clone(), Arc::new(made));
        }
        Ok(all)
    }

    /// The target of this id, at the origin that a credential is sealed for if that is one of those that are allowed.
    pub(crate) fn get(&self, id: &str, sealed_for: Option<&str>) -> Option<&Arc<Target>> {
        let moved = sealed_for.and_then(|origin| self.moved.get(&(id.to_owned(), origin.to_owned())));
        moved.or_else(|| self.targets.get(id))
    }

    /// The ids, for messages.
    pub(crate) fn names(&self) -> String {
        self.targets.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Target> {
        self.targets.values().map(AsRef::as_ref)
    }
}

/// A target at another origin, under the same path; its account endpoints stay where they are.
fn moved(id: &str, target: &config::Target, made: &Target, origin: &str) -> Result<Target, BuildError> {
    let origin = UpstreamUrl::parse(origin).map_err(|e| BuildError::Target {
        id: id.to_owned(),
        key: "workspace_origins",
        cause: e.to_string(),
    })?;
    let base_url = format!("{}{}", origin.origin, made.responses.base.path);
    let backend_url = Some(target.backend().to_owned());
    Target::new(id, &config::Target { base_url, backend_url, ..target.clone() })
}

impl Target {
    pub(crate) fn new(id: &str, target: &config::Target) -> Result<Self, BuildError> {
        // The id decides for a built-in target: its rules cannot be escaped by calling it custom.
        let kind = TargetKind::built_in(id).unwrap_or(TargetKind::Custom);
        let base = UpstreamUrl::parse(&target.base_url).map_err(|e| BuildError::Target {
            id: id.to_owned(),
            key: "base_url",
            cause: e.to_string(),
        })?;
        let header = |key, text: &str| {
            HeaderValue::from_str(text).map_err(|_| BuildError::Target {
                id: id.to_owned(),
                key,
                cause: "it cannot be sent as a header".into(),
            })
        };
        let version = target.version.as_deref();
        let query = match kind {
            TargetKind::ChatgptCodex => format!("client_version={}", version.unwrap_or(MODELS_VERSION)),
            TargetKind::OpenaiApi | TargetKind::Custom => String::new(),
        };
        let canonical = match kind {
            TargetKind::ChatgptCodex => Some((CODEX_URL, CODEX_PATH)),
            TargetKind::OpenaiApi => Some((PLATFORM_URL, "/v1")),
            TargetKind::Custom => None,
        };
        let place = Place { id, base: &base, key: "base_url", canonical, known_paths: known_paths(kind, &base) };
        Ok(Self {
            id: id.to_owned(),
            kind,
            responses: place.endpoint("/responses", "", "an event stream")?,
            compact: place.endpoint("/responses/compact", "", "a compacted conversation")?,
            models: place.endpoint("/models", &query, "a list of models")?,
            usage: account_endpoint(id, kind, target, "/wham/usage", "the account's usage")?,
            workspace: account_endpoint(id, kind, target, "/wham/accounts/check", "the account's workspaces")?,
            hoist: target.hoist_instructions,
            originator: header("originator", &target.originator)?,
            user_agent: header("user_agent", target.user_agent.as_deref().unwrap_or(&own_user_agent()))?,
            version: version.map(|v| header("version", v)).transpose()?,
        })
    }

    /// Where a call's resource is.
    pub(crate) fn of(&self, resource: Resource) -> &Endpoint {
        match resource {
            Resource::Unspecified | Resource::Responses => &self.responses,
            Resource::Compact => &self.compact,
        }
    }

    /// What its endpoints stand below.
    pub(crate) fn bases(&self) -> impl Iterator<Item = &UpstreamUrl> {
        [Some(&self.responses), self.usage.as_ref()].into_iter().flatten().map(|endpoint| &endpoint.base)
    }
}

/// An endpoint below the backend URL, where the target has such.
fn account_endpoint(
    id: &str,
    kind: TargetKind,
    target: &config::Target,
    suffix: &str,
    expects: &'static str,
) -> Result<Option<Endpoint>, BuildError> {
    if kind != TargetKind::ChatgptCodex {
        return Ok(None);
    }
    let key = "backend_url";
    let base = UpstreamUrl::parse(target.backend()).map_err(|e| BuildError::Target {
        id: id.to_owned(),
        key,
        cause: e.to_string(),
    })?;
    let known_paths = known_paths(kind, &base).map(|_| BACKEND_PATHS);
    let place = Place { id, base: &base, key, canonical: Some((BACKEND_URL, BACKEND_PATH)), known_paths };
    place.endpoint(suffix, "", expects).map(Some)
}

/// Where endpoints stand.
struct Place<'a> {
    id: &'a str,
    base: &'a UpstreamUrl,
    key: &'static str,
    canonical: Option<(&'static str, &'static str)>,
    known_paths: Option<&'static [&'static str]>,
}

impl Place<'_> {
    fn endpoint(&self, suffix: &str, query: &str, expects: &'static str) -> Result<Endpoint, BuildError> {
        let shown = self.base.join(suffix);
        let mut url = Url::parse(&shown).map_err(|e| BuildError::Target {
            id: self.id.to_owned(),
            key: self.key,
            cause: e.to_string(),
        })?;
        if !query.is_empty() {
            url.set_query(Some(query));
        }
        // As it is sent: the URL standard may have normalised it.
        let path = url.path().to_owned();
        let (base, key) = (self.base.clone(), self.key);
        Ok(Endpoint { base, key, url, shown, path, expects, canonical: self.canonical, known_paths: self.known_paths })
    }
}

impl Endpoint {
    /// True if the paths that exist there are known, and this is none of them.
    pub(crate) fn is_wrong_path(&self) -> bool {
        self.known_paths.is_some_and(|known| !known.contains(&self.path.as_str()))
    }

    /// True if only the server itself can say which paths it has.
    pub(crate) fn is_custom_base(&self) -> bool {
        self.known_paths.is_none()
    }

    /// The base URL that would be right, for a person; none for a server of the user's own.
    pub(crate) fn right_base(&self) -> Option<String> {
        let (canonical, path) = self.canonical?;
        Some(if self.base.is_loopback() {
            format!("{}{path} here, {canonical} for the real service", self.base.origin)
        } else {
            canonical.to_owned()
        })
    }
}

/// The paths of the servers we know. A simulator on loopback stands for the real one; any other host is the user's own
/// relay, and what exists there is for it to say.
fn known_paths(kind: TargetKind, base: &UpstreamUrl) -> Option<&'static [&'static str]> {
    let host = base.host.trim_end_matches('.');
    let below = |domain: &str| host == domain || host.strip_suffix(domain).is_some_and(|sub| sub.ends_with('.'));
    match kind {
        TargetKind::ChatgptCodex => {
            (base.is_loopback() || below("chatgpt.com") || host == "chat.openai.com").then_some(CODEX_PATHS)
        }
        TargetKind::OpenaiApi => (base.is_loopback() || below("api.openai.com")).then_some(PLATFORM_PATHS),
        TargetKind::Custom => None,
    }
}

fn own_user_agent() -> String {
    format!("switchboard/{} ({}; {})", env!("CARGO_PKG_VERSION"), std::env::consts::OS, std::env::consts::ARCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(id: &str, base_url: &str) -> Target {
        Target::new(id, &config::Target { base_url: base_url.to_owned(), ..config::Target::default() }).expect("good")
    }

    #[test]
    fn paths_are_judged_where_they_are_known() {
        for (id, base, wrong) in [
            ("chatgpt-codex", "https://chatgpt.com/backend-api/codex", false),
            ("chatgpt-codex", "https://chatgpt.com/backend-api", true),
            ("chatgpt-codex", "https://chatgpt.com/backend-api/codex/v1", true),
            ("chatgpt-codex", "http://127.0.0.1:1/backend-api", true),
            ("chatgpt-codex", "http://127.0.0.1:1/backend-api/codex", false),
            ("chatgpt-codex", "https://relay.example/codex", false),
            ("chatgpt-codex", "https://notchatgpt.com/codex", false),
            ("openai-api", "https://api.openai.com/v1", false),
            ("openai-api", "https://api.openai.com", true),
            ("local", "http://127.0.0.1:1/anything", false),
        ] {
            let target = target(id, base);
            assert_eq!(target.responses.is_wrong_path(), wrong, "{id} {base}");
            assert_eq!(target.models.is_wrong_path(), wrong, "{id} {base}");
        }
    }

    #[test]
    fn the_right_base_is_named() {
        let right = |id: &str, base_url: &str| target(id, base_url).responses.right_base();
        assert_eq!(right("chatgpt-codex", "https://chatgpt.com/backend-api").as_deref(), Some(CODEX_URL));
        let here = right("chatgpt-codex", "http://127.0.0.1:1/backend-api").unwrap_or_default();
        assert!(here.starts_with("http://127.0.0.1:1/backend-api/codex here, https://chatgpt.com/"), "{here}");
        assert_eq!(right("local", "http://127.0.0.1:1/v1"), None);
    }

    #[test]
    fn the_account_endpoints_stand_below_the_backend_url() {
        let usage = |base_url: &str| target("chatgpt-codex", base_url).usage.expect("the Codex backend has one");
        let codex = usage("https://chatgpt.com/backend-api/codex");
        assert_eq!(codex.shown, "https://chatgpt.com/backend-api/wham/usage");
        assert_eq!((codex.base.path.as_str(), codex.is_wrong_path()), ("/backend-api", false));
        assert!(usage("http://127.0.0.1:1/elsewhere/codex").is_wrong_path());
        let relay = usage("https://relay.example/codex");
        assert!(relay.is_custom_base() && !relay.is_wrong_path());
        assert!(target("openai-api", "https://api.openai.com/v1").usage.is_none());
        let moved = config::Target {
            base_url: "https://chatgpt.com/backend-api/codex".into(),
            backend_url: Some("https://relay.example/account".into()),
            ..config::Target::default()
        };
        let moved = Target::new("chatgpt-codex", &moved).expect("good").usage.expect("one");
        assert_eq!((moved.base.origin.as_str(), moved.base.path.as_str()), ("https://relay.example", "/account"));
    }
}
