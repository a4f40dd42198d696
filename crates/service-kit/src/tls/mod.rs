//! Mutual TLS between services, and between operators and services: `[tls] ca, cert, key`.
//!
//! The files are looked at again while the process runs, so that a renewed certificate is taken up without a restart.
//! Connections that are open go on with what they began with.

mod dial;
mod front;
mod heard;
mod identity;
mod kept;
mod own;
mod term;
mod verify;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use domain::Clock;
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

pub use front::{FrontTls, RENEW_FRONT};
pub(crate) use heard::{Alert, Heard};
pub use identity::{Identity, NobodyNamed, Signed, SpiffeId, is_name, is_trust_domain};
pub use own::{RENEW, follow, mutual_tls};
pub use term::{Standing, Term};

use crate::admin::{Gauges, Warnings};
use crate::private::{self, Unread};
use crate::startup::quoted;
use kept::{Kept, Source};
use verify::{ExpectNamed, ExpectService};

/// How long a handshake may take.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long what was sent may stay unacknowledged: a host or a network that has gone is found out by then, and a slow one,
/// which acknowledges as it can, is not taken for it.
const UNACKNOWLEDGED_MS: u32 = 4000;
/// The same of what a server sends: longer, for a client that does not even take what it was sent (a process that was stopped)
/// counts as one that has gone, and it loses all of its streams.
pub(crate) const UNACKNOWLEDGED_ANSWER_MS: u32 = 10_000;
/// How long, and for how many bytes, a refused client is listened to.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 64 * 1024;

/// TLS cannot be spoken with these files.
#[derive(Debug, thiserror::Error)]
#[error("{setting} = {}: {cause}", file.display())]
pub struct TlsError {
    /// The setting, such as `tls.key`.
    setting: &'static str,
    /// The file that it names.
    file: PathBuf,
    /// What is wrong with it.
    cause: String,
}

impl TlsError {
    fn new(setting: &'static str, file: &Path, cause: &dyn std::fmt::Display) -> Self {
        Self { setting, file: file.to_owned(), cause: cause.to_string() }
    }
}

/// A certificate is at fault: the other end's, by what this end expects.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadCertificate(String);

/// This process's certificate and the authority that it trusts. Cheap to clone; clones share what is read again.
#[derive(Clone)]
pub struct MutualTls {
    kept: Arc<Kept<Files>>,
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
    own: Signed,
}

impl std::fmt::Debug for MutualTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MutualTls({})", self.kept.current().own.id)
    }
}

impl MutualTls {
    /// Reads what `[tls]` names; `None` if it names nothing. A certificate that has ended is read as any other.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, holds something else, or does not go with the others; a key that others can read.
    pub fn load(config: &config::Tls) -> Result<Option<Self>, TlsError> {
        let (Some(ca), Some(cert), Some(key)) = (&config.ca, &config.cert, &config.key) else { return Ok(None) };
        let files = Files { ca: ca.clone(), cert: cert.clone(), key: key.clone() };
        Ok(Some(Self { kept: Arc::new(Kept::open(files, Clock::system())?) }))
    }

    /// Whom this process's own certificate names.
    pub fn own(&self) -> SpiffeId {
        self.kept.current().own.id.clone()
    }

    /// How long this process's own certificate is good.
    pub fn term(&self) -> Term {
        self.kept.term()
    }

    /// Where this process's own certificate is, and how it stands, if it does not do: it has ended.
    pub fn ended(&self) -> Option<TlsError> {
        let (now_s, term) = (Clock::system().now_s(), self.term());
        let cert = || TlsError::new(Files::SETTING, self.kept.cert(), &term.told(now_s));
        (term.standing(now_s) == Standing::Ended).then(cert)
    }

    /// Takes up files that have changed, until `shutdown`. Files that cannot be used are told of, and the last good ones
    /// stay. Tells of a certificate that ends soon.
    pub async fn follow(self, shutdown: CancellationToken) {
        self.kept.follow(shutdown).await;
    }

    /// When this process's own certificate ends, for the admin port.
    pub fn gauges(&self) -> Gauges {
        Arc::clone(&self.kept).gauges()
    }

    /// That this process's own certificate ends, for the admin port.
    pub fn warnings(&self) -> Warnings {
        Arc::clone(&self.kept).warnings()
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
        let acceptor = TlsAcceptor::from(Arc::clone(&self.kept.current().server));
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
        self.connect_to(Some(service), address).await
    }

