//! `auth.json` in all its variants.

use super::*;

fn auth() -> Value {
    json!({
        "auth_mode": "chatgpt",
        "OPENAI_API_KEY": null,
        "tokens": {
            "id_token": jwt("acct-1", NOW + 3600), "access_token": jwt("acct-1", NOW + 10 * DAY),
            "refresh_token": "rt-S3CRET", "account_id": "acct-1",
            "oauth_provenance": { "issuer": "https://auth.openai.com/", "client_id": "app_x" },
            "login_owner_id": "owner", "invented_in_2027": { "deep": [1, 2] },
        },
        "last_refresh": "2026-11-22T12:22:35.287407532Z",
        "invented_in_2027": true,
    })
}

fn with(change: impl FnOnce(&mut Value)) -> ImportCredentialsRequest {
    let mut auth = auth();
    change(&mut auth);
    codex(&auth)
}

#[tokio::test]
async fn a_login_is_taken_with_everything_it_says() {
    let bench = Bench::new().await;
    let response = bench.import(codex(&auth())).await;
    assert!(response.usable);
    let line = line(&response, "tokens");
    assert_eq!(
        (line.label.as_str(), line.action.as_str(), line.provider.as_str()),
        ("main", "created", "openai-codex")
    );
    assert_eq!(line.first_refresh, Some(1_795_811_886.0), "about half of its life");
    let credential = bench.get("main").await;
    assert_eq!(credential.issuer.as_deref(), Some(ISSUER), "the origin alone");
    assert_eq!(credential.client_id.as_deref(), Some("app_x"));
    assert_eq!(credential.account_id.as_deref(), Some("acct-1"));
    assert_eq!(credential.email.as_deref(), Some("acct-1@example.com"));
    assert_eq!(credential.plan.as_deref(), Some("plus"));
    assert_eq!(credential.access_expires_at, Some(NOW + 10 * DAY), "not the id token's");
    assert_eq!(credential.last_refresh, Some(1_795_350_155));
    assert_eq!(refresh_token(&credential), Some("rt-S3CRET"));
    let notes = response.notes.join("\n");
    assert!(notes.contains("/root/.codex/auth.json") && notes.contains("codex logout"), "{notes}");
    assert!(notes.contains("main: Switchboard first refreshes it at 2026-11-27T20:38:06Z"), "{notes}");
}

#[tokio::test]
async fn unknown_fields_come_back_whole() {
    let bench = Bench::new().await;
    bench.import(codex(&auth())).await;
    let credential = bench.get("main").await;
    let mut extra = bench.store.extra(&credential.id).await.expect("read");
    assert_tells_nothing(&extra.to_string());
    extra["tokens"]["access_token"] = json!(upstream_secret(&credential));
    extra["tokens"]["refresh_token"] = json!(refresh_token(&credential));
    extra["tokens"]["id_token"] = json!(id_token(&credential));
    assert_eq!(extra, auth());
}

