//! The ways to the simulator that are compared: a row of the table each.

mod litellm;
mod nginx;
mod process;
mod switchboard;
mod thin;

use std::net::SocketAddr;

use clap::ValueEnum;
use serde_json::json;

use crate::Failed;
use crate::machine::{Usage, usage};
use crate::sim::SimProcess;

/// A way to the simulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Row {
    /// None in between: what the others are compared with.
    Direct,
    /// nginx as a plain reverse proxy.
    Nginx,
    /// A reverse proxy of hyper and nothing else; without TLS always.
    Thin,
    /// Switchboard in one process.
    One,
    /// Switchboard as four processes over unix sockets.
    Four,
    /// Switchboard as four processes over mutual TLS.
    Tls,
    /// LiteLLM's proxy.
    Litellm,
}

impl Row {
    pub(crate) const ALL: [Row; 7] = [Row::Direct, Row::Nginx, Row::Thin, Row::One, Row::Four, Row::Tls, Row::Litellm];

    /// Its name in the JSON report and on the command line.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Nginx => "nginx",
            Self::Thin => "thin",
            Self::One => "one",
            Self::Four => "four",
            Self::Tls => "tls",
            Self::Litellm => "litellm",
        }
    }

    /// Its name in the table.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Direct => "the simulator directly",
            Self::Nginx => "nginx",
            Self::Thin => "hyper, a thin proxy",
            Self::One => "Switchboard, one process",
            Self::Four => "Switchboard, four processes over unix sockets",
            Self::Tls => "Switchboard, four processes over mutual TLS",
            Self::Litellm => "LiteLLM",
        }
    }

    /// What this row needs and the machine lacks.
    pub(crate) fn missing(self) -> Option<String> {
        match self {
            Self::Direct | Self::Thin | Self::One | Self::Four | Self::Tls => None,
            Self::Nginx => nginx::missing(),
            Self::Litellm => litellm::missing(),
        }
    }

    /// Starts what stands in between, fresh.
    pub(crate) async fn start(self, sim: &SimProcess) -> Result<Running, Failed> {
        let (service, endpoint) = match self {
            Self::Direct => (Service::None, sim.direct(sim.address()?)),
            Self::Nginx => {
                let (process, address) = nginx::start(sim).await?;
                (Service::Process(process), sim.direct(address))
            }
            Self::Thin => {
                let (process, address) = thin::start(sim).await?;
                (Service::Process(process), sim.direct(address))
            }
            Self::One => switchboard::start(sim, e2e::Topology::OneProcess).await?,
            Self::Four => switchboard::start(sim, e2e::Topology::FourProcesses).await?,
            Self::Tls => switchboard::start(sim, e2e::Topology::MutualTls).await?,
            Self::Litellm => {
                let (process, endpoint) = litellm::start(sim).await?;
                (Service::Process(process), endpoint)
            }
        };
        Ok(Running { row: self, endpoint, service })
    }
}

/// A row whose processes run. They end when it is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) row: Row,
    pub(crate) endpoint: Endpoint,
    service: Service,
}

#[derive(Debug)]
enum Service {
    None,
    Process(process::Service),
    Switchboard(Box<e2e::Switchboard>),
}

impl Running {
    /// What its processes use; nothing where there are none.
    pub(crate) fn usage(&mut self) -> Result<Usage, Failed> {
        match &mut self.service {
            Service::None => Ok(Usage::default()),
            Service::Process(process) => usage(&[process.id()]),
            Service::Switchboard(switchboard) => {
                let ids: Vec<u32> = switchboard.processes().map(|process| process.id()).collect();
                usage(&ids)
            }
        }
    }
}

/// Where calls go, and what they carry.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    pub(crate) path: &'static str,
    /// Header lines, each with its line end.
    pub(crate) headers: String,
    /// True if the body has to be what the upstream wants already.
    pub(crate) whole: bool,
}

impl Endpoint {
    /// A whole request for a stream, as bytes.
    pub(crate) fn request(&self, prompt: &str) -> Vec<u8> {
        let mut body = json!({
            "model": "gpt-5.5",
            "instructions": "Be brief.",
            "input": [{ "type": "message", "role": "user", "content": [{ "type": "input_text", "text": prompt }] }],
            "stream": true,
        });
        if self.whole {
            body["store"] = false.into();
            body["include"] = json!(["reasoning.encrypted_content"]);
        }
        let body = body.to_string();
        format!(
            "POST {} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\naccept: text/event-stream\r\n{}content-length: \
             {}\r\n\r\n{body}",
            self.path,
            self.address,
            self.headers,
            body.len()
        )
        .into_bytes()
    }
}

/// A port that nobody uses just now.
fn free_port() -> Result<u16, Failed> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// The program `name` on the search path.
fn on_path(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    // Where servers are installed, and where not everybody looks for commands.
    let more = ["/usr/sbin", "/usr/local/sbin"].map(std::path::PathBuf::from);
    std::env::split_paths(&path).chain(more).map(|folder| folder.join(name)).find(|file| file.is_file())
}
