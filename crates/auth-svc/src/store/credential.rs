//! What a credential is.

use std::fmt;
use std::str::FromStr;

use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

use super::egress::EgressRule;
use super::intent::RefreshRecord;
use super::workspaces::Workspace;

/// What kind of secret it is, and so who is billed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An OAuth login of a subscription.
    OAuth,
    /// An API key of a platform account.
    ApiKey,
}

/// Where it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A login of our own.
    Login,
    /// Codex CLI's `auth.json`.
    Codex,
    /// OpenClaw's state directory.
    OpenClaw,
}

macro_rules! names {
    ($type:ty { $($variant:ident = $name:literal),+ }) => {
        impl $type {
            /// As it stands in the database and in answers.
            pub(crate) fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $type {
            type Err = String;

            fn from_str(name: &str) -> Result<Self, String> {
                match name {
                    $($name => Ok(Self::$variant),)+
                    other => Err(format!("{other:?} is no {}", stringify!($type))),
                }
            }
        }
    };
}

names!(Kind { OAuth = "oauth", ApiKey = "api-key" });
names!(Source { Login = "login", Codex = "codex", OpenClaw = "openclaw" });

/// The secrets of a credential, or why they cannot be had. `Debug` shows none of them.
#[derive(Clone, Debug)]
pub(crate) enum Secrets {
    /// They are here.
    Present {
        /// Access token.
        access: Option<SecretString>,
        /// Refresh token, good for one refresh.
        refresh: Option<SecretString>,
        /// Id token, kept for the way back to other programs.
        id_token: Option<SecretString>,
        /// API key.
        api_key: Option<SecretString>,
    },
    /// They cannot be opened: by an import that lacked the other program's key, or by us.
    Undecryptable {
        /// Why, for a person.
        detail: String,
    },
}

impl Secrets {
    /// Nothing yet.
    pub(crate) fn none() -> Self {
        Self::Present { access: None, refresh: None, id_token: None, api_key: None }
    }

    /// The token or key that goes upstream.
    pub(crate) fn upstream(&self) -> Option<&SecretString> {
        match self {
            Self::Present { access, api_key, .. } => access.as_ref().or(api_key.as_ref()),
            Self::Undecryptable { .. } => None,
        }
    }

    /// The refresh token.
    pub(crate) fn refresh(&self) -> Option<&SecretString> {
        match self {
            Self::Present { refresh, .. } => refresh.as_ref(),
            Self::Undecryptable { .. } => None,
        }
    }

    /// All but the refresh token.
    pub(crate) fn without_refresh(&self) -> Self {
        let mut rest = self.clone();
        if let Self::Present { refresh, .. } = &mut rest {
            *refresh = None;
        }
        rest
    }

    /// True if both hold the same secrets.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Present { access: a1, refresh: r1, id_token: i1, api_key: k1 },
                Self::Present { access: a2, refresh: r2, id_token: i2, api_key: k2 },
            ) => equal(a1, a2) && equal(r1, r2) && equal(i1, i2) && equal(k1, k2),
            (Self::Undecryptable { detail: a }, Self::Undecryptable { detail: b }) => a == b,
            _ => false,
        }
    }
}

/// Compares two secrets in a time that tells nothing about them.
pub(crate) fn equal(a: &Option<SecretString>, b: &Option<SecretString>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a.expose_secret().as_bytes().ct_eq(b.expose_secret().as_bytes()).into(),
        (None, None) => true,
        _ => false,
    }
}

/// A credential to be stored. `Debug` shows neither its secrets nor the unknown fields, which may hold some too.
#[derive(Clone)]
pub(crate) struct NewCredential {
    /// The label it would like; one that is taken gets a number.
    pub(crate) label: String,
    /// Provider, e.g. `openai-codex`.
    pub(crate) provider: String,
    /// Its kind.
    pub(crate) kind: Kind,
    /// Origin that issued it, e.g. `https://auth.openai.com`; API keys have none.
    pub(crate) issuer: Option<String>,
    /// OAuth client it was issued to.
    pub(crate) client_id: Option<String>,
    /// Account (workspace) id.
    pub(crate) account_id: Option<String>,
    /// E-mail address.
    pub(crate) email: Option<String>,
    /// Plan, in the provider's spelling.
    pub(crate) plan: Option<String>,
    /// User id.
    pub(crate) user_id: Option<String>,
    /// True for a FedRAMP account.
    pub(crate) fedramp: bool,
    /// Where it comes from.
    pub(crate) source: Source,
    /// Its secrets.
    pub(crate) secrets: Secrets,
    /// Unknown fields of the foreign file, kept (encrypted) for the way back; `null` for none.
    pub(crate) extra: serde_json::Value,
    /// Expiry of the access token where the token does not say it itself, Unix seconds.
    pub(crate) access_expires_at: Option<i64>,
    /// Last refresh, Unix seconds.
    pub(crate) last_refresh: Option<i64>,
    /// True if we must never refresh it.
    pub(crate) borrowed: bool,
    /// Its name in the foreign file.
    pub(crate) profile: Option<String>,
}

impl fmt::Debug for NewCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewCredential")
            .field("label", &self.label)
            .field("provider", &self.provider)
            .field("kind", &self.kind)
            .field("source", &self.source)
            .field("secrets", &self.secrets)
            .finish_non_exhaustive()
    }
}

