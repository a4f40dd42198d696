//! A simulator with one login, a client that trusts it, and a reader of event streams.

use std::time::Duration;

use codex_sim::{RecordedRequest, SeedLogin, SeededLogin, Sim, SimConfig, TlsMode};
use reqwest::{Certificate, Client, ClientBuilder, RequestBuilder, Response};
use serde_json::{Value, json};

pub(crate) const ACCOUNT: &str = "acct-1";
pub(crate) const API_KEY: &str = "sk-test-1";
pub(crate) const RESPONSES: &str = "/backend-api/codex/responses";

pub(crate) struct Bench {
    pub(crate) sim: Sim,
    pub(crate) login: SeededLogin,
    pub(crate) client: Client,
}

impl Bench {
    /// Plain HTTP/1.1.
    pub(crate) async fn start() -> Self {
        Self::with(SimConfig::default()).await
    }

    pub(crate) async fn with(config: SimConfig) -> Self {
        let sim = Sim::start(config).await.unwrap();
        let login = sim.state().seed_login(SeedLogin::account(ACCOUNT));
        sim.state().add_api_key(API_KEY);
        let client = trusting(&sim).build().unwrap();
        Self { sim, login, client }
    }

    /// HTTP/2 over TLS.
    pub(crate) async fn tls() -> Self {
        Self::with(SimConfig { tls: Some(TlsMode::Only), ..SimConfig::default() }).await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.sim.base_url())
    }

    /// A POST with the login's credentials.
    pub(crate) fn post(&self, path: &str) -> RequestBuilder {
        let request = self.client.post(self.url(path));
        request.bearer_auth(&self.login.access_token).header("chatgpt-account-id", ACCOUNT)
    }

    /// A GET with the login's credentials.
    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        let request = self.client.get(self.url(path));
        request.bearer_auth(&self.login.access_token).header("chatgpt-account-id", ACCOUNT)
    }

    /// A sound request to the Codex backend.
    pub(crate) async fn ask(&self, text: &str) -> Result<Response, reqwest::Error> {
        self.post(RESPONSES).json(&body(text)).send().await
    }

    /// The same, with the simulator told how to answer.
    pub(crate) async fn ask_as(&self, scenario: &str) -> Result<Response, reqwest::Error> {
        self.post(RESPONSES).header("x-sim-scenario", scenario).json(&body("Reply exactly: OK")).send().await
    }

    /// The newest record.
    pub(crate) fn last(&self) -> RecordedRequest {
        self.sim.state().requests().pop().unwrap()
    }

    /// Waits until a record of the newest request says so.
    pub(crate) async fn until(&self, what: impl Fn(&RecordedRequest) -> bool) -> RecordedRequest {
        for _ in 0..400 {
            let last = self.last();
            if what(&last) {
                return last;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("still {:?}", self.last());
    }
}

/// A client that trusts the simulator, follows no redirects and repeats nothing.
pub(crate) fn trusting(sim: &Sim) -> ClientBuilder {
    let builder = Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    let builder = builder.retry(reqwest::retry::never());
    match sim.ca_pem() {
        Some(pem) => builder.tls_certs_only([Certificate::from_pem(pem.as_bytes()).unwrap()]),
        None => builder,
    }
}

/// The body of a sound request.
pub(crate) fn body(text: &str) -> Value {
    body_with(json!([user(text)]))
}

pub(crate) fn body_with(input: Value) -> Value {
    json!({
        "model": "gpt-5.5",
        "input": input,
        "tools": [{ "type": "function", "name": "exec_command", "parameters": { "type": "object" } }],
        "tool_choice": "auto",
        "parallel_tool_calls": true,
        "reasoning": { "effort": "medium" },
        "store": false,
        "stream": true,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "session-1",
        "text": { "verbosity": "low" },
        "client_metadata": { "session_id": "session-1" },
    })
}

pub(crate) fn user(text: &str) -> Value {
    json!({ "type": "message", "role": "user", "content": [{ "type": "input_text", "text": text }] })
}

/// The events of a stream: the JSON of each `data:`, in order. Data that is not JSON becomes `null`.
pub(crate) fn events(stream: &str) -> Vec<Value> {
    let stream = stream.trim_start_matches('\u{feff}').replace("\r\n", "\n");
    let data = |block: &str| {
        let lines: Vec<&str> = block.lines().filter_map(|line| line.strip_prefix("data:")).collect();
        (!lines.is_empty()).then(|| serde_json::from_str(&lines.join("\n")).unwrap_or(Value::Null))
    };
    stream.split("\n\n").filter_map(data).collect()
}

pub(crate) fn types(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap_or("?")).collect()
}

/// What the deltas add up to.
pub(crate) fn text_of(events: &[Value]) -> String {
    let deltas = events.iter().filter(|event| event["type"] == "response.output_text.delta");
    deltas.filter_map(|event| event["delta"].as_str()).collect()
}

/// Reads a stream to its end or its break: what arrived, and whether it ended well.
pub(crate) async fn read(mut response: Response) -> (String, bool) {
    let mut stream = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => stream.extend_from_slice(&chunk),
            Ok(None) => return (String::from_utf8(stream).unwrap(), true),
            Err(_) => return (String::from_utf8(stream).unwrap(), false),
        }
    }
}
