//! The sections that say where a model name leads: defaults, targets, providers, models, agents.

use serde::{Deserialize, Serialize};

/// `[defaults]`: what an agent gets that names no model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Defaults {
    /// `provider/model`.
    pub model: String,
    /// Models to try next, in this order.
    pub fallbacks: Vec<String>,
}

/// `[targets.<id>]`: a server that speaks the Responses API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Target {
    /// Which request rules apply. A built-in id has the kind of its name, any other is [`TargetKind::Custom`].
    pub kind: TargetKind,
    /// The URL that `/responses` is appended to; no trailing slash.
    pub base_url: String,
    /// The URL of the account endpoints; no trailing slash. Read it through [`Target::backend`].
    pub backend_url: Option<String>,
    /// The `originator` header for callers that are no known client.
    pub originator: String,
    /// The `user-agent` header for callers that are no known client. None: Switchboard's own.
    pub user_agent: Option<String>,
    /// The `version` header. None: not sent.
    pub version: Option<String>,
    /// When leading system messages become `instructions`.
    pub hoist_instructions: HoistInstructions,
    /// The API's name, kept for readers of other programs' files: only names of the Responses API are accepted.
    pub api: Option<String>,
    /// Origins that an account's workspace may demand instead of `base_url`'s.
    pub workspace_origins: Vec<String>,
}

impl Default for Target {
    /// What a table `[targets.<id>]` need not say. Kind and base URL are required in a file all the same.
    fn default() -> Self {
        Self {
            kind: TargetKind::Custom,
            base_url: String::new(),
            backend_url: None,
            originator: "switchboard".to_owned(),
            user_agent: None,
            version: None,
            hoist_instructions: HoistInstructions::Auto,
            api: None,
            workspace_origins: Vec::new(),
        }
    }
}

impl Target {
    /// The URL of the account endpoints: `backend_url`, else `base_url` less a trailing `/codex`.
    pub fn backend(&self) -> &str {
        self.backend_url.as_deref().unwrap_or_else(|| self.base_url.strip_suffix("/codex").unwrap_or(&self.base_url))
    }
}

/// Which rules a target's requests follow. A closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TargetKind {
    /// The Codex backend of ChatGPT: the only one that takes subscription credentials.
    ChatgptCodex,
    /// The OpenAI platform.
    OpenaiApi,
    /// Any other server that speaks the Responses API.
    Custom,
}

impl TargetKind {
    /// The kind that a built-in target id implies; none for the user's own ids.
    pub fn built_in(id: &str) -> Option<Self> {
        match id {
            "chatgpt-codex" => Some(Self::ChatgptCodex),
            "openai-api" => Some(Self::OpenaiApi),
            _ => None,
        }
    }

    /// As it is written in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ChatgptCodex => "chatgpt-codex",
            Self::OpenaiApi => "openai-api",
            Self::Custom => "custom",
        }
    }
}

/// When leading text-only system and developer messages become `instructions`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HoistInstructions {
    /// When the request has none and the caller is not a Codex client.
    #[default]
    Auto,
    /// Whenever the request has none.
    Always,
    /// Not at all.
    Never,
}

/// `[providers.<prefix>]`: the part of a model name before the `/`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Provider {
    /// Other prefixes that mean this provider; unique among all providers.
    pub aliases: Vec<String>,
    /// A key of [`Config::targets`](crate::Config::targets).
    pub target: String,
    /// What its credentials are, and so who is billed.
    pub realm: Realm,
    /// Egresses that may make its calls. None: all.
    pub egress: Option<EgressRule>,
}

/// Which egresses may make calls, each entry an egress's name or label.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EgressRule {
    /// Only egresses with one of these; empty allows all.
    pub require: Vec<String>,
    /// Those with one of these first, in this order; the others after them.
    pub prefer: Vec<String>,
}

impl Default for Provider {
    /// What a table `[providers.<prefix>]` need not say. Target and realm are required in a file all the same.
    fn default() -> Self {
        Self { aliases: Vec::new(), target: String::new(), realm: Realm::ApiKey, egress: None }
    }
}

/// Who is billed for a call. A call never changes realm unless a fallback list names the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Realm {
    /// A ChatGPT plan, through an OAuth login.
    Subscription,
    /// A platform account, through an API key.
    ApiKey,
}

impl Realm {
    /// As it is written in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Subscription => "subscription",
            Self::ApiKey => "api-key",
        }
    }
}

/// `[models."<provider>/<model>"]`: a model to list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Model {
    /// The name that people read. Left out of a file, it is the key's part after the `/`.
    pub name: String,
    /// Tokens, where known.
    pub context_window: Option<u64>,
    /// Tokens, where known.
    pub max_output_tokens: Option<u64>,
    /// Kinds of input: `text`, `image`.
    pub input: Vec<String>,
}

impl Default for Model {
    fn default() -> Self {
        Self { name: String::new(), context_window: None, max_output_tokens: None, input: vec!["text".to_owned()] }
    }
}

/// `[agents.<name>]`: what one agent may do. Everything left out is as for any agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Agent {
    /// Instead of [`Defaults::model`].
    pub model: Option<String>,
    /// Instead of [`Defaults::fallbacks`].
    pub fallbacks: Option<Vec<String>>,
    /// Labels of the only credentials it may use, in this order. None: all.
    pub credentials: Option<Vec<String>>,
    /// The only models it may call, `provider/model` or `provider/*`. None: all.
    pub allowed: Option<Vec<String>>,
    /// Egresses that may make its calls, beside what its providers allow. None: all.
    pub egress: Option<EgressRule>,
}
