//! Encrypted reasoning of another account: refused, recognised, and dropped on request.

use codex_sim::SeedLogin;
use domain::Reason;
use proto::transport::v1::RespondRequest;
use serde_json::{Value, json};

use crate::harness::{Answer, Bench, CODEX};

/// The reasoning item that the simulator gives out to another account.
async fn foreign_reasoning(bench: &Bench) -> Value {
    let other = bench.sim.state().seed_login(SeedLogin::account("acct-2"));
    let body = json!({ "model": "gpt-5.5", "store": false, "stream": true, "input": [
        { "role": "user", "content": "[[sim:reasoning]] hello" }] });
    let request = reqwest::Client::builder().no_proxy().build().expect("a client");
    let request = request.post(format!("{}/responses", bench.sim.codex_base_url())).bearer_auth(&other.access_token);
    let answer = request.header("chatgpt-account-id", "acct-2").header("content-type", "application/json");
    let text = answer.body(body.to_string()).send().await.expect("sent").text().await.expect("a stream");
    let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok());
    let mut items = events.filter(|e| e["type"] == "response.output_item.done").map(|e| e["item"].clone());
    items.find(|item| item["type"] == "reasoning").expect("a reasoning item")
}

fn body(reasoning: &Value) -> String {
    let said = json!({ "type": "message", "role": "assistant", "content": [{ "type": "output_text", "text": "Hi" }] });
    json!({ "input": [{ "role": "user", "content": "hello" }, reasoning, said,
        { "role": "user", "content": "Reply exactly: OK" }] })
    .to_string()
}

async fn send(bench: &Bench, body: &str, drop: bool) -> Answer {
    let request = bench.bench.request(CODEX, body, &[]);
    bench.bench.send(RespondRequest { drop_encrypted_reasoning: drop, ..request }).await
}

#[tokio::test]
async fn foreign_reasoning_is_refused_recognised_and_dropped() {
    let bench = Bench::plain().await;
    let body = body(&foreign_reasoning(&bench).await);
    let refused = send(&bench, &body, false).await;
    assert_eq!(refused.reason(), Some(Reason::RequestRejected));
    assert!(refused.outcome.reasoning_refused, "{:?}", refused.outcome);

    let answered = send(&bench, &body, true).await;
    assert_eq!(answered.reason(), None, "{:?}", answered.outcome);
    assert_eq!(answered.head.as_ref().map(|h| h.dropped.clone()), Some(vec!["input[].encrypted_content".to_owned()]));
    assert!(answered.text().contains("OK") && !answered.outcome.reasoning_refused);
    let sent = bench.last().body.expect("a body");
    let kinds: Vec<&str> =
        sent["input"].as_array().expect("a list").iter().map(|i| i["type"].as_str().unwrap_or("-")).collect();
    assert_eq!(kinds, ["-", "message", "-"], "the item went whole: unsealed it would be unknown");
}

#[tokio::test]
async fn only_a_body_that_holds_reasoning_can_be_helped() {
    let bench = Bench::plain().await;
    for (scenario, text) in [
        ("encrypted_content", r#"{"input":"hello"}"#),
        ("failed:invalid_encrypted_content", r#"{"input":"hello"}"#),
        (
            "failed:rate_limit_exceeded",
            r#"{"input":[{"type":"reasoning","encrypted_content":"g"},{"role":"user","content":"x"}]}"#,
        ),
    ] {
        bench.sim.state().set_scenario("acct-1", Some(scenario.parse().expect("a scenario")));
        let answer = bench.bench.call(CODEX, text).await;
        assert!(answer.reason().is_some() && !answer.outcome.reasoning_refused, "{scenario}");
    }
    // The same in the stream, before any content.
    let holding = r#"{"input":[{"type":"reasoning","encrypted_content":"g"},{"role":"user","content":"x"}]}"#;
    bench.sim.state().set_scenario("acct-1", Some("failed:invalid_encrypted_content".parse().expect("a scenario")));
    let answer = bench.bench.call(CODEX, holding).await;
    assert_eq!((answer.reason(), answer.outcome.reasoning_refused), (Some(Reason::RequestRejected), true));
}
