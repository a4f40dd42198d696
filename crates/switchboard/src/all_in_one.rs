//! All four services in one process: the same `build` as in their own processes, joined by in-process channels, with
//! a seal key that exists in this process's memory only, unless the configuration names one that egresses elsewhere share.

use std::collections::BTreeMap;

use auth_svc::{AuthOptions, AuthService};
use config::Config;
use domain::Clock;
use domain::service::{AUTH, ROUTER, TRANSPORT};
use gateway::{GatewayService, Peers};
use router_svc::RouterService;
use service_kit::admin::Admin;
use service_kit::startup::{self, Loader, StartError};
use service_kit::tls::{FrontTls, MutualTls};
use service_kit::{Bound, DataDir, Mounted, PeerChannel, SealKey, ServeOptions};
use tokio_util::sync::CancellationToken;
use transport_svc::{TransportOptions, TransportService};

/// The four services, built and joined, not yet listening.
pub(crate) struct AllInOne {
    auth: AuthService,
    router: RouterService,
    transport: TransportService,
    gateway: GatewayService,
    /// For egresses on other hosts.
    mutual: Option<MutualTls>,
    /// TLS on the agents' port; its files were read before any port was bound.
    tls: Option<FrontTls>,
    /// How the agents' port is served.
    front: ServeOptions,
}

/// Where the process listens.
pub(crate) struct Listeners {
    /// For agents.
    pub agents: Bound,
    /// For operators.
    pub control: Bound,
    /// Health.
    pub admin: Bound,
}

impl AllInOne {
    /// Builds them. With `create`, what a first start needs is made.
    pub(crate) async fn build(
        config: &Config,
        dir: &DataDir,
        loader: Loader,
        create: bool,
    ) -> Result<Self, StartError> {
        // Egresses elsewhere open the same seals, by a key that is in a file.
        let shared = config.auth.seal_key_file.is_some() && config.transport.seal_key_file.is_some();
        let seal_key = if shared { None } else { Some(SealKey::generate()?) };
        let options = AuthOptions {
            config,
            data_dir: dir,
            seal_key: seal_key.clone(),
            create,
            first_agent_key: create,
            clock: Clock::system(),
        };
        let mutual = startup::mutual_tls(config)?;
        let auth = auth_svc::build(options).await.map_err(|error| error.start_error(dir))?;
        let router = router_svc::build(config, loader).map_err(|e| StartError::build(&e, true))?;
        let options = TransportOptions { config, data_dir: dir, seal_key, clock: Clock::system() };
        let transport = transport_svc::build(options).map_err(|e| StartError::build(&e, e.is_configuration()))?;
        let peers = Peers {
            router: PeerChannel::in_process(ROUTER, router.mounted().router()),
            auth: PeerChannel::in_process(AUTH, auth.mounted().router()),
            transports: egresses(config, dir, &transport, mutual.as_ref())?,
        };
        let gateway = gateway::build(config, peers, Clock::system()).map_err(|e| StartError::build(&e, true))?;
        let tls = gateway::front_tls(&config.gateway).map_err(|e| StartError::build(&e, true))?;
        let front = gateway::serve_options(&config.gateway, tls.as_ref());
        Ok(Self { auth, router, transport, gateway, mutual, tls, front })
    }

    /// What operators reach over the control socket: every service.
    pub(crate) fn control(&self) -> Mounted {
        self.gateway.control().merge(self.router.mounted()).merge(self.auth.mounted()).merge(self.transport.mounted())
    }

    /// What agents reach, ready for a listener.
    pub(crate) async fn front(&self) -> Result<axum::Router, StartError> {
        Ok(self.gateway.mounted().listenable().await?)
    }

    /// Installs the handler of SIGHUP, which reads the routes again, and gives the future that serves it.
    pub(crate) fn reload_on_hangup(&self, shutdown: CancellationToken) -> impl Future<Output = ()> + Send + use<> {
        self.router.reload_on_hangup(shutdown)
    }

    /// Serves until shutdown, and waits for what must not be lost.
    pub(crate) async fn serve(self, listeners: Listeners, shutdown: CancellationToken) -> Result<(), StartError> {
        self.auth.keep_fresh();
        let options = self.front.clone();
        let front = self.front().await?;
        let ready = Admin::from(self.gateway.readiness()).and_ready(self.auth.readiness());
        let watched = self.auth.add_to(ready).gauges(self.gateway.gauges()).upkeep(self.transport.upkeep());
        let admin = (gateway::watched(watched, self.tls.as_ref()), listeners.admin);
        let control_options = ServeOptions { tls: None, mutual: self.mutual.clone(), ..options.clone() };
        let control = vec![listeners.control];
        let (served, (), ()) = tokio::join!(
            startup::serve_with_admin(self.control(), control, admin, control_options, shutdown.clone()),
            gateway::serve_front(front, listeners.agents, options, self.tls.clone(), shutdown.clone()),
            startup::follow(self.mutual.clone(), shutdown.clone())
        );
        self.finish().await;
        served
    }

    /// Waits for what outlives its caller: a refresh that is under way must reach the database.
    pub(crate) async fn finish(&self) {
        self.gateway.shutdown().await;
        self.transport.shutdown().await;
        self.auth.shutdown().await;
    }
}

/// The egresses: the one in this process, and those elsewhere that the configuration names.
fn egresses(
    config: &Config,
    dir: &DataDir,
    own: &TransportService,
    mutual: Option<&MutualTls>,
) -> Result<BTreeMap<String, PeerChannel>, StartError> {
    let mut egresses = BTreeMap::new();
    for (name, egress) in &config.gateway.transports {
        let channel = match egress.address.as_str() {
            "in-process" => PeerChannel::in_process(TRANSPORT, own.mounted().router()),
            address => startup::peer_channel(dir, TRANSPORT, Some(address), mutual)?,
        };
        egresses.insert(name.clone(), channel);
    }
    Ok(egresses)
}
