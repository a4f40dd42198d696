//! `up`: the four services in one process.

use std::time::Duration;

use codex_sim::Sim;
use config::Config;
use domain::service::{AUTH, CLI};
use domain::{Failure, Reason};
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
    fit(&config)?;
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

/// Its services speak to each other in this process: what the configuration says of where others would find them, or of
/// others elsewhere, must not seem to be in force.
fn fit(config: &Config) -> Result<(), Failed> {
    let gateway = &config.gateway;
    let set = [
        ("auth.listen", &config.auth.listen),
        ("router.listen", &config.router.listen),
        ("transport.listen", &config.transport.listen),
        ("gateway.control_listen", &gateway.control_listen),
        ("gateway.auth", &gateway.auth),
        ("gateway.router", &gateway.router),
    ];
    let set: Vec<_> = set.iter().filter_map(|(key, value)| Some((*key, value.as_deref()?))).collect();
    let (here, elsewhere): (Vec<_>, Vec<_>) = set.into_iter().partition(|(_, address)| address.starts_with("unix:"));
    for (key, address) in here {
        eprint_line(&format!(
            "note: {key} = {address} is for a service of its own process; `switchboard up` has one socket"
        ));
    }
    if elsewhere.is_empty() {
        return Ok(());
    }
    let named: Vec<String> = elsewhere.iter().map(|(key, address)| format!("{key} = {address:?}")).collect();
    let message = format!(
        "`switchboard up` runs the services for this host alone, and does not serve or use {}",
        named.join(", ")
    );
    let step = "run the services in processes of their own (auth-svc, router-svc, transport-svc, gateway: docs/operations.md), \
                or take these keys out";
    let failure = Failure::new(Reason::RequestInvalid, CLI, message).next_step(step);
    Err(Failed::Configuration(Box::new(failure)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_does_not_serve_is_refused() {
        let mut config = Config::default();
        assert!(fit(&config).is_ok());
        config.auth.listen = Some("unix:///run/auth.sock".to_owned());
        assert!(fit(&config).is_ok(), "a file that several kinds of start share");
        config.auth.listen = Some("10.0.0.1:7412".to_owned());
        config.gateway.router = Some("https://r:7413".to_owned());
        let failed = fit(&config).expect_err("refused");
        let failure = failed.failure().expect("a failure");
        assert!(matches!(failed, Failed::Configuration(_)));
        assert!(failure.message.contains("auth.listen") && failure.message.contains("gateway.router"), "{failure}");
    }
}
