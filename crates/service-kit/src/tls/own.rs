//! A process that serves with a certificate of its own, from its start on.

use config::Config;
use domain::{Failure, Reason, service};
use tokio_util::sync::CancellationToken;

use super::MutualTls;
use crate::start_error::StartError;

/// What to do about a certificate of ours that has ended, or soon will have.
pub const RENEW: &str = "sign it anew with `switchboard certs renew`, where the authority is, and copy it here";

/// What `[tls]` names, for a process that is to serve with it.
///
/// # Errors
///
/// Files that do not do; a certificate that has ended: no peer would take it.
pub fn mutual_tls(config: &Config) -> Result<Option<MutualTls>, StartError> {
    let loaded = MutualTls::load(&config.tls).map_err(|error| StartError::Configuration(error.to_string()))?;
    match loaded.as_ref().and_then(MutualTls::ended) {
        Some(ended) => {
            let failure = Failure::new(Reason::RequestInvalid, service::CLI, format!("{ended}; no peer would take it"));
            Err(StartError::Unfit(Box::new(failure.next_step(RENEW))))
        }
        None => Ok(loaded),
    }
}

/// Takes up renewed certificates until `shutdown`.
pub async fn follow(mutual: Option<MutualTls>, shutdown: CancellationToken) {
    if let Some(mutual) = mutual {
        mutual.follow(shutdown).await;
    }
}
