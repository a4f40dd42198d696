//! Every way to fail has its reason.

use codex_sim::SimConfig;
use domain::Reason;
use proto::transport::v1::Sent;

use crate::harness::{Bench, CODEX, HELLO, Service, custom};

#[tokio::test]
async fn refusals_have_their_reasons() {
    let bench = Bench::plain().await;
    for (scenario, reason) in [
        ("challenge", Reason::EdgeChallenge),
        ("block", Reason::EdgeBlocked),
        ("unauthorized", Reason::CredentialRejected),
        ("usage_limit:600", Reason::UsageLimit),
        ("rate_limit:7", Reason::RateLimited),
        ("usage_not_included", Reason::NotEntitled),
        ("insufficient_quota", Reason::UsageLimit),
        ("server_error", Reason::UpstreamError),
        ("overloaded", Reason::UpstreamOverloaded),
        ("bad_gateway", Reason::UpstreamError),
        ("origin_520", Reason::UpstreamError),
        ("not_supported_model", Reason::NotEntitled),
        ("client_too_old", Reason::ClientOutdated),
        ("context_too_long", Reason::ContextTooLong),
        ("encrypted_content", Reason::RequestRejected),
        ("json_403", Reason::NotEntitled),
        ("html_404", Reason::WrongEndpoint),
        ("redirect", Reason::WrongEndpoint),
    ] {
        let answer = bench.under(scenario).await;
        assert_eq!(answer.reason(), Some(reason), "{scenario}: {:?}", answer.outcome.failure);
        assert!(answer.head.is_none() && answer.bytes.is_empty(), "{scenario}");
        let (failure, seen) = (answer.failure(), bench.last());
        assert_eq!(answer.outcome.sent(), Sent::Sent);
        assert_eq!(failure.service, domain::service::UPSTREAM);
        assert_eq!(failure.upstream_status, seen.status, "{scenario}");
        assert_eq!(failure.ray_id.as_deref(), Some(seen.cf_ray.as_str()), "{scenario}");
        match scenario {
            "rate_limit:7" => assert_eq!(failure.retry_after_seconds, Some(7.0)),
            "usage_limit:600" => {
                let left = failure.resets_at.expect("a reset") - bench.bench.clock.now_s();
                assert!((590..=601).contains(&left), "{left}");
                assert_eq!(failure.plan_type.as_deref(), Some("plus"));
                let names: Vec<&str> = answer.outcome.headers.iter().map(|h| h.name.as_str()).collect();
                assert!(names.contains(&"x-codex-primary-used-percent"), "{names:?}");
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn streams_that_end_badly_have_their_reasons() {
    for bench in [Bench::plain().await, Bench::tls().await] {
        for (scenario, reason, relayed) in [
            ("cut:4", Some(Reason::StreamCut), false),
            ("cut_before_event", Some(Reason::StreamCut), false),
            ("reset_stream:4", Some(Reason::StreamCut), false),
            ("end_early:4", Some(Reason::StreamCut), false),
            ("silence:4", Some(Reason::StreamIdle), false),
            ("failed:context_length_exceeded", Some(Reason::ContextTooLong), true),
            ("failed:rate_limit_exceeded:Please try again in 1.5s.", Some(Reason::RateLimited), true),
            ("failed:server_is_overloaded", Some(Reason::UpstreamOverloaded), true),
            ("failed:whatever", Some(Reason::UpstreamError), true),
            ("policy", Some(Reason::PolicyRefused), true),
            ("incomplete", None, true),
        ] {
            let answer = bench.under(scenario).await;
            assert_eq!(answer.reason(), reason, "{scenario}: {:?}", answer.outcome.failure);
            assert_eq!(answer.outcome.terminal_relayed, relayed, "{scenario}");
            assert_eq!(answer.outcome.sent(), Sent::Sent, "{scenario}");
            assert!(answer.head.is_some(), "{scenario}");
            assert!(answer.bytes.is_empty() || answer.bytes.ends_with(b"\n\n"), "half an event: {scenario}");
            if scenario.starts_with("failed") || scenario == "policy" {
                assert!(answer.content.iter().all(|content| !content), "{scenario}: {:?}", answer.content);
                assert_eq!(answer.failure().upstream_request_id, answer.outcome.upstream_request_id);
            }
        }
    }
}

#[tokio::test]
async fn http2_says_what_was_not_processed() {
    for scenario in ["refused_stream", "goaway"] {
        let bench = Bench::tls().await;
        assert_eq!(bench.under("ok").await.reason(), None);
        let answer = bench.under(scenario).await;
        assert_eq!(answer.outcome.sent(), Sent::NotProcessed, "{scenario}: {:?}", answer.outcome);
        assert_eq!(answer.reason(), Some(Reason::UpstreamError), "{scenario}");
        assert_eq!(bench.sim.state().requests().len(), 2, "{scenario}: nothing is tried again here");
        assert_eq!(bench.under("ok").await.reason(), None, "{scenario}");
    }
}

#[tokio::test]
async fn what_may_have_been_processed_is_never_called_unsent() {
    for (bench, scenario) in
        [(Bench::plain().await, "hangup"), (Bench::plain().await, "goaway"), (Bench::tls().await, "hangup")]
    {
        let answer = bench.under(scenario).await;
        assert_eq!((answer.reason(), answer.outcome.sent()), (Some(Reason::StreamCut), Sent::Sent), "{scenario}");
        assert_eq!(bench.sim.state().requests().len(), 1, "{scenario}");
    }
    let bench = Bench::plain().await;
    let answer = bench.under("no_headers").await;
    assert_eq!((answer.reason(), answer.outcome.sent()), (Some(Reason::UpstreamTimeout), Sent::Sent));
}

#[tokio::test]
async fn a_base_url_without_codex_is_named_and_the_login_is_not_blamed() {
    let bench = Bench::new(SimConfig::default(), |sim, config| {
        config.targets.get_mut(CODEX).expect("built in").base_url = format!("{}/backend-api", sim.base_url());
    })
    .await;
    let answer = bench.bench.call(CODEX, HELLO).await;
    let failure = answer.failure();
    assert_eq!((failure.reason, failure.upstream_status), (Reason::WrongEndpoint, Some(403)));
    for text in [format!("{}/backend-api/responses", bench.sim.base_url()), bench.sim.codex_base_url()] {
        assert!(failure.message.contains(&text), "{}", failure.message);
    }
    assert!(failure.next_step.contains("[targets.chatgpt-codex] base_url"), "{}", failure.next_step);
    assert!(failure.ray_id.is_some());
    let probed = bench.bench.probe(CODEX).await.outcome.and_then(|o| o.failure).expect("a failure");
    assert_eq!(probed.reason, "WRONG_ENDPOINT");
}

#[tokio::test]
async fn a_server_that_is_no_responses_api_is_a_wrong_endpoint() {
    let bench = Bench::plain().await;
    let service = Service::new(|config| {
        custom(config, "elsewhere", &format!("{}/nowhere", bench.sim.base_url()));
        custom(config, "edge", &format!("{}/backend-api", bench.sim.base_url()));
    });
    for target in ["elsewhere", "edge"] {
        let answer = service.call(target, HELLO).await;
        assert_eq!(answer.reason(), Some(Reason::WrongEndpoint), "{target}: {:?}", answer.outcome);
        assert!(answer.failure().next_step.contains(&format!("[targets.{target}] base_url")), "{target}");
    }
}
