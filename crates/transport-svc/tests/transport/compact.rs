//! Compactions: asked and answered whole.

use domain::Reason;
use proto::transport::v1::{Resource, RespondRequest};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::harness::{ACCOUNT, Bench, CODEX, HELLO, Service, custom};

const COMPACT: &str = "/backend-api/codex/responses/compact";

fn compact(bench: &Bench, target: &str, body: &str) -> RespondRequest {
    RespondRequest { resource: Resource::Compact.into(), ..bench.bench.request(target, body, &[]) }
}

#[tokio::test]
async fn a_compaction_goes_to_its_own_path_and_comes_back_as_it_is() {
    let bench = Bench::plain().await;
    let body = r#"{"model":"codex/gpt-5.5","stream":false,"store":true,"temperature":1,"tools":[],
        "input":[{"role":"system","content":"Be brief."},{"role":"user","content":"hi"}]}"#;
    let answer = bench.bench.send(compact(&bench, CODEX, body)).await;
    assert_eq!(answer.reason(), None, "{:?}", answer.outcome);
    let seen = bench.last();
    assert_eq!((seen.path.as_str(), seen.header("accept")), (COMPACT, Some("application/json")));
    assert_eq!(seen.header("chatgpt-account-id"), Some(ACCOUNT));
    let sent = json!({ "model": "gpt-5.5", "tools": [], "instructions": "Be brief.",
        "input": [{ "role": "user", "content": "hi" }] });
    assert_eq!(seen.body, Some(sent));
    assert_eq!(answer.head.as_ref().map(|head| head.dropped.concat()).as_deref(), Some("storetemperature"));
    let output: Value = serde_json::from_slice(&answer.bytes).expect("JSON");
    assert_eq!(output["output"][1]["type"], "compaction");
    assert!(answer.outcome.url.ends_with(COMPACT) && !answer.outcome.terminal_relayed);
}

#[tokio::test]
async fn compactions_fail_by_the_same_reasons() {
    let bench = Bench::plain().await;
    for (scenario, reason) in [
        ("usage_limit:60", Reason::UsageLimit),
        ("overloaded", Reason::UpstreamOverloaded),
        ("challenge", Reason::EdgeChallenge),
    ] {
        bench.sim.state().set_scenario(ACCOUNT, Some(scenario.parse().expect("a scenario")));
        assert_eq!(bench.bench.send(compact(&bench, CODEX, HELLO)).await.reason(), Some(reason), "{scenario}");
    }
}

#[tokio::test]
async fn an_api_keys_compaction_is_counted_and_no_other_answer_is_taken_for_one() {
    let bench = Bench::new(codex_sim::SimConfig::default(), |sim, config| {
        custom(config, "own", &format!("{}/v1", sim.base_url()));
    });
    let mut bench = bench.await;
    bench.bench.token = "sk-own-0123456789".to_owned();
    bench.sim.state().add_api_key("sk-own-0123456789");
    let answer = bench.bench.send(compact(&bench, "own", r#"{"input":"hi"}"#)).await;
    assert_eq!(answer.reason(), None, "{:?}", answer.outcome);
    assert_eq!(bench.last().body, Some(json!({ "input": "hi", "model": "gpt-5.5" })));
    assert_eq!(answer.outcome.usage.map(|usage| usage.input_tokens), Some(11));
    assert_eq!(answer.outcome.response_id.as_deref(), Some("resp_compact_1"));
}

/// A server for one request that answers with exactly these bytes.
async fn serve(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let base = format!("http://{}/v1", listener.local_addr().expect("an address"));
    let serve = async move {
        let (mut socket, _) = listener.accept().await.expect("a connection");
        let mut request = [0; 4096];
        let _ = socket.read(&mut request).await.expect("a request");
        socket.write_all(answer.as_bytes()).await.expect("written");
    };
    #[expect(clippy::disallowed_methods, reason = "it ends with the test")]
    drop(tokio::spawn(serve));
    base
}

#[tokio::test]
async fn the_bytes_of_a_compaction_are_the_servers_own_and_only_whole_json_is_one() {
    const BODY: &str = "{ \"output\" :[1.50,\n\"\\u00e9\"] }";
    for (answer, expected) in [
        (
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 30\r\n\r\n{ \"output\" :[1.50,\n\"\\u00e9\"] }",
            None,
        ),
        ("HTTP/1.1 200 OK\r\ncontent-length: 40\r\n\r\n{ \"output\" :[", Some(Reason::StreamCut)),
        ("HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n{ \"output\" :[", Some(Reason::UpstreamError)),
        (
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\ndata: x\n\n",
            Some(Reason::UpstreamError),
        ),
        ("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", Some(Reason::WrongEndpoint)),
    ] {
        let base = serve(answer).await;
        let service = Service::new(|config| custom(config, "own", &base));
        let request = service.request("own", HELLO, &[]);
        let got = service.send(RespondRequest { resource: Resource::Compact.into(), ..request }).await;
        assert_eq!(got.reason(), expected, "{answer}: {:?}", got.outcome);
        assert!(expected.is_some() || got.bytes == BODY.as_bytes(), "{}", got.text());
    }
}
