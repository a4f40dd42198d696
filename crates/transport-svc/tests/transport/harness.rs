//! A simulator, a service in this process, and seals as auth-svc makes them.

use std::time::Duration;

use bytes::Bytes;
use codex_sim::{RecordedRequest, Scenario, SeedLogin, SeededLogin, Sim, SimConfig};
use config::{Config, Seconds, Target};
use domain::{Clock, Failure, Reason, new_call_id};
use proto::common::v1::Header;
use proto::transport::v1::respond_response::Message;
use proto::transport::v1::transport_service_client::TransportServiceClient;
use proto::transport::v1::{
    FetchModelsRequest, FetchModelsResponse, FetchUsageRequest, FetchUsageResponse, Head, Outcome, ProbeRequest,
    ProbeResponse, RespondRequest, SealedCredential,
};
use service_kit::{
    DataDir, MAX_MESSAGE_BYTES, PeerChannel, SealKey, SealRequest, UpstreamSecret, UpstreamUrl, failure_from_proto,
};
use tonic::{Status, Streaming};
use transport_svc::{TransportOptions, TransportService};

pub(crate) const ACCOUNT: &str = "acct-1";
pub(crate) const CODEX: &str = "chatgpt-codex";
pub(crate) const HELLO: &str = r#"{"model":"codex/gpt-5.5","input":"Reply exactly: OK"}"#;

/// One service in front of one simulator.
pub(crate) struct Bench {
    pub(crate) sim: Sim,
    pub(crate) login: SeededLogin,
    pub(crate) bench: Service,
}

/// A service alone.
pub(crate) struct Service {
    pub(crate) service: TransportService,
    pub(crate) client: TransportServiceClient<PeerChannel>,
    pub(crate) config: Config,
    pub(crate) key: SealKey,
    pub(crate) clock: Clock,
    pub(crate) token: String,
    _dir: tempfile::TempDir,
}

/// Everything that a call gave.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: Option<Head>,
    pub(crate) bytes: Vec<u8>,
    /// `content` of each chunk.
    pub(crate) content: Vec<bool>,
    pub(crate) outcome: Outcome,
}

impl Answer {
    pub(crate) fn failure(&self) -> Failure {
        failure_from_proto(self.outcome.failure.as_ref().expect("a failure"))
    }

