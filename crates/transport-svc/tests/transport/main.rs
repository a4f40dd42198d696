//! transport-svc against the simulated upstream, over real sockets.

#![expect(clippy::expect_used, reason = "a test that cannot go on says so and ends")]

mod calls;
mod cancel;
mod compact;
mod egress;
mod harness;
mod models;
mod proxies;
mod quota;
mod reasoning;
mod reasons;
mod room;
mod seals;
mod trace;
mod workspaces;
