//! Between rows and credentials.

use std::str::FromStr;

use secrecy::{ExposeSecret, SecretString};
use sqlx::{FromRow, Sqlite, Transaction};

use super::credential::{Credential, Kind, Latch, Rest, Secrets, Source};
use super::egress::EgressRule;
use super::intent::{Failing, IntentRow, RefreshRecord, TokenHash};
use super::workspaces::Workspace;
use super::{Store, StoreError};
use crate::vault::{Place, VaultError};

/// Columns that hold secrets.
pub(super) const ACCESS: &str = "access_token";
pub(super) const REFRESH: &str = "refresh_token";
pub(super) const ID_TOKEN: &str = "id_token";
pub(super) const API_KEY: &str = "api_key";
pub(super) const EXTRA: &str = "extra";
const TABLE: &str = "credentials";

/// A row of `credentials`.
#[derive(FromRow)]
pub(super) struct CredentialRow {
    pub(super) id: String,
    label: String,
    provider: String,
    kind: String,
    issuer: Option<String>,
    client_id: Option<String>,
    account_id: Option<String>,
    email: Option<String>,
    plan: Option<String>,
    user_id: Option<String>,
    fedramp: bool,
    source: String,
    profile: Option<String>,
    borrowed: bool,
    // Whole, as SQLite has it: one that is out of range is one broken credential, and not a list that cannot be read.
    version: i64,
    access_token: Option<Vec<u8>>,
    refresh_token: Option<Vec<u8>>,
    id_token: Option<Vec<u8>>,
    api_key: Option<Vec<u8>>,
    undecryptable: Option<String>,
    access_expires_at: Option<i64>,
    last_refresh: Option<i64>,
    recovery_version: Option<i64>,
    latch: Option<String>,
    latch_version: Option<i64>,
    latch_detail: Option<String>,
    unconfirmed: bool,
    rests: String,
    failing: Option<String>,
    intent: Option<String>,
    exported_at: Option<i64>,
    egress_require: Option<String>,
    egress_prefer: Option<String>,
    workspace: Option<String>,
}

/// The statement that reads [`CredentialRow`]s: rests that have not ended at `?1` (Unix milliseconds) come along as JSON,
/// so that one statement, and so one moment, gives all of it.
macro_rules! select_credentials {
    ($rest:literal) => {
        concat!(
            "SELECT credentials.*, (SELECT json_group_array(json_array(model, rests.kind, until_ms, window_s, limit_id, began_ms))
                FROM rests WHERE credential_id = credentials.id AND until_ms > ?1) AS rests,
                (SELECT json_array(refresh_state.version, since_ms, failures, cause, next_ms) FROM refresh_state
                WHERE credential_id = credentials.id) AS failing,
                (SELECT json_array(hex(spent_hash), owner, state, started_ms, deadline_ms, doubt_ms, doubt_cause)
                FROM refresh_intents WHERE credential_id = credentials.id) AS intent,
                (SELECT json_array(origin, routing, learned_ms, problem, failures, workspaces.next_ms) FROM workspaces
                WHERE workspaces.account_id = credentials.account_id) AS workspace FROM credentials ",
            $rest
        )
    };
}
pub(super) use select_credentials;

/// Rests from their JSON. A kind that this build does not know is one that a newer one has left: it is passed over.
fn rests(json: &str) -> Result<Vec<Rest>, serde_json::Error> {
    type Row = (String, String, i64, i32, String, i64);
    let rows: Vec<Row> = serde_json::from_str(json)?;
    let rest = |(model, kind, until_ms, window_s, limit, began_ms): Row| {
        let model = (!model.is_empty()).then_some(model);
        Some(Rest { model, kind: kind.parse().ok()?, window_s, limit, began_ms, until_ms })
    };
    Ok(rows.into_iter().filter_map(rest).collect())
}

/// What is on record about the refreshing of `version`, whose refresh token is `token`.
fn refresh_record(
    row: &CredentialRow,
    token: Option<&SecretString>,
    now_ms: i64,
) -> Result<RefreshRecord, serde_json::Error> {
    let failing: Option<(i64, i64, u32, String, i64)> = row.failing.as_deref().map(serde_json::from_str).transpose()?;
    let failing = failing.filter(|(version, ..)| *version == row.version);
    let intent = row.intent.as_deref().map(IntentRow::from_json).transpose()?;
    let spent = token.map(TokenHash::of);
    let record = RefreshRecord {
        under_way: intent.as_ref().zip(spent).and_then(|(intent, token)| intent.under_way(token, now_ms)),
        failing: failing.map(|(_, since_ms, failures, cause, next_ms)| Failing { since_ms, failures, cause, next_ms }),
        doubt: intent.zip(spent).and_then(|(intent, token)| intent.doubt(token, now_ms)),
        ahead_ms: None,
    };
    Ok(record.read_at(now_ms))
}

/// What of a row this build cannot read, in words.
#[derive(Default)]
struct Unread(Vec<String>);

impl Unread {
    fn name<T: FromStr>(&mut self, column: &str, name: &str) -> Option<T> {
        let known = name.parse().ok();
        if known.is_none() {
            self.0.push(format!("its {column} is {name:?}, which is not known here"));
        }
        known
    }

    /// The version. In the place of one that cannot be stands one that no latch or record is of, and from which a new
    /// login can count on.
    fn version(&mut self, version: i64) -> i32 {
        i32::try_from(version).unwrap_or_else(|_| {
            self.0.push("its version is out of range".to_owned());
            1_000_000_000
        })
    }

