//! Who a certificate names: the one SPIFFE id among its names (the SPIFFE ID and X.509-SVID standards).
//!
//! `spiffe://DOMAIN/service/NAME` is one of our services, `spiffe://DOMAIN/operator/NAME` a person or a program that operates
//! them. Host names in certificates say nothing here: a service may move.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use domain::service::{AUTH, GATEWAY, ROUTER, TRANSPORT};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::term::Term;

/// Longest SPIFFE id in bytes, as the standard says.
const LONGEST: usize = 2048;
/// The services that can be named.
const SERVICES: [&str; 4] = [AUTH, GATEWAY, ROUTER, TRANSPORT];

/// Whom a certificate names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// One of our services.
    Service(&'static str),
    /// An operator, by name.
    Operator(Arc<str>),
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(name) => f.write_str(name),
            Self::Operator(name) => write!(f, "operator {name}"),
        }
    }
}

/// An identity within its trust domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpiffeId {
    /// The trust domain: a name for all that one authority signs.
    pub domain: Arc<str>,
    /// Whom it names.
    pub identity: Identity,
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let domain = &self.domain;
        match &self.identity {
            Identity::Service(name) => write!(f, "spiffe://{domain}/service/{name}"),
            Identity::Operator(name) => write!(f, "spiffe://{domain}/operator/{name}"),
        }
    }
}

/// A certificate names nobody here. The text says why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NobodyNamed(String);

impl NobodyNamed {
    pub(super) fn unreadable(cause: impl fmt::Display) -> Self {
        Self(format!("the certificate cannot be read: {cause}"))
    }
}

impl SpiffeId {
    /// Reads an id as it stands in a certificate.
    ///
    /// # Errors
    ///
    /// What is none of ours.
    pub fn parse(uri: &str) -> Result<Self, NobodyNamed> {
        let nobody =
            || NobodyNamed(format!("{:?} is neither spiffe://DOMAIN/service/NAME nor …/operator/NAME", bounded(uri)));
        let rest = uri.strip_prefix("spiffe://").filter(|_| uri.len() <= LONGEST).ok_or_else(nobody)?;
        let mut parts = rest.split('/');
        let (Some(domain), Some(kind), Some(name), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(nobody());
        };
        if !is_trust_domain(domain) {
            return Err(nobody());
        }
        let identity = match kind {
            "service" => SERVICES.into_iter().find(|service| *service == name).map(Identity::Service),
            "operator" => is_name(name).then(|| Identity::Operator(name.into())),
            _ => None,
        };
        Ok(Self { domain: domain.into(), identity: identity.ok_or_else(nobody)? })
    }

    /// Reads the id in a certificate.
    ///
    /// # Errors
    ///
    /// A certificate that cannot be read, or that has no URI name, or more than one.
    pub fn of_certificate(der: &[u8]) -> Result<Self, NobodyNamed> {
        Ok(Signed::of_certificate(der)?.id)
    }

    fn among(names: &[GeneralName<'_>]) -> Result<Self, NobodyNamed> {
        let mut uris = names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
        match (uris.next(), uris.next()) {
            (Some(uri), None) => Self::parse(uri),
            (None, _) => Err(NobodyNamed("the certificate has no URI name (spiffe://DOMAIN/service/NAME)".to_owned())),
            (Some(_), Some(_)) => {
                Err(NobodyNamed("the certificate has several URI names, and must have one".to_owned()))
            }
        }
    }
}

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// Whom it names.
    pub id: SpiffeId,
    /// Host names and IP addresses in it.
    pub hosts: Vec<String>,
    /// How long it is good.
    pub term: Term,
}

impl Signed {
    /// Reads the first certificate of a PEM file.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or holds none of ours.
    pub fn read(file: &Path) -> Result<Self, String> {
        let der = CertificateDer::from_pem_file(file).map_err(|error| match error {
            pem::Error::Io(error) => error.to_string(),
            _ => "it holds no certificate (PEM)".to_owned(),
        })?;
        Self::of_certificate(&der).map_err(|error| error.to_string())
    }

    /// Reads a certificate.
    ///
    /// # Errors
    ///
    /// As [`SpiffeId::of_certificate`].
    pub fn of_certificate(der: &[u8]) -> Result<Self, NobodyNamed> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(NobodyNamed::unreadable)?;
        let names = certificate.subject_alternative_name().map_err(NobodyNamed::unreadable)?;
        let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
        let hosts = names.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string()),
            _ => None,
        });
        Ok(Self { id: SpiffeId::among(names)?, hosts: hosts.collect(), term: Term::of(&certificate) })
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// Whether `name` can be a trust domain: lower case letters, digits, dots, dashes and underscores.
pub fn is_trust_domain(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
    (1..=255).contains(&name.len()) && name.bytes().all(allowed)
}

/// Whether `name` can be an operator's name: letters, digits, dots, dashes and underscores, and no path step.
pub fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(allowed) && name != "." && name != ".."
}

fn bounded(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_written() {
        for text in ["spiffe://switchboard/service/gateway", "spiffe://prod.example.org/operator/alice"] {
            assert_eq!(SpiffeId::parse(text).map(|id| id.to_string()), Ok(text.to_owned()));
        }
        let id = SpiffeId::parse("spiffe://switchboard/service/auth-svc").expect("an id");
        assert_eq!((&*id.domain, id.identity), ("switchboard", Identity::Service(AUTH)));
    }

    #[test]
    fn what_is_none_of_ours_names_nobody() {
        for text in [
            "",
            "https://switchboard/service/gateway",
            "spiffe://switchboard",
            "spiffe:///service/gateway",
            "spiffe://Switchboard/service/gateway",
            "spiffe://switchboard/service/other",
            "spiffe://switchboard/service/gateway/1",
            "spiffe://switchboard/service/gateway?x",
            "spiffe://switchboard/operator/",
            "spiffe://switchboard/operator/..",
            "spiffe://switchboard/operator/a b",
            "spiffe://switchboard/workload/gateway",
            "spiffe://user@switchboard/service/gateway",
            "spiffe://switchboard:1/service/gateway",
        ] {
            assert!(SpiffeId::parse(text).is_err(), "{text}");
        }
        assert!(SpiffeId::parse(&format!("spiffe://d/operator/{}", "a".repeat(3000))).is_err());
    }

    #[test]
    fn a_certificate_has_one_id() {
        let made = |names: &[&str]| {
            let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("params");
            for name in names {
                params.subject_alt_names.push(rcgen::SanType::URI((*name).try_into().expect("ASCII")));
            }
            let key = rcgen::KeyPair::generate().expect("a key");
            SpiffeId::of_certificate(params.self_signed(&key).expect("a certificate").der())
        };
        let one = made(&["spiffe://switchboard/service/router-svc"]).expect("an id");
        assert_eq!(one.identity, Identity::Service(ROUTER));
        let told = |names: &[&str]| made(names).expect_err("nobody").to_string();
        assert!(told(&[]).contains("no URI name"));
        assert!(told(&["spiffe://d/service/gateway", "spiffe://d/operator/a"]).contains("several"));
        assert!(told(&["spiffe://d/elsewhere"]).contains("neither"));
        assert!(SpiffeId::of_certificate(b"nothing").expect_err("nobody").to_string().contains("cannot be read"));
    }
}
