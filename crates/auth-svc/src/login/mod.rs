//! Logins: by device code, so that no browser, no terminal and no open port are needed on this host; with a pasted
//! redirect, where the device code is not allowed; and API keys.
//!
//! Whoever watches a device login drives it: each poll is made for the watcher's stream, and nothing polls for nobody. A
//! pasted one waits for its paste, and ends with the stream of whoever watches. Once the person has agreed, the exchange
//! and the store run in a tracked task: a grant is good once.

mod api_key;
mod device;
mod egress;
mod exchange;
mod keep;
mod logout;
mod paste;
mod pasting;

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use config::{Config, Realm};
use domain::{Clock, Failure, Reason, service};
use futures_util::Stream;
use proto::auth::v1::{LoginMethod, StartLoginRequest, StartLoginResponse, WatchLoginResponse};
use service_kit::failure_to_proto;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::audit::{Actor, Audit};
use crate::identity::{Identity, NoAnswer};
use crate::names::label_problem;
use crate::refresh::Refresher;
use crate::store::{EgressRule, Store};
use device::{Code, Poll};
use exchange::{Grant, exchange, unavailable};
use paste::Pkce;
use pasting::Pasting;

/// A login is good for this long, in milliseconds (facts of Codex CLI).
const LIFE_MS: i64 = 15 * 60_000;
/// Longest wait between two polls that the provider is granted, in seconds.
const LONGEST_WAIT_S: f64 = 60.0;
/// Logins that may wait to be watched.
const MOST_WAITING: usize = 100;
/// What has failed where a login does not begin.
const NOT_STARTED: &str = "the login could not be started";
/// The provider where the request names none.
const USUAL_PROVIDER: &str = "openai-codex";

/// A login that was started.
#[derive(Clone)]
struct Login {
    provider: String,
    label: Option<String>,
    expires_at_ms: i64,
    /// Who has begun it.
    by: Actor,
    /// What its credential is tied to from then on; `None` leaves a rule that it has.
    tie: Option<EgressRule>,
    /// The provider, by the way that this means.
    identity: Box<Identity>,
}

/// What a login waits for.
enum Waiting {
    /// A person who enters a code.
    Device(Box<(Login, Code)>),
    /// A paste.
    Paste(Arc<Pasting>),
}

impl Waiting {
    fn login(&self) -> &Login {
        match self {
            Self::Device(waiting) => &waiting.0,
            Self::Paste(pasting) => &pasting.login,
        }
    }

    /// True if nobody follows it, who would note its end. A device login that is followed does not wait here any more.
    fn is_unwatched(&self) -> bool {
        match self {
            Self::Device(..) => true,
            Self::Paste(pasting) => !pasting.is_watched(),
        }
    }
}

/// Notes that a login was given up, unless it came to an end before its watcher went.
struct GivenUp {
    logins: Logins,
    actor: Actor,
    login: Login,
    ended: bool,
}

impl GivenUp {
    /// Its end is recorded otherwise.
    fn is_noted(&mut self) {
        self.ended = true;
    }
}

impl Drop for GivenUp {
    fn drop(&mut self) {
        if !self.ended {
            self.logins.note_end(self.actor.clone(), &self.login, "cancelled");
        }
    }
}

/// A login that has succeeded.
#[derive(Clone, Debug)]
pub(crate) struct LoggedIn {
    /// Label of its credential.
    pub(crate) label: String,
    /// E-mail address of the account.
    pub(crate) email: Option<String>,
    /// Plan of the account.
    pub(crate) plan: Option<String>,
}

/// The steps of a login, as its watcher sees them.
pub(crate) type Steps = Pin<Box<dyn Stream<Item = WatchLoginResponse> + Send>>;

/// The logins that are under way. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Logins {
    store: Store,
    identity: Identity,
    refresher: Refresher,
    clock: Clock,
    tracker: TaskTracker,
    audit: Audit,
    /// Providers that are logged in to, each with the originator that its logins name.
    providers: Arc<BTreeMap<String, String>>,
    /// Providers that take API keys.
    api_providers: Arc<Vec<String>>,
    waiting: Arc<Mutex<HashMap<String, Waiting>>>,
}

