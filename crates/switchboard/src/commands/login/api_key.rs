//! `login api-key`: the key comes from standard input, or is typed without being shown.

use std::io::{IsTerminal, Read};

use domain::service::AUTH;
use proto::auth::v1::AddApiKeyRequest;
use proto::auth::v1::login_service_client::LoginServiceClient;
use serde_json::json;
use zeroize::Zeroizing;

use super::input;
use crate::args::Cli;
use crate::control::Auth;
use crate::output::{Failed, print_json, print_line};
use crate::terminal;

/// Most that is read, in bytes.
const LONGEST: usize = 64 * 1024;

pub(super) async fn run(cli: &Cli, provider: &str, label: Option<String>) -> Result<(), Failed> {
    let key = read(provider)?;
    let auth = Auth::open(cli, true).await?;
    let request = AddApiKeyRequest { provider: provider.to_owned(), label: label.clone(), api_key: key.to_string() };
    let mut client = LoginServiceClient::new(auth.channel());
    let answer = auth.complete(client.add_api_key(request)).await?;
    let answer = answer.map_err(|s| Failed::status(&s, AUTH))?.into_inner();
    if cli.json {
        print_json(&json!({ "status": "ok", "credential": answer.credential, "action": answer.action }));
        return Ok(());
    }
    print_line(&match answer.action.as_str() {
        "created" => format!("stored; credential {}", answer.credential),
        "updated" => format!("replaced; credential {} has the new key", answer.credential),
        _ => format!("unchanged; credential {} holds this key already", answer.credential),
    });
    Ok(())
}

/// The key: all of standard input, or one line of a terminal. Nothing has begun yet that a signal could cut.
fn read(provider: &str) -> Result<Zeroizing<String>, Failed> {
    if std::io::stdin().is_terminal() {
        let mut terminal = terminal::open().ok_or_else(|| {
            Failed::usage("there is no terminal to ask for the key on", "hand it over on standard input")
        })?;
        return terminal::ask(&mut terminal, &format!("API key of {provider}: "), "the key");
    }
    let failed = |error: std::io::Error| input::unreadable(&error);
    // At its full size from the start: a buffer that grows leaves copies.
    let mut text = Zeroizing::new(String::with_capacity(LONGEST));
    // More than a key can be is not collected; the service says that it is none.
    std::io::stdin().lock().take(LONGEST as u64).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}
