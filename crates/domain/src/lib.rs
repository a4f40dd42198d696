//! Pure types and rules: model names, the one table of reasons, failures, execution traces, server-sent events, time.
//! Nothing here is async, opens a file or a socket, or knows a protocol crate.

mod candidate;
mod clock;
mod failure;
mod model_ref;
mod reason;
mod reason_table;
pub mod sse;
mod trace;
mod window;

pub use candidate::{Candidate, CandidateReason};
pub use clock::Clock;
pub use failure::{Failure, service};
pub use model_ref::ModelRef;
pub use reason::{After, GrpcCode, Reason, Row};
pub use trace::{Attempt, AttemptResult, ExecutionTrace, Hop, Usage};
pub use window::window_name;

/// A new id for a call: a UUID v7, so that ids sort by time.
pub fn new_call_id() -> String {
    uuid::Uuid::now_v7().to_string()
}
