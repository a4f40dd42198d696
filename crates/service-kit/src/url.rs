//! Upstream URLs as the trust rules see them: an origin, and a path below it.

use std::fmt;
use std::net::IpAddr;

use http::Uri;

/// A base URL that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{url:?} is not a usable base URL: {cause}")]
pub struct UrlError {
    /// The URL.
    pub url: String,
    /// Why.
    pub cause: &'static str,
}

/// A base URL, taken apart. The origin is in lower case and without a default port; the path has no trailing slash.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UpstreamUrl {
    /// `scheme://host[:port]`
    pub origin: String,
    /// Path prefix; empty, or starts with a slash.
    pub path: String,
    /// Host, without brackets.
    pub host: String,
}

impl UpstreamUrl {
    /// Takes a base URL apart. Plain http is for loopback only; credentials, queries and fragments are refused.
    pub fn parse(url: &str) -> Result<Self, UrlError> {
        let fail = |cause| UrlError { url: url.to_owned(), cause };
        if url.contains('#') {
            return Err(fail("it has a fragment"));
        }
        let uri: Uri = url.trim().parse().map_err(|_| fail("it is not a URL"))?;
        let scheme = uri.scheme_str().ok_or_else(|| fail("it has no scheme"))?.to_ascii_lowercase();
        let authority = uri.authority().ok_or_else(|| fail("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(fail("it holds credentials"));
        }
        if uri.query().is_some() {
            return Err(fail("it has a query"));
        }
        let host = authority.host().trim_matches(['[', ']']).to_ascii_lowercase();
        let default_port = match scheme.as_str() {
            "https" => 443,
            "http" if is_loopback(&host) => 80,
            "http" => return Err(fail("plain http is for loopback only; use https")),
            _ => return Err(fail("its scheme is neither https nor http")),
        };
        let shown = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let origin = match authority.port_u16().filter(|p| *p != default_port) {
            Some(port) => format!("{scheme}://{shown}:{port}"),
            None => format!("{scheme}://{shown}"),
        };
        Ok(Self { origin, path: uri.path().trim_end_matches('/').to_owned(), host })
    }

    /// The URL of `suffix` (which starts with a slash) below this one.
    pub fn join(&self, suffix: &str) -> String {
        format!("{}{}{suffix}", self.origin, self.path)
    }

    /// True if the host is this machine.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }
}

impl fmt::Display for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.path)
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let url = UpstreamUrl::parse("https://ChatGPT.com:443/backend-api/codex/").expect("good");
        assert_eq!((url.origin.as_str(), url.path.as_str()), ("https://chatgpt.com", "/backend-api/codex"));
        assert_eq!(url.join("/responses"), "https://chatgpt.com/backend-api/codex/responses");
        assert_eq!(UpstreamUrl::parse("http://[::1]:80").expect("good").origin, "http://[::1]");
        assert!(UpstreamUrl::parse("http://127.0.0.1:9/v1").expect("good").is_loopback());
        for bad in ["http://chatgpt.com", "https://u:p@x/", "https://x/?a", "ftp://x", "/x", "", "https://x/#f"] {
            assert!(UpstreamUrl::parse(bad).is_err(), "{bad}");
        }
    }
}
