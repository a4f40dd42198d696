//! What is gathered and told to auth-svc, the usage requests it wants made, and reasoning that another account cannot
//! read.

use std::sync::atomic::Ordering;

use domain::{Failure, Reason, service};
use proto::auth::v1::{ClaimProbesResponse, CredentialUsage, KeyUsage, ReportUsageRequest, UsageProbe};
use proto::common::v1::QuotaWindow;
use proto::transport::v1::{FetchUsageResponse, Outcome, SealedCredential, Sent};
use serde_json::json;
use service_kit::failure_to_proto;

use crate::fakes::{Credential, OTHER_KEY};
use crate::script::{FULL, Step, answers, failed, refuses, success};
use crate::world::{World, body, eventually, outcomes};

fn window(limit: &str, seconds: i32, used: f64) -> QuotaWindow {
    QuotaWindow { limit: limit.into(), window_seconds: seconds, used_percent: used, ..QuotaWindow::default() }
}

/// Every report so far whose tokens or windows are of calls.
fn told(world: &World) -> Vec<ReportUsageRequest> {
    let mut told = world.auth.usage.lock().unwrap().clone();
    told.retain(|report| report.credentials.iter().all(|c| !c.probe));
    told
}

fn credentials(reports: &[ReportUsageRequest]) -> Vec<CredentialUsage> {
    reports.iter().flat_map(|report| report.credentials.clone()).collect()
}

fn keys(reports: &[ReportUsageRequest]) -> Vec<KeyUsage> {
    reports.iter().flat_map(|report| report.keys.clone()).collect()
}

#[tokio::test]
async fn quotas_and_tokens_are_told_in_batches_off_the_calls_path() {
    let world = World::new(vec![]).await;
    *world.transport.quota.lock().unwrap() = vec![window("codex", 18_000, 42.0)];
    for _ in 0..3 {
        assert_eq!(world.post(false).await.status(), 200);
    }
    let question = proto::gateway::v1::CompleteRequest { message: "Hello".into(), ..Default::default() };
    world.agent_with(OTHER_KEY).await.complete(question).await.unwrap();
    world.gateway.shutdown().await;
    let reports = told(&world);
    assert!(reports.len() <= 2, "four calls within seconds are no four reports: {reports:?}");
    let usage = credentials(&reports).pop().unwrap();
    assert_eq!((usage.credential_id.as_str(), usage.plan.as_deref()), ("main", Some("plus")));
    assert_eq!(usage.windows, [window("codex", 18_000, 42.0)]);
    assert!(!usage.probe && usage.allowed.is_none() && usage.observed_at > 1.7e9);
    let of = |id: &str| keys(&reports).iter().filter(|k| k.key_id == id).map(|k| k.tokens).sum::<f64>();
    assert_eq!((of("key-main"), of("key-other")), (54.0, 18.0), "11 in and 7 out a call");
}

#[tokio::test]
async fn a_batch_keeps_its_id_until_it_is_heard() {
    let world = World::new(vec![]).await;
    world.auth.usage_deaf.store(1, Ordering::SeqCst);
    assert_eq!(world.post(false).await.status(), 200);
    eventually(|| !told(&world).is_empty()).await;
    assert_eq!(world.post(false).await.status(), 200);
    world.gateway.shutdown().await;
    let reports = told(&world);
    assert_eq!(reports.len(), 3, "{reports:?}");
    assert_eq!(reports[0], reports[1], "the very same again");
    assert_ne!(reports[1].batch_id, reports[2].batch_id);
    assert_eq!(keys(&reports[1..]).iter().map(|k| k.tokens).sum::<f64>(), 36.0);
    assert!(uuid::Uuid::parse_str(&reports[0].batch_id).is_ok());
}

#[tokio::test]
async fn an_auth_svc_that_knows_nothing_of_usage_is_left_alone() {
    let world = World::new(vec![]).await;
    world.auth.old.store(true, Ordering::SeqCst);
    eventually(|| world.auth.claims.load(Ordering::SeqCst) > 0).await;
    assert_eq!(world.post(false).await.status(), 200);
    eventually(|| !told(&world).is_empty()).await;
    assert_eq!(world.post(false).await.status(), 200);
    tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
    assert_eq!((world.auth.claims.load(Ordering::SeqCst), told(&world).len()), (1, 1));
}

