//! The state directory of OpenClaw 2026.5.12, from whose users' trouble Switchboard comes: tokens in an encrypted
//! sidecar, and two names for one route.

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use codex_sim::AdoptTokens;
use e2e::{Output, Part, fixture, question};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::support::{CODEX, PLATFORM, World, call, candidates, only_route, status, trace_of, whole};

const FIXTURE: &str = "openclaw-state";
const ACCOUNT: &str = "acct-fixture-1";
const API_KEY: &str = "sk-fake-acct-fixture-1";
const PROFILE: &str = "openai-codex:agent@example.com";
const SIDECAR: &str = "f4f8252ceb052979232445f2c58871b7";

/// The tokens in the fixture's sidecar, opened as OpenClaw does.
fn sidecar_tokens() -> Value {
    let read = |name: &str| std::fs::read_to_string(fixture(FIXTURE).join(name)).expect("a file of the fixture");
    let seed = read("xdg-config/openclaw/auth-profile-secret-key");
    let key = Sha256::digest(format!("openclaw:auth-profile-oauth:{}", seed.trim()));
    let sidecar: Value =
        serde_json::from_str(&read(&format!("credentials/auth-profiles/{SIDECAR}.json"))).expect("JSON");
    let bytes = |field: &str| {
        let text = sidecar["encrypted"][field].as_str().expect("a text");
        URL_SAFE_NO_PAD.decode(text).expect("base64url")
    };
    let nonce: [u8; 12] = bytes("iv").try_into().expect("12 bytes");
    let sealed = [bytes("ciphertext"), bytes("tag")].concat();
    let associated = format!("{SIDECAR}\0{PROFILE}\0openai-codex");
    let cipher = Aes256Gcm::new_from_slice(&key).expect("32 bytes");
    let payload = Payload { msg: &sealed, aad: associated.as_bytes() };
    let plain = cipher.decrypt(&Nonce::from(nonce), payload).expect("the fixture's own seed opens it");
    serde_json::from_slice(&plain).expect("JSON")
}

/// A simulator that knows the fixture's login and API key.
async fn world() -> World {
    let world = World::new().await;
    let tokens = sidecar_tokens();
    let text = |field: &str| tokens[field].as_str().map(str::to_owned);
    let adopted = AdoptTokens {
        account_id: Some(ACCOUNT.to_owned()),
        access_token: text("access"),
        refresh_token: text("refresh"),
        id_token: text("idToken"),
        expires_in: Some(std::time::Duration::from_secs(3600)),
        ..AdoptTokens::default()
    };
    world.sim.state().adopt_tokens(adopted).expect("adopted");
    world.sim.state().add_api_key(API_KEY);
    world
}

/// Imports the fixture; `seed` stands for the one in its own place.
async fn import(world: &World, seed: Option<&str>) -> Output {
    let copy = world.home.copy_fixture(FIXTURE);
    if let Some(seed) = seed {
        std::fs::write(copy.join("xdg-config/openclaw/auth-profile-secret-key"), seed).expect("written");
    }
    world.home.env("XDG_CONFIG_HOME", copy.join("xdg-config").to_string_lossy());
    world.home.cli(&["import", "openclaw", &copy.to_string_lossy(), "--json"]).await
}

