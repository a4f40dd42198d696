//! Random lives of one credential: refreshes for every reason, a provider that fails in every way, crashes in the middle,
//! logins and borrowed imports, against a real database and a provider that ends a login whose token is used twice.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use codex_sim::{SeedLogin, Sim, SimConfig, SimState};
use config::{Config, Seconds};
use domain::Clock;
use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, TestRunner};
use service_kit::SecretKey;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Refresher, Why};
use crate::identity::Identity;
use crate::store::{self, Credential, Keys, LatchKind, NewCredential, Store, Upserted, sample};

const DAY_MS: i64 = 24 * 3_600_000;
/// Longer than a lease, which is twice the timeout of one second.
const LEASE_OVER_MS: i64 = 2_100;

#[derive(Clone, Debug)]
enum Step {
    /// A refresh that somebody waits for.
    Ask(Why),
    /// The background task looks.
    Look,
    /// The next token request goes so.
    Next(&'static str),
    /// Time goes by, in milliseconds.
    Pass(i64),
    /// A refresh begins, and so many microseconds later the process is gone.
    Crash(u64),
    /// The process ends in order and starts again.
    Restart,
    /// A new login of the account.
    Login,
    /// The account's logins are ended elsewhere.
    Revoke,
    /// A new login, which another program refreshes.
    Borrow,
}

fn step() -> impl Strategy<Value = Step> {
    let why = prop_oneof![Just(Why::Operator), Just(Why::Expiry), Just(Why::Rejected)];
    let fault =
        prop::sample::select(vec!["server_error", "challenge", "rate_limit:1", "drop_answer", "omit_refresh_token"]);
    let time = prop::sample::select(vec![1_000, 400_000, DAY_MS, 3 * DAY_MS]);
    prop_oneof![
        5 => why.prop_map(Step::Ask),
        4 => Just(Step::Look),
        4 => fault.prop_map(Step::Next),
        4 => time.prop_map(Step::Pass),
        4 => (0u64..12_000).prop_map(Step::Crash),
        1 => Just(Step::Restart),
        1 => Just(Step::Login),
        1 => Just(Step::Revoke),
        1 => Just(Step::Borrow),
    ]
}

/// The process: everything that a crash takes with it.
struct Process {
    runtime: Runtime,
    store: Store,
    refresher: Refresher,
}

struct World<'a> {
    provider: &'a SimState,
    account: String,
    path: std::path::PathBuf,
    key: SecretKey,
    config: Config,
    clock: Clock,
    process: Option<Process>,
    /// The provider's number of the login that is stored, and the version under which it came.
    login: usize,
    first: i32,
    /// The newest version that was seen.
    version: i32,
    /// Lost answers of this login that had no new refresh token: they spent nothing.
    harmless: u32,
}

