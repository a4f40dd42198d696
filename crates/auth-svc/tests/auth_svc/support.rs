//! A data directory, a simulator, and the service between them.

use auth_svc::{AuthOptions, AuthService, build};
use codex_sim::{SeedLogin, SeededLogin, Sim, SimConfig};
use config::Config;
use domain::{Clock, Failure};
use proto::auth::v1 as pb;
use proto::auth::v1::audit_service_client::AuditServiceClient;
use proto::auth::v1::binding_service_client::BindingServiceClient;
use proto::auth::v1::credential_service_client::CredentialServiceClient;
use proto::auth::v1::key_service_client::KeyServiceClient;
use proto::auth::v1::login_service_client::LoginServiceClient;
use secrecy::ExposeSecret;
use service_kit::{DataDir, PeerChannel, SealKey, UpstreamUrl, failure_from_proto};
use tempfile::TempDir;

/// Everything a test needs. The clock stands still unless it is moved.
pub(crate) struct Rig {
    pub(crate) root: TempDir,
    pub(crate) sim: Sim,
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) seal_key: SealKey,
}

impl Rig {
    pub(crate) async fn new() -> Self {
        Self::with(SimConfig::default()).await
    }

    pub(crate) async fn with(sim: SimConfig) -> Self {
        let sim = Sim::start(sim).await.expect("the simulator starts");
        let mut config = Config::default();
        config.auth.identity_url = sim.base_url();
        config.targets.get_mut("chatgpt-codex").expect("built in").base_url = sim.codex_base_url();
        Self {
            root: tempfile::tempdir().expect("tempdir"),
            sim,
            config,
            // A little ahead: the simulator's clock goes on, and what it calls expired must be expired here, too.
            clock: Clock::manual(Clock::system().now_ms() + 10_000),
            seal_key: SealKey::generate().expect("random"),
        }
    }

    pub(crate) fn data_dir(&self) -> DataDir {
        DataDir::open(&self.root.path().join("data"), true).expect("a data directory")
    }

    pub(crate) fn database(&self) -> std::path::PathBuf {
        self.root.path().join("data/switchboard.db")
    }

    pub(crate) async fn start(&self) -> Peer {
        Peer::new(self.try_start(true).await.expect("auth-svc starts"))
    }

    pub(crate) async fn try_start(&self, create: bool) -> Result<AuthService, auth_svc::BuildError> {
        let options = AuthOptions {
            config: &self.config,
            data_dir: &self.data_dir(),
            seal_key: Some(self.seal_key.clone()),
            create,
            first_agent_key: true,
            clock: self.clock.clone(),
        };
        build(options).await
    }

    /// A login at the provider, imported into `peer` as label `label`.
    pub(crate) async fn import(&self, peer: &Peer, seed: SeedLogin, label: &str) -> SeededLogin {
        let login = self.sim.state().seed_login(seed);
        peer.import_codex(&login.codex_auth_json(), label).await;
        login
    }

    /// Opens a seal as transport-svc does.
    pub(crate) fn open(&self, answer: &pb::BindResponse, call_id: &str) -> String {
        let target = UpstreamUrl::parse(&self.sim.codex_base_url()).expect("a URL");
        let sealed = answer.sealed.as_ref().expect("sealed");
        let secret = self.seal_key.open(sealed, call_id, &target, self.clock.now_ms()).expect("opens");
        secret.token.expose_secret().to_owned()
    }
}

/// An expired access token.
pub(crate) fn expired(account: &str) -> SeedLogin {
    SeedLogin { access_ttl: Some(std::time::Duration::ZERO), ..SeedLogin::account(account) }
}

/// What a Codex route wants.
pub(crate) fn codex() -> pb::Wanted {
    pb::Wanted {
        agent: "main".into(),
        provider: "openai-codex".into(),
        target: "chatgpt-codex".into(),
        realm: "subscription".into(),
        upstream_model: "gpt-5.5".into(),
        ..pb::Wanted::default()
    }
}

