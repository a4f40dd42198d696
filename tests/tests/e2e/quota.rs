//! Limits that are met, and a conversation that goes on with another account.

use codex_sim::{Quota, QuotaLimit, QuotaWindow};
use serde_json::{Value, json};

use crate::support::{CODEX, MODEL, World, whole};

/// A turn after the first: what was said so far, as clients send it back.
fn next_turn(first: &Value, text: &str) -> Value {
    let mut input = vec![json!({ "role": "user", "content": "hello" })];
    input.extend(first["output"].as_array().expect("output").iter().cloned());
    input.push(json!({ "role": "user", "content": text }));
    json!({ "model": MODEL, "stream": false, "input": input, "include": ["reasoning.encrypted_content"] })
}

/// Credential, result and reason of each attempt of a call.
async fn attempts(switchboard: &e2e::Switchboard, answer: &e2e::Answer) -> Vec<(String, String, String)> {
    let call_id = answer.headers["x-switchboard-call-id"].to_str().expect("an id").to_owned();
    let record = switchboard.http().get(&format!("/v1/switchboard/calls/{call_id}")).await.is(200).json();
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let attempts = record["executionTrace"]["attempts"].as_array().cloned().unwrap_or_default();
    attempts.iter().map(|a| (text(&a["credential"]), text(&a["result"]), text(&a["reason"]))).collect()
}

fn told(list: &[(&str, &str, &str)]) -> Vec<(String, String, String)> {
    list.iter().map(|(c, r, why)| ((*c).to_owned(), (*r).to_owned(), (*why).to_owned())).collect()
}

e2e::in_each_topology! {
    /// The account that a conversation began on is used up. The next one cannot read its reasoning: the call is made
    /// once more without it, and says so.
    async fn a_conversation_goes_on_with_another_account(topology) {
        let (world, _) = World::with_login().await;
        world.login("acct-2", "second").await;
        let switchboard = world.start(topology).await;
        let first = switchboard.http().respond(&whole("[[sim:reasoning]] hello")).await.is(200).json();
        assert_eq!(first["output"][0]["type"], "reasoning", "{first}");
        // On the same account it is read, and nothing is dropped.
        let same = switchboard.http().respond(&next_turn(&first, "Reply exactly: SAME")).await.is(200);
        assert!(!same.headers.contains_key("x-switchboard-dropped"), "{:?}", same.headers);
        assert_eq!(world.sim.state().requests_to(CODEX).len(), 2);

        world.sim.state().set_quota("acct-1", Some(Quota::codex(100.0, 20.0))).expect("an account");
        let moved = switchboard.http().respond(&next_turn(&first, "Reply exactly: OK")).await.is(200);
        assert_eq!(moved.headers["x-switchboard-dropped"], "input[].encrypted_content");
        assert!(String::from_utf8_lossy(&moved.body).contains("OK"));
        assert_eq!(
            attempts(&switchboard, &moved).await,
            told(&[("main", "failed", "USAGE_LIMIT"), ("second", "failed", "REQUEST_REJECTED"), ("second", "success", "-")])
        );
        // From now on the first account rests: one request more than without reasoning.
        let before = world.sim.state().requests_to(CODEX).len();
        let resting = switchboard.http().respond(&next_turn(&first, "Reply exactly: OK")).await.is(200);
        assert_eq!(
            attempts(&switchboard, &resting).await,
            told(&[("second", "failed", "REQUEST_REJECTED"), ("second", "success", "-")])
        );
        let requests = world.sim.state().requests_to(CODEX).split_off(before);
        let accounts: Vec<_> = requests.iter().map(|r| r.credential.as_deref().unwrap_or("-")).collect();
        assert_eq!(accounts, ["acct-2", "acct-2"]);
        let kinds = |request: &codex_sim::RecordedRequest| -> Vec<String> {
            let input = request.body.as_ref().and_then(|body| body["input"].as_array().cloned()).unwrap_or_default();
            input.iter().map(|item| item["type"].as_str().unwrap_or("message").to_owned()).collect()
        };
        assert_eq!(kinds(&requests[0]), ["message", "reasoning", "message", "message"]);
        assert_eq!(kinds(&requests[1]), ["message", "message", "message"]);
    }

    /// A request that is refused for another reason is not sent again for its reasoning's sake.
    async fn only_refused_reasoning_is_dropped(topology) {
        let (world, _) = World::with_login().await;
        let switchboard = world.start(topology).await;
        let first = switchboard.http().respond(&whole("[[sim:reasoning]] hello")).await.is(200).json();
        let _ = switchboard.http().respond(&next_turn(&first, "[[sim:context_too_long]]")).await.is(400);
        assert_eq!(world.sim.state().requests_to(CODEX).len(), 2);
        // The upstream goes on refusing: once more, and then its word stands.
        world.behave("acct-1", "encrypted_content");
        let refused = switchboard.http().respond(&next_turn(&first, "hi")).await.is(400).json();
        assert_eq!(refused["error"]["reason"], "REQUEST_REJECTED", "{refused}");
        assert_eq!(world.sim.state().requests_to(CODEX).len(), 4);
    }

    /// The headers about limits reach the caller on every answer, and the limit that is met is named to it.
    async fn limits_reach_the_caller(topology) {
        let (world, _) = World::with_login().await;
        let switchboard = world.start(topology).await;
        let week = vec![QuotaWindow::new(7.0, 604_800, 5_000)];
        let other = QuotaLimit::new("codex_other", vec![QuotaWindow::new(100.0, 3_600, 900)]).of_models(&["gpt-5.4-mini"]);
        let quota = Quota { limits: vec![QuotaLimit::new("codex", week), other], allowed: None };
        world.sim.state().set_quota("acct-1", Some(quota)).expect("an account");
        let answer = switchboard.http().respond(&whole("Hello")).await.is(200);
        assert_eq!(answer.headers["x-codex-primary-window-minutes"], "10080");
        assert_eq!(answer.headers["x-codex-other-primary-used-percent"], "100");
        let mut mini = whole("Hello");
        mini["model"] = json!("openai-codex/gpt-5.4-mini");
        let refused = switchboard.http().respond(&mini).await.is(429);
        assert_eq!(refused.headers["x-codex-active-limit"], "codex_other");
        let error = refused.json();
        assert_eq!(error["error"]["type"], "usage_limit_reached", "{error}");
        assert!(error["error"]["message"].as_str().is_some_and(|text| text.contains("the window of 1 h")), "{error}");
    }
}
