//! A refresh that waits for somebody who dies, with a token that may be spent by then.

use std::time::Duration;

use codex_sim::{SeedLogin, Sim, SimConfig};
use config::Config;
use domain::Clock;
use service_kit::SecretKey;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Refresher, Why};
use crate::identity::{CLIENT_ID, Identity};
use crate::store::{self, Begun, Credential, NewCredential, Store, sample};

const DAY_MS: i64 = 24 * 3_600_000;
const LEASE_MS: i64 = 60_000;

pub(super) struct Bench {
    sim: Sim,
    pub(super) store: Store,
    clock: Clock,
    pub(super) refresher: Refresher,
    _dir: tempfile::TempDir,
}

impl Bench {
    pub(super) async fn new() -> Self {
        let sim = Sim::start(SimConfig::default()).await.expect("a simulator");
        let dir = tempfile::tempdir().expect("tempdir");
        let clock = Clock::manual(Clock::system().now_ms());
        let key = SecretKey::generate().expect("random");
        let made = store::create(&dir.path().join("t.db"), key, clock.clone(), async |_| Ok(())).await;
        let store = made.expect("a database");
        let mut config = Config::default();
        config.auth.identity_url = sim.base_url();
        let identity = Identity::new(&config).expect("a client");
        let (tracker, closing) = (TaskTracker::new(), CancellationToken::new());
        let refresher = Refresher::new(store.clone(), identity, clock.clone(), tracker, closing, &config);
        let login = sim.state().seed_login(SeedLogin::account("acct"));
        let new = NewCredential {
            label: "main".into(),
            issuer: Some(sim.base_url()),
            ..sample::login("acct", &login.access_token, &login.refresh_token)
        };
        store.upsert_credential(&new, false).await.expect("stored");
        Self { sim, store, clock, refresher, _dir: dir }
    }

    pub(super) async fn read(&self) -> Credential {
        self.store.credential_by_label("main").await.expect("read").expect("there")
    }

    /// Another process is about to send its request, and dies.
    async fn somebody_dies(&self) {
        let begun = self.store.begin_refresh(&self.read().await, CLIENT_ID, "elsewhere/4711/id/0", LEASE_MS).await;
        assert!(matches!(begun, Ok(Begun::Taken(_))), "{begun:?}");
    }

    /// Refreshes, and while that waits the dead one's lease ends.
    async fn wait_it_out(&self, why: Why) {
        let credential = self.read().await;
        let refresh = self.refresher.refresh(&credential.id, credential.version, why);
        let (done, ()) = tokio::join!(refresh, async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            self.clock.advance_ms(LEASE_MS + 1_000);
        });
        done.expect("recorded");
    }

    fn requests(&self) -> usize {
        self.sim.state().token_requests().len()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waited_does_not_spend_again_what_the_dead_one_may_have_spent() {
    for why in [Why::Proactive, Why::Operator, Why::Rejected] {
        let bench = Bench::new().await;
        bench.clock.advance_ms(7 * DAY_MS);
        bench.somebody_dies().await;
        bench.wait_it_out(why).await;
        assert_eq!(bench.requests(), 0, "{why:?}: it lives for days, and its refresh token may be spent");
        assert!(bench.read().await.refresh.doubt.is_some());
        // An operator who has read that it is in doubt may ask.
        let credential = bench.read().await;
        bench.refresher.refresh(&credential.id, credential.version, Why::Operator).await.expect("recorded");
        assert_eq!((bench.requests(), bench.read().await.version), (1, 2));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_with_nothing_to_lose_is_sent_after_the_wait() {
    let bench = Bench::new().await;
    bench.clock.advance_ms(11 * DAY_MS);
    bench.somebody_dies().await;
    bench.wait_it_out(Why::Expiry).await;
    assert_eq!(bench.requests(), 1, "its access token has ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_that_somebody_was_killed_at_shows_from_its_beginning() {
    let bench = Bench::new().await;
    assert_eq!(bench.refresher.outlook(&bench.read().await).under_way, None);
    bench.somebody_dies().await;
    let told = bench.refresher.outlook(&bench.read().await);
    let under_way = told.under_way.expect("it shows");
    for part in ["was begun at 20", "process 4711 on elsewhere", "has not ended", "waited for until 20"] {
        assert!(under_way.contains(part), "{part}: {under_way}");
    }
    assert_eq!(told.problem, None, "nothing has failed yet");
    bench.clock.advance_ms(LEASE_MS);
    let told = bench.refresher.outlook(&bench.read().await);
    assert_eq!(told.under_way, None);
    assert!(told.problem.is_some_and(|problem| problem.contains("auth-svc was stopped at")));
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_one_time_at_which_it_is_tried_again() {
    let bench = Bench::new().await;
    bench.sim.state().set_token_scenario("acct", Some("server_error".parse().expect("a scenario")));
    let outlook = async || bench.refresher.outlook(&bench.read().await);
    let planned = outlook().await.next_refresh_s.expect("planned");
    let refresh = async |why| {
        let credential = bench.read().await;
        bench.refresher.refresh(&credential.id, credential.version, why).await.expect("recorded");
    };
    let told = async |at_s: i64| {
        let outlook = outlook().await;
        assert_eq!(outlook.next_refresh_s, Some(at_s));
        let text = format!("tried again after {}", domain::timestamp(at_s));
        assert!(outlook.problem.as_ref().is_some_and(|problem| problem.ends_with(&text)), "{text}: {outlook:?}");
    };
    refresh(Why::Operator).await;
    told(planned).await;
    // Its access token has ended: each call tries, as soon as the wait after the last failure is over.
    bench.clock.advance_ms(11 * DAY_MS);
    for _ in 0..7 {
        refresh(Why::Expiry).await;
        let credential = bench.read().await;
        let note = bench.refresher.notes().get(&credential.id, credential.version).expect("noted");
        told(note.retry_at_ms / 1000).await;
        let state = crate::bind::state(&credential, Some(&note), bench.refresher.origin(), bench.clock.now_ms());
        let detail = state.detail.expect("a detail");
        assert!(detail.contains(&domain::timestamp_ms(note.retry_at_ms)), "{detail}");
        bench.clock.advance_ms(31_000);
    }
}
