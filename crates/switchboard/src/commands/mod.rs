//! One module for each command.

pub(crate) mod call;
pub(crate) mod calls;
pub(crate) mod config;
pub(crate) mod credentials;
pub(crate) mod demo;
pub(crate) mod explain;
pub(crate) mod health;
pub(crate) mod import;
pub(crate) mod keys;
pub(crate) mod login;
pub(crate) mod models;
pub(crate) mod up;
