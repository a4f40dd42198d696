//! The gateway as one service: built from configuration and peers, mounted on listeners by whoever starts it.

use std::sync::Arc;
use std::time::Duration;

use config::Config;
use domain::{Clock, service};
use proto::gateway::v1::gateway_service_server::GatewayServiceServer;
use service_kit::admin::{Admin, Gauges, Readiness};
use service_kit::tls::{FrontTls, TlsError};
use service_kit::{MAX_MESSAGE_BYTES, Mounted, ServeOptions, ServiceLayers};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::catalogue::Catalogues;
use crate::core::Core;
use crate::egress::{Health, Settings};
use crate::grpc::{Admitting, Grpc};
use crate::http;
use crate::keys::Keys;
use crate::limits::Limits;
use crate::links::Links;
use crate::models::Recent;
use crate::peers::Peers;
use crate::pipeline::Reports;
use crate::records::Records;
use crate::recovery;
use crate::retry::RetryBudget;
use crate::room::{Measures, Room};
use crate::usage::{self, Collector};
use crate::workspaces::Workspaces;

/// The gateway cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// No way out.
    #[error("[gateway.transports] names no egress: calls could not leave; add `[gateway.transports.local]`")]
    NoEgress,
    /// Half of TLS.
    #[error("[gateway] {present} is set and {missing} is not: set both, or neither for plaintext")]
    TlsHalf {
        /// The key that is set.
        present: &'static str,
        /// The key that is not.
        missing: &'static str,
    },
    /// TLS files that do not do.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// The front door.
#[derive(Clone)]
pub struct GatewayService {
    core: Arc<Core>,
}

impl std::fmt::Debug for GatewayService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GatewayService").field("tasks", &self.core.tasks.len()).finish_non_exhaustive()
    }
}

/// Builds the gateway; it listens nowhere yet. Must be called inside a runtime: what it gathers it tells auth-svc from
/// tasks of its own, until [`GatewayService::shutdown`].
///
/// # Errors
///
/// [`BuildError::NoEgress`] if there is no transport.
pub fn build(config: &Config, peers: Peers, clock: Clock) -> Result<GatewayService, BuildError> {
    let (links, tasks, closing) =
        (Arc::new(Links::new(peers, &config.gateway)?), TaskTracker::new(), CancellationToken::new());
    let health = Arc::new(Health::new(Settings::of(&config.gateway), clock.clone()));
    let core = Core {
        keys: Keys::new(Arc::clone(&links), clock.clone(), tasks.clone(), closing.clone()),
        limits: Limits::default(),
        links,
        records: Records::default(),
        usage: Collector::default(),
        catalogues: Catalogues::default(),
        workspaces: Workspaces::default(),
        recent_models: Recent::default(),
        clock,
        tasks,
        closing,
        max_body_bytes: config.gateway.max_body_bytes,
        room: Room::new(measures(&config.gateway)),
        body_timeout: config.gateway.body_timeout.duration(),
        keep_alive: config.gateway.keep_alive.duration(),
        max_attempts: config.gateway.max_attempts,
        health,
        retries: RetryBudget::new(config.gateway.retry_percent),
        reports: Reports::default(),
    };
    let core = Arc::new(core);
    usage::start(&core);
    if config.gateway.circuit_probe {
        recovery::start(&core);
    }
    Ok(GatewayService { core })
}

fn measures(config: &config::Gateway) -> Measures {
    Measures {
        calls: config.max_calls,
        bytes: config.max_held_bytes.max(config.max_body_bytes),
        key_percent: config.max_key_share,
        body_bytes: config.max_body_bytes,
    }
}

/// How the agents' port and the operator's socket are served.
pub fn serve_options(config: &config::Gateway, tls: Option<&FrontTls>) -> ServeOptions {
    ServeOptions {
        drain: Duration::from_secs(config.drain_seconds),
        tls: tls.map(FrontTls::acceptor),
        mutual: None,
        max_connections: config.max_connections,
        headers_timeout: config.headers_timeout.duration(),
        idle_timeout: Some(config.idle_timeout.duration()),
        reader_timeout: Some(config.reader_timeout.duration()),
        counted: true,
    }
}

impl GatewayService {
    /// What stands on the agents' port: gRPC, and HTTP with a JSON answer for every unknown path.
    pub fn mounted(&self) -> Mounted {
        self.grpc().merge_http(http::router(&self.core)).layered(ServiceLayers::open(service::GATEWAY))
    }

    /// What stands on the operator's socket: gRPC alone, without a fallback, so that other services fit beside it.
    pub fn control(&self) -> Mounted {
        self.grpc().layered(ServiceLayers::open(service::GATEWAY))
    }

    fn grpc(&self) -> Mounted {
        let service = GatewayServiceServer::new(Grpc::new(Arc::clone(&self.core)))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        Mounted::new().add(Admitting::new(service, Arc::clone(&self.core)))
    }

    /// Ready when every peer answers.
    pub fn readiness(&self) -> Readiness {
        let core = Arc::clone(&self.core);
        Arc::new(move || {
            let core = Arc::clone(&core);
            Box::pin(async move { core.links.check().await })
        })
    }

    /// The gauges of its egresses, for the admin port.
    pub fn gauges(&self) -> Gauges {
        let core = Arc::clone(&self.core);
        Arc::new(move || {
            let samples = core.health.gauges();
            Box::pin(async move { samples })
        })
    }

    /// What its admin port serves.
    pub fn admin(&self) -> Admin {
        Admin::from(self.readiness()).gauges(self.gauges())
    }

    /// Waits for the reports to auth-svc that are under way; each gets one more try, and what was gathered is told.
    pub async fn shutdown(&self) {
        self.core.closing.cancel();
        self.core.tasks.close();
        self.core.tasks.wait().await;
    }
}
