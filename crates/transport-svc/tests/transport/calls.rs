//! What goes up and what comes down when all is well.

use domain::Reason;
use proto::transport::v1::Sent;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::harness::{ACCOUNT, Bench, CODEX, HELLO, Service, custom};

const RESPONSES: &str = "/backend-api/codex/responses";

#[tokio::test]
async fn a_call_goes_to_the_right_path_with_the_right_headers_and_body() {
    let bench = Bench::plain().await;
    let body = r#"{"model":"codex/gpt-5.5","stream":false,"store":true,"temperature":1,"metadata":{"a":"b"},
        "input":[{"role":"system","content":"Be brief."},{"role":"user","content":"hi"}]}"#;
    let headers = [
        ("session-id", "s-1"),
        ("authorization", "Bearer sbk_agent"),
        ("cookie", "mine=1"),
        ("x-stainless-lang", "js"),
        ("user-agent", "OpenAI/JS 7.15.0"),
    ];
    let answer = bench.bench.send(bench.bench.request(CODEX, body, &headers)).await;
    assert_eq!(answer.reason(), None, "{:?}", answer.outcome);

    let requests = bench.sim.state().requests();
    assert_eq!(requests.iter().map(|r| r.path.as_str()).collect::<Vec<_>>(), [RESPONSES]);
    let seen = &requests[0];
    assert_eq!(seen.credential.as_deref(), Some(ACCOUNT));
    assert_eq!(seen.header("chatgpt-account-id"), Some(ACCOUNT));
    assert_eq!(seen.header("originator"), Some("switchboard"));
    assert_eq!(seen.header("accept"), Some("text/event-stream"));
    assert_eq!(seen.header("content-type"), Some("application/json"));
    assert_eq!(seen.header("session-id"), Some("s-1"));
    assert!(seen.header("user-agent").is_some_and(|agent| agent.starts_with("switchboard/")));
    for absent in ["cookie", "x-stainless-lang", "version", "traceparent", "referer"] {
        assert_eq!(seen.header(absent), None, "{absent}");
    }
    assert_eq!(
        seen.body,
        Some(json!({ "model": "gpt-5.5", "stream": true, "store": false, "instructions": "Be brief.",
            "input": [{ "role": "user", "content": "hi" }], "include": ["reasoning.encrypted_content"] }))
    );

    let head = answer.head.expect("a head");
    assert_eq!(
        (head.status, head.dropped.as_slice()),
        (200, ["metadata".to_owned(), "temperature".to_owned()].as_slice())
    );
    let outcome = answer.outcome;
    assert_eq!(outcome.url, format!("{}/responses", bench.sim.codex_base_url()));
    assert_eq!((outcome.status, outcome.http_version.as_str()), (Some(200), "HTTP/1.1"));
    assert_eq!(outcome.upstream_request_id.as_deref(), Some(seen.request_id.as_str()));
    assert_eq!(outcome.ray_id.as_deref(), Some(seen.cf_ray.as_str()));
    assert_eq!(u64::try_from(outcome.events).ok(), Some(seen.events_sent));
    assert_eq!(answer.bytes.len() as u64, seen.bytes_sent);
    assert!(outcome.terminal_relayed && outcome.response_id.is_some());
    assert!(outcome.usage.is_some_and(|usage| usage.input_tokens > 0 && usage.output_tokens > 0));
    assert_eq!((outcome.sent(), outcome.egress.as_str()), (Sent::Sent, "local"));
    assert!(outcome.headers.is_empty(), "the head has them: {:?}", outcome.headers);
    let names: Vec<&str> = head.headers.iter().map(|h| h.name.as_str()).collect();
    assert!(names.contains(&"openai-model") && names.contains(&"x-codex-turn-state"), "{names:?}");
    assert!(!names.contains(&"set-cookie"), "{names:?}");
    let timings = outcome.timings.expect("timings");
    let marks = [timings.sent_us, timings.headers_us, timings.first_event_us, Some(timings.total_us)];
    let marks: Vec<f64> = marks.into_iter().flatten().collect();
    assert!(marks.len() == 4 && marks.is_sorted() && marks[0] > 0.0, "{marks:?}");
}

