//! gRPC services as an axum router: what tonic's `Routes` does, but without its fallback, so that several services,
//! each with its own layers, can stand behind one listener.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::response::{IntoResponse, Response as Answer};
use domain::{Failure, Reason, service};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Either};
use http::{HeaderName, Request};
use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::{Code, Status};
use tower::layer::layer_fn;
use tower::{Service, ServiceExt};

use crate::admin::Readiness;
use crate::health::ready_health;
use crate::layers::{ServiceLayers, is_grpc};
use crate::room::{ByteRoom, CallRoom};
use crate::status::{status_from_failure, unknown_to};

/// In which a server names the encodings that it reads.
const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

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

    /// With a bound on the calls of all that was added so far, of which there must be something. Below its layers, so that a
    /// refusal is traced like any answer, and strangers take no place. Health and reflection come later, and have none.
    #[must_use]
    pub fn bounded(mut self, calls: &CallRoom) -> Self {
        self.router = self.router.route_layer(calls.clone());
        self
    }

    /// With the bytes of requests counted, as [`Self::bounded`] does calls. Whoever keeps a request's bytes finds their
    /// [`HeldBytes`](crate::HeldBytes) among its extensions.
    #[must_use]
    pub fn counted(mut self, room: &ByteRoom) -> Self {
        self.router = self.router.route_layer(room.clone());
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
        let mounted = self.add(health).add(v1).add(v1alpha);
        let served: Arc<[&'static str]> = mounted.names.into();
        Ok(mounted.router.layer(layer_fn(move |inner| Telling { inner, served: Arc::clone(&served) })))
    }
}

/// Who asks a gRPC method that this version does not have is told so, with the version; who asks one of a service that
/// stands behind another listener, that it is not here. "Not found" says nothing.
#[derive(Clone)]
struct Telling<S> {
    inner: S,
    served: Arc<[&'static str]>,
}

impl<S> Service<axum::extract::Request> for Telling<S>
where
    S: Service<axum::extract::Request, Response = Answer, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Answer;
    type Error = Infallible;
    type Future = Either<S::Future, BoxFuture<'static, Result<Answer, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: axum::extract::Request) -> Self::Future {
        if !is_grpc(request.headers()) {
            return Either::Left(self.inner.call(request));
        }
        let service = request.uri().path().trim_start_matches('/').split('/').next().unwrap_or_default().to_owned();
        let (answer, served) = (self.inner.call(request), Arc::clone(&self.served));
        Either::Right(Box::pin(answer.map(move |answer| answer.map(|answer| told(answer, &service, &served)))))
    }
}

