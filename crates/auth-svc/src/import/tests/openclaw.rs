//! Profiles of a state directory.

use super::*;

/// The fixture as the command reads it, with the seed from where it lies.
fn fixture() -> ImportCredentialsRequest {
    let root = fixture_dir();
    let xdg = root.join("xdg-config").display().to_string();
    let env = |name: &str| (name == "XDG_CONFIG_HOME").then(|| xdg.clone());
    let collected = crate::import::collect::collect_openclaw(Some(&root), None, &env).expect("collected");
    ImportCredentialsRequest { secret_seed: collected.seed, ..openclaw(collected.files) }
}

const PROFILE: &str = "openai-codex:agent@example.com";
/// Its label: without the address.
const LABEL: &str = "openai-codex";

#[tokio::test]
async fn the_fixture_comes_in_whole() {
    let bench = Bench::new().await;
    let response = bench.import(fixture()).await;
    assert!(response.usable);
    let login = line(&response, PROFILE);
    assert_eq!(
        (login.label.as_str(), login.action.as_str(), login.provider.as_str()),
        (LABEL, "created", "openai-codex")
    );
    assert_eq!(login.first_refresh, Some(4_101_948_221.0));
    assert_eq!(line(&response, "openai:default").action, "created");
    assert_eq!(line(&response, "openai:default").provider, "openai");
    assert_eq!(
        response.config_toml,
        "# Routes of OpenClaw (openclaw.json) in Switchboard's names.\n\n[defaults]\nmodel = \"openai-codex/gpt-5.5\"\n\
         fallbacks = []\n\n# OpenClaw's list of models, as an agent's table can have it to permit these only:\n\
         # allowed = [\"openai-codex/gpt-5.5\"]\n"
    );

    let credential = bench.get(LABEL).await;
    assert_eq!(refresh_token(&credential), Some("rt-fixture-1"));
    assert!(upstream_secret(&credential).starts_with("eyJ"));
    assert_eq!(credential.account_id.as_deref(), Some("acct-fixture-1"));
    assert_eq!(credential.user_id.as_deref(), Some("user-acct-fixture-1"));
    assert_eq!((credential.plan.as_deref(), credential.email.as_deref()), (Some("plus"), Some("agent@example.com")));
    assert_eq!((credential.issuer.as_deref(), credential.profile.as_deref()), (Some(ISSUER), Some(PROFILE)));
    assert_eq!(upstream_secret(&bench.get("openai:default").await), "sk-fake-acct-fixture-1");

    let notes = response.notes.join("\n");
    assert!(notes.contains("OpenClaw still holds it"), "{notes}");
    assert!(notes.contains("first refreshes it at 2099-12-26T06:03:41Z"), "{notes}");
    assert!(notes.contains("OpenClaw's order (agents/main/agent/auth-state.json)"), "{notes}");

    let again = bench.import(fixture()).await;
    assert!(again.credentials.iter().all(|line| line.action == "unchanged"), "{again:?}");
    assert!(again.usable && bench.all().await.len() == 2);
}

#[tokio::test]
async fn the_wrong_seed_leaves_a_credential_that_says_why() {
    let bench = Bench::new().await;
    let wrong = ImportCredentialsRequest { secret_seed: Some(raw("/etc/SEED-FILE", "not the seed\n")), ..fixture() };
    let response = bench.import(wrong.clone()).await;
    let login = line(&response, PROFILE);
    assert_eq!((login.action.as_str(), login.label.as_str()), ("undecryptable", LABEL));
    assert!(
        login.detail.contains("credentials/auth-profiles/f4f8252ceb052979232445f2c58871b7.json"),
        "{}",
        login.detail
    );
    assert!(login.detail.contains("the seed from /etc/SEED-FILE"), "{}", login.detail);
    assert!(response.usable, "the API key is usable");
    let Secrets::Undecryptable { detail } = bench.get(LABEL).await.secrets else { panic!("it was opened") };
    assert_eq!(detail, login.detail);

    let none = bench.import(ImportCredentialsRequest { secret_seed: None, ..fixture() }).await;
    assert!(line(&none, PROFILE).detail.contains("OPENCLAW_AUTH_PROFILE_SECRET_KEY"), "{none:?}");

    let right = bench.import(fixture()).await;
    assert_eq!(line(&right, PROFILE).action, "updated");
    assert_eq!(refresh_token(&bench.get(LABEL).await), Some("rt-fixture-1"));

    // Once opened, it is not closed again.
    let after = bench.import(wrong).await;
    assert_eq!(line(&after, PROFILE).action, "undecryptable");
    assert!(line(&after, PROFILE).detail.contains("stays as it is"), "{after:?}");
    assert_eq!(refresh_token(&bench.get(LABEL).await), Some("rt-fixture-1"));
}