#[tokio::test]
async fn lifecycle_events_are_told_from_content() {
    let bench = Bench::new(
        codex_sim::SimConfig { pace: std::time::Duration::from_millis(10), ..Default::default() },
        |_, _| {},
    )
    .await;
    let answer = bench.bench.call(CODEX, HELLO).await;
    let announcements = answer.content.iter().take_while(|content| !**content).count();
    assert_eq!(announcements, 2, "{:?}", answer.content);
    assert!(answer.content.iter().skip(2).all(|content| *content));
}

#[tokio::test]
async fn http2_over_tls_with_authorities_from_a_file() {
    let bench = Bench::tls().await;
    for _ in 0..3 {
        let answer = bench.bench.call(CODEX, HELLO).await;
        assert_eq!(answer.reason(), None, "{:?}", answer.outcome);
        assert_eq!(answer.outcome.http_version, "HTTP/2");
        assert!(answer.text().contains("response.completed"));
    }
    assert_eq!(bench.sim.state().total_connections(), 1, "calls share a connection");
}

#[tokio::test]
async fn a_connection_serves_the_next_call_over_http1_too() {
    let bench = Bench::plain().await;
    for _ in 0..3 {
        assert_eq!(bench.bench.call(CODEX, HELLO).await.reason(), None);
    }
    assert_eq!(bench.sim.state().total_connections(), 1);
}

