//! The simulator's state, and the handle by which a test in the same process steers it.
//!
//! One lock over all that tests change together. It is held for look-ups only, never across an await.

mod grants;
mod logins;
mod quota;
mod rules;
mod types;

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use self::quota::{Quota, QuotaLimit, QuotaWindow};
pub use self::types::{AdoptTokens, LoginStats, SeedLogin, SeededLogin, StateError, Stats};
use self::{grants::Grants, logins::Logins, rules::Rules};
pub(crate) use self::{
    grants::RedirectRule,
    logins::{AccessCheck, Account, RefreshRefusal},
    quota::{LimitNow, Meter, WindowNow},
    rules::key_label,
};
use crate::{
    config::{AccountSpec, SimConfig},
    identity::fault::TokenScenario,
    record::{RecordedRequest, Recorder, TokenRequest},
    scenario::Scenario,
};

/// A handle on a running simulator's state; clones are the same state.
#[derive(Clone)]
pub struct SimState {
    shared: Arc<Shared>,
}

struct Shared {
    config: SimConfig,
    base_url: OnceLock<String>,
    book: Mutex<Book>,
    recorder: Arc<Recorder>,
    counters: Counters,
    /// Cancelled and replaced to drop all connections that are open.
    connections: Mutex<CancellationToken>,
    /// True while event streams wait behind their first event.
    held: watch::Sender<bool>,
}

/// All that changes together.
#[derive(Default)]
pub(crate) struct Book {
    pub(crate) logins: Logins,
    pub(crate) grants: Grants,
    pub(crate) rules: Rules,
}

/// Counted without the lock.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) live_connections: AtomicU64,
    pub(crate) total_connections: AtomicU64,
    pub(crate) failed_handshakes: AtomicU64,
    pub(crate) open_streams: AtomicU64,
    pub(crate) total_streams: AtomicU64,
}

