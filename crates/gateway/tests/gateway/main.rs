//! The gateway over real sockets, between fake peers.

#![expect(clippy::unwrap_used, clippy::panic, reason = "in a test a wrong assumption is a failure of the test")]

mod access;
mod calls;
mod chat;
mod egresses;
mod failover;
mod fakes;
mod http_face;
mod limits;
mod script;
mod status;
mod streams;
mod usage;
mod workspaces;
mod world;