#[tokio::test]
async fn nothing_usable_is_said_to_be_so() {
    let bench = Bench::new().await;
    let mut request = ImportCredentialsRequest { secret_seed: None, ..fixture() };
    for file in &mut request.files {
        if file.name == PROFILES {
            let text = String::from_utf8(file.content.to_vec()).expect("text").replace("api_key", "none");
            file.content = text.into_bytes().into();
        }
    }
    let response = bench.import(request).await;
    assert!(!response.usable);
    assert!(response.notes.join("\n").contains("status can say why"), "{:?}", response.notes);
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let bench = Bench::new().await;
    let dry = bench.import(ImportCredentialsRequest { dry_run: true, ..fixture() }).await;
    assert!(bench.all().await.is_empty());
    let real = bench.import(fixture()).await;
    assert_eq!((dry.credentials, dry.config_toml), (real.credentials, real.config_toml));
}

#[tokio::test]
async fn every_kind_of_profile_has_its_fate() {
    let key = |key: &str| json!({ "type": "api_key", "provider": "openai", "key": key });
    let mut profiles_json = json!({
        "openai-codex:inline": login("acct-1", NOW + DAY),
        "openai:new-style": { "type": "oauth", "provider": "openai", "access": jwt("acct-2", NOW + DAY), "refresh": "rt-S3CRET" },
        "openai-codex:access-only": { "type": "oauth", "provider": "openai-codex", "access": jwt("acct-3", NOW + DAY) },
        "openai-codex:refresh-only": { "type": "oauth", "provider": "openai-codex", "refresh": "rt-S3CRET-4", "accountId": "acct-4" },
        "openai-codex:empty": { "type": "oauth", "provider": "openai-codex", "expires": 1 },
        "openai-codex:token": { "type": "token", "provider": "openai-codex", "token": "S3CRET" },
        "codex:marker": { "type": "api_key", "provider": "codex", "key": "codex-app-server" },
        "openai:key": key("sk-S3CRET"),
        "openai:env": key("${OPENAI_API_KEY}"),
        "openai:ref": { "type": "api_key", "provider": "openai", "keyRef": { "source": "exec", "id": "pass/openai" } },
        "openai:no-key": { "type": "api_key", "provider": "openai" },
        "openai:bad-key": key("sk S3CRET"),
        "anthropic:default": { "type": "api_key", "provider": "anthropic", "key": "S3CRET" },
        "openai:typeless": { "provider": "openai", "key": "S3CRET" },
        "openai:odd": { "type": "aws-sdk", "provider": "openai" },
        "openai:wrong-type": { "type": 7, "provider": "openai" },
        "openai:no-object": "S3CRET",
    });
    profiles_json["openai-codex:secret-ref"] = json!({
        "type": "oauth", "provider": "openai-codex", "access": { "source": "file", "id": "/a" }, "refresh": "rt-S3CRET" });
    let bench = Bench::new().await;
    let response = bench.import(openclaw(vec![profiles(profiles_json)])).await;
    for (profile, action, says) in [
        ("openai-codex:inline", "created", "expires at 2026-11-24T00:00:00Z"),
        ("openai:new-style", "created", "expires"),
        ("openai-codex:access-only", "created", "no refresh token"),
        ("openai-codex:refresh-only", "created", "no access token"),
        ("openai-codex:empty", "skipped", "neither tokens nor a reference"),
        ("openai-codex:token", "skipped", "no Codex login"),
        ("codex:marker", "skipped", "does not open the subscription"),
        ("openai:key", "created", ""),
        ("openai:env", "skipped", "env: OPENAI_API_KEY"),
        ("openai:ref", "skipped", "exec: pass/openai"),
        ("openai:no-key", "skipped", "no `key`"),
        ("openai:bad-key", "skipped", "white space"),
        ("anthropic:default", "skipped", "not served"),
        ("openai:typeless", "skipped", "no `type`"),
        ("openai:odd", "skipped", "aws-sdk"),
        ("openai:wrong-type", "skipped", "a number"),
        ("openai:no-object", "skipped", "not an object"),
        ("openai-codex:secret-ref", "skipped", "file: /a"),
    ] {
        let line = line(&response, profile);
        assert_eq!(line.action, action, "{line:?}");
        assert!(line.detail.contains(says), "{line:?}");
        assert_eq!(line.label.is_empty(), action == "skipped", "{line:?}");
    }
    assert_eq!(line(&response, "openai:new-style").provider, "openai-codex");
    assert_eq!(bench.all().await.len(), 5);
}

