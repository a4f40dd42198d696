//! `auth-svc`: which credential is bound to a route? Owns the database and every refresh token.

use std::process::ExitCode;

use auth_svc::AuthOptions;
use domain::Clock;
use domain::service::AUTH;
use service_kit::Holder;
use service_kit::startup::{self, Start, StartError};

fn main() -> ExitCode {
    startup::run(AUTH, serve)
}

async fn serve(start: Start) -> Result<(), StartError> {
    // Whoever opens the database holds the data directory.
    let _lock = start.data_dir.lock(&Holder::this(AUTH, true))?;
    let options = AuthOptions {
        config: &start.config,
        data_dir: &start.data_dir,
        seal_key: None,
        create: start.init,
        first_agent_key: start.init,
        clock: Clock::system(),
    };
    let service = auth_svc::build(options).await.map_err(|error| error.service_start_error(&start.data_dir))?;

    let options = start.internal_options();
    let listeners = start.bind_internal(AUTH, start.config.auth.listen.as_deref()).await?;
    let admin = start.bind(&start.config.auth.admin_listen).await?;
    startup::announce_all(AUTH, &listeners, &[("admin", &admin)]);

    service.keep_fresh();
    let admin = (service.admin(), admin);
    startup::serve_with_admin(service.mounted(), listeners, admin, options, start.shutdown).await?;
    // A refresh that is under way must reach the database.
    service.shutdown().await;
    Ok(())
}
