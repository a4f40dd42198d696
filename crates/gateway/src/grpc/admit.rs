//! Who calls is found out before a message is read: the memory that a large one takes is for callers, not for strangers.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::BoxError;
use bytes::Bytes;
use domain::{Failure, Reason, service};
use futures_util::future::BoxFuture;
use http::{Extensions, Request, Response};
use http_body_util::{BodyExt, Full};
use service_kit::{Peer, status_from_failure};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::NamedService;

use crate::budget::Budget;
use crate::caller::Introduced;
use crate::core::Core;
use crate::room::{Counted, Refused};

/// A gRPC message without a field, in its frame.
const EMPTY: &[u8] = &[0; 5];

/// A gRPC service whose methods find out from the request who makes it.
#[derive(Clone)]
pub(crate) struct Admitting<S> {
    service: S,
    core: Arc<Core>,
}

impl<S> Admitting<S> {
    pub(crate) fn new(service: S, core: Arc<Core>) -> Self {
        Self { service, core }
    }
}

impl<S: NamedService> NamedService for Admitting<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Admitting<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // The one that was asked whether it is ready is the one that is used.
        let service = self.service.clone();
        let mut service = std::mem::replace(&mut self.service, service);
        let core = Arc::clone(&self.core);
        Box::pin(async move {
            let peer = request.extensions().get::<Peer>().cloned();
            let budget = Budget::from_headers(request.headers());
            let introduced = Introduced::of(&core.keys, request.headers(), peer, budget).await;
            if introduced.is_stranger() {
                // The method itself refuses, with all that belongs to a refusal; what it is asked for does not matter.
                *request.body_mut() = Body::new(Full::new(Bytes::from_static(EMPTY)));
            } else {
                let held = core.room.held();
                // Of nothing that is announced, and so it has its room.
                drop(held.begin(introduced.key_id()));
                request.extensions_mut().insert(held.clone());
                let patience = core.body_timeout;
                let counted = |body| Body::new(Counted::new(body, held, patience).map_err(refused));
                request = request.map(counted);
            }
            request.extensions_mut().insert(introduced);
            service.call(request).await
        })
    }
}

/// A message that did not come whole. One for which there is no room is refused like any call.
fn refused(error: BoxError) -> Status {
    match error.downcast::<Refused>() {
        Ok(none) => status_from_failure(&none.0),
        Err(error) => Status::from_error(error),
    }
}

/// Who makes the request.
pub(crate) fn introduced(extensions: &Extensions) -> Introduced {
    let nobody = || Failure::new(Reason::AgentKeyInvalid, service::GATEWAY, "nobody has been identified");
    extensions.get::<Introduced>().cloned().unwrap_or_else(|| Introduced::stranger(nobody()))
}
