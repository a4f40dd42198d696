//! Stores what a login brought. A grant is good once: while the database does not take its tokens, they are kept in
//! memory and written again.

use std::time::{Duration, Instant};

use domain::Failure;
use secrecy::{ExposeSecret, SecretString};

use super::exchange::Tokens;
use super::logout::END_THERE;
use super::{LoggedIn, Login, Logins, Notices};
use crate::identity::CLIENT_ID;
use crate::import::DEFAULT_LABEL;
use crate::jwt::{Claims, unverified_claims};
use crate::store::{Kind, NewCredential, Secrets, Source, StoreError};

/// How long the tokens of a login are written again. A person waits for the answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Until the second try; each further one waits twice as long, up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

impl Logins {
    /// Makes the tokens of a login durable: the same account's credential has them from then on, or a new one.
    pub(super) async fn keep(&self, login: &Login, tokens: Tokens, notices: &Notices) -> Result<LoggedIn, Failure> {
        let claims = |token: Option<&SecretString>| {
            token.map(|token| unverified_claims(token.expose_secret())).unwrap_or_default()
        };
        let who = merged(claims(Some(&tokens.access)), claims(tokens.id_token.as_ref()));
        let now_s = self.clock.now_s();
        let new = NewCredential {
            label: String::new(),
            provider: login.provider.clone(),
            kind: Kind::OAuth,
            issuer: Some(self.identity.origin().to_owned()),
            client_id: Some(CLIENT_ID.to_owned()),
            account_id: who.account_id,
            email: who.email.clone(),
            plan: who.plan.clone(),
            user_id: who.user_id,
            fedramp: who.fedramp,
            source: Source::Login,
            secrets: Secrets::Present {
                access: Some(tokens.access),
                refresh: tokens.refresh,
                id_token: tokens.id_token,
                api_key: None,
            },
            extra: serde_json::Value::Null,
            access_expires_at: tokens.expires_in.map(|seconds| now_s.saturating_add(seconds)),
            last_refresh: Some(now_s),
            borrowed: false,
            profile: None,
        };
        let written = persist(PATIENCE, notices, || self.write(login, &new)).await;
        let label = match written {
            Ok(label) => label,
            // Nobody has these tokens any more, and nobody can use them: the login ends where it lives.
            Err(error) => {
                return Err(unwritten(error.into(), self.revoke(&login.identity, &new.secrets, CLIENT_ID).await));
            }
        };
        tracing::info!(credential = %label, "logged in");
        Ok(LoggedIn { label, email: who.email, plan: who.plan })
    }

    async fn write(&self, login: &Login, new: &NewCredential) -> Result<String, StoreError> {
        // Never the account's address: labels stand in metrics and logs.
        let label = login.label.as_deref().unwrap_or(DEFAULT_LABEL).to_owned();
        let new = NewCredential { label, ..new.clone() };
        let Some(rule) = &login.tie else {
            return Ok(self.store.upsert_credential(&new, false).await?.0);
        };
        let mut intake = self.store.intake().await?;
        let (label, _) = intake.take(&new).await?;
        intake.tie(&label, rule).await?;
        intake.finish(false).await?;
        Ok(label)
    }
}

/// Repeats `write` while the database fails, for as long as `patience`, and says so.
async fn persist<T, W>(patience: Duration, notices: &Notices, mut write: impl FnMut() -> W) -> Result<T, StoreError>
where
    W: Future<Output = Result<T, StoreError>>,
{
    let began = Instant::now();
    let mut wait = FIRST_WAIT;
    loop {
        match write().await {
            // What is damaged, or sealed with another key, stays so.
            Err(error @ StoreError::Database { .. }) if began.elapsed() + wait <= patience => {
                tracing::error!(%error, "the tokens of a login are not written yet; they are kept in memory");
                let why = Failure::from(error);
                notices.send_replace(Some(Failure {
                    message: format!(
                        "the tokens of the login cannot be written yet; they are kept in memory, and written again for \
                         {} s: {}",
                        patience.as_secs(),
                        why.message
                    ),
                    ..why
                }));
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
            done => return done,
        }
    }
}

/// The failure of a login whose tokens the database has not taken, and which was `revoked` then, or not.
fn unwritten(mut failure: Failure, revoked: Result<(), Failure>) -> Failure {
    let (what, end) = match revoked {
        Ok(()) => ("the login was revoked at the provider".to_owned(), String::new()),
        Err(why) => (
            format!("the login lives on at the provider ({})", why.message),
            format!(". The login that was approved now is of no use: {END_THERE}"),
        ),
    };
    failure.message = format!(
        "the login was approved, but its tokens could not be written and are gone; {what}. Cause: {}",
        failure.message
    );
    failure.next_step = format!("{}; then log in again{end}", failure.next_step);
    failure
}

/// Who logged in: the id token's word before the access token's.
fn merged(of_access: Claims, of_id: Claims) -> Claims {
    Claims {
        email: of_id.email.or(of_access.email),
        account_id: of_id.account_id.or(of_access.account_id),
        plan: of_id.plan.or(of_access.plan),
        user_id: of_id.user_id.or(of_access.user_id),
        fedramp: of_id.fedramp || of_access.fedramp,
        ..Claims::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> StoreError {
        StoreError::Database { path: "/d/switchboard.db".into(), cause: "database or disk is full".into() }
    }

    #[tokio::test]
    async fn a_write_is_repeated_for_a_while() {
        let notices = Notices::default();
        for fails in [0, 2] {
            let mut tries = 0;
            let written = persist(PATIENCE, &notices, || {
                tries += 1;
                std::future::ready(if tries > fails { Ok(tries) } else { Err(full()) })
            });
            assert_eq!(written.await.expect("written"), fails + 1);
        }
        let mut tries = 0;
        let written = persist(FIRST_WAIT * 4, &notices, || {
            tries += 1;
            std::future::ready(Err::<(), _>(full()))
        });
        let failure = Failure::from(written.await.expect_err("full"));
        assert!(tries > 1);
        let told = notices.borrow().clone().expect("told");
        assert!(told.message.contains("kept in memory") && told.message.contains("disk is full"), "{told}");
        let ended = unwritten(failure.clone(), Ok(()));
        assert!(ended.message.contains("was revoked") && !ended.next_step.contains("all devices"), "{ended}");
        let why = Failure::new(domain::Reason::IdentityUnavailable, domain::service::AUTH, "no answer");
        let failure = unwritten(failure, Err(why));
        assert_eq!(failure.reason, domain::Reason::StoreUnavailable);
        assert!(failure.message.contains("lives on") && failure.message.contains("disk is full"), "{failure}");
        assert!(failure.next_step.contains("Log out of all devices"), "{}", failure.next_step);
        let mut tries = 0;
        let written = persist(PATIENCE, &notices, || {
            tries += 1;
            let cause = "malformed".into();
            std::future::ready(Err::<(), _>(StoreError::Damaged { path: "/d/switchboard.db".into(), cause }))
        });
        written.await.expect_err("damaged");
        assert_eq!(tries, 1, "nothing mends that within seconds");
    }
}
