//! The simulator over real sockets, as its users see it.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod command;
mod edge;
mod faults;
mod identity;
mod quota;
mod refusals;
mod streams;
mod support;
