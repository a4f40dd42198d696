//! Which credentials are considered, and in which order.

use std::cmp::Reverse;
use std::sync::Arc;

use domain::CandidateReason;
use proto::auth::v1::Wanted;

use super::judge::{Listed, Refusal};
use crate::store::{Credential, Kind};

/// Something to consider.
pub(super) enum Entry {
    /// A stored credential that the lists allow.
    Stored(Arc<Credential>),
    /// Something that is not even looked at, by its label.
    Refused(String, Refusal),
}

/// Every candidate of a route: those on the agent's list in its order, else the provider's in theirs, or
/// (`by_session`) in the order of the caller's session; then what the lists name in vain; then what they leave out.
pub(super) fn entries(stored: Vec<Arc<Credential>>, wanted: &Wanted, by_session: bool) -> Vec<Entry> {
    let (mut own, foreign): (Vec<_>, Vec<_>) = stored.into_iter().partition(|c| c.provider == wanted.provider);
    if by_session {
        own.sort_by_cached_key(|credential| Reverse(weight(&wanted.session, &credential.id)));
    }
    let mut entries = Vec::new();
    let mut named: Vec<&str> = Vec::new();
    for label in wanted.credentials.iter().chain(&wanted.key_credentials) {
        let by_agent = wanted.credentials.contains(label);
        // A key's own list has no order: what it allows follows below.
        let here = own.iter().position(|c| c.label == *label);
        if named.contains(&label.as_str()) || (here.is_some() && !by_agent) {
            continue;
        }
        named.push(label);
        entries.push(match here {
            Some(at) => allowed(own.remove(at), wanted),
            None => Entry::Refused(label.clone(), not_here(&foreign, label, wanted)),
        });
    }
    entries.extend(own.into_iter().map(|credential| allowed(credential, wanted)));
    if entries.is_empty() {
        entries.push(Entry::Refused("-".to_owned(), none_at_all(wanted)));
    }
    entries
}

/// How much a session is drawn to a credential (rendezvous hashing). Every process comes to the same answer without
/// asking another, and a credential that comes or goes moves no session but those it wins or leaves.
pub(super) fn weight(session: &str, credential_id: &str) -> [u8; blake3::OUT_LEN] {
    *blake3::Hasher::new().update(session.as_bytes()).update(credential_id.as_bytes()).finalize().as_bytes()
}

fn allowed(credential: Arc<Credential>, wanted: &Wanted) -> Entry {
    let outside = |list: &[String]| !list.is_empty() && !list.contains(&credential.label);
    let detail = if outside(&wanted.credentials) {
        format!("it is not on the list of agent {} ([agents.{}] credentials)", wanted.agent, wanted.agent)
    } else if outside(&wanted.key_credentials) {
        "it is not on the list of the caller's agent key".to_owned()
    } else {
        return Entry::Stored(credential);
    };
    let refusal = Refusal::new(CandidateReason::NotAllowed, detail);
    Entry::Refused(credential.label.clone(), refusal.listed(Listed::LeftOut))
}

fn not_here(foreign: &[Arc<Credential>], label: &str, wanted: &Wanted) -> Refusal {
    let Some(other) = foreign.iter().find(|c| c.label == label) else {
        let detail = "there is no credential of this name; `switchboard credentials list` shows what there is";
        return Refusal::new(CandidateReason::Missing, detail).listed(Listed::Absent);
    };
    let realm = match other.kind {
        Kind::OAuth => "subscription",
        Kind::ApiKey => "api-key",
    };
    if realm == wanted.realm {
        let detail = format!("it belongs to provider {}, not to {}", other.provider, wanted.provider);
        return Refusal::new(CandidateReason::Missing, detail).listed(Listed::Elsewhere);
    }
    let detail = format!(
        "it belongs to provider {} and bills realm {realm}; this route bills {}, and only a fallback list may leave that",
        other.provider, wanted.realm
    );
    Refusal::new(CandidateReason::WrongRealm, detail).listed(Listed::Elsewhere)
}

fn none_at_all(wanted: &Wanted) -> Refusal {
    let how = match wanted.realm.as_str() {
        "subscription" => {
            "`switchboard login codex`, `switchboard import codex` or `switchboard import openclaw`".to_owned()
        }
        _ => format!("`switchboard login api-key --provider {}`", wanted.provider),
    };
    let detail = format!("there is no credential of provider {}; add one: {how}", wanted.provider);
    Refusal::new(CandidateReason::Missing, detail)
}