/// An answer as it is, or what is the matter with the method that it does not know.
fn told(answer: Answer, service: &str, served: &[&'static str]) -> Answer {
    // What our services say themselves has details; the rest is said by who reads messages for them.
    let bare = !answer.headers().contains_key("grpc-status-details-bin");
    let code = answer.headers().get(Status::GRPC_STATUS).filter(|_| bare).map(http::HeaderValue::as_bytes);
    let encodings = answer.headers().get(ACCEPT_ENCODING).cloned();
    let failure = match (code, &encodings) {
        (Some(b"12"), Some(_)) => compressed(owner(service)),
        (Some(b"11" | b"13"), _) => unreadable(owner(service), Status::from_header_map(answer.headers())),
        (Some(b"12"), None) => unknown(service, served),
        _ if answer.status() == http::StatusCode::NOT_FOUND => unknown(service, served),
        _ => return answer,
    };
    let mut told = status_from_failure(&failure).into_http::<axum::body::Body>();
    // Clients read in it that they may go on without.
    told.headers_mut().extend(encodings.map(|encodings| (ACCEPT_ENCODING, encodings)));
    told
}

fn unknown(service: &str, served: &[&'static str]) -> Failure {
    match !served.contains(&service) && is_ours(service) {
        true => elsewhere(service),
        false => unknown_to(owner(service), Some(env!("CARGO_PKG_VERSION"))),
    }
}

fn compressed(owner: &str) -> Failure {
    Failure::new(Reason::Unsupported, owner, "compressed gRPC messages are not served")
        .param("grpc-encoding")
        .next_step("send messages as they are: `grpc-encoding: identity`")
}

/// A message that could not be read: it is larger than any may be, or no message of that kind.
fn unreadable(owner: &str, status: Option<Status>) -> Failure {
    let (code, why) = status.map_or((Code::Internal, String::new()), |s| (s.code(), s.message().to_owned()));
    let reason = if code == Code::OutOfRange { Reason::RequestTooLarge } else { Reason::RequestInvalid };
    Failure::new(reason, owner, format!("the gRPC message cannot be read: {why}"))
}

/// Whether this version has a gRPC service of that name, wherever it is served.
fn is_ours(name: &str) -> bool {
    let files = FileDescriptorSet::decode(proto::FILE_DESCRIPTOR_SET).map(|set| set.file).unwrap_or_default();
    files.iter().any(|file| {
        let inside = name.strip_prefix(file.package()).and_then(|rest| rest.strip_prefix('.'));
        inside.is_some_and(|inside| file.service.iter().any(|service| service.name() == inside))
    })
}

/// The service is another listener's.
fn elsewhere(name: &str) -> Failure {
    let message = format!(
        "{name} is not served here: operators' methods are on the operator's socket (switchboard.sock in the data \
         directory), those between services on the sockets beside it"
    );
    Failure::new(Reason::Unsupported, owner(name), message)
        .next_step("ask at that socket, or use the command: `switchboard --help` lists them")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_of_this_version_are_known_wherever_they_are_served() {
        assert!(is_ours("switchboard.auth.v1.LoginService") && is_ours("switchboard.gateway.v1.GatewayService"));
        for other in ["switchboard.auth.v1.NoService", "switchboard.auth.v1", "", "grpc.health.v1.Health"] {
            assert!(!is_ours(other), "{other}");
        }
        let failure = elsewhere("switchboard.auth.v1.LoginService");
        assert_eq!((failure.reason, failure.service.as_str()), (Reason::Unsupported, service::AUTH));
        assert!(failure.message.starts_with("switchboard.auth.v1.LoginService is not served here"), "{failure}");
    }

    #[tokio::test]
    async fn a_message_that_cannot_be_read_is_refused_with_a_reason() {
        let router = Mounted::new().listenable().await.expect("a router");
        let asked = async |encoding: Option<&str>, message: &'static [u8]| {
            let request =
                Request::post("/grpc.health.v1.Health/Check").header(http::header::CONTENT_TYPE, "application/grpc");
            let request = encoding.into_iter().fold(request, |request, name| request.header("grpc-encoding", name));
            let request = request.body(axum::body::Body::from(message)).expect("a request");
            let answer = router.clone().oneshot(request).await.expect("an answer");
            let status = Status::from_header_map(answer.headers()).expect("a status");
            let encodings = answer.headers().get(ACCEPT_ENCODING).cloned();
            (crate::status::failure_from_status(&status, "gateway").reason, status.code(), encodings.is_some())
        };
        let invalid = (Reason::RequestInvalid, Code::InvalidArgument, false);
        for wrong in [&b"\0\0\0\0\x02\xff\xff"[..], b"\0\0\0\0\x09\x0a", b"\x01\0\0\0\0", b"\x07\0\0\0\0", b""] {
            assert_eq!(asked(None, wrong).await, invalid, "{wrong:?}");
        }
        let large = (Reason::RequestTooLarge, Code::ResourceExhausted, false);
        assert_eq!(asked(None, b"\0\xff\xff\xff\xff").await, large);
        assert_eq!(asked(Some("gzip"), b"\0\0\0\0\0").await, (Reason::Unsupported, Code::Unimplemented, true));
    }

    #[tokio::test]
    async fn what_is_served_elsewhere_is_not_called_old() {
        let router = Mounted::new().listenable().await.expect("a router");
        let told = async |path: &str| {
            let request = Request::post(path).header(http::header::CONTENT_TYPE, "application/grpc");
            let request = request.body(axum::body::Body::empty()).expect("a request");
            let answer = router.clone().oneshot(request).await.expect("an answer");
            let status = Status::from_header_map(answer.headers()).expect("a status");
            (status.code(), status.message().to_owned())
        };
        let (code, message) = told("/switchboard.auth.v1.LoginService/StartLogin").await;
        assert_eq!(code, tonic::Code::Unimplemented);
        assert!(
            message.contains("LoginService is not served here") && message.contains("switchboard.sock"),
            "{message}"
        );
        for unknown in ["/switchboard.gateway.v1.LaterService/Ask", "/grpc.health.v1.Health/Ask"] {
            let (code, message) = told(unknown).await;
            assert_eq!(code, tonic::Code::Unimplemented);
            assert!(message.contains("older than who asks it"), "{message}");
        }
    }
}
