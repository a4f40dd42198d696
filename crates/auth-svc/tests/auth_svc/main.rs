//! auth-svc as its peers see it: over gRPC in process, against the simulated identity provider.

#![expect(clippy::expect_used, clippy::panic, reason = "helpers of tests: what they need is there, or the test fails")]

mod binding;
mod keys;
mod login;
mod refresh;
mod start;
mod support;
