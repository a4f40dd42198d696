//! `KeyService`: agent keys, for operators.

use domain::{Clock, Failure, Reason, service};
use proto::auth::v1 as pb;
use proto::auth::v1::key_service_server::KeyService;
use secrecy::ExposeSecret;
use tonic::{Request, Response, Status};

use super::status;
use crate::keys::{KeyRequest, mint};
use crate::store::{AgentKey, Store};

/// The face.
#[derive(Clone)]
pub(crate) struct AgentKeys {
    store: Store,
    clock: Clock,
}

impl AgentKeys {
    pub(crate) fn new(store: Store, clock: Clock) -> Self {
        Self { store, clock }
    }

    fn expires_at(&self, ttl_seconds: Option<f64>) -> Result<Option<i64>, Failure> {
        let Some(ttl) = ttl_seconds else { return Ok(None) };
        if !(ttl.is_finite() && ttl > 0.0) {
            let message = format!("a key cannot live for {ttl} seconds");
            return Err(Failure::new(Reason::RequestInvalid, service::AUTH, message).param("ttl_seconds"));
        }
        Ok(Some(self.clock.now_s().saturating_add(ttl.ceil() as i64)))
    }
}

fn info(key: AgentKey) -> pb::AgentKey {
    pb::AgentKey {
        id: key.id,
        name: key.name,
        agent: key.agent,
        prefix: key.prefix,
        models: key.models,
        credentials: key.credentials,
        created_at: key.created_at as f64,
        expires_at: key.expires_at.map(|s| s as f64),
        revoked_at: key.revoked_at.map(|s| s as f64),
        last_used_at: key.last_used_at.map(|s| s as f64),
    }
}

#[tonic::async_trait]
impl KeyService for AgentKeys {
    async fn create_key(
        &self,
        request: Request<pb::CreateKeyRequest>,
    ) -> Result<Response<pb::CreateKeyResponse>, Status> {
        let request = request.into_inner();
        let wanted = KeyRequest {
            name: request.name,
            agent: request.agent,
            models: request.models,
            credentials: request.credentials,
            expires_at: self.expires_at(request.ttl_seconds).map_err(status)?,
        };
        let (key, stored) = mint(&self.store, wanted).await.map_err(status)?;
        Ok(Response::new(pb::CreateKeyResponse { key: key.expose_secret().to_owned(), info: Some(info(stored)) }))
    }

    async fn list_keys(&self, _: Request<pb::ListKeysRequest>) -> Result<Response<pb::ListKeysResponse>, Status> {
        let keys = self.store.list_agent_keys().await.map_err(status)?;
        Ok(Response::new(pb::ListKeysResponse { keys: keys.into_iter().map(info).collect() }))
    }

    async fn revoke_key(
        &self,
        request: Request<pb::RevokeKeyRequest>,
    ) -> Result<Response<pb::RevokeKeyResponse>, Status> {
        self.store.revoke_agent_key(&request.get_ref().key).await.map_err(status)?;
        Ok(Response::new(pb::RevokeKeyResponse {}))
    }
}
