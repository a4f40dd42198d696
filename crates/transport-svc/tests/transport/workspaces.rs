//! Where an account's requests must go: asked at the account endpoints, and followed as the seal says.

use domain::{Reason, new_call_id};
use proto::transport::v1::{DiscoverWorkspaceRequest, DiscoverWorkspaceResponse, RespondRequest};
use service_kit::{SealRequest, UpstreamSecret, UpstreamUrl, failure_from_proto};

use crate::harness::{ACCOUNT, Bench, CODEX, HELLO, Service};

const ROUTING: &str = "x-openai-account-routing-override";

async fn discover(service: &Service) -> DiscoverWorkspaceResponse {
    let (call_id, base) = (new_call_id(), UpstreamUrl::parse(service.config.targets[CODEX].backend()).expect("a URL"));
    let credential = Some(service.seal(&call_id, &base, service.clock.now_ms()));
    let request = DiscoverWorkspaceRequest { call_id, target: CODEX.into(), credential };
    service.client.clone().discover_workspace(request).await.expect("an answer").into_inner()
}

/// A call whose seal names `base` and this routing.
fn sealed(service: &Service, base: &UpstreamUrl, routing: &str) -> RespondRequest {
    let mut request = service.request(CODEX, HELLO, &[(ROUTING, "the caller's own")]);
    let secret = UpstreamSecret {
        token: service.token.clone().into(),
        account_id: Some(ACCOUNT.into()),
        fedramp: false,
        routing: Some(routing.into()),
    };
    let now_ms = service.clock.now_ms();
    let seal = SealRequest { credential_id: "cred-1", version: 1, call_id: &request.call_id, target: base, now_ms };
    request.credential = Some(service.key.seal(&seal, &secret).expect("sealed"));
    request
}

#[tokio::test]
async fn it_is_asked_at_the_account_endpoints() {
    let bench = Bench::plain().await;
    let answer = discover(&bench.bench).await;
    assert_eq!(answer.outcome.expect("an outcome").failure, None);
    assert_eq!(answer.workspace.map(|told| (told.origin, told.routing_override)), Some((None, None)));
    bench.sim.state().set_routing(ACCOUNT, "https://eu.example.com", "us").expect("an account");
    let told = discover(&bench.bench).await.workspace.expect("told");
    assert_eq!(
        (told.origin.as_deref(), told.routing_override.as_deref()),
        (Some("https://eu.example.com"), Some("us"))
    );
    let request = bench.last();
    assert_eq!((request.method.as_str(), request.path.as_str()), ("GET", "/backend-api/wham/accounts/check"));
    bench.sim.state().set_scenario(ACCOUNT, Some("challenge".parse().expect("a scenario")));
    let refused = discover(&bench.bench).await;
    let failure = failure_from_proto(&refused.outcome.and_then(|outcome| outcome.failure).expect("a failure"));
    assert_eq!((failure.reason, refused.workspace), (Reason::EdgeChallenge, None));
}

#[tokio::test]
async fn the_seal_alone_says_which_routing_is_sent() {
    let bench = Bench::plain().await;
    bench.sim.state().set_routing(ACCOUNT, "NO_CONSTRAINT", "us_cr").expect("an account");
    let service = &bench.bench;
    let without = service.send(service.request(CODEX, HELLO, &[(ROUTING, "us_cr")])).await;
    assert!(without.reason().is_some(), "a caller's own header goes nowhere");
    let with = service.send(sealed(service, &service.target(CODEX), "us_cr")).await;
    assert_eq!(with.reason(), None, "{:?}", with.outcome);
    assert_eq!(bench.last().header(ROUTING), Some("us_cr"));
}

#[tokio::test]
async fn an_origin_is_followed_where_the_configuration_allows_it() {
    let there = codex_sim::Sim::start(codex_sim::SimConfig::default()).await.expect("a simulator");
    let base = UpstreamUrl::parse(&there.codex_base_url()).expect("a URL");
    let allowed = Bench::new(codex_sim::SimConfig::default(), |_, config| {
        let target = config.targets.get_mut(CODEX).expect("built in");
        target.workspace_origins = vec![there.base_url()];
    })
    .await;
    let _ = allowed.bench.send(sealed(&allowed.bench, &base, "us_cr")).await;
    assert_eq!(there.state().requests().len(), 1);
    assert!(allowed.sim.state().requests().is_empty());
    let refused = Bench::plain().await;
    let status = refused.bench.open(sealed(&refused.bench, &base, "us_cr")).await.expect_err("refused");
    assert_eq!(service_kit::failure_from_status(&status, "transport-svc").reason, Reason::SealRefused);
    assert_eq!(there.state().requests().len(), 1, "nothing was sent");
}
