//! HTTP/2 to a peer behind a unix socket, or on another host with mutual TLS. It connects on demand, and again after the peer has gone and come back.
//!
//! A request goes from its caller's task to the connection's, and the answer back: a queue and a task of its own between
//! them, as tonic's channel has, would be two more changes of task for each question.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::UnixStream;
use tokio_util::task::TaskTracker;
use tonic::body::Body;

use crate::server::{Stream, Tracked};
use crate::tls::{Alert, Heard, MutualTls};

/// Bytes of one stream that may wait for its reader, and so the memory that a reader who has stopped costs.
const STREAM_WINDOW: u32 = 256 * 1024;
/// As much for all streams of a connection together that they do not hold each other up: callers who stop reading must
/// not stop the others.
const CONNECTION_WINDOW: u32 = 1024 * 1024 * 1024;

/// Streams that were given up and are remembered for a while, so that what still comes of them is no fault.
const REMEMBERED_STREAMS: usize = 4096;

/// Longest time for which a peer that took long to be found missing is not tried again.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Where a peer in another process is. Cheap to clone.
#[derive(Clone)]
pub(crate) enum Place {
    /// At a unix socket.
    Socket(Arc<Path>),
    /// On the network.
    Network(Arc<Network>),
}

/// A peer on the network.
pub(crate) struct Network {
    /// Whom its certificate must name.
    pub(crate) peer: &'static str,
    /// `host:port`.
    pub(crate) address: String,
    /// Our own certificate.
    pub(crate) mutual: MutualTls,
    /// How it has ended the last connection.
    pub(crate) alert: Alert,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "unix://{}", path.display()),
            Self::Network(network) => write!(f, "https://{}", network.address),
        }
    }
}

impl Place {
    /// What it has said of itself when it ended a connection.
    pub(crate) fn alert(&self) -> Option<String> {
        match self {
            Self::Socket(_) => None,
            Self::Network(network) => network.alert.last(),
        }
    }

    /// How long connecting may take; the time between two signs of life, and how long one may take. A host or a network
    /// that has gone says nothing, and calls wait for it for so long.
    fn times(&self) -> [Duration; 3] {
        match self {
            Self::Socket(_) => [5, 30, 10],
            // Whether the host is there is the kernel's to find out (`UNACKNOWLEDGED`): an answer may wait behind much else.
            Self::Network(_) => [3, 2, 20],
        }
        .map(Duration::from_secs)
    }

    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            Self::Socket(path) => Ok(Box::new(dial(path).await?)),
            Self::Network(network) => {
                network.alert.clear();
                let stream = network.mutual.connect(network.peer, &network.address).await?;
                let place = format!("{} at {self}", network.peer);
                Ok(Box::new(Heard::new(stream, network.alert.clone(), place)))
            }
        }
    }
}

/// One connection, or none for now.
pub(crate) struct Link {
    place: Place,
    open: Mutex<Option<SendRequest<Body>>>,
    /// One at a time connects; the others then use the same, or have failed with it.
    connecting: tokio::sync::Mutex<()>,
    failed: Mutex<Option<Failed>>,
    tasks: TaskTracker,
}

/// An attempt to connect that came to nothing.
#[derive(Clone, Debug)]
struct Failed {
    at: Instant,
    /// Until when nobody tries again: who does not answer would make each caller wait as long.
    until: Instant,
    kind: io::ErrorKind,
    cause: String,
}

/// A request came to nothing.
#[derive(Debug)]
pub(crate) enum LinkError {
    /// No connection was made: the peer has not seen the request.
    Connect(io::Error),
    /// The connection was broken.
    Broken(hyper::Error),
}

