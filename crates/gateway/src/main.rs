//! `gateway`: the front door for agents, and the operator's view of calls.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use domain::Clock;
use domain::service::{AUTH, GATEWAY, ROUTER, TRANSPORT};
use gateway::Peers;
use service_kit::startup::{self, Start, StartError, peer_channel};
use service_kit::{ServeOptions, serve};

fn main() -> ExitCode {
    startup::run(GATEWAY, run)
}

async fn run(start: Start) -> Result<(), StartError> {
    let (config, dir) = (&start.config.gateway, &start.data_dir);
    let mut transports = BTreeMap::new();
    for (name, egress) in &config.transports {
        // There is no transport in this process: "in-process" means the one that shares the data directory.
        let address = Some(egress.address.as_str()).filter(|a| *a != "in-process");
        transports.insert(name.clone(), peer_channel(dir, TRANSPORT, address)?);
    }
    let peers = Peers {
        router: peer_channel(dir, ROUTER, config.router.as_deref())?,
        auth: peer_channel(dir, AUTH, config.auth.as_deref())?,
        transports,
    };
    let service = gateway::build(&start.config, peers, Clock::system()).map_err(|e| StartError::build(&e, true))?;
    let tls = gateway::tls_acceptor(config).map_err(|e| StartError::build(&e, true))?;

    let agents = start.bind(&config.listen).await?;
    let control = start.bind_internal(GATEWAY, None).await?;
    let admin = start.bind(&config.admin_listen).await?;
    startup::announce(&[(GATEWAY, &agents), ("control", &control), ("admin", &admin)]);

    let options = ServeOptions { drain: Duration::from_secs(config.drain_seconds), tls };
    let front = service.mounted().listenable().await?;
    let admin = (service.readiness(), admin);
    let (operated, ()) = tokio::join!(
        startup::serve_with_admin(service.control(), control, admin, options.clone(), start.shutdown.clone()),
        serve(front, agents, options, start.shutdown.clone())
    );
    service.shutdown().await;
    operated
}
