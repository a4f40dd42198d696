//! The main job, end to end: real binaries, one process and four, over a simulated upstream and identity provider.

#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "a test that is skipped says why")]

mod agree;
mod bad_config;
mod bad_imports;
mod bad_stores;
mod crashes;
mod edge;
mod faces;
mod fallbacks;
mod fixture;
mod keys;
mod logins;
mod refresh;
mod seals;
mod secrets;
mod strangers;
mod streams;
mod support;
mod traces;
