//! An authority for mutual TLS, in a directory: its own certificate and key, and a folder for each service and operator
//! with all that it needs, to be copied to where it runs.

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind, Write};
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use domain::Reason;
use domain::service::{AUTH, GATEWAY, ROUTER, TRANSPORT};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use service_kit::SecretKey;
use service_kit::files::Replacement;
use service_kit::tls::{Identity, Signed, SpiffeId};
use zeroize::Zeroizing;

use crate::output::Failed;

/// Days that an authority lasts.
const AUTHORITY_DAYS: u64 = 3650;
/// How far back certificates begin: clocks of hosts differ.
const BEGINS_BEFORE: Duration = Duration::from_secs(3600);
/// The file of the seal key, which auth-svc and transport-svc share.
const SEAL_KEY: &str = "seal.key";
/// The four services.
pub(crate) const SERVICES: [&str; 4] = [GATEWAY, ROUTER, AUTH, TRANSPORT];

/// The directory.
pub(crate) struct Directory(PathBuf);

/// What stands in a folder of it.
pub(crate) struct Member {
    /// The folder's name: `gateway`, `operator-admin`.
    pub(crate) name: String,
    /// Its certificate.
    pub(crate) signed: Signed,
}

/// For how long and for which hosts a certificate is.
pub(crate) struct Terms<'a> {
    /// Days that it lasts.
    pub(crate) days: u16,
    /// Host names and IP addresses of services.
    pub(crate) hosts: &'a [String],
}

/// Signs.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
}

impl Directory {
    pub(crate) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    fn file(&self, folder: &str, name: &str) -> PathBuf {
        self.0.join(folder).join(name)
    }

    /// The authority in it; made if there is none. True if it was made.
    pub(crate) fn authority(&self, domain: &str) -> Result<(Authority, bool), Failed> {
        let (certificate, key) = (self.file("", "ca.pem"), self.file("", "ca-key.pem"));
        if certificate.exists() || key.exists() {
            return Ok((self.opened()?, false));
        }
        make_folder(&self.0)?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let made = SecretKey::generate().map_err(|e| failed(&e))?;
        // A name of its own, so that another authority's certificates are told apart from damaged ones.
        params.distinguished_name.push(DnType::CommonName, format!("Switchboard {domain} {}", &made.id()[..8]));
        lasting(&mut params, AUTHORITY_DAYS);
        let pair = KeyPair::generate().map_err(|e| failed(&e))?;
        let signed = params.self_signed(&pair).map_err(|e| failed(&e))?;
        write(&key, Zeroizing::new(pair.serialize_pem()).as_bytes())?;
        write(&certificate, signed.pem().as_bytes())?;
        Ok((Authority { issuer: Issuer::new(params, pair) }, true))
    }

    /// The authority in it.
    pub(crate) fn opened(&self) -> Result<Authority, Failed> {
        let (certificate, key) = (self.file("", "ca.pem"), self.file("", "ca-key.pem"));
        let broken = |file: &Path, cause: &dyn std::fmt::Display| {
            let message = format!("the authority's {} cannot be used: {cause}", file.display());
            Failed::because(Reason::RequestInvalid, message, "bring it back from a copy, or name another --dir")
        };
        let pair = pair(&key).map_err(|cause| broken(&key, &cause))?;
        let text = fs::read_to_string(&certificate).map_err(|e| broken(&certificate, &e))?;
        let issuer = Issuer::from_ca_cert_pem(&text, pair).map_err(|e| broken(&certificate, &e))?;
        Ok(Authority { issuer })
    }

