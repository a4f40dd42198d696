//! Quotas: from the headers of answers and refusals, and from the usage endpoint.

use codex_sim::{Quota, QuotaLimit, QuotaWindow};
use domain::Reason;
use proto::common::v1::QuotaWindow as Window;
use proto::transport::v1::FetchUsageRequest;
use service_kit::failure_from_proto;

use crate::harness::{ACCOUNT, Bench, CODEX, HELLO, custom};

fn told(windows: &[Window]) -> Vec<(&str, i32, f64)> {
    windows.iter().map(|w| (w.limit.as_str(), w.window_seconds, w.used_percent)).collect()
}

/// A week in the slot `primary`, and a further limit that is used up.
fn unusual() -> Quota {
    let week_first = vec![QuotaWindow::new(7.5, 604_800, 5_000), QuotaWindow::new(40.0, 18_000, 600)];
    let other = QuotaLimit::new("codex_other", vec![QuotaWindow::new(100.0, 3_600, 900)]).of_models(&["gpt-5.4-mini"]);
    Quota { limits: vec![QuotaLimit::new("codex", week_first), other], allowed: None }
}

const UNUSUAL: [(&str, i32, f64); 3] =
    [("codex", 18_000, 40.0), ("codex", 604_800, 7.5), ("codex_other", 3_600, 100.0)];

#[tokio::test]
async fn an_answer_tells_the_quota_in_its_head_and_only_there() {
    let bench = Bench::plain().await;
    bench.sim.state().set_quota(ACCOUNT, Some(unusual())).expect("an account");
    let answer = bench.bench.call(CODEX, HELLO).await;
    let head = answer.head.as_ref().expect("a head");
    assert_eq!(told(&head.quota), UNUSUAL);
    let now = bench.bench.clock.now_s() as f64;
    assert!(head.quota[0].resets_at.is_some_and(|at| (at - now - 600.0).abs() < 60.0), "{:?}", head.quota[0]);
    assert_eq!((answer.outcome.quota.len(), &answer.outcome.exhausted), (0, &None));
}

#[tokio::test]
async fn a_refusal_tells_the_quota_and_the_window_that_is_used_up() {
    let bench = Bench::plain().await;
    bench.sim.state().set_quota(ACCOUNT, Some(unusual())).expect("an account");
    let request = bench.bench.request(CODEX, HELLO, &[]);
    let request = proto::transport::v1::RespondRequest { upstream_model: "gpt-5.4-mini".into(), ..request };
    let refused = bench.bench.send(request).await;
    assert_eq!(refused.reason(), Some(Reason::UsageLimit));
    assert_eq!(told(&refused.outcome.quota), UNUSUAL);
    let exhausted = refused.outcome.exhausted.clone().expect("a window");
    assert_eq!((exhausted.limit.as_str(), exhausted.window_seconds), ("codex_other", 3_600));
    assert_eq!(exhausted.resets_at, refused.failure().resets_at.map(|at| at as f64));
    // Other refusals are about no window.
    let limited = bench.under("rate_limit:5").await;
    assert_eq!((limited.reason(), &limited.outcome.exhausted), (Some(Reason::RateLimited), &None));
    // A stream that fails for the limit has its quota in the head, and the window in the outcome.
    let failed = bench.under("failed:insufficient_quota").await;
    assert_eq!(failed.reason(), Some(Reason::UsageLimit));
    assert!(failed.head.is_some_and(|head| !head.quota.is_empty()) && failed.outcome.quota.is_empty());
}

