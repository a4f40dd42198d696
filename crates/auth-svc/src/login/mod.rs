//! Logins by device code: no browser, no terminal and no open port on this host.
//!
//! Whoever watches a login drives it: each poll is made for the watcher's stream, and nothing polls for nobody. Once the
//! person has agreed, the exchange and the store run in a tracked task: a grant is good once.

mod device;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use config::{Config, Realm};
use domain::{Clock, Failure, Reason, service};
use futures_util::Stream;
use proto::auth::v1::{StartLoginRequest, StartLoginResponse, WatchLoginResponse};
use secrecy::ExposeSecret;
use service_kit::failure_to_proto;
use tokio_util::task::TaskTracker;

use crate::identity::{CLIENT_ID, Identity};
use crate::jwt::{Claims, unverified_claims};
use crate::store::{Kind, NewCredential, Secrets, Source, Store};
use device::{Code, Grant, Poll, Tokens};

/// A code is good for this long, in milliseconds (facts of Codex CLI).
const LIFE_MS: i64 = 15 * 60_000;
/// Polls in a row that may bring neither yes nor no.
const PATIENCE: u32 = 5;
/// Logins that may wait to be watched.
const MOST_WAITING: usize = 100;
/// The provider where the request names none.
const USUAL_PROVIDER: &str = "openai-codex";
/// The label of a first login.
const USUAL_LABEL: &str = "main";

/// A login that was started.
struct Waiting {
    provider: String,
    label: Option<String>,
    code: Code,
    expires_at_ms: i64,
}

/// A login that has succeeded.
#[derive(Debug)]
struct LoggedIn {
    label: String,
    email: Option<String>,
    plan: Option<String>,
}

/// The logins that are under way. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Logins {
    store: Store,
    identity: Identity,
    clock: Clock,
    tracker: TaskTracker,
    providers: Arc<Vec<String>>,
    waiting: Arc<Mutex<HashMap<String, Waiting>>>,
}

impl Logins {
    pub(crate) fn new(store: Store, identity: Identity, config: &Config, clock: Clock, tracker: TaskTracker) -> Self {
        let subscriptions = config.providers.iter().filter(|(_, provider)| provider.realm == Realm::Subscription);
        let providers = Arc::new(subscriptions.map(|(name, _)| name.clone()).collect());
        Self { store, identity, clock, tracker, providers, waiting: Arc::default() }
    }

