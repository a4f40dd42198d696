//! `up`: the four services in one process.

use std::time::Duration;

use codex_sim::Sim;
use domain::service::AUTH;
use service_kit::startup::{self, StartError, loader, log_format};
use service_kit::{Bound, DataDir, Holder, ListenAddress, PeerChannel, shutdown_signal};

use crate::all_in_one::{AllInOne, Listeners};
use crate::args::{Cli, UpArgs};
use crate::commands::login::login;
use crate::control::{CONTROL, places};
use crate::output::{Failed, eprint_line, print_line};
use crate::simulated;

pub(crate) async fn run(cli: &Cli, args: &UpArgs) -> Result<(), Failed> {
    let sim = if cli.sim { Some(simulated::start().await?) } else { None };
    let result = up(cli, args, sim.as_ref()).await;
    if let Some(sim) = sim {
        sim.stop().await;
    }
    result
}

async fn up(cli: &Cli, args: &UpArgs, sim: Option<&Sim>) -> Result<(), Failed> {
    let options = places(cli)?.load_options(overrides(args, sim))?;
    let loaded = config::load(&options).map_err(StartError::from)?;
    let config = loaded.config;
    let dir = DataDir::open(&options.data_dir, true).map_err(StartError::from)?;
    let _lock = dir.lock(&Holder::this("switchboard up", true)).map_err(StartError::from)?;
    let telemetry = telemetry::init("switchboard", log_format(&config), "info").map_err(StartError::from)?;
    startup::tell_memory();
    let shutdown = shutdown_signal().map_err(StartError::from)?;

    let services = AllInOne::build(&config, &dir, loader(options), true).await?;
    let listeners = Listeners {
        agents: bind(&config.gateway.listen).await?,
        control: Bound::bind(&dir.socket(CONTROL)).await.map_err(StartError::from)?,
        admin: bind(&config.gateway.admin_listen).await?,
    };
    if sim.is_some() {
        let auth = PeerChannel::in_process(AUTH, services.control().router());
        login(auth, None, None, |_| (), |_| ()).await?;
    }
    let reloading = services.reload_on_hangup(shutdown.clone());
    startup::announce(&[("gateway", &listeners.agents), ("control", &listeners.control), ("admin", &listeners.admin)]);
    if let Some(sim) = sim {
        print_line(&format!("listening codex-sim {}", sim.base_url()));
    }
    // It is written once; who has put it elsewhere is not sent to look for it here.
    let first_key = dir.file("agent.key");
    if first_key.exists() {
        eprint_line(&format!("agent key: {}", first_key.display()));
    }
    let serving = async {
        let served = services.serve(listeners, shutdown.clone()).await;
        // However it ended: nothing is left to be read again.
        shutdown.cancel();
        served
    };
    let (served, ()) = tokio::join!(serving, reloading);
    telemetry.shutdown(Duration::from_secs(5)).await;
    served.map_err(Failed::from)
}

fn overrides(args: &UpArgs, sim: Option<&Sim>) -> Vec<(String, String)> {
    let flags = [("gateway.listen", &args.listen), ("gateway.admin_listen", &args.admin_listen)];
    let mut set: Vec<_> = flags.into_iter().filter_map(|(k, v)| Some((k.to_owned(), v.clone()?))).collect();
    set.extend(sim.map(simulated::overrides).unwrap_or_default());
    set
}

async fn bind(address: &str) -> Result<Bound, StartError> {
    let address: ListenAddress = address.parse().map_err(StartError::Configuration)?;
    Ok(Bound::bind(&address).await?)
}
