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
use crate::store::{self, Begun, Credential, Kind, NewCredential, Secrets, Source, Store};

const DAY_MS: i64 = 24 * 3_600_000;
const LEASE_MS: i64 = 60_000;

struct Bench {
    sim: Sim,
    store: Store,
    clock: Clock,
    refresher: Refresher,
    _dir: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
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
            provider: "openai-codex".into(),
            kind: Kind::OAuth,
            issuer: Some(sim.base_url()),
            client_id: None,
            account_id: Some("acct".into()),
            email: None,
            plan: None,
            user_id: None,
            fedramp: false,
            source: Source::Login,
            secrets: Secrets::Present {
                access: Some(login.access_token.into()),
                refresh: Some(login.refresh_token.into()),
                id_token: None,
                api_key: None,
            },
            extra: serde_json::Value::Null,
            access_expires_at: None,
            last_refresh: None,
            borrowed: false,
            profile: None,
        };
        store.upsert_credential(&new, false).await.expect("stored");
        Self { sim, store, clock, refresher, _dir: dir }
    }

    async fn read(&self) -> Credential {
        self.store.credential_by_label("main").await.expect("read").expect("there")
    }

    /// Another process is about to send its request, and dies.
    async fn somebody_dies(&self) {
        let begun = self.store.begin_refresh(&self.read().await, CLIENT_ID, "dead", LEASE_MS).await;
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
