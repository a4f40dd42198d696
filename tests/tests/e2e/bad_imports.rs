//! Files of other programs that cannot be read: the command names file and cause, and nothing is lost or overwritten.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::{World, call, lasting_files};

/// What `import codex` says of a file with these bytes, which it must leave as they are.
async fn refused(world: &World, name: &str, bytes: &[u8]) -> String {
    let path = world.home.write(name, "");
    std::fs::write(&path, bytes).expect("written");
    let said = world.import(&path, "other").await.exits(1);
    assert!(said.text().contains(name), "it names the file: {said}");
    assert!(!said.text().contains("rt_sim") && !said.text().contains("panicked"), "{said}");
    assert_eq!(std::fs::read(&path).expect("read"), bytes, "the file stays as it is");
    said.text()
}

async fn credentials(world: &World) -> Value {
    world.home.cli(&["credentials", "list", "--json"]).await.ok().json()
}

fn truncate(path: &Path, to: usize) {
    let bytes = std::fs::read(path).expect("read");
    std::fs::write(path, &bytes[..to.min(bytes.len())]).expect("written");
}

e2e::in_each_topology! {
    /// Malformed `auth.json` of every kind.
    async fn a_malformed_auth_json_changes_nothing(topology) {
        let (world, login) = World::with_login().await;
        let whole = login.codex_auth_json().to_string();
        let before = credentials(&world).await;
        // The audit log, in the database, tells of each attempt.
        let files = || {
            let mut files = lasting_files(&world.home);
            files.retain(|(name, _)| name != "switchboard.db");
            files
        };
        let untouched = files();
        let mut running = None;
        // First without a server, then through the running one: the same words.
        for _ in 0..2 {
            let said = refused(&world, "cut.json", &whole.as_bytes()[..whole.len() / 2]).await;
            assert!(said.contains("not JSON") && said.contains("cut off"), "{said}");
            let said = refused(&world, "empty.json", b"").await;
            assert!(said.contains("not JSON"), "{said}");
            let said = refused(&world, "list.json", b"[1, 2]").await;
            assert!(said.contains("not a JSON object"), "{said}");
            let said = refused(&world, "latin.json", b"{\"tokens\": {\"access_token\": \"\xe9\"}}").await;
            assert!(said.contains("not UTF-8"), "{said}");
            let said = refused(&world, "nothing.json", b"{\"auth_mode\": \"chatgpt\", \"tokens\": null}").await;
            assert!(said.contains("no credential"), "{said}");
            let wrong = json!({ "tokens": { "access_token": 7, "refresh_token": "rt_sim.x" } }).to_string();
            let said = refused(&world, "wrong.json", wrong.as_bytes()).await;
            assert!(said.contains("access_token"), "{said}");
            let absent = world.import(&world.home.path("absent.json"), "other").await.exits(1);
            assert!(absent.stderr.contains("absent.json"), "{absent}");
            assert_eq!(credentials(&world).await, before);
            if running.is_none() {
                assert!(files() == untouched, "byte for byte");
                running = Some(world.start(topology).await);
            }
        }
        let switchboard = running.expect("started");
        let _ = call(&switchboard, "codex/gpt-5.5").await.ok();
    }

    /// A truncated sidecar is kept by name with its cause, and does not replace the credential that is there.
    async fn a_truncated_sidecar_is_named_and_replaces_nothing(topology) {
        let world = World::new().await;
        let copy = world.home.copy_fixture("openclaw-state");
        world.home.env("XDG_CONFIG_HOME", copy.join("xdg-config").to_string_lossy());
        let state = copy.to_string_lossy().into_owned();
        let sidecar = copy.join("credentials/auth-profiles/f4f8252ceb052979232445f2c58871b7.json");
        let import = ["import", "openclaw", state.as_str(), "--json"];
        let _ = world.home.cli(&import).await.ok();
        let before = credentials(&world).await;
        truncate(&sidecar, 200);
        let cut = std::fs::read(&sidecar).expect("read");
        let switchboard = world.start(topology).await;
        let said = switchboard.cli(&import).await.json();
        let line =
            said["credentials"].as_array().expect("lines").iter().find(|line| line["provider"] == "openai-codex");
        let line = line.expect("the login's line");
        assert_eq!(line["action"], "undecryptable", "{said}");
        let detail = line["detail"].as_str().expect("a detail");
        for part in ["f4f8252ceb052979232445f2c58871b7.json", "cut off", "stays as it is"] {
            assert!(detail.contains(part), "{part}: {detail}");
        }
        assert_eq!(credentials(&world).await, before);
        assert_eq!(std::fs::read(&sidecar).expect("read"), cut);

        // A store that has nothing else keeps it by name, so that status can say why.
        let _ = switchboard
            .cli(&["credentials", "remove", before["credentials"][0]["label"].as_str().expect("a label")])
            .await;
        let _ = switchboard
            .cli(&["credentials", "remove", before["credentials"][1]["label"].as_str().expect("a label")])
            .await;
        let _ = switchboard.cli(&import).await;
        let failed = call(&switchboard, "codex/gpt-5.5").await.exits(1).json();
        assert_eq!(failed["error"]["reason"], "CREDENTIAL_NOT_BOUND", "{failed}");
        assert_eq!(failed["error"]["candidates"][0]["reason"], "undecryptable", "{failed}");
        assert!(failed["error"]["message"].as_str().expect("a message").contains("cut off"), "{failed}");
    }

    /// Older tokens do not replace newer ones: their refresh token is spent.
    async fn older_tokens_do_not_replace_newer_ones(topology) {
        let world = World::new().await;
        world.expired("acct-1", "main").await;
        let switchboard = world.start(topology).await;
        let _ = call(&switchboard, "codex/gpt-5.5").await.ok();
        let before = credentials(&world).await;
        assert_eq!(before["credentials"][0]["version"], 2, "{before}");
        // The file that was imported at first is still there, with the token that has been spent since.
        let path = world.home.path("codex-0/auth.json");
        let said = switchboard
            .cli(&["import", "codex", &path.to_string_lossy(), "--label", "main", "--json"])
            .await
            .ok()
            .json();
        assert_eq!(said["credentials"][0]["action"], "unchanged", "{said}");
        assert_eq!(credentials(&world).await, before);
        let _ = call(&switchboard, "codex/gpt-5.5").await.ok();
        assert_eq!(world.sim.state().token_requests().len(), 1);
    }
}
