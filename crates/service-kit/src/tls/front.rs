//! TLS on a port for everybody: a certificate and its key, and no question who the client is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use domain::Clock;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::kept::{Kept, Source};
use super::{Term, TlsError, certificates, private_key};
use crate::admin::Admin;

/// What to do about a certificate for everybody that has ended, or soon will have.
pub const RENEW_FRONT: &str = "renew it where it comes from, and copy it here; it is taken up within seconds";

/// `[gateway] tls_cert, tls_key`. Cheap to clone; clones share what is read again.
#[derive(Clone)]
pub struct FrontTls {
    kept: Arc<Kept<Files>>,
    acceptor: TlsAcceptor,
}

struct Files {
    cert: PathBuf,
    key: PathBuf,
}

pub(super) struct Loaded {
    certified: Arc<CertifiedKey>,
    term: Term,
}

impl std::fmt::Debug for FrontTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FrontTls({})", self.kept.source().cert.display())
    }
}

impl FrontTls {
    /// Reads a certificate chain and its key. Speaks HTTP/2 and HTTP/1.1 by ALPN.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, is no PEM, or does not go with the other one; a key that others can read.
    pub fn load(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let files = Files { cert: cert.to_owned(), key: key.to_owned() };
        let kept = Arc::new(Kept::open(files, Clock::system())?);
        // Named, not looked up: with two providers in the process the default would be a panic.
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut server = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| TlsError::new(Files::SETTING, cert, &e))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Current(Arc::clone(&kept))));
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { kept, acceptor: TlsAcceptor::from(Arc::new(server)) })
    }

    /// Takes connections in, each with the certificate of its time.
    pub fn acceptor(&self) -> TlsAcceptor {
        self.acceptor.clone()
    }

    /// How long the certificate is good.
    pub fn term(&self) -> Term {
        self.kept.term()
    }

    /// As [`MutualTls::follow`](super::MutualTls::follow).
    pub async fn follow(self, shutdown: CancellationToken) {
        self.kept.follow(shutdown).await;
    }

    /// What the admin port tells of it: when it ends.
    #[must_use]
    pub fn watched(&self, admin: Admin) -> Admin {
        admin.gauges(Arc::clone(&self.kept).gauges()).warnings(Arc::clone(&self.kept).warnings())
    }
}

/// The certificate that is in use when a client comes.
struct Current(Arc<Kept<Files>>);

impl std::fmt::Debug for Current {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Current")
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.current().certified))
    }
}

impl Source for Files {
    type Made = Loaded;
    const SETTING: &'static str = "gateway.tls_cert";
    const RENEW: &'static str = RENEW_FRONT;

    fn files(&self) -> Vec<&Path> {
        vec![&self.cert, &self.key]
    }

    fn read(&self) -> Result<Loaded, TlsError> {
        let cert = |cause: &dyn std::fmt::Display| TlsError::new(Self::SETTING, &self.cert, cause);
        let key = |cause: &dyn std::fmt::Display| TlsError::new("gateway.tls_key", &self.key, cause);
        let chain = certificates(&self.cert).map_err(|e| cert(&e))?;
        let first = chain.first().ok_or_else(|| cert(&"it holds no certificate"))?;
        let term = Term::of_certificate(first).map_err(|e| cert(&e))?;
        let secret = private_key(&self.key).map_err(|e| key(&e))?;
        let provider = aws_lc_rs::default_provider();
        let certified = CertifiedKey::from_der(chain, secret, &provider).map_err(|e| key(&e))?;
        Ok(Loaded { certified: Arc::new(certified), term })
    }

    fn term(made: &Loaded) -> Term {
        made.term
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use rustls::pki_types::ServerName;
    use tokio::net::{TcpListener, TcpStream};

    use super::super::kept::Look;
    use super::*;

    /// Writes a certificate for `name` and its key, and gives the certificate's bytes.
    fn write(front: &Files, name: &str) -> Vec<u8> {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).expect("a certificate");
        std::fs::write(&front.cert, made.cert.pem()).expect("written");
        std::fs::write(&front.key, made.signing_key.serialize_pem()).expect("written");
        std::fs::set_permissions(&front.key, std::fs::Permissions::from_mode(0o600)).expect("a mode");
        made.cert.der().to_vec()
    }

    /// The certificate that a client is shown who takes `trusted` alone.
    async fn shown(tls: &FrontTls, trusted: &[u8]) -> Vec<u8> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let mut roots = rustls::RootCertStore::empty();
        roots.add(trusted.to_vec().into()).expect("a certificate");
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let serve = async { tls.acceptor().accept(listener.accept().await.expect("a client").0).await };
        let call = async {
            let stream = TcpStream::connect(address).await.expect("connected");
            let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
            let stream = connector.connect(ServerName::try_from("localhost").expect("a name"), stream).await;
            let stream = stream.expect("a handshake");
            stream.get_ref().1.peer_certificates().expect("certificates")[0].to_vec()
        };
        let (called, served) = tokio::join!(call, serve);
        drop(served.expect("served"));
        called
    }

    #[tokio::test]
    async fn a_renewed_certificate_is_taken_up_and_a_broken_one_is_not() {
        let folder = tempfile::tempdir().expect("a directory");
        let files = Files { cert: folder.path().join("cert.pem"), key: folder.path().join("key.pem") };
        let first = write(&files, "localhost");
        let tls = FrontTls::load(&files.cert, &files.key).expect("loaded");
        assert_eq!(shown(&tls, &first).await, first);
        assert_eq!(tls.kept.look(), Look::Same);
        let second = write(&files, "localhost");
        assert_eq!(tls.kept.look(), Look::TakenUp);
        assert_eq!(shown(&tls, &second).await, second);
        std::fs::write(&files.cert, "nothing").expect("written");
        assert_eq!((tls.kept.look(), tls.kept.look()), (Look::Refused, Look::Same), "told once");
        assert_eq!(shown(&tls, &second).await, second);
    }

    #[test]
    fn faults_name_setting_and_file_and_a_key_is_private() {
        let folder = tempfile::tempdir().expect("a directory");
        let files = Files { cert: folder.path().join("cert.pem"), key: folder.path().join("key.pem") };
        let _ = write(&files, "localhost");
        let told = || FrontTls::load(&files.cert, &files.key).expect_err("a fault").to_string();
        std::fs::set_permissions(&files.key, std::fs::Permissions::from_mode(0o644)).expect("a mode");
        assert!(told().contains("gateway.tls_key") && told().contains("chmod 600"), "{}", told());
        std::fs::set_permissions(&files.key, std::fs::Permissions::from_mode(0o600)).expect("a mode");
        let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        std::fs::write(&files.key, other.signing_key.serialize_pem()).expect("written");
        assert!(told().contains("gateway.tls_key"), "another key: {}", told());
        std::fs::write(&files.cert, "nothing").expect("written");
        assert!(told().contains("gateway.tls_cert") && told().contains("cert.pem"), "{}", told());
    }
}
