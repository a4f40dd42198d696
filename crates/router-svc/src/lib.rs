//! Which route does this model name mean?
//!
//! The route table is built once from the configuration and never changes; a reload builds another one and swaps it in
//! as a whole, so that no answer mixes two configurations. A configuration that cannot be used leaves the table in
//! force alone, and `ListModels` says so until a good one comes.
//!
//! One function makes a route of a name (`resolve::resolve`): calls, status and `Explain` all go through it.
//! The service holds no secret and opens no connection.

mod egress;
mod grpc;
mod list;
mod names;
mod nearest;
mod resolve;
mod service;
mod table;

pub use service::{Loader, ReloadOutcome, RouterService, build};
pub use table::BuildError;