#[tokio::test]
async fn the_mode_decides_what_is_taken() {
    let both = |auth: &mut Value| auth["OPENAI_API_KEY"] = json!("sk-S3CRET");
    let no_mode = |auth: &mut Value| drop(auth.as_object_mut().expect("object").shift_remove("auth_mode"));
    type Change = Box<dyn Fn(&mut Value)>;
    type Case = (&'static str, Change, &'static [(&'static str, &'static str)]);
    let cases: [Case; 8] = [
        ("no mode, tokens", Box::new(no_mode), &[("tokens", "created")]),
        ("mode chatgpt, both", Box::new(both), &[("tokens", "created"), ("OPENAI_API_KEY", "skipped")]),
        (
            "no mode, both",
            Box::new(move |a| {
                both(a);
                no_mode(a);
            }),
            &[("tokens", "skipped"), ("OPENAI_API_KEY", "created")],
        ),
        (
            "mode apikey, both",
            Box::new(move |a| {
                both(a);
                a["auth_mode"] = json!("apikey");
            }),
            &[("tokens", "skipped"), ("OPENAI_API_KEY", "created")],
        ),
        (
            "no mode, personal access token",
            Box::new(move |a| {
                no_mode(a);
                a["personal_access_token"] = json!("at-S3CRET");
            }),
            &[("tokens", "skipped"), ("personal_access_token", "skipped")],
        ),
        (
            "no mode, bedrock before an API key",
            Box::new(move |a| {
                no_mode(a);
                both(a);
                a["bedrock_api_key"] = json!("S3CRET");
            }),
            &[("tokens", "skipped"), ("OPENAI_API_KEY", "skipped"), ("bedrock_api_key", "skipped")],
        ),
        ("a mode of the future", Box::new(|a| a["auth_mode"] = json!("telepathy")), &[("tokens", "skipped")]),
        (
            "an agent identity",
            Box::new(|a| {
                a["auth_mode"] = json!("agentIdentity");
                a["agent_identity"] = json!({ "key": "S3CRET" });
            }),
            &[("tokens", "skipped"), ("agent_identity", "skipped")],
        ),
    ];
    for (name, change, expected) in cases {
        let bench = Bench::new().await;
        let response = bench.import(with(change)).await;
        let lines = &response.credentials;
        let got: Vec<_> = lines.iter().map(|line| (line.profile.as_str(), line.action.as_str())).collect();
        assert_eq!(got, expected, "{name}");
        assert_eq!(response.usable, expected.iter().any(|(_, action)| *action == "created"), "{name}");
        assert!(lines.iter().all(|line| line.action == "created" || !line.detail.is_empty()), "{name}: {lines:?}");
    }
}

#[tokio::test]
async fn an_api_key_stands_alone() {
    let bench = Bench::new().await;
    let response = bench.import(codex(&json!({ "OPENAI_API_KEY": " sk-S3CRET\n", "tokens": null }))).await;
    assert!(response.usable);
    let credential = bench.get("main").await;
    assert_eq!((credential.provider.as_str(), upstream_secret(&credential)), ("openai", "sk-S3CRET"));
    assert_eq!(credential.issuer, None);
    assert!(!response.notes.join("\n").contains("refresh"), "{:?}", response.notes);
}

#[tokio::test]
async fn a_foreign_issuer_stays_foreign() {
    let bench = Bench::new().await;
    let elsewhere = |auth: &mut Value| auth["tokens"]["oauth_provenance"]["issuer"] = json!("https://id.example/oauth");
    let response = bench.import(with(elsewhere)).await;
    assert!(!response.usable, "it can be bound to nothing");
    assert!(line(&response, "tokens").detail.contains("issued by https://id.example"), "{response:?}");
    assert_eq!(bench.get("main").await.issuer.as_deref(), Some("https://id.example"));
}

#[tokio::test]
async fn account_and_expiry_come_from_the_tokens_where_the_file_is_silent() {
    let bench = Bench::new().await;
    bench
        .import(codex(&json!({ "tokens": { "access_token": "opaque-S3CRET", "refresh_token": "rt-S3CRET",
            "id_token": jwt("acct-9", NOW) } })))
        .await;
    let credential = bench.get("main").await;
    assert_eq!(credential.account_id.as_deref(), Some("acct-9"));
    assert_eq!(credential.access_expires_at, None);
    assert_eq!(credential.issuer.as_deref(), Some(ISSUER));
}

#[tokio::test]
async fn an_import_again_changes_nothing_and_never_brings_old_tokens_back() {
    let bench = Bench::new().await;
    bench.import(codex(&auth())).await;
    let again = bench.import(codex(&auth())).await;
    assert_eq!(line(&again, "tokens").action, "unchanged");
    assert!(again.usable);
    let newer = bench.import(with(|a| a["tokens"]["access_token"] = json!(jwt("acct-1", NOW + 20 * DAY)))).await;
    assert_eq!(line(&newer, "tokens").action, "updated");
    let older = bench.import(codex(&auth())).await;
    assert_eq!(line(&older, "tokens").action, "unchanged");
    assert!(line(&older, "tokens").detail.contains("newer and stay"), "{older:?}");
    assert_eq!(line(&older, "tokens").first_refresh, Some(1_796_252_288.0), "what stays is refreshed");
    assert_eq!(bench.get("main").await.access_expires_at, Some(NOW + 20 * DAY));
    assert_eq!(bench.all().await.len(), 1);
}