    /// Whether the folder of that name has a certificate.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.file(name, "cert.pem").exists()
    }

    /// As [`Self::members`]; none where there is no directory yet.
    pub(crate) fn members_if_any(&self) -> Result<Vec<Member>, Failed> {
        if self.0.exists() { self.members() } else { Ok(Vec::new()) }
    }

    /// All that has a certificate, by name.
    pub(crate) fn members(&self) -> Result<Vec<Member>, Failed> {
        let mut members = Vec::new();
        let unreadable = |e: io::Error| {
            let message = format!("the authority's directory {} cannot be read: {e}", self.0.display());
            let next = "run it where `switchboard certs init` ran, or name its directory with --dir";
            Failed::because(Reason::NotFound, message, next)
        };
        for entry in fs::read_dir(&self.0).map_err(unreadable)? {
            let name = entry.map_err(unreadable)?.file_name().to_string_lossy().into_owned();
            if self.has(&name) {
                members.push(self.member(name)?);
            }
        }
        members.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(members)
    }

    /// The one of that name.
    pub(crate) fn member(&self, name: String) -> Result<Member, Failed> {
        let file = self.file(&name, "cert.pem");
        let signed = Signed::read(&file).map_err(|cause| {
            let message = format!("{} cannot be used: {cause}", file.display());
            Failed::because(
                Reason::RequestInvalid,
                message,
                "remove it, and make it anew with `switchboard certs init`",
            )
        })?;
        Ok(Member { name, signed })
    }

    /// Makes folder, key and certificate for `id`.
    pub(crate) fn make(&self, authority: &Authority, id: &SpiffeId, terms: &Terms<'_>) -> Result<Member, Failed> {
        let name = folder_of(&id.identity);
        make_folder(&self.0.join(&name))?;
        let pair = KeyPair::generate().map_err(|e| failed(&e))?;
        write(&self.file(&name, "key.pem"), Zeroizing::new(pair.serialize_pem()).as_bytes())?;
        self.sign(authority, id, &pair, terms)?;
        self.member(name)
    }

    /// Signs the certificate in the folder of `member` anew, for as long as `days`.
    pub(crate) fn renew(
        &self,
        authority: &Authority,
        member: &Member,
        days: u16,
        new_key: bool,
    ) -> Result<Member, Failed> {
        let terms = Terms { days, hosts: &member.signed.hosts };
        if new_key {
            return self.make(authority, &member.signed.id, &terms);
        }
        let file = self.file(&member.name, "key.pem");
        let pair = pair(&file).map_err(|cause| {
            let message = format!("{} cannot be used: {cause}", file.display());
            Failed::because(Reason::RequestInvalid, message, "give it a new one with --new-keys")
        })?;
        self.sign(authority, &member.signed.id, &pair, &terms)?;
        self.member(member.name.clone())
    }

    fn sign(&self, authority: &Authority, id: &SpiffeId, pair: &KeyPair, terms: &Terms<'_>) -> Result<(), Failed> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, id.identity.to_string());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names.push(SanType::URI(id.to_string().try_into().map_err(|e| failed(&e))?));
        if let Identity::Service(_) = id.identity {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
            for host in terms.hosts {
                params.subject_alt_names.push(match host.parse::<IpAddr>() {
                    Ok(address) => SanType::IpAddress(address),
                    Err(_) => SanType::DnsName(host.as_str().try_into().map_err(|e| failed(&e))?),
                });
            }
        }
        lasting(&mut params, u64::from(terms.days));
        let signed = params.signed_by(pair, &authority.issuer).map_err(|e| failed(&e))?;
        let name = folder_of(&id.identity);
        let authority = fs::read(self.file("", "ca.pem"))?;
        write(&self.file(&name, "ca.pem"), &authority)?;
        write(&self.file(&name, "cert.pem"), signed.pem().as_bytes())
    }

    /// One seal key for auth-svc and transport-svc, in the folders of both. True if it was made.
    pub(crate) fn seal_key(&self) -> Result<bool, Failed> {
        let files = [AUTH, TRANSPORT].map(|name| self.file(name, SEAL_KEY));
        let there = files.iter().find(|file| file.exists());
        let key = match there {
            Some(file) => SecretKey::read(file).map_err(|e| failed(&e))?,
            None => SecretKey::generate().map_err(|e| failed(&e))?,
        };
        for file in files.iter().filter(|file| !file.exists()) {
            key.write_new(file).map_err(|e| failed(&e))?;
        }
        Ok(there.is_none())
    }
}

/// The folder of a member.
pub(crate) fn folder_of(identity: &Identity) -> String {
    match identity {
        Identity::Service(name) => (*name).to_owned(),
        Identity::Operator(name) => format!("operator-{name}"),
    }
}

fn lasting(params: &mut CertificateParams, days: u64) {
    let now = SystemTime::now();
    params.not_before = (now - BEGINS_BEFORE).into();
    params.not_after = (now + Duration::from_secs(days * 86_400)).into();
}

fn pair(file: &Path) -> Result<KeyPair, String> {
    let text = fs::read_to_string(file).map(Zeroizing::new).map_err(|e| e.to_string())?;
    // Whatever is wrong with it, nothing of it is told.
    KeyPair::from_pem(&text).map_err(|_| "it is no private key (PEM)".to_owned())
}

fn make_folder(path: &Path) -> Result<(), Failed> {
    match DirBuilder::new().recursive(true).mode(0o700).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(unwritten(path, &error)),
        _ => Ok(()),
    }
}

/// Writes a file that only its owner may read: it is moved to other hosts with its folder, key and all.
fn write(path: &Path, content: &[u8]) -> Result<(), Failed> {
    let put = || {
        let mut replacement = Replacement::of(path)?;
        replacement.write_all(content)?;
        replacement.put()
    };
    put().map_err(|error| unwritten(path, &error))
}

fn unwritten(path: &Path, error: &io::Error) -> Failed {
    let message = format!("{} cannot be written: {}", path.display(), service_kit::files::unwritten(path, error));
    Failed::because(Reason::StoreUnavailable, message, "make room or give permission, and run it again")
}

fn failed(error: &dyn std::fmt::Display) -> Failed {
    Failed::because(Reason::Internal, error.to_string(), "see what it says, and run it again")
}
