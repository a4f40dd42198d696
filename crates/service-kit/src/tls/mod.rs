//! Mutual TLS between services, and between operators and services: `[tls] ca, cert, key`.
//!
//! The files are looked at again while the process runs, so that a renewed certificate is taken up without a restart.
//! Connections that are open go on with what they began with.

mod heard;
mod identity;
mod verify;

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{CertificateError, ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

pub(crate) use heard::{Alert, Heard};
pub use identity::{Identity, NobodyNamed, Signed, SpiffeId, is_name, is_trust_domain};

use crate::startup::quoted;
use verify::{ExpectNamed, ExpectService};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(5);
/// How long a handshake may take.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long what was sent may stay unacknowledged: a host or a network that has gone is found out by then, and a slow one,
/// which acknowledges as it can, is not taken for it.
const UNACKNOWLEDGED_MS: u32 = 4000;
/// How long, and for how many bytes, a refused client is listened to.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 64 * 1024;

/// Mutual TLS cannot be spoken with these files.
#[derive(Debug, thiserror::Error)]
#[error("tls.{key} = {}: {cause}", file.display())]
pub struct TlsError {
    /// The setting within `[tls]`.
    key: &'static str,
    /// The file that it names.
    file: PathBuf,
    /// What is wrong with it.
    cause: String,
}

/// This process's certificate and the authority that it trusts. Cheap to clone; clones share what is read again.
#[derive(Clone)]
pub struct MutualTls {
    files: Arc<Files>,
    current: Arc<ArcSwap<Loaded>>,
}

struct Files {
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
}

struct Loaded {
    server: Arc<ServerConfig>,
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    own: SpiffeId,
    /// What the files looked like when they were read.
    seen: Seen,
}

type Seen = [Option<(SystemTime, u64)>; 3];

impl std::fmt::Debug for MutualTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MutualTls({})", self.current.load().own)
    }
}

impl MutualTls {
    /// Reads what `[tls]` names; `None` if it names nothing.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, holds something else, or does not go with the others; a key that others can read.
    pub fn load(config: &config::Tls) -> Result<Option<Self>, TlsError> {
        let (Some(ca), Some(cert), Some(key)) = (&config.ca, &config.cert, &config.key) else { return Ok(None) };
        let files = Files { ca: ca.clone(), cert: cert.clone(), key: key.clone() };
        let loaded = Loaded::read(&files)?;
        Ok(Some(Self { files: Arc::new(files), current: Arc::new(ArcSwap::from_pointee(loaded)) }))
    }

    /// Whom this process's own certificate names.
    pub fn own(&self) -> SpiffeId {
        self.current.load().own.clone()
    }

    /// Takes up files that have changed, until `shutdown`. Files that cannot be used are told of, and the last good ones
    /// stay.
    pub async fn follow(self, shutdown: CancellationToken) {
        let mut refused = Seen::default();
        while tokio::time::timeout(LOOK, shutdown.cancelled()).await.is_err() {
            let this = self.clone();
            let looked = tokio::task::spawn_blocking(move || this.look(refused)).await;
            refused = looked.unwrap_or(refused);
        }
    }

    /// Looks at the files once. Gives what they look like if they were refused, so that they are told of once.
    fn look(&self, refused: Seen) -> Seen {
        let seen = self.files.seen();
        if seen == self.current.load().seen || seen == refused {
            return refused;
        }
        match Loaded::read(&self.files) {
            Ok(loaded) => {
                tracing::info!(own = %loaded.own, "certificates read again");
                self.current.store(Arc::new(loaded));
                Seen::default()
            }
            Err(error) => {
                tracing::warn!(%error, "changed certificates cannot be used; the last good ones stay in use");
                seen
            }
        }
    }

    /// Takes a client in. Gives what its certificate says.
    ///
    /// # Errors
    ///
    /// A handshake that fails, or takes too long.
    pub(crate) async fn accept<S>(&self, stream: S) -> io::Result<(server::TlsStream<S>, Signed)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.current.load().server));
        let accept = async {
            match acceptor.accept(stream).into_fallible().await {
                Ok(stream) => Ok(stream),
                Err((error, stream)) => {
                    linger(stream).await;
                    Err(error)
                }
            }
        };
        let stream = in_time(accept).await?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let certificate = certificate.ok_or_else(|| io::Error::other("the client has no certificate"))?;
        let named = Signed::of_certificate(certificate).map_err(io::Error::other)?;
        Ok((stream, named))
    }

    /// Connects to `service` at `address`, `host:port`. Names are resolved anew each time.
    ///
    /// # Errors
    ///
    /// No connection, a handshake that fails, or somebody else at that address.
    pub(crate) async fn connect(
        &self,
        service: &'static str,
        address: &str,
    ) -> io::Result<client::TlsStream<TcpStream>> {
        let config = self.current.load().client(service).map_err(io::Error::other)?;
        let stream = TcpStream::connect(address).await?;
        crate::server::prepare(&stream);
        // Not being able to say so is no reason not to connect.
        let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, UNACKNOWLEDGED_MS);
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        in_time(TlsConnector::from(Arc::new(config)).connect(name, stream)).await
    }
}

