//! Limits, timeouts, the database, proxies.

use url::Url;

use super::{Findings, urls};
use crate::types::{Config, Seconds};

/// A request with a few images is some megabytes; beyond a gigabyte somebody confused the unit.
const BODY_BYTES: std::ops::RangeInclusive<usize> = 1024..=1024 * 1024 * 1024;

/// Twice this is the time for which one refresh keeps others off, which may not be longer than what the store grants (an
/// hour).
const LONGEST_ANSWER: Seconds = Seconds::new(600);

pub(super) fn check(config: &Config, findings: &mut Findings) {
    let body = config.gateway.max_body_bytes;
    if !BODY_BYTES.contains(&body) {
        findings.value(
            &["gateway", "max_body_bytes"],
            body,
            "expected bytes, from 1024 to 1073741824 (1 GiB); 67108864 (64 MiB) is the default",
        );
    }
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