    fn json<T: Default>(&mut self, what: &str, read: Result<T, serde_json::Error>) -> T {
        read.unwrap_or_else(|error| {
            self.0.push(format!("its {what}: {error}"));
            T::default()
        })
    }

    /// The secrets of the row: none that can be used, if it cannot be read whole. Nobody knows what it should say.
    fn over(self, secrets: Secrets) -> Secrets {
        if self.0.is_empty() {
            return secrets;
        }
        let detail = format!("its row cannot be read: {}; log in or import it again", self.0.join(", "));
        Secrets::Undecryptable { detail }
    }
}

impl Store {
    pub(super) fn place<'a>(&self, row: &'a str, column: &'static str) -> Place<'a> {
        Place { table: TABLE, row, column }
    }

    /// Asks for the transaction that writes the value: one that is sealed before it has begun may be sealed with a key
    /// that is changed meanwhile.
    pub(super) fn seal(
        &self,
        _writer: &Transaction<'_, Sqlite>,
        row: &str,
        column: &'static str,
        plain: &[u8],
    ) -> Result<Vec<u8>, StoreError> {
        self.vault().seal(self.place(row, column), plain).map_err(|cause| self.vault_error(row, column, cause))
    }

    /// Seals what is there; `None` stays `None`.
    pub(super) fn seal_secret(
        &self,
        writer: &Transaction<'_, Sqlite>,
        row: &str,
        column: &'static str,
        secret: &Option<SecretString>,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        secret.as_ref().map(|s| self.seal(writer, row, column, s.expose_secret().as_bytes())).transpose()
    }

    pub(super) fn vault_error(&self, row: &str, column: &'static str, cause: VaultError) -> StoreError {
        StoreError::Vault { path: self.path().display().to_string(), table: TABLE, row: row.to_owned(), column, cause }
    }

    pub(super) fn open_secret(
        &self,
        row: &str,
        column: &'static str,
        sealed: &Option<Vec<u8>>,
    ) -> Result<Option<SecretString>, String> {
        let Some(sealed) = sealed else { return Ok(None) };
        let damaged = |cause: VaultError| {
            format!("its {} cannot be opened: {cause}; log in or import it again", column.replace('_', " "))
        };
        let plain = self.vault().open(self.place(row, column), sealed).map_err(damaged)?;
        let text = std::str::from_utf8(&plain).map_err(|_| damaged(VaultError::Damaged))?;
        Ok(Some(SecretString::from(text)))
    }

    /// True if a secret of this row was sealed with a key that this process does not know.
    pub(super) fn is_foreign(&self, row: &CredentialRow) -> bool {
        let sealed = [&row.access_token, &row.refresh_token, &row.id_token, &row.api_key];
        sealed.into_iter().flatten().any(|sealed| self.vault().is_foreign(sealed))
    }

    /// A credential from its row. One whose secrets do not open, or whose row cannot be read whole, is one that cannot
    /// be used and says why: not an error, which would take the others away with it.
    pub(super) fn credential(&self, row: CredentialRow) -> Credential {
        let mut unread = Unread::default();
        let latched = row.latch.as_deref().filter(|_| row.latch_version == Some(row.version));
        let latch = latched.and_then(|kind| unread.name("latch", kind));
        let latch = latch.map(|kind| Latch { kind, detail: row.latch_detail.clone().unwrap_or_default() });
        let kind = unread.name("kind", &row.kind).unwrap_or(Kind::OAuth);
        let source = unread.name("source", &row.source).unwrap_or(Source::Login);
        let version = unread.version(row.version);
        let rests = unread.json("rests", rests(&row.rests));
        // A rule that cannot be read may forbid what an empty one allows.
        let egress = EgressRule::read(row.egress_require.as_deref(), row.egress_prefer.as_deref());
        let egress = unread.json("egress rule", egress);
        let workspace = unread.json("workspace", row.workspace.as_deref().map(Workspace::read).transpose());
        let secrets = match &row.undecryptable {
            Some(detail) => Secrets::Undecryptable { detail: detail.clone() },
            None => self.open_secrets(&row).unwrap_or_else(|detail| Secrets::Undecryptable { detail }),
        };
        let refresh = refresh_record(&row, secrets.refresh(), self.clock().now_ms());
        let refresh = unread.json("refresh record", refresh);
        Credential {
            kind,
            source,
            id: row.id,
            label: row.label,
            provider: row.provider,
            issuer: row.issuer,
            client_id: row.client_id,
            account_id: row.account_id,
            email: row.email,
            plan: row.plan,
            user_id: row.user_id,
            fedramp: row.fedramp,
            profile: row.profile,
            borrowed: row.borrowed,
            version,
            access_expires_at: row.access_expires_at,
            last_refresh: row.last_refresh,
            recovery_version: row.recovery_version.and_then(|version| i32::try_from(version).ok()),
            latch,
            rests,
            refresh,
            secrets: unread.over(secrets),
            exported_at: row.exported_at,
            unconfirmed: row.unconfirmed,
            egress,
            workspace,
        }
    }

    fn open_secrets(&self, row: &CredentialRow) -> Result<Secrets, String> {
        Ok(Secrets::Present {
            access: self.open_secret(&row.id, ACCESS, &row.access_token)?,
            refresh: self.open_secret(&row.id, REFRESH, &row.refresh_token)?,
            id_token: self.open_secret(&row.id, ID_TOKEN, &row.id_token)?,
            api_key: self.open_secret(&row.id, API_KEY, &row.api_key)?,
        })
    }
}

#[cfg(test)]
mod tests;