/// The running service and its clients.
pub(crate) struct Peer {
    pub(crate) service: AuthService,
    channel: PeerChannel,
}

impl Peer {
    pub(crate) fn new(service: AuthService) -> Self {
        let channel = PeerChannel::in_process("auth-svc", service.mounted().router());
        Self { service, channel }
    }

    pub(crate) fn binding(&self) -> BindingServiceClient<PeerChannel> {
        BindingServiceClient::new(self.channel.clone())
    }

    pub(crate) fn credentials(&self) -> CredentialServiceClient<PeerChannel> {
        CredentialServiceClient::new(self.channel.clone())
    }

    pub(crate) fn keys(&self) -> KeyServiceClient<PeerChannel> {
        KeyServiceClient::new(self.channel.clone())
    }

    pub(crate) fn audit(&self) -> AuditServiceClient<PeerChannel> {
        AuditServiceClient::new(self.channel.clone())
    }

    pub(crate) fn logins(&self) -> LoginServiceClient<PeerChannel> {
        LoginServiceClient::new(self.channel.clone())
    }

    /// The newest entries of the audit log whose act begins so: act, subject, outcome.
    pub(crate) async fn acts(&self, act: &str) -> Vec<(String, String, String)> {
        let request = pb::ListAuditRequest { act: act.into(), ..Default::default() };
        let mut client = AuditServiceClient::new(self.channel.clone());
        let entries = client.list_audit(request).await.expect("listed").into_inner().entries;
        entries.into_iter().map(|entry| (entry.act, entry.subject, entry.outcome)).collect()
    }

    pub(crate) async fn import_codex(&self, auth_json: &serde_json::Value, label: &str) {
        let request = pb::ImportCredentialsRequest {
            format: "codex".into(),
            files: vec![pb::ImportFile {
                name: "auth.json".into(),
                content: auth_json.to_string().into_bytes().into(),
            }],
            label: Some(label.into()),
            ..pb::ImportCredentialsRequest::default()
        };
        let answer = self.credentials().import_credentials(request).await.expect("imported").into_inner();
        assert!(answer.usable, "{answer:?}");
    }

    pub(crate) async fn bind(&self, rejected: Option<(&str, i32)>) -> pb::BindResponse {
        let rejected = rejected.map(|(id, version)| pb::Rejected { credential_id: id.to_owned(), version });
        let request = pb::BindRequest { call_id: "call".into(), wanted: Some(codex()), rejected, exclude: Vec::new() };
        self.binding().bind(request).await.expect("an answer").into_inner()
    }

    pub(crate) async fn bound(&self) -> pb::Bound {
        let answer = self.bind(None).await;
        answer.bound.clone().unwrap_or_else(|| panic!("not bound: {answer:?}"))
    }

    /// Why nothing is bound, as a call and as status say it.
    pub(crate) async fn refused(&self) -> Failure {
        let request = pb::CheckBindingRequest { wanted: Some(codex()), ..Default::default() };
        let status = self.binding().check_binding(request).await.expect("an answer").into_inner();
        let call = self.bind(None).await;
        assert_eq!(call.bound, None, "{call:?}");
        assert_eq!((&status.failure, &status.candidates), (&call.failure, &call.candidates), "status tells the truth");
        failure_from_proto(&call.failure.expect("a failure"))
    }

    pub(crate) async fn list(&self) -> Vec<pb::Credential> {
        let request = pb::ListCredentialsRequest::default();
        self.credentials().list_credentials(request).await.expect("listed").into_inner().credentials
    }

    pub(crate) async fn report(&self, bound: &pb::Bound, reason: &str, resets_at: Option<f64>) {
        let request = pb::ReportOutcomeRequest {
            credential_id: bound.credential_id.clone(),
            version: bound.version,
            reason: reason.into(),
            upstream_model: "gpt-5.5".into(),
            resets_at,
            retry_after_seconds: None,
            ..Default::default()
        };
        self.binding().report_outcome(request).await.expect("taken");
    }
}
