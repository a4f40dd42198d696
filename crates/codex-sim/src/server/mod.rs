//! Listening, accepting, and the end of it all.
//!
//! Every task runs in one tracker and ends by one token: [`Sim::stop`] returns when nothing of the
//! simulator runs any more, so that a test that counts tasks or sockets sees a clean house.

pub(crate) mod line;
mod tls;

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use hyper::{body::Incoming, rt::Executor, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use self::line::{Ending, Leaving, Line, LiveConnection, Socket, Wire};
use crate::{
    config::{SimConfig, TlsMode},
    route,
    state::SimState,
};

/// A client that does not finish its TLS handshake is let go.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the end of an answer gets to reach the wire before its idle connection is closed.
const LAST_BYTES: Duration = Duration::from_millis(25);
/// Connections end at once when stopped; this bounds the wait if one does not.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a simulator could not start.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// The address could not be bound.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The certificate could not be made.
    #[error("cannot make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// TLS refused its configuration.
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
    /// The certificate's key could not be read back.
    #[error("cannot use the certificate's key: {0}")]
    Key(&'static str),
}

/// A running simulator. It stops when dropped; [`Sim::stop`] also waits.
pub struct Sim {
    address: SocketAddr,
    state: SimState,
    ca_pem: Option<String>,
    tracker: TaskTracker,
    stop: DropGuard,
}

impl Sim {
    /// Binds and serves. The address is final when this returns.
    pub async fn start(config: SimConfig) -> Result<Self, SimError> {
        let authority = config.tls.map(|_| tls::authority(&config)).transpose()?;
        let listen_error = |source| SimError::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(listen_error)?;
        let address = listener.local_addr().map_err(listen_error)?;
        let scheme = if config.tls.is_some() { "https" } else { "http" };
        let (acceptor, ca_pem) = match authority {
            Some(authority) => (Some(authority.acceptor), Some(authority.ca_pem)),
            None => (None, None),
        };

        let state = SimState::new(config);
        state.set_base_url(url(scheme, address));
        let tracker = TaskTracker::new();
        let stop = CancellationToken::new();
        let server = Server { state: state.clone(), acceptor, tracker: tracker.clone(), stop: stop.clone() };
        tracker.spawn(server.accept(listener));
        Ok(Self { address, state, ca_pem, tracker, stop: stop.drop_guard() })
    }

    /// `http://127.0.0.1:PORT`, or https. A listener on all addresses is named by its loopback address.
    pub fn base_url(&self) -> String {
        self.state.base_url().to_owned()
    }

    /// The plain HTTP address of a simulator that serves both schemes.
    pub fn plain_base_url(&self) -> Option<String> {
        let plain = self.state.config().tls != Some(TlsMode::Only);
        plain.then(|| url("http", self.address))
    }

    /// What stands for `https://chatgpt.com/backend-api/codex`.
    pub fn codex_base_url(&self) -> String {
        format!("{}/backend-api/codex", self.state.base_url())
    }

    /// What stands for `https://api.openai.com/v1`.
    pub fn openai_base_url(&self) -> String {
        format!("{}/v1", self.state.base_url())
    }

    /// The bound address.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// The certificate to trust, if TLS is served.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// Control and records.
    pub fn state(&self) -> &SimState {
        &self.state
    }

    /// Stops listening, drops all connections, and waits for their tasks.
    pub async fn stop(self) {
        drop(self.stop);
        self.state.drop_connections();
        self.tracker.close();
        if tokio::time::timeout(STOP_TIMEOUT, self.tracker.wait()).await.is_err() {
            tracing::warn!(tasks = self.tracker.len(), "simulator stopped with tasks left");
        }
    }
}

impl fmt::Debug for Sim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sim").field("base_url", &self.state.base_url()).finish_non_exhaustive()
    }
}

fn url(scheme: &str, address: SocketAddr) -> String {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    format!("{scheme}://{}", SocketAddr::new(ip, address.port()))
}

/// What every connection's task needs.
#[derive(Clone)]
struct Server {
    state: SimState,
    acceptor: Option<TlsAcceptor>,
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Server {
    async fn accept(self, listener: TcpListener) {
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((tcp, _)) => {
                    self.tracker.spawn(self.clone().connection(tcp));
                }
                Err(error) => {
                    // Out of file descriptors, most likely: waiting is all that helps.
                    tracing::warn!(%error, "accepting a connection failed");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    async fn connection(self, tcp: TcpStream) {
        let live = LiveConnection::count(&self.state);
        let over = self.state.connection_token().child_token();
        // Events are small and must not wait for each other.
        let _ = tcp.set_nodelay(true);
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = over.cancelled() => {}
            () = self.serve(tcp, live.id, &over) => {}
        }
    }

    async fn serve(&self, tcp: TcpStream, id: u64, over: &CancellationToken) {
        let either = self.state.config().tls == Some(TlsMode::AlsoPlain);
        let acceptor = match &self.acceptor {
            Some(acceptor) if !either || starts_tls(&tcp).await => acceptor,
            _ => {
                let line = Line::new(id, false, over.clone());
                return self.serve_http(Socket::new(tcp, Arc::clone(&line)), line).await;
            }
        };
        let line = Line::new(id, true, over.clone());
        let handshake = acceptor.accept(Socket::new(tcp, Arc::clone(&line)));
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
            Ok(Ok(stream)) => self.serve_http(stream, line).await,
            Ok(Err(_)) | Err(_) => {
                self.state.counters().failed_handshakes.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    async fn serve_http<S>(&self, stream: S, line: Arc<Line>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service =
            service_fn(|request: http::Request<Incoming>| route::serve(self.state.clone(), Arc::clone(&line), request));
        let builder = self.builder();
        let wire = Wire::new(stream, Arc::clone(&line));
        let mut connection = pin!(builder.serve_connection(TokioIo::new(wire), service));
        // Errors are the clients' affair here: a record says what became of each request.
        let left = tokio::select! {
            _ = connection.as_mut() => return,
            left = line.left() => left,
        };
        match left {
            Leaving::WhenAnswered => {
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            }
            Leaving::WhenIdle => {
                let _ = tokio::time::timeout(LAST_BYTES, connection).await;
                line.end(Ending::Close);
            }
        }
    }

    fn builder(&self) -> auto::Builder<Tracked> {
        let config = self.state.config();
        let mut builder = auto::Builder::new(Tracked(self.tracker.clone()));
        // Clients keep idle connections for as long as they like.
        builder.http1().timer(TokioTimer::new()).header_read_timeout(None);
        let streams = config.max_concurrent_streams.unwrap_or(200);
        // A client that cancels many streams is a test, not an attack.
        builder.http2().timer(TokioTimer::new()).max_concurrent_streams(streams).max_local_error_reset_streams(None);
        if config.http2 { builder } else { builder.http1_only() }
    }
}

/// Whether the first byte opens a TLS handshake. A client that sends nothing is waited for.
async fn starts_tls(tcp: &TcpStream) -> bool {
    let mut first = [0];
    matches!(tcp.peek(&mut first).await, Ok(1) if first[0] == 0x16)
}

/// Runs hyper's per-stream tasks in the tracker.
#[derive(Clone)]
struct Tracked(TaskTracker);

impl<F> Executor<F> for Tracked
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}
