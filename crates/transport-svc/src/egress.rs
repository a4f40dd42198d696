//! What a failed connection means: where it failed, and how much of the request had left by then.

use std::error::Error;
use std::io;
use std::time::Duration;

use domain::{Failure, Reason, service};
use proto::transport::v1::Sent;

use crate::plain::Unanswered;

/// Why a body broke off.
#[derive(Debug)]
pub(crate) enum Cut {
    Pooled(reqwest::Error),
    Plain(hyper::Error),
}

impl Cut {
    fn cause(&self) -> String {
        match self {
            Self::Pooled(error) => innermost(error),
            Self::Plain(error) if error.source().is_none() => error.to_string(),
            Self::Plain(error) => innermost(error),
        }
    }
}

/// The failure of a request that got no response headers. `proxy` is the configured one, as it may be shown.
pub(crate) fn no_headers(error: &reqwest::Error, url: &str, proxy: Option<&str>) -> (Failure, Sent) {
    if error.is_connect() {
        return (unreachable(error, url, proxy), Sent::NotSent);
    }
    if let Some(how) = not_processed(error) {
        let message = format!("{url} did not process the request: {how}");
        return (upstream(Reason::UpstreamError, message), Sent::NotProcessed);
    }
    if chain(error).any(|e| e.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled)) {
        return (unsent(url), Sent::NotSent);
    }
    (headless(url, &innermost(error)), Sent::Sent)
}

/// As [`no_headers`], of a server on this machine.
pub(crate) fn unanswered(error: &Unanswered, url: &str) -> (Failure, Sent) {
    match error {
        Unanswered::Connect(_) => (unreachable(error, url, None), Sent::NotSent),
        Unanswered::Broken(error) if error.is_canceled() => (unsent(url), Sent::NotSent),
        Unanswered::Broken(_) => (headless(url, &innermost(error)), Sent::Sent),
    }
}

fn headless(url: &str, cause: &str) -> Failure {
    upstream(Reason::StreamCut, format!("the connection to {url} ended before any response header: {cause}"))
}

/// The connection was on its way out when the request came; nothing of it was written.
fn unsent(url: &str) -> Failure {
    upstream(Reason::UpstreamError, format!("the connection to {url} closed before the request was sent"))
}

/// The failure of a request whose response headers did not come in time.
pub(crate) fn late_headers(url: &str, limit: Duration) -> Failure {
    let message = format!("{url} sent no response headers within {} s", limit.as_secs());
    upstream(Reason::UpstreamTimeout, message)
}

/// The failure of a stream that broke off.
pub(crate) fn cut(error: &Cut, url: &str, events: i32) -> Failure {
    let message = format!("the stream from {url} was cut after {events} events: {}", error.cause());
    upstream(Reason::StreamCut, message)
}

/// The failure of a whole answer that broke off.
pub(crate) fn cut_short(error: &Cut, url: &str, bytes: usize) -> Failure {
    let message = format!("the answer of {url} was cut after {bytes} bytes: {}", error.cause());
    upstream(Reason::StreamCut, message)
}

fn upstream(reason: Reason, message: String) -> Failure {
    Failure::new(reason, service::UPSTREAM, message)
}

/// HTTP/2's own word that a request was not processed: REFUSED_STREAM, or a GOAWAY that names an earlier stream. A
/// stream that a GOAWAY includes goes on, and fails with another error if the connection then ends.
fn not_processed(error: &reqwest::Error) -> Option<&'static str> {
    let http2 = chain(error).find_map(|e| e.downcast_ref::<h2::Error>())?;
    if !http2.is_remote() {
        return None;
    }
    if http2.is_go_away() {
        return Some("the server is closing the connection (GOAWAY)");
    }
    (http2.is_reset() && http2.reason() == Some(h2::Reason::REFUSED_STREAM))
        .then_some("the server refused the stream (REFUSED_STREAM)")
}

