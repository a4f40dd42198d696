//! The service as a whole.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use config::Config;
use domain::{Clock, Failure, Reason, service};
use proto::auth::v1::binding_service_server::BindingServiceServer;
use proto::auth::v1::credential_service_server::CredentialServiceServer;
use proto::auth::v1::key_service_server::KeyServiceServer;
use proto::auth::v1::login_service_server::LoginServiceServer;
use service_kit::admin::Readiness;
use service_kit::{MAX_MESSAGE_BYTES, Mounted, SealKey, ServiceLayers};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::bind::Binder;
use crate::grpc::{AgentKeys, Binding, Credentials, LoginFace};
use crate::identity::Identity;
use crate::keys::Keys;
use crate::login::Logins;
use crate::refresh::Refresher;
use crate::store::Store;

/// How long a shutdown waits for refreshes: the provider's 20 seconds, and the database.
const DRAIN: Duration = Duration::from_secs(30);

/// auth-svc, built and not yet listening.
pub struct AuthService {
    store: Store,
    refresher: Refresher,
    binding: Binding,
    credentials: Credentials,
    logins: LoginFace,
    keys: AgentKeys,
    first_agent_key: Option<PathBuf>,
    tracker: TaskTracker,
    closing: CancellationToken,
    // Ends the background task also where nobody calls `shutdown`.
    _closing: DropGuard,
}

impl std::fmt::Debug for AuthService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthService").field("database", &self.store.path()).finish_non_exhaustive()
    }
}

impl AuthService {
    pub(crate) fn new(
        store: Store,
        identity: Identity,
        seal_key: SealKey,
        config: &Config,
        clock: Clock,
        first_agent_key: Option<PathBuf>,
    ) -> Self {
        let (tracker, closing) = (TaskTracker::new(), CancellationToken::new());
        let refresher =
            Refresher::new(store.clone(), identity.clone(), clock.clone(), tracker.clone(), closing.clone());
        let binder = Arc::new(Binder::new(store.clone(), refresher.clone(), seal_key, config, clock.clone()));
        let verifier = Arc::new(Keys::new(store.clone(), clock.clone(), &tracker, closing.clone()));
        let margin_s = i64::try_from(config.auth.refresh_margin.as_secs()).unwrap_or(i64::MAX);
        let logins = Logins::new(store.clone(), identity, config, clock.clone(), tracker.clone());
        Self {
            binding: Binding::new(binder, verifier),
            credentials: Credentials::new(store.clone(), refresher.clone(), clock.clone(), margin_s),
            logins: LoginFace::new(logins),
            keys: AgentKeys::new(store.clone(), clock),
            refresher,
            store,
            first_agent_key,
            tracker,
            _closing: closing.clone().drop_guard(),
            closing,
        }
    }

    /// The gRPC services with their layers: for callers of the same user only.
    pub fn mounted(&self) -> Mounted {
        let credentials = CredentialServiceServer::new(self.credentials.clone())
            // The files of an import.
            .max_decoding_message_size(MAX_MESSAGE_BYTES);
        Mounted::new()
            .add(BindingServiceServer::new(self.binding.clone()))
            .add(credentials)
            .add(LoginServiceServer::new(self.logins.clone()))
            .add(KeyServiceServer::new(self.keys.clone()))
            .layered(ServiceLayers::trusted(service::AUTH))
    }

    /// Ready while the database can be written and no refreshed token waits to be.
    pub fn readiness(&self) -> Readiness {
        let (store, refresher) = (self.store.clone(), self.refresher.clone());
        Arc::new(move || {
            let (store, refresher) = (store.clone(), refresher.clone());
            Box::pin(async move {
                let waiting = refresher.pending();
                if !waiting.is_empty() {
                    let message = format!(
                        "refreshed tokens wait in memory for database {} to take them: {}",
                        store.path().display(),
                        waiting.join(", ")
                    );
                    return Err(Failure::new(Reason::StoreUnavailable, service::AUTH, message)
                        .next_step("mend the database before this process ends, or these logins are lost"));
                }
                Ok(store.check().await?)
            })
        })
    }

    /// The file of the first agent key, if this start has made it.
    pub fn first_agent_key(&self) -> Option<&Path> {
        self.first_agent_key.as_deref()
    }

    /// Waits for refreshes and logins that are under way, writes what is left, and closes the database.
    pub async fn shutdown(&self) {
        self.closing.cancel();
        self.tracker.close();
        if tokio::time::timeout(DRAIN, self.tracker.wait()).await.is_err() {
            tracing::error!(seconds = DRAIN.as_secs(), "shutting down although a refresh has not ended");
        }
        self.store.close().await;
    }
}
