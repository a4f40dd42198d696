//! `router-svc`: which route does this model name mean?

use std::process::ExitCode;

use domain::service::ROUTER;
use service_kit::startup::{self, Start, StartError};

fn main() -> ExitCode {
    startup::run(ROUTER, serve)
}

async fn serve(start: Start) -> Result<(), StartError> {
    let service = router_svc::build(&start.config, start.loader()).map_err(|e| StartError::build(&e, true))?;

    let options = start.internal_options();
    let listeners = start.bind_internal(ROUTER, start.config.router.listen.as_deref()).await?;
    let admin = start.bind(&start.config.router.admin_listen).await?;
    // SIGHUP reads the configuration again. The handler is in place before anybody is told that the service is there.
    let reloading = service.reload_on_hangup(start.shutdown.clone());
    startup::announce_all(ROUTER, &listeners, &[("admin", &admin)]);

    let admin = (service.readiness(), admin);
    let serving = startup::serve_with_admin(service.mounted(), listeners, admin, options, start.shutdown.clone());
    let (served, ()) = tokio::join!(serving, reloading);
    served
}