#[tokio::test]
async fn a_codex_client_keeps_its_name_and_its_developer_message() {
    let bench = Bench::plain().await;
    let body = r#"{"input":[{"type":"message","role":"developer","content":[{"type":"input_text","text":"base"}]},
        {"type":"message","role":"user","content":[{"type":"input_text","text":"hi"}]}]}"#;
    let agent = "codex_exec/0.169.0 (Debian 12.0.0; x86_64) xterm-256color (codex_exec; 0.169.0)";
    let headers = [("originator", "codex_exec"), ("user-agent", agent)];
    let answer = bench.bench.send(bench.bench.request(CODEX, body, &headers)).await;
    assert_eq!(answer.reason(), None, "{:?}", answer.outcome);
    let seen = bench.last();
    assert_eq!((seen.header("originator"), seen.header("user-agent")), (Some("codex_exec"), Some(agent)));
    let sent = seen.body.expect("a body");
    assert_eq!(sent.get("instructions"), None);
    assert_eq!(sent["input"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn the_edges_cookie_goes_back_and_the_sessions_does_not() {
    let bench = Bench::plain().await;
    bench.bench.call(CODEX, HELLO).await;
    bench.bench.call(CODEX, HELLO).await;
    let cookie = bench.last().header("cookie").map(str::to_owned).unwrap_or_default();
    assert!(cookie.starts_with("__cf_bm=") && !cookie.contains("session"), "{cookie}");
}

#[tokio::test]
async fn the_platform_is_called_with_the_key_and_few_rules() {
    let mut bench = Bench::new(codex_sim::SimConfig::default(), |sim, config| {
        config.targets.get_mut("openai-api").expect("built in").base_url = sim.openai_base_url();
    })
    .await;
    bench.sim.state().add_api_key("sk-test-1");
    bench.bench.token = "sk-test-1".into();
    let body = r#"{"model":"x","input":"hi","temperature":0.5,"max_output_tokens":99}"#;
    let answer = bench.bench.call("openai-api", body).await;
    assert_eq!(answer.reason(), None, "{:?}", answer.outcome);
    let seen = bench.last();
    assert_eq!(seen.path, "/v1/responses");
    assert_eq!(seen.header("chatgpt-account-id"), None);
    let expected: Value =
        json!({ "model": "gpt-5.5", "input": "hi", "temperature": 0.5, "max_output_tokens": 99, "stream": true });
    assert_eq!(seen.body, Some(expected));
    assert_eq!(answer.head.expect("a head").dropped, Vec::<String>::new());
}

#[tokio::test]
async fn odd_streams_pass_byte_for_byte() {
    let stream = ": hello\r\n\r\n\u{feff}event: response.created\r\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r1\"}}\r\n\r\n\
        event: future\ndata:{\"type\":\"future.event\",\ndata: \"x\":\"gr\u{fc}\u{df}e \u{1f600}\",\"n\":1e999}\n\nid: 7\nretry: 3\n\n\
        data: not json\n\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"r1\",\"usage\":null}}\n\ndata: [DONE]\n\n";
    for piece in [1, 3, 7, 64, 4096] {
        let base = serve_in_pieces(stream.as_bytes(), piece).await;
        let service = Service::new(|config| custom(config, "own", &base));
        let answer = service.call("own", HELLO).await;
        assert_eq!(answer.reason(), None, "{:?}", answer.outcome);
        assert_eq!(answer.text(), stream, "pieces of {piece}");
        assert_eq!(answer.outcome.response_id.as_deref(), Some("r1"));
        assert_eq!(answer.outcome.usage, None);
    }
}

/// A server for one request that writes its body in pieces of `piece` bytes.
async fn serve_in_pieces(body: &[u8], piece: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let base = format!("http://{}/v1", listener.local_addr().expect("an address"));
    let body = body.to_vec();
    let serve = async move {
        let (mut socket, _) = listener.accept().await.expect("a connection");
        let mut request = [0; 4096];
        let _ = socket.read(&mut request).await.expect("a request");
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
        socket.write_all(head.as_bytes()).await.expect("written");
        socket.set_nodelay(true).expect("set");
        for part in body.chunks(piece) {
            socket.write_all(part).await.expect("written");
            tokio::task::yield_now().await;
        }
    };
    #[expect(clippy::disallowed_methods, reason = "it ends with the test")]
    drop(tokio::spawn(serve));
    base
}

#[tokio::test]
async fn unusual_and_huge_events_of_the_simulator_pass_whole() {
    let bench = Bench::plain().await;
    // The last ends in a `response.completed` of two megabytes, and that is an end like any other.
    for scenario in ["unknown_events", "garbage", "reasoning", "huge_event:3000000", "long:2000:64", "long:2000:1000"] {
        let answer = bench.under(scenario).await;
        assert_eq!(answer.reason(), None, "{scenario}: {:?}", answer.outcome);
        let seen = bench.last();
        assert_eq!(answer.bytes.len() as u64, seen.bytes_sent, "{scenario}");
        assert!(answer.outcome.terminal_relayed, "{scenario}");
    }
}

#[tokio::test]
async fn the_end_is_seen_in_an_event_that_is_too_large_to_be_held_and_a_cut_leaves_its_half() {
    let text = "x".repeat(600_000);
    let whole = format!(
        "data: {{\"type\":\"response.completed\",\"response\":{{\"output\":[\"{text}\"],\"id\":\"r1\",\
         \"usage\":{{\"input_tokens\":3}}}}}}\n\n"
    );
    let half = &whole[..500_000];
    for (stream, reason) in [(whole.as_str(), None), (half, Some(Reason::StreamCut))] {
        let base = serve_in_pieces(stream.as_bytes(), 50_000).await;
        let service = Service::new(|config| custom(config, "own", &base));
        let answer = service.call("own", HELLO).await;
        assert_eq!(answer.reason(), reason, "{:?}", answer.outcome);
        assert!(answer.text() == stream, "{} of {} bytes", answer.bytes.len(), stream.len());
        assert!(answer.content.len() > 3, "it passes as it comes: {:?}", answer.content);
        assert_eq!(answer.outcome.terminal_relayed, reason.is_none());
        let usage = answer.outcome.usage.map(|usage| usage.input_tokens);
        let known = (answer.outcome.response_id.as_deref(), usage);
        assert_eq!(known, if reason.is_none() { (Some("r1"), Some(3)) } else { (None, None) });
    }
}

#[tokio::test]
async fn a_probe_lists_the_models_and_fails_as_a_call_would() {
    let bench = Bench::plain().await;
    let found = bench.bench.probe(CODEX).await;
    assert_eq!(found.models, ["gpt-5.5", "gpt-5.4-mini"]);
    assert_eq!(found.outcome.as_ref().map(|o| (o.failure.is_none(), o.status)), Some((true, Some(200))));
    let seen = bench.last();
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("GET", "/backend-api/codex/models"));
    assert!(seen.query.as_ref().is_some_and(|query| query.starts_with("client_version=")));
    assert_eq!(seen.header("content-length"), None);
    for (scenario, reason) in [("challenge", Reason::EdgeChallenge), ("unauthorized", Reason::CredentialRejected)] {
        bench.sim.state().set_scenario(ACCOUNT, scenario.parse().ok());
        let failure = bench.bench.probe(CODEX).await.outcome.and_then(|o| o.failure).expect("a failure");
        assert_eq!(failure.reason, reason.as_str());
    }
}