impl fmt::Debug for SimState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimState").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl SimState {
    pub(crate) fn new(config: SimConfig) -> Self {
        let recorder = Recorder::new(config.record_limit);
        let mut book = Book::default();
        book.rules.set_scenario("*", config.scenario.clone(), None);
        book.rules.set_token_scenario("*", config.token_scenario.clone(), None);
        Self {
            shared: Arc::new(Shared {
                config,
                base_url: OnceLock::new(),
                book: Mutex::new(book),
                recorder,
                counters: Counters::default(),
                connections: Mutex::new(CancellationToken::new()),
                held: watch::Sender::new(false),
            }),
        }
    }

    /// Creates a login and its tokens.
    pub fn seed_login(&self, seed: SeedLogin) -> SeededLogin {
        let mut book = self.book();
        if seed.scenario.is_some() {
            book.rules.set_scenario(&seed.account_id, seed.scenario.clone(), None);
        }
        if seed.token_scenario.is_some() {
            book.rules.set_token_scenario(&seed.account_id, seed.token_scenario.clone(), None);
        }
        book.logins.seed(&seed, self.config().access_token_ttl)
    }

    /// Takes tokens from elsewhere (a fixture) as those of a new login; its number is returned.
    pub fn adopt_tokens(&self, tokens: AdoptTokens) -> Result<usize, StateError> {
        self.book().logins.adopt(tokens, self.config().access_token_ttl)
    }

    /// Every secret that this simulator has handed out or takes, each with its kind: what must be found nowhere but at
    /// its owner's.
    pub fn secrets(&self) -> Vec<(&'static str, String)> {
        let book = self.book();
        let keys = book.rules.keys().map(|key| ("an API key", key.clone()));
        book.logins.issued().chain(book.grants.issued()).chain(keys).collect()
    }

    /// Makes an API key valid under `/v1`; the label is what records call it.
    pub fn add_api_key(&self, key: &str) -> String {
        self.book().rules.add_key(key)
    }

    /// Sets the scenario of an account id, an API key, or `*` for everyone; `None` removes it.
    pub fn set_scenario(&self, target: &str, scenario: Option<Scenario>) {
        self.change_scenario(target, scenario, None);
    }

    /// As [`Self::set_scenario`], for the next `times` requests only.
    pub fn set_scenario_times(&self, target: &str, scenario: Scenario, times: u32) {
        self.change_scenario(target, Some(scenario), Some(times));
    }

    fn change_scenario(&self, target: &str, scenario: Option<Scenario>, times: Option<u32>) {
        let mut book = self.book();
        book.logins.forget_rejections(target);
        book.rules.set_scenario(target, scenario, times);
    }

    /// Sets how the identity provider treats an account id, or `*` for everyone; `None` removes it.
    pub fn set_token_scenario(&self, target: &str, scenario: Option<TokenScenario>) {
        self.book().rules.set_token_scenario(target, scenario, None);
    }

    /// As [`Self::set_token_scenario`], for the next `times` requests only.
    pub fn set_token_scenario_times(&self, target: &str, scenario: TokenScenario, times: u32) {
        self.book().rules.set_token_scenario(target, Some(scenario), Some(times));
    }

    /// Sets what the accounts check says of an account: `NO_CONSTRAINT`, or an origin and `us` or `us_cr`.
    pub fn set_routing(&self, account_id: &str, origin: &str, routing_override: &str) -> Result<(), StateError> {
        let mut book = self.book();
        let account = book.logins.account_mut(account_id)?;
        account.origin = origin.to_owned();
        account.routing_override = routing_override.to_owned();
        Ok(())
    }

    /// Sets how much of its two windows an account has used, in percent: headers and `/wham/usage` say so, and from 100
    /// on its calls are refused.
    pub fn set_usage(&self, account_id: &str, primary: f64, secondary: f64) -> Result<(), StateError> {
        self.book().logins.account_mut(account_id)?.meter.use_percent([primary, secondary]);
        Ok(())
    }

    /// Sets an account's whole quota; `None` is what a new account has. Calls are refused while a limit that their model
    /// counts against is used up. Once it is set, `/wham/usage` answers from it alone: a test can make a quota come back
    /// early, or let it disagree with a scenario that refuses calls.
    pub fn set_quota(&self, account_id: &str, quota: Option<Quota>) -> Result<(), StateError> {
        self.book().logins.account_mut(account_id)?.meter = quota.map_or_else(Meter::fresh, Meter::set);
        Ok(())
    }

    /// Expires all access tokens of an account now, although their `exp` says otherwise; how many.
    pub fn expire_access_tokens(&self, account_id: &str) -> usize {
        self.book().logins.expire_access(account_id)
    }

    /// Expires all refresh tokens of an account; how many.
    pub fn expire_refresh_tokens(&self, account_id: &str) -> usize {
        self.book().logins.expire_refresh(account_id)
    }

    /// Ends all logins of an account; how many.
    pub fn revoke_account(&self, account_id: &str) -> usize {
        self.book().logins.revoke_account(account_id)
    }

    /// Approves a pending device login for the configured default account.
    pub fn approve_device(&self, user_code: &str) -> Result<(), StateError> {
        self.approve_device_as(user_code, self.config().default_account.clone())
    }

    /// Approves a pending device login for a given account.
    pub fn approve_device_as(&self, user_code: &str, account: AccountSpec) -> Result<(), StateError> {
        self.book().grants.approve(user_code, account, self.config().device_ttl)
    }

    /// Denies a pending device login. The client is not told: it polls until it gives up.
    pub fn deny_device(&self, user_code: &str) -> Result<(), StateError> {
        self.book().grants.deny(user_code, self.config().device_ttl)
    }

    /// User codes that wait for approval.
    pub fn pending_devices(&self) -> Vec<String> {
        self.book().grants.pending(self.config().device_ttl)
    }

    /// The requests so far, oldest first, as far as they are remembered.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.shared.recorder.requests()
    }

    /// Those of [`Self::requests`] to one path.
    pub fn requests_to(&self, path: &str) -> Vec<RecordedRequest> {
        let mut requests = self.requests();
        requests.retain(|request| request.path == path);
        requests
    }

    /// Forgets the requests so far, token requests included.
    pub fn clear_requests(&self) {
        self.shared.recorder.clear();
    }

    /// The requests to the token endpoint so far, oldest first.
    pub fn token_requests(&self) -> Vec<TokenRequest> {
        self.shared.recorder.token_requests()
    }

    /// Event streams that are open now.
    pub fn open_streams(&self) -> u64 {
        self.counters().open_streams.load(Ordering::Relaxed)
    }

    /// Lets event streams wait behind their first event from now on, or lets all of them go on.
    pub fn hold_streams(&self, held: bool) {
        let _ = self.shared.held.send_replace(held);
    }

    /// Waits while streams are held.
    pub(crate) async fn let_go(&self) {
        // The sender is here: it does not go before the receiver does.
        let _ = self.shared.held.subscribe().wait_for(|held| !held).await;
    }

    /// Connections that are open now.
    pub fn live_connections(&self) -> u64 {
        self.counters().live_connections.load(Ordering::Relaxed)
    }

    /// Connections accepted so far.
    pub fn total_connections(&self) -> u64 {
        self.counters().total_connections.load(Ordering::Relaxed)
    }

    /// Refreshes that succeeded, over all logins of an account.
    pub fn refresh_count(&self, account_id: &str) -> u32 {
        let logins = self.book().logins.stats();
        logins.iter().filter(|login| login.account_id == account_id).map(|login| login.refreshes).sum()
    }

    /// Everything that is counted.
    pub fn stats(&self) -> Stats {
        let counters = self.counters();
        Stats {
            live_connections: self.live_connections(),
            total_connections: self.total_connections(),
            failed_handshakes: counters.failed_handshakes.load(Ordering::Relaxed),
            open_streams: self.open_streams(),
            total_streams: counters.total_streams.load(Ordering::Relaxed),
            total_requests: self.shared.recorder.total(),
            clients_gone: self.shared.recorder.clients_gone.load(Ordering::Relaxed),
            logins: self.book().logins.stats(),
        }
    }

    /// Drops every connection that is open now, as a restarted load balancer does.
    pub fn drop_connections(&self) {
        let mut current = self.shared.connections.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *current).cancel();
    }

    /// Cancelled when the connections of this moment are to be dropped.
    pub(crate) fn connection_token(&self) -> CancellationToken {
        self.shared.connections.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn config(&self) -> &SimConfig {
        &self.shared.config
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    pub(crate) fn recorder(&self) -> &Arc<Recorder> {
        &self.shared.recorder
    }

    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.shared.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Known once the port is bound.
    pub(crate) fn base_url(&self) -> &str {
        self.shared.base_url.get().map_or("", String::as_str)
    }

    pub(crate) fn set_base_url(&self, base_url: String) {
        // Set once, by the only start there is.
        let _ = self.shared.base_url.set(base_url);
    }

    pub(crate) fn access_token_ttl(&self) -> Duration {
        self.config().access_token_ttl
    }
}
