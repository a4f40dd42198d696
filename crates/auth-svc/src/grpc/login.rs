//! `LoginService`: logins, for operators.

use std::pin::Pin;

use domain::Failure;
use futures_util::{Stream, StreamExt};
use proto::auth::v1 as pb;
use proto::auth::v1::login_service_server::LoginService;
use tonic::{Request, Response, Status};

use super::status;
use crate::audit::{About, Actor, Audit};
use crate::login::Logins;

/// The face.
#[derive(Clone)]
pub(crate) struct LoginFace {
    logins: Logins,
    audit: Audit,
}

impl LoginFace {
    pub(crate) fn new(logins: Logins, audit: Audit) -> Self {
        Self { logins, audit }
    }
}

#[tonic::async_trait]
impl LoginService for LoginFace {
    type WatchLoginStream = Pin<Box<dyn Stream<Item = Result<pb::WatchLoginResponse, Status>> + Send>>;

    async fn start_login(
        &self,
        request: Request<pb::StartLoginRequest>,
    ) -> Result<Response<pb::StartLoginResponse>, Status> {
        let actor = Actor::of(&request);
        let request = request.into_inner();
        let (logins, about) = (self.logins.clone(), About::new(request.label.clone().unwrap_or_default(), ""));
        let by = actor.clone();
        let started = async move { logins.start(by, request).await };
        let started = self.audit.act(actor, "login.start", |_| about, started).await;
        Ok(Response::new(started.map_err(status)?))
    }

    async fn watch_login(
        &self,
        request: Request<pb::WatchLoginRequest>,
    ) -> Result<Response<Self::WatchLoginStream>, Status> {
        let actor = Actor::of(&request);
        let steps = self.logins.watch(actor, &request.get_ref().login_id).map_err(status)?;
        Ok(Response::new(Box::pin(steps.map(Ok))))
    }

    async fn complete_login(
        &self,
        request: Request<pb::CompleteLoginRequest>,
    ) -> Result<Response<pb::CompleteLoginResponse>, Status> {
        let actor = Actor::of(&request);
        let request = request.into_inner();
        // Recorded where it ends: the exchange outlives a caller who goes away.
        let done = self.logins.complete(&actor, &request.login_id, &request.pasted).await.map_err(status)?;
        let answer = pb::CompleteLoginResponse { credential: done.label, email: done.email, plan: done.plan };
        Ok(Response::new(answer))
    }

    async fn add_api_key(
        &self,
        request: Request<pb::AddApiKeyRequest>,
    ) -> Result<Response<pb::AddApiKeyResponse>, Status> {
        let actor = Actor::of(&request);
        let request = request.into_inner();
        let provider = request.provider.clone();
        let label = request.label.clone().unwrap_or_else(|| provider.clone());
        let about = move |done: &Result<pb::AddApiKeyResponse, Failure>| match done {
            Ok(done) => About::new(&done.credential, format!("{}, provider {provider}", done.action)),
            Err(_) => About::new(label, format!("provider {provider}")),
        };
        let logins = self.logins.clone();
        let done = async move { logins.add_api_key(request).await };
        let done = self.audit.act(actor, "login.api_key", about, done).await;
        Ok(Response::new(done.map_err(status)?))
    }

    async fn logout(&self, request: Request<pb::LogoutRequest>) -> Result<Response<pb::LogoutResponse>, Status> {
        let actor = Actor::of(&request);
        // Recorded where it ends, as above.
        let done = self.logins.logout(&actor, &request.get_ref().credential).await;
        Ok(Response::new(done.map_err(status)?))
    }
}
