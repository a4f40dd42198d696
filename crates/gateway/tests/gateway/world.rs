//! A gateway on real sockets between fake peers, and clients of it.

use std::sync::Arc;
use std::time::Duration;

use config::Config;
use domain::Clock;
use gateway::{GatewayService, Peers, build};
use proto::auth::v1::binding_service_server::BindingServiceServer;
use proto::gateway::v1::gateway_service_client::GatewayServiceClient;
use proto::router::v1::router_service_server::RouterServiceServer;
use proto::transport::v1::transport_service_server::TransportServiceServer;
use serde_json::{Value, json};
use service_kit::{Bound, ListenAddress, Mounted, PeerChannel, ServeOptions, ServiceLayers, serve};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

use crate::fakes::{Credential, FakeAuth, FakeRouter, FakeTransport, KEY};
use crate::script::Step;

pub(crate) struct World {
    pub(crate) router: Arc<FakeRouter>,
    pub(crate) auth: Arc<FakeAuth>,
    /// The first egress.
    pub(crate) transport: Arc<FakeTransport>,
    /// All of them.
    pub(crate) transports: Vec<Arc<FakeTransport>>,
    pub(crate) gateway: GatewayService,
    pub(crate) url: String,
    shutdown: CancellationToken,
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

pub(crate) type Client<C = InterceptedService<Channel, Bearer>> = GatewayServiceClient<C>;

#[derive(Clone)]
pub(crate) struct Bearer(&'static str);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status> {
        let value = format!("Bearer {}", self.0).parse::<MetadataValue<_>>().unwrap();
        request.metadata_mut().insert("authorization", value);
        Ok(request)
    }
}

impl World {
    /// One credential "main" for the subscription, and the given scripts.
    pub(crate) async fn new(scripts: Vec<Vec<Step>>) -> Self {
        Self::with(vec![Credential::new("main", "openai-codex")], scripts).await
    }

    pub(crate) async fn with(credentials: Vec<Credential>, scripts: Vec<Vec<Step>>) -> Self {
        let world = Self::spread(&[("local", &[])], |_| {}).await;
        *world.auth.credentials.lock().unwrap() = credentials;
        world.transport.scripts.lock().unwrap().extend(scripts);
        world
    }

    /// With these egresses and their labels, the first of which is `transport`, and one credential "main".
    pub(crate) async fn spread(egresses: &[(&str, &[&str])], configure: impl FnOnce(&mut config::Gateway)) -> Self {
        let (router, auth) = (Arc::new(FakeRouter::default()), Arc::new(FakeAuth::default()));
        *auth.credentials.lock().unwrap() = vec![Credential::new("main", "openai-codex")];
        let transports: Vec<Arc<FakeTransport>> = egresses.iter().map(|_| Arc::default()).collect();
        let peer = |name, mounted: Mounted| {
            PeerChannel::in_process(name, mounted.layered(ServiceLayers::trusted(name)).router())
        };
        let served = |transport: &Arc<FakeTransport>| {
            let server = TransportServiceServer::from_arc(Arc::clone(transport)).max_decoding_message_size(80 << 20);
            peer("transport-svc", Mounted::new().add(server))
        };
        let named = egresses.iter().zip(&transports).map(|((name, _), t)| ((*name).to_owned(), served(t)));
        let peers = Peers {
            router: peer("router-svc", Mounted::new().add(RouterServiceServer::from_arc(Arc::clone(&router)))),
            auth: peer("auth-svc", Mounted::new().add(BindingServiceServer::from_arc(Arc::clone(&auth)))),
            transports: named.collect(),
        };
        let mut config = Config::default();
        config.gateway.max_body_bytes = 100_000;
        for (name, labels) in egresses {
            let labels = labels.iter().map(|label| (*label).to_owned()).collect();
            let egress = config::Egress { labels, ..config::Egress::default() };
            config.gateway.transports.insert((*name).to_owned(), egress);
        }
        configure(&mut config.gateway);
        let gateway = build(&config, peers, Clock::system()).unwrap();
        let shutdown = CancellationToken::new();
        let bound = Bound::bind(&ListenAddress::Tcp(([127, 0, 0, 1], 0).into())).await.unwrap();
        let url = format!("http://{}", bound.address().unwrap());
        let app = gateway.mounted().listenable().await.unwrap();
        let options = ServeOptions { drain: Duration::from_secs(1), ..ServeOptions::default() };
        TaskTracker::new().spawn(serve(app, bound, options, shutdown.clone()));
        Self { router, auth, transport: Arc::clone(&transports[0]), transports, gateway, url, shutdown }
    }

    /// Asks the gateway to stop; its calls get a second.
    pub(crate) fn stop(&self) {
        self.shutdown.cancel();
    }

    /// A gRPC client of agent "main".
    pub(crate) async fn agent(&self) -> Client {
        self.agent_with(KEY).await
    }

    pub(crate) async fn agent_with(&self, key: &'static str) -> Client {
        let channel = Channel::from_shared(self.url.clone()).unwrap().connect().await.unwrap();
        GatewayServiceClient::with_interceptor(channel, Bearer(key))
    }

    /// A gRPC client on the operator's socket.
    pub(crate) fn operator(&self) -> GatewayServiceClient<PeerChannel> {
        GatewayServiceClient::new(PeerChannel::in_process("gateway", self.gateway.control().router()))
    }

    pub(crate) fn http(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        reqwest::Client::new().request(method, format!("{}{path}", self.url)).bearer_auth(KEY)
    }

    /// `POST /v1/responses` with a small body.
    pub(crate) async fn post(&self, stream: bool) -> reqwest::Response {
        self.http("POST", "/v1/responses").json(&body(stream)).send().await.unwrap()
    }

    /// The record of the call that `response` answers.
    pub(crate) async fn record_of(&self, response: &reqwest::Response) -> Value {
        let id = response.headers()["x-switchboard-call-id"].to_str().unwrap().to_owned();
        self.record(&id).await
    }

    pub(crate) async fn record(&self, call_id: &str) -> Value {
        let path = format!("/v1/switchboard/calls/{call_id}");
        self.http("GET", &path).send().await.unwrap().json().await.unwrap()
    }

    /// How many upstream attempts were made.
    pub(crate) fn attempts(&self) -> usize {
        self.transport.requests.lock().unwrap().len()
    }

    /// Reasons that auth-svc heard of, once there are `n`.
    pub(crate) async fn reports(&self, n: usize) -> Vec<String> {
        eventually(|| self.auth.reports.lock().unwrap().len() >= n).await;
        self.auth.reports.lock().unwrap().iter().map(|r| r.reason.clone()).collect()
    }
}

pub(crate) fn body(stream: bool) -> Value {
    json!({ "model": "codex/gpt-5.5", "stream": stream, "input": "Reply exactly: OK", "temperature": 0.5 })
}

/// Waits for `condition`, for up to five seconds.
pub(crate) async fn eventually(condition: impl Fn() -> bool) {
    for _ in 0..3000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not come to pass within half a minute");
}

/// The results of a trace's attempts, each with its reason.
pub(crate) fn outcomes(record: &Value) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let attempts = record["executionTrace"]["attempts"].as_array().cloned().unwrap_or_default();
    attempts.iter().map(|a| (text(&a["credential"]), text(&a["result"]), text(&a["reason"]))).collect()
}
