//! One quota, told alike by headers, refusals and the usage endpoint.

use codex_sim::{Quota, QuotaLimit, QuotaWindow, Scenario};
use serde_json::{Value, json};

use crate::support::{ACCOUNT, Bench, RESPONSES, body};

async fn usage(bench: &Bench) -> Value {
    let response = bench.get("/backend-api/wham/usage").send().await.unwrap();
    assert_eq!(response.status(), 200);
    response.json().await.unwrap()
}

async fn status_of(bench: &Bench, model: &str) -> u16 {
    let mut body = body("hi");
    body["model"] = json!(model);
    bench.post(RESPONSES).json(&body).send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_quota_that_is_used_up_refuses_and_comes_back_early() {
    let bench = Bench::start().await;
    let state = bench.sim.state();
    state.set_quota(ACCOUNT, Some(Quota::codex(100.0, 30.0))).unwrap();
    let refused = bench.ask("hi").await.unwrap();
    let headers = refused.headers().clone();
    assert_eq!(refused.status(), 429);
    assert_eq!(headers["x-codex-primary-used-percent"], "100");
    assert_eq!(headers["x-codex-active-limit"], "codex");
    let error = refused.json::<Value>().await.unwrap()["error"].clone();
    let told = usage(&bench).await;
    let limit = &told["rate_limit"];
    assert_eq!((&limit["allowed"], &limit["limit_reached"]), (&json!(false), &json!(true)));
    assert_eq!(limit["primary_window"]["reset_at"], error["resets_at"]);
    assert_eq!(limit["secondary_window"]["used_percent"], 30.0);

    state.set_quota(ACCOUNT, Some(Quota::codex(3.5, 30.0))).unwrap();
    assert_eq!(usage(&bench).await["rate_limit"]["allowed"], true);
    let answered = bench.ask("hi").await.unwrap();
    assert_eq!(answered.status(), 200);
    assert_eq!(answered.headers()["x-codex-primary-used-percent"], "3.5");
    assert!(state.set_quota("nobody", None).is_err());
}

#[tokio::test]
async fn a_further_limit_counts_for_its_models_alone() {
    let bench = Bench::start().await;
    let window = QuotaWindow { resets_in: None, ..QuotaWindow::new(100.0, 604_800, 0) };
    let mut other = QuotaLimit::new("codex_other", vec![window]).of_models(&["gpt-5.5"]);
    other.name = Some("Fast models".to_owned());
    bench.sim.state().set_quota(ACCOUNT, Some(Quota::codex(1.0, 2.0).with(other))).unwrap();
    let refused = bench.ask("hi").await.unwrap();
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.headers()["x-codex-active-limit"], "codex_other");
    assert_eq!(refused.headers()["x-codex-other-primary-used-percent"], "100");
    assert_eq!(refused.headers()["x-codex-other-primary-reset-at"], "", "as the real one sometimes writes it");
    assert_eq!(refused.headers()["x-codex-other-limit-name"], "Fast models");
    assert_eq!(status_of(&bench, "gpt-5.4-mini").await, 200);
    let told = usage(&bench).await;
    assert_eq!(told["rate_limit"]["allowed"], true);
    let further = &told["additional_rate_limits"][0];
    assert_eq!(
        (&further["metered_feature"], &further["rate_limit"]["allowed"]),
        (&json!("codex_other"), &json!(false))
    );
}

#[tokio::test]
async fn the_usage_endpoint_agrees_with_the_scenario_unless_the_test_says_otherwise() {
    let bench = Bench::start().await;
    let state = bench.sim.state();
    state.set_scenario(ACCOUNT, Some(Scenario::UsageLimit { resets_in: 600 }));
    assert_eq!(usage(&bench).await["rate_limit"]["primary_window"]["used_percent"], 100.0);
    state.set_quota(ACCOUNT, Some(Quota::codex(0.0, 0.0))).unwrap();
    assert_eq!(usage(&bench).await["rate_limit"]["allowed"], true);
    assert_eq!(bench.ask("hi").await.unwrap().status(), 429, "the scenario still refuses calls");
    let credits = Quota { allowed: Some(true), ..Quota::codex(100.0, 0.0) };
    state.set_quota(ACCOUNT, Some(credits)).unwrap();
    let told = usage(&bench).await;
    assert_eq!((&told["rate_limit"]["allowed"], &told["rate_limit"]["limit_reached"]), (&json!(true), &json!(true)));
    state.set_quota(ACCOUNT, None).unwrap();
    assert_eq!(usage(&bench).await["rate_limit"]["allowed"], false, "the scenario's word again");
}

#[tokio::test]
async fn the_usage_endpoint_is_as_strict_as_calls_are() {
    let bench = Bench::start().await;
    let bare = bench.client.get(bench.url("/backend-api/wham/usage")).bearer_auth(&bench.login.access_token);
    let foreign = bare.try_clone().unwrap().header("chatgpt-account-id", "acct-2");
    for request in [bare, foreign] {
        assert!(request.send().await.unwrap().status().is_client_error());
    }
    assert_eq!(bench.post("/backend-api/wham/usage").send().await.unwrap().status(), 405);
    let challenged = bench.get("/backend-api/wham/usages").send().await.unwrap();
    assert_eq!(challenged.status(), 403);
    assert_eq!(challenged.headers()["cf-mitigated"], "challenge");
}
