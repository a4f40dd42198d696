//! A running deployment, in either topology.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use service_kit::PeerChannel;

use crate::cli::Output;
use crate::grpc::{Gateway, connect};
use crate::home::Home;
use crate::http::Http;
use crate::process::{Process, Signal};
use crate::topology::{Part, Topology};
use crate::{PATIENCE, eventually};

/// Running services over a [`Home`]. They are killed when this goes.
#[derive(Debug)]
pub struct Switchboard {
    // Before the home, which is searched when it goes.
    processes: BTreeMap<&'static str, Process>,
    home: Home,
    topology: Topology,
    /// Of the gateway's port for agents.
    agents: String,
    /// Of the admin port of each process.
    admin: BTreeMap<&'static str, String>,
    /// With mutual TLS, where each service listens for the others; it comes back there.
    internal: BTreeMap<&'static str, String>,
}

impl Switchboard {
    /// Starts all services and waits until every port is bound.
    ///
    /// # Panics
    ///
    /// If one does not come up, with its log.
    pub async fn start(home: &Home, topology: Topology) -> Self {
        Self::try_start(home, topology).await.unwrap_or_else(|story| panic!("{story}"))
    }

    /// As [`Self::start`], for a start that may fail.
    ///
    /// # Errors
    ///
    /// Which process did not come up, with its output and log. The others are ended.
    pub async fn try_start(home: &Home, topology: Topology) -> Result<Self, String> {
        match topology {
            Topology::OneProcess => {}
            Topology::FourProcesses => share_seal_key(home),
            Topology::MutualTls => make_certificates(home).await?,
        }
        let mut this = Self {
            home: home.clone(),
            topology,
            processes: BTreeMap::new(),
            agents: String::new(),
            admin: BTreeMap::new(),
            internal: BTreeMap::new(),
        };
        this.start_missing().await?;
        Ok(this)
    }

    async fn start_missing(&mut self) -> Result<(), String> {
        for part in Part::ALL {
            let name = self.topology.process_of(part);
            if !self.processes.get_mut(name).is_some_and(Process::is_running) {
                self.start_process(name, part).await?;
            }
        }
        Ok(())
    }

    async fn start_process(&mut self, name: &'static str, part: Part) -> Result<(), String> {
        let process = Process::spawn(name, self.command(part), &self.home.log_file(name));
        // Kept before it is waited for: whatever becomes of it, it is ended.
        self.processes.insert(name, process);
        let Some(process) = self.processes.get_mut(name) else { return Err(format!("{name} was not started")) };
        let front = if name == "switchboard" { Part::Gateway.name() } else { name };
        let found = process.listening(&[front, "admin"], PATIENCE).await?;
        let [listening, admin] = found.as_slice() else { return Err(format!("{name} printed {found:?}")) };
        if let Some(canary) = self.home.canary() {
            canary.answers_at(listening);
            canary.answers_at(admin);
        }
        self.admin.insert(name, admin.clone());
        if front == Part::Gateway.name() {
            self.agents.clone_from(listening);
        } else if self.topology == Topology::MutualTls {
            self.internal.insert(name, listening.clone());
        }
        Ok(())
    }

    fn command(&self, part: Part) -> Command {
        match (self.topology, part) {
            (Topology::OneProcess, _) => {
                let mut command = self.home.command("switchboard");
                command.arg("up");
                command
            }
            (Topology::FourProcesses, part) => self.home.service(part),
            (Topology::MutualTls, part) => self.over_tls(part),
        }
    }

    fn over_tls(&self, part: Part) -> Command {
        let mut command = self.home.service(part);
        command.envs(self.home.tls(part.name()));
        let address = |part: Part| self.internal.get(part.name()).map_or("127.0.0.1:0", String::as_str);
        let url = |part| format!("https://{}", address(part));
        if part == Part::Gateway {
            command.env("SWITCHBOARD__GATEWAY__AUTH", url(Part::Auth));
            command.env("SWITCHBOARD__GATEWAY__ROUTER", url(Part::Router));
            command.env("SWITCHBOARD__GATEWAY__TRANSPORTS__LOCAL__ADDRESS", url(Part::Transport));
        } else {
            command.arg("--listen").arg(address(part));
        }
        command
    }

    /// With mutual TLS, `host:port` where `part` listens for the others.
    pub fn internal(&self, part: Part) -> &str {
        self.internal.get(part.name()).map(String::as_str).unwrap_or_default()
    }

    /// The place it runs in.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// How it is spread over processes.
    pub fn topology(&self) -> Topology {
        self.topology
    }

    /// The process that `part` runs in.
    pub fn process(&mut self, part: Part) -> &mut Process {
        let name = self.topology.process_of(part);
        self.processes.get_mut(name).unwrap_or_else(|| panic!("{name} was not started"))
    }

    /// All processes.
    pub fn processes(&mut self) -> impl Iterator<Item = &mut Process> {
        self.processes.values_mut()
    }

    /// `host:port` for agents.
    pub fn address(&self) -> &str {
        &self.agents
    }

