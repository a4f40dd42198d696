//! `KeyService`: agent keys, for operators.

use domain::{Clock, Failure, Reason, service};
use proto::auth::v1 as pb;
use proto::auth::v1::key_service_server::KeyService;
use secrecy::ExposeSecret;
use tonic::{Request, Response, Status};

use super::status;
use crate::audit::{About, Actor, Audit};
use crate::keys::{KeyRequest, mint, rotate};
use crate::store::{AgentKey, Limits, Store};

/// The face.
#[derive(Clone)]
pub(crate) struct AgentKeys {
    store: Store,
    clock: Clock,
    audit: Audit,
}

impl AgentKeys {
    pub(crate) fn new(store: Store, clock: Clock, audit: Audit) -> Self {
        Self { store, clock, audit }
    }

    async fn create(&self, request: pb::CreateKeyRequest) -> Result<pb::CreateKeyResponse, Failure> {
        let wanted = KeyRequest {
            name: request.name,
            agent: request.agent,
            models: request.models,
            credentials: request.credentials,
            expires_at: self.expires_at(request.ttl_seconds)?,
            limits: request.limits,
        };
        let (key, stored) = mint(&self.store, wanted).await?;
        Ok(pb::CreateKeyResponse { key: key.expose_secret().to_owned(), info: Some(self.info(stored)) })
    }

    async fn rotate(&self, request: &pb::RotateKeyRequest) -> Result<pb::RotateKeyResponse, Failure> {
        let grace = request.grace_seconds.unwrap_or(0.0);
        if !(grace.is_finite() && grace >= 0.0) {
            let message = format!("an old secret cannot work for {grace} more seconds");
            return Err(Failure::new(Reason::RequestInvalid, service::AUTH, message).param("grace_seconds"));
        }
        let (key, stored) = rotate(&self.store, &request.key, grace.ceil() as i64).await?;
        Ok(pb::RotateKeyResponse { key: key.expose_secret().to_owned(), info: Some(self.info(stored)) })
    }

    fn expires_at(&self, ttl_seconds: Option<f64>) -> Result<Option<i64>, Failure> {
        let Some(ttl) = ttl_seconds else { return Ok(None) };
        if !(ttl.is_finite() && ttl > 0.0) {
            let message = format!("a key cannot live for {ttl} seconds");
            return Err(Failure::new(Reason::RequestInvalid, service::AUTH, message).param("ttl_seconds"));
        }
        Ok(Some(self.clock.now_s().saturating_add(ttl.ceil() as i64)))
    }

    fn info(&self, key: AgentKey) -> pb::AgentKey {
        let now = self.clock.now_s();
        pb::AgentKey {
            limits: limits(key.limits),
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
            tokens_today: key.tokens_today as f64,
            rotated_at: key.rotated_at.map(|s| s as f64),
            previous_until: key.previous_until.filter(|at| *at > now).map(|s| s as f64),
        }
    }
}

/// Limits as they travel; nothing where there are none.
pub(super) fn limits(limits: Limits) -> Option<pb::KeyLimits> {
    (limits != Limits::default()).then(|| pb::KeyLimits {
        requests_per_minute: limits.requests_per_minute,
        concurrent_calls: limits.concurrent_calls,
        tokens_per_day: limits.tokens_per_day.map(|tokens| tokens as f64),
    })
}

/// What a key was made with, for the audit log.
fn wanted(request: &pb::CreateKeyRequest) -> String {
    let mut detail = format!("agent {}", request.agent);
    let mut add = |what: &str, value: Option<String>| {
        if let Some(value) = value {
            detail.push_str(&format!("; {what} {value}"));
        }
    };
    let list = |items: &[String]| (!items.is_empty()).then(|| items.join(", "));
    add("models", list(&request.models));
    add("credentials", list(&request.credentials));
    add("for", request.ttl_seconds.map(|seconds| format!("{seconds} s")));
    if let Some(limits) = &request.limits {
        add("requests per minute", limits.requests_per_minute.map(|n| n.to_string()));
        add("calls at a time", limits.concurrent_calls.map(|n| n.to_string()));
        add("tokens per day", limits.tokens_per_day.map(|n| n.to_string()));
    }
    detail
}

#[tonic::async_trait]
impl KeyService for AgentKeys {
    async fn create_key(
        &self,
        request: Request<pb::CreateKeyRequest>,
    ) -> Result<Response<pb::CreateKeyResponse>, Status> {
        let actor = Actor::of(&request);
        let request = request.into_inner();
        let (this, about) = (self.clone(), About::new(&request.name, wanted(&request)));
        let made = self.audit.act(actor, "key.create", |_| about, async move { this.create(request).await }).await;
        Ok(Response::new(made.map_err(status)?))
    }

    async fn list_keys(&self, _: Request<pb::ListKeysRequest>) -> Result<Response<pb::ListKeysResponse>, Status> {
        let keys = self.store.list_agent_keys().await.map_err(status)?;
        Ok(Response::new(pb::ListKeysResponse { keys: keys.into_iter().map(|key| self.info(key)).collect() }))
    }

    async fn revoke_key(
        &self,
        request: Request<pb::RevokeKeyRequest>,
    ) -> Result<Response<pb::RevokeKeyResponse>, Status> {
        let actor = Actor::of(&request);
        let (store, key) = (self.store.clone(), request.into_inner().key);
        let asked = key.clone();
        let about = move |done: &Result<String, Failure>| {
            let name = done.as_ref().unwrap_or(&asked);
            About::new(name, also(&asked, name))
        };
        let done = async move { Ok(store.revoke_agent_key(&key).await?) };
        self.audit.act(actor, "key.revoke", about, done).await.map_err(status)?;
        Ok(Response::new(pb::RevokeKeyResponse {}))
    }

    async fn rotate_key(
        &self,
        request: Request<pb::RotateKeyRequest>,
    ) -> Result<Response<pb::RotateKeyResponse>, Status> {
        let actor = Actor::of(&request);
        let (this, request) = (self.clone(), request.into_inner());
        let (asked, grace) = (request.key.clone(), request.grace_seconds);
        let about = move |done: &Result<pb::RotateKeyResponse, Failure>| {
            let info = done.as_ref().ok().and_then(|done| done.info.as_ref());
            let name = info.map_or(&asked, |info| &info.name);
            let mut detail = also(&asked, name);
            if let Some(grace) = grace {
                detail.push_str(&format!("{}grace {grace} s", if detail.is_empty() { "" } else { "; " }));
            }
            About::new(name, detail)
        };
        let done = self.audit.act(actor, "key.rotate", about, async move { this.rotate(&request).await }).await;
        Ok(Response::new(done.map_err(status)?))
    }
}

/// The id that a key was named by, where it was not its name.
fn also(named: &str, name: &str) -> String {
    if named == name { String::new() } else { format!("id {named}") }
}
