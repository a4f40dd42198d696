//! Logins with a pasted redirect, and API keys.

use codex_sim::SimConfig;
use domain::{Failure, Reason};
use proto::auth::v1 as pb;
use reqwest::Url;
use reqwest::redirect::Policy;
use service_kit::failure_from_status;

use crate::support::{Peer, Rig};

async fn start(peer: &Peer, label: Option<&str>) -> pb::StartLoginResponse {
    let request = pb::StartLoginRequest {
        provider: "openai-codex".into(),
        label: label.map(str::to_owned),
        method: pb::LoginMethod::Paste.into(),
        egress: None,
    };
    peer.logins().start_login(request).await.expect("started").into_inner()
}

/// Signs in at `url` and gives the address at which the browser ends.
async fn browse(url: &str) -> String {
    let browser = reqwest::Client::builder().redirect(Policy::none()).no_proxy().build().expect("a client");
    let answer = browser.get(url).send().await.expect("answered");
    answer.headers()["location"].to_str().expect("text").to_owned()
}

async fn complete(peer: &Peer, login_id: &str, pasted: &str) -> Result<pb::CompleteLoginResponse, Failure> {
    let request = pb::CompleteLoginRequest { login_id: login_id.into(), pasted: pasted.into() };
    let answer = peer.logins().complete_login(request).await;
    answer.map(tonic::Response::into_inner).map_err(|status| failure_from_status(&status, "auth-svc"))
}

fn field(url: &str, name: &str) -> String {
    let url = Url::parse(url).expect("a URL");
    let found = url.query_pairs().find(|(field, _)| field == name).map(|(_, value)| value.into_owned());
    found.unwrap_or_else(|| panic!("{url} has no {name}"))
}

#[tokio::test]
async fn every_form_of_the_redirect_is_exchanged() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    for (form, label) in ["url", "code#state", "query", "code"].iter().zip([Some("first"), None, Some("x"), None]) {
        let login = start(&peer, label).await;
        assert_eq!(login.user_code, "");
        let url = &login.verification_url;
        assert!(url.starts_with(&format!("{}/oauth/authorize?", rig.sim.base_url())), "{url}");
        assert_eq!(field(url, "redirect_uri"), "http://localhost:1455/auth/callback");
        assert_eq!(
            (field(url, "code_challenge_method"), field(url, "originator")),
            ("S256".into(), "switchboard".into())
        );
        assert!(field(url, "scope").contains("offline_access"));
        let redirect = browse(url).await;
        let (code, state) = (field(&redirect, "code"), field(&redirect, "state"));
        let pasted = match *form {
            "url" => redirect,
            "code#state" => format!("{code}#{state}"),
            "query" => format!("code={code}&state={state}"),
            _ => code,
        };
        let done = complete(&peer, &login.login_id, &pasted).await.expect(form);
        assert_eq!((done.credential.as_str(), done.email.as_deref()), ("first", Some("sim@example.com")), "{form}");
        assert_eq!(complete(&peer, &login.login_id, &pasted).await.expect_err("over").reason, Reason::NotFound);
    }
    let kept = peer.list().await;
    assert_eq!((kept.len(), kept[0].version, kept[0].source.as_str()), (1, 4, "login"), "one account, one credential");
    assert_eq!(peer.bound().await.credential, "first");
    assert_eq!(peer.acts("login.complete").await.len(), 4);
    let requests = rig.sim.state().token_requests();
    assert!(requests.iter().all(|request| request.encoding == "form" && request.outcome == "ok"), "{requests:?}");
}

#[tokio::test]
async fn a_wrong_paste_is_refused_and_the_login_goes_on() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    let login = start(&peer, None).await;
    let mut steps = peer
        .logins()
        .watch_login(pb::WatchLoginRequest { login_id: login.login_id.clone() })
        .await
        .expect("followed")
        .into_inner();
    assert_eq!(steps.message().await.expect("a step").expect("one").state, "pending");
    let again = peer.logins().watch_login(pb::WatchLoginRequest { login_id: login.login_id.clone() }).await;
    assert_eq!(failure_from_status(&again.expect_err("one watches"), "auth-svc").reason, Reason::NotFound);

    let redirect = browse(&login.verification_url).await;
    let code = field(&redirect, "code");
    for (pasted, reason, says) in [
        (format!("{code}#other-state"), Reason::RequestInvalid, "another login"),
        (login.verification_url.clone(), Reason::RequestInvalid, "address to open"),
        ("".to_owned(), Reason::RequestInvalid, "empty"),
        ("ac_unknown".to_owned(), Reason::CredentialNeedsLogin, "invalid_grant"),
    ] {
        let failure = complete(&peer, &login.login_id, &pasted).await.expect_err("refused");
        assert_eq!(failure.reason, reason, "{failure}");
        assert!(failure.message.contains(says) && !failure.message.contains(&code), "{failure}");
    }
    // The provider's challenge is named, and spends nothing.
    rig.sim.state().set_token_scenario("*", Some("challenge".parse().expect("known")));
    let failure = complete(&peer, &login.login_id, &redirect).await.expect_err("challenged");
    assert_eq!(failure.reason, Reason::IdentityUnavailable);
    assert!(failure.message.contains("challenge page"), "{failure}");
    rig.sim.state().set_token_scenario("*", None);
    assert_eq!(complete(&peer, &login.login_id, &redirect).await.expect("taken").credential, "main");
    let mut last = pb::WatchLoginResponse::default();
    while let Some(step) = steps.message().await.expect("a step") {
        last = step;
    }
    assert_eq!((last.state.as_str(), last.credential.as_deref()), ("succeeded", Some("main")));
    let outcomes: Vec<String> = peer.acts("login.complete").await.into_iter().map(|entry| entry.2).collect();
    assert_eq!(outcomes.len(), 6, "{outcomes:?}");
    assert_eq!((outcomes[0].as_str(), outcomes[1].as_str()), ("ok", "IDENTITY_UNAVAILABLE"));
}