#[tokio::test]
async fn unknown_fields_of_a_profile_are_kept() {
    let mut profile = login("acct-1", NOW + DAY);
    profile["copyToAgents"] = json!(false);
    profile["futureField"] = json!({ "a": [1] });
    let bench = Bench::new().await;
    bench.import(openclaw(vec![profiles(json!({ "openai-codex:a": profile }))])).await;
    let credential = bench.get("openai-codex:a").await;
    let mut extra = bench.store.extra(&credential.id).await.expect("read");
    assert_tells_nothing(&extra.to_string());
    extra["access"] = json!(upstream_secret(&credential));
    extra["refresh"] = json!(refresh_token(&credential));
    assert_eq!(extra, profile);
}

#[tokio::test]
async fn one_bad_file_and_nothing_comes_in() {
    let good = || profiles(json!({ "openai-codex:a": login("acct-1", NOW + DAY) }));
    let bench = Bench::new().await;
    for (bad, says) in [
        (raw("agents/work/agent/auth-profiles.json", "{\"profiles\": {\"a\": rt-S3CRET"), "line 1 column 20"),
        (raw("agents/work/agent/auth-profiles.json", "{\"version\":1}"), "has no `profiles`"),
        (raw("agents/work/agent/auth-profiles.json", "{\"profiles\":[]}"), "is a list"),
        (raw("agents/work/agent/auth-state.json", "{\"order\":"), "looks cut off"),
        (raw("openclaw.json", "{\"agents\": {"), "at line 1 column"),
        (raw("openclaw.json", &"[".repeat(100_000)), "openclaw.json"),
    ] {
        let name = bad.name.clone();
        let message = bench.refused(openclaw(vec![good(), bad])).await;
        assert!(message.contains(&name) && message.contains(says), "{message}");
    }
    let message = bench.refused(openclaw(vec![good(), raw("../../etc/passwd", "")])).await;
    assert!(message.contains("../../etc/passwd"), "{message}");
    let labelled = ImportCredentialsRequest { label: Some("x".to_owned()), ..openclaw(vec![good()]) };
    assert!(bench.refused(labelled).await.contains("label"));
}

#[tokio::test]
async fn databases_are_named_and_not_read() {
    let bench = Bench::new().await;
    let database = || raw("state/openclaw.sqlite", "");
    let message = bench.refused(openclaw(vec![database()])).await;
    assert!(message.contains("SQLite (state/openclaw.sqlite)"), "{message}");
    let message = bench.refused(openclaw(vec![raw("openclaw.json", "{}")])).await;
    assert!(message.contains("no OpenClaw state directory"), "{message}");
    let both = vec![profiles(json!({ "openai-codex:a": login("acct-1", NOW + DAY) })), database()];
    let response = bench.import(openclaw(both)).await;
    assert!(response.usable && response.notes.join("\n").contains("may be older"), "{response:?}");
}

#[test]
fn a_label_has_no_address() {
    for (name, label) in [
        ("openai-codex:default", "openai-codex:default"),
        ("openai-codex:agent@example.com", "openai-codex"),
        ("ops/openai-codex:agent@example.com", "ops/openai-codex"),
        ("agent@example.com", "main"),
        ("a b", "a-b"),
    ] {
        assert_eq!(crate::import::openclaw::label(name), label, "{name}");
    }
}