#[tokio::test]
async fn the_usage_endpoint_says_what_the_headers_say() {
    let bench = Bench::tls().await;
    bench.sim.state().set_quota(ACCOUNT, Some(unusual())).expect("an account");
    let answer = bench.usage_under(None).await;
    assert_eq!(told(&answer.windows), UNUSUAL);
    assert_eq!((answer.plan.as_deref(), answer.allowed), (Some("plus"), Some(true)));
    let outcome = answer.outcome.expect("an outcome");
    assert_eq!((outcome.failure, outcome.status), (None, Some(200)));
    assert!(outcome.url.ends_with("/backend-api/wham/usage"), "{}", outcome.url);
    let request = bench.last();
    assert_eq!((request.method.as_str(), request.path.as_str()), ("GET", "/backend-api/wham/usage"));
    for (name, value) in
        [("accept", "application/json"), ("chatgpt-account-id", ACCOUNT), ("originator", "switchboard")]
    {
        assert_eq!(request.header(name), Some(value));
    }
    assert!(request.header("user-agent").is_some_and(|agent| agent.starts_with("switchboard/")));

    bench.sim.state().set_quota(ACCOUNT, Some(Quota::codex(100.0, 5.0))).expect("an account");
    let spent = bench.usage_under(None).await;
    assert_eq!((spent.allowed, spent.windows[0].used_percent), (Some(false), 100.0));
}

#[tokio::test]
async fn refusals_of_the_usage_endpoint_have_a_calls_reasons() {
    let bench = Bench::plain().await;
    for (scenario, reason) in [
        ("challenge", Reason::EdgeChallenge),
        ("block", Reason::EdgeBlocked),
        ("unauthorized", Reason::CredentialRejected),
        ("server_error", Reason::UpstreamError),
        ("redirect", Reason::WrongEndpoint),
        ("bad_gateway", Reason::UpstreamError),
    ] {
        let answer = bench.usage_under(Some(scenario)).await;
        let outcome = answer.outcome.expect("an outcome");
        let failure = failure_from_proto(&outcome.failure.unwrap_or_else(|| panic!("{scenario}: no failure")));
        assert_eq!(failure.reason, reason, "{scenario}: {}", failure.message);
        assert!(answer.windows.is_empty() && answer.allowed.is_none());
    }
    let late = bench.usage_under(Some("no_headers")).await.outcome.and_then(|o| o.failure).expect("a failure");
    assert_eq!(failure_from_proto(&late).reason, Reason::UpstreamTimeout);
}

#[tokio::test]
async fn a_wrong_backend_url_is_named_as_that() {
    let bench = Bench::new(codex_sim::SimConfig::default(), |sim, config| {
        let target = config.targets.get_mut(CODEX).expect("built in");
        target.backend_url = Some(format!("{}/backend-api/v2", sim.base_url()));
    })
    .await;
    let failure = bench.usage_under(None).await.outcome.and_then(|o| o.failure).expect("a failure");
    let failure = failure_from_proto(&failure);
    assert_eq!(failure.reason, Reason::WrongEndpoint);
    assert!(failure.next_step.contains("[targets.chatgpt-codex] backend_url"), "{}", failure.next_step);
}

#[tokio::test]
async fn each_seal_is_good_for_its_own_use() {
    let bench = Bench::new(codex_sim::SimConfig::default(), |_, config| {
        custom(config, "local", "http://127.0.0.1:1/v1");
    })
    .await;
    let service = &bench.bench;
    let for_usage = service.usage_request();
    let mut call = service.request(CODEX, HELLO, &[]);
    let mut swapped = FetchUsageRequest { call_id: call.call_id.clone(), ..for_usage.clone() };
    swapped.credential = call.credential.take();
    (call.credential, call.call_id) = (for_usage.credential.clone(), for_usage.call_id.clone());
    let status = service.open(call).await.expect_err("a seal for the account endpoints");
    assert_eq!(service_kit::failure_from_status(&status, "transport-svc").reason, Reason::SealRefused);
    let refused = service.ask_usage(swapped).await.expect_err("a seal for calls");
    assert_eq!(refused.reason, Reason::SealRefused);
    assert!(refused.message.contains("names another target"), "{}", refused.message);
    for target in ["openai-api", "local"] {
        let elsewhere = FetchUsageRequest { target: target.into(), ..for_usage.clone() };
        assert_eq!(service.ask_usage(elsewhere).await.expect_err("no account there").reason, Reason::Unsupported);
    }
    assert!(bench.sim.state().requests().is_empty(), "nothing was sent");
    service.ask_usage(for_usage.clone()).await.expect("its own use");
    let again = service.ask_usage(for_usage).await.expect_err("twice");
    assert!(again.message.contains("replayed"), "{}", again.message);
}