#[tokio::test]
async fn the_window_that_is_used_up_is_reported_with_the_limit() {
    let exhausted = Outcome {
        quota: vec![window("codex", 604_800, 100.0)],
        exhausted: Some(window("codex", 604_800, 100.0)),
        ..failed(Reason::UsageLimit, Some(429), Sent::Sent)
    };
    let two = vec![Credential::new("main", "openai-codex"), Credential::new("second", "openai-codex")];
    let unknown = Outcome { exhausted: Some(window("codex", 0, 100.0)), ..exhausted.clone() };
    let scripts = [exhausted, unknown].map(|outcome| vec![Step::Outcome(Box::new(outcome))]);
    let world = World::with(two, scripts.to_vec()).await;
    assert_eq!(world.post(true).await.status(), 429);
    assert_eq!(world.reports(2).await, ["USAGE_LIMIT", "USAGE_LIMIT"]);
    let told: Vec<_> = world.auth.reports.lock().unwrap().iter().map(|r| (r.limit.clone(), r.window_seconds)).collect();
    assert_eq!(told, [(Some("codex".to_owned()), Some(604_800)), (Some("codex".to_owned()), None)]);
    world.gateway.shutdown().await;
    let mut seen: Vec<String> = credentials(&self::told(&world)).into_iter().map(|c| c.credential_id).collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen, ["main", "second"], "a refusal's headers tell the quota too");
}

fn due(label: &str) -> UsageProbe {
    UsageProbe {
        credential_id: format!("id-{label}"),
        credential: label.into(),
        target: "chatgpt-codex".into(),
        call_id: format!("probe-{label}"),
        sealed: Some(SealedCredential { credential_id: format!("id-{label}"), ..SealedCredential::default() }),
        egress: None,
        provider_egress: None,
    }
}

#[tokio::test]
async fn usage_requests_that_are_due_are_made_and_reported_at_once() {
    let world = World::new(vec![]).await;
    let challenge = Failure::new(Reason::EdgeChallenge, service::UPSTREAM, "a challenge");
    let refused = Outcome { failure: Some(failure_to_proto(&challenge)), status: Some(403), ..success() };
    world.transport.usage.lock().unwrap().extend([
        FetchUsageResponse {
            outcome: Some(success()),
            windows: vec![window("codex", 18_000, 3.0)],
            plan: Some("pro".into()),
            allowed: Some(true),
        },
        FetchUsageResponse { outcome: Some(refused), ..FetchUsageResponse::default() },
    ]);
    world
        .auth
        .due
        .lock()
        .unwrap()
        .extend(["a", "b"].map(|label| ClaimProbesResponse { probes: vec![due(label)], ..Default::default() }));
    eventually(|| world.auth.usage.lock().unwrap().len() >= 2).await;
    let asked = world.transport.asked.lock().unwrap().clone();
    let told: Vec<_> = asked.iter().map(|a| (a.call_id.as_str(), a.target.as_str())).collect();
    assert_eq!(told, [("probe-a", "chatgpt-codex"), ("probe-b", "chatgpt-codex")]);
    assert_eq!(
        asked[0].credential.as_ref().unwrap().credential_id,
        "id-a",
        "the sealed credential goes through as it came"
    );
    let reports = world.auth.usage.lock().unwrap().clone();
    let [good, bad] = [&reports[0].credentials[0], &reports[1].credentials[0]];
    assert_eq!((good.credential_id.as_str(), good.probe, good.allowed), ("id-a", true, Some(true)));
    assert_eq!((good.windows.len(), good.plan.as_deref(), &good.failure), (1, Some("pro"), &None));
    assert_eq!(bad.failure.as_ref().map(|f| f.reason.as_str()), Some("EDGE_CHALLENGE"));
    assert!(bad.probe && bad.allowed.is_none());
    assert!(world.auth.reports.lock().unwrap().is_empty(), "no outcome of a call, and nothing that rests a credential");
    let calls = world.http("GET", "/v1/switchboard/calls/probe-a").send().await.unwrap();
    assert_eq!(calls.status(), 404, "it is no call and leaves no record");
}