impl Link {
    pub(crate) fn new(place: Place) -> Self {
        let (open, connecting, failed) = (Mutex::default(), tokio::sync::Mutex::default(), Mutex::default());
        Self { place, open, connecting, failed, tasks: TaskTracker::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Option<SendRequest<Body>>> {
        lock(&self.open)
    }

    /// Sends a request and waits for the head of its answer.
    pub(crate) async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, LinkError> {
        let mut request = whole(request);
        let mut again = true;
        loop {
            let mut connection = self.connection().await?;
            match connection.try_send_request(request).await {
                Ok(response) => return Ok(response),
                Err(mut error) => match error.take_message().filter(|_| again) {
                    // The connection has ended just now, and nothing was sent.
                    Some(unsent) => (request, again) = (unsent, false),
                    None => return Err(LinkError::Broken(error.into_error())),
                },
            }
        }
    }

    fn usable(&self) -> Option<SendRequest<Body>> {
        self.lock().as_ref().filter(|open| !open.is_closed()).cloned()
    }

    async fn connection(&self) -> Result<SendRequest<Body>, LinkError> {
        if let Some(open) = self.usable() {
            return Ok(open);
        }
        let asked = Instant::now();
        self.failed_since(asked)?;
        let _one_at_a_time = self.connecting.lock().await;
        if let Some(open) = self.usable() {
            return Ok(open);
        }
        self.failed_since(asked)?;
        let connected = self.connect().await;
        *lock(&self.failed) = connected.as_ref().err().map(|error| Failed::now(error, asked));
        let sender = connected.map_err(LinkError::Connect)?;
        *self.lock() = Some(sender.clone());
        Ok(sender)
    }

    /// The failure of an attempt that ended after `asked`, or lately after a long wait: it is everybody's.
    fn failed_since(&self, asked: Instant) -> Result<(), LinkError> {
        let failed = lock(&self.failed).clone();
        match failed.filter(|failed| failed.at >= asked || Instant::now() < failed.until) {
            Some(failed) => Err(LinkError::Connect(io::Error::new(failed.kind, failed.cause))),
            None => Ok(()),
        }
    }

    async fn connect(&self) -> io::Result<SendRequest<Body>> {
        let late = || io::Error::new(io::ErrorKind::TimedOut, "no connection was made in time");
        let [connect, interval, answer] = self.place.times();
        let dialled = tokio::time::timeout(connect, self.place.connect()).await;
        let stream = dialled.unwrap_or_else(|_| Err(late()))?;
        let shaken = http2::Builder::new(Tracked(self.tasks.clone()))
            .timer(TokioTimer::new())
            .keep_alive_interval(interval)
            .keep_alive_timeout(answer)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            // What still comes of a stream that was given up counts as the peer's fault once the stream is forgotten, and
            // by default 1024 such faults end the connection under all other calls. The peer is ours, and callers do leave.
            .max_concurrent_reset_streams(REMEMBERED_STREAMS)
            .max_local_error_reset_streams(None)
            .handshake(TokioIo::new(stream))
            .await;
        let (sender, connection) = shaken.map_err(io::Error::other)?;
        drop(self.tasks.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to a peer has ended");
            }
        }));
        Ok(sender)
    }
}

impl Failed {
    fn now(error: &io::Error, asked: Instant) -> Self {
        let at = Instant::now();
        // A refusal costs nothing, and is asked for again by the next one.
        let pause = at.duration_since(asked).min(LONGEST_PAUSE);
        Self { at, until: at + pause, kind: error.kind(), cause: error.to_string() }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere cannot leave any of these half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => error.fmt(f),
            Self::Broken(error) => error.fmt(f),
        }
    }
}

impl Error for LinkError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Connect(error) => error.source(),
            Self::Broken(error) => error.source(),
        }
    }
}

/// HTTP/2 names an authority; this one is not used: the connection knows where it goes.
fn whole(mut request: Request<Body>) -> Request<Body> {
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(Authority::from_static("localhost"));
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
    request
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strangers_socket_is_no_peer() {
        assert!(may_serve(1000, 1000) && may_serve(0, 1000) && may_serve(1000, 0));
        assert!(!may_serve(1001, 1000));
    }

    #[tokio::test]
    async fn a_peer_that_is_not_there_was_not_reached() {
        let link = Link::new(Place::Socket(Path::new("/nowhere/at-all.sock").into()));
        let request = Request::post("/a.B/C").body(Body::empty()).expect("a request");
        assert_eq!(whole(request).uri(), "http://localhost/a.B/C");
        let request = Request::post("/a.B/C").body(Body::empty()).expect("a request");
        let error = link.send(request).await.expect_err("nobody is there");
        assert!(matches!(error, LinkError::Connect(_)) && error.to_string().contains("No such file"), "{error}");
    }
}
