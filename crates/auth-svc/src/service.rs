//! The service as a whole.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use config::Config;
use domain::{Failure, Reason, service};
use proto::auth::v1::audit_service_server::AuditServiceServer;
use proto::auth::v1::binding_service_server::BindingServiceServer;
use proto::auth::v1::credential_service_server::CredentialServiceServer;
use proto::auth::v1::key_service_server::KeyServiceServer;
use proto::auth::v1::login_service_server::LoginServiceServer;
use proto::auth::v1::maintenance_service_server::MaintenanceServiceServer;
use service_kit::admin::{Admin, Readiness};
use service_kit::{CallRoom, Full, MAX_MESSAGE_BYTES, Mounted, SealKey, ServiceLayers};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::audit::Audit;
use crate::bind::Binder;
use crate::database_key::KeySource;
use crate::diagnose::{Diagnosis, Places};
use crate::grpc::{AgentKeys, AuditFace, Binding, Credentials, LoginFace, Maintenance};
use crate::identity::Identity;
use crate::keys::Keys;
use crate::login::Logins;
use crate::refresh::Refresher;
use crate::store::{Store, Upgraded};
use crate::workspace::Workspaces;

/// How long a shutdown waits for the database, beyond the identity provider's time.
const DRAIN: Duration = Duration::from_secs(10);
/// Most acts and questions of operators at a time; each login that somebody watches is one.
const MAX_OPERATORS: usize = 1000;

/// auth-svc, built and not yet listening.
pub struct AuthService {
    store: Store,
    refresher: Refresher,
    binding: Binding,
    credentials: Credentials,
    logins: LoginFace,
    keys: AgentKeys,
    audit: AuditFace,
    maintenance: Maintenance,
    diagnosis: Diagnosis,
    /// For questions of gateways that are being answered.
    gateways: CallRoom,
    /// For operators, who must get in while agents run wild.
    operators: CallRoom,
    first_agent_key: Option<PathBuf>,
    tracker: TaskTracker,
    closing: CancellationToken,
    drain: Duration,
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
        key_source: KeySource,
        config: &Config,
        first_agent_key: Option<PathBuf>,
        places: Places,
    ) -> Self {
        let clock = store.clock().clone();
        let (tracker, closing) = (TaskTracker::new(), CancellationToken::new());
        let refresher =
            Refresher::new(store.clone(), identity.clone(), clock.clone(), tracker.clone(), closing.clone(), config);
        let binder = Arc::new(Binder::new(store.clone(), refresher.clone(), seal_key, config, clock.clone()));
        let verifier = Arc::new(Keys::new(store.clone(), clock.clone(), &tracker, closing.clone()));
        let audit = Audit::new(store.clone(), clock.clone(), tracker.clone());
        let logins = Logins::new(
            store.clone(),
            identity,
            refresher.clone(),
            config,
            clock.clone(),
            tracker.clone(),
            audit.clone(),
        );
        let credentials =
            Credentials::new(store.clone(), refresher.clone(), clock.clone(), audit.clone(), Workspaces::new(config));
        let diagnosis =
            Diagnosis::new(store.clone(), refresher.clone(), credentials.clone(), clock.clone(), config, places);
        let maintenance = Maintenance::new(
            store.clone(),
            refresher.clone(),
            key_source,
            audit.clone(),
            clock.clone(),
            diagnosis.clone(),
        );
        Self {
            binding: Binding::new(binder, verifier),
            credentials,
            logins: LoginFace::new(logins, audit.clone()),
            keys: AgentKeys::new(store.clone(), clock, audit),
            audit: AuditFace::new(store.clone()),
            maintenance,
            diagnosis,
            refresher,
            store,
            gateways: gateways(config.auth.max_calls),
            operators: operators(),
            first_agent_key,
            tracker,
            drain: config.auth.identity_timeout.duration() + DRAIN,
            _closing: closing.clone().drop_guard(),
            closing,
        }
    }

    /// The gRPC services with their layers: for callers of the same user only.
    pub fn mounted(&self) -> Mounted {
        let credentials = CredentialServiceServer::new(self.credentials.clone())
            // The files of an import.
            .max_decoding_message_size(MAX_MESSAGE_BYTES);
        let maintenance = MaintenanceServiceServer::new(self.maintenance.clone())
            // The file of a restore.
            .max_decoding_message_size(MAX_MESSAGE_BYTES);
        let operators = Mounted::new()
            .add(credentials)
            .add(LoginServiceServer::new(self.logins.clone()))
            .add(KeyServiceServer::new(self.keys.clone()))
            .add(AuditServiceServer::new(self.audit.clone()))
            .add(maintenance)
            .bounded(&self.operators);
        Mounted::new()
            .add(BindingServiceServer::new(self.binding.clone()))
            .bounded(&self.gateways)
            .merge(operators)
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
                    let why = store.check().await.err().map(|error| format!(" ({error})")).unwrap_or_default();
                    let message = format!(
                        "refreshed tokens wait in memory for database {} to take them: {}{why}",
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

    /// Refreshes logins unasked from now on, until [`Self::shutdown`]: for a process that serves.
    pub fn keep_fresh(&self) {
        self.refresher.keep_fresh();
    }

    /// What stands on the admin port: readiness, what will go wrong though calls still work, and the gauges.
    pub fn admin(&self) -> Admin {
        self.add_to(self.readiness().into())
    }

    /// Adds this service's findings and gauges to the admin port of a process that it is a part of.
    pub fn add_to(&self, admin: Admin) -> Admin {
        let (warnings, gauges) = (self.diagnosis.clone(), self.diagnosis.clone());
        admin
            .warnings(Arc::new(move || {
                let diagnosis = warnings.clone();
                Box::pin(async move { diagnosis.lately().await })
            }))
            .gauges(Arc::new(move || {
                let diagnosis = gauges.clone();
                Box::pin(async move { diagnosis.gauges().await })
            }))
    }

    /// The file of the first agent key, if this start has made it.
    pub fn first_agent_key(&self) -> Option<&Path> {
        self.first_agent_key.as_deref()
    }

    /// The migration that opening the database has brought, if one was due.
    pub fn upgraded(&self) -> Option<&Upgraded> {
        self.store.upgraded()
    }

    /// Waits for refreshes and logins that are under way, writes what is left, and closes the database.
    pub async fn shutdown(&self) {
        self.closing.cancel();
        self.tracker.close();
        if tokio::time::timeout(self.drain, self.tracker.wait()).await.is_err() {
            tracing::error!(seconds = self.drain.as_secs(), "shutting down although a refresh has not ended");
        }
        self.refresher.summary();
        self.store.close().await;
    }
}

fn gateways(most: usize) -> CallRoom {
    let full = Full {
        service: service::AUTH,
        what: "auth_calls",
        message: format!("auth-svc answers {most} questions of gateways, as many as it takes"),
        next_step: "wait and retry; where they wait for the identity provider or the disk, mend that, else raise \
                    `[auth] max_calls`",
    };
    CallRoom::new(most, full)
}

fn operators() -> CallRoom {
    let full = Full {
        service: service::AUTH,
        what: "auth_operators",
        message: format!("auth-svc does {MAX_OPERATORS} things for operators, as many as it takes"),
        next_step: "wait and retry",
    };
    CallRoom::new(MAX_OPERATORS, full)
}
