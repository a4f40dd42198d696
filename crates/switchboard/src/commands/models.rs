//! `models list` and `models status`. Both ask the server that serves calls: without one they fail, they never guess.

use std::collections::BTreeSet;

use domain::service::GATEWAY;
use proto::gateway::v1::gateway_service_client::GatewayServiceClient;
use proto::gateway::v1::{
    Catalogue, EgressStatus, GetStatusRequest, GetStatusResponse, ListModelsRequest, ListModelsResponse, RouteStatus,
};
use serde_json::{Value, json};
use service_kit::{Finding, PeerChannel, candidate_from_proto, failure_from_proto};

use crate::args::{Cli, ModelsAction, ModelsArgs};
use crate::commands::doctor::PATIENCE;
use crate::control::require;
use crate::output::{Failed, away, print_json, print_line, print_table, when};

pub(crate) async fn run(cli: &Cli, args: &ModelsArgs) -> Result<(), Failed> {
    let mut client = GatewayServiceClient::new(require(cli, GATEWAY).await?);
    match &args.action {
        ModelsAction::List { agent } => {
            let request = ListModelsRequest { agent: agent.clone().unwrap_or_default() };
            let answer = client.list_models(request).await.map_err(|s| Failed::status(&s, GATEWAY))?;
            list(cli, &answer.into_inner());
            Ok(())
        }
        ModelsAction::Status { agent, probe, check } => {
            let request = GetStatusRequest { agent: agent.clone().unwrap_or_default(), probe: *probe };
            let status = client.get_status(request).await.map_err(|s| Failed::status(&s, GATEWAY))?.into_inner();
            if cli.json {
                print_json(&status_json(&status))
            } else {
                print_status(&status)
            }
            let good = |r: &RouteStatus| r.bound.is_some() && r.probe.as_ref().is_none_or(|p| p.result == "ok");
            if *check && !status.routes.iter().all(good) { Err(Failed::Printed(1)) } else { Ok(()) }
        }
    }
}

fn list(cli: &Cli, answer: &ListModelsResponse) {
    let models = &answer.models;
    if cli.json {
        let models: Vec<_> = models
            .iter()
            .map(|m| json!({ "id": m.id, "name": m.name, "input": m.input, "contextWindow": m.context_window,
                "maxOutputTokens": m.max_output_tokens, "local": m.local, "auth": m.auth, "reason": m.reason, "tags": m.tags }))
            .collect();
        let now = domain::Clock::system().now_s();
        let upstream: Vec<_> = answer.catalogues.iter().map(|catalogue| catalogue_json(catalogue, now)).collect();
        print_json(&json!({ "models": models, "upstream": upstream }));
        return;
    }
    let number = |n: Option<i32>| n.map_or_else(|| "-".to_owned(), |n| format!("{}k", n / 1000));
    let rows: Vec<_> = models
        .iter()
        .map(|m| {
            let auth = m.reason.clone().unwrap_or_else(|| if m.auth { "yes".to_owned() } else { "no".to_owned() });
            vec![
                m.id.clone(),
                m.input.join("+"),
                number(m.context_window),
                if m.local { "yes" } else { "no" }.to_owned(),
                auth,
                m.tags.join(","),
            ]
        })
        .collect();
    print_table(&["MODEL", "INPUT", "CTX", "LOCAL", "AUTH", "TAGS"], &rows);
    let now = domain::Clock::system().now_s();
    for (nth, catalogue) in answer.catalogues.iter().enumerate() {
        if nth == 0 {
            print_line("");
        }
        print_line(&format!("{}: {}", catalogue.provider, told(catalogue, now)));
        if let Some(failure) = &catalogue.failure {
            print_line(&format!("  next: {}", failure.next_step));
        }
    }
}

/// Where an upstream's list came from and how old it is; why it cannot be read, if that is so.
pub(crate) fn told(catalogue: &Catalogue, now_s: i64) -> String {
    let Catalogue { credential, models, fetched_at, failure, .. } = catalogue;
    let Some(failure) = failure else {
        let read = fetched_at.map_or_else(|| "just now".to_owned(), |at| away(at, now_s));
        return format!("{models} models listed by the upstream for credential {credential}, read {read}");
    };
    let shown = fetched_at.map_or_else(
        || "so only the configured models are known".to_owned(),
        |at| format!("so the list of {models} models read {} is used", away(at, now_s)),
    );
    format!(
        "the upstream's list for credential {credential} cannot be read, {shown}: {}: {}",
        failure.reason, failure.message
    )
}

