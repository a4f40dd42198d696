//! The upstream call, and nothing else.
//!
//! A caller names a target by its id; the URL comes from this service's own table, and the credential is opened only if
//! its seal names that very origin and path. The answer is forwarded as bytes with a parser beside the stream, and every
//! way in which an upstream request can end is one reason from the one table (`classify`).
//!
//! A call is one pulled stream: no task stands between the upstream and the caller, so a caller that goes away takes the
//! upstream request with it.

mod account;
mod body;
mod call;
mod classify;
mod cookies;
mod document;
mod egress;
mod events;
mod grpc;
mod headers;
mod models;
mod open;
mod plain;
mod pool;
mod progress;
mod relay;
mod send;
mod service;
mod targets;
mod usage;
mod workspace;

pub use service::{BuildError, TransportOptions, TransportService, build};
