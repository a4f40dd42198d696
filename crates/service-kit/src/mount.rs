//! gRPC services as an axum router: what tonic's `Routes` does, but without its fallback, so that several services,
//! each with its own layers, can stand behind one listener.

use std::convert::Infallible;

use axum::response::IntoResponse;
use domain::service;
use http::Request;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tower::{Service, ServiceExt};

use crate::admin::Readiness;
use crate::health::ready_health;
use crate::layers::ServiceLayers;
use crate::status::{status_from_failure, unknown_to};

/// gRPC services and their names.
#[derive(Clone, Debug, Default)]
pub struct Mounted {
    router: axum::Router,
    names: Vec<&'static str>,
}

/// Reflection could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("the descriptors for reflection cannot be read: {0}")]
pub struct MountError(String);

impl Mounted {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more gRPC service.
    #[must_use]
    #[expect(clippy::should_implement_trait, reason = "it adds a service, as tonic's own builders say it")]
    pub fn add<S>(mut self, service: S) -> Self
    where
        S: Service<Request<Body>, Error = Infallible> + NamedService + Clone + Send + Sync + 'static,
        S::Response: IntoResponse,
        S::Future: Send + 'static,
    {
        let service = service.map_request(|request: Request<axum::body::Body>| request.map(Body::new));
        self.router = self.router.route_service(&format!("/{}/{{*method}}", S::NAME), service);
        self.names.push(S::NAME);
        self
    }

    /// With plain HTTP routes beside the gRPC services.
    #[must_use]
    pub fn merge_http(mut self, http: axum::Router) -> Self {
        self.router = self.router.merge(http);
        self
    }

    /// With `layers` around all that was added so far.
    #[must_use]
    pub fn layered(mut self, layers: ServiceLayers) -> Self {
        self.router = layers.apply(self.router);
        self
    }

    /// Together with another service's routes, behind one listener.
    #[must_use]
    pub fn merge(mut self, other: Mounted) -> Self {
        self.router = self.router.merge(other.router);
        self.names.extend(other.names);
        self
    }

    /// The router alone, for calls in process.
    pub fn router(&self) -> axum::Router {
        self.router.clone()
    }

    /// With health and reflection (v1, and v1alpha for older grpcurl), ready for a listener. It serves while it listens.
    ///
    /// # Errors
    ///
    /// If the descriptors cannot be read.
    pub async fn listenable(self) -> Result<axum::Router, MountError> {
        self.listenable_while(Vec::new()).await
    }

    /// As [`Self::listenable`], with a health that says "serving" while all of `ready` do.
    ///
    /// # Errors
    ///
    /// If the descriptors cannot be read.
    pub async fn listenable_while(self, ready: Vec<Readiness>) -> Result<axum::Router, MountError> {
        let health = ready_health(&self.names, ready).await;
        let reflection = || {
            let builder = tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                .with_service_name("grpc.health.v1.Health");
            self.names.iter().fold(builder, |builder, name| builder.with_service_name(*name))
        };
        let v1 = reflection().build_v1().map_err(|e| MountError(e.to_string()))?;
        let v1alpha = reflection().build_v1alpha().map_err(|e| MountError(e.to_string()))?;
        let router = self.add(health).add(v1).add(v1alpha).router;
        Ok(router.layer(axum::middleware::from_fn(unknown_method)))
    }
}

/// Who asks a gRPC method that this version does not have is told so, with the version: "not found" says nothing.
async fn unknown_method(request: axum::extract::Request, next: axum::middleware::Next) -> axum::response::Response {
    let grpc = request.headers().get(http::header::CONTENT_TYPE);
    let grpc = grpc.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    let service = request.uri().path().trim_start_matches('/').split('/').next().unwrap_or_default().to_owned();
    let response = next.run(request).await;
    let code = response.headers().get(Status::GRPC_STATUS).map(http::HeaderValue::as_bytes);
    let unimplemented = code == Some(b"12") && !response.headers().contains_key("grpc-status-details-bin");
    if !grpc || !(unimplemented || response.status() == http::StatusCode::NOT_FOUND) {
        return response;
    }
    let failure = unknown_to(owner(&service), Some(env!("CARGO_PKG_VERSION")));
    status_from_failure(&failure).into_http::<axum::body::Body>()
}

/// Which of our services a gRPC service's name belongs to.
fn owner(name: &str) -> &'static str {
    match name.strip_prefix("switchboard.").and_then(|rest| rest.split('.').next()) {
        Some("auth") => service::AUTH,
        Some("router") => service::ROUTER,
        Some("transport") => service::TRANSPORT,
        _ => service::GATEWAY,
    }
}
