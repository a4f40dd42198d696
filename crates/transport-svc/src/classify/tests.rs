//! Every upstream fixture, and the cases between them.

use http::{HeaderName, HeaderValue};
use serde_json::Value;

use super::*;

const NOW: i64 = 1_790_000_000;

fn target(id: &str, base_url: &str) -> Target {
    Target::new(id, &config::Target { base_url: base_url.into(), ..Default::default() }).expect("good")
}

fn codex() -> Target {
    target("chatgpt-codex", "https://chatgpt.com/backend-api/codex")
}

/// Status, headers and body as the fixtures write them.
fn judge_json(target: &Target, case: &Value) -> Failure {
    let mut headers = HeaderMap::new();
    for (name, value) in case["headers"].as_object().into_iter().flatten() {
        let name = HeaderName::try_from(name.as_str()).expect("a name");
        headers.insert(name, HeaderValue::from_str(value.as_str().expect("text")).expect("a value"));
    }
    let body = case["body_html"].as_str().map(str::to_owned).unwrap_or_else(|| case["body"].to_string());
    let status = u16::try_from(case["status"].as_u64().expect("a status")).expect("a status");
    refused(&Answer {
        target,
        endpoint: &target.responses,
        status,
        headers: &headers,
        body: body.as_bytes(),
        now_s: NOW,
    })
    .failure
}

fn judge(target: &Target, status: u16, body: &str) -> Failure {
    let case = if body.starts_with('<') {
        serde_json::json!({ "status": status, "body_html": body })
    } else {
        serde_json::json!({ "status": status, "body": serde_json::from_str::<Value>(body).expect("JSON") })
    };
    judge_json(target, &case)
}

fn fixtures() -> Value {
    let read = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
    let mut all = read(include_str!("../../tests/fixtures/upstream/http_errors.json"));
    let more = read(include_str!("../../tests/fixtures/upstream/http_more.json"));
    for (name, case) in more.as_object().expect("an object") {
        all[name] = case.clone();
    }
    all
}

#[test]
fn every_fixture_has_its_reason() {
    let fixtures = fixtures();
    let expected = [
        ("usage_limit_429", Reason::UsageLimit),
        ("usage_not_included_429", Reason::NotEntitled),
        ("short_rate_limit_429", Reason::RateLimited),
        ("overloaded_503", Reason::UpstreamOverloaded),
        ("unauthorized_401", Reason::CredentialRejected),
        ("cloudflare_challenge_403", Reason::EdgeChallenge),
        ("cloudflare_block_403", Reason::EdgeBlocked),
        ("store_not_false_400", Reason::RequestRejected),
        ("unsupported_parameter_400", Reason::RequestRejected),
        ("model_not_for_account_400", Reason::NotEntitled),
        ("client_too_old_400", Reason::ClientOutdated),
        ("origin_error_520", Reason::UpstreamError),
        ("encrypted_content_400", Reason::RequestRejected),
        ("api_key_quota_429", Reason::UsageLimit),
    ];
    for (name, reason) in expected {
        let failure = judge_json(&codex(), &fixtures[name]);
        assert_eq!(failure.reason, reason, "{name}: {}", failure.message);
        assert_eq!(failure.service, service::UPSTREAM);
        assert_eq!(failure.upstream_status.map(u64::from), fixtures[name]["status"].as_u64(), "{name}");
    }
    // The page of the wrong path, for the path that it was recorded on.
    let wrong = target("chatgpt-codex", "https://chatgpt.com/backend-api");
    assert_eq!(judge_json(&wrong, &fixtures["wrong_path_403"]).reason, Reason::WrongEndpoint);
    // The rest are answers of the identity provider and successes.
    let judged: Vec<&str> = expected.iter().map(|(name, _)| *name).collect();
    for (name, case) in fixtures.as_object().expect("an object") {
        let other = name == "wrong_path_403" || case["status"] == 200 || case["request_path"].is_string();
        assert!(judged.contains(&name.as_str()) || other || name == "refresh_reused_401", "{name} is not judged");
    }
}

