//! HTTP clients, each with connections of its own.
//!
//! An HTTP client keeps one HTTP/2 connection per host, and what exceeds that connection's streams (about 100) waits in
//! it unseen. So there are several clients, filled in order: few calls share a warm connection, many spread.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use config::Config;
use http::Version;
use reqwest::{Certificate, ClientBuilder, NoProxy, Proxy, Url};
use service_kit::UpstreamUrl;
use tokio::sync::OwnedSemaphorePermit;

use crate::plain::Plain;
use crate::service::BuildError;
use crate::targets::{Target, Targets};

/// Bytes of one HTTP/2 stream that may wait for its reader: a part of the 1 MiB that a stream may hold over all hops.
const STREAM_WINDOW: u32 = 256 * 1024;
/// As much for all calls of a connection together that they do not hold each other up: callers who stop reading must
/// not stop the others.
const CONNECTION_WINDOW: u32 = 512 * STREAM_WINDOW;
/// Clients for one way out.
const CLIENTS: usize = 16;
/// Calls that one client takes before the next is opened.
const CALLS_PER_CLIENT: usize = 50;

/// Calls that may be given up before their client is replaced; those that it still has go on with it. What comes after all
/// of a stream that was given up counts as the server's fault, and after 1024 of them (the client has no setting for it) an
/// HTTP/2 connection is closed under all of its calls.
const MOST_GIVEN_UP: usize = 40;

/// Every client. Loopback has its own, which never use a proxy: a proxy's loopback is another machine's.
#[derive(Debug)]
pub(crate) struct Pool {
    local: Ways,
    outside: Ways,
    /// Without TLS, to loopback.
    plain: Arc<Plain>,
}

#[derive(Debug)]
struct Ways {
    settings: Settings,
    clients: Vec<Slot>,
}

#[derive(Debug, Default)]
struct Slot {
    made: Mutex<Option<Arc<Made>>>,
    busy: Arc<AtomicUsize>,
}

/// How requests are sent.
#[derive(Clone, Debug)]
pub(crate) enum Client {
    /// To anywhere.
    Pooled(reqwest::Client),
    /// To a server on this machine, without TLS.
    Plain(Arc<Plain>),
}

/// A client that was made.
#[derive(Debug)]
struct Made {
    client: reqwest::Client,
    /// An answer has come over HTTP/2.
    http2: AtomicBool,
    /// Calls that were given up before their end.
    given_up: AtomicUsize,
}

impl Made {
    fn is_worn(&self) -> bool {
        self.http2.load(Ordering::Relaxed) && self.given_up.load(Ordering::Relaxed) >= MOST_GIVEN_UP
    }
}

/// A client, and its place in the count for as long as the call lasts.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) client: Client,
    /// The proxy that is configured for it, without its password.
    pub(crate) proxy: Option<Arc<str>>,
    /// Where it comes from; each plain connection has one call at a time, and goes with it.
    made: Option<Arc<Made>>,
    busy: Arc<AtomicUsize>,
    /// The request is under way, and its answer has not ended.
    open: bool,
    _place: OwnedSemaphorePermit,
}

impl Lease {
    /// The request is made from now on: whoever drops this gives it up.
    pub(crate) fn begin(&mut self) {
        self.open = true;
    }

    /// The answer's headers came.
    pub(crate) fn answered(&self, version: Version) {
        if let Some(made) = self.made.as_ref().filter(|_| version == Version::HTTP_2) {
            made.http2.store(true, Ordering::Relaxed);
        }
    }

    /// The answer has ended, or none comes.
    pub(crate) fn end(&mut self) {
        self.open = false;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.busy.fetch_sub(1, Ordering::Relaxed);
        if let Some(made) = self.made.as_ref().filter(|_| self.open) {
            made.given_up.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What a client is made of.
#[derive(Clone, Debug)]
struct Settings {
    connect_timeout: Duration,
    authorities: Vec<Certificate>,
    proxy: ProxyUse,
}

#[derive(Clone)]
enum ProxyUse {
    Never,
    /// `HTTPS_PROXY` and its kin.
    Environment,
    /// It, and its URL without password.
    Configured(Box<Proxy>, Arc<str>),
}

impl ProxyUse {
    fn shown(&self) -> Option<Arc<str>> {
        match self {
            Self::Configured(_, shown) => Some(Arc::clone(shown)),
            Self::Never | Self::Environment => None,
        }
    }
}

impl fmt::Debug for ProxyUse {
    /// A configured proxy's URL may hold a password, and its own `Debug` shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Never => "Never",
            Self::Environment => "Environment",
            Self::Configured(..) => "Configured",
        })
    }
}

