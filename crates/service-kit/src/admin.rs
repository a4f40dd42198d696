//! The admin port: is this process alive, is it ready, what will go wrong, and its numbers.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use axum::routing::get;
use domain::Failure;
use http::{StatusCode, header};
use telemetry::metrics::Sample;

use crate::finding::{Finding, Severity};
use crate::json;

/// Finds out whether the service can do its work now.
pub type Readiness = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>> + Send + Sync>;
/// Finds out what an operator should know although calls still work. Findings that are well may be among them.
pub type Warnings = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Vec<Finding>> + Send>> + Send + Sync>;
/// Reads the gauges of a service, at each scrape.
pub type Gauges = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Vec<Sample>> + Send>> + Send + Sync>;

/// What a service has to have done every few seconds; it must not wait for anything.
pub type Upkeep = Arc<dyn Fn() + Send + Sync>;

/// What stands on an admin port.
#[derive(Clone)]
pub struct Admin {
    readiness: Vec<Readiness>,
    warnings: Vec<Warnings>,
    gauges: Vec<Gauges>,
    upkeep: Vec<Upkeep>,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").field("readiness", &self.readiness.len()).finish_non_exhaustive()
    }
}

impl From<Readiness> for Admin {
    fn from(readiness: Readiness) -> Self {
        Self { readiness: vec![readiness], warnings: Vec::new(), gauges: Vec::new(), upkeep: Vec::new() }
    }
}

impl Admin {
    /// Ready only if this is too.
    #[must_use]
    pub fn and_ready(mut self, readiness: Readiness) -> Self {
        self.readiness.push(readiness);
        self
    }

    /// With what an operator should know, too.
    #[must_use]
    pub fn warnings(mut self, warnings: Warnings) -> Self {
        self.warnings.push(warnings);
        self
    }

    /// With these gauges too.
    #[must_use]
    pub fn gauges(mut self, gauges: Gauges) -> Self {
        self.gauges.push(gauges);
        self
    }

    /// With this done every few seconds, too.
    #[must_use]
    pub fn upkeep(mut self, upkeep: Upkeep) -> Self {
        self.upkeep.push(upkeep);
        self
    }

    /// What is to be done every few seconds.
    pub(crate) fn all_upkeep(&self) -> Vec<Upkeep> {
        self.upkeep.clone()
    }

    /// All that must be ready.
    pub fn readiness(&self) -> &[Readiness] {
        &self.readiness
    }

    async fn ready(&self) -> Response {
        let failure = first_failure(&self.readiness).await;
        let mut warnings = Vec::new();
        for more in &self.warnings {
            warnings.extend(more().await);
        }
        warnings.retain(|finding| finding.severity != Severity::Ok);
        let warnings: Vec<Finding> = warnings.into_iter().map(Finding::beside).collect();
        let (status, body) = match failure {
            None => (StatusCode::OK, serde_json::json!({ "status": "ready", "warnings": warnings })),
            Some(failure) => (
                StatusCode::SERVICE_UNAVAILABLE,
                serde_json::json!({ "status": "not ready", "error": failure, "warnings": warnings }),
            ),
        };
        (status, [(header::CONTENT_TYPE, "application/json")], json::line(&body)).into_response()
    }

    async fn metrics(&self) -> Response {
        let mut samples = Vec::new();
        for gauges in &self.gauges {
            samples.extend(gauges().await);
        }
        let page = telemetry::metrics::render(&samples);
        ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page).into_response()
    }
}

/// Why something is not ready, if anything is not.
pub(crate) async fn first_failure(all: &[Readiness]) -> Option<Failure> {
    for readiness in all {
        if let Err(failure) = readiness().await {
            return Some(failure);
        }
    }
    None
}

/// `/healthz` says that the process runs, `/readyz` whether it can do its work, why not, and what will go wrong,
/// `/metrics` its numbers in Prometheus' format.
pub fn router(admin: Admin) -> axum::Router {
    let scraped = admin.clone();
    let ready = move || {
        let admin = admin.clone();
        async move { admin.ready().await }
    };
    let metrics = move || {
        let admin = scraped.clone();
        async move { admin.metrics().await }
    };
    axum::Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
}

#[cfg(test)]
mod tests {
    use domain::Reason;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    async fn get(router: &axum::Router, path: &str) -> (StatusCode, String) {
        let request = http::Request::get(path).body(axum::body::Body::empty()).expect("a request");
        let response = router.clone().oneshot(request).await.expect("an answer");
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.expect("a body").to_bytes();
        (parts.status, String::from_utf8_lossy(&bytes).into_owned())
    }

    fn readiness(failure: Option<Failure>) -> Readiness {
        Arc::new(move || {
            let failure = failure.clone();
            Box::pin(async move { failure.map_or(Ok(()), Err) })
        })
    }

    #[tokio::test]
    async fn warnings_do_not_make_it_unready_and_failures_do() {
        let warnings: Warnings = Arc::new(|| {
            Box::pin(async { vec![Finding::ok("a", "well"), Finding::warning("credential main", "its refresh fails")] })
        });
        let gauges: Gauges = Arc::new(|| Box::pin(async { vec![Sample::new("switchboard_pending_writes", 2.0)] }));
        let admin = Admin::from(readiness(None)).warnings(warnings).gauges(gauges);
        let calm = router(admin.clone());
        let (status, body) = get(&calm, "/readyz").await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!((body["status"].as_str(), body["warnings"].as_array().map(Vec::len)), (Some("ready"), Some(1)));
        assert_eq!(body["warnings"][0]["subject"], "credential main");
        assert!(get(&calm, "/metrics").await.1.contains("switchboard_pending_writes 2"));
        assert_eq!(get(&calm, "/healthz").await.1, "ok\n");

        let failure = Failure::new(Reason::StoreUnavailable, "auth-svc", "the disk is full");
        let worried = router(admin.and_ready(readiness(Some(failure))));
        let (status, body) = get(&worried, "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(body.contains("STORE_UNAVAILABLE") && body.contains("its refresh fails"), "{body}");
        assert!(body.contains(r#""retryAfterSeconds":1}"#), "whole numbers have no fraction: {body}");
    }
}
