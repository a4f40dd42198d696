//! Pure types and rules: model names, the one table of reasons, failures, execution traces, server-sent events, time.
//! Nothing here is async, opens a file or a socket, or knows a protocol crate.

mod candidate;
mod clock;
mod failure;
mod model_ref;
mod reason;
mod reason_table;
pub mod sse;
mod time;
mod trace;
mod window;

pub use candidate::{Candidate, CandidateReason};
pub use clock::Clock;
pub use failure::{Failure, listing, service};
pub use model_ref::ModelRef;
pub use reason::{After, GrpcCode, Reason, Row};
pub use time::{DAY_S, day_of, span, timestamp, timestamp_ms, when};
pub use trace::{Attempt, AttemptResult, ExecutionTrace, Hop, Usage};
pub use window::{MAIN_LIMIT, window_name};

/// A new id for a call: a UUID v7, so that ids sort by time.
pub fn new_call_id() -> String {
    uuid::Uuid::now_v7().to_string()
}
