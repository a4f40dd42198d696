//! Real clients against the real binaries: Codex CLI, OpenClaw, `buf curl`, and OpenAI's SDKs for Python and Node.
//!
//! Run with `.ci/tools && . .ci/env && cargo test -p e2e --test clients -- --ignored --test-threads=1`. A tool that is
//! not there fails its test: a skipped test would look like a client that works.

#![expect(clippy::expect_used, clippy::panic, reason = "what cannot be set up is a failed test")]

/// As [`e2e::in_each_topology`], for tests that run only where the clients are.
macro_rules! in_each_topology {
    ($($(#[$meta:meta])* async fn $name:ident($topology:ident) $body:block)+) => { $(
        $(#[$meta])*
        mod $name {
            use super::*;

            async fn run($topology: e2e::Topology) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            #[ignore = "needs real clients: .ci/tools installs them"]
            async fn one_process() {
                Box::pin(run(e2e::Topology::OneProcess)).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            #[ignore = "needs real clients: .ci/tools installs them"]
            async fn four_processes() {
                Box::pin(run(e2e::Topology::FourProcesses)).await;
            }
        }
    )+ };
}

#[path = "clients/buf_curl.rs"]
mod buf_curl;
#[path = "clients/codex.rs"]
mod codex;
#[path = "clients/matrix.rs"]
mod matrix;
#[path = "clients/openclaw.rs"]
mod openclaw;
#[path = "clients/sdk.rs"]
mod sdk;
#[path = "clients/sdk_chat.rs"]
mod sdk_chat;
#[path = "clients/sdk_patience.rs"]
mod sdk_patience;
#[path = "clients/sdk_responses.rs"]
mod sdk_responses;
#[path = "clients/tools.rs"]
mod tools;

use codex_sim::{RecordedRequest, Sim, SimConfig, TlsMode};
use e2e::{Home, Switchboard, Topology};
use proto::gateway::v1::{CallRecord, ListCallsRequest};

/// The account of the one credential.
const ACCOUNT: &str = "acct-clients";
/// Where the upstream answers.
const RESPONSES: &str = "/backend-api/codex/responses";

/// An upstream over TLS and HTTP/2, as the real one; a login imported; the services running.
struct Place {
    sim: Sim,
    home: Home,
    switchboard: Switchboard,
}

impl Place {
    async fn start(topology: Topology) -> Self {
        Self::start_with(topology, |_| ()).await
    }

    /// As [`Self::start`], with a home that `prepare` may change.
    async fn start_with(topology: Topology, prepare: impl FnOnce(&Home)) -> Self {
        // Agents send long prompts, and what of them goes upstream is looked at.
        let config =
            SimConfig { tls: Some(TlsMode::AlsoPlain), record_body_bytes: 1024 * 1024, ..SimConfig::default() };
        let sim = Sim::start(config).await.expect("a simulator");
        let home = Home::new(&sim);
        prepare(&home);
        home.import_codex(&sim, ACCOUNT, "main").await;
        let switchboard = Switchboard::start(&home, topology).await;
        Self { sim, home, switchboard }
    }

    /// The requests for an answer that reached the upstream.
    fn upstream(&self) -> Vec<RecordedRequest> {
        self.sim.state().requests_to(RESPONSES)
    }

    /// The calls that the gateway has seen, oldest first.
    async fn calls(&self) -> Vec<CallRecord> {
        let answer = self.switchboard.grpc().list_calls(ListCallsRequest::default()).await.expect("calls are listed");
        let mut calls = answer.into_inner().calls;
        calls.reverse();
        calls
    }

    /// What each call came to: its face, its status, and the reason of a failure.
    async fn outcomes(&self) -> Vec<(String, String, String)> {
        let calls = self.calls().await;
        calls.into_iter().map(|call| (call.face, call.status, call.error.unwrap_or_default().reason)).collect()
    }
}

/// One line of [`Place::outcomes`].
fn outcome(face: &str, status: &str, reason: &str) -> (String, String, String) {
    (face.to_owned(), status.to_owned(), reason.to_owned())
}
