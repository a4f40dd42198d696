//! What `doctor` says of this host's own certificates.

use domain::{Clock, Reason};
use service_kit::Finding;
use service_kit::startup::RENEW;
use service_kit::tls::{FrontTls, MutualTls, RENEW_FRONT};

use crate::args::Cli;
use crate::control::places;

/// A finding for each certificate that the configuration names; none if it cannot be read, which is said elsewhere.
pub(super) fn findings(cli: &Cli) -> Vec<Finding> {
    let options = places(cli).and_then(|places| places.load_options(Vec::new())).ok();
    let Some(config) = options.and_then(|options| config::load(&options).ok()).map(|loaded| loaded.config) else {
        return Vec::new();
    };
    let (mut findings, now_s) = (Vec::new(), Clock::system().now_s());
    match MutualTls::load(&config.tls) {
        Ok(None) => {}
        Ok(Some(mutual)) => {
            let own = mutual.own().to_string();
            findings.push(mutual.term().finding("certificate tls.cert", &own, RENEW, now_s));
        }
        Err(error) => findings.push(unreadable("certificate tls.cert", &error)),
    }
    if let (Some(cert), Some(key)) = (&config.gateway.tls_cert, &config.gateway.tls_key) {
        let subject = "certificate gateway.tls_cert";
        findings.push(match FrontTls::load(cert, key) {
            Ok(front) => front.term().finding(subject, "agents' port", RENEW_FRONT, now_s),
            Err(error) => unreadable(subject, &error),
        });
    }
    findings
}

fn unreadable(subject: &str, error: &dyn std::fmt::Display) -> Finding {
    Finding::error(subject, error.to_string())
        .next("mend it and see `switchboard config check`")
        .reason(Reason::RequestInvalid)
}
