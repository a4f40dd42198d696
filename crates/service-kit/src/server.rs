//! Serving one router on one bound listener until shutdown: HTTP/1.1 and HTTP/2 on the same port, gRPC among it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioTimer;
use hyper_util::server::conn::auto;
use rustix::net::sockopt;
use socket2::SockRef;
use telemetry::metrics;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::connection::Connection;
use crate::listener::Bound;
use crate::peer::Peer;
use crate::stall::Streams;
use crate::tls::{self, MutualTls};
use crate::watch::{Patience, Watch};

/// How long a client may take to say which protocol it speaks, and then for the headers of a request, where nothing else
/// is said.
const HEADERS: Duration = Duration::from_secs(30);
/// Time between two log lines about connections that were refused.
const TOLD_EVERY: Duration = Duration::from_secs(10);
/// How long streams that are told to end may take.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Streams of one connection from the network that may be reset for a client's faults before the connection is closed:
/// plenty for a client that often gives up, and an end to one that does nothing else.
const MAX_FAULTS: usize = 16 * 1024;
/// Streams of one connection from the network that a client may give up before they are looked at: what comes at once when
/// a client stops all of its calls, and an end to one that does nothing else.
const MAX_UNSEEN: usize = 1000;
/// How long a client may be silent before it is asked for a sign of life; the same where other hosts connect.
const PING: Duration = Duration::from_secs(30);
const PING_HOSTS: Duration = Duration::from_secs(10);
/// Streams of one connection from the network at a time.
const MAX_STREAMS: u32 = 1000;
/// As much on a socket of our own, where one gateway's calls come: more than there can be.
const MAX_INTERNAL_STREAMS: u32 = 1_000_000;
/// Connections at a time, to a port with mutual TLS, of those who have not shown a certificate yet.
pub(crate) const MAX_STRANGERS: usize = 256;
/// Most bytes of the headers of a request.
const MAX_HEADER_BYTES: u32 = 32 * 1024;
/// Bytes of an answer that may wait here for their reader, beside what the kernel holds.
const MAX_WAITING: usize = 64 * 1024;
/// Bytes that the kernel may hold for a reader beyond what its window takes.
const UNSENT_BYTES: u32 = 128 * 1024;

/// How to serve.
#[derive(Clone)]
pub struct ServeOptions {
    /// How long open streams may go on after shutdown.
    pub drain: Duration,
    /// TLS for TCP connections.
    pub tls: Option<TlsAcceptor>,
    /// Mutual TLS for TCP connections, instead: clients have a certificate of our authority.
    pub mutual: Option<MutualTls>,
    /// Most connections at a time. Further ones are closed at once.
    pub max_connections: usize,
    /// How long a client may take to say which protocol it speaks, and then for the headers of a request.
    pub headers_timeout: Duration,
    /// How long a connection may be open without a request; none is for ever. One on which nobody who may ask has asked
    /// anything yet gets `headers_timeout`, where there is a limit at all.
    pub idle_timeout: Option<Duration>,
    /// How long a client may take nothing of an answer; none is for ever. A stream of HTTP/2 is reset then, a connection of
    /// HTTP/1 closed.
    pub reader_timeout: Option<Duration>,
    /// Whether its requests are among the open streams of the metrics.
    pub counted: bool,
}

impl ServeOptions {
    /// For an admin port: a few who ask short questions.
    pub fn admin() -> Self {
        Self {
            drain: Duration::from_secs(1),
            max_connections: 256,
            headers_timeout: Duration::from_secs(10),
            idle_timeout: Some(Duration::from_secs(120)),
            reader_timeout: Some(Duration::from_secs(30)),
            counted: false,
            ..Self::default()
        }
    }

    fn patience(&self) -> Patience {
        // A little later than the protocols' own timers, which say what the client did not do.
        let first = self.idle_timeout.map(|idle| idle.min(self.headers_timeout * 5 / 4));
        Patience { first, idle: self.idle_timeout }
    }
}

impl std::fmt::Debug for ServeOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServeOptions")
            .field("drain", &self.drain)
            .field("tls", &self.tls.is_some())
            .field("mutual", &self.mutual)
            .finish_non_exhaustive()
    }
}

