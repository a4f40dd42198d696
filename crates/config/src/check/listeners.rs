//! Who may listen where, and at which addresses the services find each other.

use std::net::IpAddr;

use url::Url;

use super::Findings;
use crate::types::{Config, Tls};

const NEEDS_MUTUAL_TLS: &str =
    "TCP between services needs mutual TLS: set [tls] ca, cert, key, or use \"unix:///absolute/path\"";

pub(super) fn check(config: &Config, findings: &mut Findings) {
    check_gateway_tls(config, findings);
    for (section, name, listen) in [
        ("gateway", "listen", &config.gateway.listen),
        ("gateway", "admin_listen", &config.gateway.admin_listen),
        ("auth", "admin_listen", &config.auth.admin_listen),
        ("router", "admin_listen", &config.router.admin_listen),
        ("transport", "admin_listen", &config.transport.admin_listen),
    ] {
        check_public(config, &[section, name], listen, findings);
    }
    check_mutual_tls(&config.tls, findings);
    for (section, key, listen) in [
        ("gateway", "control_listen", &config.gateway.control_listen),
        ("auth", "listen", &config.auth.listen),
        ("router", "listen", &config.router.listen),
        ("transport", "listen", &config.transport.listen),
    ] {
        if let Some(listen) = listen {
            check_internal(&config.tls, &[section, key], listen, findings);
        }
    }
    for (name, address) in [("router", &config.gateway.router), ("auth", &config.gateway.auth)] {
        if let Some(address) = address {
            check_peer(&config.tls, &["gateway", name], address, findings);
        }
    }
    for (name, egress) in &config.gateway.transports {
        if egress.address != "in-process" {
            check_peer(&config.tls, &["gateway", "transports", name, "address"], &egress.address, findings);
        }
    }
}

fn check_gateway_tls(config: &Config, findings: &mut Findings) {
    match (&config.gateway.tls_cert, &config.gateway.tls_key) {
        (Some(_), None) => findings.key(&["gateway", "tls_cert"], "needs gateway.tls_key beside it"),
        (None, Some(_)) => findings.key(&["gateway", "tls_key"], "needs gateway.tls_cert beside it"),
        _ => {}
    }
}

/// A port for agents or for monitoring: plaintext stays on loopback unless the user says otherwise.
fn check_public(config: &Config, key: &[&str], listen: &str, findings: &mut Findings) {
    let gateway = &config.gateway;
    match host_of(listen) {
        None => {
            findings.text(key, listen, "expected \"host:port\" with a port from 0 to 65535, such as \"127.0.0.1:7411\"")
        }
        Some(host) if is_loopback(host) || gateway.allow_plaintext => {}
        Some(_) if key.ends_with(&["admin_listen"]) => findings.text(
            key,
            listen,
            "beyond loopback this port needs gateway.allow_plaintext = true, where something else guards it",
        ),
        Some(_) if gateway.tls_cert.is_some() && gateway.tls_key.is_some() => {}
        Some(_) => findings.text(
            key,
            listen,
            "beyond loopback this port needs gateway.tls_cert and gateway.tls_key, or gateway.allow_plaintext = true \
             where something else guards it",
        ),
    }
}

/// `[tls]` is whole or absent: half of it would look like protection.
fn check_mutual_tls(tls: &Tls, findings: &mut Findings) {
    let parts = [("ca", &tls.ca), ("cert", &tls.cert), ("key", &tls.key)];
    let (given, missing): (Vec<_>, Vec<_>) = parts.into_iter().partition(|(_, file)| file.is_some());
    if let Some((first, _)) = given.first()
        && !missing.is_empty()
    {
        let missing: Vec<_> = missing.iter().map(|(name, _)| format!("tls.{name}")).collect();
        let message = format!("mutual TLS takes [tls] ca, cert, key together; missing: {}", missing.join(", "));
        findings.key(&["tls", first], message);
    }
}

/// Where one of our services listens for the others.
fn check_internal(tls: &Tls, key: &[&str], listen: &str, findings: &mut Findings) {
    if listen.starts_with("unix:") {
        return check_socket(key, listen, findings);
    }
    let authority = listen.strip_prefix("https://").unwrap_or(listen);
    if host_of(authority).is_none() {
        findings.text(key, listen, "expected \"unix:///absolute/path\", or \"host:port\" with [tls] ca, cert, key");
    } else if !tls.is_complete() {
        findings.text(key, listen, NEEDS_MUTUAL_TLS);
    }
}

/// Where the gateway finds one of our services.
fn check_peer(tls: &Tls, key: &[&str], address: &str, findings: &mut Findings) {
    if address.starts_with("unix:") {
        return check_socket(key, address, findings);
    }
    let authority = address.strip_prefix("https://").filter(|authority| host_of(authority).is_some());
    let is_url = authority.is_some() && Url::parse(address).is_ok();
    if !is_url {
        let in_process = if key.contains(&"transports") { "\"in-process\", " } else { "" };
        let message = format!(
            "expected {in_process}\"unix:///absolute/path\", or \"https://host:port\" with [tls] ca, cert, key"
        );
        findings.text(key, address, message);
    } else if !tls.is_complete() {
        findings.text(key, address, NEEDS_MUTUAL_TLS);
    }
}

fn check_socket(key: &[&str], address: &str, findings: &mut Findings) {
    let path = address.strip_prefix("unix://").unwrap_or_default();
    if !path.starts_with('/') || path.ends_with('/') {
        findings.text(key, address, "expected \"unix:///absolute/path\", with three slashes");
    }
}

/// The host of `host:port`; none when it is anything else. IPv6 stands in brackets, which are taken off.
fn host_of(authority: &str) -> Option<&str> {
    let (host, port) = authority.rsplit_once(':')?;
    if !port.bytes().all(|byte| byte.is_ascii_digit()) || port.parse::<u16>().is_err() {
        return None;
    }
    if let Some(inner) = host.strip_prefix('[') {
        let inner = inner.strip_suffix(']')?;
        return inner.parse::<std::net::Ipv6Addr>().is_ok().then_some(inner);
    }
    let is_name = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    is_name.then_some(host)
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_hosts_and_ports() {
        assert_eq!(host_of("127.0.0.1:0"), Some("127.0.0.1"));
        assert_eq!(host_of("[::1]:7411"), Some("::1"));
        assert_eq!(host_of("my-host.example:65535"), Some("my-host.example"));
        for text in [
            "",
            "7411",
            ":7411",
            "host",
            "host:",
            "host:65536",
            "host:+1",
            "::1:7411",
            "[::1]7411",
            "[x]:1",
            "http://h:1",
            "h:1/x",
            "u@h:1",
        ] {
            assert_eq!(host_of(text), None, "{text}");
        }
    }

    #[test]
    fn knows_loopback() {
        assert!(["127.0.0.1", "127.9.9.9", "::1", "localhost", "LocalHost"].into_iter().all(is_loopback));
        assert!(!["0.0.0.0", "::", "10.0.0.1", "localhost.example", "127.0.0.1.example"].into_iter().any(is_loopback));
    }
}