fn runtime() -> Runtime {
    // Nothing goes on but while a step runs: what is dropped in the middle stays there.
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

impl World<'_> {
    fn start(&mut self) {
        let runtime = runtime();
        let open = async {
            if self.path.exists() {
                let keys = Keys { current: self.key.clone(), next: None, source: "test".to_owned() };
                store::open(&self.path, keys, self.clock.clone()).await
            } else {
                store::create(&self.path, self.key.clone(), self.clock.clone(), async |_| Ok(())).await
            }
        };
        let store = runtime.block_on(open).expect("a database");
        let refresher = runtime.block_on(async {
            let identity = Identity::new(&self.config).expect("a client");
            let (tracker, closing) = (TaskTracker::new(), CancellationToken::new());
            Refresher::new(store.clone(), identity, self.clock.clone(), tracker, closing, &self.config)
        });
        self.process = Some(Process { runtime, store, refresher });
    }

    fn process(&self) -> &Process {
        self.process.as_ref().expect("it runs")
    }

    fn read(&self) -> Credential {
        let process = self.process();
        process.runtime.block_on(process.store.credential_by_label("main")).expect("read").expect("there")
    }

    fn requests(&self) -> usize {
        let mine = |request: &&codex_sim::TokenRequest| request.account_id.as_deref() == Some(&self.account);
        self.provider.token_requests().iter().filter(mine).count()
    }

    fn last_outcome(&self) -> String {
        let mine = |request: &codex_sim::TokenRequest| request.account_id.as_deref() == Some(&self.account);
        self.provider.token_requests().into_iter().rfind(mine).expect("a request").outcome
    }

    /// Refreshes that the provider made and that brought another refresh token, or were stored.
    fn spending(&self, login: &codex_sim::LoginStats) -> u32 {
        login.refreshes - self.harmless
    }

    fn take_in(&mut self, borrowed: bool) {
        let login = self.provider.seed_login(SeedLogin::account(&self.account));
        let new = NewCredential {
            label: "main".into(),
            issuer: Some(self.config.auth.identity_url.clone()),
            borrowed,
            ..sample::login(&self.account, &login.access_token, &login.refresh_token)
        };
        let process = self.process();
        // Two logins of one second have ends that do not tell which is newer; neither is kept from replacing the other.
        let (_, what) = process.runtime.block_on(process.store.upsert_credential(&new, false)).expect("stored");
        if matches!(what, Upserted::KeptOwned | Upserted::KeptNewer | Upserted::KeptSpent) {
            // A login of ours that works is not given up for a borrowed one.
            return;
        }
        self.login = login.login_id;
        self.version = self.read().version;
        self.first = self.version;
        self.harmless = 0;
    }

    /// What must be true of a refresh, by what was known before it.
    fn refresh(&mut self, why: Why, cut_after: Option<Duration>) {
        let (before, asked) = (self.read(), self.requests());
        let process = self.process.take().expect("it runs");
        if why == Why::Rejected {
            // As a call does that met a 401.
            process.refresher.notes().rejected(&before.id, before.version);
        }
        let refresh = process.refresher.refresh(&before.id, before.version, why);
        match cut_after {
            None => {
                let _ = process.runtime.block_on(refresh);
                self.process = Some(process);
            }
            Some(cut_after) => {
                let _ = process.runtime.block_on(async { tokio::time::timeout(cut_after, refresh).await });
                drop(process);
                self.let_arrive();
                self.clock.advance_ms(LEASE_OVER_MS);
                self.start();
            }
        }
        let sent = self.requests() - asked;
        assert!(sent <= 1, "one request for one wish");
        if before.refused().is_some() || before.borrowed {
            assert_eq!(sent, 0, "never for what is latched or borrowed: {before:?}");
        }
        if why == Why::Proactive && before.refresh.doubt.is_some() && self.lives_beyond_margin(&before) {
            assert_eq!(sent, 0, "a token that may be spent is not sent again while the access token lives");
        }
        if sent == 1 && self.read().version == before.version && self.last_outcome() == "omit_refresh_token" {
            self.harmless += 1;
        }
        self.check();
    }

    /// Waits until the provider has seen all that had left a process which is gone.
    fn let_arrive(&self) {
        let address = self.config.auth.identity_url.trim_start_matches("http://");
        let mut last = TcpStream::connect(address).expect("a connection");
        write!(last, "GET / HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").expect("sent");
        // It is taken after every earlier one.
        last.read_to_end(&mut Vec::new()).expect("answered");
        drop(last);
        let began = Instant::now();
        while self.provider.live_connections() > 0 {
            assert!(began.elapsed() < Duration::from_secs(30), "connections of a process that is gone stay open");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn lives_beyond_margin(&self, credential: &Credential) -> bool {
        let margin = i64::try_from(self.config.auth.refresh_margin.as_secs()).expect("small");
        credential.access_expires_at.is_some_and(|at| at - margin > self.clock.now_s())
    }

    fn check(&mut self) {
        let now = self.read();
        assert!(now.version >= self.version, "versions only grow: {} after {}", now.version, self.version);
        self.version = now.version;
        let stats = self.provider.stats();
        let login = stats.logins.iter().find(|login| login.login_id == self.login).expect("known");
        if now.latch.is_some() {
            assert!(!login.alive, "a live login is never latched: {now:?}");
        }
        self.check_use(&now);
        let stored = u32::try_from(now.version - self.first).expect("versions only grow");
        assert!(self.spending(login) - stored <= 1, "at most one answer was lost: {login:?}, {stored} stored");
        if login.ended.as_deref() == Some("reused") {
            assert_eq!(self.spending(login) - stored, 1, "a token is used twice only where its answer was lost");
        }
        if self.spending(login) > stored && now.latch.is_none() {
            assert!(now.refresh.doubt.is_some(), "a lost answer is on record: {:?}", now.refresh);
        }
    }

    /// A token that lives is used whatever became of its refresh, unless the upstream has rejected it; of one whose
    /// refresh was refused a person is told until when.
    fn check_use(&self, now: &Credential) {
        let refresher = &self.process().refresher;
        let note = refresher.notes().get(&now.id, now.version);
        let state = crate::bind::state(now, note.as_ref(), refresher.origin(), self.clock.now_ms());
        let lives = now.access_expires_at.is_some_and(|at| at > self.clock.now_s() + 5);
        let outlook = refresher.outlook(now);
        let rejected = note.is_some_and(|note| note.rejected);
        match now.latch.as_ref().map(|latch| latch.kind) {
            Some(LatchKind::NeedsLogin) if lives && !rejected => {
                assert_eq!(state.name, "login_due", "{now:?}");
                assert!(outlook.problem.is_some_and(|problem| problem.contains("refused for good")), "{now:?}");
                assert!(outlook.failing_since_s.is_some() && outlook.next_refresh_s.is_none(), "{now:?}");
            }
            Some(LatchKind::NeedsLogin | LatchKind::Ended) => assert_eq!(state.name, "needs_login", "{now:?}"),
            Some(LatchKind::Rejected) => panic!("only calls latch so: {now:?}"),
            None if lives && !rejected => assert_eq!(state.name, "ready", "{now:?}"),
            None => {}
        }
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Ask(why) => self.refresh(*why, None),
            Step::Look => self.refresh(Why::Proactive, None),
            Step::Crash(micros) => self.refresh(Why::Operator, Some(Duration::from_micros(*micros))),
            Step::Next(fault) => {
                self.provider.set_token_scenario_times(&self.account, fault.parse().expect("a scenario"), 1);
            }
            Step::Pass(ms) => self.clock.advance_ms(*ms),
            Step::Restart => {
                let process = self.process.take().expect("it runs");
                process.runtime.block_on(process.store.close());
                drop(process);
                self.start();
                self.check();
            }
            Step::Login => self.take_in(false),
            Step::Borrow => self.take_in(true),
            Step::Revoke => {
                self.provider.revoke_account(&self.account);
            }
        }
    }

    /// A login of which no answer was lost can be refreshed, whatever happened to it.
    fn ends_well(&mut self) {
        self.provider.set_token_scenario(&self.account, None);
        let stats = self.provider.stats();
        let login = stats.logins.iter().find(|login| login.login_id == self.login).expect("known");
        let before = self.read();
        let stored = u32::try_from(before.version - self.first).expect("versions only grow");
        if login.alive && self.spending(login) == stored && !before.borrowed {
            self.refresh(Why::Operator, None);
            assert_eq!(self.read().version, before.version + 1, "it can be refreshed: {:?}", self.read());
        }
    }
}

#[test]
fn no_life_loses_a_login_outside_the_window() {
    let simulator = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let sim = simulator.block_on(Sim::start(SimConfig::default())).expect("a simulator");
    let provider = sim.state();
    let mut config = Config::default();
    config.auth.identity_url = sim.base_url();
    config.auth.identity_timeout = Seconds::new(1);
    let number = std::cell::Cell::new(0);
    let cases = Cases { cases: 32, failure_persistence: None, max_shrink_iters: 64, ..Cases::default() };
    let lives = prop::collection::vec(step(), 1..24);
    let outcome = TestRunner::new(cases).run(&lives, |steps| {
        let dir = tempfile::tempdir().expect("tempdir");
        number.set(number.get() + 1);
        let mut world = World {
            provider,
            account: format!("acct-{}", number.get()),
            path: dir.path().join("test.db"),
            key: SecretKey::generate().expect("random"),
            config: config.clone(),
            clock: Clock::manual(Clock::system().now_ms()),
            process: None,
            login: 0,
            first: 0,
            version: 0,
            harmless: 0,
        };
        world.start();
        world.take_in(false);
        steps.iter().for_each(|step| world.run(step));
        world.ends_well();
        Ok(())
    });
    outcome.expect("every life keeps the rules");
}
