//! Support for the end-to-end suites: real binaries as subprocesses, the simulated upstream in the test's own process.
//!
//! ```no_run
//! use e2e::{Home, Switchboard, Topology};
//!
//! # async fn example() {
//! let sim = codex_sim::Sim::start(codex_sim::SimConfig::default()).await.expect("a simulator");
//! let home = Home::new(&sim);
//! home.import_codex(&sim, "acct-1", "main").await;
//! let switchboard = Switchboard::start(&home, Topology::FourProcesses).await;
//! let answer = switchboard.http().respond(&serde_json::json!({ "model": "codex/gpt-5.5", "input": "Hello" })).await;
//! assert_eq!(answer.status, 200);
//! assert_eq!(sim.state().requests_to("/backend-api/codex/responses").len(), 1);
//! # }
//! ```
//!
//! Nothing here returns an error: what cannot be set up is a failed test, and says what was being done. Every process
//! that is started is ended by its own handle when its owner goes; on a failed test its last log lines are printed.

#![expect(clippy::expect_used, clippy::panic, reason = "what cannot be set up is a failed test")]

mod bin;
mod canary;
mod cli;
mod collector;
mod grpc;
mod home;
mod http;
mod process;
mod provoke;
mod proxy;
mod switchboard;
mod topology;

pub use bin::bin;
pub use cli::Output;
pub use collector::{Collector, Span};
pub use grpc::{BearerKey, Gateway, question, stream_question};
pub use home::{Home, fixture};
pub use http::{Answer, Http};
pub use process::{Process, Signal, logs_all};
pub use provoke::{Provoked, beyond_reach, provoke};
pub use proxy::{Proxy, ProxyKind};
pub use service_kit::{failure_from_status, trace_from_status};
pub use switchboard::Switchboard;
pub use topology::{Part, Topology};

use std::time::{Duration, Instant};

/// Longest wait for anything that takes milliseconds on an idle machine. Generous: the machine is rarely idle.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `condition` holds; `what` names it when it never does.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    eventually_async(what, async || condition()).await;
}

/// As [`eventually`], for a condition that has to ask somebody.
pub async fn eventually_async(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !condition().await {
        assert!(began.elapsed() < PATIENCE, "after {} s still not: {what}", PATIENCE.as_secs());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