impl Pool {
    /// Reads the authorities, and makes the first client of each way that a target needs, so that a bad setting is
    /// found now and not by the first call.
    pub(crate) fn new(config: &Config, targets: &Targets) -> Result<Self, BuildError> {
        let transport = &config.transport;
        let authorities = match &transport.ca_file {
            Some(path) => authorities(path)?,
            None => Vec::new(),
        };
        let proxy = match config.egress_proxy() {
            Some(url) => ProxyUse::Configured(Box::new(configured(url)?), config::redact(url).into()),
            None => ProxyUse::Environment,
        };
        let settings = Settings { connect_timeout: transport.connect_timeout.duration(), authorities, proxy };
        let pool = Self {
            local: Ways::new(Settings { proxy: ProxyUse::Never, ..settings.clone() }),
            plain: Plain::new(settings.connect_timeout),
            outside: Ways::new(settings),
        };
        for base in targets.iter().flat_map(Target::bases).filter(|base| !is_plain(base)) {
            let _ = pool.way(base).made(0)?;
        }
        Ok(pool)
    }

    fn way(&self, base: &UpstreamUrl) -> &Ways {
        if base.is_loopback() { &self.local } else { &self.outside }
    }

    /// A client for one call to something below `base`.
    pub(crate) fn lease(&self, base: &UpstreamUrl, place: OwnedSemaphorePermit) -> Result<Lease, BuildError> {
        if is_plain(base) {
            let (client, busy) = (Client::Plain(Arc::clone(&self.plain)), Arc::new(AtomicUsize::new(1)));
            return Ok(Lease { client, proxy: None, made: None, busy, open: false, _place: place });
        }
        self.way(base).lease(place)
    }

    /// Lets go of connections that have been idle for too long.
    pub(crate) fn sweep(&self) {
        self.plain.sweep();
    }
}

/// A server without TLS is on this machine, or its URL would have been refused.
fn is_plain(base: &UpstreamUrl) -> bool {
    base.origin.starts_with("http://")
}

impl Ways {
    fn new(settings: Settings) -> Self {
        Self { settings, clients: (0..CLIENTS).map(|_| Slot::default()).collect() }
    }

    fn lease(&self, place: OwnedSemaphorePermit) -> Result<Lease, BuildError> {
        let loads = || self.clients.iter().map(|slot| slot.busy.load(Ordering::Relaxed)).enumerate();
        let roomy = loads().find(|(_, busy)| *busy < CALLS_PER_CLIENT);
        let (index, _) = roomy.or_else(|| loads().min_by_key(|(_, busy)| *busy)).unwrap_or_default();
        let made = self.made(index)?;
        let busy = self.clients.get(index).map(|slot| Arc::clone(&slot.busy)).unwrap_or_default();
        busy.fetch_add(1, Ordering::Relaxed);
        let (client, proxy) = (Client::Pooled(made.client.clone()), self.settings.proxy.shown());
        Ok(Lease { client, proxy, made: Some(made), busy, open: false, _place: place })
    }

    /// The client of a slot; a fresh one, where there is none or too many of its calls were given up.
    fn made(&self, index: usize) -> Result<Arc<Made>, BuildError> {
        // A panic elsewhere cannot leave a client half made.
        let mut slot = self.clients.get(index).map(|slot| slot.made.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(made) = slot.as_ref().and_then(|slot| slot.as_ref()).filter(|made| !made.is_worn()) {
            return Ok(Arc::clone(made));
        }
        let client = self.settings.build().map_err(|e| BuildError::Client(cause(&e)))?;
        let made = Arc::new(Made { client, http2: AtomicBool::new(false), given_up: AtomicUsize::new(0) });
        if let Some(slot) = &mut slot {
            **slot = Some(Arc::clone(&made));
        }
        Ok(made)
    }
}

impl Settings {
    fn build(&self) -> reqwest::Result<reqwest::Client> {
        // No total timeout: it would end long answers. Time to headers and silence have timers of their own.
        let builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            // Whether a call is tried again is the gateway's to say, and the trace's to show.
            .retry(reqwest::retry::never())
            .referer(false)
            .connect_timeout(self.connect_timeout)
            .tcp_nodelay(true)
            .tcp_keepalive(Duration::from_secs(30))
            .pool_idle_timeout(Duration::from_secs(90))
            .pool_max_idle_per_host(64)
            .http2_initial_stream_window_size(STREAM_WINDOW)
            .http2_initial_connection_window_size(CONNECTION_WINDOW)
            .http2_keep_alive_interval(Duration::from_secs(30))
            .http2_keep_alive_timeout(Duration::from_secs(10))
            .http2_keep_alive_while_idle(true)
            .tls_certs_merge(self.authorities.iter().cloned());
        self.proxied(builder).build()
    }

