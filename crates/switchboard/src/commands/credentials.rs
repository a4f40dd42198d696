//! `credentials list|show|refresh|remove|order|confirm|rekey|egress`. Never prints a token: the service never sends one.

use domain::Reason;
use domain::service::AUTH;
use proto::auth::v1::credential_service_client::CredentialServiceClient;
use proto::auth::v1::maintenance_service_client::MaintenanceServiceClient;
use proto::auth::v1::{
    ConfirmCredentialRequest, Credential, ListCredentialsRequest, ListCredentialsResponse, OrderCredentialsRequest,
    RefreshCredentialRequest, RekeyDatabaseRequest, Selection,
};
use proto::common::v1::EgressRule;
use serde_json::{Value, json};
use service_kit::{PeerChannel, failure_from_proto};

use super::{egress, quota};
use crate::args::{Cli, CredentialsAction, CredentialsArgs};
use crate::control::Auth;
use crate::output::{Failed, away, print_json, print_line, print_table_within, when};

pub(crate) async fn run(cli: &Cli, args: &CredentialsArgs) -> Result<(), Failed> {
    let auth = Auth::open(cli, false).await?;
    let mut client = CredentialServiceClient::new(auth.channel());
    let channel = auth.channel();
    auth.complete(act(cli, &args.action, &mut client, channel)).await?
}

async fn act(
    cli: &Cli,
    action: &CredentialsAction,
    client: &mut CredentialServiceClient<PeerChannel>,
    channel: PeerChannel,
) -> Result<(), Failed> {
    match action {
        CredentialsAction::List => list(cli, &all(client).await?),
        CredentialsAction::Show { credential } => {
            let all = all(client).await?.credentials;
            let found = all.iter().find(|c| c.label == *credential || c.id == *credential);
            let found = found.ok_or_else(|| {
                let message = format!("no credential {credential:?}");
                Failed::because(Reason::NotFound, message, "`switchboard credentials list` shows all")
            })?;
            show(cli, found);
        }
        CredentialsAction::Refresh { credential } => refresh(cli, client, credential).await?,
        CredentialsAction::Remove { credential, yes } => super::remove::run(cli, client, credential, *yes).await?,
        CredentialsAction::Order { provider, credentials, by_session } => {
            let request = OrderCredentialsRequest {
                provider: provider.clone(),
                credentials: credentials.clone(),
                by_session: *by_session,
            };
            client.order_credentials(request).await.map_err(|s| Failed::status(&s, AUTH))?;
            match by_session {
                true => done(cli, "spread sessions over", provider),
                false => done(cli, "ordered", &credentials.join(", ")),
            }
        }
        CredentialsAction::Confirm { credential } => {
            let request = ConfirmCredentialRequest { credential: credential.clone() };
            let answer = client.confirm_credential(request).await.map_err(|s| Failed::status(&s, AUTH))?;
            let changed = answer.into_inner().changed;
            match changed {
                _ if cli.json => print_json(&json!({ "status": "ok", "confirmed": credential, "changed": changed })),
                true => print_line(&format!("confirmed {credential}")),
                false => print_line(&format!("{credential} needs no confirmation (any more); nothing was changed")),
            }
        }
        CredentialsAction::Rekey => rekey(cli, channel).await?,
        CredentialsAction::Egress { credential, require, prefer, none: _ } => {
            let rule = EgressRule { require: require.clone(), prefer: prefer.clone() };
            super::egress::set(cli, client, credential, rule).await?;
        }
    }
    Ok(())
}

pub(super) async fn all(client: &mut CredentialServiceClient<PeerChannel>) -> Result<ListCredentialsResponse, Failed> {
    let answer = client.list_credentials(ListCredentialsRequest { provider: String::new() }).await;
    Ok(answer.map_err(|s| Failed::status(&s, AUTH))?.into_inner())
}

fn done(cli: &Cli, what: &str, which: &str) {
    if cli.json {
        print_json(&json!({ "status": "ok", what: which }));
    } else {
        print_line(&format!("{what} {which}"));
    }
}

