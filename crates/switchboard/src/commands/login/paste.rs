//! `login codex --paste`: the browser may stand anywhere; what it ends at is pasted here.

use domain::service::AUTH;
use domain::{Failure, Reason};
use proto::auth::v1::login_service_client::LoginServiceClient;
use proto::auth::v1::{CompleteLoginRequest, LoginMethod, StartLoginRequest, StartLoginResponse};
use serde_json::json;
use service_kit::PeerChannel;
use zeroize::Zeroizing;

use super::{Done, follow, input, notice};
use crate::args::Cli;
use crate::output::{Failed, eprint_text, print_failure, print_json_line, print_line};

/// Runs one login to its end. Dropping it ends the login.
pub(super) async fn login(
    cli: &Cli,
    channel: PeerChannel,
    label: Option<String>,
    egress: Option<String>,
) -> Result<Done, Failed> {
    let mut client = LoginServiceClient::new(channel);
    let method = LoginMethod::Paste.into();
    let request = StartLoginRequest { provider: "openai-codex".to_owned(), label, method, egress };
    let started = client.start_login(request).await.map_err(|s| Failed::status(&s, AUTH))?.into_inner();
    announce(cli, &started);
    let mut watcher = client.clone();
    tokio::select! {
        biased;
        done = paste(cli, &mut client, &started.login_id) => done,
        // It tells when the time is up, and that the server has gone.
        ended = follow(&mut watcher, started.login_id.clone(), |why| notice(cli, why)) => {
            ended.map(|done| Done { credential: done.credential.unwrap_or_default(), email: done.email, plan: done.plan })
        }
    }
}

fn announce(cli: &Cli, started: &StartLoginResponse) {
    if cli.json {
        let line = json!({ "status": "pending", "method": "paste", "verificationUrl": started.verification_url,
            "expiresAt": started.expires_at });
        print_json_line(&line);
        return;
    }
    print_line(&format!("open   {}", started.verification_url));
    print_line("sign in; your browser will then show an error page at localhost:1455, for nothing listens there:");
    print_line(
        "copy its whole address and paste it here, within 15 minutes (Ctrl-C gives up and leaves nothing behind)",
    );
}

/// Hands in line after line until one is taken. A person is told at once why one is not; at the end of a pipe, which is
/// the end of the login, the last refusal is the outcome and is told once.
async fn paste(cli: &Cli, client: &mut LoginServiceClient<PeerChannel>, login_id: &str) -> Result<Done, Failed> {
    let mut lines = input::lines();
    let at_once = cli.json || input::is_terminal();
    let mut last: Option<Failure> = None;
    loop {
        if input::is_terminal() {
            eprint_text("paste> ");
        }
        let Some(line) = lines.recv().await else {
            let told = input::is_terminal() && !cli.json;
            return Err(last.filter(|_| !told).map_or_else(nothing, ended).into());
        };
        let pasted = Zeroizing::new(line.map_err(|error| input::unreadable(&error))?);
        if pasted.trim().is_empty() {
            continue;
        }
        if let Some(refused) = last.take().filter(|_| !at_once) {
            tell(cli, &refused);
        }
        let request = CompleteLoginRequest { login_id: login_id.to_owned(), pasted: pasted.to_string() };
        match client.complete_login(request).await {
            Ok(done) => {
                let done = done.into_inner();
                return Ok(Done { credential: done.credential, email: done.email, plan: done.plan });
            }
            Err(status) => {
                let failure = service_kit::failure_from_status(&status, AUTH);
                if matches!(failure.reason, Reason::NotFound | Reason::PeerUnavailable) {
                    return Err(failure.into());
                }
                if at_once {
                    tell(cli, &failure);
                }
                last = Some(failure);
            }
        }
    }
}

/// A refusal after which nothing more can be pasted.
fn ended(refused: Failure) -> Failure {
    refused.next_step(
        "standard input has ended, and the login with it: run it again, and paste what the browser ends at then",
    )
}

/// A paste that was not taken; the login goes on.
fn tell(cli: &Cli, failure: &Failure) {
    if cli.json {
        print_json_line(&json!({ "status": "pending", "error": failure }));
    } else {
        print_failure(failure);
    }
}

fn nothing() -> Failure {
    Failure::new(Reason::RequestInvalid, domain::service::CLI, "standard input ended before a paste was taken")
        .next_step("run it again, and paste the address at which the browser ends")
}
