//! `audit list`: what operators did.

use domain::service::AUTH;
use proto::auth::v1::audit_service_client::AuditServiceClient;
use proto::auth::v1::{AuditEntry, ListAuditRequest};
use serde_json::{Value, json};

use crate::args::{AuditAction, AuditArgs, Cli};
use crate::control::Auth;
use crate::output::{Failed, print_json, print_table_within, when};

pub(crate) async fn run(cli: &Cli, args: &AuditArgs) -> Result<(), Failed> {
    let AuditAction::List { since, act, limit } = &args.action;
    let request = ListAuditRequest { limit: *limit, since: *since, act: act.clone().unwrap_or_default() };
    let auth = Auth::open(cli, false).await?;
    let mut client = AuditServiceClient::new(auth.channel())
        // Ten thousand acts, each with its details.
        .max_decoding_message_size(service_kit::MAX_MESSAGE_BYTES);
    let answer = auth.complete(client.list_audit(request)).await?;
    let entries = answer.map_err(|s| Failed::status(&s, AUTH))?.into_inner().entries;
    if cli.json {
        print_json(&json!({ "entries": entries.iter().map(as_json).collect::<Vec<_>>() }));
        return Ok(());
    }
    let now = domain::Clock::system().now_s();
    let rows: Vec<_> = entries.iter().map(|entry| row(entry, now)).collect();
    print_table_within(&["WHEN", "WHO", "ACT", "ON", "OUTCOME", "DETAIL"], &rows, &["WHO", "ON", "DETAIL"]);
    Ok(())
}

fn row(entry: &AuditEntry, now: i64) -> Vec<String> {
    let text = |value: &str| if value.is_empty() { "-".to_owned() } else { printable(value) };
    vec![
        when(entry.at, now),
        text(&entry.actor),
        text(&entry.act),
        text(&entry.subject),
        text(&entry.outcome),
        text(&entry.detail),
    ]
}

/// One line whatever is in it: what was refused is in the log as it was asked for.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn as_json(entry: &AuditEntry) -> Value {
    json!({ "at": entry.at, "actor": entry.actor, "act": entry.act, "subject": entry.subject,
        "outcome": entry.outcome, "detail": entry.detail })
}
