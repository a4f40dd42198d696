//! `login codex`: device code, so that neither a browser nor a terminal is needed here.

use domain::service::AUTH;
use domain::{Failure, Reason};
use proto::auth::v1::login_service_client::LoginServiceClient;
use proto::auth::v1::{StartLoginRequest, StartLoginResponse, WatchLoginRequest, WatchLoginResponse};
use serde_json::json;
use service_kit::{PeerChannel, failure_from_proto};

use crate::args::{Cli, LoginArgs, LoginProvider};
use crate::control::{Auth, require};
use crate::output::{Failed, print_line};

pub(crate) async fn run(cli: &Cli, args: &LoginArgs) -> Result<(), Failed> {
    let LoginProvider::Codex { label: asked } = &args.provider;
    if cli.sim {
        // Without its server the simulator's directory knows no identity provider but the real one.
        require(cli, AUTH).await?;
    }
    let auth = Auth::open(cli, true).await?;
    let result = login(auth.channel(), asked.clone(), |started| announce(cli, started)).await;
    auth.finish().await;
    let done = result?;
    let (label, email, plan) = (done.credential.unwrap_or_default(), done.email, done.plan);
    if cli.json {
        print_line(&json!({ "status": "ok", "credential": label, "email": email, "plan": plan }).to_string());
    } else {
        let who = email.map(|e| format!(" as {e}")).unwrap_or_default();
        let plan = plan.map(|p| format!(", plan {p}")).unwrap_or_default();
        print_line(&format!("logged in{who}{plan}; credential {label}"));
        if let Some(asked) = asked.as_ref().filter(|asked| **asked != label) {
            print_line(&format!("note: this account is known as {label} already, and keeps that label, not {asked}"));
        }
    }
    Ok(())
}

fn announce(cli: &Cli, started: &StartLoginResponse) {
    if cli.json {
        let line = json!({ "status": "pending", "verificationUrl": started.verification_url, "userCode": started.user_code,
            "expiresAt": started.expires_at });
        print_line(&line.to_string());
        return;
    }
    print_line(&format!("open   {}", started.verification_url));
    print_line(&format!("enter  {}", started.user_code));
    print_line("on any device, within 15 minutes; waiting (Ctrl-C gives up and leaves nothing behind)");
}

/// Runs one device login to its end. Dropping it ends the login.
pub(crate) async fn login(
    channel: PeerChannel,
    label: Option<String>,
    announce: impl FnOnce(&StartLoginResponse),
) -> Result<WatchLoginResponse, Failed> {
    let mut client = LoginServiceClient::new(channel);
    let request = StartLoginRequest { provider: "openai-codex".to_owned(), label };
    let started = client.start_login(request).await.map_err(|s| Failed::status(&s, AUTH))?.into_inner();
    announce(&started);
    let watch = WatchLoginRequest { login_id: started.login_id };
    let mut steps = client.watch_login(watch).await.map_err(|s| Failed::status(&s, AUTH))?.into_inner();
    while let Some(step) = steps.message().await.map_err(|s| Failed::status(&s, AUTH))? {
        match (step.state.as_str(), &step.failure) {
            ("succeeded", _) => return Ok(step),
            (_, Some(failure)) => return Err(failure_from_proto(failure).into()),
            _ => {}
        }
    }
    Err(Failure::new(Reason::PeerUnavailable, AUTH, "auth-svc ended the login without a result").into())
}
