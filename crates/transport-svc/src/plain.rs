//! Plain HTTP/1.1, for servers on this machine: connections that whoever uses them drives.
//!
//! An HTTP client as there are many runs each connection in a task of its own, which hands the answer over chunk by
//! chunk: two changes of task for each event. On the same machine that is most of what a call costs. Here the call's own
//! task reads the socket, takes all that has come, and waits for more.

use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Uri, header, response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use reqwest::{Request, Url};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// How long a connection may be idle and be used again.
const IDLE: Duration = Duration::from_secs(90);
/// Most idle connections.
const MOST_IDLE: usize = 256;
/// Bytes read at once.
const READ_BYTES: usize = 8 * 1024;

type Sent = http::Request<reqwest::Body>;

/// Connections to servers on this machine.
pub(crate) struct Plain {
    connect_timeout: Duration,
    /// The one that was used last comes last.
    idle: Mutex<Vec<Link>>,
}

/// A connection, in the hands of one call at a time.
struct Link {
    /// `host:port`
    place: String,
    sender: SendRequest<reqwest::Body>,
    /// `None` once it has ended.
    connection: Option<Connection<TokioIo<TcpStream>, reqwest::Body>>,
    used: Instant,
}

/// A request came to nothing.
#[derive(Debug)]
pub(crate) enum Unanswered {
    /// No connection was made.
    Connect(io::Error),
    /// The connection was broken.
    Broken(hyper::Error),
}

/// A body that is being read.
pub(crate) struct Reading {
    pool: Arc<Plain>,
    body: Incoming,
    link: Option<Link>,
}

impl fmt::Debug for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plain").field("idle", &self.lock().len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reading").field("over", &self.link.is_none()).finish_non_exhaustive()
    }
}

