//! `login codex|api-key`: by device code, so that neither a browser nor a terminal is needed here; with a pasted
//! redirect; and API keys from standard input.

mod api_key;
pub(super) mod input;
mod paste;

use domain::service::AUTH;
use domain::{Failure, Reason};
use proto::auth::v1::login_service_client::LoginServiceClient;
use proto::auth::v1::{StartLoginRequest, StartLoginResponse, WatchLoginRequest, WatchLoginResponse};
use serde_json::json;
use service_kit::{PeerChannel, failure_from_proto};

use crate::args::{Cli, LoginArgs, LoginProvider};
use crate::control::{Auth, require};
use crate::interrupt::{self, INTERRUPTED};
use crate::output::{Failed, eprint_line, error_json, print_json_line, print_line};

/// A login that is done.
struct Done {
    credential: String,
    email: Option<String>,
    plan: Option<String>,
}

pub(crate) async fn run(cli: &Cli, args: &LoginArgs) -> Result<(), Failed> {
    let (asked, paste, egress) = match &args.provider {
        LoginProvider::Codex { label, paste, egress } => (label.clone(), *paste, egress.clone()),
        LoginProvider::ApiKey { provider, label } => return api_key::run(cli, provider, label.clone()).await,
    };
    if cli.sim {
        // Without its server the simulator's directory knows no identity provider but the real one.
        require(cli, AUTH).await?;
    }
    // From here on, so that Ctrl-C never meets a login half way.
    let asked_to_end = interrupt::listen()?;
    let auth = Auth::open(cli, true).await?;
    let channel = auth.channel();
    let login = async {
        if paste {
            return paste::login(cli, channel, asked.clone(), egress).await;
        }
        let done =
            login(channel, asked.clone(), egress, |started| announce(cli, started), |why| notice(cli, why)).await?;
        Ok(Done { credential: done.credential.unwrap_or_default(), email: done.email, plan: done.plan })
    };
    let result = tokio::select! {
        result = login => Some(result),
        // What is dropped here ends the login, in the server too.
        () = asked_to_end.cancelled() => None,
    };
    auth.finish().await;
    match result {
        Some(Ok(done)) => {
            report(cli, asked.as_deref(), &done);
            Ok(())
        }
        // One line, as all of them.
        Some(Err(Failed::Call(failed))) if cli.json => {
            print_json_line(&error_json(&failed.0));
            Err(Failed::Printed(1))
        }
        Some(Err(failed)) => Err(failed),
        None => {
            match cli.json {
                true => {
                    let failure = Failed::Interrupted("the login was given up, and nothing of it is left").failure();
                    failure.iter().for_each(|failure| print_json_line(&error_json(failure)));
                }
                false => eprint_line("given up"),
            }
            Err(Failed::Printed(INTERRUPTED))
        }
    }
}

fn report(cli: &Cli, asked: Option<&str>, done: &Done) {
    let Done { credential: label, email, plan } = done;
    if cli.json {
        print_json_line(&json!({ "status": "ok", "credential": label, "email": email, "plan": plan }));
        return;
    }
    let who = email.as_ref().map(|e| format!(" as {e}")).unwrap_or_default();
    let plan = plan.as_ref().map(|p| format!(", plan {p}")).unwrap_or_default();
    print_line(&format!("logged in{who}{plan}; credential {label}"));
    let Some(asked) = asked.map(str::trim).filter(|asked| *asked != label) else { return };
    let numbered = label.strip_prefix(asked).and_then(|rest| rest.strip_prefix('-'));
    if numbered.is_some_and(|number| number.parse::<u32>().is_ok()) {
        print_line(&format!("note: the label {asked} belongs to another credential"));
    } else {
        print_line(&format!("note: this account is known as {label} already, and keeps that label, not {asked}"));
    }
}

fn announce(cli: &Cli, started: &StartLoginResponse) {
    if cli.json {
        let line = json!({ "status": "pending", "verificationUrl": started.verification_url, "userCode": started.user_code,
            "expiresAt": started.expires_at });
        print_json_line(&line);
        return;
    }
    print_line(&format!("open   {}", started.verification_url));
    print_line(&format!("enter  {}", started.user_code));
    print_line("on any device, within 15 minutes; waiting (Ctrl-C gives up and leaves nothing behind)");
}

/// What hinders a login that goes on: on standard error, and for programs on standard output too.
fn notice(cli: &Cli, why: &Failure) {
    if cli.json {
        print_json_line(&json!({ "status": "pending", "notice": why }));
    } else {
        eprint_line(&format!("notice: {}; still waiting (Ctrl-C gives up)", why.message));
    }
}

/// Runs one device login to its end. Dropping it ends the login.
pub(crate) async fn login(
    channel: PeerChannel,
    label: Option<String>,
    egress: Option<String>,
    announce: impl FnOnce(&StartLoginResponse),
    notice: impl Fn(&Failure),
) -> Result<WatchLoginResponse, Failed> {
    let mut client = LoginServiceClient::new(channel);
    let provider = "openai-codex".to_owned();
    let request = StartLoginRequest { provider, label, egress, ..StartLoginRequest::default() };
    let started = client.start_login(request).await.map_err(|s| Failed::status(&s, AUTH))?.into_inner();
    announce(&started);
    follow(&mut client, started.login_id, notice).await
}

/// Follows a login to its end. Dropping it ends the login.
async fn follow(
    client: &mut LoginServiceClient<PeerChannel>,
    login_id: String,
    notice: impl Fn(&Failure),
) -> Result<WatchLoginResponse, Failed> {
    let watch = WatchLoginRequest { login_id };
    let mut steps = client.watch_login(watch).await.map_err(|s| Failed::status(&s, AUTH))?.into_inner();
    while let Some(step) = steps.message().await.map_err(|s| Failed::status(&s, AUTH))? {
        match (step.state.as_str(), &step.failure) {
            ("succeeded", _) => return Ok(step),
            (_, Some(failure)) => return Err(failure_from_proto(failure).into()),
            _ => {
                if let Some(why) = &step.notice {
                    notice(&failure_from_proto(why));
                }
            }
        }
    }
    Err(Failure::new(Reason::PeerUnavailable, AUTH, "auth-svc ended the login without a result").into())
}
