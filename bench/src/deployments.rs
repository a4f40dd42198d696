//! What is measured: both topologies at once, over homes of their own, with the same login.

use std::process::Stdio;
use std::time::{Duration, Instant};

use e2e::{Home, Switchboard, Topology};
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};

use crate::Failed;
use crate::memory::Memory;
use crate::sim::SimProcess;

const BINARIES: [&str; 6] = ["codex-sim", "switchboard", "auth-svc", "router-svc", "transport-svc", "gateway"];

/// Says what to build when a binary is missing beside this one.
pub(crate) fn check_binaries() -> Result<(), Failed> {
    let own = std::env::current_exe()?;
    let release = own.parent().is_some_and(|folder| folder.ends_with("release"));
    let flag = if release { " --release" } else { "" };
    match BINARIES.iter().map(|name| own.with_file_name(name)).find(|path| !path.is_file()) {
        Some(path) => Err(format!(
            "{} is not there: build the binaries with `cargo build{flag} --workspace --bins`, then start this again",
            path.display()
        )
        .into()),
        None => Ok(()),
    }
}

/// Both topologies, running.
#[derive(Debug)]
pub(crate) struct Deployments {
    pub(crate) one: Deployment,
    pub(crate) four: Deployment,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Deployment {
    switchboard: Switchboard,
    key: String,
}

impl Deployments {
    pub(crate) async fn start(sim: &SimProcess) -> Result<Self, Failed> {
        let one = Deployment::start(sim, Topology::OneProcess).await?;
        let four = Deployment::start(sim, Topology::FourProcesses).await?;
        Ok(Self { one, four })
    }

    /// The memory of one process, and of the four together.
    pub(crate) fn memory(&mut self) -> Result<[Memory; 2], Failed> {
        Ok([self.one.memory()?, self.four.memory()?])
    }

    pub(crate) async fn stop(&mut self) {
        self.one.switchboard.stop().await;
        self.four.switchboard.stop().await;
    }
}

impl Deployment {
    async fn start(sim: &SimProcess, topology: Topology) -> Result<Self, Failed> {
        let home = Home::bare();
        let quoted = |text: &str| Value::from(text).to_string();
        home.set("targets.chatgpt-codex.base_url", quoted(&format!("{}/backend-api/codex", sim.base_url)));
        home.set("auth.identity_url", quoted(&sim.plain_url));
        if let Some(pem) = &sim.ca_pem {
            let path = home.write("ca.pem", pem);
            home.set("transport.ca_file", quoted(&path.to_string_lossy()));
        }
        let login = home.write("codex/auth.json", &sim.login.codex_auth_json().to_string());
        // Nothing refreshes here: the token lives for days, so both may hold the same login.
        let imported = home.cli(&["import", "codex", &login.to_string_lossy(), "--label", "main"]).await;
        if imported.code != Some(0) {
            return Err(imported.to_string().into());
        }
        let switchboard = Switchboard::try_start(&home, topology).await?;
        let key = switchboard.key();
        Ok(Self { switchboard, key })
    }

    /// The same call as [`SimProcess::direct_call`], the way an agent makes it.
    pub(crate) fn call(&self, client: &Client, prompt: &str) -> RequestBuilder {
        let body = json!({
            "model": "gpt-5.5",
            "instructions": "Be brief.",
            "input": [{ "type": "message", "role": "user", "content": [{ "type": "input_text", "text": prompt }] }],
            "stream": true,
        });
        client.post(format!("http://{}/v1/responses", self.switchboard.address())).bearer_auth(&self.key).json(&body)
    }

    pub(crate) fn memory(&mut self) -> Result<Memory, Failed> {
        self.switchboard.processes().map(|process| Memory::of(process.id())).sum()
    }

    /// Processor time used so far by all its processes.
    pub(crate) fn cpu(&mut self) -> Result<Duration, Failed> {
        self.switchboard.processes().map(|process| crate::machine::cpu(process.id())).sum()
    }
}

/// How long `switchboard demo` takes from start to exit, each time in a place of its own.
pub(crate) async fn demos(runs: usize) -> Result<Vec<Duration>, Failed> {
    let mut took = Vec::new();
    for _ in 0..runs {
        let home = Home::bare();
        let mut command = tokio::process::Command::new(e2e::bin("switchboard"));
        command.arg("demo").env_clear().env("HOME", home.path("home")).current_dir(home.path("home"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let began = Instant::now();
        let output = command.spawn()?.wait_with_output().await?;
        took.push(began.elapsed());
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(format!("`switchboard demo` failed ({}): {said}", output.status).into());
        }
    }
    Ok(took)
}
