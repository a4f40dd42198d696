//! `health`: asks every service whether it serves; made for health checks of containers and units.

use domain::Failure;
use serde_json::json;
use service_kit::PeerChannel;

use crate::args::Cli;
use crate::control::{CONTROL, SERVICES, data_dir, require};
use crate::output::{Failed, print_json, print_line};

pub(crate) async fn run(cli: &Cli) -> Result<(), Failed> {
    let mut results: Vec<(String, Result<(), Failure>)> = Vec::new();
    let dir = data_dir(cli)?;
    let control = dir.join(format!("{CONTROL}.sock"));
    if cli.server.is_some() || tokio::net::UnixStream::connect(&control).await.is_ok() {
        let channel = require(cli, CONTROL).await?;
        results.push(("switchboard (all services)".to_owned(), service_kit::check_health(channel).await));
    } else {
        // Nothing at all there is one failure, not four.
        let mut any = false;
        for name in SERVICES {
            let path = dir.join(format!("{name}.sock"));
            any |= path.exists();
            results.push((name.to_owned(), service_kit::check_health(PeerChannel::unix(name, &path)).await));
        }
        if !any {
            require(cli, CONTROL).await?;
        }
    }
    report(cli, &results)
}

fn report(cli: &Cli, results: &[(String, Result<(), Failure>)]) -> Result<(), Failed> {
    let healthy = results.iter().all(|(_, r)| r.is_ok());
    if cli.json {
        let services: Vec<_> = results
            .iter()
            .map(|(name, r)| json!({ "service": name, "status": if r.is_ok() { "serving" } else { "not serving" }, "error": r.as_ref().err() }))
            .collect();
        print_json(&json!({ "status": if healthy { "ok" } else { "error" }, "services": services }));
    } else {
        for (name, result) in results {
            match result {
                Ok(()) => print_line(&format!("{name}: serving")),
                Err(failure) => print_line(&format!("{name}: {failure}")),
            }
        }
    }
    if healthy { Ok(()) } else { Err(Failed::Printed(1)) }
}
