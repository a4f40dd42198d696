//! Who may be at the other end: a certificate that our authority has signed, of our trust domain, for whom it must name.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, PeerIncompatible, RootCertStore,
    SignatureScheme,
};

use super::identity::{Identity, NobodyNamed, SpiffeId};

/// It is signed and in time, and names somebody else.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("{0}")]
    Nobody(#[from] NobodyNamed),
    #[error("the certificate is of {found}, and {wanted} is expected")]
    Other { found: SpiffeId, wanted: String },
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refused))))
    }
}

fn named(certificate: &CertificateDer<'_>, domain: &str) -> Result<SpiffeId, Refused> {
    let found = SpiffeId::of_certificate(certificate)?;
    if *found.domain != *domain {
        return Err(Refused::Other { found, wanted: format!("trust domain {domain}") });
    }
    Ok(found)
}

/// Only TLS 1.3 is spoken between our services.
fn no_tls12() -> Error {
    PeerIncompatible::Tls12NotOffered.into()
}

/// For a client of ours: the server is the service that was meant to be called. Where it runs is not looked at.
#[derive(Debug)]
pub(super) struct ExpectService {
    pub(super) roots: Arc<RootCertStore>,
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) domain: Arc<str>,
    /// Any of them, if none is named.
    pub(super) service: Option<&'static str>,
}

impl ServerCertVerifier for ExpectService {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, intermediates, now, algorithms)?;
        let found = named(end_entity, &self.domain)?;
        let Some(service) = self.service else { return Ok(ServerCertVerified::assertion()) };
        let wanted = SpiffeId { domain: Arc::clone(&self.domain), identity: Identity::Service(service) };
        if found != wanted {
            return Err(Refused::Other { found, wanted: wanted.to_string() }.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// For a server of ours: whoever calls is named. What they may call is decided for each call.
#[derive(Debug)]
pub(super) struct ExpectNamed {
    pub(super) chain: Arc<dyn ClientCertVerifier>,
    pub(super) domain: Arc<str>,
}

impl ClientCertVerifier for ExpectNamed {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        let _ = named(end_entity, &self.domain)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
