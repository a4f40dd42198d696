//! Credentials: the one owner of refresh tokens. Stores them encrypted, refreshes them once, decides which of them a
//! route is bound to, and hands an access token out only under a seal.
//!
//! `CheckBinding` (what status shows) and `Bind` (what a call gets) are one function, `Binder::decide` in `bind`.

mod audit;
mod backup;
mod bind;
mod database_key;
mod diagnose;
mod error;
mod export;
mod fail_point;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod grpc;
mod identity;
pub mod import;
mod jwt;
mod keys;
mod login;
mod names;
mod refresh;
mod service;
mod start;
mod store;
mod vault;
mod way_back;
mod workspace;

pub use error::BuildError;
pub use service::AuthService;
pub use start::{AuthOptions, build};
pub use store::Upgraded;
