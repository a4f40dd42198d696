//! Which of two states of a login is the newer one.

use std::cmp::Ordering;
use std::collections::HashSet;

use secrecy::SecretString;

use super::{Decided, Row, Taking};
use crate::store::credential::{Credential, LatchKind, NewCredential, Secrets};
use crate::store::intent::TokenHash;
use crate::store::same_login::same_login;

/// The credential here that is the same login: by its id, or as an import finds it.
pub(super) fn here<'a>(
    known: &'a [Credential],
    new: &NewCredential,
    id: &str,
    same_database: bool,
) -> Option<&'a Credential> {
    let by_id = known.iter().find(|old| old.id == id && old.kind == new.kind && old.provider == new.provider);
    // Ids are kept by a restore elsewhere; there the login behind one may have become another.
    let by_id = by_id.filter(|old| same_database || same_login(std::slice::from_ref(*old), new).is_some());
    by_id.or_else(|| same_login(known, new))
}

/// What becomes of a row that is the same login as `old`, and why. `busy`: some process refreshes `old`.
pub(super) fn decide(
    old: &Credential,
    new: &NewCredential,
    row: &Row,
    spent_there: &HashSet<TokenHash>,
    busy: bool,
    taking: &Taking<'_>,
) -> (Decided, String) {
    let kept = |why: &str| (Decided::Kept, why.to_owned());
    if old.secrets.same_as(&new.secrets) {
        return (Decided::Unchanged, String::new());
    }
    if busy {
        let why = "a refresh of it is under way; restore again in a moment if it is still needed";
        return (Decided::Skipped, why.to_owned());
    }
    match (&old.secrets, &new.secrets) {
        (_, Secrets::Undecryptable { .. }) => return kept("the backup's cannot be opened"),
        (Secrets::Undecryptable { .. }, _) => return (Decided::Updated, String::new()),
        _ => {}
    }
    if old.secrets.refresh().is_some_and(|token| spent_there.contains(&TokenHash::of(token))) {
        // It is newer whatever its times say: there, what is here was spent.
        return (Decided::Updated, String::new());
    }
    let same_row = taking.same_database && row.text("id") == Some(old.id.as_str());
    let by_version = row.integer("version").filter(|_| same_row).map(|version| version.cmp(&i64::from(old.version)));
    // A copy of the database that was put back counts on from an older version: time wins where the two contradict.
    match by_time(old, new, row).then(by_version.unwrap_or(Ordering::Equal)) {
        Ordering::Greater => (Decided::Updated, String::new()),
        Ordering::Less => kept("what is here is newer"),
        Ordering::Equal => kept("nothing tells which is newer, so what is here stays"),
    }
}

/// How new the backup's tokens are against those here.
fn by_time(old: &Credential, new: &NewCredential, row: &Row) -> Ordering {
    let both = |new: Option<i64>, old: Option<i64>| match (new, old) {
        (Some(new), Some(old)) => new.cmp(&old),
        _ => Ordering::Equal,
    };
    both(row.integer("access_expires_at"), old.access_expires_at).then_with(|| both(new.last_refresh, old.last_refresh))
}

/// What would keep every list of credentials from being read, once this row is stored.
pub(super) fn unreadable(row: &Row) -> Option<String> {
    if let Some(latch) = row.text("latch").filter(|latch| latch.parse::<LatchKind>().is_err()) {
        return Some(format!("it is latched as {latch:?}, which is not known here"));
    }
    let beyond = |column: &&str| row.integer(column).is_some_and(|number| i32::try_from(number).is_err());
    let column = ["version", "latch_version"].into_iter().find(beyond)?;
    Some(format!("it is damaged: its {column} is out of range"))
}

/// The credential of a row; `None` if it is of a kind that this version does not know.
pub(super) fn new_credential(row: &Row) -> Option<NewCredential> {
    let text = |column| row.text(column).map(str::to_owned);
    let secret = |column| row.text(column).map(SecretString::from);
    let secrets = match text("undecryptable") {
        Some(detail) => Secrets::Undecryptable { detail },
        None => Secrets::Present {
            access: secret("access_token"),
            refresh: secret("refresh_token"),
            id_token: secret("id_token"),
            api_key: secret("api_key"),
        },
    };
    Some(NewCredential {
        label: text("label")?,
        provider: text("provider")?,
        kind: row.text("kind")?.parse().ok()?,
        issuer: text("issuer"),
        client_id: text("client_id"),
        account_id: text("account_id"),
        email: text("email"),
        plan: text("plan"),
        user_id: text("user_id"),
        fedramp: row.integer("fedramp") == Some(1),
        source: row.text("source")?.parse().ok()?,
        secrets,
        extra: serde_json::Value::Null,
        access_expires_at: row.integer("access_expires_at"),
        last_refresh: row.integer("last_refresh"),
        borrowed: row.integer("borrowed") == Some(1),
        profile: text("profile"),
    })
}
