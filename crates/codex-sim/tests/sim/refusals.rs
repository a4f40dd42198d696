//! Requests that the Codex backend refuses, by rule or by scenario.

use codex_sim::{HeaderVerdict, Scenario, SeedLogin, SimConfig};
use serde_json::{Value, json};

use crate::support::{ACCOUNT, API_KEY, Bench, RESPONSES, body, user};

#[tokio::test]
async fn strict_where_the_real_one_is() {
    let bench = Bench::start().await;
    let cases = [
        (json!({ "store": true }), "Store must be set to false"),
        (json!({ "store": null }), "Store must be set to false"),
        (json!({ "stream": false }), "Stream must be set to true"),
        (json!({ "metadata": {} }), "Unsupported parameter: metadata"),
        (json!({ "max_output_tokens": 1 }), "Unsupported parameter: max_output_tokens"),
        (json!({ "previous_response_id": "resp_1" }), "Unsupported parameter: previous_response_id"),
        (json!({ "sparkle": 1 }), "Unsupported parameter: sparkle"),
        (json!({ "input": "hi" }), "Input must be a list"),
        (json!({ "input": [{ "role": "system", "content": "x" }, user("hi")] }), "System messages are not allowed"),
        (
            json!({ "model": "codex/gpt-5.5" }),
            "The 'codex/gpt-5.5' model is not supported when using Codex with a ChatGPT account.",
        ),
    ];
    for (change, detail) in cases {
        let mut body = body("hi");
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let response = bench.post(RESPONSES).json(&body).send().await.unwrap();
        assert_eq!(response.status(), 400, "{detail}");
        assert_eq!(response.json::<Value>().await.unwrap(), json!({ "detail": detail }));
    }
    let text = bench.post(RESPONSES).body("{}").send().await.unwrap();
    assert_eq!(text.status(), 415);
}

#[tokio::test]
async fn doubtful_rules_are_settings() {
    let mut config = SimConfig::default();
    config.rules.require_instructions = true;
    config.rules.refuse_unknown_fields = false;
    config.rules.account_header_missing = HeaderVerdict::Accept;
    let bench = Bench::with(config).await;
    let mut body = body("hi");
    body["sparkle"] = json!(1);
    let post =
        |body: Value| bench.client.post(bench.url(RESPONSES)).bearer_auth(&bench.login.access_token).json(&body).send();
    assert_eq!(post(body.clone()).await.unwrap().status(), 400);
    body["instructions"] = json!("Be brief.");
    assert_eq!(post(body).await.unwrap().status(), 200);
}

#[tokio::test]
async fn credentials_are_checked_before_the_body() {
    let bench = Bench::start().await;
    let post = |token: &str, account: &str| {
        let request = bench.client.post(bench.url(RESPONSES)).bearer_auth(token);
        request.header("chatgpt-account-id", account).json(&json!({})).send()
    };
    let code = async |response: reqwest::Response| {
        let status = response.status().as_u16();
        assert!(response.headers().contains_key("x-request-id") && response.headers().contains_key("cf-ray"));
        (status, response.json::<Value>().await.unwrap()["error"]["code"].as_str().unwrap_or("-").to_owned())
    };
    let good = &bench.login.access_token;
    assert_eq!(code(post("nonsense", ACCOUNT).await.unwrap()).await, (401, "token_expired".into()));
    assert_eq!(code(post(API_KEY, ACCOUNT).await.unwrap()).await, (401, "-".into()));
    assert_eq!(code(post(good, "acct-2").await.unwrap()).await, (403, "account_mismatch".into()));
    assert_eq!(post(good, ACCOUNT).await.unwrap().status(), 400);
    let bare = bench.client.post(bench.url(RESPONSES)).bearer_auth(good).json(&body("hi")).send().await.unwrap();
    assert_eq!(bare.status(), 401);
    let nobody = bench.client.post(bench.url(RESPONSES)).json(&body("hi")).send().await.unwrap();
    assert_eq!(code(nobody).await, (401, "missing_authorization".into()));
    assert!(!bench.last().authorized);

    assert_eq!(bench.sim.state().expire_access_tokens(ACCOUNT), 1);
    assert_eq!(code(post(good, ACCOUNT).await.unwrap()).await, (401, "token_expired".into()));
    bench.sim.state().revoke_account(ACCOUNT);
    assert_eq!(code(post(good, ACCOUNT).await.unwrap()).await, (401, "token_invalidated".into()));
}

