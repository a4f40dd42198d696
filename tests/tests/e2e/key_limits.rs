//! What an agent key may use: requests a minute and calls at a time at a gateway, tokens a day over all of them.

use e2e::{Part, Switchboard, failure_from_status, question, stream_question};
use futures_util::StreamExt;
use proto::auth::v1::binding_service_client::BindingServiceClient;
use proto::auth::v1::{KeyUsage, ReportUsageRequest};
use serde_json::Value;

use crate::keys::create;
use crate::support::{MODEL, World, streamed, whole};

/// A call in mid stream that does not end by itself.
const ENDLESS: &str = "[[sim:silence:4]]";

/// Asserts that a key's own limit refuses a call, over HTTP and over gRPC; gives the error's body.
async fn is_limited(switchboard: &Switchboard, key: &str, code: &str) -> Value {
    let refused = switchboard.http_as(Some(key)).respond(&whole("Hello")).await.is(429);
    let error = refused.json()["error"].clone();
    assert_eq!((&error["reason"], &error["code"]), (&"AGENT_LIMITED".into(), &code.into()), "{error}");
    assert!(refused.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds > 0), "{:?}", refused.headers);
    let mut agent = switchboard.grpc_as(Some(key));
    let over_grpc = agent.complete(question(MODEL, "Hello")).await.expect_err("limited");
    assert_eq!(over_grpc.code(), tonic::Code::ResourceExhausted, "{over_grpc}");
    assert_eq!(failure_from_status(&over_grpc, "gateway").reason, domain::Reason::AgentLimited);
    error
}

/// Waits until a key's next call is answered.
async fn is_let_in(switchboard: &Switchboard, key: &str) {
    e2e::eventually_async("the key's next call is let in", async || {
        switchboard.http_as(Some(key)).respond(&whole("Hello")).await.status == 200
    })
    .await;
}

e2e::in_each_topology! {
    /// The minute's requests count over both faces; questions are none; the refused call is in the records.
    async fn requests_per_minute_are_limited(topology) {
        let (world, _) = World::with_login().await;
        let switchboard = world.start(topology).await;
        let key = create(&switchboard, &["slow", "--agent", "slow", "--requests-per-minute", "2"]).await;
        let http = switchboard.http_as(Some(&key));
        let _ = http.respond(&whole("Hello")).await.is(200);
        let _ = switchboard.grpc_as(Some(&key)).complete(question(MODEL, "Hello")).await.expect("the second");
        let before = world.upstream().len();
        let error = is_limited(&switchboard, &key, "rate_limit_exceeded").await;
        assert_eq!(error["message"], "agent key \"slow\" has reached its limit of requests a minute at this gateway, 2");
        assert_eq!(world.upstream().len(), before, "nothing was sent");
        let _ = http.get("/v1/models").await.is(200);
        let id = error["call_id"].as_str().expect("a call id");
        let record = http.get(&format!("/v1/switchboard/calls/{id}")).await.is(200).json();
        assert_eq!((&record["error"]["reason"], &record["agent"]), (&"AGENT_LIMITED".into(), &"slow".into()));
        let _ = switchboard.http().respond(&whole("Hello")).await.is(200);
        let by_operator = switchboard.cli(&["call", "--agent", "slow", "--message", "Hello"]).await;
        assert_eq!(by_operator.code, Some(0), "operators have no limits: {by_operator}");
    }

    /// A call holds its place until it ends, whatever its end is: answered, given up by its caller, or failed.
    async fn calls_at_a_time_are_limited(topology) {
        let (world, _) = World::with_login().await;
        let switchboard = world.start(topology).await;
        let key = create(&switchboard, &["single", "--concurrent", "1"]).await;
        let http = switchboard.http_as(Some(&key));
        for body in [whole("Hello"), streamed("Hello")] {
            let _ = http.respond(&body).await.is(200);
        }
        let open = http.open(&streamed(ENDLESS)).await;
        assert_eq!(open.status(), 200);
        let mut events = open.bytes_stream();
        let _ = events.next().await.expect("an event").expect("whole");
        is_limited(&switchboard, &key, "rate_limit_exceeded").await;
        drop(events);
        is_let_in(&switchboard, &key).await;

        let mut agent = switchboard.grpc_as(Some(&key));
        let mut events = agent.respond(stream_question(MODEL, ENDLESS)).await.expect("begun").into_inner();
        let _ = events.message().await.expect("an event");
        is_limited(&switchboard, &key, "rate_limit_exceeded").await;
        drop(events);
        is_let_in(&switchboard, &key).await;

        // Failed at once, cut in mid stream, and not understood: the next call finds the place free.
        for body in [whole("[[sim:context_too_long]]"), streamed("[[sim:cut:4]]"), Value::from("nonsense")] {
            let _ = http.respond(&body).await;
            let _ = http.respond(&whole("Hello")).await.is(200);
        }
    }

    /// What was used at this gateway counts at once, although auth-svc is told in batches, and is counted.
    async fn tokens_of_the_day_are_not_overrun_by_calls_in_a_row(topology) {
        let (world, _) = World::with_login().await;
        let switchboard = world.start(topology).await;
        // The simulator says 18 tokens for every answer.
        let key = create(&switchboard, &["small", "--tokens-per-day", "30"]).await;
        let http = switchboard.http_as(Some(&key));
        // Over midnight it would be another day.
        if domain::Clock::system().now_s().rem_euclid(86_400) > 86_400 - 120 {
            return;
        }
        for status in [200, 200, 429, 429] {
            let _ = http.respond(&whole("Hello")).await.is(status);
        }
        is_limited(&switchboard, &key, "usage_limit_reached").await;
    }

    /// The tokens of the day are counted by auth-svc for all gateways, and come back with the next UTC day.
    async fn tokens_per_day_are_limited(topology) {
        let (world, _) = World::with_login().await;
        let switchboard = world.start(topology).await;
        let key = create(&switchboard, &["frugal", "--tokens-per-day", "1000"]).await;
        let http = switchboard.http_as(Some(&key));
        let _ = http.respond(&whole("Hello")).await.is(200);
        let listed = async || switchboard.cli(&["keys", "show", "frugal", "--json"]).await.ok().json();
        let id = listed().await["id"].as_str().expect("an id").to_owned();
        let now = domain::Clock::system().now_s();
        let report = ReportUsageRequest {
            batch_id: "0198c0de-0000-7000-8000-000000000001".into(),
            credentials: Vec::new(),
            keys: vec![KeyUsage { key_id: id, tokens: 1000.0, at: now as f64 }],
        };
        let mut auth = BindingServiceClient::new(switchboard.peer(Part::Auth));
        auth.report_usage(report).await.expect("taken");
        assert!(listed().await["tokensToday"].as_f64().is_some_and(|tokens| tokens >= 1000.0));
        // The gateway hears of it when it asks about the key again.
        e2e::eventually_async("the key is refused", async || http.respond(&whole("Hello")).await.status == 429).await;
        let midnight = (now.div_euclid(86_400) + 1) * 86_400;
        let left = midnight - domain::Clock::system().now_s();
        // Just before midnight it is a short wait like any other, or over.
        if left > 90 {
            let error = is_limited(&switchboard, &key, "usage_limit_reached").await;
            assert_eq!((&error["type"], &error["resets_at"]), (&"usage_limit_reached".into(), &midnight.into()));
            let seconds = error["resets_in_seconds"].as_i64().expect("a number");
            assert!((left - 60..=left).contains(&seconds), "{error}");
        }
        let table = switchboard.cli(&["keys", "list"]).await.ok().stdout;
        assert!(table.contains("1000 tokens/day"), "{table}");
    }
}
