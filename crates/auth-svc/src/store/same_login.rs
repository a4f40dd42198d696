//! Which stored credential is the same login as one that comes in, and whose tokens are the newer ones.

use std::borrow::Cow;
use std::cmp::Ordering;

use secrecy::ExposeSecret;

use super::credential::{Credential, Kind, NewCredential, Secrets, Source, equal};
use crate::jwt::unverified_claims;

/// The credential that is the same login as `new`.
pub(super) fn same_login<'a>(known: &'a [Credential], new: &NewCredential) -> Option<&'a Credential> {
    let mut peers = known.iter().filter(|old| old.provider == new.provider && old.kind == new.kind);
    let by_identity = |old: &&Credential| match (&new.secrets, new.kind) {
        (Secrets::Undecryptable { .. }, _) => same_profile(old, new),
        (_, Kind::ApiKey) => same_api_key(&old.secrets, &new.secrets),
        (_, Kind::OAuth) => same_refresh_token(&old.secrets, &new.secrets) || same_account(old, new),
    };
    peers.clone().find(by_identity).or_else(|| peers.clone().find(|old| is_rotated(old, new))).or_else(|| {
        // What could not be opened last time, and can now.
        peers.find(|old| matches!(old.secrets, Secrets::Undecryptable { .. }) && same_profile(old, new))
    })
}

fn same_profile(old: &Credential, new: &NewCredential) -> bool {
    old.profile.is_some() && old.profile == new.profile
}

fn same_api_key(old: &Secrets, new: &Secrets) -> bool {
    match (old, new) {
        (Secrets::Present { api_key: old, .. }, Secrets::Present { api_key: new, .. }) => {
            new.is_some() && equal(old, new)
        }
        _ => false,
    }
}

/// True if `new` is the next API key of where `old` came from. An API key names no account: what it was called tells.
fn is_rotated(old: &Credential, new: &NewCredential) -> bool {
    if new.kind != Kind::ApiKey || matches!(new.secrets, Secrets::Undecryptable { .. }) {
        return false;
    }
    match new.source {
        Source::Login => old.label == new.label,
        Source::OpenClaw => old.source == new.source && same_profile(old, new),
        // Every auth.json calls its key the same: the label tells them apart.
        Source::Codex => old.source == new.source && same_profile(old, new) && is_label_of(&old.label, &new.label),
    }
}

/// True if `label` is what [`free_label`] makes of `wanted`.
fn is_label_of(label: &str, wanted: &str) -> bool {
    let numbered = |rest: &str| rest.strip_prefix('-').is_some_and(|n| n.parse::<u32>().is_ok());
    label.strip_prefix(wanted.trim()).is_some_and(|rest| rest.is_empty() || numbered(rest))
}

/// One refresh token under two names would be spent twice, and that ends the login.
pub(super) fn same_refresh_token(old: &Secrets, new: &Secrets) -> bool {
    match (old, new) {
        (Secrets::Present { refresh: old, .. }, Secrets::Present { refresh: new, .. }) => {
            new.is_some() && equal(old, new)
        }
        _ => false,
    }
}

/// `new` with what is here and what its own file does not say, where both hold the same refresh token: one program
/// writes down less of a login than another.
pub(super) fn completed<'a>(old: &Credential, new: &'a NewCredential) -> Cow<'a, NewCredential> {
    let mut all = new.clone();
    match (&old.secrets, &mut all.secrets) {
        (
            Secrets::Present { access: old_access, id_token: old_id, .. },
            Secrets::Present { access: new_access, id_token: new_id, .. },
        ) if same_refresh_token(&old.secrets, &new.secrets) => {
            fill(new_access, old_access);
            fill(new_id, old_id);
            if equal(new_access, old_access) {
                all.access_expires_at = all.access_expires_at.or(old.access_expires_at);
                all.last_refresh = all.last_refresh.max(old.last_refresh);
            }
        }
        _ => return Cow::Borrowed(new),
    }
    fill(&mut all.last_refresh, &old.last_refresh);
    fill(&mut all.client_id, &old.client_id);
    fill(&mut all.account_id, &old.account_id);
    fill(&mut all.email, &old.email);
    fill(&mut all.plan, &old.plan);
    fill(&mut all.user_id, &old.user_id);
    // Only tokens say it, and a file without an id token may lack it.
    all.fedramp |= old.fedramp;
    Cow::Owned(all)
}

fn fill<T: Clone>(new: &mut Option<T>, old: &Option<T>) {
    if new.is_none() {
        new.clone_from(old);
    }
}

