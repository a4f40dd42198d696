//! `health`: asks every service whether it is ready, as `/readyz` does; made for health checks of containers and units.
//! What is amiss beside that, a login that needs its operator above all, is printed too, and does not change the exit
//! code: to start a service again would not mend it.

use std::time::Duration;

use domain::Failure;
use domain::service::AUTH;
use serde_json::json;
use service_kit::{Finding, Severity};

use crate::args::Cli;
use crate::commands::doctor;
use crate::control::{CONTROL, connect, data_dir, require};
use crate::output::{Failed, print_json, print_line};
use crate::reach::{self, Member};

pub(crate) async fn run(cli: &Cli) -> Result<(), Failed> {
    let results = ask(cli).await?;
    let warnings = warnings(cli).await;
    report(cli, &results, &warnings)
}

/// Asks every service; a failure means that there is none at all.
pub(crate) async fn ask(cli: &Cli) -> Result<Vec<(String, Result<(), Failure>)>, Failed> {
    let mut results: Vec<(String, Result<(), Failure>)> = Vec::new();
    let dir = data_dir(cli)?;
    let control = dir.join(format!("{CONTROL}.sock"));
    if let Some(address) = reach::remote_server(cli) {
        let (name, channel) = reach::whoever(cli, address).await?;
        results.push((name.to_owned(), service_kit::check_health(channel).await));
    } else if reach::named_server(cli).is_some() || tokio::net::UnixStream::connect(&control).await.is_ok() {
        let channel = require(cli, CONTROL).await?;
        results.push(("switchboard (all services)".to_owned(), service_kit::check_health(channel).await));
    } else {
        let members = reach::members(cli)?;
        // Nothing at all there is one failure, not four.
        if !members.iter().any(Member::is_there) {
            require(cli, CONTROL).await?;
        }
        for member in members {
            results.push((member.name.clone(), member.health().await));
        }
    }
    Ok(results)
}

/// What auth-svc finds amiss although it serves. Whoever checks for health waits for no one, and one that does not
/// answer has been named already.
async fn warnings(cli: &Cli) -> Vec<Finding> {
    let asked = async {
        match connect(cli, AUTH).await {
            Ok(Some(channel)) => doctor::ask_auth(channel).await.unwrap_or_default(),
            Ok(None) | Err(_) => Vec::new(),
        }
    };
    let mut found = tokio::time::timeout(Duration::from_secs(3), asked).await.unwrap_or_default();
    found.retain(|finding| finding.severity != Severity::Ok);
    found.into_iter().map(Finding::beside).collect()
}

fn report(cli: &Cli, results: &[(String, Result<(), Failure>)], warnings: &[Finding]) -> Result<(), Failed> {
    let healthy = results.iter().all(|(_, r)| r.is_ok());
    if cli.json {
        let services: Vec<_> = results
            .iter()
            .map(|(name, r)| json!({ "service": name, "status": if r.is_ok() { "serving" } else { "not serving" }, "error": r.as_ref().err() }))
            .collect();
        let status = if healthy { "ok" } else { "error" };
        print_json(&json!({ "status": status, "services": services, "warnings": warnings }));
    } else {
        for (name, result) in results {
            match result {
                Ok(()) => print_line(&format!("{name}: serving")),
                Err(failure) => {
                    print_line(&format!("{name}: {failure}"));
                    if !failure.next_step.is_empty() && failure.next_step != "none" {
                        print_line(&format!("       next: {}", failure.next_step));
                    }
                }
            }
        }
        warnings.iter().for_each(|finding| print_line(&finding.to_string()));
    }
    if healthy { Ok(()) } else { Err(Failed::Printed(1)) }
}
