//! Refreshes, logins, and the ways in which they fail.

use std::time::Duration;

use codex_sim::{AdoptTokens, CLIENT_ID, SimConfig, TokenScenario};
use reqwest::Response;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::support::{ACCOUNT, Bench, body};

const DEVICE: &str = "/api/accounts/deviceauth";

/// A refresh as Codex CLI sends it.
pub(crate) async fn refresh(bench: &Bench, token: &str) -> Response {
    let request = json!({
        "client_id": CLIENT_ID, "grant_type": "refresh_token", "refresh_token": token,
        "refresh_reason": "proactive_expiry",
    });
    bench.client.post(bench.url("/oauth/token")).json(&request).send().await.unwrap()
}

async fn code(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    let body: Value = response.json().await.unwrap();
    let code = body["error"]["code"].as_str().or(body["error"].as_str()).unwrap_or("-");
    (status, code.to_owned())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_reused_refresh_token_kills_the_login() {
    let bench = Bench::start().await;
    let first = bench.login.refresh_token.clone();
    let answer: Value = refresh(&bench, &first).await.json().await.unwrap();
    let second = text(&answer["refresh_token"]);
    assert_ne!(first, second);
    assert_ne!(text(&answer["access_token"]), bench.login.access_token);
    assert_eq!(bench.ask("hi").await.unwrap().status(), 200);

    assert_eq!(code(refresh(&bench, &first).await).await, (401, "refresh_token_reused".into()));
    assert_eq!(code(refresh(&bench, &second).await).await, (401, "refresh_token_invalidated".into()));
    assert_eq!(bench.ask("hi").await.unwrap().status(), 401);
    assert_eq!(code(refresh(&bench, "rt-nobody").await).await, (400, "invalid_grant".into()));

    let state = bench.sim.state();
    let outcomes: Vec<String> = state.token_requests().into_iter().map(|request| request.outcome).collect();
    assert_eq!(outcomes, ["ok", "refresh_token_reused", "refresh_token_invalidated", "invalid_grant"]);
    assert_eq!(state.refresh_count(ACCOUNT), 1);
    assert_eq!(state.stats().logins[0].ended.as_deref(), Some("reused"));
    let record = state.requests_to("/oauth/token").remove(0);
    let recorded = record.body.unwrap().to_string();
    assert!(recorded.contains("proactive_expiry") && !recorded.contains(&first));
}

#[tokio::test]
async fn two_holders_that_refresh_at_once_are_caught() {
    let bench = Bench::start().await;
    bench.sim.state().set_token_scenario(ACCOUNT, Some("delay:200".parse().unwrap()));
    let token = bench.login.refresh_token.clone();
    let (one, two) = tokio::join!(refresh(&bench, &token), refresh(&bench, &token));
    let mut statuses = [one.status().as_u16(), two.status().as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 401]);
}

#[tokio::test]
async fn a_form_refreshes_too_and_the_client_is_checked() {
    let bench = Bench::start().await;
    let post = |client: &'static str| {
        let fields =
            [("grant_type", "refresh_token"), ("client_id", client), ("refresh_token", &bench.login.refresh_token)];
        bench.client.post(bench.url("/oauth/token")).form(&fields).send()
    };
    assert_eq!(code(post("app_other").await.unwrap()).await, (401, "invalid_client".into()));
    assert_eq!(post(CLIENT_ID).await.unwrap().status(), 200);
    assert_eq!(bench.sim.state().token_requests()[1].encoding, "form");
    bench.sim.state().expire_refresh_tokens(ACCOUNT);
    let fresh = bench.sim.state().seed_login(codex_sim::SeedLogin::account(ACCOUNT));
    bench.sim.state().expire_refresh_tokens(ACCOUNT);
    assert_eq!(code(refresh(&bench, &fresh.refresh_token).await).await, (401, "refresh_token_expired".into()));
}