fn same_account(old: &Credential, new: &NewCredential) -> bool {
    let email = |email: &Option<String>| email.as_ref().map(|email| email.to_lowercase());
    let same_user = match (&old.user_id, &new.user_id) {
        (Some(old), Some(new)) => Some(old == new),
        _ => email(&old.email).zip(email(&new.email)).map(|(old, new)| old == new),
    };
    match (&old.account_id, &new.account_id) {
        // One account may have several users, each with a login.
        (Some(old), Some(new)) => old == new && same_user.unwrap_or(true),
        // Without an account id only the user can tell, and without either the foreign name.
        _ => same_user.unwrap_or_else(|| old.source == new.source && same_profile(old, new)),
    }
}

/// Expiry of the new access token: what the token says, else what its file says.
pub(super) fn expiry(new: &NewCredential) -> Option<i64> {
    let Secrets::Present { access: Some(access), .. } = &new.secrets else { return new.access_expires_at };
    unverified_claims(access.expose_secret()).exp.or(new.access_expires_at)
}

/// How new the tokens of `new` are against those that are here, as far as anything tells.
fn age(old: &Credential, new: &NewCredential) -> Ordering {
    let both = |new: Option<i64>, old: Option<i64>| new.zip(old).map_or(Ordering::Equal, |(new, old)| new.cmp(&old));
    both(expiry(new), old.access_expires_at).then_with(|| both(new.last_refresh, old.last_refresh))
}

/// True if `new` proves that the restored login `old` may be refreshed. Its own refresh token coming again proves
/// nothing: it may be spent where the backup was made, and the file that brings it may be as old as the backup.
fn confirms(old: &Credential, new: &NewCredential) -> bool {
    if new.source == Source::Login {
        return true;
    }
    let brings_another = match (old.secrets.refresh(), new.secrets.refresh()) {
        (Some(_), Some(_)) => !same_refresh_token(&old.secrets, &new.secrets),
        _ => false,
    };
    brings_another && age(old, new) == Ordering::Greater
}

/// True if a login is unconfirmed still after `new` has come in.
pub(super) fn stays_unconfirmed(old: &Credential, new: &NewCredential) -> bool {
    old.unconfirmed && !confirms(old, new)
}

/// True if `new` is lent and `old` is ours, with a refresh token that works as far as we know: what is lent is good for
/// days, and nobody would refresh the login here from then on.
pub(super) fn stays_ours(old: &Credential, new: &NewCredential) -> bool {
    let is_dead = old.refused().is_some();
    let is_ours = !old.borrowed && old.exported_at.is_none() && old.secrets.refresh().is_some();
    new.borrowed && matches!(new.secrets, Secrets::Present { .. }) && is_ours && !is_dead
}

/// True if what is here is newer than `new`, or works where `new` does not. That a token is spent, which proves it, is
/// asked before.
pub(super) fn keeps(old: &Credential, new: &NewCredential) -> bool {
    match (&old.secrets, &new.secrets) {
        (Secrets::Undecryptable { .. }, _) => false,
        (Secrets::Present { .. }, Secrets::Undecryptable { .. }) => true,
        // What the provider has given just now is the newest there is, however short it lives.
        _ if new.source == Source::Login => false,
        _ if old.kind == Kind::ApiKey || old.secrets.same_as(&new.secrets) => false,
        // A login that can go on is not given up for an access token that cannot.
        _ if old.secrets.refresh().is_some() && new.secrets.refresh().is_none() => true,
        _ => age(old, new) == Ordering::Less,
    }
}

/// True if something else than the secrets changes. An export that is taken back is such a change, and so is a
/// confirmation.
pub(super) fn metadata_differs(old: &Credential, new: &NewCredential) -> bool {
    old.exported_at.is_some()
        || (old.unconfirmed && confirms(old, new))
        || old.borrowed != new.borrowed
        || old.issuer != new.issuer
        || old.client_id != new.client_id
        || old.account_id != new.account_id
        || old.email != new.email
        || old.plan != new.plan
        || old.user_id != new.user_id
        || old.fedramp != new.fedramp
}

/// `wanted`, or `wanted-2`, `wanted-3`, … where that is taken.
pub(super) fn free_label(known: &[Credential], wanted: &str) -> String {
    let taken = |label: &str| known.iter().any(|c| c.label == label);
    let wanted = if wanted.trim().is_empty() { "main" } else { wanted.trim() };
    if !taken(wanted) {
        return wanted.to_owned();
    }
    (2u32..).map(|n| format!("{wanted}-{n}")).find(|label| !taken(label)).unwrap_or_else(|| wanted.to_owned())
}
