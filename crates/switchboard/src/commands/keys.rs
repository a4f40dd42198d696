//! `keys create|list|revoke`.

use domain::service::AUTH;
use proto::auth::v1::key_service_client::KeyServiceClient;
use proto::auth::v1::{AgentKey, CreateKeyRequest, ListKeysRequest, RevokeKeyRequest};
use serde_json::{Value, json};
use service_kit::PeerChannel;

use crate::args::{Cli, KeysAction, KeysArgs};
use crate::control::Auth;
use crate::output::{Failed, eprint_line, print_json, print_line, print_table, when};

pub(crate) async fn run(cli: &Cli, args: &KeysArgs) -> Result<(), Failed> {
    let create = matches!(args.action, KeysAction::Create { .. });
    let auth = Auth::open(cli, create).await?;
    let mut client = KeyServiceClient::new(auth.channel());
    let result = act(cli, &args.action, &mut client).await;
    auth.finish().await;
    result
}

async fn act(cli: &Cli, action: &KeysAction, client: &mut KeyServiceClient<PeerChannel>) -> Result<(), Failed> {
    match action {
        KeysAction::Create { name, agent, models, credentials, ttl } => {
            let request = CreateKeyRequest {
                name: name.clone(),
                agent: agent.clone(),
                models: models.clone(),
                credentials: credentials.clone(),
                ttl_seconds: ttl.map(f64::from),
            };
            let made = client.create_key(request).await.map_err(|s| Failed::status(&s, AUTH))?.into_inner();
            if cli.json {
                print_json(&json!({ "key": made.key, "info": made.info.as_ref().map(as_json) }));
            } else {
                // The bare key alone on standard output, so that it can be piped into a file.
                print_line(&made.key);
                eprint_line(&format!("key {name} for agent {agent}: shown this once, only its hash is stored"));
            }
        }
        KeysAction::List => {
            let keys =
                client.list_keys(ListKeysRequest {}).await.map_err(|s| Failed::status(&s, AUTH))?.into_inner().keys;
            if cli.json {
                print_json(&json!({ "keys": keys.iter().map(as_json).collect::<Vec<_>>() }));
            } else {
                let now = domain::Clock::system().now_s();
                let rows: Vec<_> = keys.iter().map(|k| row(k, now)).collect();
                print_table(&["NAME", "AGENT", "KEY", "MODELS", "CREDENTIALS", "STATE", "LAST USED", "ID"], &rows);
            }
        }
        KeysAction::Revoke { key } => {
            client.revoke_key(RevokeKeyRequest { key: key.clone() }).await.map_err(|s| Failed::status(&s, AUTH))?;
            if cli.json {
                print_json(&json!({ "status": "ok", "revoked": key }));
            } else {
                print_line(&format!("revoked {key}"));
            }
        }
    }
    Ok(())
}

fn state(key: &AgentKey, now: i64) -> String {
    match (key.revoked_at, key.expires_at) {
        (Some(at), _) => format!("revoked {}", when(at, now)),
        (None, Some(at)) if at as i64 <= now => format!("expired {}", when(at, now)),
        (None, Some(at)) => format!("until {}", when(at, now)),
        (None, None) => "live".to_owned(),
    }
}

fn row(key: &AgentKey, now: i64) -> Vec<String> {
    let list = |items: &[String]| if items.is_empty() { "all".to_owned() } else { items.join(",") };
    vec![
        key.name.clone(),
        key.agent.clone(),
        format!("{}…", key.prefix),
        list(&key.models),
        list(&key.credentials),
        state(key, now),
        key.last_used_at.map_or_else(|| "never".to_owned(), |at| when(at, now)),
        key.id.clone(),
    ]
}

fn as_json(key: &AgentKey) -> Value {
    json!({ "id": key.id, "name": key.name, "agent": key.agent, "prefix": key.prefix, "models": key.models,
        "credentials": key.credentials, "createdAt": key.created_at, "expiresAt": key.expires_at,
        "revokedAt": key.revoked_at, "lastUsedAt": key.last_used_at })
}
