//! The admin port: is this process alive, and is it ready?

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::response::IntoResponse;
use axum::routing::get;
use domain::Failure;
use http::{StatusCode, header};

/// Finds out whether the service can do its work now.
pub type Readiness = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>> + Send + Sync>;

/// `/healthz` says that the process runs, `/readyz` whether it can do its work, and why not.
pub fn router(readiness: Readiness) -> axum::Router {
    let ready = move || {
        let readiness = Arc::clone(&readiness);
        async move {
            let (status, body) = match readiness().await {
                Ok(()) => (StatusCode::OK, serde_json::json!({ "status": "ready" })),
                Err(failure) => {
                    (StatusCode::SERVICE_UNAVAILABLE, serde_json::json!({ "status": "not ready", "error": failure }))
                }
            };
            (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
        }
    };
    axum::Router::new().route("/healthz", get(|| async { "ok\n" })).route("/readyz", get(ready))
}
