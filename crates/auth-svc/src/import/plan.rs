//! What an import will do, before it does it.

use domain::timestamp;
use secrecy::ExposeSecret as _;
use service_kit::UpstreamUrl;

use super::Settings;
use super::openclaw::Routes;
use crate::jwt::Claims;
use crate::store::{Kind, NewCredential, Secrets};

/// Longest account id, in bytes. Real ones have 36.
const LONGEST_ACCOUNT_ID: usize = 256;

/// The service's settings and the request's wishes.
pub(super) struct Context<'a> {
    pub(super) settings: &'a Settings,
    /// Use access tokens while they live, never refresh.
    pub(super) borrow: bool,
    /// True if the operator has named a label.
    pub(super) named: bool,
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
        let provider = credential.provider.clone();
        if let Err(why) = check_names(&credential) {
            return Item::skip(profile, provider, why);
        }
        let remarks = self.remarks(&credential);
        Item { profile: profile.into(), provider, outcome: Outcome::Take(Box::new(credential), remarks) }
    }

    /// The origin that issued a login: what its file names, else what its tokens do, else our identity provider. A
    /// provider on this machine is one that somebody set up to stand for the real one: there the tokens' own
    /// word counts for nothing.
    pub(super) fn issuer(&self, named: Option<&str>, tokens: [&Claims; 2]) -> String {
        let ours = &self.settings.rules.origin;
        let origin = |issuer: &str| UpstreamUrl::parse(issuer).ok().map(|url| url.origin);
        if let Some(named) = named {
            // One that is no URL stays as it is, and will match no identity provider of ours.
            return origin(named).unwrap_or_else(|| named.to_owned());
        }
        if UpstreamUrl::parse(ours).is_ok_and(|url| url.is_loopback()) {
            return ours.clone();
        }
        let is_https = |origin: &String| origin.starts_with("https://");
        let stated = tokens.into_iter().find_map(|claims| origin(claims.iss.as_deref()?).filter(is_https));
        stated.unwrap_or_else(|| ours.clone())
    }

    /// True if another identity provider than ours issued it.
    pub(super) fn is_foreign(&self, credential: &NewCredential) -> bool {
        credential.issuer.as_deref().is_some_and(|issuer| issuer != self.settings.rules.origin)
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
            let ours = &self.settings.rules.origin;
            remarks.push(format!(
                "issued by {issuer}, not by {ours} ([auth] identity_url): it is kept, but will be bound to no call"
            ));
        }
        let expiry = credential.access_expires_at.map(timestamp);
        match (access, &expiry) {
            (Some(_), Some(at)) if self.has_expired(credential) => {
                remarks.push(format!("its access token expired at {at}"));
            }
            (Some(_), Some(at)) => remarks.push(format!("its access token expires at {at}")),
            (Some(_), None) => remarks.push("its access token does not say when it expires".to_owned()),
            (None, _) => remarks.push("it has no access token before it is refreshed".to_owned()),
        }
        if self.borrow {
            remarks.push("borrowed: never refreshed by Switchboard".to_owned());
        } else if refresh.is_none() {
            remarks.push("it has no refresh token: when it expires, log in again".to_owned());
        }
        remarks
    }
}

#[cfg(any(test, fuzzing))]
impl Plan {
    /// Every text of the plan that a person may read.
    pub(super) fn said(self) -> Vec<String> {
        let routes = self.routes.map(|routes| routes.render(&|label| Some(label.to_owned())));
        let items = self.items.into_iter().flat_map(|item| {
            let told = match item.outcome {
                Outcome::Take(credential, remarks) => {
                    let debug = format!("{credential:?}");
                    remarks.into_iter().chain([debug]).collect()
                }
                Outcome::Skip(why) => vec![why],
            };
            told.into_iter().chain([item.provider])
        });
        let mut said: Vec<String> = items.collect();
        said.extend(self.orders.into_iter().filter_map(|order| order.note));
        said.extend(self.other_holder);
        said.extend(self.notes);
        said.extend(routes);
        said
    }
}

/// Refuses names that no header and no terminal should be given.
fn check_names(credential: &NewCredential) -> Result<(), String> {
    let sound = |id: &str| id.len() <= LONGEST_ACCOUNT_ID && id.bytes().all(|byte| byte.is_ascii_graphic());
    if credential.account_id.as_deref().is_some_and(|id| !sound(id)) {
        return Err("its account id is not one: it holds control characters, white space or characters that are not \
             ASCII, or is too long"
            .to_owned());
    }
    let names = [
        ("e-mail address", &credential.email),
        ("plan", &credential.plan),
        ("user id", &credential.user_id),
        ("client id", &credential.client_id),
    ];
    match names.into_iter().find(|(_, text)| text.as_deref().is_some_and(|text| text.chars().any(char::is_control))) {
        Some((name, _)) => Err(format!("its {name} holds control characters")),
        None => Ok(()),
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