    fn proxied(&self, builder: ClientBuilder) -> ClientBuilder {
        match &self.proxy {
            ProxyUse::Never => builder.no_proxy(),
            ProxyUse::Environment => builder,
            ProxyUse::Configured(proxy, _) => builder.proxy(proxy.as_ref().clone()),
        }
    }
}

fn configured(url: &str) -> Result<Proxy, BuildError> {
    // The client takes any scheme, and then goes without a proxy.
    let known = |url: &Url| matches!(url.scheme(), "http" | "https" | "socks5" | "socks5h");
    let parsed = Url::parse(url).ok().filter(known).ok_or(BuildError::Proxy)?;
    // The URL may hold a password: the error says only that it is wrong.
    let proxy = Proxy::all(parsed).map_err(|_| BuildError::Proxy)?;
    Ok(proxy.no_proxy(NoProxy::from_env()))
}

fn authorities(path: &std::path::Path) -> Result<Vec<Certificate>, BuildError> {
    let failed = |cause: String| BuildError::Authorities { path: path.display().to_string(), cause };
    let pem = std::fs::read(path).map_err(|e| failed(e.to_string()))?;
    let certificates = Certificate::from_pem_bundle(&pem).map_err(|e| failed(cause(&e)))?;
    if certificates.is_empty() {
        return Err(failed("it holds no PEM certificate".to_owned()));
    }
    Ok(certificates)
}

/// The innermost cause: the outer layers of an HTTP error only repeat that something failed.
fn cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;

    fn place() -> OwnedSemaphorePermit {
        Arc::new(Semaphore::new(1)).try_acquire_owned().expect("a place")
    }

    #[test]
    fn no_debug_output_shows_the_proxys_password() {
        let proxy = configured("http://me:hunter2@proxy:3128").expect("a proxy");
        let settings = Settings {
            connect_timeout: Duration::from_secs(1),
            authorities: Vec::new(),
            proxy: ProxyUse::Configured(Box::new(proxy), "http://***@proxy:3128".into()),
        };
        let ways = Ways::new(settings);
        let lease = ways.lease(place()).expect("a client");
        for text in [format!("{ways:?}"), format!("{lease:?}")] {
            assert!(!text.contains("hunter2") && !text.contains("bWU6aHVudGVyMg"), "{text}");
        }
    }

    #[test]
    fn few_calls_share_a_client_and_many_spread() {
        let settings =
            Settings { connect_timeout: Duration::from_secs(1), authorities: Vec::new(), proxy: ProxyUse::Never };
        let ways = Ways::new(settings);
        let mut leases: Vec<Lease> = (0..2 * CALLS_PER_CLIENT).map(|_| ways.lease(place()).expect("client")).collect();
        let made =
            |ways: &Ways| ways.clients.iter().filter(|slot| slot.made.lock().is_ok_and(|made| made.is_some())).count();
        assert_eq!(made(&ways), 2);
        leases.clear();
        leases.push(ways.lease(place()).expect("client"));
        assert_eq!(ways.clients.iter().map(|slot| slot.busy.load(Ordering::Relaxed)).sum::<usize>(), 1);
        assert_eq!(made(&ways), 2);
    }

    #[test]
    fn a_client_whose_calls_were_often_given_up_is_replaced() {
        let settings =
            Settings { connect_timeout: Duration::from_secs(1), authorities: Vec::new(), proxy: ProxyUse::Never };
        let ways = Ways::new(settings);
        let lease = |version| {
            let mut lease = ways.lease(place()).expect("client");
            lease.begin();
            lease.answered(version);
            lease
        };
        let is = |lease: &Lease, made| lease.made.as_ref().is_some_and(|its| Arc::ptr_eq(its, made));
        let first = lease(Version::HTTP_11).made.clone().expect("pooled");
        (0..2 * MOST_GIVEN_UP).for_each(|_| drop(lease(Version::HTTP_11)));
        let other = lease(Version::HTTP_2);
        assert!(is(&other, &first), "a connection of HTTP/1 is one call's own");
        let second = lease(Version::HTTP_2);
        assert!(!is(&second, &first));
        for _ in 0..2 * MOST_GIVEN_UP {
            let mut whole = lease(Version::HTTP_2);
            whole.end();
        }
        assert!(is(&lease(Version::HTTP_2), second.made.as_ref().expect("pooled")), "those that ended do not count");
    }
}
