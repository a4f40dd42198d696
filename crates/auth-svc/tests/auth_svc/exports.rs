//! Exports: the current tokens leave in the other program's format, and nobody refreshes them here any more.

use codex_sim::{SeedLogin, SeededLogin};
use domain::{Failure, Reason};
use proto::auth::v1 as pb;
use serde_json::{Value, json};
use service_kit::failure_from_status;

use crate::support::{Peer, Rig};

fn file(name: &str, content: &Value) -> pb::ImportFile {
    pb::ImportFile { name: name.into(), content: serde_json::to_vec_pretty(content).expect("JSON").into() }
}

fn to_codex(files: Vec<pb::ImportFile>) -> pb::ExportCredentialsRequest {
    pb::ExportCredentialsRequest { format: "codex".into(), files, ..Default::default() }
}

async fn export(peer: &Peer, request: pb::ExportCredentialsRequest) -> Result<pb::ExportCredentialsResponse, Failure> {
    let answer = peer.credentials().export_credentials(request).await;
    let answer = answer.map(tonic::Response::into_inner).map_err(|s| failure_from_status(&s, "auth-svc"))?;
    assert!(!format!("{answer:?}").contains("rt_sim"), "{answer:?}");
    Ok(answer)
}

async fn refresh(peer: &Peer, name: &str) -> pb::RefreshCredentialResponse {
    let request = pb::RefreshCredentialRequest { credential: name.into() };
    peer.credentials().refresh_credential(request).await.expect("asked").into_inner()
}

fn content(answer: &pb::ExportCredentialsResponse, name: &str) -> Value {
    let file = answer.files.iter().find(|file| file.name == name).unwrap_or_else(|| panic!("no {name}: {answer:?}"));
    serde_json::from_slice(&file.content).expect("JSON")
}

/// What the other program does next: spends the refresh token that it was given.
async fn go_on(rig: &Rig, refresh_token: &Value) -> Value {
    let body = json!({ "client_id": "app_EMoamEEZ73f0CkXaXp7hrann", "grant_type": "refresh_token",
        "refresh_token": refresh_token });
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let answer = client.post(format!("{}/oauth/token", rig.sim.base_url())).json(&body).send().await.expect("sent");
    assert_eq!(answer.status(), 200);
    answer.json().await.expect("JSON")
}

fn with_extras(login: &SeededLogin) -> Value {
    let mut auth = login.codex_auth_json();
    auth["tokens"]["login_owner_id"] = json!("owner");
    auth["invented_in_2027"] = json!({ "deep": [1, 2.5, "x"] });
    auth
}

