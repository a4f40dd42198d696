//! Ending a login: it is revoked at the identity provider that issued it, and forgotten here.

use std::time::Duration;

use domain::Failure;
use proto::auth::v1::LogoutResponse;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::Logins;
use super::exchange::{unavailable, unexpected};
use crate::audit::{About, Actor};
use crate::identity::{CLIENT_ID, Identity, NoAnswer};
use crate::refresh::issued_by;
use crate::store::{Credential, Kind, Secrets, TokenHash};

const REVOKE_PATH: &str = "/oauth/revoke";
/// What has failed where a login does not end.
const NOT_REVOKED: &str = "the login could not be revoked";
/// As Codex CLI does: a provider that does not answer must not keep a person from logging out.
const LIMIT: Duration = Duration::from_secs(10);
/// Where a person ends a login that was not revoked.
pub(super) const END_THERE: &str = "end it there: ChatGPT, Settings > Security, \"Log out of all devices\"";

impl Logins {
    /// Revokes a login and forgets its credential. One that cannot be revoked stays as it was: whoever logs out means it to
    /// end, and can try again only with its tokens. What is not ours to end is only forgotten. Goes on if the caller goes
    /// away.
    pub(crate) async fn logout(&self, actor: &Actor, name: &str) -> Result<LogoutResponse, Failure> {
        let (this, name, asked) = (self.clone(), name.to_owned(), name.to_owned());
        let about = move |done: &Result<LogoutResponse, Failure>| match done {
            Ok(done) => About::new(&done.credential, if done.revoked { "revoked" } else { "forgotten, not revoked" }),
            Err(_) => About::new(asked, ""),
        };
        self.audit.act(actor.clone(), "login.logout", about, async move { this.end(&name).await }).await
    }

    async fn end(&self, name: &str) -> Result<LogoutResponse, Failure> {
        let found = self.store.credential_named(name).await?;
        // From here on no refresh begins, neither here nor in another process: what it brought would live on unknown.
        let given_up = self.store.give_up(&found.id).await?;
        let done = self.end_given_up(&found.id, given_up).await;
        match done {
            Err(failure) if given_up => Err(match self.store.take_up(&found.id).await {
                Ok(()) => failure,
                Err(error) => Failure {
                    message: format!(
                        "{}; and it is not refreshed any more, for the database fails: {error}",
                        failure.message
                    ),
                    ..failure
                },
            }),
            done => done,
        }
    }

    async fn end_given_up(&self, id: &str, given_up: bool) -> Result<LogoutResponse, Failure> {
        // A refresh that is under way brings the token that has to be revoked.
        self.refresher.settle(id).await?;
        let mut credential = self.store.credential_named(id).await?;
        if given_up {
            // It went to nobody.
            credential.exported_at = None;
        }
        let (revoked, note) = match keeps_alive(&credential, self.identity.origin()) {
            Some(note) => (false, note),
            None => {
                let client = credential.client_id.as_deref().unwrap_or(CLIENT_ID);
                let revoked = match self.identity.by(&credential.egress) {
                    Ok(identity) => self.revoke(&identity, &credential.secrets, client).await,
                    Err(NoAnswer(cause)) => Err(unavailable(NOT_REVOKED, &cause)),
                };
                revoked.map_err(|failure| not_ended(&credential.label, failure))?;
                (true, "the login is ended: every other copy of it is dead too".to_owned())
            }
        };
        let ended = credential.secrets.refresh().filter(|_| revoked).map(TokenHash::of);
        self.store.remove_revoked(&credential.id, ended).await?;
        self.refresher.notes().forget(&credential.id);
        tracing::info!(credential = %credential.label, revoked, "logged out");
        Ok(LogoutResponse { credential: credential.label, revoked, note, ..LogoutResponse::default() })
    }

    /// Ends a login at the provider.
    pub(super) async fn revoke(&self, identity: &Identity, secrets: &Secrets, client: &str) -> Result<(), Failure> {
        const WHAT: &str = NOT_REVOKED;
        let Some(body) = request(secrets, client) else { return Ok(()) };
        let sent = tokio::time::timeout(LIMIT, identity.post_json(REVOKE_PATH, &body)).await;
        let origin = identity.origin();
        let silent = || unavailable(WHAT, &format!("{origin} did not answer within {} s", LIMIT.as_secs()));
        let answer = sent.map_err(|_| silent())?.map_err(|NoAnswer(cause)| unavailable(WHAT, &cause))?;
        match answer.status {
            200..300 if !answer.is_page() => Ok(()),
            _ => Err(unexpected(WHAT, &answer)),
        }
    }
}

/// A login that goes on, here and at the provider.
fn not_ended(label: &str, failure: Failure) -> Failure {
    let message = format!("{label} is not logged out and stays as it was: {}", failure.message);
    let next = format!(
        "{} (`switchboard logout {label}`). To forget it here all the same: `switchboard credentials remove {label}`; the \
         login lives on at the provider then: {END_THERE}",
        failure.next_step
    );
    Failure { message, ..failure }.next_step(next)
}

/// What is posted: the refresh token ends the whole login; an access token alone is revoked without a client id.
fn request(secrets: &Secrets, client: &str) -> Option<Value> {
    let Secrets::Present { access, refresh, .. } = secrets else { return None };
    match (refresh, access) {
        (Some(token), _) => Some(json!({
            "token": token.expose_secret(), "token_type_hint": "refresh_token", "client_id": client,
        })),
        (None, Some(token)) => Some(json!({ "token": token.expose_secret(), "token_type_hint": "access_token" })),
        (None, None) => None,
    }
}

/// Why this credential is forgotten and not revoked, if that is so: what to tell the operator.
fn keeps_alive(credential: &Credential, origin: &str) -> Option<String> {
    if credential.kind == Kind::ApiKey {
        let place = if credential.provider == "openai" { " (https://platform.openai.com/api-keys)" } else { "" };
        return Some(format!(
            "an API key was forgotten here; it stays good until you revoke it at its provider{place}"
        ));
    }
    if credential.borrowed {
        return Some("a borrowed login was forgotten here; it goes on with its owner".to_owned());
    }
    if credential.exported_at.is_some() {
        // A logout that was killed half-way leaves this mark, too.
        return Some(format!(
            "an exported login was forgotten here; it goes on with the program that it was handed to. If with none, \
             {END_THERE}"
        ));
    }
    if credential.unconfirmed {
        // Revoking a spent token ends what came after it, which may be in use where the backup was made.
        return Some(format!(
            "a login restored from a backup was forgotten here; it goes on where else it is in use. If nowhere, {END_THERE}"
        ));
    }
    if !issued_by(credential, origin) {
        let issuer = credential.issuer.as_deref().unwrap_or("an unknown issuer");
        return Some(format!(
            "the login was forgotten here; it was issued by {issuer}, and its tokens are sent to no other origin: end it \
             there"
        ));
    }
    if request(&credential.secrets, CLIENT_ID).is_none() {
        return Some(format!(
            "the login was forgotten here; it has no token that could be revoked. If it lives, {END_THERE}"
        ));
    }
    None
}
