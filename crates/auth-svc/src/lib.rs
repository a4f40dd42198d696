//! Credentials: the one owner of refresh tokens. Stores them encrypted, refreshes them once, decides which of them a
//! route is bound to, and hands an access token out only under a seal.
//!
//! `CheckBinding` (what status shows) and `Bind` (what a call gets) are one function, `Binder::decide` in `bind`.

mod bind;
mod error;
mod grpc;
mod identity;
pub mod import;
mod jwt;
mod keys;
mod login;
mod refresh;
mod service;
mod start;
mod store;
mod vault;

pub use error::BuildError;
pub use service::AuthService;
pub use start::{AuthOptions, build};
