//! One connection, from its handshake to its end: in good order, by its client's fault, or because it does nothing.

use std::error::Error;
use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use telemetry::metrics;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::first_word::FirstWord;
use crate::layers::grpc_timeout;
use crate::peer::Peer;
use crate::server::{Ending, Stream};
use crate::stall::{Stall, Streams};
use crate::tls::{HANDSHAKE, MutualTls, is_about_certificates};
use crate::watch::{Patience, Watch};

/// How long a connection that is asked to end may take.
const FAREWELL: Duration = Duration::from_secs(10);
/// Refusals that are told of at once, and within what time.
const TOLD_AT_ONCE: u32 = 10;
const TOLD_WITHIN: Duration = Duration::from_secs(60);

/// One connection, accepted and not yet served.
pub(crate) struct Connection {
    /// Its place among all connections.
    pub(crate) _place: OwnedSemaphorePermit,
    /// How long the client may take for its first word, and a TLS handshake.
    pub(crate) headers_timeout: Duration,
    /// How long it may do nothing.
    pub(crate) patience: Patience,
    /// How long its client may take nothing of an answer; none is for ever.
    pub(crate) reader_timeout: Option<Duration>,
    /// What it does.
    pub(crate) watch: Watch,
    /// What is served.
    pub(crate) router: axum::Router,
    /// Who is at the other end.
    pub(crate) peer: Peer,
    /// How HTTP is spoken.
    pub(crate) builder: Arc<auto::Builder<Streams>>,
    /// TLS, for TCP.
    pub(crate) tls: Option<TlsAcceptor>,
    /// Mutual TLS, instead.
    pub(crate) mutual: Option<MutualTls>,
    /// Its place among those who have not shown a certificate yet.
    pub(crate) stranger: Option<OwnedSemaphorePermit>,
    /// How often refusals are told of.
    pub(crate) refusals: Arc<Refusals>,
    /// When its client's certificate ends.
    pub(crate) until: Option<Instant>,
    /// Cancelled when no further requests are to come.
    pub(crate) shutdown: CancellationToken,
    /// Tells handlers when the drain is over.
    pub(crate) ending: Ending,
    /// Cancelled when all is over.
    pub(crate) abort: CancellationToken,
}

impl Connection {
    /// Serves it to its end.
    pub(crate) async fn run(mut self, stream: Box<dyn Stream>) {
        // Who says nothing does not hold up the end.
        let shutdown = self.shutdown.clone();
        let shaken = tokio::select! {
            shaken = self.handshake(stream) => shaken,
            () = shutdown.cancelled() => None,
        };
        self.stranger = None;
        let Some(stream) = shaken else { return };
        let Self { router, peer, ending, watch, patience, reader_timeout, until, .. } = self;
        let (asked, who) = (watch.clone(), peer.clone());
        let service = tower::service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(peer.clone());
            request.extensions_mut().insert(ending.clone());
            let late = grpc_timeout(request.headers()).and_then(|left| Instant::now().checked_add(left));
            let (serving, answer) = (asked.serving(late), router.clone().oneshot(request.map(Body::new)));
            async move { answer.await.map(|response| serving.answer(response)) }
        });
        let service = TowerToHyperService::new(service);
        let stream = TokioIo::new(FirstWord::within(self.headers_timeout, stream));
        let connection = self.builder.serve_connection(stream, service);
        let mut connection = std::pin::pin!(connection);
        let (mut draining, mut farewell) = (false, None);
        // Answers over HTTP/1 are made where the connection is polled; those over HTTP/2 are watched one by one.
        let mut stall = Stall::new(reader_timeout);
        let mut looks = patience.every().map(tokio::time::interval);
        loop {
            tokio::select! {
                ended = poll_fn(|cx| stall.poll(cx, |cx| connection.as_mut().poll(cx))) => return match ended {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => note_end(error.as_ref(), &who, &watch),
                    Err(stalled) => {
                        metrics::connection_closed(stalled.why());
                        tracing::debug!(peer = %who.describe(), "a client took nothing of its answer");
                    }
                },
                () = self.shutdown.cancelled(), if !draining => {
                    draining = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = over(until), if !draining => {
                    draining = true;
                    tracing::info!(peer = %who.describe(), "its certificate has ended: the connection takes no further calls");
                    connection.as_mut().graceful_shutdown();
                }
                () = self.abort.cancelled() => return,
                () = next(looks.as_mut()) => match farewell {
                    _ if !watch.is_idle(&patience) => {}
                    None => {
                        farewell = Some(Instant::now());
                        metrics::connection_closed("idle");
                        connection.as_mut().graceful_shutdown();
                    }
                    Some(since) if since.elapsed() < FAREWELL => {}
                    Some(_) => return,
                },
            }
        }
    }

    /// The stream to serve; nothing, if it was to be TLS and is not.
    async fn handshake(&mut self, stream: Box<dyn Stream>) -> Option<Box<dyn Stream>> {
        let Peer::Tcp { addr } = self.peer else { return Some(stream) };
        if let Some(mutual) = &self.mutual {
            let error = match mutual.accept(stream).await {
                Ok((stream, named)) => {
                    self.peer = Peer::Certified { identity: named.id.identity, addr };
                    self.until = Some(deadline(named.term.ends_s));
                    return Some(Box::new(stream));
                }
                Err(error) => error,
            };
            // Who speaks no TLS at all is a probe, or a stranger: there may be many, and nothing of ours is amiss.
            match is_about_certificates(&error) && self.refusals.tell() {
                true => tracing::warn!(%error, peer = %addr, "refused a connection"),
                false => tracing::debug!(%error, peer = %addr, "refused a connection"),
            }
            metrics::connection_closed("tls");
            return None;
        }
        let Some(acceptor) = &self.tls else { return Some(stream) };
        let limit = HANDSHAKE.min(self.headers_timeout);
        match tokio::time::timeout(limit, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => return Some(Box::new(stream)),
            Ok(Err(error)) => tracing::debug!(%error, peer = %self.peer.describe(), "TLS handshake failed"),
            Err(_) => tracing::debug!(peer = %self.peer.describe(), "TLS handshake took too long"),
        }
        metrics::connection_closed("tls");
        None
    }
}