/// What became of a [`NewCredential`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upserted {
    /// It is new.
    Created,
    /// The same login was here and has the new tokens now.
    Updated,
    /// It was here already, just so.
    Unchanged,
    /// The same login is here with newer tokens, which stay.
    KeptNewer,
    /// The refresh token that came in was spent, or replaced, by the same login here, whose newer tokens stay.
    KeptSpent,
    /// The same login is here and is ours to refresh: nothing was borrowed.
    KeptOwned,
    /// The refresh token that came in was spent, replaced or revoked here, and nothing of its login is here any more:
    /// nothing was taken.
    Spent,
}

/// What is over for one version of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LatchKind {
    /// The identity provider refused the refresh token for good. The access token is used while it lives.
    NeedsLogin,
    /// The upstream rejected the access token, also after a refresh. The refresh token is good as far as anybody knows.
    Rejected,
    /// Both.
    Ended,
}

names!(LatchKind { NeedsLogin = "needs_login", Rejected = "rejected", Ended = "ended" });

impl LatchKind {
    /// True if the refresh token never reaches the provider again.
    pub(crate) fn ends_refreshing(self) -> bool {
        matches!(self, Self::NeedsLogin | Self::Ended)
    }
}

/// What stands behind the cause of a refusal where the upstream has rejected the access token beside it.
pub(crate) const REJECTED_TOO: &str = "; and the upstream has rejected its access token (401)";

/// A latch, in force for the credential's current version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Latch {
    /// Which.
    pub(crate) kind: LatchKind,
    /// The cause, for a person.
    pub(crate) detail: String,
}

/// Why a credential rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RestKind {
    /// The plan's usage limit.
    UsageLimit,
    /// Too many requests for the moment.
    RateLimited,
    /// The account may not use this model.
    NotEntitled,
}

names!(RestKind { UsageLimit = "USAGE_LIMIT", RateLimited = "RATE_LIMITED", NotEntitled = "NOT_ENTITLED" });

/// A time in which a credential is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rest {
    /// Upstream model name; `None` is all models.
    pub(crate) model: Option<String>,
    /// Why.
    pub(crate) kind: RestKind,
    /// Length in seconds of the window that is used up; 0 where there is none, or it is not known.
    pub(crate) window_s: i32,
    /// Id of the limit that was met, e.g. `codex`; empty where there is none, or it is not known.
    pub(crate) limit: String,
    /// Unix milliseconds at which the limit was last met.
    pub(crate) began_ms: i64,
    /// Unix milliseconds at which it ends.
    pub(crate) until_ms: i64,
}

impl Rest {
    /// True if it is in force for this model.
    pub(crate) fn covers(&self, model: &str, now_ms: i64) -> bool {
        self.until_ms > now_ms && self.model.as_deref().is_none_or(|m| m == model)
    }
}

/// A stored credential.
#[derive(Clone, Debug)]
pub(crate) struct Credential {
    /// Id, a UUID.
    pub(crate) id: String,
    /// Label, unique.
    pub(crate) label: String,
    /// Provider.
    pub(crate) provider: String,
    /// Kind.
    pub(crate) kind: Kind,
    /// Origin that issued it.
    pub(crate) issuer: Option<String>,
    /// OAuth client it was issued to.
    pub(crate) client_id: Option<String>,
    /// Account id.
    pub(crate) account_id: Option<String>,
    /// E-mail address.
    pub(crate) email: Option<String>,
    /// Plan.
    pub(crate) plan: Option<String>,
    /// User id.
    pub(crate) user_id: Option<String>,
    /// True for a FedRAMP account.
    pub(crate) fedramp: bool,
    /// Where it came from.
    pub(crate) source: Source,
    /// Name in the foreign file.
    pub(crate) profile: Option<String>,
    /// True if we never refresh it.
    pub(crate) borrowed: bool,
    /// Version of its token, counted from 1.
    pub(crate) version: i32,
    /// Expiry of the access token, Unix seconds.
    pub(crate) access_expires_at: Option<i64>,
    /// Last refresh, Unix seconds.
    pub(crate) last_refresh: Option<i64>,
    /// The version that a refresh after a rejection has brought.
    pub(crate) recovery_version: Option<i32>,
    /// The latch of this version.
    pub(crate) latch: Option<Latch>,
    /// Its rests, those that have ended included.
    pub(crate) rests: Vec<Rest>,
    /// What is on record about its refreshing.
    pub(crate) refresh: RefreshRecord,
    /// Its secrets.
    pub(crate) secrets: Secrets,
    /// Unix seconds at which its ownership was given up by an export: never refreshed by us since.
    pub(crate) exported_at: Option<i64>,
    /// True if it came from a backup and nobody has said yet that its refresh token is unspent: it is not refreshed.
    pub(crate) unconfirmed: bool,
    /// Which egresses may make requests with it.
    pub(crate) egress: EgressRule,
    /// What is known of its account; `None`: nobody has asked.
    pub(crate) workspace: Option<Workspace>,
}

impl Credential {
    /// Why its refresh token never reaches the provider again, if that is so.
    pub(crate) fn refused(&self) -> Option<&Latch> {
        self.latch.as_ref().filter(|latch| latch.kind.ends_refreshing())
    }
}
