//! `import codex|openclaw`: reads the files here and has auth-svc take them over, the running one or our own.

use auth_svc::import::{CollectError, Collected, collect_codex, collect_openclaw};
use domain::Reason;
use domain::service::AUTH;
use proto::auth::v1::credential_service_client::CredentialServiceClient;
use proto::auth::v1::{ImportCredentialsRequest, ImportCredentialsResponse};
use serde_json::json;

use crate::args::{Cli, ImportArgs, ImportFrom};
use crate::control::{Auth, data_dir};
use crate::output::{Failed, eprint_line, print_failure, print_json, print_line, print_table, when};

pub(crate) async fn run(cli: &Cli, args: &ImportArgs) -> Result<(), Failed> {
    let (format, collected, common, label) = match &args.from {
        ImportFrom::Codex { path, common, label } => ("codex", collect_codex(path.as_deref()), common, label.clone()),
        ImportFrom::Openclaw { state_dir, secret_key_file, common } => {
            let env = |name: &str| std::env::var(name).ok();
            let collected = collect_openclaw(state_dir.as_deref(), secret_key_file.as_deref(), &env);
            ("openclaw", collected, common, None)
        }
    };
    let Collected { files, seed, looked_for_seed, .. } = collected.map_err(|error| not_collected(&error))?;
    let no_seed = if seed.is_none() { looked_for_seed } else { Vec::new() };
    let request = ImportCredentialsRequest {
        format: format.to_owned(),
        files,
        secret_seed: seed,
        dry_run: common.dry_run,
        borrow: common.borrow,
        label,
    };
    let auth = if common.dry_run { Auth::open_unchanged(cli).await? } else { Auth::open(cli, true).await? };
    let mut client =
        CredentialServiceClient::new(auth.channel()).max_encoding_message_size(service_kit::MAX_MESSAGE_BYTES);
    let running = auth.is_running();
    let answer = auth.complete(client.import_credentials(request)).await?;
    let answer = answer.map_err(|s| Failed::status(&s, AUTH))?.into_inner();
    // The credentials are in: what hinders the routes must not hide that.
    let (config_note, written) = match write_config(cli, &answer, common.dry_run) {
        Ok(note) => (note, true),
        Err(why) => {
            (Some(format!("routes not written, {why}; put them there by hand:\n{}", answer.config_toml)), false)
        }
    };
    report(cli, &answer, common.dry_run, config_note.as_deref(), running);
    if !cli.json && !no_seed.is_empty() && answer.credentials.iter().any(|c| c.action == "undecryptable") {
        eprint_line(&format!("no seed of the sidecars' key was found; looked in: {}", no_seed.join(", ")));
        eprint_line("next: name it with --secret-key-file, and import again");
    }
    if answer.usable && written { Ok(()) } else { Err(Failed::Printed(1)) }
}

/// The other program's files cannot be read.
pub(super) fn not_collected(error: &CollectError) -> Failed {
    let (reason, next) = match error {
        CollectError::Missing(..) | CollectError::NoProfiles(_) => {
            (Reason::NotFound, "name the other program's directory, or log in: `switchboard login codex`")
        }
        _ => (Reason::RequestInvalid, "mend that, or name another path; nothing was changed"),
    };
    Failed::because(reason, error.to_string(), next)
}

fn nothing_came_in() -> Failed {
    let next = "see what is said of each of them; or log in: `switchboard login codex`";
    Failed::because(Reason::CredentialNotBound, "no usable credential came in", next)
}

/// Writes the imported routes as the configuration file, but only where there is none; otherwise they are printed.
fn write_config(cli: &Cli, answer: &ImportCredentialsResponse, dry_run: bool) -> Result<Option<String>, String> {
    if answer.config_toml.is_empty() {
        return Ok(None);
    }
    let path = match cli.places.config.clone() {
        Some(path) => path,
        None => data_dir(cli).map_err(|e| e.to_string())?.join(config::FILE_NAME),
    };
    if std::fs::read_to_string(&path).is_ok_and(|there| there == answer.config_toml) {
        return Ok(Some(format!("routes unchanged, {} holds them", path.display())));
    }
    if path.exists() {
        return Ok(Some(format!(
            "routes not written, {} exists; add by hand:\n{}",
            path.display(),
            answer.config_toml
        )));
    }
    if dry_run {
        return Ok(Some(format!("routes that would be written to {}:\n{}", path.display(), answer.config_toml)));
    }
    std::fs::write(&path, &answer.config_toml).map_err(|e| format!("{} cannot be written: {e}", path.display()))?;
    Ok(Some(format!("routes written to {}", path.display())))
}

fn report(cli: &Cli, answer: &ImportCredentialsResponse, dry_run: bool, config_note: Option<&str>, running: bool) {
    if cli.json {
        let credentials: Vec<_> = answer
            .credentials
            .iter()
            .map(|c| {
                json!({ "profile": c.profile, "label": c.label, "action": c.action, "detail": c.detail,
                "provider": c.provider, "firstRefresh": c.first_refresh })
            })
            .collect();
        print_json(
            &json!({ "status": if answer.usable { "ok" } else { "error" }, "dryRun": dry_run, "usable": answer.usable,
            "credentials": credentials, "notes": answer.notes, "configToml": answer.config_toml, "config": config_note,
            "error": (!answer.usable).then(|| nothing_came_in().failure()) }),
        );
        return;
    }
    let now = domain::Clock::system().now_s();
    let rows: Vec<_> = answer
        .credentials
        .iter()
        .map(|c| {
            let first = c.first_refresh.map_or_else(|| "-".to_owned(), |at| when(at, now));
            let label = if c.label.is_empty() { "-".to_owned() } else { c.label.clone() };
            vec![c.profile.clone(), label, c.action.clone(), first]
        })
        .collect();
    print_table(&["PROFILE", "CREDENTIAL", "ACTION", "FIRST REFRESH"], &rows);
    // A sentence in a cell would make every line as long as itself.
    for c in answer.credentials.iter().filter(|c| !c.detail.is_empty()) {
        print_line(&format!("{}: {}", c.profile, c.detail));
    }
    for note in &answer.notes {
        print_line(&format!("note: {note}"));
    }
    if let Some(note) = config_note {
        print_line(note);
        if running && !dry_run && !note.starts_with("routes unchanged") {
            print_line("the running server reads it at the next reload (SIGHUP) or start");
        }
    }
    if dry_run {
        print_line("dry run: nothing was changed");
    }
    if !answer.usable {
        nothing_came_in().failure().iter().for_each(print_failure);
    }
}