/// What upstreams list, for `doctor`: read now unless it was a moment ago. Calls do without such a list, so one that cannot
/// be read is no more than a warning.
pub(crate) async fn findings(gateway: PeerChannel, agent: Option<&str>) -> Result<Vec<Finding>, Failed> {
    let mut request = tonic::Request::new(ListModelsRequest { agent: agent.unwrap_or_default().to_owned() });
    request.set_timeout(PATIENCE);
    let answer = GatewayServiceClient::new(gateway).list_models(request).await;
    let answer = answer.map_err(|status| Failed::status(&status, GATEWAY))?.into_inner();
    let now = domain::Clock::system().now_s();
    let finding = |catalogue: &Catalogue| {
        let (subject, told) = (format!("models of {}", catalogue.provider), told(catalogue, now));
        let failure = catalogue.failure.as_ref().map(failure_from_proto);
        failure.map_or_else(
            || Finding::ok(&subject, &told),
            |failure| Finding::warning(&subject, &told).next(failure.next_step).reason(failure.reason),
        )
    };
    Ok(answer.catalogues.iter().map(finding).collect())
}

/// What an upstream lists, as far as it could be read.
fn catalogue_json(catalogue: &Catalogue, now_s: i64) -> Value {
    let age_s = catalogue.fetched_at.map(|at| (now_s - at.floor() as i64).max(0));
    json!({ "provider": catalogue.provider, "credential": catalogue.credential, "models": catalogue.models,
        "fetchedAt": catalogue.fetched_at, "ageSeconds": age_s, "error": catalogue.failure.as_ref().map(failure_from_proto) })
}

fn status_json(status: &GetStatusResponse) -> Value {
    let config = status.config.clone().unwrap_or_default();
    json!({
        "defaultModel": status.default_model,
        "resolvedDefault": status.resolved_default,
        "fallbacks": status.fallbacks,
        "allowed": status.allowed,
        "missing": status.missing,
        "oauth": status.oauth.iter().map(|o| json!({ "provider": o.provider, "status": o.status })).collect::<Vec<_>>(),
        "config": { "digest": config.digest, "rejected": config.rejected },
        "routes": status.routes.iter().map(route_json).collect::<Vec<_>>(),
        "egresses": status.egresses.iter().map(egress_json).collect::<Vec<_>>(),
    })
}

fn egress_json(egress: &EgressStatus) -> Value {
    json!({ "egress": egress.egress, "labels": egress.labels, "target": egress.target, "circuit": egress.circuit,
        "reason": egress.reason, "message": egress.message, "retryAt": egress.retry_at, "failures": egress.failures,
        "lastOutcome": egress.last_outcome, "lastAt": egress.last_at })
}

fn route_json(route: &RouteStatus) -> Value {
    let mut value = json!({
        "agent": route.agent, "model": route.model, "provider": route.provider, "target": route.target, "url": route.url,
        "bound": route.bound.as_ref().map(|b| json!({ "credential": b.credential, "expiresAt": b.expires_at })),
        "reason": route.reason,
        "candidates": route.candidates.iter().map(candidate_from_proto).collect::<Vec<_>>(),
        "error": route.failure.as_ref().map(failure_from_proto),
    });
    if let Some(probe) = &route.probe {
        value["probe"] = json!({ "result": probe.result, "message": probe.message, "status": probe.status, "elapsedMs": probe.elapsed_ms });
    }
    value
}

