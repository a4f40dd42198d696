//! `credentials egress`: which egresses may make requests with a credential; and how such rules are shown.

use domain::service::AUTH;
use proto::auth::v1::credential_service_client::CredentialServiceClient;
use proto::auth::v1::{Credential, SetCredentialEgressRequest};
use proto::common::v1::EgressRule;
use serde_json::{Value, json};
use service_kit::PeerChannel;

use crate::args::Cli;
use crate::output::{Failed, print_json, print_line, when};

/// Sets the rule of a credential; an empty one takes the old one away.
pub(super) async fn set(
    cli: &Cli,
    client: &mut CredentialServiceClient<PeerChannel>,
    credential: &str,
    rule: EgressRule,
) -> Result<(), Failed> {
    let request = SetCredentialEgressRequest { credential: credential.to_owned(), egress: Some(rule) };
    let answer = client.set_credential_egress(request).await.map_err(|s| Failed::status(&s, AUTH))?.into_inner();
    let credential = answer.credential.unwrap_or_default();
    if cli.json {
        let egress = as_json(credential.egress.as_ref());
        print_json(&json!({ "status": "ok", "credential": credential.label, "egress": egress, "notes": answer.notes }));
        return Ok(());
    }
    print_line(&match &credential.egress {
        Some(rule) => format!("{} {}", credential.label, told(Some(rule))),
        None => format!("{} may leave by every egress", credential.label),
    });
    answer.notes.iter().for_each(|note| print_line(&format!("note: {note}")));
    Ok(())
}

/// A rule for a person: `requires egress a or b; prefers c`.
pub(super) fn told(rule: Option<&EgressRule>) -> String {
    let Some(rule) = rule else { return "-".to_owned() };
    let require = (!rule.require.is_empty()).then(|| format!("requires egress {}", rule.require.join(" or ")));
    let prefer = (!rule.prefer.is_empty()).then(|| format!("prefers egress {}", rule.prefer.join(", ")));
    require.into_iter().chain(prefer).collect::<Vec<_>>().join("; ")
}

/// A line for each credential that has a rule.
pub(super) fn lines(credentials: &[Credential]) -> Vec<String> {
    let ruled = credentials.iter().filter(|credential| credential.egress.is_some());
    ruled.map(|credential| format!("{}: {}", credential.label, told(credential.egress.as_ref()))).collect()
}

/// A rule as JSON; `null` for none.
pub(super) fn as_json(rule: Option<&EgressRule>) -> Value {
    rule.map_or(Value::Null, |rule| json!({ "require": rule.require, "prefer": rule.prefer }))
}

/// Where requests of its account must go, for a person.
pub(super) fn workspace(credential: &Credential, now_s: i64) -> String {
    let Some(known) = &credential.workspace else { return "-".to_owned() };
    let told = match (&known.origin, &known.routing_override) {
        (None, None) => "no constraint".to_owned(),
        (origin, routing) => {
            let routing = routing.as_ref().map(|routing| format!("routing {routing}"));
            origin.clone().into_iter().chain(routing).collect::<Vec<_>>().join(", ")
        }
    };
    let told = known.observed_at.map(|at| format!("{told} (told {})", when(at, now_s)));
    let problem = known.problem.as_ref().map(|problem| format!("problem: {problem}"));
    told.into_iter().chain(problem).collect::<Vec<_>>().join("; ")
}

/// The same as JSON; `null` while nobody has asked.
pub(super) fn workspace_json(credential: &Credential) -> Value {
    credential.workspace.as_ref().map_or(Value::Null, |known| {
        json!({ "origin": known.origin, "routingOverride": known.routing_override, "observedAt": known.observed_at,
            "problem": known.problem })
    })
}
