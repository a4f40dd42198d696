//! The simulator in a process of its own, so that its work is not ours.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};

use codex_sim::SeededLogin;
use e2e::Home;
use reqwest::Client;
use serde_json::{Value, json};

use crate::Failed;
use crate::rows::Endpoint;

/// The account that all calls are made for.
const ACCOUNT: &str = "acct-bench";
/// The API key of those who know no other login.
pub(crate) const API_KEY: &str = "sk-bench-0123456789";

/// A running simulator. It is killed when dropped.
#[derive(Debug)]
pub(crate) struct SimProcess {
    child: Child,
    /// Kept, or the simulator could not print.
    _stdout: BufReader<ChildStdout>,
    /// Where calls go: with TLS if it was asked for.
    pub(crate) base_url: String,
    /// Without TLS, for direct calls, its administration, and as identity provider.
    pub(crate) plain_url: String,
    /// The certificate authority, with TLS.
    pub(crate) ca_pem: Option<String>,
    pub(crate) login: SeededLogin,
    admin: Client,
}

impl SimProcess {
    /// Starts `codex-sim` at full speed, recording nothing, and makes a login.
    pub(crate) async fn start(tls: bool) -> Result<Self, Failed> {
        let scratch = Home::bare();
        let ca_file = scratch.path("ca.pem");
        let mut command = Command::new(e2e::bin("codex-sim"));
        command.args(["--record-limit", "0", "--api-key", API_KEY]);
        if tls {
            command.args(["--tls", "also", "--ca-out"]).arg(&ca_file);
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut stdout = BufReader::new(child.stdout.take().ok_or("codex-sim has no standard output")?);
        let mut line = || -> Result<String, Failed> {
            let mut line = String::new();
            stdout.read_line(&mut line)?;
            Ok(line.trim().to_owned())
        };
        let base_url = line()?;
        let plain_url = if tls { line()? } else { base_url.clone() };
        let ca_pem = if tls { Some(std::fs::read_to_string(&ca_file)?) } else { None };
        let admin = Client::builder().no_proxy().build()?;
        let seed = json!({ "account_id": ACCOUNT });
        let made = admin.post(format!("{plain_url}/sim/logins")).json(&seed).send().await;
        let login = match made {
            Ok(answer) => answer.error_for_status()?.json().await?,
            Err(error) => {
                let _ = child.kill();
                return Err(format!("codex-sim printed {base_url:?} and does not answer: {error}").into());
            }
        };
        Ok(Self { child, _stdout: stdout, base_url, plain_url, ca_pem, login, admin })
    }

    /// `host:port`, for whoever speaks without TLS.
    pub(crate) fn address(&self) -> Result<SocketAddr, Failed> {
        Ok(self.plain_url.trim_start_matches("http://").parse()?)
    }

    /// The calls of an agent that talks to the upstream itself, or through something that only passes them on: all that
    /// Switchboard adds to a request stands in it already.
    pub(crate) fn direct(&self, address: SocketAddr) -> Endpoint {
        Endpoint {
            address,
            path: "/backend-api/codex/responses",
            headers: format!(
                "authorization: Bearer {}\r\nchatgpt-account-id: {ACCOUNT}\r\noriginator: bench\r\n",
                self.login.access_token
            ),
            whole: true,
        }
    }

    /// Event streams open now.
    pub(crate) async fn open_streams(&self) -> Result<u64, Failed> {
        let stats: Value = self.admin.get(format!("{}/sim/stats", self.plain_url)).send().await?.json().await?;
        Ok(stats["open_streams"].as_u64().ok_or("the simulator does not say how many streams are open")?)
    }
}

impl Drop for SimProcess {
    fn drop(&mut self) {
        // By the handle of this very child; one that has ended already is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
