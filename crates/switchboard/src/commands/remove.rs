//! `credentials remove`: forgets a credential, and says before what would be lost with it.

use std::io::IsTerminal;

use domain::Reason;
use domain::service::AUTH;
use proto::auth::v1::credential_service_client::CredentialServiceClient;
use proto::auth::v1::{Credential, RemoveCredentialRequest};
use serde_json::json;
use service_kit::PeerChannel;

use super::credentials::all;
use super::login::input;
use crate::args::Cli;
use crate::output::{Failed, eprint_line, eprint_text, print_json, print_line};

/// Without a terminal, or with `yes`, it acts at once: a script that says so means it.
pub(super) async fn run(
    cli: &Cli,
    client: &mut CredentialServiceClient<PeerChannel>,
    name: &str,
    yes: bool,
) -> Result<(), Failed> {
    let known = all(client).await?.credentials;
    let warning = known.iter().find(|c| c.label == name || c.id == name).and_then(warning);
    for line in warning.iter().flatten() {
        eprint_line(line);
    }
    let may_ask = !yes && !cli.json && std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if warning.is_some() && may_ask && !agreed().await {
        return Err(Failed::because(
            Reason::Cancelled,
            "nothing was removed",
            "run it again with --yes if it is to go",
        ));
    }
    let request = RemoveCredentialRequest { credential: name.to_owned() };
    client.remove_credential(request).await.map_err(|s| Failed::status(&s, AUTH))?;
    if cli.json {
        let warning = warning.map(|lines| lines.join("\n"));
        print_json(&json!({ "status": "ok", "removed": name, "warning": warning }));
    } else {
        print_line(&format!("removed {name}"));
    }
    Ok(())
}

/// What is lost with a credential, where that cannot be had back: the tokens of a login that nobody else has.
fn warning(credential: &Credential) -> Option<[String; 3]> {
    let is_ours = !credential.borrowed && credential.exported_at.is_none() && !credential.unconfirmed;
    let is_alive = !matches!(credential.state.as_str(), "needs_login" | "undecryptable");
    if credential.kind != "oauth" || !is_ours || !is_alive {
        return None;
    }
    let label = &credential.label;
    let whose = credential.email.as_ref().map(|email| format!(" of {email}")).unwrap_or_default();
    Some([
        format!(
            "warning: the only current tokens of the login{whose} are those of {label}; they are lost with it, while the \
             login lives on at the provider. Instead:"
        ),
        format!("  switchboard logout {label}                      ends it at the provider, too"),
        format!("  switchboard export codex --credential {label}   hands it to Codex CLI (or: export openclaw)"),
    ])
}

async fn agreed() -> bool {
    eprint_text("remove it all the same? [y/N] ");
    let answer = input::lines().recv().await;
    matches!(answer, Some(Ok(line)) if matches!(line.trim(), "y" | "Y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login() -> Credential {
        Credential { label: "main".into(), kind: "oauth".into(), state: "ready".into(), ..Credential::default() }
    }

    #[test]
    fn only_what_cannot_be_had_back_is_warned_of() {
        let said = warning(&login()).expect("a warning").join("\n");
        assert!(said.contains("logout main") && said.contains("--credential main"), "{said}");
        for other in [
            Credential { kind: "api-key".into(), ..login() },
            Credential { borrowed: true, ..login() },
            Credential { exported_at: Some(1.0), ..login() },
            Credential { unconfirmed: true, ..login() },
            Credential { state: "needs_login".into(), ..login() },
        ] {
            assert_eq!(warning(&other), None, "{other:?}");
        }
    }
}
