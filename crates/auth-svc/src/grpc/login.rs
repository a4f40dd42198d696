//! `LoginService`: logins, for operators.

use std::pin::Pin;

use futures_util::{Stream, StreamExt};
use proto::auth::v1 as pb;
use proto::auth::v1::login_service_server::LoginService;
use tonic::{Request, Response, Status};

use super::status;
use crate::login::Logins;

/// The face.
#[derive(Clone)]
pub(crate) struct LoginFace {
    logins: Logins,
}

impl LoginFace {
    pub(crate) fn new(logins: Logins) -> Self {
        Self { logins }
    }
}

#[tonic::async_trait]
impl LoginService for LoginFace {
    type WatchLoginStream = Pin<Box<dyn Stream<Item = Result<pb::WatchLoginResponse, Status>> + Send>>;

    async fn start_login(
        &self,
        request: Request<pb::StartLoginRequest>,
    ) -> Result<Response<pb::StartLoginResponse>, Status> {
        Ok(Response::new(self.logins.start(request.into_inner()).await.map_err(status)?))
    }

    async fn watch_login(
        &self,
        request: Request<pb::WatchLoginRequest>,
    ) -> Result<Response<Self::WatchLoginStream>, Status> {
        let steps = self.logins.watch(&request.get_ref().login_id).map_err(status)?;
        Ok(Response::new(Box::pin(steps.map(Ok))))
    }
}