fn unreachable(error: &(dyn Error + 'static), url: &str, proxy: Option<&str>) -> Failure {
    let texts: Vec<String> = chain(error).map(ToString::to_string).collect();
    let says = |needle: &str| texts.iter().any(|text| text.contains(needle));
    let cause = innermost(error);
    // The proxy first: what fails behind it fails in its name.
    let (what, next_step) = if ["tunnel error", "SOCKS error", "socks", "proxy"].iter().any(|word| says(word)) {
        let (what, next_step) = by_proxy(&says, error, &cause);
        (proxy.map_or(what.clone(), |proxy| format!("{what} ({proxy})")), next_step)
    } else if is_dns(error) || says("dns error") || says("lookup address information") {
        (format!("its name cannot be resolved: {cause}"), "check name resolution on this host")
    } else if is_tls(error) {
        let step = "check the clock, and the certificate authorities: `[transport] ca_file` adds some";
        (format!("TLS failed: {cause}"), step)
    } else if is_timeout(error) {
        let step = "check the way to that host; `[transport] connect_timeout` sets the limit";
        ("no connection was made in time (connect timeout)".to_owned(), step)
    } else if says("onnection refused") {
        ("the connection was refused".to_owned(), "check that a server listens there, and `base_url` of the target")
    } else {
        (format!("no connection: {cause}"), "check the network of this host")
    };
    // This host's affair: the upstream never heard of it.
    let message = format!("{url} cannot be reached: {what}");
    Failure::new(Reason::EgressUnreachable, service::TRANSPORT, message).next_step(next_step)
}

/// What a proxy has to do with it. The HTTP client tells it in words alone.
fn by_proxy(says: &dyn Fn(&str) -> bool, error: &(dyn Error + 'static), cause: &str) -> (String, &'static str) {
    let refused = ["authorization required", "credentials not accepted", "user/pass", "authentication incorrectly"];
    if refused.iter().any(|words| says(words)) {
        let step =
            "check user and password in the proxy's URL: `[egresses.*] proxy`, `[transport] proxy` or HTTPS_PROXY";
        (format!("the proxy refuses us: {cause}"), step)
    } else if says("error resolving for socks") {
        let step = "check name resolution on this host, or let the proxy resolve names: socks5h instead of socks5";
        (format!("its name cannot be resolved: {cause}"), step)
    } else if says("dns error") {
        (
            format!("the proxy's name cannot be resolved: {cause}"),
            "check the proxy's URL, and name resolution on this host",
        )
    } else if is_tls(error) {
        (format!("TLS with the proxy failed: {cause}"), "check the proxy's URL: is it http:// rather than https://?")
    } else if says("failed to create underlying connection") || says("tcp connect error") {
        (format!("the proxy cannot be reached: {cause}"), "check the proxy's URL, and that the proxy runs")
    } else {
        (
            format!("the proxy does not connect us: {cause}"),
            "ask the proxy's log: it may not allow, or not reach, this host",
        )
    }
}

fn is_dns(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_dns)
}

fn is_timeout(error: &(dyn Error + 'static)) -> bool {
    let late = |e: &io::Error| e.kind() == io::ErrorKind::TimedOut;
    error.downcast_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_timeout)
        || chain(error).any(|e| e.downcast_ref::<io::Error>().is_some_and(late))
}

fn is_tls(error: &(dyn Error + 'static)) -> bool {
    chain(error).any(holds_tls)
}

/// An I/O error shows what it wraps as its own text, not as its source: it has to be asked for what is in it.
fn holds_tls(error: &(dyn Error + 'static)) -> bool {
    let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    error.is::<rustls::Error>() || inner.is_some_and(|inner| holds_tls(inner))
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(error.source(), |&e| e.source())
}

/// The innermost cause, as text; the outer ones only say that a request failed. Holds no header and no body.
fn innermost(error: &(dyn Error + 'static)) -> String {
    chain(error).last().map_or_else(|| "no cause was given".to_owned(), ToString::to_string)
}
