//! One client type over every way to reach a peer, with one concrete error type: [`tonic::Status`].
//!
//! In one process a call goes straight into the peer's router: no socket, no listener, the same layers.
//! Otherwise it goes over HTTP/2, on a unix socket or with mutual TLS, on more than one connection, because a connection
//! that sees too many cancelled streams is closed as a whole.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use domain::{Failure, Reason, service};
use futures_util::future::BoxFuture;
use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::metadata::{MetadataMap, MetadataValue};
use tower::{Service, ServiceExt};
use tracing::{Instrument, field};

use crate::layers::grpc_timeout;
use crate::link::{Link, LinkError, Network, Place};
use crate::peer::Peer;
use crate::status::status_from_failure;
use crate::tls::MutualTls;

/// Says of a status made here that no connection to the peer was made: it has not seen the request.
const UNREACHED: &str = "x-switchboard-unreached";
/// What to do where a certificate is not taken.
const CERTIFICATES: &str = "see that the address is that service's, and look at the certificates of both ends: `switchboard \
                            certs list`, where the authority is; `switchboard certs renew` signs them anew";
/// Connections to one peer.
const CONNECTIONS: usize = 2;
/// Most bytes of one gRPC message: a request body at its usual limit, and its envelope.
pub const MAX_MESSAGE_BYTES: usize = 80 * 1024 * 1024;
/// Most bytes of the message that takes a request to transport-svc: the largest body that can be configured, and its envelope.
/// What is held of them at a time is bounded by `[transport] max_held_bytes`.
pub const MAX_CALL_BYTES: usize = config::MAX_BODY_BYTES + 16 * 1024 * 1024;

/// A client of one peer. Cheap to clone; use it with the generated clients.
#[derive(Clone)]
pub struct PeerChannel {
    /// Who asks, which is where it fails.
    asker: &'static str,
    peer: &'static str,
    way: Way,
}

#[derive(Clone)]
enum Way {
    InProcess(axum::Router),
    Links { place: Place, links: Arc<[Link]>, next: Arc<AtomicUsize> },
}

impl std::fmt::Debug for PeerChannel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PeerChannel({})", self.describe())
    }
}

impl PeerChannel {
    /// A peer in this process: `router` is its service with its layers.
    pub fn in_process(peer: &'static str, router: axum::Router) -> Self {
        Self { asker: service::GATEWAY, peer, way: Way::InProcess(router) }
    }

    /// A peer behind a unix socket. Connects on demand, and again after the peer has gone and come back.
    pub fn unix(peer: &'static str, path: &Path) -> Self {
        Self::at(peer, Place::Socket(path.into()))
    }

    /// A peer at `address`, `host:port`, whose certificate names it. Connects on demand, and again after the peer has gone
    /// and come back, where the name then leads.
    pub fn network(peer: &'static str, address: &str, mutual: &MutualTls) -> Self {
        let (address, mutual) = (address.to_owned(), mutual.clone());
        Self::at(peer, Place::Network(Arc::new(Network { peer, address, mutual })))
    }

    fn at(peer: &'static str, place: Place) -> Self {
        let links = (0..CONNECTIONS).map(|_| Link::new(place.clone())).collect();
        Self { asker: service::GATEWAY, peer, way: Way::Links { place, links, next: Arc::default() } }
    }

    /// As [`Self`], for `asker` in place of the gateway: failures that are made here name it.
    #[must_use]
    pub fn asked_by(self, asker: &'static str) -> Self {
        Self { asker, ..self }
    }

    /// Name of the peer.
    pub fn peer(&self) -> &'static str {
        self.peer
    }

    /// Name and place of the peer, for messages.
    pub fn describe(&self) -> String {
        match &self.way {
            Way::InProcess(_) => format!("{} in this process", self.peer),
            Way::Links { place, .. } => format!("{} at {place}", self.peer),
        }
    }

    fn unavailable(&self, error: &LinkError) -> Status {
        let message = format!("{} does not answer: {error}", self.describe());
        let mut failure = Failure::new(Reason::PeerUnavailable, self.asker, message);
        if error.is_about_certificates() {
            failure = failure.next_step(CERTIFICATES);
        }
        let mut status = status_from_failure(&failure);
        if error.is_unreached() {
            status.metadata_mut().insert(UNREACHED, MetadataValue::from_static("true"));
        }
        status
    }

    /// Our own clock for the call's deadline noticed before the peer's answer about it came.
    fn late(&self) -> Status {
        let message = format!("{} did not answer within the caller's deadline", self.describe());
        status_from_failure(&Failure::new(Reason::Deadline, self.peer, message))
    }

    async fn ask(&self, link: &Link, request: Request<Body>) -> Result<Response<Body>, Status> {
        let limit = grpc_timeout(request.headers());
        let answered = link.send(request);
        let answered = match limit {
            Some(limit) => tokio::time::timeout(limit, answered).await.map_err(|_| self.late())?,
            None => answered.await,
        };
        Ok(answered.map_err(|error| self.unavailable(&error))?.map(Body::new))
    }
}

impl Service<Request<Body>> for PeerChannel {
    type Response = Response<Body>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<Response<Body>, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        // Each call clones what it needs and waits for that to be ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let method = request.uri().path().trim_start_matches('/');
        let span = tracing::info_span!(target: "hop", "rpc", otel.name = method, otel.kind = "client",
            rpc.system = "grpc", peer.service = self.peer, otel.status_code = field::Empty);
        // A peer in this process sees the span itself.
        if matches!(self.way, Way::Links { .. }) {
            telemetry::inject(&span, request.headers_mut());
        }
        let this = self.clone();
        let call = async move {
            match &this.way {
                Way::InProcess(router) => {
                    request.extensions_mut().insert(Peer::InProcess);
                    let request = request.map(axum::body::Body::new);
                    match router.clone().oneshot(request).await {
                        Ok(response) => Ok(response.map(Body::new)),
                        Err(never) => match never {},
                    }
                }
                Way::Links { links, next, .. } => {
                    let i = next.fetch_add(1, Ordering::Relaxed) % links.len().max(1);
                    let link = links.get(i).ok_or_else(|| Status::internal("no connection"))?;
                    this.ask(link, request).await
                }
            }
        };
        Box::pin(call.instrument(span))
    }
}

/// Where an answer was given, as the peer's layers say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HopInfo {
    /// Host of the peer; empty if it did not answer.
    pub host: String,
    /// Id of its span, 16 hex digits; empty if it has none.
    pub span_id: String,
    /// Digest of the route table that a refusal of router-svc comes from; empty elsewhere.
    pub route_table: String,
    /// True if no connection to the peer was made: it has not seen the request.
    pub unreached: bool,
}

/// Reads where an answer (or an error status) was given.
pub fn hop_info(metadata: &MetadataMap) -> HopInfo {
    let text = |name| metadata.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    HopInfo {
        host: text("x-switchboard-host"),
        span_id: text("x-switchboard-span"),
        route_table: text("x-switchboard-route-table"),
        unreached: metadata.contains_key(UNREACHED),
    }
}
