//! `gateway`: the front door for agents, and the operator's view of calls.

use std::process::ExitCode;

use domain::Clock;
use domain::service::GATEWAY;
use gateway::Peers;
use service_kit::admin::Admin;
use service_kit::serve;
use service_kit::startup::{self, Start, StartError};

fn main() -> ExitCode {
    startup::run(GATEWAY, run)
}

async fn run(start: Start) -> Result<(), StartError> {
    let config = &start.config.gateway;
    let peers = Peers::elsewhere(config, &start.data_dir, start.mutual.as_ref())?;
    let service = gateway::build(&start.config, peers, Clock::system()).map_err(|e| StartError::build(&e, true))?;
    let tls = gateway::tls_acceptor(config).map_err(|e| StartError::build(&e, true))?;

    let agents = start.bind(&config.listen).await?;
    let control = start.bind_internal(GATEWAY, None).await?;
    let admin = start.bind(&config.admin_listen).await?;
    startup::announce(&[(GATEWAY, &agents)]);
    startup::announce_all("control", &control, &[("admin", &admin)]);

    let options = gateway::serve_options(config, tls);
    let front = service.mounted().listenable().await?;
    let admin = (Admin::from(service.readiness()).gauges(service.gauges()), admin);
    let (operated, ()) = tokio::join!(
        startup::serve_with_admin(service.control(), control, admin, options.clone(), start.shutdown.clone()),
        serve(front, agents, options, start.shutdown.clone())
    );
    service.shutdown().await;
    operated
}