#[tokio::test]
async fn codex_cli_goes_on_with_the_current_tokens_and_we_do_not() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    let login = rig.sim.state().seed_login(SeedLogin::account("a"));
    let auth = with_extras(&login);
    peer.import_codex(&auth, "main").await;
    assert!(refresh(&peer, "main").await.failure.is_none());

    let request = to_codex(vec![file("/root/.codex/auth.json", &auth)]);
    let dry = export(&peer, pb::ExportCredentialsRequest { dry_run: true, ..request.clone() }).await.expect("said");
    assert!(dry.files.is_empty() && dry.credentials[0].action == "exported", "{dry:?}");
    assert_eq!(peer.list().await[0].exported_at, None, "a dry run gives nothing up");

    let answer = export(&peer, request.clone()).await.expect("exported");
    let written = content(&answer, "/root/.codex/auth.json");
    assert_ne!(written["tokens"]["refresh_token"], json!(login.refresh_token), "the current one");
    let mut like = written.clone();
    for field in ["access_token", "refresh_token", "id_token"] {
        like["tokens"][field] = auth["tokens"][field].clone();
    }
    like["last_refresh"] = auth["last_refresh"].clone();
    assert_eq!(like.to_string(), auth.to_string(), "nothing else has changed, the order of fields included");
    let refused = export(&peer, request.clone()).await.expect("said");
    assert!(refused.files.is_empty() && refused.credentials[0].detail.contains("--again"), "{refused:?}");
    let again = pb::ExportCredentialsRequest { again: true, ..request };
    assert_eq!(export(&peer, again).await.expect("again").files, answer.files, "the same tokens once more");
    let there = to_codex(answer.files.clone());
    assert_eq!(export(&peer, there).await.expect("there").credentials[0].action, "exported", "they stand there");

    assert!(peer.list().await[0].exported_at.is_some());
    assert_eq!(peer.bound().await.credential, "main", "used while it lives");
    let failure = refresh(&peer, "main").await.failure.expect("refused");
    assert!(failure.message.contains("export"), "{failure:?}");
    let theirs = go_on(&rig, &written["tokens"]["refresh_token"]).await;
    assert_eq!(rig.sim.state().refresh_count("a"), 2);

    // Theirs are newer now: they are not written over, and an import takes the login back.
    let mut next = written.clone();
    next["tokens"]["access_token"] = theirs["access_token"].clone();
    next["tokens"]["refresh_token"] = theirs["refresh_token"].clone();
    let kept = export(&peer, to_codex(vec![file("auth.json", &next)])).await.expect("said");
    assert!(kept.files.is_empty() && kept.credentials[0].detail.contains("current ones"), "{kept:?}");
    peer.import_codex(&auth, "main").await;
    assert!(peer.list().await[0].exported_at.is_some(), "spent tokens take nothing back");
    peer.import_codex(&next, "main").await;
    assert_eq!(peer.list().await[0].exported_at, None);
    assert!(refresh(&peer, "main").await.failure.is_none());
    let outcomes: Vec<_> = peer.acts("credential.export").await.into_iter().map(|entry| (entry.1, entry.2)).collect();
    let expected = ["failed", "ok", "ok", "failed", "ok"].map(|outcome| ("main".to_owned(), outcome.to_owned()));
    assert_eq!(outcomes, expected, "newest first");
}

#[tokio::test]
async fn what_is_gone_is_made_anew_and_what_is_another_s_stays() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    let login = rig.sim.state().seed_login(SeedLogin::account("a"));
    peer.import_codex(&with_extras(&login), "main").await;
    let other = rig.sim.state().seed_login(SeedLogin::account("b")).codex_auth_json();
    let kept = export(&peer, to_codex(vec![file("auth.json", &other)])).await.expect("said");
    assert!(kept.files.is_empty() && kept.credentials[0].detail.contains("another login"), "{kept:?}");
    assert_eq!(peer.list().await[0].exported_at, None, "nothing was given up");
    let later = SeedLogin { access_ttl: Some(std::time::Duration::from_secs(30 * 86_400)), ..SeedLogin::account("a") };
    let newer = rig.sim.state().seed_login(later).codex_auth_json();
    let kept = export(&peer, to_codex(vec![file("auth.json", &newer)])).await.expect("said");
    assert!(kept.credentials[0].detail.contains("as new or newer"), "{kept:?}");

    let answer = export(&peer, to_codex(Vec::new())).await.expect("exported");
    assert_eq!(content(&answer, "auth.json"), {
        let mut whole = with_extras(&login);
        whole["last_refresh"] = content(&answer, "auth.json")["last_refresh"].clone();
        whole
    });
    assert!(answer.notes.iter().any(|note| note.contains("keyring")), "{answer:?}");
}

