//! Where services are that are not in this data directory: at the addresses of the configuration, or where `--server` says.

use std::path::PathBuf;

use config::Config;
use domain::service::{AUTH, CLI, GATEWAY, ROUTER, TRANSPORT};
use domain::{Failure, Reason};
use service_kit::startup::{RENEW, StartError};
use service_kit::tls::{Identity, MutualTls, Signed};
use service_kit::{PeerChannel, check_health};

use crate::args::Cli;
use crate::control::{data_dir, places};
use crate::output::Failed;

/// The configuration, if there is one that can be read: to reach a server does not take it. The simulator is all in one
/// process, whatever the file says of the real thing.
fn configuration(cli: &Cli) -> Option<Config> {
    if cli.sim {
        return None;
    }
    let options = places(cli).ok()?.load_options(Vec::new()).ok()?;
    Some(config::load(&options).ok()?.config)
}

/// `--server`, if it is given; an empty variable is one that is not set.
pub(crate) fn named_server(cli: &Cli) -> Option<&str> {
    cli.server.as_deref().filter(|server| !server.is_empty())
}

/// `host:port` of `--server https://host:port`.
pub(crate) fn remote_server(cli: &Cli) -> Option<&str> {
    Some(named_server(cli)?.strip_prefix("https://")?.trim_end_matches('/'))
}

/// The certificate to show to servers on the network: the arguments', else the configuration's.
pub(crate) fn certificate(cli: &Cli) -> Result<MutualTls, Failed> {
    let args = &cli.certificate;
    let given = config::Tls { ca: args.ca.clone(), cert: args.cert.clone(), key: args.key.clone() };
    let any = given.ca.is_some() || given.cert.is_some() || given.key.is_some();
    if any && !given.is_complete() {
        return Err(Failed::usage("--ca, --cert and --key belong together", "give all three, or none of them"));
    }
    let tls = match any {
        true => given,
        false => {
            let options = places(cli)?.load_options(Vec::new())?;
            config::load(&options).map_err(StartError::from)?.config.tls
        }
    };
    let loaded = MutualTls::load(&tls).map_err(|error| StartError::Configuration(error.to_string()))?;
    let Some(mutual) = loaded else {
        return Err(Failed::usage(
            "a server on the network wants an operator's certificate",
            "name its files with --ca, --cert and --key, or in [tls]; `switchboard certs init --operator NAME` makes them",
        ));
    };
    match mutual.ended() {
        Some(ended) => Err(Failed::because(Reason::RequestInvalid, ended.to_string(), RENEW)),
        None => Ok(mutual),
    }
}

/// A client for `service` at the server that `--server` names on the network.
pub(crate) fn remote(cli: &Cli, service: &'static str, address: &str) -> Result<PeerChannel, Failed> {
    let is_place = address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if !is_place || address.contains(['/', '@']) {
        return Err(Failed::usage(
            format!("--server https://{address}: no host and port"),
            "name it as https://HOST:PORT",
        ));
    }
    Ok(PeerChannel::network(service, address, &certificate(cli)?).asked_by(CLI))
}

/// Which service is at the server that `--server` names on the network, and a client for it.
pub(crate) async fn whoever(cli: &Cli, address: &str) -> Result<(&'static str, PeerChannel), Failed> {
    let mutual = certificate(cli)?;
    let service = mutual.who(address).await.map_err(|error| {
        let message = format!("the server at https://{address} does not answer: {error}");
        Failed::from(Failure::new(Reason::PeerUnavailable, CLI, message))
    })?;
    Ok((service, PeerChannel::network(service, address, &mutual).asked_by(CLI)))
}

/// Sockets of `service` that the configuration names, beside those of the data directory.
pub(crate) fn sockets(cli: &Cli, service: &str) -> Vec<PathBuf> {
    let Some(config) = configuration(cli) else { return Vec::new() };
    let addresses = match service {
        AUTH => [config.auth.listen, config.gateway.auth],
        ROUTER => [config.router.listen, config.gateway.router],
        _ => [None, None],
    };
    addresses.iter().flatten().filter_map(|address| address.strip_prefix("unix://").map(PathBuf::from)).collect()
}

/// Where the credentials are, if not on this host: another host's auth-svc has them.
pub(crate) fn store_elsewhere(cli: &Cli) -> Option<Elsewhere> {
    let config = configuration(cli)?;
    let own = own_service(&config);
    match (https(config.gateway.auth.as_deref()), own) {
        // One file may be for all hosts, this one among them.
        (_, Some(AUTH)) => None,
        (Some(address), _) => Some(Elsewhere { address: Some(address.to_owned()) }),
        (None, Some(ROUTER | TRANSPORT)) => Some(Elsewhere { address: None }),
        (None, _) => None,
    }
}

