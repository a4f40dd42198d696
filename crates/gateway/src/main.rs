//! `gateway`: the front door for agents, and the operator's view of calls.

use std::process::ExitCode;

use domain::Clock;
use domain::service::GATEWAY;
use gateway::Peers;
use service_kit::ServeOptions;
use service_kit::startup::{self, Start, StartError};

/// A call makes some hundreds of small allocations; with this one they cost half of what the C library takes.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    startup::run(GATEWAY, run)
}

async fn run(start: Start) -> Result<(), StartError> {
    let config = &start.config.gateway;
    let peers = Peers::elsewhere(config, &start.data_dir, start.mutual.as_ref())?;
    let service = gateway::build(&start.config, peers, Clock::system()).map_err(|e| StartError::build(&e, true))?;
    let tls = gateway::front_tls(config).map_err(|e| StartError::build(&e, true))?;

    let agents = start.bind(&config.listen).await?;
    let control = start.bind_internal(GATEWAY, config.control_listen.as_deref()).await?;
    let admin = start.bind(&config.admin_listen).await?;
    startup::announce(&[(GATEWAY, &agents)]);
    startup::announce_all("control", &control, &[("admin", &admin)]);
    let options = gateway::serve_options(config, tls.as_ref());
    let operators = ServeOptions { tls: None, mutual: start.mutual.clone(), ..options.clone() };
    let front = service.mounted().listenable().await?;
    let admin = (gateway::watched(service.admin(), tls.as_ref()), admin);
    let (operated, ()) = tokio::join!(
        startup::serve_with_admin(service.control(), control, admin, operators, start.shutdown.clone()),
        gateway::serve_front(front, agents, options, tls, start.shutdown.clone())
    );
    service.shutdown().await;
    operated
}