#[tokio::test]
async fn another_login_gets_another_label() {
    let bench = Bench::new().await;
    bench.import(codex(&auth())).await;
    let other = |auth: &mut Value| {
        auth["tokens"] = json!({ "access_token": jwt("acct-2", NOW + DAY), "refresh_token": "rt-S3CRET-2" });
    };
    let response = bench.import(with(other)).await;
    assert_eq!(line(&response, "tokens").label, "main-2");
    assert!(!line(&response, "tokens").detail.contains("belongs"), "nobody asked for a label: {response:?}");
    let named = ImportCredentialsRequest { label: Some("work".to_owned()), ..with(other) };
    let response = bench.import(named).await;
    assert_eq!(
        (line(&response, "tokens").label.as_str(), line(&response, "tokens").action.as_str()),
        ("main-2", "unchanged")
    );
    let bad = ImportCredentialsRequest { label: Some("two words".to_owned()), ..with(other) };
    assert!(bench.refused(bad).await.contains("label"));
}

#[tokio::test]
async fn a_dry_run_says_the_same_and_does_nothing() {
    let bench = Bench::new().await;
    let dry = bench.import(ImportCredentialsRequest { dry_run: true, ..codex(&auth()) }).await;
    assert!(dry.usable);
    assert!(bench.all().await.is_empty());
    let real = bench.import(codex(&auth())).await;
    assert_eq!(dry.credentials, real.credentials);
    assert_eq!(dry.notes, real.notes);
}

#[tokio::test]
async fn what_is_borrowed_is_never_refreshed() {
    let bench = Bench::new().await;
    let response = bench.import(ImportCredentialsRequest { borrow: true, ..codex(&auth()) }).await;
    assert!(response.usable && bench.get("main").await.borrowed);
    assert_eq!(line(&response, "tokens").first_refresh, None);
    assert!(response.notes.join("\n").contains("never refreshes"), "{:?}", response.notes);

    let expired = |a: &mut Value| a["tokens"]["access_token"] = json!(jwt("acct-1", NOW - 1));
    let bench = Bench::new().await;
    let response = bench.import(ImportCredentialsRequest { borrow: true, ..with(expired) }).await;
    assert!(!response.usable, "expired, and not ours to refresh");
    let response = bench.import(with(expired)).await;
    assert!(response.usable && !bench.get("main").await.borrowed);
    assert_eq!(line(&response, "tokens").first_refresh, Some(NOW as f64), "at once");
}

#[tokio::test]
async fn bad_files_are_refused_by_name() {
    let bench = Bench::new().await;
    let name = "/root/.codex/auth.json";
    let text = auth().to_string();
    let broken =
        |content: &[u8]| request("codex", vec![ImportFile { name: name.to_owned(), content: content.to_vec().into() }]);
    let huge = vec![b' '; 4 * 1024 * 1024 + 1];
    for (content, says) in [
        (&text.as_bytes()[..text.len() / 2], "looks cut off"),
        (b"", "looks cut off"),
        (b"{\"tokens\": rt-S3CRET}", "line 1 column 12"),
        (b"[\"sk-S3CRET\"]", "a list, not a JSON object"),
        (b"{\"a\":\"\xff\xfe\"}", "not UTF-8: the byte at offset 6"),
        (b"{\"tokens\":\"rt-S3CRET\"}", "`tokens` is a string"),
        (b"{\"tokens\":{\"access_token\":7}}", "`access_token` is a number"),
        (b"{\"tokens\":{\"access_token\":\"S3CRET S3CRET\"}}", "holds white space"),
        (b"{\"auth_mode\":7}", "`auth_mode` is a number"),
        (b"{}", "holds no credential"),
        (&huge, "bytes"),
    ] {
        let message = bench.refused(broken(content)).await;
        assert!(message.contains(name) && message.contains(says), "{message}");
    }
    assert!(bench.refused(request("codex", Vec::new())).await.contains("one file"));
    assert!(bench.refused(request("netrc", Vec::new())).await.contains("codex and openclaw"));
    let response = bench.import(codex(&json!({ "tokens": { "account_id": "acct-1" } }))).await;
    assert!(!response.usable && line(&response, "tokens").detail.contains("neither"), "{response:?}");
}