fn unreadable() -> Vec<Step> {
    let outcome = Outcome { reasoning_refused: true, ..failed(Reason::RequestRejected, Some(400), Sent::Sent) };
    vec![Step::Outcome(Box::new(outcome))]
}

#[tokio::test]
async fn reasoning_of_another_account_is_left_out_once() {
    let world = World::new(vec![unreadable(), answers(FULL)]).await;
    let response = world.post(true).await;
    assert_eq!(response.status(), 200);
    let record = world.record_of(&response).await;
    let told = [("main", "failed", "REQUEST_REJECTED"), ("main", "success", "-")];
    let told: Vec<_> = told.iter().map(|(c, r, why)| ((*c).to_owned(), (*r).to_owned(), (*why).to_owned())).collect();
    assert_eq!(outcomes(&record), told);
    let dropped: Vec<bool> =
        world.transport.requests.lock().unwrap().iter().map(|r| r.drop_encrypted_reasoning).collect();
    assert_eq!(dropped, [false, true]);
    let binds = world.auth.binds.lock().unwrap().clone();
    assert!(binds.iter().all(|bind| bind.exclude.is_empty() && bind.rejected.is_none()), "the same credential again");
    assert!(world.auth.reports.lock().unwrap().is_empty());

    let again = World::new(vec![unreadable(), unreadable()]).await;
    assert_eq!(again.post(true).await.status(), 400);
    assert_eq!(again.attempts(), 2, "once a call");
}

#[tokio::test]
async fn once_left_out_it_stays_out() {
    let two = vec![Credential::new("main", "openai-codex"), Credential::new("second", "openai-codex")];
    let world = World::with(two, vec![unreadable(), refuses(Reason::RateLimited, 429)]).await;
    assert_eq!(world.post(true).await.status(), 200);
    let dropped: Vec<bool> =
        world.transport.requests.lock().unwrap().iter().map(|r| r.drop_encrypted_reasoning).collect();
    assert_eq!(dropped, [false, true, true]);
}

#[tokio::test]
async fn the_session_is_named_by_the_call_a_header_or_the_cache_key() {
    let world = World::new(vec![]).await;
    let mut keyed = body(true);
    keyed["prompt_cache_key"] = json!("from-key");
    let headers = [
        ("thread-id", "from-thread"),
        ("conversation_id", "from-conversation"),
        ("session_id", "from-session_id"),
        ("session-id", "from-session-id"),
    ];
    let mut expected = vec!["from-key".to_owned(), String::new()];
    world.http("POST", "/v1/responses").json(&keyed).send().await.unwrap();
    world.post(true).await;
    for (n, (_, value)) in headers.iter().enumerate() {
        let request =
            headers[..=n].iter().fold(world.http("POST", "/v1/responses"), |r, (name, value)| r.header(*name, *value));
        request.json(&keyed).send().await.unwrap();
        expected.push((*value).to_owned());
    }
    // Over gRPC `session` names it, else the cache key of the body.
    let mut agent = world.agent().await;
    let ask = |session: &str| proto::gateway::v1::CompleteRequest {
        session: session.into(),
        body_json: keyed.to_string(),
        ..Default::default()
    };
    agent.complete(ask("from-call")).await.unwrap();
    agent.complete(ask("")).await.unwrap();
    expected.extend(["from-call".to_owned(), "from-key".to_owned()]);
    let mut tagged = tonic::Request::new(ask(""));
    tagged.metadata_mut().insert("session-id", "from-metadata".parse().unwrap());
    agent.complete(tagged).await.unwrap();
    expected.push("from-metadata".to_owned());
    // A long one is told by its hash: it has to be the same each time, and no more.
    keyed["prompt_cache_key"] = json!("x".repeat(5000));
    for _ in 0..2 {
        world.http("POST", "/v1/responses").json(&keyed).send().await.unwrap();
    }
    let binds = world.auth.binds.lock().unwrap().clone();
    let mut sessions: Vec<String> = binds.into_iter().map(|b| b.wanted.unwrap().session).collect();
    let long = sessions.split_off(sessions.len() - 2);
    assert_eq!(sessions, expected);
    assert!(long[0] == long[1] && long[0].len() == 64, "{long:?}");
}