#[tokio::test]
async fn it_must_be_clear_what_is_meant() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    let failure = export(&peer, to_codex(Vec::new())).await.expect_err("nothing there");
    assert!(failure.message.contains("no login"), "{failure}");
    rig.import(&peer, SeedLogin::account("a"), "a").await;
    rig.import(&peer, SeedLogin::account("b"), "b").await;
    let failure = export(&peer, to_codex(Vec::new())).await.expect_err("two");
    assert_eq!(failure.reason, Reason::RequestInvalid);
    assert!(failure.message.contains("a, b") && failure.next_step.contains("--credential"), "{failure}");
    let named = |labels: &[&str], format: &str| pb::ExportCredentialsRequest {
        format: format.into(),
        credentials: labels.iter().map(|label| (*label).to_owned()).collect(),
        ..Default::default()
    };
    assert_eq!(export(&peer, named(&["x"], "codex")).await.expect_err("none").reason, Reason::NotFound);
    assert!(export(&peer, named(&["a", "b"], "codex")).await.expect_err("two").message.contains("one credential"));
    assert!(export(&peer, named(&[], "openclaw")).await.expect_err("none").message.contains("OpenClaw"));
    assert!(export(&peer, named(&["a"], "netrc")).await.expect_err("format").message.contains("netrc"));
    assert!(peer.list().await.iter().all(|credential| credential.exported_at.is_none()));
    // A dead login is nothing to hand over.
    rig.sim.state().revoke_account("a");
    assert!(refresh(&peer, "a").await.failure.is_some());
    let dead = export(&peer, named(&["a"], "codex")).await.expect("said");
    assert!(dead.files.is_empty() && dead.credentials[0].detail.contains("needs a new login"), "{dead:?}");
}

const PROFILES: &str = "agents/main/agent/auth-profiles.json";
const WORK: &str = "agents/work/agent/auth-profiles.json";
const SIDECAR: &str = "credentials/auth-profiles/00112233445566778899aabbccddeeff.json";

async fn import_openclaw(peer: &Peer, files: Vec<pb::ImportFile>, seed: Option<&str>) -> pb::ImportCredentialsResponse {
    let request = pb::ImportCredentialsRequest {
        format: "openclaw".into(),
        files,
        secret_seed: seed.map(seed_file),
        ..Default::default()
    };
    peer.credentials().import_credentials(request).await.expect("imported").into_inner()
}

fn seed_file(seed: &str) -> pb::ImportFile {
    pb::ImportFile { name: "the seed".into(), content: seed.as_bytes().to_vec().into() }
}

fn inline(login: &SeededLogin) -> Value {
    json!({ "type": "oauth", "provider": "openai-codex", "access": login.access_token, "refresh": login.refresh_token,
        "expires": login.expires_at * 1000, "accountId": login.account_id, "displayName": "mine", "future": [1] })
}

fn store(profiles: Value) -> Value {
    json!({ "version": 1, "profiles": profiles, "invented": true })
}

#[tokio::test]
async fn openclaw_gets_its_own_profiles_back_copies_included() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    let login = rig.sim.state().seed_login(SeedLogin::account("a"));
    let other = rig.sim.state().seed_login(SeedLogin::account("b"));
    let main = store(json!({ "openai-codex:a": inline(&login), "openai-codex:b": inline(&other),
        "anthropic:x": { "type": "api_key", "provider": "anthropic", "key": "sk-ant" } }));
    let work = store(json!({ "openai-codex:a": inline(&login) }));
    let files = vec![file(PROFILES, &main), file(WORK, &work)];
    import_openclaw(&peer, files.clone(), None).await;
    assert!(refresh(&peer, "openai-codex:a").await.failure.is_none());

    let request = pb::ExportCredentialsRequest {
        format: "openclaw".into(),
        credentials: vec!["openai-codex:a".into()],
        files: files.clone(),
        ..Default::default()
    };
    let answer = export(&peer, request).await.expect("exported");
    assert_eq!(answer.credentials.len(), 1, "{answer:?}");
    let written = content(&answer, PROFILES);
    let mine = &written["profiles"]["openai-codex:a"];
    assert_ne!(mine["refresh"], json!(login.refresh_token));
    assert_eq!(written["profiles"]["openai-codex:b"], main["profiles"]["openai-codex:b"], "not ours to change");
    assert_eq!(
        (&written["profiles"]["anthropic:x"], &written["invented"]),
        (&main["profiles"]["anthropic:x"], &json!(true))
    );
    assert_eq!((&mine["displayName"], &mine["future"]), (&json!("mine"), &json!([1])));
    assert!(mine["expires"].as_i64() >= Some(login.expires_at * 1000));
    assert_eq!(content(&answer, WORK)["profiles"]["openai-codex:a"]["refresh"], mine["refresh"], "the copy too");
    go_on(&rig, &mine["refresh"]).await;
    let exported: Vec<bool> = peer.list().await.iter().map(|c| c.exported_at.is_some()).collect();
    assert_eq!(exported, [true, false]);

    // Where the files are gone, what the import has kept fills in.
    let request = pb::ExportCredentialsRequest {
        format: "openclaw".into(),
        credentials: vec!["openai-codex:b".into()],
        ..Default::default()
    };
    let answer = export(&peer, request).await.expect("exported");
    let anew = content(&answer, PROFILES);
    assert_eq!(anew["profiles"]["openai-codex:b"]["displayName"], "mine", "{anew}");
    assert_eq!(anew["profiles"]["openai-codex:b"]["refresh"], json!(other.refresh_token));
}

