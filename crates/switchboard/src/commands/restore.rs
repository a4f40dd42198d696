//! `restore FILE`: reads the file here and has auth-svc take it in, the running one or our own.

use std::io::Read;

use bytes::Bytes;
use domain::Reason;
use domain::service::AUTH;
use proto::auth::v1::maintenance_service_client::MaintenanceServiceClient;
use proto::auth::v1::{RestoreRequest, RestoreResponse};
use secrecy::ExposeSecret;
use serde_json::json;

use crate::args::{Cli, RestoreArgs};
use crate::control::Auth;
use crate::output::{Failed, print_json, print_line, print_table, when};
use crate::passphrase::passphrase;

/// Largest file, in bytes: what one message holds, with room for the rest of it.
const MOST: u64 = 64 * 1024 * 1024;

pub(crate) async fn run(cli: &Cli, args: &RestoreArgs) -> Result<(), Failed> {
    let unreadable = |error: std::io::Error| Failed::unreadable("backup", &args.file, &error);
    let opened = std::fs::File::open(&args.file).map_err(unreadable)?;
    let mut data = Vec::new();
    opened.take(MOST + 1).read_to_end(&mut data).map_err(unreadable)?;
    if data.len() as u64 > MOST {
        let message = format!("{} is larger than {} MiB, so it is no backup", args.file.display(), MOST / 1024 / 1024);
        return Err(Failed::because(Reason::RequestInvalid, message, "name a file that `switchboard backup` has made"));
    }
    let passphrase = passphrase(&args.passphrase, false)?;
    let request = RestoreRequest {
        passphrase: passphrase.expose_secret().to_owned(),
        data: Bytes::from(data),
        dry_run: args.dry_run,
    };
    report(cli, args, &take_in(cli, request).await?);
    Ok(())
}

async fn take_in(cli: &Cli, request: RestoreRequest) -> Result<RestoreResponse, Failed> {
    if request.dry_run {
        return ask(Auth::open_unchanged(cli).await?, request).await;
    }
    // Where nothing is yet, nothing is made for a file that does not open.
    if let Ok(auth) = Auth::open_unchanged(cli).await {
        if !auth.is_stand_in() {
            return ask(auth, request).await;
        }
        ask(auth, RestoreRequest { dry_run: true, ..request.clone() }).await?;
    }
    ask(Auth::open_for_backup(cli).await?, request).await
}

async fn ask(auth: Auth, request: RestoreRequest) -> Result<RestoreResponse, Failed> {
    let mut client =
        MaintenanceServiceClient::new(auth.channel()).max_encoding_message_size(service_kit::MAX_MESSAGE_BYTES);
    let answer = auth.complete(client.restore(request)).await?;
    Ok(answer.map_err(|status| Failed::status(&status, AUTH))?.into_inner())
}

fn report(cli: &Cli, args: &RestoreArgs, answer: &RestoreResponse) {
    if cli.json {
        let items: Vec<_> = answer
            .items
            .iter()
            .map(|one| json!({ "kind": one.kind, "name": one.name, "action": one.action, "detail": one.detail }))
            .collect();
        print_json(&json!({ "status": "ok", "dryRun": args.dry_run, "madeAt": answer.made_at, "items": items,
            "notes": answer.notes }));
        return;
    }
    let now = domain::Clock::system().now_s();
    print_line(&format!("backup of {}", when(answer.made_at, now)));
    let rows: Vec<_> =
        answer.items.iter().map(|one| vec![one.kind.clone(), one.name.clone(), one.action.clone()]).collect();
    print_table(&["KIND", "NAME", "ACTION"], &rows);
    // A sentence in a cell would make every line as long as itself.
    for one in answer.items.iter().filter(|one| !one.detail.is_empty()) {
        print_line(&format!("{} {}: {}", one.kind, one.name, one.detail));
    }
    for note in &answer.notes {
        print_line(&format!("note: {note}"));
    }
    if args.dry_run {
        print_line("dry run: nothing was changed");
    }
}
