//! What status and lists say, against what calls do.

use std::sync::atomic::Ordering;

use domain::CandidateReason;
use proto::gateway::v1::{CompleteRequest, GetStatusRequest, GetStatusResponse, ListModelsRequest};
use proto::router::v1::Agent;

use crate::fakes::{Credential, OTHER_KEY, route};
use crate::world::World;

fn agent(name: &str, model: &str, fallbacks: &[&str]) -> Agent {
    let fallbacks = fallbacks.iter().map(|f| (*f).to_owned()).collect();
    Agent { name: name.into(), model: model.into(), fallbacks, ..Agent::default() }
}

async fn status(world: &World, agent: &str, probe: bool) -> GetStatusResponse {
    world.operator().get_status(GetStatusRequest { agent: agent.into(), probe }).await.unwrap().into_inner()
}

#[tokio::test]
async fn status_asks_what_a_call_asks() {
    let world = World::new(vec![]).await;
    let found = status(&world, "", false).await;
    assert_eq!(
        (found.default_model.as_str(), found.resolved_default.as_str()),
        ("codex/gpt-5.5", "openai-codex/gpt-5.5")
    );
    assert_eq!(found.config.unwrap().digest, "digest-1");
    assert!(found.missing.is_empty());
    assert_eq!((found.oauth[0].provider.as_str(), found.oauth[0].status.as_str()), ("openai-codex", "ok"));
    let one = &found.routes[0];
    assert_eq!((one.agent.as_str(), one.target.as_str(), one.reason.as_deref()), ("main", "chatgpt-codex", None));
    assert_eq!(one.bound.as_ref().map(|b| b.credential.as_str()), Some("main"));
    assert!(one.probe.is_none());

    world.auth.credentials.lock().unwrap()[0].flaw = Some(CandidateReason::Undecryptable);
    let found = status(&world, "", false).await;
    let one = &found.routes[0];
    assert!(one.bound.is_none());
    assert_eq!(one.reason.as_deref(), Some("undecryptable"));
    assert_eq!(one.candidates[0].reason.as_deref(), Some("undecryptable"));
    assert_eq!((found.missing[0].as_str(), found.oauth[0].status.as_str()), ("openai-codex", "undecryptable"));
    // The call fails with the same.
    let ask = CompleteRequest { message: "Hi".into(), ..CompleteRequest::default() };
    let failure = service_kit::failure_from_status(&world.operator().complete(ask).await.unwrap_err(), "gateway");
    assert_eq!(Some(failure.reason.as_str()), one.failure.as_ref().map(|f| f.reason.as_str()));
    assert_eq!(failure.candidates[0].reason, Some(CandidateReason::Undecryptable));
    assert_eq!(world.attempts(), 0);
    assert_eq!(world.auth.checks.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn every_agent_and_every_model_in_use_is_told() {
    let both = vec![Credential::new("main", "openai-codex"), Credential::new("key", "openai")];
    let world = World::with(both, vec![]).await;
    *world.router.routes.lock().unwrap() =
        vec![route("openai-codex", "gpt-5.5", false), route("openai", "gpt-5.5", true)];
    *world.router.agents.lock().unwrap() =
        vec![agent("main", "openai-codex/gpt-5.5", &["openai/gpt-5.5"]), agent("other", "unknown/x", &[])];
    let told = |found: &GetStatusResponse| -> Vec<(String, String, String)> {
        let reason = |r: &Option<String>| r.clone().unwrap_or_else(|| "ok".into());
        found.routes.iter().map(|r| (r.agent.clone(), r.model.clone(), reason(&r.reason))).collect()
    };
    let row = |a: &str, m: &str, r: &str| (a.to_owned(), m.to_owned(), r.to_owned());
    let main = [row("main", "openai-codex/gpt-5.5", "ok"), row("main", "openai/gpt-5.5", "ok")];
    let other = row("other", "unknown/x", "ROUTE_UNKNOWN");
    assert_eq!(told(&status(&world, "", false).await), [main[0].clone(), main[1].clone(), other.clone()]);
    assert_eq!(told(&status(&world, "main", false).await), main);
    // An agent sees itself; its key's list counts.
    let mut client = world.agent_with(OTHER_KEY).await;
    let own = client.get_status(GetStatusRequest::default()).await.unwrap().into_inner();
    assert_eq!(told(&own), [other]);
    *world.router.agents.lock().unwrap() = vec![agent("other", "openai/gpt-5.5", &[])];
    let own = client.get_status(GetStatusRequest::default()).await.unwrap().into_inner();
    assert_eq!(told(&own), [row("other", "openai/gpt-5.5", "not_allowed")]);
    assert_eq!(own.allowed, ["openai-codex/gpt-5.5"]);
    let refused = client.get_status(GetStatusRequest { agent: "main".into(), probe: false }).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    // An agent without a table has the defaults.
    assert_eq!(told(&status(&world, "new", false).await), [row("new", "openai-codex/gpt-5.5", "ok")]);
}

#[tokio::test]
async fn a_probe_binds_and_asks_the_upstream() {
    let world = World::new(vec![]).await;
    let found = status(&world, "", true).await;
    let probe = found.routes[0].probe.as_ref().unwrap();
    assert_eq!((probe.result.as_str(), probe.status), ("ok", Some(200)));
    assert_eq!(world.auth.binds.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn models_say_whether_a_call_would_be_bound() {
    let world = World::new(vec![]).await;
    world.router.routes.lock().unwrap().push(route("openai", "gpt-5.5", false));
    let models = world.agent().await.list_models(ListModelsRequest::default()).await.unwrap().into_inner().models;
    let told: Vec<_> = models.iter().map(|m| (m.id.as_str(), m.auth, m.reason.as_deref())).collect();
    assert_eq!(told, [("openai-codex/gpt-5.5", true, None), ("openai/gpt-5.5", false, Some("wrong_realm"))]);
}

#[tokio::test]
async fn ready_when_the_peers_answer() {
    let world = World::new(vec![]).await;
    (world.gateway.readiness())().await.unwrap();
    let gone = service_kit::PeerChannel::unix("auth-svc", std::path::Path::new("/nonexistent/auth-svc.sock"));
    let here = service_kit::PeerChannel::in_process("router-svc", axum::Router::new());
    let peers = gateway::Peers {
        router: here.clone(),
        auth: gone,
        transports: std::collections::BTreeMap::from([("local".to_owned(), here)]),
    };
    let lame = gateway::build(&config::Config::default(), peers, domain::Clock::system()).unwrap();
    let failure = (lame.readiness())().await.unwrap_err();
    assert_eq!(failure.reason, domain::Reason::PeerUnavailable);
    assert!(failure.message.contains("auth-svc"), "{}", failure.message);
}