#[test]
fn failures_carry_what_clients_need() {
    let fixtures = fixtures();
    let limit = judge_json(&codex(), &fixtures["usage_limit_429"]);
    assert_eq!((limit.plan_type.as_deref(), limit.resets_at), (Some("plus"), Some(NOW + 7200)));
    assert_eq!(limit.retry_after_seconds, Some(7200.0));
    assert!(limit.message.contains("plus plan") && limit.message.contains("5 h"), "{}", limit.message);
    assert!(limit.message.contains("The usage limit has been reached"), "{}", limit.message);
    let rate = judge_json(&codex(), &fixtures["short_rate_limit_429"]);
    assert_eq!((rate.retry_after_seconds, rate.upstream_request_id.as_deref()), (Some(1.0), Some("req_429")));
    let challenge = judge_json(&codex(), &fixtures["cloudflare_challenge_403"]);
    assert_eq!(challenge.ray_id.as_deref(), Some("8f00dead0001-FRA"));
    assert!(challenge.message.contains("8f00dead0001-FRA"), "{}", challenge.message);
    let outdated = judge_json(&codex(), &fixtures["client_too_old_400"]);
    assert!(outdated.next_step.contains("[targets.chatgpt-codex] version"), "{}", outdated.next_step);
    assert!(outdated.message.contains("gpt-5.6-sol"), "{}", outdated.message);
    let rejected = judge_json(&codex(), &fixtures["unsupported_parameter_400"]);
    assert!(rejected.message.contains("Unsupported parameter: metadata"), "{}", rejected.message);
    assert_eq!(rejected.param.as_deref(), Some("metadata"), "where OpenAI's shape would have it");
    let encrypted = judge_json(&codex(), &fixtures["encrypted_content_400"]);
    assert!(encrypted.message.contains("invalid_encrypted_content"), "{}", encrypted.message);
}

