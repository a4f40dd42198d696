//! One module for each command.

pub(crate) mod audit;
pub(crate) mod backup;
pub(crate) mod call;
pub(crate) mod calls;
pub(crate) mod certificates;
pub(crate) mod certs;
pub(crate) mod config;
pub(crate) mod credentials;
pub(crate) mod demo;
pub(crate) mod doctor;
mod egress;
pub(crate) mod explain;
pub(crate) mod export;
pub(crate) mod health;
pub(crate) mod import;
pub(crate) mod keys;
pub(crate) mod login;
pub(crate) mod logout;
pub(crate) mod models;
pub(crate) mod quota;
mod remove;
pub(crate) mod restore;
pub(crate) mod up;
