//! `export codex|openclaw`: reads the other program's files, has auth-svc put current tokens into them, and writes them
//! back in one step each.

use std::path::{Path, PathBuf};

use auth_svc::import::{Collected, collect_codex_for_export, collect_openclaw_for_export};
use domain::Reason;
use domain::service::AUTH;
use proto::auth::v1::credential_service_client::CredentialServiceClient;
use proto::auth::v1::{ExportCredentialsRequest, ExportCredentialsResponse, ImportFile};
use serde_json::json;

use super::import::not_collected;
use crate::args::{Cli, ExportArgs, ExportTo};
use crate::control::Auth;
use crate::output::{Failed, print_failure, print_json, print_line, print_table};
use crate::replace_file::replace;

/// What to do once the files could not be written.
const TRY_AGAIN: &str = "the ownership was given up, and Switchboard does not refresh any more; the tokens are still \
     here: mend that and run the same command again with --again, or take the login back with `switchboard login codex`";

/// What to do once it was interrupted.
const INTERRUPTED: &str = "no file was written, but the ownership may have been given up, and Switchboard does not \
     refresh then: run the same command again with --again for the tokens, or take the login back with `switchboard login codex`";

pub(crate) async fn run(cli: &Cli, args: &ExportArgs) -> Result<(), Failed> {
    let (format, collected, credentials, dry_run, again) = match &args.to {
        ExportTo::Codex { path, credential, dry_run, again } => {
            let collected = collect_codex_for_export(path.as_deref());
            ("codex", collected, credential.iter().cloned().collect(), *dry_run, *again)
        }
        ExportTo::Openclaw { state_dir, secret_key_file, credentials, dry_run, again } => {
            let env = |name: &str| std::env::var(name).ok();
            let collected = collect_openclaw_for_export(state_dir.as_deref(), secret_key_file.as_deref(), &env);
            ("openclaw", collected, credentials.clone(), *dry_run, *again)
        }
    };
    let Collected { files, seed, root, .. } = collected.map_err(|error| not_collected(&error))?;
    let request = ExportCredentialsRequest {
        format: format.to_owned(),
        credentials,
        files: files.clone(),
        secret_seed: seed,
        dry_run,
        again,
    };
    let auth = Auth::open(cli, false).await?;
    let mut client = CredentialServiceClient::new(auth.channel())
        .max_encoding_message_size(service_kit::MAX_MESSAGE_BYTES)
        .max_decoding_message_size(service_kit::MAX_MESSAGE_BYTES);
    let answer = auth.complete(client.export_credentials(request)).await;
    let answer = answer.map_err(|failed| match failed {
        Failed::Interrupted(_) if !dry_run => Failed::Interrupted(INTERRUPTED),
        other => other,
    })?;
    let answer = answer.map_err(|s| Failed::status(&s, AUTH))?.into_inner();
    let mut written = Vec::new();
    let mut failed = None;
    for file in &answer.files {
        let path = if format == "codex" { root.clone() } else { root.join(&file.name) };
        match write(&path, file, &files) {
            Ok(()) => written.push(path),
            Err(why) => {
                failed = Some(format!("{} was not written: {why}", path.display()));
                break;
            }
        }
    }
    report(cli, &answer, dry_run, &written, failed.as_deref());
    let skipped = answer.credentials.iter().any(|c| c.action != "exported");
    // Also where others went: what is skipped is not where its owner expects it.
    if failed.is_some() || skipped || answer.credentials.is_empty() { Err(Failed::Printed(1)) } else { Ok(()) }
}

/// The tokens have been handed over by the service, and the file does not take them.
fn not_written(what: &str) -> Failed {
    Failed::because(Reason::StoreUnavailable, what, TRY_AGAIN)
}

/// Some or all of them stay here.
fn not_all(skipped: usize, all: usize) -> Option<Failed> {
    let what = match (skipped, all) {
        (skipped, all) if skipped == all => "nothing was exported; nothing was changed".to_owned(),
        (0, _) => return None,
        (skipped, all) => format!("{skipped} of {all} were not exported; why is said of each"),
    };
    Some(Failed::because(Reason::RequestInvalid, what, "see what is said of each, and name others with --credential"))
}

/// Writes one file, if it still is what it was when it was read.
fn write(path: &Path, file: &ImportFile, read: &[ImportFile]) -> Result<(), String> {
    let before = read.iter().find(|read| read.name == file.name).map(|read| &*read.content);
    replace(path, before, &file.content)
}

fn report(cli: &Cli, answer: &ExportCredentialsResponse, dry_run: bool, written: &[PathBuf], failed: Option<&str>) {
    let skipped = answer.credentials.iter().filter(|c| c.action != "exported").count();
    let exported = skipped < answer.credentials.len();
    // What was handed out has not reached its file, or one of its files.
    let action = |action: &str| match failed {
        Some(_) if action == "exported" => if written.is_empty() { "not written" } else { "partly written" }.to_owned(),
        _ => action.to_owned(),
    };
    if cli.json {
        let credentials: Vec<_> = answer
            .credentials
            .iter()
            .map(|c| json!({ "label": c.label, "profile": c.profile, "action": action(&c.action), "detail": c.detail }))
            .collect();
        let error = failed.map(not_written).or_else(|| not_all(skipped, answer.credentials.len()));
        let error = error.and_then(|failed| failed.failure());
        let status = if skipped == 0 && exported && failed.is_none() { "ok" } else { "error" };
        print_json(&json!({ "status": status, "dryRun": dry_run, "credentials": credentials, "files": written,
            "notes": answer.notes, "error": error }));
        return;
    }
    let rows: Vec<_> = answer
        .credentials
        .iter()
        .map(|c| {
            let profile = if c.profile.is_empty() { "-".to_owned() } else { c.profile.clone() };
            vec![c.label.clone(), profile, action(&c.action)]
        })
        .collect();
    print_table(&["CREDENTIAL", "PROFILE", "ACTION"], &rows);
    for c in answer.credentials.iter().filter(|c| !c.detail.is_empty()) {
        print_line(&format!("{}: {}", c.label, c.detail));
    }
    for path in written {
        print_line(&format!("wrote {}", path.display()));
    }
    for note in &answer.notes {
        print_line(&format!("note: {note}"));
    }
    if dry_run {
        print_line("dry run: nothing was changed");
    }
    if let Some(failed) = failed.map(not_written).or_else(|| not_all(skipped, answer.credentials.len())) {
        failed.failure().iter().for_each(print_failure);
    }
}
