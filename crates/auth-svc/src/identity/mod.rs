//! The identity provider: one HTTP client, three kinds of requests, and answers that are read and never logged.

mod answer;
mod ways;

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use config::Config;
use serde_json::Value;
use service_kit::UpstreamUrl;
use tracing::{Instrument, field};

use crate::error::BuildError;
use crate::store::EgressRule;

pub(crate) use answer::{Answer, Body};
use ways::{Way, Ways};

/// The OAuth client of Codex CLI, to which these logins are issued.
pub(crate) const CLIENT_ID: &str = "app_EMoamEEZ73f0CkXaXp7hrann";
/// Where a code or a refresh token is exchanged for tokens.
pub(crate) const TOKEN_PATH: &str = "/oauth/token";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A client of the identity provider. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// By which its requests leave.
    way: Way,
    ways: Arc<Ways>,
    url: UpstreamUrl,
    timeout: Duration,
}

/// No answer came: why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NoAnswer(pub(crate) String);

/// No answer came, told apart by what matters to a token that is good once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unanswered {
    /// Why.
    pub(crate) cause: String,
    /// False if the request certainly never reached the provider.
    pub(crate) maybe_sent: bool,
}

impl Identity {
    /// The provider that the configuration names.
    pub(crate) fn new(config: &Config) -> Result<Self, BuildError> {
        let url = UpstreamUrl::parse(&config.auth.identity_url).map_err(|error| BuildError::Setting {
            key: "auth.identity_url",
            value: config.auth.identity_url.clone(),
            cause: error.cause.to_owned(),
        })?;
        let timeout = config.auth.identity_timeout.duration();
        let authorities = config.transport.ca_file.as_deref().map(certificates).transpose()?.unwrap_or_default();
        let base = || {
            reqwest::Client::builder()
                // On a connection that was kept, a request may fail in a way that does not tell whether it was sent.
                .pool_max_idle_per_host(0)
                // A redirect would carry a refresh token to an origin that nobody chose.
                .redirect(reqwest::redirect::Policy::none())
                .timeout(timeout)
                .connect_timeout(CONNECT_TIMEOUT.min(timeout / 2))
                .user_agent(concat!("switchboard/", env!("CARGO_PKG_VERSION")))
                .tls_certs_merge(authorities.iter().cloned())
        };
        let (mut builder, mut told) = (base(), None);
        if let Some(proxy) = &config.auth.proxy {
            // The value may hold a password: it stays out of the message.
            let setting = |cause: String| BuildError::Setting { key: "auth.proxy", value: "(not shown)".into(), cause };
            builder = builder.proxy(reqwest::Proxy::all(proxy).map_err(|e| setting(e.to_string()))?);
            told = Some(format!("by proxy {}", config::redact(proxy)).into());
        } else if url.is_loopback() {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|error| BuildError::Setting {
            key: "auth.identity_url",
            value: config.auth.identity_url.clone(),
            cause: format!("no client can be made for it: {}", innermost(&error)),
        })?;
        // A proxy's loopback is another machine's.
        let ways = Arc::new(Ways::new(config, url.is_loopback(), base)?);
        Ok(Self { way: Way { http, told }, ways, url, timeout })
    }

    /// The same provider by the way that a credential's rule means.
    ///
    /// # Errors
    ///
    /// The rule requires an egress that is not configured.
    pub(crate) fn by(&self, rule: &EgressRule) -> Result<Self, NoAnswer> {
        let way = self.ways.by(rule).map_err(|cause| NoAnswer(format!("nothing is sent for it: {cause}")))?;
        Ok(Self { way: way.unwrap_or(&self.way).clone(), ..self.clone() })
    }

    /// Why a rule cannot be kept: it names what is not configured.
    pub(crate) fn unknown_egress(&self, rule: &EgressRule) -> Option<String> {
        self.ways.unknown(rule.require.iter().chain(&rule.prefer))
    }

    /// What an operator should know of a rule.
    pub(crate) fn egress_note(&self, rule: &EgressRule) -> Option<String> {
        self.ways.note(rule)
    }

