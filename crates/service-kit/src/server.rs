//! Serving one router on one bound listener until shutdown: HTTP/1.1 and HTTP/2 on the same port, gRPC among it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::first_word::FirstWord;
use crate::listener::Bound;
use crate::peer::Peer;

/// How long a client may take to say which protocol it speaks, and then for the headers of a request.
const HEADERS: Duration = Duration::from_secs(30);
/// How long streams that are told to end may take.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Streams of one connection from the network that may be reset for a client's faults before the connection is closed:
/// plenty for a client that often gives up, and an end to one that does nothing else.
const MAX_FAULTS: usize = 16 * 1024;
/// Bytes of an answer that may wait here for their reader, beside what the kernel holds.
const MAX_WAITING: usize = 64 * 1024;

/// How to serve.
#[derive(Clone)]
pub struct ServeOptions {
    /// How long open streams may go on after shutdown.
    pub drain: Duration,
    /// TLS for TCP connections.
    pub tls: Option<TlsAcceptor>,
}

impl std::fmt::Debug for ServeOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServeOptions").field("drain", &self.drain).field("tls", &self.tls.is_some()).finish()
    }
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self { drain: Duration::from_secs(30), tls: None }
    }
}

/// Tells a handler when the drain is over: an extension of every request that came over a listener.
#[derive(Clone, Debug, Default)]
pub struct Ending(CancellationToken);

impl Ending {
    /// Waits for the end of the drain. What has something to say then has a second for it.
    pub async fn over(&self) {
        self.0.cancelled().await;
    }
}

/// Lets hyper spawn a connection's streams where the drain sees them.
#[derive(Clone)]
struct Tracked(TaskTracker);

impl<F> hyper::rt::Executor<F> for Tracked
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        drop(self.0.spawn(future));
    }
}

/// Serves until `shutdown`, then stops accepting, lets streams finish for `drain`, tells those that are left to end, and
/// ends what does not.
pub async fn serve(router: axum::Router, listener: Bound, options: ServeOptions, shutdown: CancellationToken) {
    let tasks = TaskTracker::new();
    let (ending, abort) = (Ending::default(), CancellationToken::new());
    let builder = Arc::new(builder(&tasks, &listener));
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener) => accepted,
            () = shutdown.cancelled() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely: trying again at once would spin.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let connection = Connection {
            router: router.clone(),
            peer,
            builder: Arc::clone(&builder),
            tls: options.tls.clone(),
            shutdown: shutdown.clone(),
            ending: ending.clone(),
            abort: abort.clone(),
        };
        drop(tasks.spawn(connection.run(stream)));
    }
    drop(listener);
    tasks.close();
    if tokio::time::timeout(options.drain, tasks.wait()).await.is_err() {
        tracing::warn!(
            open = tasks.len(),
            drain_s = options.drain.as_secs(),
            "streams were still open after the drain"
        );
        ending.0.cancel();
        if tokio::time::timeout(LAST_WORDS, tasks.wait()).await.is_err() {
            abort.cancel();
            // A task that does not even end when it is told to is left behind; the process ends anyway.
            let _ = tokio::time::timeout(LAST_WORDS, tasks.wait()).await;
        }
    }
}

fn builder(tasks: &TaskTracker, listener: &Bound) -> auto::Builder<Tracked> {
    // Callers that cancel streams are normal here; the default closes the whole connection after 1024 of them. On a
    // socket of our own nobody does it to harm.
    let max_faults = match listener {
        Bound::Tcp(_) => Some(MAX_FAULTS),
        Bound::Unix(..) => None,
    };
    let mut builder = auto::Builder::new(Tracked(tasks.clone()));
    builder
        .http1()
        .timer(TokioTimer::new())
        // A client that never finishes its headers must not hold a connection for ever.
        .header_read_timeout(HEADERS)
        // Also the most bytes that the headers of a request may have.
        .max_buf_size(MAX_WAITING);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20))
        .max_concurrent_streams(4096)
        .max_local_error_reset_streams(max_faults)
        .max_send_buf_size(MAX_WAITING)
        .initial_stream_window_size(1024 * 1024)
        .initial_connection_window_size(4 * 1024 * 1024)
        .max_header_list_size(64 * 1024);
    builder
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

async fn accept(listener: &Bound) -> io::Result<(Box<dyn Stream>, Peer)> {
    match listener {
        Bound::Tcp(listener) => {
            let (stream, addr) = listener.accept().await?;
            prepare(&stream);
            Ok((Box::new(stream), Peer::Tcp { addr }))
        }
        Bound::Unix(listener, _) => {
            let (stream, _) = listener.accept().await?;
            let uid = stream.peer_cred()?.uid();
            Ok((Box::new(stream), Peer::Unix { uid }))
        }
    }
}

/// Failing at this is no reason to refuse a client: the connection is gone already, or works without.
fn prepare(stream: &TcpStream) {
    // Streams of small events must not wait for each other (Nagle's algorithm).
    let _ = stream.set_nodelay(true);
    // A client that vanished without a word (its host, its network) is found out, also where nothing is sent to it.
    let _ = sockopt::set_socket_keepalive(stream, true);
    let _ = sockopt::set_tcp_keepidle(stream, Duration::from_secs(60));
    let _ = sockopt::set_tcp_keepintvl(stream, Duration::from_secs(15));
    let _ = sockopt::set_tcp_keepcnt(stream, 4);
}

struct Connection {
    router: axum::Router,
    peer: Peer,
    builder: Arc<auto::Builder<Tracked>>,
    tls: Option<TlsAcceptor>,
    shutdown: CancellationToken,
    ending: Ending,
    abort: CancellationToken,
}

impl Connection {
    async fn run(self, stream: Box<dyn Stream>) {
        let stream: Box<dyn Stream> = match &self.tls {
            Some(acceptor) if matches!(self.peer, Peer::Tcp { .. }) => {
                match tokio::time::timeout(Duration::from_secs(10), acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => Box::new(stream),
                    Ok(Err(error)) => {
                        return tracing::debug!(%error, peer = %self.peer.describe(), "TLS handshake failed");
                    }
                    Err(_) => return tracing::debug!(peer = %self.peer.describe(), "TLS handshake took too long"),
                }
            }
            _ => stream,
        };
        let (peer, ending) = (self.peer, self.ending);
        let service = self.router.map_request(move |mut request: http::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(peer);
            request.extensions_mut().insert(ending.clone());
            request.map(Body::new)
        });
        let service = TowerToHyperService::new(service);
        let stream = TokioIo::new(FirstWord::within(HEADERS, stream));
        let connection = self.builder.serve_connection(stream, service);
        let mut connection = std::pin::pin!(connection);
        let mut draining = false;
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, peer = %peer.describe(), "connection ended");
                    }
                    return;
                }
                () = self.shutdown.cancelled(), if !draining => {
                    draining = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = self.abort.cancelled() => return,
            }
        }
    }
}