e2e::in_each_topology! {
    /// Both of its names answer, on every face, through the one credential, on the one right path.
    async fn both_names_answer_through_one_credential(topology) {
        let world = world().await;
        let imported = import(&world, None).await.ok().json();
        assert_eq!((&imported["status"], &imported["usable"]), (&"ok".into(), &true.into()), "{imported}");
        let switchboard = world.start(topology).await;
        let mut labels = Vec::new();
        for model in ["openai-codex/gpt-5.5", "codex/gpt-5.5"] {
            let answer = call(&switchboard, model).await.ok().json();
            assert_eq!(answer["status"], "ok");
            assert_eq!(answer["result"]["payloads"][0]["text"], "OK");
            let trace = trace_of(&answer);
            assert_eq!((&trace["winnerProvider"], &trace["winnerModel"]), (&"openai-codex".into(), &"gpt-5.5".into()));
            assert_eq!((&trace["requestedModel"], &trace["fallbackUsed"]), (&model.into(), &false.into()));
            assert_eq!(trace["attempts"].as_array().expect("attempts").len(), 1, "{trace}");
            let url = trace["attempts"][0]["url"].as_str().expect("a URL");
            assert_eq!(url, format!("{}{CODEX}", world.sim.base_url()));
            labels.push(trace["attempts"][0]["credential"].clone());

            let mut over_grpc = switchboard.grpc();
            let answer = over_grpc.complete(question(model, "Reply exactly: OK")).await.expect("answered").into_inner();
            let result = answer.result.expect("a result");
            assert_eq!((answer.status.as_str(), result.payloads[0].text.as_str()), ("ok", "OK"));
            let trace = result.meta.expect("meta").execution_trace.expect("a trace");
            labels.push(trace.attempts[0].credential.clone().into());

            let mut body = whole("Reply exactly: OK");
            body["model"] = model.into();
            let answer = switchboard.http().respond(&body).await.is(200).json();
            assert_eq!(answer["output"][0]["content"][0]["text"], "OK", "{answer}");
        }
        labels.dedup();
        assert_eq!(labels.len(), 1, "one credential for both: {labels:?}");

        let requests = world.upstream();
        assert_eq!(requests.len(), 6);
        for request in &requests {
            assert_eq!((request.path.as_str(), request.status), (CODEX, Some(200)));
            assert_eq!(request.header("chatgpt-account-id"), Some(ACCOUNT));
            assert_eq!(request.credential.as_deref(), Some(ACCOUNT));
        }
        assert_eq!(world.sim.state().requests_to(PLATFORM).len(), 0, "its API key bills another realm");
    }

    /// Status and call say the same of a sidecar that cannot be opened, nothing is sent, and the API key that came in
    /// beside it is not used in its place.
    async fn with_the_wrong_seed_status_and_call_say_undecryptable(topology) {
        let world = world().await;
        let imported = import(&world, Some("not-the-seed")).await;
        // The API key is usable, so the import as a whole is not in vain; the login's line says what is wrong.
        let said = imported.ok().json();
        let lines = said["credentials"].as_array().expect("credentials");
        let login = lines.iter().find(|line| line["provider"] == "openai-codex").expect("the login's line");
        assert_eq!(login["action"], "undecryptable", "{said}");
        let detail = login["detail"].as_str().expect("a detail");
        assert!(detail.contains("auth-profile-secret-key") && detail.contains(SIDECAR), "{detail}");
        let switchboard = world.start(topology).await;

        let status = status(&switchboard).await;
        let route = only_route(&status);
        assert_eq!((&route["bound"], &route["reason"]), (&Value::Null, &"undecryptable".into()), "{route}");
        assert_eq!(status["oauth"][0]["status"], "undecryptable", "{status}");
        assert_eq!(status["missing"][0], "openai-codex", "{status}");
        let of_status = candidates(&route["candidates"]);
        assert_eq!(of_status.len(), 1, "{route}");
        assert_eq!(of_status[0].1, "undecryptable");
        let _ = switchboard.cli(&["models", "status", "--check"]).await.exits(1);
        let told = switchboard.cli(&["models", "status"]).await.ok();
        assert!(told.stdout.contains("is not bound: undecryptable"), "{told}");

        for model in ["openai-codex/gpt-5.5", "codex/gpt-5.5"] {
            let failed = call(&switchboard, model).await.exits(1).json();
            assert_eq!(
                (&failed["status"], &failed["error"]["reason"]),
                (&"error".into(), &"CREDENTIAL_NOT_BOUND".into())
            );
            assert_eq!(candidates(&failed["error"]["candidates"]), of_status, "{failed}");
            assert_eq!(trace_of(&failed)["attempts"][0]["result"], "skipped", "{failed}");
            let told = switchboard.cli(&["call", "--model", model, "--message", "Hello"]).await.exits(1);
            assert!(told.stderr.contains("CREDENTIAL_NOT_BOUND") && told.stderr.contains("undecryptable"), "{told}");
            let over_grpc = switchboard.grpc().complete(question(model, "Hello")).await.expect_err("not bound");
            let failure = e2e::failure_from_status(&over_grpc, "gateway");
            assert_eq!(over_grpc.code(), tonic::Code::FailedPrecondition);
            assert_eq!(failure.reason, domain::Reason::CredentialNotBound, "{failure}");
            let mut body = whole("Hello");
            body["model"] = model.into();
            let over_http = switchboard.http().respond(&body).await.is(400).json();
            assert_eq!(over_http["error"]["code"], "credential_not_bound", "{over_http}");
            assert!(
                over_http["error"]["message"].as_str().expect("a message").contains("undecryptable"),
                "{over_http}"
            );
        }
        assert_eq!(world.sim.state().requests().len(), 0, "not one request left the machine");
    }

    /// With nothing else in the directory the import says that nothing usable came in. A later one with the right seed
    /// mends it, also while the services run.
    async fn the_right_seed_completes_what_the_wrong_one_began(topology) {
        let world = world().await;
        let copy = world.home.copy_fixture(FIXTURE);
        let profiles = copy.join("agents/main/agent/auth-profiles.json");
        let mut document: Value = serde_json::from_slice(&std::fs::read(&profiles).expect("read")).expect("JSON");
        document["profiles"].as_object_mut().expect("profiles").remove("openai:default");
        std::fs::write(&profiles, document.to_string()).expect("written");
        let seed = world.home.write("wrong-seed", "not-the-seed");
        let state = copy.to_string_lossy();
        let refused = world
            .home
            .cli(&["import", "openclaw", &state, "--secret-key-file", &seed.to_string_lossy()])
            .await
            .exits(1);
        assert!(refused.stderr.contains("no usable credential came in"), "{refused}");
        assert!(refused.stdout.contains("undecryptable") && refused.stdout.contains("wrong-seed"), "{refused}");
        let switchboard = world.start(topology).await;
        let _ = call(&switchboard, "codex/gpt-5.5").await.exits(1);

        let right = copy.join("xdg-config/openclaw/auth-profile-secret-key");
        let import = ["import", "openclaw", &state, "--secret-key-file", &right.to_string_lossy(), "--json"];
        let mended = switchboard.cli(&import).await.ok().json();
        assert_eq!(mended["credentials"][0]["action"], "updated", "{mended}");
        let _ = call(&switchboard, "codex/gpt-5.5").await.ok();
        assert_eq!(only_route(&status(&switchboard).await)["reason"], Value::Null);
        let again = switchboard.cli(&import).await.ok().json();
        assert_eq!(again["credentials"][0]["action"], "unchanged", "{again}");
    }

    /// A dry run says the same and leaves nothing behind.
    async fn a_dry_run_changes_nothing(topology) {
        let world = world().await;
        let copy = world.home.copy_fixture(FIXTURE);
        world.home.env("XDG_CONFIG_HOME", copy.join("xdg-config").to_string_lossy());
        let mut switchboard = world.start(topology).await;
        let said =
            world.home.cli(&["import", "openclaw", &copy.to_string_lossy(), "--dry-run", "--json"]).await.ok().json();
        assert_eq!((&said["dryRun"], &said["credentials"][0]["action"]), (&true.into(), &"created".into()), "{said}");
        let kept = switchboard.cli(&["credentials", "list", "--json"]).await.ok().json();
        assert_eq!(kept["credentials"].as_array().map(Vec::len), Some(0), "{kept}");
        assert!(switchboard.process(Part::Auth).is_running());
    }
}
