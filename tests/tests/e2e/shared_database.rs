//! Two auth-svc on one database file, each with a data directory of its own: together they are one owner of its refresh
//! tokens.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use codex_sim::{SeedLogin, Sim, SimConfig};
use e2e::{Home, PATIENCE, Process, Signal};
use futures_util::future::join_all;
use proto::auth::v1 as pb;
use proto::auth::v1::binding_service_client::BindingServiceClient;
use proto::auth::v1::credential_service_client::CredentialServiceClient;
use service_kit::{PeerChannel, SecretKey};

/// How long the provider holds an answer back, in milliseconds.
const DELAY_MS: u64 = 400;

/// One of the two.
struct Host {
    home: Home,
    process: Option<Process>,
}

impl Host {
    /// With the database and the keys that lie in the home of `owner`, which is its own for the first.
    fn new(sim: &Sim, owner: Option<&Home>) -> Self {
        let home = Home::new(sim);
        let place = owner.unwrap_or(&home);
        let database = place.path("shared/switchboard.db");
        home.set("auth.database", format!("\"sqlite:{}\"", database.display()));
        for (name, setting) in [("database.key", "auth.key_file"), ("seal.key", "auth.seal_key_file")] {
            let path = place.path(&format!("shared/{name}"));
            if owner.is_none() {
                std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
                SecretKey::generate().expect("a key").write_new(&path).expect("written");
            }
            home.set(setting, format!("\"{}\"", path.display()));
        }
        // Nothing is refreshed but by request, so that every request of the record is one of the test's.
        home.set("auth.proactive_refresh", "false");
        Self { home, process: None }
    }

    async fn start(&mut self) {
        let mut command = self.home.command("auth-svc");
        command.arg("--init");
        let mut process = Process::spawn("auth-svc", command, &self.home.log_file("auth-svc"));
        process.listening(&["auth-svc", "admin"], PATIENCE).await.unwrap_or_else(|story| panic!("{story}"));
        self.process = Some(process);
    }

    fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("it was started")
    }

    fn channel(&self) -> PeerChannel {
        PeerChannel::unix("auth-svc", &self.home.data_dir().join("auth-svc.sock"))
    }

    /// Imports a login whose access token lives for `access_ttl`.
    async fn import(&self, sim: &Sim, account: &str, label: &str, access_ttl: Duration) {
        let seed = SeedLogin { access_ttl: Some(access_ttl), ..SeedLogin::account(account) };
        let (_, path) = self.home.codex_login(sim, seed);
        let _ = self.home.cli(&["import", "codex", &path.to_string_lossy(), "--label", label]).await.ok();
    }

    /// Binds a call to one credential; gives the version that it got.
    async fn bind(&self, label: &str) -> i32 {
        let wanted = pb::Wanted {
            agent: "main".into(),
            provider: "openai-codex".into(),
            target: "chatgpt-codex".into(),
            realm: "subscription".into(),
            upstream_model: "gpt-5.5".into(),
            credentials: vec![label.to_owned()],
            ..pb::Wanted::default()
        };
        let call_id = domain::new_call_id();
        let request = pb::BindRequest { call_id, wanted: Some(wanted), ..pb::BindRequest::default() };
        let answer = BindingServiceClient::new(self.channel()).bind(request).await.expect("answered").into_inner();
        answer.bound.unwrap_or_else(|| panic!("not bound: {:?}", answer.failure)).version
    }

    /// Asks for a refresh. Errors: the failure's reason and message; `None`: nobody answered.
    async fn refresh(&self, label: &str) -> Result<(), Option<String>> {
        let request = pb::RefreshCredentialRequest { credential: label.to_owned() };
        let answer = CredentialServiceClient::new(self.channel()).refresh_credential(request).await;
        match answer.map_err(|_| None)?.into_inner().failure {
            None => Ok(()),
            Some(failure) => Err(Some(format!("{}: {}", failure.reason, failure.message))),
        }
    }

    /// Version of each credential.
    async fn versions(&self) -> Vec<i32> {
        let mut client = CredentialServiceClient::new(self.channel());
        let listed = client.list_credentials(pb::ListCredentialsRequest::default()).await.expect("listed").into_inner();
        listed.credentials.into_iter().map(|credential| credential.version).collect()
    }
}

/// Two hosts; the first has the database.
fn two(sim: &Sim) -> [Host; 2] {
    let first = Host::new(sim, None);
    let second = Host::new(sim, Some(&first.home));
    [first, second]
}