impl Default for ServeOptions {
    fn default() -> Self {
        let max_connections = Semaphore::MAX_PERMITS;
        Self {
            drain: Duration::from_secs(30),
            tls: None,
            mutual: None,
            max_connections,
            headers_timeout: HEADERS,
            idle_timeout: None,
            reader_timeout: None,
            counted: true,
        }
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

/// Lets hyper spawn what a connection needs where it is seen.
#[derive(Clone)]
pub(crate) struct Tracked(pub(crate) TaskTracker);

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
    let ours = matches!(listener, Bound::Unix(..)) || options.mutual.is_some();
    // A peer whose host or network has gone leaves its requests running, and paid for, until that is found out. What it has
    // not acknowledged tells (`tls::prepare`): a ping makes sure that there is something.
    let ping = if options.mutual.is_some() { PING_HOSTS } else { PING };
    let builder = Arc::new(builder(&tasks, ours, &options, ping));
    let places = Arc::new(Semaphore::new(options.max_connections.min(Semaphore::MAX_PERMITS)));
    let strangers = Arc::new(Semaphore::new(MAX_STRANGERS));
    let (mut turned_away, refusals) = (TurnedAway::default(), Arc::default());
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, options.mutual.is_some()) => accepted,
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
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            turned_away.note(options.max_connections);
            continue;
        };
        let stranger = match &options.mutual {
            Some(_) if matches!(peer, Peer::Tcp { .. }) => match Arc::clone(&strangers).try_acquire_owned() {
                Ok(place) => Some(place),
                Err(_) => {
                    turned_away.note(MAX_STRANGERS);
                    continue;
                }
            },
            _ => None,
        };
        let connection = Connection {
            _place: place,
            headers_timeout: options.headers_timeout,
            patience: options.patience(),
            reader_timeout: options.reader_timeout,
            watch: Watch::new(options.counted),
            router: router.clone(),
            peer,
            builder: Arc::clone(&builder),
            tls: options.tls.clone(),
            mutual: options.mutual.clone(),
            stranger,
            refusals: Arc::clone(&refusals),
            until: None,
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

/// Connections for which there was no place.
#[derive(Default)]
struct TurnedAway {
    count: u64,
    told: Option<Instant>,
}

impl TurnedAway {
    /// One more. Who makes many must not fill the log.
    fn note(&mut self, max_connections: usize) {
        self.count += 1;
        metrics::connection_closed("full");
        if self.told.is_none_or(|told| told.elapsed() >= TOLD_EVERY) {
            tracing::warn!(
                max_connections,
                turned_away = self.count,
                "connections are closed at once: too many are open"
            );
            *self = Self { count: 0, told: Some(Instant::now()) };
        }
    }
}

/// `ours`: only our own services and operators can connect.
fn builder(tasks: &TaskTracker, ours: bool, options: &ServeOptions, ping: Duration) -> auto::Builder<Streams> {
    // Callers that cancel streams are normal here; the default closes the whole connection after 1024 of them. On a
    // socket of our own nobody does it to harm.
    let (max_faults, max_unseen, max_streams) = match ours {
        false => (Some(MAX_FAULTS), MAX_UNSEEN, MAX_STREAMS),
        true => (None, usize::MAX, MAX_INTERNAL_STREAMS),
    };
    let mut builder = auto::Builder::new(Streams { tasks: tasks.clone(), patience: options.reader_timeout });
    builder
        .http1()
        .timer(TokioTimer::new())
        // A client that never finishes its headers must not hold a connection for ever.
        .header_read_timeout(options.headers_timeout)
        .max_buf_size(MAX_WAITING);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(ping)
        .keep_alive_timeout(Duration::from_secs(20))
        .max_concurrent_streams(max_streams)
        .max_local_error_reset_streams(max_faults)
        .max_pending_accept_reset_streams(max_unseen)
        .max_send_buf_size(MAX_WAITING)
        .initial_stream_window_size(1024 * 1024)
        .initial_connection_window_size(4 * 1024 * 1024)
        .max_header_list_size(MAX_HEADER_BYTES);
    builder
}

/// A connection's bytes.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

async fn accept(listener: &Bound, hosts: bool) -> io::Result<(Box<dyn Stream>, Peer)> {
    match listener {
        Bound::Tcp(listener) => {
            let (stream, addr) = listener.accept().await?;
            if hosts {
                tls::prepare(&stream, tls::UNACKNOWLEDGED_ANSWER_MS);
            } else {
                prepare(&stream);
            }
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
pub(crate) fn prepare(stream: &TcpStream) {
    // Streams of small events must not wait for each other (Nagle's algorithm).
    let _ = stream.set_nodelay(true);
    // A client that vanished without a word (its host, its network) is found out, also where nothing is sent to it.
    let _ = sockopt::set_socket_keepalive(stream, true);
    let _ = sockopt::set_tcp_keepidle(stream, Duration::from_secs(60));
    let _ = sockopt::set_tcp_keepintvl(stream, Duration::from_secs(15));
    let _ = sockopt::set_tcp_keepcnt(stream, 4);
    // A reader that stops leaves the kernel no more than this to keep for it; its buffer grows to megabytes otherwise.
    let _ = SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_BYTES);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn small_events_do_not_wait_for_each_other() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (stream, _) = accepted.expect("accepted");
        assert!(client.is_ok() && !stream.nodelay().expect("an option"));
        prepare(&stream);
        assert!(stream.nodelay().expect("an option"));
        assert_eq!(SockRef::from(&stream).tcp_notsent_lowat().expect("an option"), UNSENT_BYTES);
    }
}