/// Keeps refusals from filling the log: whoever is refused may come again at once, and from everywhere.
#[derive(Debug)]
pub(crate) struct Refusals(Mutex<(Instant, u32)>);

impl Default for Refusals {
    fn default() -> Self {
        Self(Mutex::new((Instant::now(), 0)))
    }
}

impl Refusals {
    /// Whether one more is to be told of: at most [`TOLD_AT_ONCE`] within [`TOLD_WITHIN`].
    fn tell(&self) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.0.elapsed() >= TOLD_WITHIN {
            *told = (Instant::now(), 0);
        }
        told.1 = told.1.saturating_add(1);
        told.1 <= TOLD_AT_ONCE
    }
}

/// The moment of these Unix seconds, by this process's clock; the far future is a year away.
fn deadline(unix_s: i64) -> Instant {
    const YEAR_S: u64 = 365 * 86_400;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let left = u64::try_from(unix_s).unwrap_or(0).saturating_sub(now).min(YEAR_S);
    Instant::now() + Duration::from_secs(left)
}

/// Waits for that moment; for ever, where there is none.
async fn over(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// The next look at a connection; never, where none is due.
async fn next(looks: Option<&mut tokio::time::Interval>) {
    match looks {
        Some(looks) => drop(looks.tick().await),
        None => std::future::pending().await,
    }
}

/// A connection has ended otherwise than in good order.
fn note_end(error: &(dyn Error + 'static), peer: &Peer, watch: &Watch) {
    match fault(error) {
        // HTTP/1 waits for the next request as for headers.
        Some("headers") if watch.is_used() => metrics::connection_closed("idle"),
        Some(why) => metrics::connection_closed(why),
        None => {}
    }
    tracing::debug!(error, peer = %peer.describe(), "connection ended");
}

/// What the client did wrong; nothing, if it only went away.
fn fault(error: &(dyn Error + 'static)) -> Option<&'static str> {
    if let Some(http) = error.downcast_ref::<hyper::Error>() {
        if http.is_timeout() {
            return Some("headers");
        }
        if http.is_parse() {
            return Some("protocol");
        }
    }
    if error.downcast_ref::<h2::Error>().is_some_and(h2::Error::is_library) {
        return Some("protocol");
    }
    if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut) {
        return Some("headers");
    }
    error.source().and_then(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn refusals_do_not_fill_the_log() {
        let refusals = Refusals::default();
        let told = || (0..1000).filter(|_| refusals.tell()).count();
        assert_eq!((told(), told()), (TOLD_AT_ONCE as usize, 0));
        tokio::time::advance(TOLD_WITHIN).await;
        assert_eq!(told(), TOLD_AT_ONCE as usize);
    }
}
