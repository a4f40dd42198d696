//! `backup FILE`: the service encrypts, this command writes the file, whole or not at all.

use std::io::{ErrorKind, Write};
use std::path::Path;

use domain::service::{AUTH, CLI};
use domain::{Failure, Reason};
use proto::auth::v1::BackupRequest;
use proto::auth::v1::maintenance_service_client::MaintenanceServiceClient;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use service_kit::PeerChannel;
use service_kit::files::{Replacement, unwritten};

use crate::args::{BackupArgs, Cli};
use crate::control::Auth;
use crate::output::{Failed, print_json, print_line};
use crate::passphrase::passphrase;
use crate::replace_file::writable;

pub(crate) async fn run(cli: &Cli, args: &BackupArgs) -> Result<(), Failed> {
    let file = &args.file;
    // Before anybody is asked for anything.
    let there = file.symlink_metadata().is_ok();
    if there && !args.force {
        let message = format!("{} exists", file.display());
        return Err(Failed::because(Reason::RequestInvalid, message, "name another file, or replace it with --force"));
    }
    if there && !file.is_file() {
        return Err(Failed::because(
            Reason::RequestInvalid,
            format!("{} is not a file", file.display()),
            "name a file",
        ));
    }
    let passphrase = passphrase(&args.passphrase, true)?;
    let auth = Auth::open(cli, false).await?;
    let channel = auth.channel();
    let bytes = auth.complete(write(channel, file, &passphrase)).await??;
    if cli.json {
        print_json(&json!({ "status": "ok", "file": file, "bytes": bytes }));
    } else {
        print_line(&format!("wrote {} ({bytes} bytes)", file.display()));
        print_line("without its passphrase nobody can open it; keep the two apart");
    }
    Ok(())
}

/// Gives the number of bytes.
async fn write(channel: PeerChannel, file: &Path, passphrase: &SecretString) -> Result<u64, Failed> {
    let failed = |error: std::io::Error| {
        let message = format!("backup {} cannot be written: {}", file.display(), unwritten(file, &error));
        let next = format!("no backup was made, and nothing else was changed: {}", writable(&error));
        match error.kind() {
            // Only room comes by itself.
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                Failed::from(Failure::new(Reason::StoreUnavailable, CLI, message).next_step(next))
            }
            ErrorKind::NotFound => Failed::because(Reason::NotFound, message, next),
            _ => Failed::because(Reason::StoreUnavailable, message, next),
        }
    };
    let mut out = Replacement::of(file).map_err(failed)?;
    let request = BackupRequest { passphrase: passphrase.expose_secret().to_owned() };
    let answer = MaintenanceServiceClient::new(channel).backup(request).await;
    let mut parts = answer.map_err(|status| Failed::status(&status, AUTH))?.into_inner();
    let mut bytes = 0u64;
    while let Some(part) = parts.message().await.map_err(|status| Failed::status(&status, AUTH))? {
        out.write_all(&part.data).map_err(failed)?;
        bytes += part.data.len() as u64;
    }
    out.put().map_err(failed)?;
    Ok(bytes)
}