async fn refresh(cli: &Cli, client: &mut CredentialServiceClient<PeerChannel>, label: &str) -> Result<(), Failed> {
    let request = RefreshCredentialRequest { credential: label.to_owned() };
    let answer = client.refresh_credential(request).await.map_err(|s| Failed::status(&s, AUTH))?.into_inner();
    if let Some(failure) = &answer.failure {
        return Err(failure_from_proto(failure).into());
    }
    if let Some(credential) = &answer.credential {
        show(cli, credential);
    }
    Ok(())
}

async fn rekey(cli: &Cli, channel: PeerChannel) -> Result<(), Failed> {
    let answer = MaintenanceServiceClient::new(channel).rekey_database(RekeyDatabaseRequest {}).await;
    let done = answer.map_err(|s| Failed::status(&s, AUTH))?.into_inner();
    if cli.json {
        print_json(&json!({ "status": "ok", "oldKeyId": done.old_key_id, "newKeyId": done.new_key_id,
            "keyFile": done.key_file, "values": done.values }));
        return Ok(());
    }
    print_line(&format!(
        "{} values are encrypted with key {} now; it is in {}",
        done.values, done.new_key_id, done.key_file
    ));
    print_line(&format!(
        "key {} is gone, and the copies from before upgrades with it. Copies of the database files that you made \
         yourself need it: replace them (`switchboard backup` needs no database key)",
        done.old_key_id
    ));
    Ok(())
}

fn list(cli: &Cli, all: &ListCredentialsResponse) {
    let credentials = &all.credentials;
    if cli.json {
        let selection = |s: &Selection| json!({ "provider": s.provider, "mode": s.mode });
        print_json(&json!({ "credentials": credentials.iter().map(as_json).collect::<Vec<_>>(),
            "selections": all.selections.iter().map(selection).collect::<Vec<_>>() }));
        return;
    }
    let now = domain::Clock::system().now_s();
    let rows: Vec<_> = credentials.iter().map(|c| row(c, now)).collect();
    print_table_within(&COLUMNS, &rows, &["ACCOUNT"]);
    for line in quota::lines(credentials, now).into_iter().chain(egress::lines(credentials)) {
        print_line(&line);
    }
    // A sentence in a cell would make every line as long as itself.
    for c in credentials {
        let until = (c.state == "login_due").then(|| needs_login(c, now));
        for sentence in until.into_iter().chain(c.detail.clone()).chain(refresh_problem(c, now)) {
            print_line(&format!("{}: {sentence}", c.label));
        }
    }
    for selection in &all.selections {
        // One credential leaves nothing to choose.
        if credentials.iter().filter(|c| c.provider == selection.provider).count() > 1 {
            print_line(&chosen(selection));
        }
    }
    if rows.is_empty() {
        print_line("none yet: `switchboard login codex`, `switchboard import codex` or `switchboard import openclaw`");
    }
}

/// What `credentials list` shows of each.
const COLUMNS: [&str; 8] =
    ["CREDENTIAL", "PROVIDER", "KIND", "ACCESS TOKEN EXPIRES", "ACCOUNT", "PLAN", "SOURCE", "STATE"];

fn row(c: &Credential, now: i64) -> Vec<String> {
    // The time itself is two columns before, and below the table.
    let due = match c.expires_at {
        Some(at) => format!("needs login {}", away(at, now).replacen("in ", "within ", 1)),
        None => needs_login(c, now),
    };
    vec![
        c.label.clone(),
        c.provider.clone(),
        c.kind.clone(),
        c.expires_at.map_or_else(|| "-".to_owned(), |at| when(at, now)),
        c.email.clone().or_else(|| c.account_id.clone()).unwrap_or_else(|| "-".to_owned()),
        c.plan.clone().unwrap_or_else(|| "-".to_owned()),
        c.source.clone(),
        state(c, due),
    ]
}

fn needs_login(c: &Credential, now_s: i64) -> String {
    c.expires_at.map_or_else(|| "needs login soon".to_owned(), |at| format!("needs login by {}", when(at, now_s)))
}

/// The state with what an operator must know beside it; `due` is that of one whose login must be renewed.
fn state(c: &Credential, due: String) -> String {
    let state = if c.state == "login_due" { due } else { c.state.clone() };
    let beside = [
        (c.borrowed, "borrowed"),
        (c.exported_at.is_some(), "exported"),
        (c.unconfirmed && c.state != "unconfirmed", "unconfirmed"),
    ];
    let words = beside.iter().filter(|(holds, _)| *holds).map(|(_, word)| *word);
    [state.as_str()].into_iter().chain(words).collect::<Vec<_>>().join(", ")
}

