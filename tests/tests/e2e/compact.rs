//! Compaction end to end: the same routes, credentials and failures as any other call.

use e2e::Answer;
use serde_json::json;

use crate::support::{MODEL, World};

const UPSTREAM: &str = "/backend-api/codex/responses/compact";

e2e::in_each_topology! {
    /// Both paths lead to the upstream's; a credential at its limit is left for the next one.
    async fn a_compaction_is_a_call_like_any_other(topology) {
        let (world, _) = World::with_login().await;
        let _ = world.login("acct-2", "second").await;
        world.home.set("agents.main.credentials", "[\"main\", \"second\"]");
        let switchboard = world.start(topology).await;
        world.behave("acct-1", "usage_limit:3600");
        let http = switchboard.http();
        let body = json!({ "model": MODEL, "input": [{ "role": "user", "content": "Hello" }], "instructions": "x" });
        for path in ["/v1/responses/compact", "/backend-api/codex/responses/compact"] {
            let answer = http.post(path, &body).await.is(200);
            assert_eq!(answer.header("content-type"), "application/json");
            assert_eq!(answer.json()["output"][0], body["input"][0]);
            let sent = world.sim.state().requests_to(UPSTREAM).pop().expect("a request");
            assert_eq!((sent.status, sent.credential.as_deref()), (Some(200), Some("acct-2")));
            let trace = format!("/v1/switchboard/calls/{}", answer.header("x-switchboard-call-id"));
            let record = http.get(&trace).await.is(200).json();
            assert_eq!(record["status"], "ok", "{record}");
        }
        world.behave("acct-2", "overloaded");
        let failed = Answer::of(http.request(reqwest::Method::POST, "/v1/responses/compact").json(&body)).await.is(503);
        assert_eq!(failed.json()["error"]["reason"], "UPSTREAM_OVERLOADED");
        let wrong = http.get("/v1/responses/compact").await.is(405);
        assert_eq!(wrong.header("allow"), "POST");
    }
}