    /// Which of our services is at `address`, `host:port`.
    ///
    /// # Errors
    ///
    /// No connection, a handshake that fails, or nobody of ours.
    pub async fn who(&self, address: &str) -> io::Result<&'static str> {
        let stream = in_time(self.connect_to(None, address)).await?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let certificate = certificate.ok_or_else(|| io::Error::other("the server has no certificate"))?;
        match SpiffeId::of_certificate(certificate).map_err(io::Error::other)?.identity {
            Identity::Service(name) => Ok(name),
            Identity::Operator(_) => Err(io::Error::other("an operator's certificate serves nothing")),
        }
    }

    async fn connect_to(
        &self,
        service: Option<&'static str>,
        address: &str,
    ) -> io::Result<client::TlsStream<TcpStream>> {
        let config = self.kept.current().client(service).map_err(io::Error::other)?;
        let stream = dial::dial(address).await?;
        prepare(&stream, UNACKNOWLEDGED_MS);
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

/// A certificate that is refused here, told apart, and our own refusals in our own words: rustls writes them as a programmer
/// would.
fn plainly(error: io::Error) -> io::Error {
    let told = match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(CertificateError::Other(ours))) => ours.0.to_string(),
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => error.to_string(),
        _ => return error,
    };
    io::Error::new(error.kind(), BadCertificate(told))
}

/// Whether a handshake failed over a certificate: the other end's, or ours in the other end's eyes.
pub(crate) fn is_about_certificates(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| {
        let alert = matches!(inner.downcast_ref(), Some(rustls::Error::AlertReceived(_)));
        alert || inner.is::<BadCertificate>() || inner.is::<NobodyNamed>()
    })
}

/// Sets what a connection between hosts needs: a host or a network that goes without a word is found out after `silent_ms`.
pub(crate) fn prepare(stream: &TcpStream, silent_ms: u32) {
    crate::server::prepare(stream);
    // Not being able to say so is no reason not to speak.
    let _ = rustix::net::sockopt::set_tcp_user_timeout(stream, silent_ms);
}

impl Kept<Files> {
    fn cert(&self) -> &Path {
        &self.source().cert
    }
}

impl Source for Files {
    type Made = Loaded;
    const SETTING: &'static str = "tls.cert";
    const RENEW: &'static str = RENEW;

    fn files(&self) -> Vec<&Path> {
        vec![&self.cert, &self.key, &self.ca]
    }

    fn read(&self) -> Result<Loaded, TlsError> {
        Loaded::read(self)
    }

    fn term(made: &Loaded) -> Term {
        made.own.term
    }
}

impl Loaded {
    fn read(files: &Files) -> Result<Self, TlsError> {
        let ca = |cause: &dyn std::fmt::Display| TlsError::new("tls.ca", &files.ca, cause);
        let cert = |cause: &dyn std::fmt::Display| TlsError::new("tls.cert", &files.cert, cause);
        let key = |cause: &dyn std::fmt::Display| TlsError::new("tls.key", &files.key, cause);

        let mut roots = RootCertStore::empty();
        for authority in certificates(&files.ca).map_err(|e| ca(&e))? {
            roots.add(authority).map_err(|e| ca(&e))?;
        }
        let roots = Arc::new(roots);
        let chain = certificates(&files.cert).map_err(|e| cert(&e))?;
        let own = chain.first().map(|first| Signed::of_certificate(first)).transpose().map_err(|e| cert(&e))?;
        let own = own.ok_or_else(|| cert(&"it holds no certificate"))?;
        let secret = private_key(&files.key).map_err(|e| key(&e))?;

        // Named, not looked up: with two providers in the process the default would be a panic.
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
        let verifier = ExpectNamed { chain: verifier.build().map_err(|e| ca(&e))?, domain: Arc::clone(&own.id.domain) };
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
        Ok(Self { server: Arc::new(server), roots, provider, chain, key: secret, own })
    }

    fn client(&self, service: Option<&'static str>) -> Result<ClientConfig, rustls::Error> {
        let verifier = ExpectService {
            roots: Arc::clone(&self.roots),
            provider: Arc::clone(&self.provider),
            domain: Arc::clone(&self.own.id.domain),
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
fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let text: Zeroizing<Vec<u8>> = private::read(file).map_err(|unread| match unread {
        Unread::Io(error) => error.to_string(),
        Unread::TooOpen(mode) => {
            format!("it has mode {mode:04o}, others can read it; run: chmod 600 {}", quoted(file))
        }
    })?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|e| told(&e))
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