impl Logins {
    pub(crate) fn new(
        store: Store,
        identity: Identity,
        refresher: Refresher,
        config: &Config,
        clock: Clock,
        tracker: TaskTracker,
        audit: Audit,
    ) -> Self {
        let of = |realm| config.providers.iter().filter(move |(_, provider)| provider.realm == realm);
        let originator = |target: &str| config.targets.get(target).map(|target| target.originator.clone());
        let logins = of(Realm::Subscription)
            .map(|(name, provider)| (name.clone(), originator(&provider.target).unwrap_or_default()));
        let providers = Arc::new(logins.collect());
        let api_providers = Arc::new(of(Realm::ApiKey).map(|(name, _)| name.clone()).collect());
        Self { store, identity, refresher, clock, tracker, audit, providers, api_providers, waiting: Arc::default() }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<String, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a login.
    pub(crate) async fn start(&self, by: Actor, request: StartLoginRequest) -> Result<StartLoginResponse, Failure> {
        let method = request.method();
        let provider = if request.provider.is_empty() { USUAL_PROVIDER.to_owned() } else { request.provider };
        let Some(originator) = self.providers.get(&provider) else {
            let known: Vec<&str> = self.providers.keys().map(String::as_str).collect();
            let message = format!("provider {provider:?} is not logged in to; these are: {}", known.join(", "));
            return Err(Failure::new(Reason::RequestInvalid, service::AUTH, message).param("provider"));
        };
        let label = label_of(request.label)?;
        let tie = self.tie(request.egress)?;
        let rule = match &tie {
            Some(rule) => rule.clone(),
            None => self.rule_of(&provider, label.as_deref()).await?,
        };
        let identity = self.identity.by(&rule).map_err(|NoAnswer(cause)| unavailable(NOT_STARTED, &cause))?;
        let identity = Box::new(identity);
        let now = self.clock.now_ms();
        let expires_at_ms = now + LIFE_MS;
        let login = Login { provider: provider.clone(), label, expires_at_ms, by, tie, identity };
        let mut response = StartLoginResponse {
            login_id: uuid::Uuid::new_v4().to_string(),
            expires_at: (login.expires_at_ms / 1000) as f64,
            ..StartLoginResponse::default()
        };
        let waiting = match method {
            LoginMethod::Unspecified | LoginMethod::DeviceCode => {
                let code = device::start(&login.identity).await?;
                response.verification_url = self.identity.url("/codex/device");
                response.user_code.clone_from(&code.user_code);
                response.interval_seconds = code.interval.as_secs_f64();
                Waiting::Device(Box::new((login, code)))
            }
            LoginMethod::Paste => {
                let pkce = Pkce::new()?;
                response.verification_url = pkce.authorize_url(&self.identity, originator)?;
                response.interval_seconds = pasting::LOOK.as_secs_f64();
                Waiting::Paste(Arc::new(Pasting::new(login, pkce)))
            }
        };
        let mut all = self.waiting();
        for (_, over) in all.extract_if(|_, waiting| waiting.login().expires_at_ms <= now) {
            if over.is_unwatched() {
                self.note_end(over.login().by.clone(), over.login(), "expired");
            }
        }
        if all.len() >= MOST_WAITING {
            let message = format!("{MOST_WAITING} logins wait already; they end after 15 minutes");
            return Err(Failure::new(Reason::Shed, service::AUTH, message));
        }
        all.insert(response.login_id.clone(), waiting);
        Ok(response)
    }

    /// Follows a login to its end. Only one caller can: ending the stream ends the login.
    pub(crate) fn watch(&self, actor: Actor, login_id: &str) -> Result<Steps, Failure> {
        let mut all = self.waiting();
        match all.remove(login_id) {
            Some(Waiting::Device(waiting)) => {
                let (login, code) = *waiting;
                Ok(Box::pin(self.clone().drive(actor, login, code)))
            }
            Some(Waiting::Paste(pasting)) => {
                // It stays, for its paste.
                all.insert(login_id.to_owned(), Waiting::Paste(Arc::clone(&pasting)));
                drop(all);
                pasting.claim_watch()?;
                Ok(Box::pin(self.clone().await_paste(actor, login_id.to_owned(), pasting)))
            }
            None => Err(no_such_login()),
        }
    }

    /// Polls until the person has agreed, or it is over. What hinders a poll may pass, and the code is good for its whole
    /// life: whoever watches is told, and can give up.
    fn drive(self, actor: Actor, login: Login, code: Code) -> impl Stream<Item = WatchLoginResponse> + Send {
        // Made at once, not at the first step: a stream that is never polled ends the login too.
        let mut end = GivenUp { logins: self.clone(), actor: actor.clone(), login: login.clone(), ended: false };
        async_stream::stream! {
            let mut hindered: Option<Failure> = None;
            loop {
                if self.clock.now_ms() >= login.expires_at_ms {
                    end.is_noted();
                    yield self.failed(&actor, &login, expired(hindered.as_ref())).await;
                    return;
                }
                let mut wait = code.interval;
                match device::poll(&login.identity, &code).await {
                    Poll::Pending => {
                        hindered = None;
                        yield pending();
                    }
                    Poll::Unclear(why) => {
                        tracing::warn!(cause = %why.message, "a poll of a login brought no answer");
                        let asked = why.retry_after_seconds.unwrap_or_default().min(LONGEST_WAIT_S);
                        wait = wait.max(Duration::from_secs_f64(asked));
                        // Once: each has another ray id, or another millisecond.
                        yield if hindered.is_some() { pending() } else { noticed(&why) };
                        hindered = Some(why);
                    }
                    Poll::Refused(failure) => {
                        end.is_noted();
                        yield self.failed(&actor, &login, failure).await;
                        return;
                    }
                    Poll::Approved(grant) => {
                        // The task records what comes of it.
                        end.is_noted();
                        let notices = Notices::default();
                        let mut told = notices.subscribe();
                        let mut task = self.tracker.spawn(self.clone().redeem(actor, login, grant, notices));
                        loop {
                            tokio::select! {
                                biased;
                                done = &mut task => {
                                    yield last_step(&joined(done));
                                    return;
                                }
                                Some(why) = next_notice(&mut told) => yield noticed(&why),
                            }
                        }
                    }
                }
                tokio::time::sleep(wait).await;
            }
        }
    }

    /// Exchanges a grant and stores what it brings; for a tracked task.
    async fn redeem(self, actor: Actor, login: Login, grant: Grant, notices: Notices) -> Result<LoggedIn, Failure> {
        let done = match exchange(&login.identity, &grant).await {
            Ok(tokens) => self.keep(&login, tokens, &notices).await,
            Err(failure) => Err(failure),
        };
        self.record(&actor, &login, &done).await;
        done
    }

    /// Records how a login has ended, or that a paste was not taken.
    async fn record(&self, actor: &Actor, login: &Login, done: &Result<LoggedIn, Failure>) {
        let subject = match done {
            Ok(done) => &done.label,
            Err(_) => login.label.as_deref().unwrap_or_default(),
        };
        self.audit.record(actor, "login.complete", subject, &login.provider, done).await;
    }

    /// Notes how a login has ended that came to nothing: `cancelled` or `expired`.
    fn note_end(&self, actor: Actor, login: &Login, outcome: &'static str) {
        let (audit, login) = (self.audit.clone(), login.clone());
        self.tracker.spawn(async move {
            let subject = login.label.as_deref().unwrap_or_default();
            audit.note(&actor, "login.end", subject, outcome, &login.provider).await;
        });
    }

    async fn failed(&self, actor: &Actor, login: &Login, failure: Failure) -> WatchLoginResponse {
        let done = Err(failure);
        self.record(actor, login, &done).await;
        last_step(&done)
    }
}

/// A label that an operator has asked for, trimmed.
fn label_of(asked: Option<String>) -> Result<Option<String>, Failure> {
    let label = asked.map(|label| label.trim().to_owned());
    if let Some(why) = label.as_deref().and_then(label_problem) {
        let message = format!("a label is one word; this one {why}");
        return Err(Failure::new(Reason::RequestInvalid, service::AUTH, message).param("label"));
    }
    Ok(label)
}

fn joined(result: Result<Result<LoggedIn, Failure>, tokio::task::JoinError>) -> Result<LoggedIn, Failure> {
    result.unwrap_or_else(|error| {
        Err(Failure::new(Reason::Internal, service::AUTH, format!("the login's task ended: {error}")))
    })
}

fn pending() -> WatchLoginResponse {
    WatchLoginResponse { state: "pending".to_owned(), ..WatchLoginResponse::default() }
}

/// A login that goes on, and what hinders it.
fn noticed(why: &Failure) -> WatchLoginResponse {
    WatchLoginResponse { notice: Some(failure_to_proto(why)), ..pending() }
}

/// What hinders a login whose person has agreed, for whoever watches.
type Notices = watch::Sender<Option<Failure>>;

/// The next notice; never again once nobody can send one.
async fn next_notice(told: &mut watch::Receiver<Option<Failure>>) -> Option<Failure> {
    match told.changed().await {
        Ok(()) => told.borrow_and_update().clone(),
        Err(_) => std::future::pending().await,
    }
}

fn last_step(done: &Result<LoggedIn, Failure>) -> WatchLoginResponse {
    match done {
        Ok(done) => WatchLoginResponse {
            state: "succeeded".to_owned(),
            credential: Some(done.label.clone()),
            email: done.email.clone(),
            plan: done.plan.clone(),
            ..WatchLoginResponse::default()
        },
        Err(failure) => WatchLoginResponse {
            state: "failed".to_owned(),
            failure: Some(failure_to_proto(failure)),
            ..WatchLoginResponse::default()
        },
    }
}

/// The time is up; `hindered` is what the last poll ran into.
fn expired(hindered: Option<&Failure>) -> Failure {
    const WHAT: &str = "the login was not completed within 15 minutes";
    match hindered {
        None => Failure::new(Reason::CredentialNeedsLogin, service::AUTH, WHAT)
            .next_step("start the login again: `switchboard login codex`"),
        Some(why) => Failure { message: format!("{WHAT}: {}", why.message), ..why.clone() },
    }
}

fn no_such_login() -> Failure {
    let message = "there is no such login: it has ended, or somebody else follows it";
    Failure::new(Reason::NotFound, service::AUTH, message).next_step("start it again: `switchboard login codex`")
}
