//! `transport-svc`: the upstream call.

use std::process::ExitCode;

use domain::Clock;
use domain::service::TRANSPORT;
use service_kit::admin::Admin;
use service_kit::startup::{self, Start, StartError};
use transport_svc::TransportOptions;

/// A call makes some hundreds of small allocations; with this one they cost half of what the C library takes.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    startup::run(TRANSPORT, serve)
}

async fn serve(start: Start) -> Result<(), StartError> {
    let options =
        TransportOptions { config: &start.config, data_dir: &start.data_dir, seal_key: None, clock: Clock::system() };
    let service = transport_svc::build(options).map_err(|e| StartError::build(&e, e.is_configuration()))?;

    let options = start.internal_options();
    let listeners = start.bind_internal(TRANSPORT, start.config.transport.listen.as_deref()).await?;
    let admin = start.bind(&start.config.transport.admin_listen).await?;
    startup::announce_all(TRANSPORT, &listeners, &[("admin", &admin)]);

    let admin = (Admin::from(service.readiness()).upkeep(service.upkeep()), admin);
    startup::serve_with_admin(service.mounted(), listeners, admin, options, start.shutdown).await?;
    service.shutdown().await;
    Ok(())
}
