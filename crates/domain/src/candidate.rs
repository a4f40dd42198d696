//! Why a credential was, or was not, bound.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// Why a credential is not eligible for a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CandidateReason {
    /// There is no credential for this provider, or the named one does not exist.
    Missing,
    /// Its secret cannot be opened with the key at hand.
    Undecryptable,
    /// Its access token has expired and it may not be refreshed.
    Expired,
    /// The provider refused its refresh token for good.
    NeedsLogin,
    /// Its refresh failed for now (timeout, 5xx, challenge at the identity provider).
    RefreshFailed,
    /// It rests until a limit ends.
    Resting,
    /// It bills another realm (API key for a subscription route, or the reverse).
    WrongRealm,
    /// Another issuer gave it than the one that this target's credentials come from.
    WrongIssuer,
    /// The agent's or the key's list does not contain it.
    NotAllowed,
    /// The account may not use this model.
    NotEntitled,
    /// It was restored from a backup and nobody confirmed that its refresh token is unspent.
    Unconfirmed,
}

impl CandidateReason {
    /// Every reason.
    pub const ALL: [CandidateReason; 11] = [
        Self::Missing,
        Self::Undecryptable,
        Self::Expired,
        Self::NeedsLogin,
        Self::RefreshFailed,
        Self::Resting,
        Self::WrongRealm,
        Self::WrongIssuer,
        Self::NotAllowed,
        Self::NotEntitled,
        Self::Unconfirmed,
    ];

    /// The name users see, in snake case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Undecryptable => "undecryptable",
            Self::Expired => "expired",
            Self::NeedsLogin => "needs_login",
            Self::RefreshFailed => "refresh_failed",
            Self::Resting => "resting",
            Self::WrongRealm => "wrong_realm",
            Self::WrongIssuer => "wrong_issuer",
            Self::NotAllowed => "not_allowed",
            Self::NotEntitled => "not_entitled",
            Self::Unconfirmed => "unconfirmed",
        }
    }
}

impl fmt::Display for CandidateReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for CandidateReason {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|r| r.as_str() == name).ok_or_else(|| format!("no candidate reason {name:?}"))
    }
}

/// A credential that was considered for a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// Label of the credential; "-" where there is none at all.
    pub credential: String,
    /// True if it could be bound.
    pub eligible: bool,
    /// Why not.
    pub reason: Option<CandidateReason>,
    /// The same for a person, with its next step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}
