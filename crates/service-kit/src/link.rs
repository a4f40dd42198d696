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
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use tonic::body::Body;

use crate::server::{Stream, Tracked};
use crate::tls::{Alert, Heard, MutualTls, is_about_certificates};

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

    /// A connection, and what it will have heard of its end.
    async fn connect(&self) -> io::Result<(Box<dyn Stream>, Alert)> {
        let alert = Alert::default();
        match self {
            Self::Socket(path) => Ok((Box::new(dial(path).await?), alert)),
            Self::Network(network) => {
                let stream = network.mutual.connect(network.peer, &network.address).await?;
                let place = format!("{} at {self}", network.peer);
                Ok((Box::new(Heard::new(stream, alert.clone(), place)), alert))
            }
        }
    }
}

/// One connection, or none for now.
pub(crate) struct Link(Arc<State>);

struct State {
    place: Place,
    open: Mutex<Option<Open>>,
    /// The last attempt to connect. One at a time connects; the others then use the same, or have failed with it.
    attempt: Mutex<Option<Attempt>>,
    failed: Mutex<Option<Failed>>,
    tasks: TaskTracker,
}

/// A connection that is open.
#[derive(Clone, Debug)]
struct Open {
    sender: SendRequest<Body>,
    alert: Alert,
}

/// What an attempt to connect has come to; `None` while it is under way.
type Attempt = watch::Receiver<Option<Result<Open, Failed>>>;

/// An attempt to connect that came to nothing.
#[derive(Clone, Debug)]
pub(crate) struct Failed {
    /// Until when nobody tries again: who does not answer would make each caller wait as long.
    until: Instant,
    cause: String,
    /// It is a certificate that is not taken.
    pub(crate) certificate: bool,
}

/// A request came to nothing.
#[derive(Debug)]
pub(crate) enum LinkError {
    /// No connection was made: the peer has not seen the request.
    Connect(Failed),
    /// The peer has ended the connection without a word of HTTP, with this alert: it takes nothing from us.
    Refused(String),
    /// The connection was broken. `unsent`: before the request was sent.
    Broken {
        /// How.
        error: hyper::Error,
        /// Nothing of the request was sent.
        unsent: bool,
    },
}

impl Link {
    pub(crate) fn new(place: Place) -> Self {
        let (open, attempt, failed) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self(Arc::new(State { place, open, attempt, failed, tasks: TaskTracker::new() }))
    }

    /// Sends a request and waits for the head of its answer.
    pub(crate) async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, LinkError> {
        let mut request = whole(request);
        let mut again = true;
        loop {
            let Open { mut sender, alert } = self.connection().await?;
            let mut error = match sender.try_send_request(request).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            let unsent = error.take_message();
            if let Some(alert) = alert.first_word() {
                return Err(LinkError::Refused(alert));
            }
            match unsent {
                // The connection has ended just now, and nothing was sent.
                Some(unsent) if again => (request, again) = (unsent, false),
                unsent => return Err(LinkError::Broken { error: error.into_error(), unsent: unsent.is_some() }),
            }
        }
    }

    async fn connection(&self) -> Result<Open, LinkError> {
        if let Some(open) = self.0.usable() {
            return Ok(open);
        }
        let mut attempt = self.0.attempt()?;
        let ended = attempt.wait_for(Option::is_some).await.ok().and_then(|ended| ended.clone());
        ended.unwrap_or_else(|| Err(Failed::interrupted())).map_err(LinkError::Connect)
    }
}

impl State {
    fn usable(&self) -> Option<Open> {
        lock(&self.open).as_ref().filter(|open| !open.sender.is_closed()).cloned()
    }

    /// The attempt that is under way, or a new one. It outlives who began it: who has little time must not keep those from
    /// a connection who come after, and each would begin anew.
    fn attempt(self: &Arc<Self>) -> Result<Attempt, LinkError> {
        let mut last = lock(&self.attempt);
        let goes_on = |attempt: &&Attempt| attempt.borrow().is_none() && attempt.has_changed().is_ok();
        // Under way, or just made.
        if let Some(attempt) = last.as_ref().filter(|attempt| goes_on(attempt) || self.usable().is_some()) {
            return Ok(attempt.clone());
        }
        if let Some(failed) = lock(&self.failed).clone().filter(|failed| Instant::now() < failed.until) {
            return Err(LinkError::Connect(failed));
        }
        let (tell, attempt) = watch::channel(None);
        let this = Arc::clone(self);
        drop(self.tasks.spawn(async move {
            let began = Instant::now();
            let made = this.connect().await.map_err(|error| Failed::now(&error, began));
            *lock(&this.failed) = made.as_ref().err().cloned();
            *lock(&this.open) = made.as_ref().ok().cloned();
            tell.send_replace(Some(made));
        }));
        *last = Some(attempt.clone());
        Ok(attempt)
    }

    async fn connect(&self) -> io::Result<Open> {
        let late = || io::Error::new(io::ErrorKind::TimedOut, "no connection was made in time");
        let [connect, interval, answer] = self.place.times();
        let dialled = tokio::time::timeout(connect, self.place.connect()).await;
        let (stream, alert) = dialled.unwrap_or_else(|_| Err(late()))?;
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
        Ok(Open { sender, alert })
    }
}

impl Failed {
    fn now(error: &io::Error, began: Instant) -> Self {
        // A refusal costs nothing, and is asked for again by the next one.
        let pause = began.elapsed().min(LONGEST_PAUSE);
        Self { until: Instant::now() + pause, cause: innermost(error), certificate: is_about_certificates(error) }
    }

    /// The process ends.
    fn interrupted() -> Self {
        let cause = "connecting was broken off".to_owned();
        Self { until: Instant::now(), cause, certificate: false }
    }
}

/// The outer texts say that something failed; the innermost cause says what happened.
fn innermost(error: &(dyn Error + 'static)) -> String {
    match error.source() {
        Some(inner) => innermost(inner),
        None => error.to_string(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere cannot leave any of these half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LinkError {
    /// The peer has not seen the request.
    pub(crate) fn is_unreached(&self) -> bool {
        match self {
            Self::Connect(_) | Self::Refused(_) => true,
            Self::Broken { unsent, .. } => *unsent,
        }
    }

    /// It is a certificate that is not taken.
    pub(crate) fn is_about_certificates(&self) -> bool {
        match self {
            Self::Connect(failed) => failed.certificate,
            Self::Refused(_) => true,
            Self::Broken { .. } => false,
        }
    }
}

impl fmt::Display for LinkError {
    /// What happened, in the words of its innermost cause.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(failed) => f.write_str(&failed.cause),
            Self::Refused(alert) => f.write_str(alert),
            Self::Broken { error, .. } => f.write_str(&innermost(error)),
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
        assert!(error.is_unreached() && !error.is_about_certificates(), "{error}");
        assert!(matches!(error, LinkError::Connect(_)) && error.to_string().contains("No such file"), "{error}");
    }
}
