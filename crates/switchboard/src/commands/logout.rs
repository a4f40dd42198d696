//! `logout`: ends a login at its provider and forgets it here.

use domain::service::AUTH;
use proto::auth::v1::LogoutRequest;
use proto::auth::v1::login_service_client::LoginServiceClient;
use serde_json::json;

use crate::args::{Cli, LogoutArgs};
use crate::control::Auth;
use crate::output::{Failed, print_json, print_line};

pub(crate) async fn run(cli: &Cli, args: &LogoutArgs) -> Result<(), Failed> {
    let auth = Auth::open(cli, false).await?;
    let request = LogoutRequest { credential: args.credential.clone() };
    let mut client = LoginServiceClient::new(auth.channel());
    let answer = auth.complete(client.logout(request)).await?;
    let answer = answer.map_err(|s| Failed::status(&s, AUTH))?.into_inner();
    if cli.json {
        print_json(&json!({ "status": "ok", "credential": answer.credential, "revoked": answer.revoked,
            "note": answer.note }));
        return Ok(());
    }
    if answer.revoked {
        print_line(&format!("logged out {}", answer.credential));
    } else {
        print_line(&format!("forgot {}", answer.credential));
    }
    print_line(&format!("note: {}", answer.note));
    Ok(())
}