/// auth-svc on another host.
#[derive(Debug)]
pub(crate) struct Elsewhere {
    address: Option<String>,
}

impl Elsewhere {
    /// Where it is, in words.
    pub(crate) fn place(&self) -> String {
        match &self.address {
            Some(address) => format!("auth-svc at https://{address} has the credentials ([gateway] auth)"),
            None => "auth-svc on another host has the credentials; this host's certificate ([tls] cert) is another service's"
                .to_owned(),
        }
    }

    /// What to do about it.
    pub(crate) fn next_step(&self) -> String {
        let address = self.address.as_deref().unwrap_or("HOST:7412");
        format!(
            "run it on that host, or here with an operator's certificate: --server https://{address} --ca … --cert … --key …"
        )
    }

    /// Why a command that works on the credentials does not do so here.
    pub(crate) fn failed(&self) -> Failed {
        let message = format!("there is no credential store on this host: {}", self.place());
        Failed::because(Reason::StoreUnavailable, message, self.next_step())
    }
}

/// A service that is part of this deployment, and how it is asked.
pub(crate) struct Member {
    pub(crate) name: String,
    at: At,
    /// It is missed where it is not: other hosts rely on it.
    missed: bool,
}

/// Where a service is.
enum At {
    /// On this host.
    Socket(&'static str, PathBuf),
    /// On another host.
    Host(PeerChannel),
    /// On another host, which cannot be asked from here.
    Unasked(Failure),
}

impl Member {
    /// Whether there is any sign that it should be there.
    pub(crate) fn is_there(&self) -> bool {
        match &self.at {
            At::Socket(_, path) => self.missed || path.exists(),
            At::Host(_) | At::Unasked(_) => true,
        }
    }

    /// Asks whether it serves.
    pub(crate) async fn health(self) -> Result<(), Failure> {
        match self.at {
            At::Socket(name, path) => check_health(PeerChannel::unix(name, &path).asked_by(CLI)).await,
            At::Host(channel) => check_health(channel).await,
            At::Unasked(failure) => Err(failure),
        }
    }
}

/// The services that this host has to do with: its own, at sockets, and those that the configuration puts elsewhere. Of
/// a host among several nobody can say which others there are; what its gateway does not call is not its affair.
pub(crate) fn members(cli: &Cli) -> Result<Vec<Member>, Failed> {
    let dir = data_dir(cli)?;
    let config = configuration(cli).unwrap_or_default();
    let (own, alone) = (own_service(&config), !has_others(&config));
    let mut members = Vec::new();
    let mut add = |name: &'static str, shown: String, address: Option<&str>, listen: Option<&str>| {
        let unix =
            |address: Option<&str>| address.and_then(|address| address.strip_prefix("unix://")).map(PathBuf::from);
        let at = match https(address).filter(|_| own != Some(name)) {
            Some(address) => match certificate(cli) {
                Ok(mutual) => At::Host(PeerChannel::network(name, address, &mutual).asked_by(CLI)),
                Err(failed) => At::Unasked(cause(failed)),
            },
            None => {
                let socket = unix(listen).or_else(|| unix(address)).unwrap_or_else(|| dir.join(format!("{name}.sock")));
                if !(alone || own == Some(name) || listen.is_some() || socket.exists()) {
                    return;
                }
                At::Socket(name, socket)
            }
        };
        members.push(Member { name: shown, at, missed: !alone });
    };
    let gateway = &config.gateway;
    add(GATEWAY, GATEWAY.to_owned(), None, None);
    add(ROUTER, ROUTER.to_owned(), gateway.router.as_deref(), config.router.listen.as_deref());
    add(AUTH, AUTH.to_owned(), gateway.auth.as_deref(), config.auth.listen.as_deref());
    for (egress, at) in &gateway.transports {
        let shown = match gateway.transports.len() {
            1 => TRANSPORT.to_owned(),
            _ => format!("{TRANSPORT} (egress {egress})"),
        };
        let address = Some(at.address.as_str()).filter(|address| *address != "in-process");
        // The service of this host is the egress that its own section names.
        let listen = config.transport.listen.as_deref().filter(|_| config.transport.name == *egress);
        add(TRANSPORT, shown, address, listen);
    }
    Ok(members)
}

fn cause(failed: Failed) -> Failure {
    failed.failure().unwrap_or_else(|| Failure::new(Reason::Internal, CLI, "no certificate could be read"))
}