async fn in_time<T>(handshake: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the TLS handshake took too long");
    tokio::time::timeout(HANDSHAKE, handshake).await.map_err(late)?.map_err(plainly)
}

/// Reads what a refused client has already sent: closed over it, the kernel would throw away the alert that tells it why.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let _ = stream.shutdown().await;
    let (mut unread, mut nowhere) = (stream.take(LINGER_BYTES), tokio::io::sink());
    let _ = tokio::time::timeout(LINGER, tokio::io::copy(&mut unread, &mut nowhere)).await;
}

/// A refusal of ours in our own words: rustls writes it as a programmer would.
fn plainly(error: io::Error) -> io::Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(CertificateError::Other(ours))) => {
            io::Error::new(error.kind(), ours.0.to_string())
        }
        _ => error,
    }
}

impl Files {
    fn seen(&self) -> Seen {
        [&self.ca, &self.cert, &self.key].map(|file| {
            let meta = std::fs::metadata(file).ok()?;
            Some((meta.modified().ok()?, meta.len()))
        })
    }
}

impl Loaded {
    fn read(files: &Files) -> Result<Self, TlsError> {
        let seen = files.seen();
        let broken = |key: &'static str, file: &Path, cause: &dyn std::fmt::Display| TlsError {
            key,
            file: file.to_owned(),
            cause: cause.to_string(),
        };
        let ca = |cause: &dyn std::fmt::Display| broken("ca", &files.ca, cause);
        let cert = |cause: &dyn std::fmt::Display| broken("cert", &files.cert, cause);
        let key = |cause: &dyn std::fmt::Display| broken("key", &files.key, cause);

        let mut roots = RootCertStore::empty();
        for authority in certificates(&files.ca).map_err(|e| ca(&e))? {
            roots.add(authority).map_err(|e| ca(&e))?;
        }
        let roots = Arc::new(roots);
        let chain = certificates(&files.cert).map_err(|e| cert(&e))?;
        let own = chain.first().map(|first| SpiffeId::of_certificate(first)).transpose().map_err(|e| cert(&e))?;
        let own = own.ok_or_else(|| cert(&"it holds no certificate"))?;
        let secret = read_private(&files.key).map_err(|e| key(&e))?;
        let secret = PrivateKeyDer::from_pem_slice(&secret).map_err(|e| key(&told(&e)))?;

        // Named, not looked up: with two providers in the process the default would be a panic.
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
        let verifier = ExpectNamed { chain: verifier.build().map_err(|e| ca(&e))?, domain: Arc::clone(&own.domain) };
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| cert(&e))?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_single_cert(chain.clone(), secret.clone_key())
            .map_err(|e| key(&e))?;
        server.alpn_protocols = vec![b"h2".to_vec()];
        // A session that is taken up again is not looked at again: a certificate that has ended would go on.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        Ok(Self { server: Arc::new(server), roots, provider, chain, key: secret, own, seen })
    }

    fn client(&self, service: &'static str) -> Result<ClientConfig, rustls::Error> {
        let verifier = ExpectService {
            roots: Arc::clone(&self.roots),
            provider: Arc::clone(&self.provider),
            domain: Arc::clone(&self.own.domain),
            service,
        };
        let mut client = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())?;
        client.alpn_protocols = vec![b"h2".to_vec()];
        client.resumption = Resumption::disabled();
        Ok(client)
    }
}

/// Reads a private key file. Refuses one that group or others can read, unless a container engine mounts it below
/// `/run/secrets`.
fn read_private(file: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let mode = std::fs::metadata(file).map_err(|e| e.to_string())?.mode();
    if mode & 0o077 != 0 && !file.starts_with("/run/secrets") {
        return Err(format!("it has mode {:04o}, others can read it; run: chmod 600 {}", mode & 0o7777, quoted(file)));
    }
    std::fs::read(file).map(Zeroizing::new).map_err(|e| e.to_string())
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = std::fs::read(file).map_err(|e| e.to_string())?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|e| told(&e))?;
    if found.is_empty() { Err("it holds no certificate (PEM)".to_owned()) } else { Ok(found) }
}

/// A fault of a PEM file without a byte of it: it may hold a key.
fn told(error: &pem::Error) -> String {
    match error {
        pem::Error::NoItemsFound => "it holds nothing of the kind (PEM)".to_owned(),
        _ => "it is no proper PEM file".to_owned(),
    }
}

#[cfg(test)]
mod tests;
