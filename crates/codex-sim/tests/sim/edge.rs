//! Paths, methods, and what the edge answers before anyone looks at a token.

use serde_json::{Value, json};

use crate::support::{ACCOUNT, Bench, RESPONSES, body};

#[tokio::test]
async fn a_wrong_path_gets_a_challenge_whatever_the_token() {
    let bench = Bench::start().await;
    for path in [
        "/backend-api/responses",
        "/backend-api/v1/responses",
        "/backend-api/codex/v1/responses",
        "/backend-api/codex/responses/",
        "/backend-api",
    ] {
        let response = bench.post(path).json(&body("hi")).send().await.unwrap();
        assert_eq!(response.status(), 403, "{path}");
        let headers = response.headers().clone();
        assert_eq!(
            (&headers["cf-mitigated"], &headers["server"]),
            (&"challenge".parse().unwrap(), &"cloudflare".parse().unwrap())
        );
        assert_eq!(headers["content-type"], "text/html; charset=UTF-8");
        assert!(headers.contains_key("cf-ray") && !headers.contains_key("x-request-id"));
        assert!(response.text().await.unwrap().contains("Just a moment..."));
        assert_eq!(bench.last().credential.as_deref(), Some(ACCOUNT));
    }
}

#[tokio::test]
async fn right_paths_want_their_method() {
    let bench = Bench::start().await;
    assert_eq!(bench.get(RESPONSES).send().await.unwrap().status(), 405);
    assert_eq!(bench.post("/backend-api/codex/models").send().await.unwrap().status(), 405);
    assert_eq!(bench.get("/oauth/token").send().await.unwrap().status(), 405);
    assert_eq!(bench.get("/v1/responses").send().await.unwrap().status(), 405);
    assert_eq!(bench.get("/elsewhere").send().await.unwrap().status(), 404);
    let upgrade = bench.get(RESPONSES).header("connection", "Upgrade").header("upgrade", "websocket");
    assert_eq!(upgrade.send().await.unwrap().status(), 426);
}

#[tokio::test]
async fn pages_and_errors_of_the_edge_are_told_apart() {
    let bench = Bench::start().await;
    for (scenario, status, text) in [
        ("challenge", 403, "Just a moment..."),
        ("block", 403, "Sorry, you have been blocked"),
        ("bad_gateway", 502, "Bad gateway"),
        ("origin_520", 520, "520: Web server is returning an unknown error"),
        ("html_404", 404, "Not Found"),
        ("redirect", 307, ""),
    ] {
        let response = bench.ask_as(scenario).await.unwrap();
        assert_eq!(response.status(), status, "{scenario}");
        assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/html"), "{scenario}");
        assert_eq!(response.headers().contains_key("cf-mitigated"), scenario == "challenge");
        assert_eq!(response.headers().contains_key("location"), scenario == "redirect");
        assert!(response.text().await.unwrap().contains(text), "{scenario}");
    }
}

#[tokio::test]
async fn models_usage_and_routing_want_the_token() {
    let bench = Bench::start().await;
    let models = bench.get("/backend-api/codex/models?client_version=0.169.0").send().await.unwrap();
    let etag = models.headers()["etag"].clone();
    assert_eq!(models.json::<Value>().await.unwrap()["models"][0]["slug"], "gpt-5.5");
    let again = bench.get("/backend-api/codex/models?client_version=0.169.0").header("if-none-match", etag);
    assert_eq!(again.send().await.unwrap().status(), 304);
    assert_eq!(bench.get("/backend-api/codex/models").send().await.unwrap().status(), 400);
    let usage: Value = bench.get("/backend-api/wham/usage").send().await.unwrap().json().await.unwrap();
    assert_eq!((&usage["plan_type"], &usage["rate_limit"]["allowed"]), (&json!("plus"), &json!(true)));
    let check: Value = bench.get("/backend-api/wham/accounts/check").send().await.unwrap().json().await.unwrap();
    assert_eq!(check["default_account_id"], ACCOUNT);
    for path in ["/backend-api/codex/models?client_version=1", "/backend-api/wham/usage"] {
        assert_eq!(bench.client.get(bench.url(path)).send().await.unwrap().status(), 401);
    }
    let compacted = bench.post("/backend-api/codex/responses/compact");
    let compacted = compacted.json(&json!({ "model": "gpt-5.5", "input": [{ "role": "user", "content": "hi" }] }));
    let compacted: Value = compacted.send().await.unwrap().json().await.unwrap();
    assert_eq!(compacted["output"][1]["type"], "compaction");
}
