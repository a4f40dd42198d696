//! `credentials list|show|refresh|remove|order`. Never prints a token: the service never sends one.

use domain::service::AUTH;
use proto::auth::v1::credential_service_client::CredentialServiceClient;
use proto::auth::v1::{
    Credential, ListCredentialsRequest, OrderCredentialsRequest, RefreshCredentialRequest, RemoveCredentialRequest,
};
use serde_json::{Value, json};
use service_kit::{PeerChannel, failure_from_proto};

use crate::args::{Cli, CredentialsAction, CredentialsArgs};
use crate::control::Auth;
use crate::output::{Failed, print_json, print_line, print_table, when};

pub(crate) async fn run(cli: &Cli, args: &CredentialsArgs) -> Result<(), Failed> {
    let auth = Auth::open(cli, false).await?;
    let mut client = CredentialServiceClient::new(auth.channel());
    let result = act(cli, &args.action, &mut client).await;
    auth.finish().await;
    result
}

async fn act(
    cli: &Cli,
    action: &CredentialsAction,
    client: &mut CredentialServiceClient<PeerChannel>,
) -> Result<(), Failed> {
    match action {
        CredentialsAction::List => list(cli, &all(client).await?),
        CredentialsAction::Show { credential } => {
            let all = all(client).await?;
            let found = all.iter().find(|c| c.label == *credential || c.id == *credential);
            let found = found.ok_or_else(|| {
                Failed::Message(format!("no credential {credential:?}; `switchboard credentials list` shows all"))
            })?;
            show(cli, found);
        }
        CredentialsAction::Refresh { credential } => refresh(cli, client, credential).await?,
        CredentialsAction::Remove { credential } => {
            let request = RemoveCredentialRequest { credential: credential.clone() };
            client.remove_credential(request).await.map_err(|s| Failed::status(&s, AUTH))?;
            done(cli, "removed", credential);
        }
        CredentialsAction::Order { provider, credentials } => {
            let request = OrderCredentialsRequest { provider: provider.clone(), credentials: credentials.clone() };
            client.order_credentials(request).await.map_err(|s| Failed::status(&s, AUTH))?;
            done(cli, "ordered", &credentials.join(", "));
        }
    }
    Ok(())
}

async fn all(client: &mut CredentialServiceClient<PeerChannel>) -> Result<Vec<Credential>, Failed> {
    let answer = client.list_credentials(ListCredentialsRequest { provider: String::new() }).await;
    Ok(answer.map_err(|s| Failed::status(&s, AUTH))?.into_inner().credentials)
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

fn list(cli: &Cli, credentials: &[Credential]) {
    if cli.json {
        print_json(&json!({ "credentials": credentials.iter().map(as_json).collect::<Vec<_>>() }));
        return;
    }
    let now = domain::Clock::system().now_s();
    let rows: Vec<_> = credentials
        .iter()
        .map(|c| {
            let state = if c.borrowed { format!("{}, borrowed", c.state) } else { c.state.clone() };
            vec![
                c.label.clone(),
                c.provider.clone(),
                c.kind.clone(),
                c.expires_at.map_or_else(|| "-".to_owned(), |at| when(at, now)),
                c.email.clone().or_else(|| c.account_id.clone()).unwrap_or_else(|| "-".to_owned()),
                c.plan.clone().unwrap_or_else(|| "-".to_owned()),
                c.source.clone(),
                state,
            ]
        })
        .collect();
    print_table(
        &["CREDENTIAL", "PROVIDER", "KIND", "ACCESS TOKEN EXPIRES", "ACCOUNT", "PLAN", "SOURCE", "STATE"],
        &rows,
    );
    // A sentence in a cell would make every line as long as itself.
    for (c, detail) in credentials.iter().filter_map(|c| Some((c, c.detail.as_ref()?))) {
        print_line(&format!("{}: {detail}", c.label));
    }
    if rows.is_empty() {
        print_line("none yet: `switchboard login codex`, `switchboard import codex` or `switchboard import openclaw`");
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
        ("state", c.state.clone()),
        ("detail", text(&c.detail)),
        ("account", text(&c.account_id)),
        ("email", text(&c.email)),
        ("plan", text(&c.plan)),
        ("issuer", text(&c.issuer)),
        ("expires", time(c.expires_at)),
        ("refreshed", time(c.last_refresh)),
        ("version", c.version.to_string()),
        ("source", c.source.clone()),
        ("rests until", time(c.rest_until)),
        ("borrowed", c.borrowed.to_string()),
    ] {
        print_line(&format!("{name:<12} {value}"));
    }
}

fn as_json(c: &Credential) -> Value {
    json!({ "id": c.id, "label": c.label, "provider": c.provider, "kind": c.kind, "state": c.state, "detail": c.detail,
        "accountId": c.account_id, "email": c.email, "plan": c.plan, "issuer": c.issuer, "expiresAt": c.expires_at,
        "lastRefresh": c.last_refresh, "version": c.version, "source": c.source, "restUntil": c.rest_until,
        "borrowed": c.borrowed })
}
