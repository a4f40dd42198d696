//! TLS on the agents' port.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::service::BuildError;

/// The acceptor that `[gateway] tls_cert` and `tls_key` ask for; `None` if neither is set. Speaks HTTP/2 and HTTP/1.1
/// by ALPN.
///
/// # Errors
///
/// A file that cannot be read, is no PEM, or does not go with the other one; names key and file.
pub fn tls_acceptor(gateway: &config::Gateway) -> Result<Option<TlsAcceptor>, BuildError> {
    let (cert, key) = match (&gateway.tls_cert, &gateway.tls_key) {
        (None, None) => return Ok(None),
        (Some(cert), Some(key)) => (cert, key),
        (Some(_), None) => return Err(BuildError::TlsHalf { present: "tls_cert", missing: "tls_key" }),
        (None, Some(_)) => return Err(BuildError::TlsHalf { present: "tls_key", missing: "tls_cert" }),
    };
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(cert).and_then(Iterator::collect).map_err(|e| broken("tls_cert", cert, &e));
    let chain = chain?;
    if chain.is_empty() {
        return Err(broken("tls_cert", cert, &"it holds no certificate"));
    }
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|e| broken("tls_key", key, &e))?;
    // Named, not looked up: with two providers in the process the default would be a panic.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| broken("tls_cert", cert, &e))?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(|e| broken("tls_key", key, &e))?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Some(TlsAcceptor::from(Arc::new(server))))
}

fn broken(key: &'static str, file: &Path, cause: &dyn std::fmt::Display) -> BuildError {
    BuildError::Tls { key, file: file.to_owned(), cause: cause.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_read_and_faults_name_key_and_file() {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        std::fs::write(&cert, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let mut gateway = config::Config::default().gateway;
        assert!(tls_acceptor(&gateway).unwrap().is_none());
        gateway.tls_cert = Some(cert.clone());
        assert!(tls_acceptor(&gateway).err().unwrap().to_string().contains("tls_key"));
        gateway.tls_key = Some(key.clone());
        assert!(tls_acceptor(&gateway).unwrap().is_some());
        std::fs::write(&cert, "nothing").unwrap();
        let error = tls_acceptor(&gateway).err().unwrap().to_string();
        assert!(error.contains("tls_cert") && error.contains("cert.pem"), "{error}");
        gateway.tls_cert = Some(folder.path().join("absent.pem"));
        assert!(tls_acceptor(&gateway).err().unwrap().to_string().contains("absent.pem"));
    }
}