/// The service that this host's certificate names.
fn own_service(config: &Config) -> Option<&'static str> {
    // Its key need not be this user's to read.
    match Signed::read(config.tls.cert.as_deref()?).ok()?.id.identity {
        Identity::Service(name) => Some(name),
        Identity::Operator(_) => None,
    }
}

/// Whether services are on other hosts, too.
fn has_others(config: &Config) -> bool {
    let gateway = &config.gateway;
    let called = [gateway.router.as_deref(), gateway.auth.as_deref()];
    let egresses = gateway.transports.values().map(|egress| Some(egress.address.as_str()));
    let listens = [&config.auth.listen, &config.router.listen, &config.transport.listen];
    called.into_iter().chain(egresses).any(|address| https(address).is_some())
        || listens.into_iter().flatten().any(|listen| !listen.starts_with("unix:"))
}

fn https(address: Option<&str>) -> Option<&str> {
    Some(address?.strip_prefix("https://")?.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn at(dir: &std::path::Path, config: &str, args: &[&str]) -> Cli {
        let file = dir.join("switchboard.toml");
        std::fs::write(&file, config).expect("written");
        let all = ["switchboard", "--data-dir", &dir.to_string_lossy(), "--config", &file.to_string_lossy()]
            .into_iter()
            .map(str::to_owned)
            .chain(args.iter().map(|arg| (*arg).to_owned()))
            .chain(["health".to_owned()])
            .collect::<Vec<_>>();
        Cli::try_parse_from(all).expect("arguments")
    }

    fn names(cli: &Cli) -> Vec<String> {
        members(cli).expect("members").into_iter().map(|member| member.name).collect()
    }

    #[test]
    fn alone_all_services_are_this_hosts() {
        let dir = tempfile::tempdir().expect("a directory");
        let cli = at(dir.path(), "", &[]);
        assert_eq!(names(&cli), [GATEWAY, ROUTER, AUTH, TRANSPORT]);
        assert!(store_elsewhere(&cli).is_none());
        let cli = at(
            dir.path(),
            "[auth]\nlisten = 'unix:///run/other.sock'\n[gateway.transports.two]\naddress = 'unix:///x'",
            &[],
        );
        assert_eq!(sockets(&cli, AUTH), [PathBuf::from("/run/other.sock")]);
        assert_eq!(names(&cli).last().map(String::as_str), Some("transport-svc (egress two)"));
        let simulated = Cli { sim: true, ..cli };
        assert!(sockets(&simulated, AUTH).is_empty(), "what the file says is of the real thing");
    }

    #[test]
    fn among_others_a_host_answers_for_what_it_has_and_calls() {
        let dir = tempfile::tempdir().expect("a directory");
        let tls = "[tls]\nca = '/c'\ncert = '/c'\nkey = '/k'\n";
        let cli = at(dir.path(), &format!("[auth]\nlisten = '10.0.0.2:7412'\n{tls}"), &[]);
        assert_eq!(names(&cli), [AUTH], "the others are on hosts of which nothing is known here");
        let cli = at(dir.path(), &format!("[gateway]\nauth = 'https://a:7412'\nrouter = 'https://r:7413'\n{tls}"), &[]);
        std::fs::write(dir.path().join("gateway.sock"), "").expect("written");
        assert_eq!(names(&cli), [GATEWAY, ROUTER, AUTH]);
        let place = store_elsewhere(&cli).expect("elsewhere");
        assert!(place.place().contains("https://a:7412") && place.next_step().contains("--server https://a:7412"));
    }

    #[test]
    fn a_server_on_the_network_is_a_host_and_a_port() {
        let dir = tempfile::tempdir().expect("a directory");
        let told = |server: &str, more: &[&str]| {
            let args: Vec<&str> = ["--server", server].into_iter().chain(more.iter().copied()).collect();
            let cli = at(dir.path(), "", &args);
            let address = remote_server(&cli).expect("an address").to_owned();
            let failure = remote(&cli, AUTH, &address).err().and_then(|failed| failed.failure()).expect("a failure");
            format!("{} {}", failure.message, failure.next_step)
        };
        assert!(told("https://a", &[]).contains("no host and port"));
        assert!(told("https://user@a:1", &[]).contains("no host and port"));
        assert!(told("https://a:7412", &[]).contains("--cert"));
        assert!(told("https://a:7412", &["--cert", "/c"]).contains("belong together"));
        assert!(told("https://a:7412", &["--ca", "/c", "--cert", "/c", "--key", "/k"]).contains("tls.ca = /c"));
    }
}
