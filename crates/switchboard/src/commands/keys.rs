//! `keys create|list|show|rotate|revoke`.

use domain::Reason;
use domain::service::AUTH;
use proto::auth::v1::credential_service_client::CredentialServiceClient;
use proto::auth::v1::key_service_client::KeyServiceClient;
use proto::auth::v1::{
    AgentKey, CreateKeyRequest, KeyLimits, ListCredentialsRequest, ListKeysRequest, RevokeKeyRequest, RotateKeyRequest,
};
use serde_json::{Value, json};
use service_kit::PeerChannel;

use crate::args::{Cli, CreateArgs, KeysAction, KeysArgs};
use crate::control::Auth;
use crate::output::{Failed, away, eprint_line, print_json, print_line, print_table_within, when};

pub(crate) async fn run(cli: &Cli, args: &KeysArgs) -> Result<(), Failed> {
    let create = matches!(args.action, KeysAction::Create { .. });
    let auth = Auth::open(cli, create).await?;
    let channel = auth.channel();
    auth.complete(act(cli, &args.action, channel)).await?
}

async fn act(cli: &Cli, action: &KeysAction, channel: PeerChannel) -> Result<(), Failed> {
    let mut client = KeyServiceClient::new(channel.clone());
    match action {
        KeysAction::Create(args) => create(cli, args, channel, &mut client).await?,
        KeysAction::List => list(cli, &all(&mut client).await?),
        KeysAction::Show { key } => {
            let keys = all(&mut client).await?;
            // A name may have been used before; the key that has it now is the newest.
            let found = keys.iter().find(|k| k.id == *key).or_else(|| keys.iter().rev().find(|k| k.name == *key));
            let found = found.ok_or_else(|| {
                let message = format!("no key {key:?}");
                Failed::because(Reason::NotFound, message, "`switchboard keys list` shows all")
            })?;
            show(cli, found);
        }
        KeysAction::Rotate { key, grace } => {
            let request = RotateKeyRequest { key: key.clone(), grace_seconds: grace.map(|s| s as f64) };
            let made = client.rotate_key(request).await.map_err(|s| Failed::status(&s, AUTH))?.into_inner();
            let info = made.info.unwrap_or_default();
            if cli.json {
                print_json(&json!({ "key": made.key, "info": as_json(&info) }));
            } else {
                print_line(&made.key);
                let old = match info.previous_until {
                    Some(at) => format!("works until {}", when(at, now())),
                    None => "has ended, at every gateway within 5 seconds".to_owned(),
                };
                eprint_line(&format!("key {}: shown this once; the old secret {old}", info.name));
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

async fn create(
    cli: &Cli,
    args: &CreateArgs,
    channel: PeerChannel,
    client: &mut KeyServiceClient<PeerChannel>,
) -> Result<(), Failed> {
    let limits = KeyLimits {
        requests_per_minute: args.requests_per_minute,
        concurrent_calls: args.concurrent,
        tokens_per_day: args.tokens_per_day.map(|n| n as f64),
    };
    let request = CreateKeyRequest {
        name: args.name.clone(),
        agent: args.agent.clone(),
        models: args.models.clone(),
        credentials: args.credentials.clone(),
        ttl_seconds: args.ttl.map(|s| s as f64),
        limits: (limits != KeyLimits::default()).then_some(limits),
    };
    let made = client.create_key(request).await.map_err(|s| Failed::status(&s, AUTH))?.into_inner();
    // The key is made and must be shown, whatever becomes of the question.
    let warning = unknown_labels(&args.credentials, channel).await;
    if cli.json {
        let warnings: Vec<_> = warning.iter().collect();
        print_json(&json!({ "key": made.key, "info": made.info.as_ref().map(as_json), "warnings": warnings }));
    } else {
        // The bare key alone on standard output, so that it can be piped into a file.
        print_line(&made.key);
        eprint_line(&format!("key {} for agent {}: shown this once, only its hash is stored", args.name, args.agent));
    }
    if let Some(warning) = warning {
        eprint_line(&format!("warning: {warning}"));
    }
    Ok(())
}

/// Labels that no credential has: most likely typing errors, but a credential may also come later than its key.
async fn unknown_labels(labels: &[String], channel: PeerChannel) -> Option<String> {
    if labels.is_empty() {
        return None;
    }
    let request = ListCredentialsRequest { provider: String::new() };
    let known = CredentialServiceClient::new(channel).list_credentials(request).await.ok()?.into_inner().credentials;
    let unknown: Vec<_> = labels.iter().filter(|label| !known.iter().any(|c| c.label == **label)).cloned().collect();
    if unknown.is_empty() {
        return None;
    }
    let known: Vec<_> = known.into_iter().map(|c| c.label).collect();
    let there_is =
        if known.is_empty() { "there is none yet".to_owned() } else { format!("there is {}", known.join(", ")) };
    Some(format!("no credential has the label {} ({there_is}); the key allows no other", unknown.join(", ")))
}

async fn all(client: &mut KeyServiceClient<PeerChannel>) -> Result<Vec<AgentKey>, Failed> {
    Ok(client.list_keys(ListKeysRequest {}).await.map_err(|s| Failed::status(&s, AUTH))?.into_inner().keys)
}

fn now() -> i64 {
    domain::Clock::system().now_s()
}

fn list(cli: &Cli, keys: &[AgentKey]) {
    if cli.json {
        print_json(&json!({ "keys": keys.iter().map(as_json).collect::<Vec<_>>() }));
        return;
    }
    let now = now();
    let rows: Vec<_> = keys.iter().map(|k| row(k, now)).collect();
    // Id, secret's prefix and times to the second are in `keys show`.
    print_table_within(
        &["NAME", "AGENT", "MODELS", "CREDENTIALS", "LIMITS", "TOKENS TODAY", "STATE", "LAST USED"],
        &rows,
        &["NAME", "AGENT", "MODELS", "CREDENTIALS", "LIMITS"],
    );
}

/// Whether it works, and until or since when, in the form that `time` gives.
fn state(key: &AgentKey, time: impl Fn(f64) -> String, now: i64) -> String {
    match (key.revoked_at, key.expires_at) {
        // A key that has expired stays that when its name is given to another one.
        (revoked, Some(at)) if at <= revoked.unwrap_or(at) && at as i64 <= now => format!("expired {}", time(at)),
        (Some(at), _) => format!("revoked {}", time(at)),
        (None, Some(at)) => format!("expires {}", time(at)),
        (None, None) => "live".to_owned(),
    }
}

fn listed(items: &[String]) -> String {
    if items.is_empty() { "all".to_owned() } else { items.join(",") }
}

fn limits(key: &AgentKey) -> String {
    let limits = key.limits.unwrap_or_default();
    let each = [
        limits.requests_per_minute.map(|n| format!("{n}/min")),
        limits.concurrent_calls.map(|n| format!("{n} at once")),
        limits.tokens_per_day.map(|n| format!("{n} tokens/day")),
    ];
    let each: Vec<_> = each.into_iter().flatten().collect();
    if each.is_empty() { "none".to_owned() } else { each.join(", ") }
}

fn used(key: &AgentKey, now: i64) -> String {
    key.last_used_at.map_or_else(|| "never".to_owned(), |at| when(at, now))
}

fn row(key: &AgentKey, now: i64) -> Vec<String> {
    vec![
        key.name.clone(),
        key.agent.clone(),
        listed(&key.models),
        listed(&key.credentials),
        limits(key),
        key.tokens_today.to_string(),
        state(key, |at| away(at, now), now),
        key.last_used_at.map_or_else(|| "never".to_owned(), |at| away(at, now)),
    ]
}

fn show(cli: &Cli, key: &AgentKey) {
    if cli.json {
        print_json(&as_json(key));
        return;
    }
    let now = now();
    let time = |at: Option<f64>| at.map_or_else(|| "-".to_owned(), |at| when(at, now));
    for (name, value) in [
        ("name", key.name.clone()),
        ("id", key.id.clone()),
        ("agent", key.agent.clone()),
        ("key", format!("{}…", key.prefix)),
        ("state", state(key, |at| when(at, now), now)),
        ("models", listed(&key.models)),
        ("credentials", listed(&key.credentials)),
        ("limits", limits(key)),
        ("tokens today", key.tokens_today.to_string()),
        ("created", time(Some(key.created_at))),
        ("rotated", time(key.rotated_at)),
        ("old secret", key.previous_until.map_or_else(|| "-".to_owned(), |at| format!("until {}", when(at, now)))),
        ("last used", used(key, now)),
    ] {
        print_line(&format!("{name:<12} {value}"));
    }
}

fn as_json(key: &AgentKey) -> Value {
    let limits = key.limits.unwrap_or_default();
    json!({ "id": key.id, "name": key.name, "agent": key.agent, "prefix": key.prefix, "models": key.models,
        "credentials": key.credentials, "createdAt": key.created_at, "expiresAt": key.expires_at,
        "revokedAt": key.revoked_at, "lastUsedAt": key.last_used_at, "rotatedAt": key.rotated_at,
        "previousUntil": key.previous_until, "tokensToday": key.tokens_today,
        "limits": { "requestsPerMinute": limits.requests_per_minute, "concurrentCalls": limits.concurrent_calls,
            "tokensPerDay": limits.tokens_per_day } })
}