    /// The only origin that is sent a refresh token.
    pub(crate) fn origin(&self) -> &str {
        &self.url.origin
    }

    /// Longest wait for an answer.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The URL of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        self.url.join(path)
    }

    /// Posts JSON.
    pub(crate) async fn post_json(&self, path: &'static str, body: &Value) -> Result<Answer, NoAnswer> {
        self.exchange_json(path, body).await.map_err(|unanswered| NoAnswer(unanswered.cause))
    }

    /// As [`Self::post_json`]; a failure says whether the request may have been sent.
    pub(crate) async fn exchange_json(&self, path: &'static str, body: &Value) -> Result<Answer, Unanswered> {
        self.send(path, self.way.http.post(self.url(path)).json(body)).await
    }

    /// Posts a form.
    pub(crate) async fn post_form(&self, path: &'static str, form: &[(&str, &str)]) -> Result<Answer, NoAnswer> {
        let answer = self.send(path, self.way.http.post(self.url(path)).form(form)).await;
        answer.map_err(|unanswered| NoAnswer(unanswered.cause))
    }

    async fn send(&self, path: &'static str, request: reqwest::RequestBuilder) -> Result<Answer, Unanswered> {
        let span = tracing::info_span!(target: "hop", "http", otel.name = format!("POST {path}"), otel.kind = "client",
            peer.service = "identity", server.address = self.url.host.as_str(),
            http.response.status_code = field::Empty, otel.status_code = field::Empty);
        let exchange = async {
            let response = request.header("accept", "application/json").send().await?;
            tracing::Span::current().record("http.response.status_code", response.status().as_u16());
            Answer::read(response).await
        };
        exchange.instrument(span.clone()).await.map_err(|error| {
            span.record("otel.status_code", "ERROR");
            // A connection that was not made carried nothing. Of all else nobody can know.
            let maybe_sent = !(error.is_connect() || error.is_builder());
            Unanswered { cause: self.describe(&error), maybe_sent }
        })
    }

    fn describe(&self, error: &reqwest::Error) -> String {
        let by = self.way.told.as_ref().map(|told| format!(" ({told})")).unwrap_or_default();
        let place = format!("{}{by}", self.url.origin);
        if error.is_timeout() && !error.is_connect() {
            format!("{place} did not answer within {} s", self.timeout.as_secs())
        } else if error.is_connect() {
            format!("{place} cannot be reached: {}", innermost(error))
        } else {
            format!("{place} did not answer: {}", innermost(error))
        }
    }
}

fn certificates(file: &std::path::Path) -> Result<Vec<reqwest::Certificate>, BuildError> {
    let setting =
        |cause: String| BuildError::Setting { key: "transport.ca_file", value: file.display().to_string(), cause };
    let pem = std::fs::read(file).map_err(|e| setting(e.to_string()))?;
    let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(|e| setting(innermost(&e)))?;
    if certificates.is_empty() {
        return Err(setting("it holds no certificate".to_owned()));
    }
    Ok(certificates)
}

/// The last cause of an error: what happened, without the wrappers and without the URL.
fn innermost(error: &reqwest::Error) -> String {
    let mut source = error.source();
    let mut text = None;
    while let Some(inner) = source {
        text = Some(inner.to_string());
        source = inner.source();
    }
    text.unwrap_or_else(|| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_debug_nor_errors_show_the_proxys_password() {
        let mut config = Config::default();
        for (proxy, taken) in [("http://me:hunter2@proxy:3128", true), ("not a url me:hunter2@", false)] {
            config.auth.proxy = Some(proxy.to_owned());
            let made = Identity::new(&config);
            assert_eq!(made.is_ok(), taken, "{proxy}");
            let text = made.map_or_else(|error| format!("{error:?} {error}"), |identity| format!("{identity:?}"));
            assert!(!text.contains("hunter2") && !text.contains("bWU6aHVudGVyMg"), "{text}");
        }
    }
}