#[tokio::test]
async fn a_workspace_without_codex_is_named() {
    let scenario = Some("missing_entitlement".parse().expect("known"));
    let rig = Rig::with(SimConfig { token_scenario: scenario, ..SimConfig::default() }).await;
    let peer = rig.start().await;
    let login = start(&peer, None).await;
    let redirect = browse(&login.verification_url).await;
    let failure = complete(&peer, &login.login_id, &redirect).await.expect_err("refused");
    assert_eq!(failure.reason, Reason::NotEntitled);
    assert!(failure.message.contains("this workspace has no Codex"), "{failure}");
}

#[tokio::test]
async fn it_ends_with_its_watcher_or_with_its_time() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    let login = start(&peer, None).await;
    let request = pb::WatchLoginRequest { login_id: login.login_id.clone() };
    let mut steps = peer.logins().watch_login(request).await.expect("followed").into_inner();
    steps.message().await.expect("a step");
    drop(steps);
    let redirect = browse(&login.verification_url).await;
    // The server hears of it when it next looks.
    let mut gone = false;
    for _ in 0..600 {
        let pasted = format!("{}#wrong", field(&redirect, "code"));
        gone = complete(&peer, &login.login_id, &pasted).await.expect_err("refused").reason == Reason::NotFound;
        if gone {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(gone && peer.list().await.is_empty());
    assert_eq!(peer.acts("login.end").await, [("login.end".into(), "".into(), "cancelled".into())]);

    let login = start(&peer, None).await;
    let redirect = browse(&login.verification_url).await;
    rig.clock.advance_ms(15 * 60_000);
    let failure = complete(&peer, &login.login_id, &redirect).await.expect_err("over");
    assert!(failure.message.contains("15 minutes"), "{failure}");
    assert!(rig.sim.state().token_requests().is_empty());
}

async fn add_key(peer: &Peer, provider: &str, label: Option<&str>, key: &str) -> Result<(String, String), Failure> {
    let label = label.map(str::to_owned);
    let request = pb::AddApiKeyRequest { provider: provider.into(), label, api_key: key.into() };
    let answer = peer.logins().add_api_key(request).await.map_err(|s| failure_from_status(&s, "auth-svc"))?;
    let answer = answer.into_inner();
    Ok((answer.credential, answer.action))
}

#[tokio::test]
async fn an_api_key_is_stored_replaced_and_kept_once() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    let add = async |label: Option<&str>, key: &str| add_key(&peer, "openai", label, key).await.expect("stored");
    let is = |label: &str, action: &str| (label.to_owned(), action.to_owned());
    assert_eq!(add(None, " sk-S3CRET-1\n").await, is("openai", "created"));
    assert_eq!(add(None, "sk-S3CRET-1").await, is("openai", "unchanged"));
    assert_eq!(add(Some("work"), "sk-S3CRET-2").await, is("work", "created"));
    assert_eq!(add(Some("work"), "sk-S3CRET-3").await, is("work", "updated"));
    assert_eq!(add(Some("other"), "sk-S3CRET-1").await, is("openai", "unchanged"));
    let kept: Vec<_> = peer.list().await.into_iter().map(|c| (c.label, c.kind, c.source, c.version)).collect();
    let key = |label: &str, version| (label.to_owned(), "api-key".to_owned(), "login".to_owned(), version);
    assert_eq!(kept, [key("openai", 1), key("work", 2)]);

    rig.import(&peer, codex_sim::SeedLogin::account("a"), "main").await;
    for (provider, label, text, says) in [
        ("openai-codex", None, "sk-S3CRET-4", "not billed to an API key"),
        ("anthropic", None, "sk-S3CRET-4", "openai"),
        ("openai", Some("main"), "sk-S3CRET-4", "belongs to a credential of provider openai-codex"),
        ("openai", Some("two words"), "sk-S3CRET-4", "white space"),
        ("openai", None, "  ", "empty"),
        ("openai", None, "sk-S3CRET 4", "white space"),
        ("openai", None, "sk-S3CRET-ü", "not ASCII"),
    ] {
        let failure = add_key(&peer, provider, label, text).await.expect_err(says);
        assert_eq!(failure.reason, Reason::RequestInvalid, "{failure}");
        assert!(failure.message.contains(says) && !format!("{failure:?}").contains("S3CRET"), "{failure:?}");
    }
    let recorded = peer.acts("login.api_key").await;
    assert_eq!(recorded.len(), 12);
    assert!(!format!("{recorded:?}").contains("S3CRET"));
}
