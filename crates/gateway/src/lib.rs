//! The front door for agents: gRPC and HTTP on one port, over one pipeline (resolve, bind, respond).
//!
//! The gateway owns no credential and opens no connection to the internet. It asks router-svc what a model name means,
//! auth-svc which credential is bound to that (and gets it sealed), and transport-svc to make the call. What it decides
//! itself is whether a call may be tried again, and it writes down what happened: the execution trace.
//!
//! Everything a call does is one pulled stream (`pipeline`): when its caller goes away the stream is dropped, and
//! with it the request to transport-svc and so the upstream request. Nothing is left running but the reports that
//! change a credential's standing.

mod assemble;
mod bound;
mod budget;
mod caller;
mod catalogue;
mod core;
mod egress;
mod grpc;
mod headers;
mod http;
mod keys;
mod limits;
mod links;
mod models;
mod peers;
mod pipeline;
mod records;
mod recovery;
mod retry;
mod room;
mod service;
mod status;
mod tls;
mod turns;
mod usage;
mod workspaces;

pub use peers::Peers;
pub use service::{BuildError, GatewayService, build, serve_options};
pub use tls::{front_tls, serve_front, watched};