#[tokio::test]
async fn faults_of_the_token_endpoint() {
    let bench = Bench::start().await;
    let state = bench.sim.state();
    let set = |scenario: &str| state.set_token_scenario(ACCOUNT, Some(scenario.parse::<TokenScenario>().unwrap()));
    let token = bench.login.refresh_token.as_str();

    // None of these spends the token.
    for (scenario, status) in [("challenge", 403), ("rate_limit:2", 429), ("server_error", 500), ("html_ok", 200)] {
        set(scenario);
        assert_eq!(refresh(&bench, token).await.status(), status, "{scenario}");
    }
    for (scenario, wanted) in [("expired", "refresh_token_expired"), ("invalid_grant", "invalid_grant")] {
        set(scenario);
        assert_eq!(code(refresh(&bench, token).await).await.1, wanted);
    }
    set("stall");
    assert!(timeout(Duration::from_millis(200), refresh(&bench, token)).await.is_err());
    set("omit_refresh_token");
    let kept: Value = refresh(&bench, token).await.json().await.unwrap();
    assert!(kept["refresh_token"].is_null() && kept["access_token"].is_string());
    set("omit_id_token");
    let rotated: Value = refresh(&bench, token).await.json().await.unwrap();
    assert!(rotated["id_token"].is_null());

    // Spent, and the answer is lost.
    set("drop_answer");
    let request =
        json!({ "client_id": CLIENT_ID, "grant_type": "refresh_token", "refresh_token": rotated["refresh_token"] });
    assert!(bench.client.post(bench.url("/oauth/token")).json(&request).send().await.is_err());
    state.set_token_scenario(ACCOUNT, None);
    let reused = refresh(&bench, rotated["refresh_token"].as_str().unwrap()).await;
    assert_eq!(code(reused).await, (401, "refresh_token_reused".into()));
}