#[tokio::test]
async fn each_refusal_has_its_status_and_its_shape() {
    let bench = Bench::start().await;
    let cases = [
        ("unauthorized", 401, "token_expired"),
        ("usage_limit:90", 429, "usage_limit_reached"),
        ("rate_limit:3", 429, "rate_limit_exceeded"),
        ("usage_not_included", 429, "usage_not_included"),
        ("insufficient_quota", 429, "insufficient_quota"),
        ("server_error", 500, "server_error"),
        ("overloaded", 503, "server_is_overloaded"),
        ("context_too_long", 400, "context_length_exceeded"),
        ("encrypted_content", 400, "invalid_encrypted_content"),
        ("json_403", 403, "codex_access_denied"),
    ];
    for (scenario, status, code) in cases {
        let response = bench.ask(&format!("[[sim:{scenario}]]")).await.unwrap();
        let headers = response.headers().clone();
        assert_eq!(response.status(), status, "{scenario}");
        let error = response.json::<Value>().await.unwrap()["error"].clone();
        assert!(error["code"] == code || error["type"] == code, "{scenario}: {error}");
        match scenario {
            "usage_limit:90" => {
                assert_eq!((&error["resets_in_seconds"], &error["plan_type"]), (&json!(90), &json!("plus")));
                assert_eq!(headers["x-codex-primary-used-percent"], "100");
            }
            "rate_limit:3" => assert_eq!(headers["retry-after"], "3"),
            _ => {}
        }
        assert_eq!(bench.last().scenario.as_deref(), Some(scenario));
    }
    for scenario in ["not_supported_model", "client_too_old"] {
        let response = bench.ask_as(scenario).await.unwrap();
        assert_eq!(response.status(), 400);
        assert!(response.json::<Value>().await.unwrap()["detail"].as_str().unwrap().contains("gpt-5.5"));
    }
    let unknown = bench.ask("[[sim:sparkle]]").await.unwrap();
    assert_eq!((unknown.status().as_u16(), unknown.text().await.unwrap().contains("sparkle")), (400, true));
}

#[tokio::test]
async fn scenarios_are_set_for_credentials_and_for_a_number_of_requests() {
    let bench = Bench::start().await;
    let state = bench.sim.state();
    state.set_scenario(ACCOUNT, Some(Scenario::UsageLimit { resets_in: 60 }));
    assert_eq!(bench.ask("hi").await.unwrap().status(), 429);
    let usage: Value = bench.get("/backend-api/wham/usage").send().await.unwrap().json().await.unwrap();
    assert_eq!(usage["rate_limit"]["limit_reached"], true);
    let other = state.seed_login(SeedLogin::account("acct-2"));
    let request = bench.client.post(bench.url(RESPONSES)).bearer_auth(&other.access_token);
    let response = request.header("chatgpt-account-id", "acct-2").json(&body("hi")).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(bench.ask("[[sim:ok]] hi").await.unwrap().status(), 200);

    state.set_scenario_times(ACCOUNT, Scenario::Overloaded, 2);
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(bench.ask("hi").await.unwrap().status().as_u16());
    }
    assert_eq!(statuses, [503, 503, 200]);
    state.set_scenario("*", Some(Scenario::Challenge));
    assert_eq!(bench.ask("hi").await.unwrap().status(), 403);

    state.set_scenario("*", None);
    state.set_scenario(API_KEY, Some(Scenario::InsufficientQuota));
    let request = bench.client.post(bench.url("/v1/responses")).bearer_auth(API_KEY);
    let response = request.json(&json!({ "model": "gpt-5.5", "input": "hi" })).send().await.unwrap();
    assert_eq!(response.status(), 429);
}

#[tokio::test]
async fn unauthorized_once_ends_with_a_refresh() {
    let bench = Bench::start().await;
    bench.sim.state().set_scenario(ACCOUNT, Some(Scenario::UnauthorizedOnce));
    for _ in 0..2 {
        assert_eq!(bench.ask("hi").await.unwrap().status(), 401);
    }
    let refreshed = crate::identity::refresh(&bench, &bench.login.refresh_token).await;
    let fresh: Value = refreshed.json().await.unwrap();
    let request = bench.client.post(bench.url(RESPONSES)).bearer_auth(fresh["access_token"].as_str().unwrap());
    let response = request.header("chatgpt-account-id", ACCOUNT).json(&body("hi")).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(bench.ask("hi").await.unwrap().status(), 401);
}

#[tokio::test]
async fn sealed_reasoning_of_another_account_is_refused() {
    let bench = Bench::start().await;
    let stream = bench.ask("[[sim:reasoning]]").await.unwrap().text().await.unwrap();
    let item = crate::support::events(&stream).remove(2)["item"].clone();
    assert_eq!(item["type"], "reasoning");
    let body = crate::support::body_with(json!([user("hi"), item, user("go on")]));
    assert_eq!(bench.post(RESPONSES).json(&body).send().await.unwrap().status(), 200);
    let other = bench.sim.state().seed_login(SeedLogin::account("acct-2"));
    let request = bench.client.post(bench.url(RESPONSES)).bearer_auth(&other.access_token);
    let response = request.header("chatgpt-account-id", "acct-2").json(&body).send().await.unwrap();
    assert_eq!(response.json::<Value>().await.unwrap()["error"]["code"], "invalid_encrypted_content");
}

#[tokio::test]
async fn a_workspace_with_a_region_wants_its_header() {
    let bench = Bench::start().await;
    bench.sim.state().set_routing(ACCOUNT, "https://chatgpt.com", "us_cr").unwrap();
    let check: Value = bench.get("/backend-api/wham/accounts/check").send().await.unwrap().json().await.unwrap();
    assert_eq!(check["accounts"][0]["account_routing_override"], "us_cr");
    assert_eq!(bench.ask("hi").await.unwrap().status(), 403);
    let request = bench.post(RESPONSES).header("x-openai-account-routing-override", "us_cr");
    assert_eq!(request.json(&body("hi")).send().await.unwrap().status(), 200);
}
