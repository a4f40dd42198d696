//! The way back of an import: hands current tokens to Codex CLI or OpenClaw, in their own files, and gives their
//! ownership up.
//!
//! The files come from where the command runs, and go back there. Ownership ends before the tokens leave: first it is
//! tried what would be written, then the credentials are marked, then whatever refresh was under way has ended, and only
//! then the tokens are read. After the mark no refresh begins, so what leaves is not spent behind the receiver's back.

mod choose;
mod codex;
mod openclaw;
mod replace;

use std::collections::{BTreeMap, HashSet};

use domain::{Failure, Reason, service};
use proto::auth::v1::{ExportCredentialsRequest, ExportCredentialsResponse, ExportedCredential, ImportFile};
use serde_json::{Map, Value};

use crate::import::input::Refused;
use crate::refresh::Refresher;
use crate::refresh::outlook::describe;
use crate::store::{Credential, Kind, LatchKind, Secrets, Store, TokenHash};

/// A credential on its way out.
struct Outgoing {
    credential: Credential,
    /// The fields that an import did not know.
    extra: Value,
    /// Refresh tokens that it once had.
    spent: HashSet<TokenHash>,
    /// True if an earlier export has handed it over, and nobody has taken it back.
    handed_over: bool,
    /// True if it may be handed over once more, to whatever place.
    again: bool,
}

/// What would be written, and what is said about it.
#[derive(Default)]
struct Written {
    files: BTreeMap<String, Vec<u8>>,
    lines: Vec<ExportedCredential>,
    notes: Vec<String>,
}

impl Written {
    fn line(&mut self, label: &str, profile: &str, outcome: Result<(), String>) {
        let (action, detail) = match outcome {
            Ok(()) => ("exported", String::new()),
            Err(why) => ("skipped", why),
        };
        self.lines.push(ExportedCredential {
            label: label.to_owned(),
            profile: profile.to_owned(),
            action: action.to_owned(),
            detail,
        });
    }

    fn has_exported(&self, credential: &Credential) -> bool {
        self.lines.iter().any(|line| line.label == credential.label && line.action == "exported")
    }
}

/// Writes the request's files anew with current tokens, or says what an export would do.
///
/// # Errors
///
/// REQUEST_INVALID if a file cannot be understood or it is not clear what to export; NOT_FOUND if there is no such
/// credential; STORE_UNAVAILABLE if the database fails, also where a refreshed token cannot be written: ownership may have
/// been given up then, and another export goes on from there.
pub(crate) async fn run(
    store: &Store,
    refresher: &Refresher,
    now_s: i64,
    request: &ExportCredentialsRequest,
) -> Result<ExportCredentialsResponse, Failure> {
    let all = store.list_credentials(None).await?;
    let chosen = choose::choose(&all, &request.format, &request.credentials)?;
    let draft = write(request, &gather(store, &chosen, &all, request.again).await?, now_s)?;
    let leaving: Vec<&Credential> = chosen.iter().filter(|c| draft.has_exported(c)).collect();
    if request.dry_run || leaving.is_empty() {
        return Ok(answer(Written { files: BTreeMap::new(), ..draft }));
    }
    // An API key is good for any number of owners.
    let owned: Vec<&Credential> = leaving.into_iter().filter(|c| c.kind == Kind::OAuth).collect();
    let ids: Vec<String> = owned.iter().map(|credential| credential.id.clone()).collect();
    store.mark_exported(&ids).await?;
    let mut unsure = Vec::new();
    for credential in owned {
        refresher.settle(&credential.id).await?;
        let note = refresher.notes().get(&credential.id, credential.version);
        unsure.extend(note.filter(|note| !note.cause.is_empty()).map(|note| {
            format!(
                "{}: its last refresh failed ({}); should the provider have spent its token all the same, a new login is \
                 needed",
                credential.label, note.cause
            )
        }));
    }
    let mut current = Vec::with_capacity(chosen.len());
    for credential in &chosen {
        current.extend(store.credential_by_id(&credential.id).await?);
    }
    for credential in &current {
        unsure.extend(credential.refresh.doubt.as_ref().map(|doubt| {
            format!(
                "{}: {}: its refresh token may be spent, and a new login be needed",
                credential.label,
                describe(doubt)
            )
        }));
    }
    let mut written = write(request, &gather(store, &current, &all, request.again).await?, now_s)?;
    written.notes.extend(unsure);
    for line in &written.lines {
        tracing::info!(
            credential = line.label,
            profile = line.profile,
            action = line.action,
            detail = line.detail,
            "exported a credential"
        );
    }
    Ok(answer(written))
}

