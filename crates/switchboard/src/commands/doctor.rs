//! `doctor`: looks at everything from the configuration to the routes, and says of each what was found and what to do.
//! What a running server can tell is asked of it; without one the files are looked at, as far as they go.

use std::path::Path;
use std::time::Duration;

use domain::service::{AUTH, GATEWAY};
use domain::{Failure, Reason, timestamp};
use proto::auth::v1::DiagnoseRequest;
use proto::auth::v1::maintenance_service_client::MaintenanceServiceClient;
use proto::gateway::v1::gateway_service_client::GatewayServiceClient;
use proto::gateway::v1::{EgressStatus, GetStatusRequest, GetStatusResponse, RouteStatus};
use serde_json::json;
use service_kit::{DataDir, DataDirError, Finding, Holder, PeerChannel, Severity, failure_from_proto};

use crate::args::{Cli, DoctorArgs};
use crate::commands::{certificates, health, models};
use crate::control::{Auth, connect, data_dir, places};
use crate::output::{Failed, print_json, print_line};
use crate::reach;

/// Longest wait for one answer: a status may have to refresh a token first.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn run(cli: &Cli, args: &DoctorArgs) -> Result<(), Failed> {
    // A server on the network is one service; what lies on this host says nothing of it.
    let remote = match reach::remote_server(cli) {
        Some(address) => Some(reach::whoever(cli, address).await?.0),
        None => None,
    };
    let asked = |service| remote.is_none_or(|there| there == service);
    let mut findings = vec![configuration(cli)?];
    if remote.is_none() {
        findings.push(directory(&data_dir(cli)?));
    }
    findings.extend(certificates::findings(cli));
    let broken = findings.iter().any(|finding| finding.severity == Severity::Error);
    findings.extend(services(cli).await);
    let gateway = if asked(GATEWAY) { connect(cli, GATEWAY).await } else { Ok(None) };
    let running = asked(AUTH) && connect(cli, AUTH).await.is_ok_and(|channel| channel.is_some());
    let elsewhere = if running { None } else { reach::store_elsewhere(cli) };
    // Without a server the files are opened here, where that can go well; those of a simulator that is gone say nothing.
    if let Some(elsewhere) = elsewhere.filter(|_| remote.is_none()) {
        let step = "see what `switchboard doctor` finds there, too";
        findings.push(Finding::ok("credentials", elsewhere.place()).next(step));
    } else if running || !(broken || cli.sim || remote.is_some()) {
        match diagnosis(cli).await {
            Ok(found) => findings.extend(found),
            Err(interrupted @ Failed::Interrupted(_)) => return Err(interrupted),
            Err(failed) => findings.push(of("credentials", failed)),
        }
    }
    // Without a server there is nobody who would bind: that has been said, and nothing is guessed.
    if let Ok(Some(gateway)) = gateway {
        match status(gateway.clone(), args).await {
            Ok(status) => findings.extend(routes(&status)),
            Err(failed) => findings.push(of("routes", failed)),
        }
        match models::findings(gateway, args.agent.as_deref()).await {
            Ok(found) => findings.extend(found),
            Err(failed) => findings.push(of("models", failed)),
        }
    }
    findings.sort_by_key(|finding| finding.severity);
    report(cli, &findings)
}

fn report(cli: &Cli, findings: &[Finding]) -> Result<(), Failed> {
    let worst = findings.iter().map(|finding| finding.severity).min().unwrap_or(Severity::Ok);
    if cli.json {
        print_json(&json!({ "status": worst.as_str(), "findings": findings }));
    } else {
        findings.iter().for_each(|finding| print_line(&finding.to_string()));
    }
    if worst == Severity::Error { Err(Failed::Printed(1)) } else { Ok(()) }
}

/// A step that failed, as a finding.
fn of(subject: &str, failed: Failed) -> Finding {
    match failed {
        Failed::Printed(code) => Finding::error(subject, format!("it ended with exit code {code}")),
        failed => failed.failure().map_or_else(|| Finding::error(subject, "it failed"), |f| of_failure(subject, &f)),
    }
}

fn of_failure(subject: &str, failure: &Failure) -> Finding {
    let step = if failure.next_step == "none" { "" } else { failure.next_step.as_str() };
    Finding::error(subject, failure.message.clone()).next(step).reason(failure.reason)
}

fn configuration(cli: &Cli) -> Result<Finding, Failed> {
    let options = places(cli)?.load_options(Vec::new())?;
    Ok(match config::load(&options) {
        Ok(loaded) => {
            let from = loaded.file.as_ref().map_or_else(|| "built-in defaults".to_owned(), |f| f.display().to_string());
            // Names alone: a value may hold a password.
            let names =
                options.env.iter().map(|(name, _)| name.as_str()).filter(|name| name.starts_with("SWITCHBOARD__"));
            let mut names: Vec<&str> = names.collect();
            names.sort_unstable();
            let overrides =
                if names.is_empty() { String::new() } else { format!(", overridden by {}", names.join(", ")) };
            Finding::ok("configuration", format!("{from}{overrides}, digest {}", loaded.digest))
        }
        Err(error) => {
            let message = error.to_string().lines().map(str::trim).collect::<Vec<_>>().join("; ");
            Finding::error("configuration", message).next("mend it and see `switchboard config check`")
        }
    })
}

