//! The service: what it is built from, and what it shares among calls.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use config::Config;
use domain::{Clock, Failure, Reason, service};
use proto::transport::v1::SealedCredential;
use proto::transport::v1::transport_service_server::TransportServiceServer;
use service_kit::admin::{Readiness, Upkeep};
use service_kit::{
    ByteRoom, CallRoom, DataDir, Full, KeyFileError, MAX_CALL_BYTES, MAX_MESSAGE_BYTES, Mounted, SealKey, SecretKey,
    ServiceLayers,
};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cookies::Cookies;
use crate::grpc::Grpc;
use crate::open::{self, Opener};
use crate::pool::{Lease, Pool};
use crate::targets::{Endpoint, Target, Targets};

/// File of the seal key in the data directory, where the configuration names none.
const SEAL_KEY_FILE: &str = "seal.key";
/// How long stopped calls get to end.
const STOP_TIME: Duration = Duration::from_secs(1);
/// What surrounds a body on its way here: headers, and the seal.
const ENVELOPE_BYTES: usize = 1024 * 1024;

/// What the service is built from.
#[derive(Debug)]
pub struct TransportOptions<'a> {
    /// The whole configuration.
    pub config: &'a Config,
    /// The key that auth-svc seals with; `None` reads `[transport] seal_key_file`, else `<data dir>/seal.key`.
    pub seal_key: Option<SealKey>,
    /// The data directory.
    pub data_dir: &'a DataDir,
    /// Time, for seals and resets.
    pub clock: Clock,
}

/// The service cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A key of a target.
    #[error("[targets.{id}] {key}: {cause}")]
    Target {
        /// The target.
        id: String,
        /// The key.
        key: &'static str,
        /// What is wrong.
        cause: String,
    },
    /// The seal key.
    #[error("[transport] seal_key_file: {0}")]
    SealKey(KeyFileError),
    /// The additional authorities.
    #[error("[transport] ca_file {path}: {cause}")]
    Authorities {
        /// The file.
        path: String,
        /// What is wrong.
        cause: String,
    },
    /// The proxy; its URL may hold a password and is not shown.
    #[error(
        "[transport] proxy, or that of its egress: it is not the URL of a proxy; http, https, socks5 and socks5h are known"
    )]
    Proxy,
    /// The HTTP client.
    #[error("the HTTP client cannot be made: {0}")]
    Client(String),
}

impl BuildError {
    /// True if the configuration or a file that it names is at fault.
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Target { .. } | Self::SealKey(_) | Self::Authorities { .. } | Self::Proxy => true,
            Self::Client(_) => false,
        }
    }
}

/// transport-svc, without a listener. Clones are the same service.
#[derive(Clone)]
pub struct TransportService {
    inner: Arc<Inner>,
}

impl fmt::Debug for TransportService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransportService").field("egress", &self.inner.egress).finish_non_exhaustive()
    }
}

/// What calls share.
#[derive(Debug)]
pub(crate) struct Inner {
    targets: Targets,
    pool: Pool,
    pub(crate) opener: Opener,
    pub(crate) cookies: Cookies,
    pub(crate) clock: Clock,
    /// Name of this egress.
    pub(crate) egress: Arc<str>,
    pub(crate) headers_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) stopping: CancellationToken,
    pub(crate) open_calls: TaskTracker,
    /// For upstream requests.
    places: CallRoom,
    /// For the bodies that they send.
    bodies: ByteRoom,
}

/// Builds the service. It connects on demand only.
///
/// # Errors
///
/// The first target, key, authority or proxy setting that cannot be used.
pub fn build(options: TransportOptions<'_>) -> Result<TransportService, BuildError> {
    let TransportOptions { config, seal_key, data_dir, clock } = options;
    let seal_key = match seal_key {
        Some(key) => key,
        None => {
            let configured = config.transport.seal_key_file.clone();
            let path = configured.unwrap_or_else(|| data_dir.file(SEAL_KEY_FILE));
            SecretKey::read(&path).map_err(BuildError::SealKey)?.into()
        }
    };
    let targets = Targets::new(config)?;
    let pool = Pool::new(config, &targets)?;
    let inner = Inner {
        targets,
        pool,
        opener: Opener::new(seal_key, clock.clone()),
        cookies: Cookies::new(clock.clone()),
        clock,
        egress: config.transport.name.as_str().into(),
        headers_timeout: config.transport.headers_timeout.duration(),
        idle_timeout: config.transport.idle_timeout.duration(),
        stopping: CancellationToken::new(),
        open_calls: TaskTracker::new(),
        places: places(config),
        bodies: bodies(config),
    };
    Ok(TransportService { inner: Arc::new(inner) })
}