#[test]
fn the_wrong_path_comes_first_whatever_the_answer_says() {
    let wrong = target("chatgpt-codex", "http://127.0.0.1:9/backend-api");
    for (status, body) in [
        (403, "<title>Just a moment...</title>"),
        (401, r#"{"error":{"message":"Please sign in again.","code":"token_expired"}}"#),
        (429, r#"{"error":{"type":"usage_limit_reached"}}"#),
        (404, r#"{"detail":"Not Found"}"#),
        (307, "{}"),
        (502, "<h1>Bad gateway</h1>"),
        (200, "<h1>hello</h1>"),
    ] {
        let failure = judge(&wrong, status, body);
        assert_eq!(failure.reason, Reason::WrongEndpoint, "{status} {body}");
        assert!(failure.message.contains("http://127.0.0.1:9/backend-api/responses"), "{}", failure.message);
        assert!(failure.message.contains("http://127.0.0.1:9/backend-api/codex"), "{}", failure.message);
        assert!(failure.message.contains("https://chatgpt.com/backend-api/codex"), "{}", failure.message);
        tells_nobody_to_log_in(&failure);
    }
}

/// Words by which people were sent to log in again although the login was fine.
fn tells_nobody_to_log_in(failure: &Failure) {
    let text = format!("{} {}", failure.message, failure.next_step).to_lowercase();
    for words in ["log in", "login codex", "sign in", "signing in", "authenticat", "re-auth", "token"] {
        assert!(!text.contains(words), "{words}: {text}");
    }
}

#[test]
fn the_edge_is_never_taken_for_the_service() {
    let codex = codex();
    for (status, body, reason) in [
        (403, "<title>Just a moment...</title>", Reason::EdgeChallenge),
        (503, "<title>Just a moment...</title>", Reason::EdgeChallenge),
        (403, "<html><script src='/cdn-cgi/challenge-platform/x'></script>", Reason::EdgeChallenge),
        (403, "<title>Attention Required! | Cloudflare</title>", Reason::EdgeBlocked),
        (403, "<h1>Sorry, you have been blocked</h1><script src='/cdn-cgi/challenge-platform/x'>", Reason::EdgeBlocked),
        (403, "<h1>Forbidden</h1>", Reason::EdgeBlocked),
        (403, r#"{"error":{"code":"unsupported_country_region_territory"}}"#, Reason::EdgeBlocked),
    ] {
        let failure = judge(&codex, status, body);
        assert_eq!(failure.reason, reason, "{status} {body}");
        tells_nobody_to_log_in(&failure);
    }
    let page = "<title>520</title><script src='/cdn-cgi/challenge-platform/x'></script>";
    for status in [500, 502, 520, 521, 522, 523, 524, 525, 526] {
        assert_eq!(judge(&codex, status, page).reason, Reason::UpstreamError, "{status}");
    }
}

#[test]
fn the_services_own_word_by_status() {
    let codex = codex();
    for (status, body, reason) in [
        (400, r#"{"error":{"code":"context_length_exceeded"}}"#, Reason::ContextTooLong),
        (
            400,
            r#"{"error":{"message":"Your input exceeds the context window of this model."}}"#,
            Reason::ContextTooLong,
        ),
        (400, r#"{"error":{"code":"cyber_policy","message":"no"}}"#, Reason::PolicyRefused),
        (401, "<h1>who?</h1>", Reason::UpstreamError),
        (402, r#"{"detail":{"code":"deactivated_workspace"}}"#, Reason::NotEntitled),
        (403, r#"{"error":{"message":"no Codex for you"}}"#, Reason::NotEntitled),
        (404, r#"{"error":{"code":"model_not_found"}}"#, Reason::RequestRejected),
        (404, r#"{"detail":"Not Found"}"#, Reason::WrongEndpoint),
        (404, "<h1>Not Found</h1>", Reason::WrongEndpoint),
        (408, "{}", Reason::UpstreamTimeout),
        (413, "{}", Reason::RequestTooLarge),
        (422, r#"{"detail":[{"msg":"field required"}]}"#, Reason::RequestRejected),
        (429, "<h1>You are being rate limited</h1>", Reason::RateLimited),
        (429, r#"{"error":{"code":"rate_limit_exceeded","message":"try again in 1.5s"}}"#, Reason::RateLimited),
        (500, r#"{"error":{"code":"usage_limit_reached"}}"#, Reason::UpstreamError),
        (503, r#"{"error":{"code":"slow_down"}}"#, Reason::UpstreamOverloaded),
        (503, r#"{"error":{"message":"maintenance"}}"#, Reason::UpstreamError),
        (307, "{}", Reason::WrongEndpoint),
        (200, "<h1>captive portal</h1>", Reason::UpstreamError),
        (200, r#"{"error":{"code":"context_length_exceeded"}}"#, Reason::ContextTooLong),
    ] {
        let failure = judge(&codex, status, body);
        assert_eq!(failure.reason, reason, "{status} {body}: {}", failure.message);
        if reason == Reason::WrongEndpoint {
            tells_nobody_to_log_in(&failure);
        }
    }
}

#[test]
fn a_server_of_the_users_own_is_judged_by_what_it_is() {
    let custom = target("local", "http://127.0.0.1:8080/api");
    for (status, body, reason) in [
        (404, r#"{"detail":"Not Found"}"#, Reason::WrongEndpoint),
        (404, "<h1>Not Found</h1>", Reason::WrongEndpoint),
        (405, "{}", Reason::WrongEndpoint),
        (200, "<h1>hello</h1>", Reason::WrongEndpoint),
        (403, "<title>Just a moment...</title>", Reason::WrongEndpoint),
        (404, r#"{"message":"The model `x` does not exist.","type":"NotFoundError"}"#, Reason::RequestRejected),
        (401, r#"{"error":"no key"}"#, Reason::CredentialRejected),
        (502, "<h1>Bad Gateway</h1>", Reason::UpstreamError),
        (200, r#"{"id":"resp_1"}"#, Reason::UpstreamError),
    ] {
        let failure = judge(&custom, status, body);
        assert_eq!(failure.reason, reason, "{status} {body}");
        if reason == Reason::WrongEndpoint {
            assert!(failure.next_step.contains("[targets.local] base_url"), "{}", failure.next_step);
            tells_nobody_to_log_in(&failure);
        }
    }
    assert!(!judge(&custom, 401, r#"{"error":"no key"}"#).next_step.contains("login codex"));
}

#[test]
fn the_error_header_completes_a_body_without_a_code() {
    // {"error":{"code":"token_expired"}}
    let encoded = "eyJlcnJvciI6eyJjb2RlIjoidG9rZW5fZXhwaXJlZCJ9fQ==";
    let case = serde_json::json!({ "status": 401, "headers": { "x-error-json": encoded }, "body_html": "" });
    let failure = judge_json(&codex(), &case);
    assert_eq!(failure.reason, Reason::CredentialRejected);
    assert!(failure.message.contains("token_expired"), "{}", failure.message);
}

#[test]
fn long_texts_are_cut_and_stay_on_one_line() {
    let text = format!("{}\n{}", "a".repeat(200), "\u{1f600}".repeat(400));
    let body = serde_json::json!({ "detail": text }).to_string();
    let failure = judge(&codex(), 400, &body);
    assert!(failure.message.chars().count() < 420 && !failure.message.contains('\n'), "{}", failure.message);
}

#[test]
fn stream_failures_have_the_same_reasons() {
    for (code, message, reason) in [
        ("context_length_exceeded", "x", Reason::ContextTooLong),
        ("insufficient_quota", "x", Reason::UsageLimit),
        ("usage_not_included", "x", Reason::NotEntitled),
        ("cyber_policy", "x", Reason::PolicyRefused),
        ("misalignment_policy_violation", "x", Reason::PolicyRefused),
        ("bio_policy", "x", Reason::PolicyRefused),
        ("invalid_prompt", "x", Reason::RequestRejected),
        ("server_is_overloaded", "x", Reason::UpstreamOverloaded),
        ("slow_down", "x", Reason::UpstreamOverloaded),
        ("rate_limit_exceeded", "Please try again in 1.5s.", Reason::RateLimited),
        ("server_error", "x", Reason::UpstreamError),
    ] {
        let error = UpstreamError::of_value(&serde_json::json!({ "code": code, "message": message }));
        let failure = failed_event(&error, 200, &HeaderMap::new(), NOW);
        assert_eq!(failure.reason, reason, "{code}");
        assert!(failure.message.contains(code), "{}", failure.message);
        if reason == Reason::RateLimited {
            assert_eq!(failure.retry_after_seconds, Some(1.5));
        }
    }
}

#[test]
fn refused_reasoning_is_known_in_every_shape() {
    let target = codex();
    let refuses = |status: u16, body: &str, header: Option<&str>| {
        let mut headers = HeaderMap::new();
        if let Some(value) = header {
            headers.insert("x-error-json", HeaderValue::from_str(value).expect("a value"));
        }
        let endpoint = &target.responses;
        refused(&Answer { target: &target, endpoint, status, headers: &headers, body: body.as_bytes(), now_s: NOW })
            .reasoning
    };
    for body in [
        r#"{"error":{"type":"invalid_request_error","code":"invalid_encrypted_content","message":"x"}}"#,
        r#"{"error":{"type":"invalid_encrypted_content"}}"#,
        r#"{"error":"invalid_encrypted_content"}"#,
        r#"{"code":"invalid_encrypted_content"}"#,
        r#"{"detail":{"code":"invalid_encrypted_content"}}"#,
        r#"{"detail":"The encrypted content gAAA... could not be verified."}"#,
    ] {
        assert!(refuses(400, body, None), "{body}");
    }
    let encoded = "eyJlcnJvciI6eyJjb2RlIjoiaW52YWxpZF9lbmNyeXB0ZWRfY29udGVudCJ9fQ==";
    assert!(refuses(400, "{}", Some(encoded)));
    for body in [
        r#"{"error":{"code":"context_length_exceeded","message":"invalid_encrypted_content"}}"#,
        r#"{"detail":"include: reasoning.encrypted_content is required"}"#,
        "{}",
    ] {
        assert!(!refuses(400, body, None), "{body}");
    }
    assert!(!refuses(401, r#"{"error":{"code":"invalid_encrypted_content"}}"#, None), "about the credential");
}