    /// Begins a login.
    pub(crate) async fn start(&self, request: StartLoginRequest) -> Result<StartLoginResponse, Failure> {
        let provider = if request.provider.is_empty() { USUAL_PROVIDER.to_owned() } else { request.provider };
        if !self.providers.contains(&provider) {
            let known = self.providers.join(", ");
            let message = format!("provider {provider:?} has no login by device code; these have one: {known}");
            return Err(Failure::new(Reason::RequestInvalid, service::AUTH, message).param("provider"));
        }
        let label = request.label.map(|label| label.trim().to_owned()).filter(|label| !label.is_empty());
        let code = device::start(&self.identity).await?;
        let now = self.clock.now_ms();
        let waiting = Waiting { provider, label, code, expires_at_ms: now + LIFE_MS };
        let response = StartLoginResponse {
            login_id: uuid::Uuid::new_v4().to_string(),
            verification_url: self.identity.url("/codex/device"),
            user_code: waiting.code.user_code.clone(),
            expires_at: (waiting.expires_at_ms / 1000) as f64,
            interval_seconds: waiting.code.interval.as_secs_f64(),
        };
        let mut all = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, login| login.expires_at_ms > now);
        if all.len() >= MOST_WAITING {
            let message = format!("{MOST_WAITING} logins wait already; they end after 15 minutes");
            return Err(Failure::new(Reason::Shed, service::AUTH, message));
        }
        all.insert(response.login_id.clone(), waiting);
        Ok(response)
    }

    /// Follows a login to its end. Only one caller can: ending the stream ends the login.
    pub(crate) fn watch(&self, login_id: &str) -> Result<impl Stream<Item = WatchLoginResponse> + use<>, Failure> {
        let found = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(login_id);
        let login = found.ok_or_else(|| {
            let message = "there is no such login: it has ended, or somebody else follows it";
            Failure::new(Reason::NotFound, service::AUTH, message)
                .next_step("start it again: `switchboard login codex`")
        })?;
        let this = self.clone();
        Ok(async_stream::stream! {
            let mut unclear = 0;
            loop {
                if this.clock.now_ms() >= login.expires_at_ms {
                    yield failed(&expired());
                    return;
                }
                match device::poll(&this.identity, &login.code).await {
                    Poll::Pending => unclear = 0,
                    Poll::Unclear(cause) if unclear + 1 >= PATIENCE => {
                        let message = format!("the login cannot be followed: {cause}");
                        yield failed(&Failure::new(Reason::IdentityUnavailable, service::AUTH, message));
                        return;
                    }
                    Poll::Unclear(cause) => {
                        unclear += 1;
                        tracing::warn!(%cause, "a poll of a login brought no answer");
                    }
                    Poll::Refused(failure) => {
                        yield failed(&failure);
                        return;
                    }
                    Poll::Approved(grant) => {
                        yield this.finish(login, grant).await;
                        return;
                    }
                }
                yield WatchLoginResponse { state: "pending".to_owned(), ..WatchLoginResponse::default() };
                tokio::time::sleep(login.code.interval).await;
            }
        })
    }

    async fn finish(&self, login: Waiting, grant: Grant) -> WatchLoginResponse {
        let this = self.clone();
        let task = self.tracker.spawn(async move {
            let tokens = device::exchange(&this.identity, &grant).await?;
            this.keep(login, tokens).await
        });
        let result = task.await.unwrap_or_else(|error| {
            Err(Failure::new(Reason::Internal, service::AUTH, format!("the login's task ended: {error}")))
        });
        match result {
            Ok(done) => {
                tracing::info!(credential = %done.label, "logged in");
                WatchLoginResponse {
                    state: "succeeded".to_owned(),
                    credential: Some(done.label),
                    failure: None,
                    email: done.email,
                    plan: done.plan,
                }
            }
            Err(failure) => failed(&failure),
        }
    }

    async fn keep(&self, login: Waiting, tokens: Tokens) -> Result<LoggedIn, Failure> {
        let claims = |token: Option<&secrecy::SecretString>| {
            token.map(|token| unverified_claims(token.expose_secret())).unwrap_or_default()
        };
        let (of_access, of_id) = (claims(Some(&tokens.access)), claims(tokens.id_token.as_ref()));
        let who = Claims {
            exp: of_access.exp,
            email: of_id.email.or(of_access.email),
            account_id: of_id.account_id.or(of_access.account_id),
            plan: of_id.plan.or(of_access.plan),
            user_id: of_id.user_id.or(of_access.user_id),
            fedramp: of_id.fedramp || of_access.fedramp,
        };
        let now_s = self.clock.now_s();
        let new = NewCredential {
            label: self.label(login.label, who.email.as_deref()).await?,
            provider: login.provider,
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
        let (label, _) = self.store.upsert_credential(&new, false).await?;
        Ok(LoggedIn { label, email: who.email, plan: who.plan })
    }

    /// The label that was asked for; else "main" if that is free, else the account's address.
    async fn label(&self, asked: Option<String>, email: Option<&str>) -> Result<String, Failure> {
        if let Some(label) = asked {
            return Ok(label);
        }
        let taken = self.store.credential_by_label(USUAL_LABEL).await?.is_some();
        Ok(email.filter(|_| taken).unwrap_or(USUAL_LABEL).to_owned())
    }
}

fn failed(failure: &Failure) -> WatchLoginResponse {
    WatchLoginResponse {
        state: "failed".to_owned(),
        failure: Some(failure_to_proto(failure)),
        ..WatchLoginResponse::default()
    }
}

fn expired() -> Failure {
    Failure::new(Reason::CredentialNeedsLogin, service::AUTH, "nobody entered the code within 15 minutes")
        .next_step("start the login again: `switchboard login codex`")
}
