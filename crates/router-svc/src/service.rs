//! The service: the table in force, and how it is replaced.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use config::Config;
use domain::service;
use proto::router::v1::router_service_server::RouterServiceServer;
use service_kit::admin::Readiness;
use service_kit::{CallRoom, Full, Mounted, ServiceLayers};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::grpc::Grpc;
use crate::table::{BuildError, Table};

/// Reads the configuration afresh; the error is for a person and names file, key and cause. It may block.
pub type Loader = Arc<dyn Fn() -> Result<Config, String> + Send + Sync>;

/// What came of a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReloadOutcome {
    /// Digest of the table in force.
    pub digest: String,
    /// True if another table is in force than before.
    pub changed: bool,
    /// Why the new configuration was rejected; the old table stays in force.
    pub rejected: Option<String>,
}

/// The table in force, and why the last reload came to nothing, if it did.
pub(crate) struct InForce {
    pub(crate) table: Arc<Table>,
    pub(crate) rejected: Option<String>,
}

/// router-svc, without a listener. Clones are the same service.
#[derive(Clone)]
pub struct RouterService {
    inner: Arc<Inner>,
}

struct Inner {
    /// Table and rejection together, so that one answer never has the one without the other.
    in_force: ArcSwap<InForce>,
    loader: Loader,
    /// URLs of the targets at the start, by target id.
    targets: BTreeMap<String, String>,
    /// One reload at a time: the last one to read the file must be the last one to take effect.
    reloading: Mutex<()>,
    /// For questions that are being answered.
    places: CallRoom,
}

impl fmt::Debug for RouterService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouterService").field("table", &self.in_force().table.digest()).finish_non_exhaustive()
    }
}

/// Builds the service from a configuration; `loader` reads it again at a reload.
///
/// # Errors
///
/// The first key that no table can be built with.
pub fn build(config: &Config, loader: Loader) -> Result<RouterService, BuildError> {
    let table = Arc::new(Table::build(config)?);
    tracing::info!(digest = table.digest(), agents = table.agents.len(), "route table built");
    let in_force = ArcSwap::from_pointee(InForce { table, rejected: None });
    let targets = target_urls(config);
    let places = places(config.router.max_calls);
    Ok(RouterService { inner: Arc::new(Inner { in_force, loader, targets, reloading: Mutex::new(()), places }) })
}

fn places(most: usize) -> CallRoom {
    let full = Full {
        service: service::ROUTER,
        what: "router_calls",
        message: format!("router-svc answers {most} questions, as many as it takes"),
        next_step: "wait and retry, or raise `[router] max_calls`",
    };
    CallRoom::new(most, full)
}

fn target_urls(config: &Config) -> BTreeMap<String, String> {
    config.targets.iter().map(|(id, target)| (id.clone(), target.base_url.clone())).collect()
}

/// A target that has moved: transport-svc and auth-svc go by the URLs they started with, and a route must not show
/// another one than the call will use.
fn moved_target(before: &BTreeMap<String, String>, config: &Config) -> Option<String> {
    let now = target_urls(config);
    let id = before.keys().chain(now.keys()).find(|id| before.get(*id) != now.get(*id))?;
    let shown = |url: Option<&String>| url.map_or_else(|| "absent".to_owned(), |url| format!("{url:?}"));
    Some(format!(
        "targets.{id}.base_url was {} at the start and is {} now: transport-svc and auth-svc read it at their start only, \
         so restart all services",
        shown(before.get(id)),
        shown(now.get(id))
    ))
}

impl RouterService {
    /// Its gRPC services, open to processes of the same user only.
    pub fn mounted(&self) -> Mounted {
        Mounted::new()
            .add(RouterServiceServer::new(Grpc::new(self.clone())))
            .bounded(&self.inner.places)
            .layered(ServiceLayers::trusted(service::ROUTER))
    }

    /// Always ready: without a table there is no service, and a rejected reload leaves one in force.
    pub fn readiness(&self) -> Readiness {
        Arc::new(|| Box::pin(async { Ok(()) }))
    }

    /// Reads the configuration again and puts a table of it in force, or keeps the old one and says why. Blocks on the
    /// loader.
    pub fn reload(&self) -> ReloadOutcome {
        let _one_at_a_time = self.inner.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let before = Arc::clone(&self.in_force().table);
        let loaded = (self.inner.loader)().and_then(|config| match moved_target(&self.inner.targets, &config) {
            None => Table::build(&config).map_err(|error| error.to_string()),
            Some(why) => Err(why),
        });
        match loaded {
            Ok(table) => {
                let (digest, changed) = (table.digest().to_owned(), table.digest() != before.digest());
                self.put(Arc::new(table), None);
                tracing::info!(%digest, changed, "configuration read again");
                ReloadOutcome { digest, changed, rejected: None }
            }
            Err(why) => {
                let digest = before.digest().to_owned();
                tracing::warn!(%digest, error = %why, "the configuration was rejected; the old route table stays in force");
                self.put(before, Some(why.clone()));
                ReloadOutcome { digest, changed: false, rejected: Some(why) }
            }
        }
    }

    /// Reloads at every SIGHUP until `shutdown`. From this call on (not only from the first poll) SIGHUP no longer ends
    /// the process: call it before the addresses are announced. Must be called inside a tokio runtime.
    pub fn reload_on_hangup(&self, shutdown: CancellationToken) -> impl Future<Output = ()> + Send + use<> {
        let (this, hangup) = (self.clone(), signal(SignalKind::hangup()));
        async move {
            match hangup {
                Ok(hangup) => this.reload_at_each(hangup, shutdown).await,
                Err(error) => tracing::error!(%error, "SIGHUP cannot be received; reload over gRPC still works"),
            }
        }
    }

    async fn reload_at_each(&self, mut hangup: Signal, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                received = hangup.recv() => if received.is_none() { return },
            }
            // What came of it is in the log.
            if self.reload_off_the_runtime().await.is_none() {
                tracing::error!("the reload failed; the old route table stays in force");
            }
        }
    }

    /// As [`Self::reload`], on a thread that may block. None if the loader panicked.
    pub(crate) async fn reload_off_the_runtime(&self) -> Option<ReloadOutcome> {
        let this = self.clone();
        tokio::task::spawn_blocking(move || this.reload()).await.ok()
    }

    pub(crate) fn in_force(&self) -> Arc<InForce> {
        self.inner.in_force.load_full()
    }

    fn put(&self, table: Arc<Table>, rejected: Option<String>) {
        self.inner.in_force.store(Arc::new(InForce { table, rejected }));
    }
}
