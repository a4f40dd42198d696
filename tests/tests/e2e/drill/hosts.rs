//! One auth-svc with a data directory and a login of its own, to be killed and started again.

use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;

use codex_sim::{SeedLogin, Sim, SimConfig};
use e2e::{Home, PATIENCE, Process, Signal};
use proto::auth::v1 as pb;
use proto::auth::v1::binding_service_client::BindingServiceClient;
use proto::auth::v1::credential_service_client::CredentialServiceClient;
use service_kit::PeerChannel;

/// The fail point of debug builds: names the step at which the process kills itself.
const FAIL_POINT: &str = "SWITCHBOARD_FAIL_POINT";

/// What came of a refresh that an operator asked for.
#[derive(Debug)]
pub(super) enum Refreshed {
    /// A newer version is stored.
    Yes,
    /// The service died, or does not answer.
    Gone,
    /// The failure's reason and message.
    No(String, String),
}

/// It.
pub(super) struct Host {
    pub(super) home: Home,
    pub(super) sim: Arc<Sim>,
    account: String,
    process: Option<Process>,
}

/// A simulator for a drill.
pub(super) async fn simulator() -> Arc<Sim> {
    Arc::new(Sim::start(SimConfig::default()).await.expect("a simulator"))
}

impl Host {
    /// With a login of `account` as credential `main`; not started. Nothing is refreshed but by request.
    pub(super) async fn new(sim: &Arc<Sim>, account: &str) -> Self {
        let home = Home::new(sim);
        home.set("auth.identity_timeout", "1").set("auth.proactive_refresh", "false");
        // Where the service says how long the window was.
        home.env("RUST_LOG", "info");
        let seal_key = home.path("seal.key");
        service_kit::SecretKey::generate().expect("a key").write_new(&seal_key).expect("written");
        home.set("auth.seal_key_file", format!("\"{}\"", seal_key.display()));
        let _ = home.import_codex(sim, account, "main").await;
        Self { home, sim: Arc::clone(sim), account: account.to_owned(), process: None }
    }

    /// Starts the service, to die at `fail_point` if that is not empty.
    pub(super) async fn start(&mut self, fail_point: &str) {
        self.home.env(FAIL_POINT, fail_point);
        let mut command = self.home.command("auth-svc");
        command.arg("--init");
        let mut process = Process::spawn("auth-svc", command, &self.home.log_file("auth-svc"));
        process.listening(&["auth-svc", "admin"], PATIENCE).await.unwrap_or_else(|story| panic!("{story}"));
        self.process = Some(process);
    }

    pub(super) fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("it was started")
    }

    /// Kills it, if it still runs, and waits until it is gone. True if it was SIGKILL that ended it.
    pub(super) async fn kill(&mut self) -> bool {
        self.process().end(Signal::KILL).await.signal() == Some(9)
    }

    pub(super) fn channel(&self) -> PeerChannel {
        PeerChannel::unix("auth-svc", &self.home.data_dir().join("auth-svc.sock"))
    }

    /// Asks for a refresh.
    pub(super) async fn refresh(&self) -> Refreshed {
        refresh(self.channel()).await
    }

    /// The credential as an operator sees it.
    pub(super) async fn shown(&self) -> pb::Credential {
        let mut client = CredentialServiceClient::new(self.channel());
        let request = pb::ListCredentialsRequest::default();
        client.list_credentials(request).await.expect("listed").into_inner().credentials.remove(0)
    }

    /// Whether a call would get a credential now.
    pub(super) async fn binds(&self) -> bool {
        bind(self.channel()).await.is_some_and(|answer| answer.bound.is_some())
    }

    /// Refreshes of the account that the provider has answered with tokens, whoever got them.
    pub(super) fn spent(&self) -> i32 {
        let logins = self.sim.state().stats().logins;
        let of_account = logins.iter().filter(|login| login.account_id == self.account);
        i32::try_from(of_account.map(|login| login.refreshes).sum::<u32>()).expect("few")
    }

    /// Replaces a login that was lost.
    pub(super) async fn log_in_again(&self) {
        let login = self.sim.state().seed_login(SeedLogin::account(&self.account));
        let request = pb::ImportCredentialsRequest {
            format: "codex".into(),
            files: vec![pb::ImportFile {
                name: "auth.json".into(),
                content: login.codex_auth_json().to_string().into_bytes().into(),
            }],
            label: Some("main".into()),
            ..pb::ImportCredentialsRequest::default()
        };
        let mut client = CredentialServiceClient::new(self.channel());
        let answer = client.import_credentials(request).await.expect("imported").into_inner();
        assert!(answer.usable, "{answer:?}");
    }
}

/// Asks whoever serves `channel` for a refresh.
pub(super) async fn refresh(channel: PeerChannel) -> Refreshed {
    let request = pb::RefreshCredentialRequest { credential: "main".into() };
    match CredentialServiceClient::new(channel).refresh_credential(request).await {
        Err(_) => Refreshed::Gone,
        Ok(answer) => match answer.into_inner().failure {
            None => Refreshed::Yes,
            Some(failure) => Refreshed::No(failure.reason, failure.message),
        },
    }
}

/// What a call would get.
pub(super) async fn bind(channel: PeerChannel) -> Option<pb::BindResponse> {
    let wanted = pb::Wanted {
        agent: "main".into(),
        provider: "openai-codex".into(),
        target: "chatgpt-codex".into(),
        realm: "subscription".into(),
        upstream_model: "gpt-5.5".into(),
        ..pb::Wanted::default()
    };
    let request = pb::BindRequest { call_id: "call".into(), wanted: Some(wanted), ..pb::BindRequest::default() };
    BindingServiceClient::new(channel).bind(request).await.ok().map(tonic::Response::into_inner)
}

/// What a login that was lost to a kill must say: what happened, when, and what to do.
#[track_caller]
pub(super) fn says_what_happened(message: &str) {
    for part in
        ["auth-svc was stopped at 20", "between sending a refresh and storing its answer", "refresh token was lost"]
    {
        assert!(message.contains(part), "{part}: {message}");
    }
}