#[tokio::test]
async fn the_token_names_its_issuer_where_the_file_does_not() {
    let payload = json!({ "iss": "https://id.example/", "exp": NOW + DAY, "iat": NOW - DAY });
    let foreign = format!("e30.{}.S3CRET", URL_SAFE_NO_PAD.encode(payload.to_string()));
    let unnamed = |auth: &mut Value| {
        auth["tokens"] = json!({ "access_token": foreign, "refresh_token": "rt-S3CRET", "account_id": "a" });
    };
    let bench = Bench::new().await;
    let response = bench.import(with(unnamed)).await;
    assert!(line(&response, "tokens").detail.contains("issued by https://id.example"), "{response:?}");
    assert_eq!(line(&response, "tokens").first_refresh, None);
    // A provider on this machine stands for the real one, and then the tokens' own word counts for nothing.
    let mut bench = Bench::new().await;
    bench.settings.rules.origin = "http://127.0.0.1:9".to_owned();
    let response = bench.import(with(unnamed)).await;
    assert_eq!(bench.get("main").await.issuer.as_deref(), Some("http://127.0.0.1:9"));
    assert_eq!(line(&response, "tokens").first_refresh, Some((NOW + 23_524) as f64), "it is refreshed here");
}

#[tokio::test]
async fn ids_that_no_header_may_carry_are_refused() {
    for account in ["acct\r\nx-evil: 1", "acct 1", "acct\u{e9}", &"a".repeat(300)] {
        let bench = Bench::new().await;
        let response = bench.import(with(|auth| auth["tokens"]["account_id"] = json!(account))).await;
        let line = line(&response, "tokens");
        assert_eq!(line.action, "skipped", "{account:?}: {line:?}");
        assert!(line.detail.contains("account id") && !line.detail.contains("evil"), "{line:?}");
        assert!(!response.usable && bench.all().await.is_empty());
    }
}

#[tokio::test]
async fn the_first_refresh_is_when_the_scheduler_makes_it() {
    let mut bench = Bench::new().await;
    let response = bench.import(codex(&auth())).await;
    let scheduled = |bench: &Bench, of: &Credential| bench.settings.rules.next_ms(of).map(|at| (at / 1000) as f64);
    assert_eq!(line(&response, "tokens").first_refresh, scheduled(&bench, &bench.get("main").await));

    bench.settings.rules.proactive = false;
    let response = bench.import(codex(&auth())).await;
    assert_eq!(line(&response, "tokens").first_refresh, Some((NOW + 10 * DAY - 300) as f64), "the margin");
    let notes = response.notes.join("\n");
    assert!(notes.contains("main: the first call after 2026-12-02T23:55:00Z refreshes it"), "{notes}");
    bench.settings.rules.proactive = true;

    let tokens = json!({ "refresh_token": "rt-S3CRET-2", "account_id": "acct-2" });
    let response = bench.import(with(|auth| auth["tokens"] = tokens)).await;
    assert_eq!(line(&response, "tokens").first_refresh, Some(NOW as f64), "it has no access token to use");
    assert!(response.notes.join("\n").contains("main-2: Switchboard refreshes it at once"), "{:?}", response.notes);
}