#[tokio::test]
async fn sidecars_stay_sidecars() {
    let rig = Rig::new().await;
    let peer = rig.start().await;
    let login = rig.sim.state().seed_login(SeedLogin::account("a"));
    let profile = json!({ "type": "oauth", "provider": "openai-codex", "accountId": "a", "oauthRef":
        { "source": "openclaw-credentials", "provider": "openai-codex", "id": "00112233445566778899aabbccddeeff" } });
    let profiles = file(PROFILES, &store(json!({ "openai-codex:a": profile })));
    let plain = json!({ "version": 1, "profileId": "openai-codex:a", "provider": "openai-codex", "later": 7,
        "access": login.access_token, "refresh": login.refresh_token });
    import_openclaw(&peer, vec![profiles.clone(), file(SIDECAR, &plain)], None).await;
    assert!(refresh(&peer, "openai-codex:a").await.failure.is_none());
    let request = |files: Vec<pb::ImportFile>, seed: Option<&str>| pb::ExportCredentialsRequest {
        format: "openclaw".into(),
        files,
        secret_seed: seed.map(seed_file),
        again: true,
        ..Default::default()
    };
    let answer = export(&peer, request(vec![profiles.clone(), file(SIDECAR, &plain)], None)).await.expect("exported");
    let written = content(&answer, SIDECAR);
    assert_ne!(written["refresh"], json!(login.refresh_token));
    assert_eq!((&written["later"], written.get("encrypted")), (&json!(7), None), "plaintext stays plaintext");
    let stays = &content(&answer, PROFILES)["profiles"]["openai-codex:a"];
    assert!(stays.get("refresh").is_none() && stays["oauthRef"]["id"].is_string(), "{stays}");

    // A sidecar that is gone is made anew, encrypted, which needs the seed.
    let without = export(&peer, request(vec![profiles.clone()], None)).await.expect("said");
    assert!(without.files.is_empty() && without.credentials[0].detail.contains("--secret-key-file"), "{without:?}");
    let sealed = export(&peer, request(vec![profiles.clone()], Some(" the seed \n"))).await.expect("exported");
    let sidecar = content(&sealed, SIDECAR);
    assert_eq!(sidecar["encrypted"]["algorithm"], "aes-256-gcm", "{sidecar}");
    let again =
        export(&peer, request(vec![profiles.clone(), file(SIDECAR, &sidecar)], Some("the seed"))).await.expect("again");
    let renewed = content(&again, SIDECAR);
    assert_ne!(renewed["encrypted"]["iv"], sidecar["encrypted"]["iv"], "never twice with one nonce");
    let wrong =
        export(&peer, request(vec![profiles.clone(), file(SIDECAR, &sidecar)], Some("wrong"))).await.expect("said");
    assert!(wrong.files.is_empty() && wrong.credentials[0].detail.contains("cannot be opened"), "{wrong:?}");

    // What OpenClaw would read is what was exported: another installation takes it.
    let elsewhere = Rig::new().await;
    let peer = elsewhere.start().await;
    let taken = import_openclaw(&peer, vec![profiles, file(SIDECAR, &renewed)], Some("the seed")).await;
    assert!(taken.usable, "{taken:?}");
    go_on(&rig, &written["refresh"]).await;
}