fn places(config: &Config) -> CallRoom {
    let (egress, most) = (&config.transport.name, config.transport.max_calls);
    let full = Full {
        service: service::TRANSPORT,
        what: "upstream",
        message: format!("egress {egress} has {most} upstream requests under way, as many as it takes"),
        next_step: "wait and retry, add an egress, or raise `[transport] max_calls`",
    };
    CallRoom::new(most, full)
}

fn bodies(config: &Config) -> ByteRoom {
    let least = config.gateway.max_body_bytes.saturating_add(ENVELOPE_BYTES);
    let (egress, most) = (&config.transport.name, config.transport.max_held_bytes.max(least));
    let full = Full {
        service: service::TRANSPORT,
        what: "upstream_bytes",
        message: format!("egress {egress} holds request bodies of {most} bytes, as many as it takes"),
        next_step: "wait and retry, add an egress, or raise `[transport] max_held_bytes`",
    };
    ByteRoom::new(most, full)
}

impl TransportService {
    /// Its gRPC service, open to processes of the same user only.
    pub fn mounted(&self) -> Mounted {
        let server = TransportServiceServer::new(Grpc(Arc::clone(&self.inner)))
            .max_decoding_message_size(MAX_CALL_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        Mounted::new().add(server).counted(&self.inner.bodies).layered(ServiceLayers::trusted(service::TRANSPORT))
    }

    /// Ready until it is stopped: key, targets and client were found good when it was built, and an upstream that does
    /// not answer is a call's affair.
    pub fn readiness(&self) -> Readiness {
        let inner = Arc::clone(&self.inner);
        Arc::new(move || {
            let stopping = inner.stopping.is_cancelled();
            Box::pin(async move {
                let stopped = || Failure::new(Reason::PeerUnavailable, service::TRANSPORT, "transport-svc is stopping");
                if stopping { Err(stopped()) } else { Ok(()) }
            })
        })
    }

    /// What is to be done every few seconds.
    pub fn upkeep(&self) -> Upkeep {
        let inner = Arc::clone(&self.inner);
        Arc::new(move || inner.pool.sweep())
    }

    /// Ends the calls that are still open, each with a status that says so, and waits up to a second for them.
    pub async fn shutdown(&self) {
        self.inner.stopping.cancel();
        self.inner.open_calls.close();
        if tokio::time::timeout(STOP_TIME, self.inner.open_calls.wait()).await.is_err() {
            tracing::warn!(open = self.inner.open_calls.len(), "upstream requests were still open at the end");
        }
    }
}

impl Inner {
    /// The target of this id.
    pub(crate) fn target(&self, id: &str) -> Result<Arc<Target>, Failure> {
        self.target_for(id, None)
    }

    /// The target of this id, where this credential is sealed for: at its own origin, or at one that the account's
    /// workspace may demand.
    pub(crate) fn target_for(&self, id: &str, sealed: Option<&SealedCredential>) -> Result<Arc<Target>, Failure> {
        self.targets.get(id, sealed.map(|sealed| sealed.origin.as_str())).cloned().ok_or_else(|| {
            let known = self.targets.names();
            open::refusal(format!(
                "egress {} has no target {id:?} to send the credential to; it has {known}",
                self.egress
            ))
        })
    }

    /// A client for one request to `endpoint`, and the request's place among all.
    pub(crate) fn lease(&self, endpoint: &Endpoint) -> Result<Lease, Failure> {
        let lease = self.pool.lease(&endpoint.base, self.places.take()?);
        lease.map_err(|e| Failure::new(Reason::Internal, service::TRANSPORT, e.to_string()))
    }
}
