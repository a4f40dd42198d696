//! What an import will do, before it does it.

use secrecy::ExposeSecret as _;

use super::Settings;
use super::input::time;
use super::openclaw::Routes;
use crate::store::{Kind, NewCredential, Secrets};

/// The service's settings and the request's wishes.
pub(super) struct Context<'a> {
    pub(super) settings: &'a Settings,
    /// Use access tokens while they live, never refresh.
    pub(super) borrow: bool,
}

/// Everything that one import will do and say.
#[derive(Default)]
pub(super) struct Plan {
    /// One line for each profile found.
    pub(super) items: Vec<Item>,
    /// In which order the other program tried them, for each provider.
    pub(super) orders: Vec<Order>,
    /// Who else holds the refresh tokens that were taken, and what to do about it; printed once, with their labels.
    pub(super) other_holder: Option<String>,
    /// What the operator must know besides.
    pub(super) notes: Vec<String>,
    /// Routes, to be written as a switchboard.toml once the labels are known.
    pub(super) routes: Option<Routes>,
}

/// The order of one provider's credentials.
pub(super) struct Order {
    pub(super) provider: &'static str,
    /// Labels that the credentials would like, first tried first.
    pub(super) labels: Vec<String>,
    /// Where it comes from, for the operator; none where there is nothing to say.
    pub(super) note: Option<String>,
}

/// One profile.
pub(super) struct Item {
    /// Its name in the file.
    pub(super) profile: String,
    /// Provider, in our names where there is one.
    pub(super) provider: String,
    /// What becomes of it.
    pub(super) outcome: Outcome,
}

/// What becomes of a profile.
pub(super) enum Outcome {
    /// It is stored, and this is to be said of it.
    Take(Box<NewCredential>, Vec<String>),
    /// It is not, for this reason.
    Skip(String),
}

impl Item {
    /// A profile that is not taken.
    pub(super) fn skip(profile: impl Into<String>, provider: impl Into<String>, why: impl Into<String>) -> Self {
        Self { profile: profile.into(), provider: provider.into(), outcome: Outcome::Skip(why.into()) }
    }

    /// The credential that is stored, if any.
    pub(super) fn taken(&self) -> Option<&NewCredential> {
        match &self.outcome {
            Outcome::Take(credential, _) => Some(credential),
            Outcome::Skip(_) => None,
        }
    }
}

impl Context<'_> {
    /// A profile that is stored, with everything about it that its owner would not expect.
    pub(super) fn take(&self, profile: impl Into<String>, credential: NewCredential) -> Item {
        let remarks = self.remarks(&credential);
        let provider = credential.provider.clone();
        Item { profile: profile.into(), provider, outcome: Outcome::Take(Box::new(credential), remarks) }
    }

    /// True if a call could be made with it, now or after a refresh.
    pub(super) fn is_usable(&self, credential: &NewCredential) -> bool {
        match &credential.secrets {
            Secrets::Undecryptable { .. } => false,
            Secrets::Present { api_key: Some(_), .. } => true,
            Secrets::Present { access, refresh, .. } => {
                !self.is_foreign(credential)
                    && ((refresh.is_some() && !self.borrow) || (access.is_some() && !self.has_expired(credential)))
            }
        }
    }

    /// Unix seconds at which we will first refresh it; none if never, or if its expiry is not known.
    pub(super) fn first_refresh(&self, credential: &NewCredential) -> Option<i64> {
        if self.borrow || self.is_foreign(credential) || refresh_token(credential).is_none() {
            return None;
        }
        let at = credential.access_expires_at?.saturating_sub(self.settings.refresh_margin_s);
        Some(at.max(self.settings.now_s))
    }

    /// True if another identity provider than ours issued it.
    pub(super) fn is_foreign(&self, credential: &NewCredential) -> bool {
        credential.issuer.as_deref().is_some_and(|issuer| issuer != self.settings.identity_origin)
    }

    fn has_expired(&self, credential: &NewCredential) -> bool {
        credential.access_expires_at.is_some_and(|at| at <= self.settings.now_s)
    }

    fn remarks(&self, credential: &NewCredential) -> Vec<String> {
        let mut remarks = Vec::new();
        let Secrets::Present { access, refresh, .. } = &credential.secrets else { return remarks };
        if !matches!(credential.kind, Kind::OAuth) {
            return remarks;
        }
        if self.is_foreign(credential) {
            let issuer = credential.issuer.as_deref().unwrap_or_default();
            let ours = &self.settings.identity_origin;
            remarks.push(format!(
                "issued by {issuer}, not by {ours} ([auth] identity_url): it is kept, but will be bound to no call"
            ));
        }
        let expiry = credential.access_expires_at.map(time);
        match (access, &expiry) {
            (Some(_), Some(at)) if self.has_expired(credential) => {
                remarks.push(format!("its access token expired at {at}"));
            }
            (Some(_), Some(at)) => remarks.push(format!("its access token expires at {at}")),
            (Some(_), None) => remarks.push("its access token does not say when it expires".to_owned()),
            (None, _) => remarks.push("it has no access token: its first use refreshes it".to_owned()),
        }
        if self.borrow {
            remarks.push("borrowed: never refreshed by Switchboard".to_owned());
        } else if refresh.is_none() {
            remarks.push("it has no refresh token: when it expires, log in again".to_owned());
        }
        remarks
    }
}

/// Its refresh token, if it was opened and has one.
pub(super) fn refresh_token(credential: &NewCredential) -> Option<&str> {
    match &credential.secrets {
        Secrets::Present { refresh, .. } => refresh.as_ref().map(|token| token.expose_secret()),
        Secrets::Undecryptable { .. } => None,
    }
}

/// Its API key, if it is one.
pub(super) fn api_key(credential: &NewCredential) -> Option<&str> {
    match &credential.secrets {
        Secrets::Present { api_key, .. } => api_key.as_ref().map(|key| key.expose_secret()),
        Secrets::Undecryptable { .. } => None,
    }
}

/// True if its secrets could not be opened.
pub(super) fn is_undecryptable(credential: &NewCredential) -> bool {
    matches!(credential.secrets, Secrets::Undecryptable { .. })
}