/// `before`: all credentials as they were before this export marked any.
async fn gather(
    store: &Store,
    chosen: &[Credential],
    before: &[Credential],
    again: bool,
) -> Result<Vec<Outgoing>, Failure> {
    let mut outgoing = Vec::with_capacity(chosen.len());
    for credential in chosen {
        outgoing.push(Outgoing {
            extra: store.extra(&credential.id).await?,
            spent: store.spent_tokens(&credential.id).await?,
            handed_over: before.iter().any(|old| old.id == credential.id && old.exported_at.is_some()),
            again,
            credential: credential.clone(),
        });
    }
    Ok(outgoing)
}

fn write(request: &ExportCredentialsRequest, outgoing: &[Outgoing], now_s: i64) -> Result<Written, Failure> {
    let written = match request.format.as_str() {
        "codex" => codex::write(request, outgoing, now_s),
        "openclaw" => openclaw::write(request, outgoing),
        other => Err(Refused::new(format!("export format {other:?} is not known; the formats are codex and openclaw"))
            .param("format")),
    };
    let mut written = written
        .map_err(|refused| Failure::from(refused).next_step("correct it and export again; nothing was changed"))?;
    let labels: Vec<&str> = outgoing
        .iter()
        .map(|out| &out.credential)
        .filter(|credential| credential.kind == Kind::OAuth && written.has_exported(credential))
        .map(|credential| credential.label.as_str())
        .collect();
    if !labels.is_empty() {
        let (tokens, them) = match labels.len() {
            1 => ("its access token while that lives", "it"),
            _ => ("their access tokens while those live", "them"),
        };
        let labels = labels.join(", ");
        written.notes.push(format!(
            "Switchboard does not refresh {labels} any more and uses {tokens}; an import or `switchboard login codex` \
             takes {them} back"
        ));
    }
    Ok(written)
}

fn answer(written: Written) -> ExportCredentialsResponse {
    let files = written.files.into_iter().map(|(name, content)| ImportFile { name, content: content.into() });
    ExportCredentialsResponse { files: files.collect(), credentials: written.lines, notes: written.notes }
}

/// Why this credential cannot be handed to anybody, if that is so.
fn refusal(credential: &Credential) -> Option<String> {
    let Secrets::Present { refresh, api_key, .. } = &credential.secrets else {
        return Some("its secrets cannot be opened".to_owned());
    };
    if credential.kind == Kind::ApiKey {
        return api_key.is_none().then(|| "it holds no key".to_owned());
    }
    if credential.borrowed {
        return Some("it is borrowed: its owner has it already".to_owned());
    }
    if credential.unconfirmed {
        let label = &credential.label;
        return Some(format!(
            "it was restored from a backup, and its refresh token may be spent by now; if nothing else has used it since, \
             run `switchboard credentials confirm {label}` first"
        ));
    }
    if let Some(latch) = credential.latch.as_ref().filter(|latch| latch.kind == LatchKind::NeedsLogin) {
        return Some(format!("it needs a new login ({}): there is nothing good to hand over", latch.detail));
    }
    refresh.is_none().then(|| "it has no refresh token: there is nothing to hand over".to_owned())
}

/// The document as bytes, laid out as `like` is.
fn render(root: &Map<String, Value>, like: Option<&[u8]>) -> Result<Vec<u8>, Refused> {
    let like = like.and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or("{\n  ");
    let broken = like.split_once('\n').map(|(_, rest)| rest);
    let indent: String = broken.unwrap_or_default().chars().take_while(|c| matches!(c, ' ' | '\t')).collect();
    let failed = |error: serde_json::Error| Refused::new(format!("the file cannot be written as JSON: {error}"));
    let mut bytes = Vec::new();
    if broken.is_some() && !indent.is_empty() {
        let layout = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
        let mut out = serde_json::Serializer::with_formatter(&mut bytes, layout);
        serde::Serialize::serialize(root, &mut out).map_err(failed)?;
    } else {
        serde_json::to_writer(&mut bytes, root).map_err(failed)?;
    }
    if like.ends_with('\n') {
        bytes.push(b'\n');
    }
    Ok(bytes)
}

/// A failure that asks for the credential to be named.
fn unclear(message: String) -> Failure {
    Failure::new(Reason::RequestInvalid, service::AUTH, message)
        .param("credentials")
        .next_step("name what to export: --credential LABEL; `switchboard credentials list` shows all")
}
