//! The binary, and the administration interface that steers it.

use std::{process::Stdio, time::Duration};

use codex_sim::{CLIENT_ID, SeededLogin, Stats};
use reqwest::{Client, Response};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::support::{RESPONSES, body};

/// Starts the binary; its first line is its address.
async fn run(options: &[&str]) -> (Child, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_codex-sim"));
    let mut child = command.args(options).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = tokio::time::timeout(Duration::from_secs(10), lines.next_line()).await.unwrap().unwrap().unwrap();
    (child, line)
}

async fn json_of(response: Result<Response, reqwest::Error>) -> Value {
    let response = response.unwrap();
    assert_eq!(response.status(), 200, "{}", response.url());
    response.json().await.unwrap()
}

#[tokio::test]
async fn the_binary_is_steered_over_http() {
    let (child, base) = run(&["--auto-approve", "--device-interval", "1"]).await;
    let client = Client::builder().no_proxy().build().unwrap();
    let post = |path: &str, body: Value| client.post(format!("{base}{path}")).json(&body).send();
    let get = |path: &str| client.get(format!("{base}{path}")).send();

    let login = json!({ "account_id": "a", "plan": "pro", "scenario": "usage_limit:60" });
    let login: SeededLogin = serde_json::from_value(json_of(post("/sim/logins", login).await).await).unwrap();
    assert_eq!(login.codex_auth_json()["tokens"]["account_id"], "a");
    let ask = || {
        let request = client.post(format!("{base}{RESPONSES}")).bearer_auth(&login.access_token);
        request.header("chatgpt-account-id", "a").json(&body("hi")).send()
    };
    assert_eq!(ask().await.unwrap().status(), 429);
    json_of(post("/sim/scenario", json!({ "target": "a", "scenario": null })).await).await;
    assert_eq!(ask().await.unwrap().status(), 200);
    json_of(post("/sim/account", json!({ "account_id": "a", "used_percent": [99.5, 10] })).await).await;
    assert_eq!(ask().await.unwrap().headers()["x-codex-primary-used-percent"], "99.5");
    let window = json!({ "used_percent": 100, "window_seconds": 18_000, "resets_in_seconds": 60 });
    let quota = json!({ "limits": [{ "id": "codex", "windows": [window] }] });
    json_of(post("/sim/quota", json!({ "account_id": "a", "quota": quota })).await).await;
    assert_eq!(ask().await.unwrap().status(), 429);
    json_of(post("/sim/quota", json!({ "account_id": "a", "quota": null })).await).await;
    assert_eq!(post("/sim/quota", json!({ "account_id": "a", "qota": null })).await.unwrap().status(), 400);
    let expired = json_of(post("/sim/expire", json!({ "account_id": "a" })).await).await;
    assert_eq!(expired["access_tokens"], 1);
    assert_eq!(ask().await.unwrap().status(), 401);

    let seen = json_of(get(&format!("/sim/requests?path={RESPONSES}&credential=a")).await).await;
    let statuses: Vec<u64> =
        seen["requests"].as_array().unwrap().iter().map(|request| request["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [429, 200, 200, 429, 401]);
    let adopted = json!({ "account_id": "b", "access_token": "opaque", "expires_in_seconds": 60 });
    assert_eq!(json_of(post("/sim/adopt", adopted).await).await["login_id"], 1);
    assert!(json_of(post("/sim/keys", json!({ "api_key": "sk-1" })).await).await["label"].is_string());
    assert_eq!(json_of(post("/sim/revoke", json!({ "account_id": "b" })).await).await["logins"], 1);

    let device = post("/api/accounts/deviceauth/usercode", json!({ "client_id": CLIENT_ID })).await;
    let device = json_of(device).await;
    assert_eq!(device["interval"], "1");
    let pending = json_of(get("/sim/device").await).await;
    assert_eq!(pending["pending"][0], device["user_code"]);
    let approval = json!({ "user_code": device["user_code"], "account_id": "c" });
    assert_eq!(json_of(post("/sim/device/approve", approval).await).await["account_id"], "c");

    let stats: Stats = serde_json::from_value(json_of(get("/sim/stats").await).await).unwrap();
    assert_eq!((stats.logins.len(), stats.total_requests), (2, 6));
    json_of(client.delete(format!("{base}/sim/requests")).send().await).await;
    assert_eq!(json_of(get("/sim/requests").await).await["requests"], json!([]));
    assert!(json_of(get("/sim/scenarios").await).await["cut[:N]"].is_string());
    assert_eq!(post("/sim/logins", json!({ "acount_id": "typo" })).await.unwrap().status(), 400);
    assert_eq!(get("/sim/nothing").await.unwrap().status(), 404);
    drop(child);
}

#[tokio::test]
async fn the_binary_writes_its_authority_and_stops_when_asked() {
    let path = std::env::temp_dir().join(format!("codex-sim-ca-{}.pem", std::process::id()));
    let (mut child, base) = run(&["--tls", "also", "--ca-out", path.to_str().unwrap()]).await;
    assert!(base.starts_with("https://127.0.0.1:"));
    let pem = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let client = Client::builder().no_proxy().tls_certs_only([reqwest::Certificate::from_pem(&pem).unwrap()]);
    let client = client.build().unwrap();
    assert_eq!(client.get(format!("{base}/sim/health")).send().await.unwrap().status(), 200);

    let pid = child.id().unwrap().to_string();
    assert!(Command::new("kill").arg(pid).status().await.unwrap().success());
    assert!(tokio::time::timeout(Duration::from_secs(5), child.wait()).await.unwrap().unwrap().success());
}
