//! What several suites need: a simulator with a home, credentials of every kind, and answers read.

use std::path::Path;
use std::time::Duration;

use codex_sim::{RecordedRequest, Scenario, SeedLogin, SeededLogin, Sim, SimConfig};
use e2e::{Home, Output, Switchboard, Topology};
use serde_json::{Value, json};

/// Where calls to the Codex backend must go.
pub(crate) const CODEX: &str = "/backend-api/codex/responses";
/// Where calls to the platform API must go.
pub(crate) const PLATFORM: &str = "/v1/responses";
/// A model of the subscription.
pub(crate) const MODEL: &str = "openai-codex/gpt-5.5";

/// A simulator and a home that has it for upstream.
pub(crate) struct World {
    pub(crate) sim: Sim,
    pub(crate) home: Home,
}

impl World {
    /// Nothing imported yet.
    pub(crate) async fn new() -> Self {
        Self::with(SimConfig::default()).await
    }

    /// As [`Self::new`], with another simulator.
    pub(crate) async fn with(config: SimConfig) -> Self {
        let sim = Sim::start(config).await.expect("a simulator");
        let home = Home::new(&sim);
        Self { sim, home }
    }

    /// With one login of account `acct-1` as credential `main`.
    pub(crate) async fn with_login() -> (Self, SeededLogin) {
        let world = Self::new().await;
        let login = world.login("acct-1", "main").await;
        (world, login)
    }

    /// A login whose access token lives, imported.
    pub(crate) async fn login(&self, account: &str, label: &str) -> SeededLogin {
        self.home.import_codex(&self.sim, account, label).await
    }

    /// A login whose access token has expired, imported.
    pub(crate) async fn expired(&self, account: &str, label: &str) -> SeededLogin {
        let seed = SeedLogin { access_ttl: Some(Duration::ZERO), ..SeedLogin::account(account) };
        let (login, path) = self.home.codex_login(&self.sim, seed);
        let _ = self.import(&path, label).await.ok();
        login
    }

    /// An API key that the simulator takes, imported.
    pub(crate) async fn api_key(&self, label: &str) -> String {
        let key = format!("sk-e2e-{label}-secret");
        self.sim.state().add_api_key(&key);
        let path = self.home.write(&format!("api-key-{label}.json"), &api_key_json(&key).to_string());
        let _ = self.import(&path, label).await.ok();
        key
    }

    /// Runs `import codex`.
    pub(crate) async fn import(&self, path: &Path, label: &str) -> Output {
        self.home.cli(&["import", "codex", &path.to_string_lossy(), "--label", label]).await
    }

    /// Starts the services.
    pub(crate) async fn start(&self, topology: Topology) -> Switchboard {
        Switchboard::start(&self.home, topology).await
    }

    /// Sets the simulator's behaviour towards an account or an API key.
    pub(crate) fn behave(&self, target: &str, scenario: &str) {
        self.sim.state().set_scenario(target, Some(scenario.parse::<Scenario>().expect("a scenario")));
    }

    /// Requests that carried a call or a probe: everything but those to the identity provider.
    pub(crate) fn upstream(&self) -> Vec<RecordedRequest> {
        let mut requests = self.sim.state().requests();
        requests.retain(|request| request.path.starts_with("/backend-api") || request.path.starts_with("/v1"));
        requests
    }
}

/// Codex CLI's `auth.json` with an API key instead of a login.
pub(crate) fn api_key_json(key: &str) -> Value {
    json!({ "auth_mode": "apikey", "OPENAI_API_KEY": key })
}

/// Runs `call` for a model and gives what it said, whatever came of it.
pub(crate) async fn call(switchboard: &Switchboard, model: &str) -> Output {
    switchboard.cli(&["call", "--model", model, "--message", "Reply exactly: OK", "--json"]).await
}

/// A Responses request over HTTP, streamed.
pub(crate) fn streamed(text: &str) -> Value {
    json!({ "model": MODEL, "input": text, "stream": true })
}

/// A Responses request over HTTP, answered whole.
pub(crate) fn whole(text: &str) -> Value {
    json!({ "model": MODEL, "input": text, "stream": false })
}

/// `models status --json` of all agents.
pub(crate) async fn status(switchboard: &Switchboard) -> Value {
    switchboard.cli(&["models", "status", "--json"]).await.ok().json()
}

/// The only route of a status.
#[track_caller]
pub(crate) fn only_route(status: &Value) -> &Value {
    let routes = status["routes"].as_array().expect("routes");
    assert_eq!(routes.len(), 1, "{status}");
    &routes[0]
}

/// Every candidate with its reason, in order; `eligible` where it has none.
pub(crate) fn candidates(list: &Value) -> Vec<(String, String)> {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or("eligible").to_owned();
    list.iter().map(|one| (text(&one["credential"]), text(&one["reason"]))).collect()
}

/// The execution trace of `call --json`, of a success and of a failure.
pub(crate) fn trace_of(answer: &Value) -> &Value {
    &answer["result"]["meta"]["executionTrace"]
}

/// What a starting process said, which must not start: the exit code and both outputs. In four processes it is the one
/// named, in one process `switchboard up`.
pub(crate) async fn start_fails(home: &Home, topology: Topology, service: &str) -> Output {
    Output::of(starter(home, topology, service), "").await
}

/// The command that starts `service`, or all of them.
pub(crate) fn starter(home: &Home, topology: Topology, service: &str) -> std::process::Command {
    match topology {
        Topology::OneProcess => {
            let mut command = home.command("switchboard");
            command.arg("up");
            command
        }
        Topology::FourProcesses | Topology::MutualTls => {
            let mut command = home.command(service);
            if service == domain::service::AUTH {
                command.arg("--init");
            }
            command
        }
    }
}

/// All regular files below the data directory that outlive a process, with their bytes: what must not change when
/// something fails. Sockets, the lock and SQLite's side files are no such files.
pub(crate) fn lasting_files(home: &Home) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(home.data_dir()).expect("the data directory") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().to_string_lossy().into_owned();
        let passing = ["-wal", "-shm", ".lock", ".sock"].iter().any(|suffix| name.ends_with(suffix));
        if entry.file_type().expect("a type").is_file() && !passing {
            files.push((name, std::fs::read(entry.path()).expect("read")));
        }
    }
    files.sort();
    files
}