#[tokio::test]
async fn a_device_login_from_code_to_call() {
    let bench = Bench::start().await;
    let post = |path: &str, body: Value| bench.client.post(bench.url(path)).json(&body).send();
    let begun = post(&format!("{DEVICE}/usercode"), json!({ "client_id": CLIENT_ID })).await.unwrap();
    let begun: Value = begun.json().await.unwrap();
    assert_eq!(begun["interval"], "5");
    let poll = || {
        post(
            "/api/accounts/deviceauth/token",
            json!({ "device_auth_id": begun["device_auth_id"], "user_code": begun["user_code"] }),
        )
    };
    let pending = poll().await.unwrap();
    assert_eq!(code(pending).await, (403, "deviceauth_authorization_unknown".into()));
    bench.sim.state().approve_device(begun["user_code"].as_str().unwrap()).unwrap();
    let granted: Value = poll().await.unwrap().json().await.unwrap();

    let exchange = |redirect: String, verifier: String, code: String| {
        let fields = [
            ("grant_type", "authorization_code".to_owned()),
            ("client_id", CLIENT_ID.to_owned()),
            ("code", code),
            ("redirect_uri", redirect),
            ("code_verifier", verifier),
        ];
        bench.client.post(bench.url("/oauth/token")).form(&fields).send()
    };
    let real = "https://auth.openai.com/deviceauth/callback".to_owned();
    let tokens = exchange(real.clone(), text(&granted["code_verifier"]), text(&granted["authorization_code"])).await;
    let tokens: Value = tokens.unwrap().json().await.unwrap();
    assert!(tokens["expires_in"].as_i64().unwrap() > 800_000);
    let again = exchange(real, text(&granted["code_verifier"]), text(&granted["authorization_code"])).await.unwrap();
    assert_eq!(code(again).await, (400, "invalid_grant".into()));

    let account = SimConfig::default().default_account.account_id;
    let request = bench.client.post(bench.url(crate::support::RESPONSES)).bearer_auth(text(&tokens["access_token"]));
    let response = request.header("chatgpt-account-id", account).json(&body("hi")).send().await.unwrap();
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn a_device_login_may_be_automatic_off_or_wrong() {
    let config = SimConfig { device_auto_approve_after: Some(2), device_pending_status: 404, ..SimConfig::default() };
    let bench = Bench::with(config).await;
    let post = |path: String, body: Value| bench.client.post(bench.url(&path)).json(&body).send();
    let mut codes = Vec::new();
    for _ in 0..2 {
        let begun = post(format!("{DEVICE}/usercode"), json!({ "client_id": CLIENT_ID })).await.unwrap();
        let begun: Value = begun.json().await.unwrap();
        let poll = json!({ "device_auth_id": begun["device_auth_id"], "user_code": begun["user_code"] });
        assert_eq!(post(format!("{DEVICE}/token"), poll.clone()).await.unwrap().status(), 404);
        codes.push(post(format!("{DEVICE}/token"), poll).await.unwrap().json::<Value>().await.unwrap());
    }
    let own = format!("{}/deviceauth/callback", bench.sim.base_url());
    for (index, (redirect, verifier)) in
        [("https://evil.example/deviceauth/callback", text(&codes[0]["code_verifier"])), (&own, "wrong".to_owned())]
            .into_iter()
            .enumerate()
    {
        let fields = [
            ("grant_type", "authorization_code"),
            ("client_id", CLIENT_ID),
            ("code", codes[index]["authorization_code"].as_str().unwrap()),
            ("redirect_uri", redirect),
            ("code_verifier", &verifier),
        ];
        let response = bench.client.post(bench.url("/oauth/token")).form(&fields).send().await.unwrap();
        assert_eq!(code(response).await, (400, "invalid_grant".into()));
    }

    let off = Bench::with(SimConfig { device_login_enabled: false, ..SimConfig::default() }).await;
    let request = off.client.post(off.url(&format!("{DEVICE}/usercode"))).json(&json!({ "client_id": CLIENT_ID }));
    assert_eq!(request.send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn a_browser_login_with_pkce() {
    let bench = Bench::start().await;
    let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let authorize = |scope: &str| {
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("response_type", "code")
            .append_pair("client_id", CLIENT_ID)
            .append_pair("redirect_uri", "http://localhost:1455/auth/callback")
            .append_pair("code_challenge", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM")
            .append_pair("code_challenge_method", "S256")
            .append_pair("state", "s-1")
            .append_pair("scope", scope)
            .finish();
        bench.client.get(bench.url(&format!("/oauth/authorize?{query}"))).send()
    };
    let refused = authorize("model.request").await.unwrap();
    assert!(refused.headers()["location"].to_str().unwrap().contains("error=invalid_scope"));
    let granted = authorize("openid profile email offline_access").await.unwrap();
    let location = granted.headers()["location"].to_str().unwrap().to_owned();
    let query = location.strip_prefix("http://localhost:1455/auth/callback?").unwrap();
    let code: String =
        form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "code").unwrap().1.into_owned();
    assert!(query.ends_with("state=s-1"));
    let fields = [
        ("grant_type", "authorization_code"),
        ("client_id", CLIENT_ID),
        ("code", &code),
        ("redirect_uri", "http://localhost:1455/auth/callback"),
        ("code_verifier", verifier),
    ];
    let tokens = bench.client.post(bench.url("/oauth/token")).form(&fields).send().await.unwrap();
    assert_eq!(tokens.status(), 200);
}

#[tokio::test]
async fn logout_ends_the_login() {
    let bench = Bench::start().await;
    let request =
        json!({ "token": bench.login.refresh_token, "token_type_hint": "refresh_token", "client_id": CLIENT_ID });
    assert_eq!(bench.client.post(bench.url("/oauth/revoke")).json(&request).send().await.unwrap().status(), 200);
    assert_eq!(bench.ask("hi").await.unwrap().status(), 401);
    assert_eq!(code(refresh(&bench, &bench.login.refresh_token).await).await.1, "refresh_token_invalidated");
}

#[tokio::test]
async fn tokens_from_elsewhere_and_from_an_earlier_run() {
    let mut bench = Bench::start().await;
    let tokens = AdoptTokens {
        account_id: Some(ACCOUNT.into()),
        access_token: Some("opaque-access".into()),
        refresh_token: Some("rt-fake-1".into()),
        ..AdoptTokens::default()
    };
    bench.sim.state().adopt_tokens(tokens).unwrap();
    let earlier = std::mem::replace(&mut bench.login.access_token, "opaque-access".into());
    assert_eq!(bench.ask("hi").await.unwrap().status(), 200);
    assert_eq!(refresh(&bench, "rt-fake-1").await.status(), 200);

    let mut later = Bench::with(SimConfig { adopt_own_tokens: true, ..SimConfig::default() }).await;
    assert_eq!(refresh(&later, &bench.login.refresh_token).await.status(), 200);
    assert_eq!(code(refresh(&later, &bench.login.refresh_token).await).await.1, "refresh_token_reused");
    later.login.access_token = earlier;
    assert_eq!(later.ask("hi").await.unwrap().status(), 200);
}