fn print_status(status: &GetStatusResponse) {
    let config = status.config.clone().unwrap_or_default();
    print_line(&format!("default    {} ({})", status.default_model, status.resolved_default));
    print_line(&format!(
        "fallbacks  {}",
        if status.fallbacks.is_empty() { "none".to_owned() } else { status.fallbacks.join(", ") }
    ));
    print_line(&format!("routes     table {}", config.digest));
    if let Some(rejected) = &config.rejected {
        print_line(&format!("REJECTED   the changed configuration is not in force: {rejected}"));
    }
    print_line("");
    let now = domain::Clock::system().now_s();
    let rows: Vec<_> = status.routes.iter().map(|r| row(r, now)).collect();
    print_table(&["AGENT", "MODEL", "STATUS", "CREDENTIAL", "EXPIRES", "URL"], &rows);
    for route in status.routes.iter().filter(|r| r.bound.is_none()) {
        print_unbound(route);
    }
    print_egresses(&status.egresses, now);
    print_warned(&status.routes);
    for (route, probe) in status.routes.iter().filter_map(|r| Some((r, r.probe.as_ref()?))) {
        print_line(&format!("probe {}: {} in {:.0} ms {}", route.model, probe.result, probe.elapsed_ms, probe.message));
    }
}

/// The egresses, where there is something to choose or something to tell.
fn print_egresses(egresses: &[EgressStatus], now: i64) {
    let amiss = |egress: &&EgressStatus| egress.reason.is_some();
    if egresses.iter().map(|e| &e.egress).collect::<BTreeSet<_>>().len() < 2 && !egresses.iter().any(|e| amiss(&e)) {
        return;
    }
    print_line("");
    let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let rows: Vec<_> = egresses
        .iter()
        .map(|e| {
            vec![
                e.egress.clone(),
                or_dash(&e.labels.join(",")),
                or_dash(&e.target),
                e.circuit.clone(),
                or_dash(e.reason.as_deref().unwrap_or_default()),
                e.retry_at.map_or_else(|| "-".to_owned(), |at| when(at, now)),
                last(e, now),
            ]
        })
        .collect();
    print_table(&["EGRESS", "LABELS", "TARGET", "CIRCUIT", "REASON", "NOT TRIED UNTIL", "LAST"], &rows);
    for egress in egresses.iter().filter(amiss) {
        let message = egress.message.as_deref().unwrap_or_default();
        print_line(&format!("egress {}: {message}", egress.egress));
    }
}

/// What came of the last request.
fn last(egress: &EgressStatus, now: i64) -> String {
    match (&egress.last_outcome, egress.last_at) {
        (Some(outcome), Some(at)) => format!("{outcome} {}", when(at, now)),
        _ => "-".to_owned(),
    }
}

fn row(route: &RouteStatus, now: i64) -> Vec<String> {
    let bound = route.bound.as_ref();
    vec![
        route.agent.clone(),
        route.model.clone(),
        route.reason.clone().unwrap_or_else(|| "ok".to_owned()),
        bound.map_or_else(|| "-".to_owned(), |b| b.credential.clone()),
        bound.and_then(|b| b.expires_at).map_or_else(|| "-".to_owned(), |at| when(at, now)),
        route.url.clone(),
    ]
}

/// What is said of credentials that are bound: once each, whatever the number of their routes.
fn print_warned(routes: &[RouteStatus]) {
    let mut told = BTreeSet::new();
    for route in routes {
        let Some(bound) = &route.bound else { continue };
        let said = route.candidates.iter().find(|c| c.eligible && c.credential == bound.credential);
        if let Some(detail) = said.and_then(|c| c.detail.as_ref())
            && told.insert(&bound.credential)
        {
            print_line("");
            print_line(&format!("credential {}: {detail}", bound.credential));
        }
    }
}

fn print_unbound(route: &RouteStatus) {
    print_line("");
    print_line(&format!(
        "{} for agent {} is not bound: {}",
        route.model,
        route.agent,
        route.reason.as_deref().unwrap_or("unknown")
    ));
    for candidate in &route.candidates {
        let detail = candidate.detail.as_deref().map(|d| format!(": {d}")).unwrap_or_default();
        let reason = candidate.reason.as_deref().unwrap_or("eligible");
        // Where there is no credential at all, the service puts a dash for its name.
        let which = match candidate.credential.as_str() {
            "-" => String::new(),
            label => format!("credential {label}: "),
        };
        print_line(&format!("  {which}{reason}{detail}"));
    }
    if let Some(failure) = &route.failure {
        print_line(&format!("  an attempt fails with {}: {}", failure.reason, failure.message));
        print_line(&format!("  next: {}", failure.next_step));
    }
}
