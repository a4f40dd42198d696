//! The services that the gateway works with, and where they are.

use std::collections::BTreeMap;

use domain::service::{AUTH, ROUTER, TRANSPORT};
use service_kit::startup::{StartError, peer_channel};
use service_kit::tls::MutualTls;
use service_kit::{DataDir, PeerChannel};

/// The services that the gateway works with.
#[derive(Clone, Debug)]
pub struct Peers {
    /// router-svc.
    pub router: PeerChannel,
    /// auth-svc.
    pub auth: PeerChannel,
    /// transport-svc by egress name, as in `[gateway.transports]`.
    pub transports: BTreeMap<String, PeerChannel>,
}

impl Peers {
    /// Peers in processes of their own: at the configured addresses, else at the sockets of the data directory.
    ///
    /// # Errors
    ///
    /// An address of another kind, or of another host without mutual TLS.
    pub fn elsewhere(config: &config::Gateway, dir: &DataDir, mutual: Option<&MutualTls>) -> Result<Self, StartError> {
        let mut transports = BTreeMap::new();
        for (name, egress) in &config.transports {
            // There is no transport in this process: "in-process" means the one that shares the data directory.
            let address = Some(egress.address.as_str()).filter(|a| *a != "in-process");
            transports.insert(name.clone(), peer_channel(dir, TRANSPORT, address, mutual)?);
        }
        Ok(Self {
            router: peer_channel(dir, ROUTER, config.router.as_deref(), mutual)?,
            auth: peer_channel(dir, AUTH, config.auth.as_deref(), mutual)?,
            transports,
        })
    }
}
