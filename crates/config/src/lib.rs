//! The whole configuration: types, defaults, merging, checking, and where each value comes from.
//!
//! Layering stands on the `toml` crate alone, not on figment. What a user needs from an error is the line of the file,
//! every problem at once, and one spelling for `chatgpt-codex` and `CHATGPT_CODEX`; figment keeps no lines, stops at
//! serde's first complaint, and turns the variable `7411` into a number before anyone knows that the key is text. With
//! a table of the keys and their types (`schema`) the layers are a map from path to value and source, and merging is
//! insertion.
//!
//! The defaults are [`DEFAULT_FILE`], which is also the documentation. Nothing here reads the process environment or
//! prints: the command hands both in and decides.

mod check;
mod key;
mod layers;
mod load;
mod problem;
mod redact;
mod schema;
mod show;
mod types;

pub use check::check;
pub use load::{LoadOptions, Loaded, load};
pub use problem::{ConfigError, Problem, Source};
pub use redact::redact;
pub use show::show;
pub use types::{
    Agent, Auth, Config, Defaults, Egress, EgressRule, Gateway, HoistInstructions, LogFormat, Model, ParseSecondsError,
    Provider, Realm, Router, Seconds, Target, TargetKind, Telemetry, Tls, Transport, Way,
};

/// Most bytes that `[gateway] max_body_bytes` may be: 1 GiB.
pub const MAX_BODY_BYTES: usize = 1024 * 1024 * 1024;

/// The embedded default file: what the defaults are parsed from, and the documentation of every key.
pub const DEFAULT_FILE: &str = include_str!("default.toml");

/// The name of the configuration file in the data directory.
pub const FILE_NAME: &str = "switchboard.toml";