/// The data directory, and who holds it.
fn directory(path: &Path) -> Finding {
    let subject = "data directory";
    let dir = match DataDir::open(path, false) {
        Ok(dir) => dir,
        Err(error) => {
            let message = error.to_string();
            return Finding::error(subject, message.trim_start_matches("data directory ")).next(error.next_step());
        }
    };
    let shown = dir.path().display();
    match dir.lock(&Holder::this("switchboard doctor", false)) {
        Ok(_) => Finding::ok(subject, format!("{shown} is private; no process holds it")),
        Err(DataDirError::InUse(_, holder)) => {
            Finding::ok(subject, format!("{shown} is private, and held by {holder}"))
        }
        Err(error) => {
            let message = error.to_string();
            Finding::error(subject, message.trim_start_matches("data directory ")).next(error.next_step())
        }
    }
}

/// Whether each service serves.
async fn services(cli: &Cli) -> Vec<Finding> {
    match health::ask(cli).await {
        Ok(results) => results
            .into_iter()
            .map(|(name, result)| {
                let subject = format!("service {name}");
                match result {
                    Ok(()) => Finding::ok(subject, "serving"),
                    Err(failure) => of_failure(&subject, &failure),
                }
            })
            .collect(),
        Err(failed) => vec![of("server", failed)],
    }
}

/// What auth-svc finds: the running one, else one of our own on the same files.
async fn diagnosis(cli: &Cli) -> Result<Vec<Finding>, Failed> {
    let auth = Auth::open(cli, false).await?;
    let channel = auth.channel();
    auth.complete(ask_auth(channel)).await?
}

/// Everything that an auth-svc finds.
pub(crate) async fn ask_auth(channel: PeerChannel) -> Result<Vec<Finding>, Failed> {
    let mut request = tonic::Request::new(DiagnoseRequest {});
    request.set_timeout(PATIENCE);
    let answer = MaintenanceServiceClient::new(channel).diagnose(request).await;
    let findings = answer.map_err(|status| Failed::status(&status, AUTH))?.into_inner().findings;
    Ok(findings.into_iter().map(Finding::from_proto).collect())
}

async fn status(gateway: PeerChannel, args: &DoctorArgs) -> Result<GetStatusResponse, Failed> {
    let mut request =
        tonic::Request::new(GetStatusRequest { agent: args.agent.clone().unwrap_or_default(), probe: false });
    request.set_timeout(PATIENCE);
    let answer = GatewayServiceClient::new(gateway).get_status(request).await;
    Ok(answer.map_err(|status| Failed::status(&status, GATEWAY))?.into_inner())
}

/// Each route as a call would find it.
fn routes(status: &GetStatusResponse) -> Vec<Finding> {
    let mut findings: Vec<Finding> =
        status.routes.iter().map(route).chain(status.egresses.iter().map(egress)).collect();
    if let Some(rejected) = status.config.as_ref().and_then(|config| config.rejected.as_ref()) {
        let message = format!("the changed configuration is not in force: {rejected}");
        findings.push(Finding::warning("routes", message).next("mend it: `switchboard config check`"));
    }
    findings
}

/// An egress as requests to one target have found it. What is shut for a while is a warning: whether calls fail for it,
/// the routes say.
fn egress(egress: &EgressStatus) -> Finding {
    let to = if egress.target.is_empty() { String::new() } else { format!(" to target {}", egress.target) };
    let subject = format!("egress {}{to}", egress.egress);
    let last = match (&egress.last_outcome, egress.last_at) {
        (Some(outcome), Some(at)) => format!("the last request came to {outcome} at {}", timestamp(at as i64)),
        _ => "no request has told of it yet".to_owned(),
    };
    let Some(message) = &egress.message else {
        return Finding::ok(subject, format!("circuit {}; {last}", egress.circuit));
    };
    let reason = egress.reason.as_deref().and_then(|name| name.parse::<Reason>().ok());
    let finding = Finding::warning(subject, format!("circuit {}: {message}; {last}", egress.circuit))
        .next("see what the reason says; it is tried again by itself, and calls leave by what else is allowed");
    match reason {
        Some(reason) => finding.reason(reason),
        None => finding,
    }
}

fn route(route: &RouteStatus) -> Finding {
    let subject = format!("route {} of agent {}", route.model, route.agent);
    match (&route.bound, &route.failure) {
        (Some(bound), _) => {
            Finding::ok(subject, format!("bound to credential {}; calls go to {}", bound.credential, route.url))
        }
        (None, Some(failure)) => of_failure(&subject, &failure_from_proto(failure)),
        (None, None) => {
            let why = route.reason.as_deref().unwrap_or("no reason is known");
            Finding::error(subject, format!("not bound: {why}")).reason(Reason::CredentialNotBound)
        }
    }
}