/// No refresh token was sent twice, and no token request of the one OAuth client began before the one before it was
/// answered.
#[track_caller]
fn one_after_the_other(sim: &Sim) {
    let mut requests = sim.state().token_requests();
    assert!(requests.iter().all(|request| request.outcome == format!("delay:{DELAY_MS}") || request.outcome == "ok"));
    requests.sort_by_key(|request| request.at_unix_ms);
    let apart = |pair: &[codex_sim::TokenRequest]| {
        pair[0].client_id == pair[1].client_id && pair[1].at_unix_ms - pair[0].at_unix_ms >= DELAY_MS
    };
    assert!(requests.windows(2).all(apart), "{requests:?}");
    let mut tokens: Vec<_> = requests.iter().filter_map(|request| request.fingerprint.clone()).collect();
    tokens.sort_unstable();
    tokens.dedup();
    assert_eq!(tokens.len(), requests.len(), "each token is sent once: {requests:?}");
    let logins = sim.state().stats().logins;
    assert!(logins.iter().all(|login| login.alive && login.refreshes <= 1), "{logins:?}");
}

/// Sixty calls at both hosts meet an expired token: one refresh, which both use. Then calls at both meet expired
/// tokens of several logins: one refresh each, one token request at a time over both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_refresh_as_one() {
    let sim = Sim::start(SimConfig::default()).await.expect("a simulator");
    let mut hosts = two(&sim);
    hosts[0].start().await;
    hosts[0].import(&sim, "acct-0", "c0", Duration::ZERO).await;
    hosts[1].start().await;
    sim.state().set_token_scenario("*", Some(format!("delay:{DELAY_MS}").parse().expect("a scenario")));
    let bound = join_all((0..60).map(|i| hosts[i % 2].bind("c0"))).await;
    assert!(bound.iter().all(|version| *version == 2), "{bound:?}");
    assert_eq!(sim.state().token_requests().len(), 1, "{:?}", sim.state().token_requests());

    // What one has taken in, the other knows.
    for i in 1..4 {
        hosts[i % 2].import(&sim, &format!("acct-{i}"), &format!("c{i}"), Duration::ZERO).await;
    }
    let calls = (1..4).flat_map(|i| hosts.iter().map(move |host| async move { host.bind(&format!("c{i}")).await }));
    assert_eq!(join_all(calls).await, [2; 6]);
    for host in &hosts {
        assert_eq!(host.versions().await, [2, 2, 2, 2]);
    }
    assert_eq!(sim.state().token_requests().len(), 4, "{:?}", sim.state().token_requests());
    one_after_the_other(&sim);
    for host in &mut hosts {
        assert!(host.process().end(Signal::TERM).await.success());
    }
    sim.stop().await;
}

/// One host is killed when it has said that it will send a refresh token, and before it does. The other waits until the
/// first could not store an answer any more. The token may be spent then: while the access token lives, it is sent when
/// an operator asks once more, who was told what that may cost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_process_takes_over_from_one_that_died() {
    let sim = Sim::start(SimConfig::default()).await.expect("a simulator");
    let mut hosts = two(&sim);
    for host in &hosts {
        host.home.set("auth.identity_timeout", "2");
    }
    hosts[0].home.env("SWITCHBOARD_FAIL_POINT", "before_post");
    hosts[0].start().await;
    hosts[0].import(&sim, "acct-0", "c0", Duration::from_secs(864_000)).await;
    hosts[1].start().await;
    let asked_at_ms = u64::try_from(domain::Clock::system().now_ms()).expect("after 1970");
    assert_eq!(hosts[0].refresh("c0").await, Err(None), "it died");
    assert_eq!(hosts[0].process().exited().await.signal(), Some(9));
    assert!(sim.state().token_requests().is_empty());
    let doubt = hosts[1].refresh("c0").await.expect_err("it may be spent").expect("an answer");
    assert!(doubt.contains("between sending a refresh and storing its answer"), "{doubt}");
    assert!(sim.state().token_requests().is_empty(), "nothing was sent unasked");
    assert_eq!(hosts[1].refresh("c0").await, Ok(()));
    let requests = sim.state().token_requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    // The lease is four seconds, twice the provider's time; it began after the first was asked.
    assert!(requests[0].at_unix_ms - asked_at_ms >= 4_000, "it waited for the first: {requests:?} after {asked_at_ms}");
    assert_eq!(hosts[1].versions().await, [2]);
    one_after_the_other(&sim);
    hosts[0].home.env("SWITCHBOARD_FAIL_POINT", "");
    hosts[0].start().await;
    assert_eq!(hosts[0].bind("c0").await, 2);
    assert_eq!(sim.state().token_requests().len(), 1);
}
