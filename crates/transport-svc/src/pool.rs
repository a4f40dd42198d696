//! HTTP clients, each with connections of its own.
//!
//! An HTTP client keeps one HTTP/2 connection per host, and what exceeds that connection's streams (about 100) waits in
//! it unseen. So there are several clients, filled in order: few calls share a warm connection, many spread.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use config::Config;
use reqwest::{Certificate, Client, ClientBuilder, NoProxy, Proxy, Url};
use service_kit::UpstreamUrl;

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

/// Every client. Loopback has its own, which never use a proxy: a proxy's loopback is another machine's.
#[derive(Debug)]
pub(crate) struct Pool {
    local: Ways,
    outside: Ways,
}

#[derive(Debug)]
struct Ways {
    settings: Settings,
    clients: Vec<Slot>,
}

#[derive(Debug, Default)]
struct Slot {
    client: OnceLock<Client>,
    busy: Arc<AtomicUsize>,
}

/// A client, and its place in the count for as long as the call lasts.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) client: Client,
    busy: Arc<AtomicUsize>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.busy.fetch_sub(1, Ordering::Relaxed);
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
    Configured(Box<Proxy>),
}

impl fmt::Debug for ProxyUse {
    /// A configured proxy's URL may hold a password, and its own `Debug` shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Never => "Never",
            Self::Environment => "Environment",
            Self::Configured(_) => "Configured",
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
            Some(url) => ProxyUse::Configured(Box::new(configured(url)?)),
            None => ProxyUse::Environment,
        };
        let settings = Settings { connect_timeout: transport.connect_timeout.duration(), authorities, proxy };
        let pool = Self {
            local: Ways::new(Settings { proxy: ProxyUse::Never, ..settings.clone() }),
            outside: Ways::new(settings),
        };
        for base in targets.iter().flat_map(Target::bases) {
            pool.way(base).client(0)?;
        }
        Ok(pool)
    }

    fn way(&self, base: &UpstreamUrl) -> &Ways {
        if base.is_loopback() { &self.local } else { &self.outside }
    }

    /// A client for one call to something below `base`.
    pub(crate) fn lease(&self, base: &UpstreamUrl) -> Result<Lease, BuildError> {
        self.way(base).lease()
    }
}

impl Ways {
    fn new(settings: Settings) -> Self {
        Self { settings, clients: (0..CLIENTS).map(|_| Slot::default()).collect() }
    }

    fn lease(&self) -> Result<Lease, BuildError> {
        let loads = || self.clients.iter().map(|slot| slot.busy.load(Ordering::Relaxed)).enumerate();
        let roomy = loads().find(|(_, busy)| *busy < CALLS_PER_CLIENT);
        let (index, _) = roomy.or_else(|| loads().min_by_key(|(_, busy)| *busy)).unwrap_or_default();
        let client = self.client(index)?;
        let busy = self.clients.get(index).map(|slot| Arc::clone(&slot.busy)).unwrap_or_default();
        busy.fetch_add(1, Ordering::Relaxed);
        Ok(Lease { client, busy })
    }

    fn client(&self, index: usize) -> Result<Client, BuildError> {
        let made = self.clients.get(index).and_then(|slot| slot.client.get());
        if let Some(client) = made {
            return Ok(client.clone());
        }
        let client = self.settings.build().map_err(|e| BuildError::Client(cause(&e)))?;
        // Two calls at once may make it twice; the first one stays.
        Ok(self.clients.get(index).map_or(client.clone(), |slot| slot.client.get_or_init(|| client).clone()))
    }
}

impl Settings {
    fn build(&self) -> reqwest::Result<Client> {
        // No total timeout: it would end long answers. Time to headers and silence have timers of their own.
        let builder = Client::builder()
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
            ProxyUse::Configured(proxy) => builder.proxy(proxy.as_ref().clone()),
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
    use super::*;

    #[test]
    fn no_debug_output_shows_the_proxys_password() {
        let proxy = configured("http://me:hunter2@proxy:3128").expect("a proxy");
        let settings = Settings {
            connect_timeout: Duration::from_secs(1),
            authorities: Vec::new(),
            proxy: ProxyUse::Configured(Box::new(proxy)),
        };
        let ways = Ways::new(settings);
        let lease = ways.lease().expect("a client");
        for text in [format!("{ways:?}"), format!("{lease:?}")] {
            assert!(!text.contains("hunter2") && !text.contains("bWU6aHVudGVyMg"), "{text}");
        }
    }

    #[test]
    fn few_calls_share_a_client_and_many_spread() {
        let settings =
            Settings { connect_timeout: Duration::from_secs(1), authorities: Vec::new(), proxy: ProxyUse::Never };
        let ways = Ways::new(settings);
        let mut leases: Vec<Lease> = (0..2 * CALLS_PER_CLIENT).map(|_| ways.lease().expect("client")).collect();
        let made = |ways: &Ways| ways.clients.iter().filter(|slot| slot.client.get().is_some()).count();
        assert_eq!(made(&ways), 2);
        leases.clear();
        leases.push(ways.lease().expect("client"));
        assert_eq!(ways.clients.iter().map(|slot| slot.busy.load(Ordering::Relaxed)).sum::<usize>(), 1);
        assert_eq!(made(&ways), 2);
    }
}
