//! auth-svc as its peers see it: over gRPC in process, against the simulated identity provider.

#![expect(clippy::expect_used, clippy::panic, reason = "helpers of tests: what they need is there, or the test fails")]

mod audit;
mod binding;
mod cut_off;
mod exports;
mod keys;
mod living;
mod login;
mod logout;
mod pasted;
mod refresh;
mod refresh_contract;
mod room;
mod selection;
mod start;
mod support;
mod workspaces;