    pub(crate) fn reason(&self) -> Option<Reason> {
        self.outcome.failure.as_ref().map(|f| failure_from_proto(f).reason)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

impl Service {
    pub(crate) fn new(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let data_dir = DataDir::open(&dir.path().join("data"), true).expect("a data directory");
        let mut config = Config::default();
        config.transport.connect_timeout = Seconds::new(2);
        config.transport.headers_timeout = Seconds::new(2);
        config.transport.idle_timeout = Seconds::new(1);
        change(&mut config);
        let (key, clock) = (SealKey::generate().expect("random"), Clock::system());
        let options = TransportOptions {
            config: &config,
            seal_key: Some(key.clone()),
            data_dir: &data_dir,
            clock: clock.clone(),
        };
        let service = transport_svc::build(options).expect("a service");
        let channel = PeerChannel::in_process("transport-svc", service.mounted().router());
        let client = TransportServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        Self { service, client, config, key, clock, token: "tok-0123456789".into(), _dir: dir }
    }

    pub(crate) fn target(&self, id: &str) -> UpstreamUrl {
        UpstreamUrl::parse(&self.config.targets[id].base_url).expect("a URL")
    }

    pub(crate) fn seal(&self, call_id: &str, target: &UpstreamUrl, now_ms: i64) -> SealedCredential {
        let secret = UpstreamSecret {
            token: self.token.clone().into(),
            account_id: Some(ACCOUNT.into()),
            fedramp: false,
            routing: None,
        };
        let request = SealRequest { credential_id: "cred-1", version: 1, call_id, target, now_ms };
        self.key.seal(&request, &secret).expect("sealed")
    }

    pub(crate) fn request(&self, target: &str, body: &str, headers: &[(&str, &str)]) -> RespondRequest {
        let call_id = new_call_id();
        let header = |(name, value): &(&str, &str)| Header { name: (*name).into(), value: (*value).into() };
        RespondRequest {
            credential: Some(self.seal(&call_id, &self.target(target), self.clock.now_ms())),
            call_id,
            target: target.to_owned(),
            upstream_model: "gpt-5.5".to_owned(),
            body: Bytes::copy_from_slice(body.as_bytes()),
            headers: headers.iter().map(header).collect(),
            resource: 0,
            drop_encrypted_reasoning: false,
        }
    }

    pub(crate) async fn open(
        &self,
        request: RespondRequest,
    ) -> Result<Streaming<proto::transport::v1::RespondResponse>, Status> {
        self.client.clone().respond(request).await.map(tonic::Response::into_inner)
    }

    pub(crate) async fn send(&self, request: RespondRequest) -> Answer {
        let mut stream = self.open(request).await.expect("a stream");
        let (mut head, mut bytes, mut content, mut outcome) = (None, Vec::new(), Vec::new(), None);
        while let Some(message) = stream.message().await.expect("a message") {
            assert!(outcome.is_none(), "something came after the outcome");
            match message.message.expect("a message") {
                Message::Head(h) => {
                    assert!(bytes.is_empty() && head.is_none());
                    head = Some(h);
                }
                Message::Chunk(chunk) => {
                    bytes.extend_from_slice(&chunk.data);
                    content.push(chunk.content);
                }
                Message::Outcome(o) => outcome = Some(o),
            }
        }
        let outcome = outcome.expect("an outcome");
        let answer = Answer { head, bytes, content, outcome };
        assert!(!format!("{answer:?}").contains(&self.token), "the token came out");
        answer
    }

    pub(crate) async fn call(&self, target: &str, body: &str) -> Answer {
        self.send(self.request(target, body, &[])).await
    }

    pub(crate) async fn probe(&self, target: &str) -> ProbeResponse {
        let call_id = new_call_id();
        let credential = Some(self.seal(&call_id, &self.target(target), self.clock.now_ms()));
        let request = ProbeRequest { call_id, target: target.to_owned(), credential };
        self.client.clone().probe(request).await.expect("an answer").into_inner()
    }
}

impl Service {
    /// The models that the Codex target lists, where `etag` is that of the list known already.
    pub(crate) async fn models(&self, target: &str, etag: Option<String>) -> Result<FetchModelsResponse, Failure> {
        let call_id = new_call_id();
        let credential = Some(self.seal(&call_id, &self.target(target), self.clock.now_ms()));
        let request = FetchModelsRequest { call_id, target: target.to_owned(), credential, etag };
        let answer = self.client.clone().fetch_models(request).await;
        answer
            .map(tonic::Response::into_inner)
            .map_err(|status| service_kit::failure_from_status(&status, "transport-svc"))
    }

    /// A question for the usage of the Codex target's account.
    pub(crate) fn usage_request(&self) -> FetchUsageRequest {
        let call_id = new_call_id();
        let backend = UpstreamUrl::parse(self.config.targets[CODEX].backend()).expect("a URL");
        let credential = Some(self.seal(&call_id, &backend, self.clock.now_ms()));
        FetchUsageRequest { call_id, target: CODEX.to_owned(), credential }
    }

    pub(crate) async fn ask_usage(&self, request: FetchUsageRequest) -> Result<FetchUsageResponse, Failure> {
        let answer = self.client.clone().fetch_usage(request).await;
        answer
            .map(tonic::Response::into_inner)
            .map_err(|status| service_kit::failure_from_status(&status, "transport-svc"))
    }
}

impl Bench {
    /// Asks for the usage, under a scenario if one is named.
    pub(crate) async fn usage_under(&self, scenario: Option<&str>) -> FetchUsageResponse {
        self.sim.state().set_scenario(ACCOUNT, scenario.map(|form| form.parse().expect("a scenario")));
        self.bench.ask_usage(self.bench.usage_request()).await.expect("an answer")
    }

    pub(crate) async fn new(sim: SimConfig, change: impl FnOnce(&Sim, &mut Config)) -> Self {
        let tls = sim.tls.is_some();
        let sim = Sim::start(sim).await.expect("a simulator");
        let login = sim.state().seed_login(SeedLogin::account(ACCOUNT));
        let pem = tempfile::NamedTempFile::new().expect("a file");
        let mut bench = Service::new(|config| {
            config.targets.get_mut(CODEX).expect("built in").base_url = sim.codex_base_url();
            if tls {
                std::fs::write(pem.path(), sim.ca_pem().expect("a certificate")).expect("written");
                config.transport.ca_file = Some(pem.path().to_owned());
            }
            change(&sim, config);
        });
        bench.token = login.access_token.clone();
        Self { sim, login, bench }
    }

    pub(crate) async fn plain() -> Self {
        Self::new(SimConfig::default(), |_, _| {}).await
    }

    pub(crate) async fn tls() -> Self {
        Self::new(SimConfig { tls: Some(codex_sim::TlsMode::Only), ..SimConfig::default() }, |_, _| {}).await
    }

    /// A call under a scenario.
    pub(crate) async fn under(&self, scenario: &str) -> Answer {
        let scenario: Scenario = scenario.parse().expect("a scenario");
        self.sim.state().set_scenario(ACCOUNT, Some(scenario));
        self.bench.call(CODEX, HELLO).await
    }

    /// The newest request that the simulator got.
    pub(crate) fn last(&self) -> RecordedRequest {
        self.sim.state().requests().pop().expect("a request")
    }
}

/// A further target of kind `custom`.
pub(crate) fn custom(config: &mut Config, id: &str, base_url: &str) {
    config.targets.insert(id.to_owned(), Target { base_url: base_url.to_owned(), ..Target::default() });
}

/// Waits until something holds, half a minute at most; gives how long it took.
pub(crate) async fn eventually(what: &str, holds: impl Fn() -> bool) -> Duration {
    let start = std::time::Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(30), "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    start.elapsed()
}
