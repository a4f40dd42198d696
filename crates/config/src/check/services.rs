//! Limits, timeouts, the database, proxies.

use url::Url;

use super::{Findings, urls};
use crate::problem::Problem;
use crate::types::{Config, Gateway, Seconds};

/// A request with a few images is some megabytes; beyond a gigabyte somebody confused the unit.
const BODY_BYTES: std::ops::RangeInclusive<usize> = 1024..=crate::MAX_BODY_BYTES;

/// Twice this is the time for which one refresh keeps others off, which may not be longer than what the store grants (an
/// hour).
const LONGEST_ANSWER: Seconds = Seconds::new(600);

/// Each attempt binds a credential and makes a request: beyond this somebody confused attempts with calls.
const ATTEMPTS: std::ops::RangeInclusive<u32> = 1..=20;

pub(super) fn check(config: &Config, findings: &mut Findings) {
    let body = config.gateway.max_body_bytes;
    if !BODY_BYTES.contains(&body) {
        findings.value(
            &["gateway", "max_body_bytes"],
            body,
            "expected bytes, from 1024 to 1073741824 (1 GiB); 67108864 (64 MiB) is the default",
        );
    }
    for (name, most) in [("max_calls", config.gateway.max_calls), ("max_connections", config.gateway.max_connections)] {
        if most == 0 {
            findings.value(&["gateway", name], "0", "nobody would be let in: expected at least 1");
        }
    }
    for (name, timeout) in
        [("headers_timeout", config.gateway.headers_timeout), ("body_timeout", config.gateway.body_timeout)]
    {
        if timeout.is_zero() {
            findings.value(&["gateway", name], "0", "no request could come in no time: expected at least \"1s\"");
        }
    }
    for (name, timeout) in
        [("idle_timeout", config.gateway.idle_timeout), ("reader_timeout", config.gateway.reader_timeout)]
    {
        if timeout.is_zero() {
            findings.value(&["gateway", name], "0", "no connection would last: expected at least \"1s\"");
        }
    }
    if !(1..=100).contains(&config.gateway.max_key_share) {
        let cause = "expected a percentage from 1 to 100; 50 is the default";
        findings.value(&["gateway", "max_key_share"], config.gateway.max_key_share, cause);
    }
    if config.transport.max_calls == 0 {
        findings.value(&["transport", "max_calls"], "0", "nothing would ever be sent: expected at least 1");
    }
    for (section, most) in [("auth", config.auth.max_calls), ("router", config.router.max_calls)] {
        if most == 0 {
            findings.value(&[section, "max_calls"], "0", "nothing would ever be answered: expected at least 1");
        }
    }
    check_tries(&config.gateway, findings);
    if let Some(database) = &config.auth.database
        && database.strip_prefix("sqlite:").is_none_or(str::is_empty)
    {
        findings.text(&["auth", "database"], database, "expected \"sqlite:\" and the path of the database file");
    }
    urls::check_identity(&config.auth.identity_url, findings);
    for (name, timeout) in [
        ("connect_timeout", config.transport.connect_timeout),
        ("headers_timeout", config.transport.headers_timeout),
        ("idle_timeout", config.transport.idle_timeout),
    ] {
        if timeout.is_zero() {
            findings.value(&["transport", name], "0", "no call could finish in no time: expected at least \"1s\"");
        }
    }
    if config.auth.identity_timeout.is_zero() {
        let cause = "no refresh could finish in no time: expected at least \"1s\"";
        findings.value(&["auth", "identity_timeout"], "0", cause);
    }
    if config.auth.identity_timeout > LONGEST_ANSWER {
        let cause = "calls would wait for it, and no other process takes a refresh over before twice that time: expected \
                     at most \"10m\"";
        findings.value(&["auth", "identity_timeout"], config.auth.identity_timeout, cause);
    }
    if config.auth.usage_probe_after.is_zero() {
        let cause = "the provider would be asked without a pause: expected at least \"1s\"";
        findings.value(&["auth", "usage_probe_after"], "0", cause);
    }
    for (section, proxy) in [("auth", &config.auth.proxy), ("transport", &config.transport.proxy)] {
        if let Some(proxy) = proxy {
            check_proxy(&[section, "proxy"], proxy, findings);
        }
    }
    for (name, way) in &config.egresses {
        if let Some(proxy) = &way.proxy {
            check_proxy(&["egresses", name, "proxy"], proxy, findings);
        }
    }
}

/// How often a call is tried, and when a target is not tried at all.
fn check_tries(gateway: &Gateway, findings: &mut Findings) {
    let key = |name| ["gateway", name];
    if !ATTEMPTS.contains(&gateway.max_attempts) {
        findings.value(&key("max_attempts"), gateway.max_attempts, "expected 1 to 20; 4 is the default");
    }
    if gateway.retry_percent > 100 {
        findings.value(&key("retry_percent"), gateway.retry_percent, "expected 0 to 100; 10 is the default");
    }
    if gateway.circuit_failures == 0 {
        findings.value(&key("circuit_failures"), 0, "nothing would ever be tried: expected 1 or more");
    }
    if gateway.circuit_open.is_zero() {
        findings.value(
            &key("circuit_open"),
            "0",
            "what fails would be tried without a pause: expected at least \"1s\"",
        );
    }
    if gateway.circuit_open_max < gateway.circuit_open {
        let problem = |name, value: Seconds, message| Problem {
            value: Some(value.to_string()),
            ..super::problem(&key(name), None, message)
        };
        let (open, most) = (gateway.circuit_open, gateway.circuit_open_max);
        findings.pair(
            problem("circuit_open", open, format!("longer than circuit_open_max, {most}")),
            problem("circuit_open_max", most, format!("shorter than circuit_open, {open}")),
        );
    }
}

fn check_proxy(key: &[&str], proxy: &str, findings: &mut Findings) {
    let usable = Url::parse(proxy).is_ok_and(|url| {
        ["http", "https", "socks5", "socks5h"].contains(&url.scheme())
            && url.host_str().is_some_and(|host| !host.is_empty())
    });
    if !usable {
        findings.text(
            key,
            proxy,
            "expected the URL of a proxy, such as \"http://host:3128\" or \"socks5h://host:1080\"",
        );
    }
}