impl Plain {
    pub(crate) fn new(connect_timeout: Duration) -> Arc<Self> {
        Arc::new(Self { connect_timeout, idle: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Link>> {
        // A panic elsewhere cannot leave the list half changed.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of what has been idle for too long: after the last call of a day nobody else would.
    pub(crate) fn sweep(&self) {
        self.lock().retain(|link| link.used.elapsed() < IDLE);
    }

    /// Sends a request and waits for the head of its answer.
    pub(crate) async fn send(self: &Arc<Self>, request: Request) -> Result<(response::Parts, Reading), Unanswered> {
        let place = place(request.url());
        let mut request = prepared(request, &place)?;
        loop {
            let (mut link, kept) = match self.take(&place).await {
                Some(link) => (link, true),
                None => (self.connect(&place).await?, false),
            };
            match link.exchange(request).await {
                Ok(answer) => {
                    let (head, body) = answer.into_parts();
                    return Ok((head, Reading { pool: Arc::clone(self), body, link: Some(link) }));
                }
                // A kept connection may be closed by the server just now: nothing was written, another one takes it.
                Err((_, Some(unsent))) if kept => request = unsent,
                Err((error, _)) => return Err(Unanswered::Broken(error)),
            }
        }
    }

    /// An idle connection that is still good.
    async fn take(&self, place: &str) -> Option<Link> {
        loop {
            let mut link = {
                let mut idle = self.lock();
                idle.retain(|link| link.used.elapsed() < IDLE);
                let at = idle.iter().rposition(|link| link.place == place)?;
                idle.swap_remove(at)
            };
            if poll_fn(|cx| Poll::Ready(link.is_good(cx))).await {
                return Some(link);
            }
        }
    }

    async fn connect(&self, place: &str) -> Result<Link, Unanswered> {
        let connecting = tokio::time::timeout(self.connect_timeout, TcpStream::connect(place)).await;
        let late = || io::Error::new(io::ErrorKind::TimedOut, "connect timeout");
        let stream = connecting.unwrap_or_else(|_| Err(late())).map_err(Unanswered::Connect)?;
        // Failing at this is no reason to give up: the connection is gone already, or works without.
        let _ = stream.set_nodelay(true);
        let mut builder = http1::Builder::new();
        // An event stream waits for most of its time: what it holds meanwhile must be little.
        builder.read_buf_exact_size(Some(READ_BYTES));
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(Unanswered::Broken)?;
        Ok(Link { place: place.to_owned(), sender, connection: Some(connection), used: Instant::now() })
    }

    fn keep(&self, mut link: Link) {
        link.used = Instant::now();
        let mut idle = self.lock();
        if idle.len() < MOST_IDLE {
            idle.push(link);
        }
    }
}

impl Link {
    /// Lets the connection do what it can. True if it goes on.
    fn drive(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(connection) = &mut self.connection else { return false };
        let goes_on = Pin::new(connection).poll(cx).is_pending();
        if !goes_on {
            // Those who wait for it hear of its end when it goes.
            self.connection = None;
        }
        goes_on
    }

    fn is_good(&mut self, cx: &mut Context<'_>) -> bool {
        self.drive(cx) && self.sender.is_ready()
    }

    /// Sends a request; what was not even begun to be written comes back.
    async fn exchange(&mut self, request: Sent) -> Result<http::Response<Incoming>, (hyper::Error, Option<Sent>)> {
        let mut answer = pin!(self.sender.try_send_request(request));
        let connection = &mut self.connection;
        let answered = poll_fn(|cx| {
            if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
                return Poll::Ready(answer);
            }
            if connection.as_mut().is_some_and(|connection| Pin::new(connection).poll(cx).is_ready()) {
                *connection = None;
            }
            answer.as_mut().poll(cx)
        });
        answered.await.map_err(|mut error| {
            let unsent = error.take_message();
            (error.into_error(), unsent)
        })
    }
}

impl Reading {
    /// The next bytes; `None` at the end.
    pub(crate) async fn chunk(&mut self) -> hyper::Result<Option<Bytes>> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<Option<Bytes>>> {
        let mut driven = false;
        loop {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        return Poll::Ready(Ok(Some(data)));
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    self.link = None;
                    return Poll::Ready(Err(error));
                }
                Poll::Ready(None) => {
                    if let Some(mut link) = self.link.take()
                        && link.is_good(cx)
                    {
                        self.pool.keep(link);
                    }
                    return Poll::Ready(Ok(None));
                }
                Poll::Pending if driven => return Poll::Pending,
                Poll::Pending => {
                    driven = true;
                    // One that has ended leaves the end, or an error, to the body.
                    self.link.as_mut().map(|link| link.drive(cx));
                }
            }
        }
    }
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect(_) => "tcp connect error",
            Self::Broken(_) => "the connection was broken",
        })
    }
}

impl Error for Unanswered {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(match self {
            Self::Connect(error) => error,
            Self::Broken(error) => error,
        })
    }
}

/// `host:port` of a URL.
fn place(url: &Url) -> String {
    format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or(80))
}

/// The request as it stands on the wire: its path alone, and the host beside it.
fn prepared(request: Request, place: &str) -> Result<Sent, Unanswered> {
    let odd = |error: &dyn fmt::Display| Unanswered::Connect(io::Error::other(format!("the request is odd: {error}")));
    let host = match (request.url().host_str(), request.url().port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (host, _) => host.unwrap_or(place).to_owned(),
    };
    let mut request = Sent::try_from(request).map_err(|error| odd(&error))?;
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let path: Uri = path.parse().map_err(|error| odd(&error))?;
    *request.uri_mut() = path;
    let host = HeaderValue::try_from(host).map_err(|error| odd(&error))?;
    request.headers_mut().insert(header::HOST, host);
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_idle_for_too_long_is_let_go_of_without_another_call() {
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let place = server.local_addr().expect("an address").to_string();
        let plain = Plain::new(Duration::from_secs(20));
        plain.keep(plain.connect(&place).await.expect("connected"));
        plain.sweep();
        assert_eq!(plain.lock().len(), 1);
        plain.lock()[0].used = Instant::now().checked_sub(IDLE).expect("a machine that runs for minutes");
        plain.sweep();
        assert_eq!(plain.lock().len(), 0);
    }
}