    /// `http://host:port` of the admin port of the process that `part` runs in.
    pub fn admin_url(&self, part: Part) -> String {
        let address = self.admin.get(self.topology.process_of(part)).cloned().unwrap_or_default();
        format!("http://{address}")
    }

    /// The agent key that the first start made.
    pub fn key(&self) -> String {
        let path = self.home.data_dir().join("agent.key");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        text.trim().to_owned()
    }

    /// An HTTP client with the first agent key.
    pub fn http(&self) -> Http {
        Http::new(&format!("http://{}", self.agents), Some(&self.key()))
    }

    /// An HTTP client with another key, or without one.
    pub fn http_as(&self, key: Option<&str>) -> Http {
        Http::new(&format!("http://{}", self.agents), key)
    }

    /// A gRPC client at the agents' port, with the first agent key.
    pub fn grpc(&self) -> Gateway {
        connect(&self.agents, Some(&self.key()), self.home.canary())
    }

    /// A gRPC client at the agents' port, with another key, or without one.
    pub fn grpc_as(&self, key: Option<&str>) -> Gateway {
        connect(&self.agents, key, self.home.canary())
    }

    /// A channel to the socket where operators and peers reach `part`: `RouterServiceClient::new(s.peer(Part::Router))`.
    pub fn peer(&self, part: Part) -> PeerChannel {
        let socket = format!("{}.sock", self.topology.process_of(part));
        PeerChannel::unix(part.name(), &self.home.data_dir().join(socket))
    }

    /// Runs `switchboard <args>` against this deployment.
    pub async fn cli(&self, args: &[&str]) -> Output {
        self.home.cli(args).await
    }

    /// Kills the process that `part` runs in, as a crash would, and waits until it is gone.
    pub async fn kill(&mut self, part: Part) {
        self.process(part).end(Signal::KILL).await;
    }

    /// Kills every process at once, as a power cut would.
    pub async fn kill_all(&mut self) {
        self.processes.values_mut().for_each(|process| process.signal(Signal::KILL));
        for process in self.processes.values_mut() {
            process.exited().await;
        }
    }

    /// Starts every process that does not run. Ports may be others than before.
    pub async fn restart(&mut self) {
        self.start_missing().await.unwrap_or_else(|story| panic!("{story}"));
    }

    /// Asks every process to stop, the front door first, and waits; gives the exit statuses.
    pub async fn stop(&mut self) -> Vec<(&'static str, ExitStatus)> {
        self.show();
        let mut ended = Vec::new();
        for part in [Part::Gateway, Part::Transport, Part::Router, Part::Auth] {
            let name = self.topology.process_of(part);
            if let Some(mut process) = self.processes.remove(name) {
                ended.push((name, process.end(Signal::TERM).await));
            }
        }
        ended
    }

    /// Waits until a process's log holds `text`.
    pub async fn logged(&mut self, part: Part, text: &str) {
        let process = self.process(part);
        eventually(&format!("{} logged {text:?}", process.name().to_owned()), || process.log().contains(text)).await;
    }
}

impl Switchboard {
    /// Shows the canary what only a running deployment tells: its admin pages and its call records.
    fn show(&mut self) {
        let Some(canary) = self.home.canary().cloned() else { return };
        let mut any = false;
        for (name, process) in &mut self.processes {
            if !process.is_running() {
                continue;
            }
            any = true;
            let address = self.admin.get(name).map(String::as_str).unwrap_or_default();
            for page in ["/metrics", "/readyz"] {
                if let Some(answer) = fetch(address, page) {
                    canary.see(format!("{page} of {name}"), answer);
                }
            }
        }
        if any {
            let mut command = self.home.command("switchboard");
            command.args(["calls", "list", "--json"]);
            if let Ok(output) = command.stdin(Stdio::null()).output() {
                canary.said(&command, &output.stdout, &output.stderr);
            }
        }
    }
}

impl Drop for Switchboard {
    fn drop(&mut self) {
        self.show();
    }
}

/// What `GET page` says, if it says it soon. Without a runtime: this is for the end, where there may be none.
fn fetch(address: &str, page: &str) -> Option<Vec<u8>> {
    let limit = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(&address.parse().ok()?, limit).ok()?;
    stream.set_read_timeout(Some(limit)).ok()?;
    write!(stream, "GET {page} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    Some(answer)
}

/// Processes of their own share the seal key through a file.
async fn make_certificates(home: &Home) -> Result<(), String> {
    let made = home.cli(&["certs", "init", "--operator", "alice"]).await;
    if made.code != Some(0) {
        return Err(made.to_string());
    }
    let quoted = |name: &str| format!("\"{}\"", home.certificates(name).join("seal.key").display());
    home.set("auth.seal_key_file", quoted("auth-svc")).set("transport.seal_key_file", quoted("transport-svc"));
    Ok(())
}

fn share_seal_key(home: &Home) {
    let path = home.path("seal.key");
    if !path.exists() {
        let key = service_kit::SecretKey::generate().expect("a key");
        key.write_new(&path).expect("written");
    }
    let value = format!("\"{}\"", path.display());
    home.set("auth.seal_key_file", value.clone()).set("transport.seal_key_file", value);
}