fn refresh_problem(c: &Credential, now_s: i64) -> Option<String> {
    let cause = c.refresh_problem.as_deref().unwrap_or("the cause is not known");
    Some(format!("refresh fails since {}: {cause}", when(c.refresh_failing_since?, now_s)))
}

fn chosen(selection: &Selection) -> String {
    let provider = &selection.provider;
    match selection.mode.as_str() {
        "session" => format!(
            "{provider}: each session keeps to one of its credentials; `switchboard credentials order {provider} LABEL…` \
             sets an order"
        ),
        _ => format!(
            "{provider}: credentials are tried in this order; `switchboard credentials order {provider} --by-session` \
             spreads sessions over them"
        ),
    }
}

fn show(cli: &Cli, c: &Credential) {
    if cli.json {
        print_json(&as_json(c));
        return;
    }
    let now = domain::Clock::system().now_s();
    let time = |at: Option<f64>| at.map_or_else(|| "-".to_owned(), |at| when(at, now));
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    for (name, value) in [
        ("label", c.label.clone()),
        ("id", c.id.clone()),
        ("provider", c.provider.clone()),
        ("kind", c.kind.clone()),
        ("state", state(c, needs_login(c, now))),
        ("detail", text(&c.detail)),
        ("account", text(&c.account_id)),
        ("email", text(&c.email)),
        ("plan", text(&c.plan)),
        ("issuer", text(&c.issuer)),
        ("expires", time(c.expires_at)),
        ("refreshed", time(c.last_refresh)),
        ("next refresh", time(c.next_refresh)),
        ("version", c.version.to_string()),
        ("source", c.source.clone()),
        ("rests until", time(c.rest_until)),
        ("borrowed", c.borrowed.to_string()),
        ("unconfirmed", c.unconfirmed.to_string()),
        ("exported", time(c.exported_at)),
        ("quota heard", time(c.quota_observed_at)),
        ("egress", egress::told(c.egress.as_ref())),
        ("workspace", egress::workspace(c, now)),
    ] {
        print_line(&format!("{name:<12} {value}"));
    }
    for line in quota::lines(std::slice::from_ref(c), now).into_iter().chain(refresh_problem(c, now)) {
        print_line(&line);
    }
}

fn as_json(c: &Credential) -> Value {
    json!({ "id": c.id, "label": c.label, "provider": c.provider, "kind": c.kind, "state": c.state, "detail": c.detail,
        "accountId": c.account_id, "email": c.email, "plan": c.plan, "issuer": c.issuer, "expiresAt": c.expires_at,
        "lastRefresh": c.last_refresh, "version": c.version, "source": c.source, "restUntil": c.rest_until,
        "borrowed": c.borrowed, "quota": quota::as_json(c), "quotaObservedAt": c.quota_observed_at,
        "nextRefresh": c.next_refresh, "refreshFailingSince": c.refresh_failing_since,
        "refreshProblem": c.refresh_problem, "unconfirmed": c.unconfirmed, "exportedAt": c.exported_at,
        "egress": egress::as_json(c.egress.as_ref()), "workspace": egress::workspace_json(c) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::widths;

    const NOW_S: i64 = 1_795_437_000;

    #[test]
    fn a_list_fits_a_line_with_the_longest_state() {
        let due = Credential {
            label: "main".into(),
            provider: "openai-codex".into(),
            kind: "oauth".into(),
            state: "login_due".into(),
            email: Some("agent@example.com".into()),
            plan: Some("plus".into()),
            source: "openclaw".into(),
            expires_at: Some((NOW_S + 10 * 86_400 - 1) as f64),
            ..Credential::default()
        };
        let rows = [row(&due, NOW_S)];
        assert_eq!(rows[0].last().map(String::as_str), Some("needs login within 9 d"));
        let widths = widths(&COLUMNS, &rows, &["ACCOUNT"]);
        assert!(widths.iter().sum::<usize>() + 2 * (widths.len() - 1) <= 120, "{widths:?}");
        assert!(widths[4] >= "agent@exampl…".chars().count(), "an account can be told from another: {widths:?}");
        assert!(needs_login(&due, NOW_S).starts_with("needs login by 20"), "the time is below the table");
    }
}
