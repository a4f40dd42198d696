//! `CredentialService`: credentials, for operators. No method returns a token.

use domain::{Clock, Failure, Reason, service};
use proto::auth::v1 as pb;
use proto::auth::v1::credential_service_server::CredentialService;
use service_kit::failure_to_proto;
use tonic::{Request, Response, Status};

use super::status;
use crate::bind::state;
use crate::import;
use crate::refresh::{Refresher, Why};
use crate::store::{Credential, LatchKind, Store};

/// The face.
#[derive(Clone)]
pub(crate) struct Credentials {
    store: Store,
    refresher: Refresher,
    clock: Clock,
    margin_s: i64,
}

impl Credentials {
    pub(crate) fn new(store: Store, refresher: Refresher, clock: Clock, margin_s: i64) -> Self {
        Self { store, refresher, clock, margin_s }
    }

    fn show(&self, credential: &Credential) -> pb::Credential {
        let note = self.refresher.notes().get(&credential.id, credential.version);
        let state = state(credential, note.as_ref(), self.refresher.origin(), self.clock.now_ms());
        pb::Credential {
            id: credential.id.clone(),
            label: credential.label.clone(),
            provider: credential.provider.clone(),
            kind: credential.kind.as_str().to_owned(),
            state: state.name.to_owned(),
            detail: state.detail,
            account_id: credential.account_id.clone(),
            email: credential.email.clone(),
            plan: credential.plan.clone(),
            issuer: credential.issuer.clone(),
            expires_at: credential.access_expires_at.map(|s| s as f64),
            last_refresh: credential.last_refresh.map(|s| s as f64),
            version: credential.version,
            source: credential.source.as_str().to_owned(),
            rest_until: state.rest_until_ms.map(|ms| ms as f64 / 1000.0),
            borrowed: credential.borrowed,
        }
    }

    /// Refreshes now, whatever the expiry says. The failure says why there is no newer token.
    async fn refresh_now(&self, name: &str) -> Result<(Credential, Option<Failure>), Failure> {
        let before = self.store.credential_named(name).await?;
        let label = &before.label;
        if let Err(why) = self.refresher.can_refresh(&before) {
            let message = format!("credential {label} cannot be refreshed: {why}");
            return Ok((
                before,
                Some(
                    Failure::new(Reason::Unsupported, service::AUTH, message)
                        .next_step("use it as it is, or log in: `switchboard login codex`"),
                ),
            ));
        }
        self.refresher.refresh(&before.id, before.version, Why::Operator).await?;
        let after = self.store.credential_named(&before.id).await?;
        if after.version > before.version {
            return Ok((after, None));
        }
        let failure = match &after.latch {
            Some(latch) if latch.kind == LatchKind::NeedsLogin => {
                let message = format!("credential {label} needs a new login: {}", latch.detail);
                Failure::new(Reason::CredentialNeedsLogin, service::AUTH, message)
            }
            _ => {
                let note = self.refresher.notes().get(&after.id, after.version);
                let cause = note.map(|note| note.cause).filter(|cause| !cause.is_empty());
                let cause = cause.unwrap_or_else(|| "it brought no newer token".to_owned());
                let message = format!("the refresh of credential {label} failed: {cause}");
                Failure::new(Reason::IdentityUnavailable, service::AUTH, message)
            }
        };
        Ok((after, Some(failure)))
    }
}

#[tonic::async_trait]
impl CredentialService for Credentials {
    async fn list_credentials(
        &self,
        request: Request<pb::ListCredentialsRequest>,
    ) -> Result<Response<pb::ListCredentialsResponse>, Status> {
        let provider = Some(request.get_ref().provider.as_str()).filter(|provider| !provider.is_empty());
        let credentials = self.store.list_credentials(provider).await.map_err(status)?;
        let credentials = credentials.iter().map(|credential| self.show(credential)).collect();
        Ok(Response::new(pb::ListCredentialsResponse { credentials }))
    }

    async fn import_credentials(
        &self,
        request: Request<pb::ImportCredentialsRequest>,
    ) -> Result<Response<pb::ImportCredentialsResponse>, Status> {
        let settings = import::Settings {
            identity_origin: self.refresher.origin().to_owned(),
            now_s: self.clock.now_s(),
            refresh_margin_s: self.margin_s,
        };
        let answer = import::run(&self.store, &settings, request.into_inner()).await.map_err(status)?;
        Ok(Response::new(answer))
    }

    async fn refresh_credential(
        &self,
        request: Request<pb::RefreshCredentialRequest>,
    ) -> Result<Response<pb::RefreshCredentialResponse>, Status> {
        let (credential, failure) = self.refresh_now(&request.get_ref().credential).await.map_err(status)?;
        Ok(Response::new(pb::RefreshCredentialResponse {
            credential: Some(self.show(&credential)),
            failure: failure.as_ref().map(failure_to_proto),
        }))
    }

    async fn remove_credential(
        &self,
        request: Request<pb::RemoveCredentialRequest>,
    ) -> Result<Response<pb::RemoveCredentialResponse>, Status> {
        let credential = self.store.credential_named(&request.get_ref().credential).await.map_err(status)?;
        self.store.remove_credential(&credential.id).await.map_err(status)?;
        self.refresher.notes().forget(&credential.id);
        tracing::info!(credential = %credential.label, "a credential was removed");
        Ok(Response::new(pb::RemoveCredentialResponse {}))
    }

    async fn order_credentials(
        &self,
        request: Request<pb::OrderCredentialsRequest>,
    ) -> Result<Response<pb::OrderCredentialsResponse>, Status> {
        let request = request.get_ref();
        self.store.set_order(&request.provider, &request.credentials).await.map_err(status)?;
        Ok(Response::new(pb::OrderCredentialsResponse {}))
    }
}
