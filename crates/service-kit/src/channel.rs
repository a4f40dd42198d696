//! One client type over every way to reach a peer, with one concrete error type: [`tonic::Status`].
//!
//! In one process a call goes straight into the peer's router: no socket, no listener, the same layers.
//! Otherwise it goes over HTTP/2 on a unix socket, on more than one connection, because a connection that sees too
//! many cancelled streams is closed as a whole.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use domain::{Failure, Reason, service};
use futures_util::future::BoxFuture;
use http::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::body::Body;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{ConnectError, Status, TimeoutExpired};
use tower::{Service, ServiceExt, service_fn};
use tracing::{Instrument, field};

use crate::peer::Peer;
use crate::status::status_from_failure;

/// Says of a status made here that no connection to the peer was made: it has not seen the request.
const UNREACHED: &str = "x-switchboard-unreached";
/// Connections to one peer.
const CONNECTIONS: usize = 2;
/// Most bytes of one gRPC message between our services: a request body at its limit, and its envelope.
pub const MAX_MESSAGE_BYTES: usize = 80 * 1024 * 1024;

/// A client of one peer. Cheap to clone; use it with the generated clients.
#[derive(Clone)]
pub struct PeerChannel {
    peer: &'static str,
    way: Way,
}

#[derive(Clone)]
enum Way {
    InProcess(axum::Router),
    Socket { path: Arc<PathBuf>, channels: Arc<[Channel]>, next: Arc<AtomicUsize> },
}

impl std::fmt::Debug for PeerChannel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PeerChannel({})", self.describe())
    }
}

impl PeerChannel {
    /// A peer in this process: `router` is its service with its layers.
    pub fn in_process(peer: &'static str, router: axum::Router) -> Self {
        Self { peer, way: Way::InProcess(router) }
    }

    /// A peer behind a unix socket. Connects on demand, and again after the peer has gone and come back.
    pub fn unix(peer: &'static str, path: &Path) -> Self {
        let path = Arc::new(path.to_owned());
        let channels = (0..CONNECTIONS).map(|_| connect(Arc::clone(&path))).collect();
        Self { peer, way: Way::Socket { path, channels, next: Arc::default() } }
    }

    /// Name of the peer.
    pub fn peer(&self) -> &'static str {
        self.peer
    }

    /// Name and place of the peer, for messages.
    pub fn describe(&self) -> String {
        match &self.way {
            Way::InProcess(_) => format!("{} in this process", self.peer),
            Way::Socket { path, .. } => format!("{} at unix://{}", self.peer, path.display()),
        }
    }

    fn unavailable(&self, error: &(dyn std::error::Error + 'static)) -> Status {
        // tonic's own text is "transport error"; the cause says what happened.
        let (mut cause, mut unreached) = (error.to_string(), error.is::<ConnectError>());
        let mut source = error.source();
        while let Some(inner) = source {
            if inner.is::<TimeoutExpired>() {
                // Our own clock for the call's deadline noticed before the peer's answer about it came.
                let message = format!("{} did not answer within the caller's deadline", self.describe());
                return status_from_failure(&Failure::new(Reason::Deadline, self.peer, message));
            }
            unreached |= inner.is::<ConnectError>();
            cause = inner.to_string();
            source = inner.source();
        }
        let message = format!("{} does not answer: {cause}", self.describe());
        let mut status = status_from_failure(&Failure::new(Reason::PeerUnavailable, service::GATEWAY, message));
        if unreached {
            status.metadata_mut().insert(UNREACHED, MetadataValue::from_static("true"));
        }
        status
    }
}

/// Bytes of one stream that may wait for its reader, and so the memory that a reader who has stopped costs.
const STREAM_WINDOW: u32 = 256 * 1024;
/// As much for all streams of a connection together that they do not hold each other up: callers who stop reading must
/// not stop the others.
const CONNECTION_WINDOW: u32 = 1024 * 1024 * 1024;

fn connect(path: Arc<PathBuf>) -> Channel {
    // The authority is not used: the connector knows where to go.
    Endpoint::from_static("http://localhost")
        .http2_keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .connect_timeout(Duration::from_secs(5))
        .connect_with_connector_lazy(service_fn(move |_| {
            let path = Arc::clone(&path);
            async move { dial(&path).await.map(TokioIo::new) }
        }))
}

/// Connects to a socket, and looks who serves it: in a directory that others can write to it may be anybody.
async fn dial(path: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(path).await?;
    let uid = stream.peer_cred()?.uid();
    if !may_serve(uid, rustix::process::geteuid().as_raw()) {
        let message = format!("the socket is served by user id {uid}, which is neither this user nor root");
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
    }
    Ok(stream)
}

/// True if a process of user `own` may take a server of user `uid` for Switchboard's. Root serves everybody, and knows
/// whom it asks.
fn may_serve(uid: u32, own: u32) -> bool {
    uid == own || uid == 0 || own == 0
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
        telemetry::inject(&span, request.headers_mut());
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
                Way::Socket { channels, next, .. } => {
                    let i = next.fetch_add(1, Ordering::Relaxed) % channels.len().max(1);
                    let channel = channels.get(i).cloned().ok_or_else(|| Status::internal("no connection"))?;
                    channel.oneshot(request).await.map_err(|e| this.unavailable(&e))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strangers_socket_is_no_peer() {
        assert!(may_serve(1000, 1000) && may_serve(0, 1000) && may_serve(1000, 0));
        assert!(!may_serve(1001, 1000));
    }
}
