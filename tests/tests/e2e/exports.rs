//! Trying Switchboard is reversible: import, calls, a refresh, export, and the other program goes on with its own files.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use codex_sim::{AdoptTokens, SeedLogin};
use e2e::{Home, Output};
use serde_json::{Value, json};

use crate::support::{World, call};

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("read")).expect("JSON")
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("there").mode() & 0o777
}

/// A login of Codex CLI with fields that nobody knows, in a file that a link leads to.
fn codex_home(world: &World, account: &str) -> (PathBuf, Value) {
    let mut auth = world.sim.state().seed_login(SeedLogin::account(account)).codex_auth_json();
    auth["tokens"]["login_owner_id"] = json!("owner");
    auth["invented_in_2027"] = json!({ "deep": [1, "two"] });
    let name = format!("{account}/real.json");
    let real = world.home.write(&name, &serde_json::to_string_pretty(&auth).expect("JSON"));
    std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o640)).expect("set");
    let link = world.home.path(&format!("{account}/auth.json"));
    std::os::unix::fs::symlink("real.json", &link).expect("linked");
    (link, auth)
}

/// What the other program does next: spends the refresh token that it was given. The simulator detects a reuse.
async fn goes_on(world: &World, refresh_token: &Value) {
    let body = json!({ "client_id": "app_EMoamEEZ73f0CkXaXp7hrann", "grant_type": "refresh_token",
        "refresh_token": refresh_token });
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let url = format!("{}/oauth/token", world.sim.base_url());
    assert_eq!(client.post(url).json(&body).send().await.expect("sent").status(), 200);
}

/// The credential is exported, serves calls while its token lives, and is refreshed by nobody here.
async fn is_given_up(home: &Home, label: &str) {
    let shown = home.cli(&["credentials", "show", label, "--json"]).await.ok().json();
    assert!(shown["exportedAt"].is_number(), "{shown}");
    let refused = home.cli(&["credentials", "refresh", label]).await.exits(1);
    assert!(refused.stderr.contains("given up by an export"), "{refused}");
}

async fn export(home: &Home, args: &[&str]) -> Output {
    let all: Vec<&str> = std::iter::once("export").chain(args.iter().copied()).collect();
    let said = home.cli(&all).await;
    assert!(!said.text().contains("rt_sim") && !said.text().contains("eyJ"), "{said}");
    said
}

e2e::in_each_topology! {
    /// Codex CLI: import, a call, a refresh, export; first without a server, then with one.
    async fn codex_cli_gets_its_login_back(topology) {
        let world = World::new().await;
        let mut running = None;
        for account in ["acct-1", "acct-2"] {
            let home = &world.home;
            let (file, before) = codex_home(&world, account);
            let path = file.to_string_lossy().into_owned();
            let _ = world.import(&file, account).await.ok();
            if account == "acct-2" {
                let _ = home.cli(&["credentials", "order", "openai-codex", account]).await.ok();
                let switchboard = world.start(topology).await;
                let _ = call(&switchboard, "codex/gpt-5.5").await.ok();
                running = Some(switchboard);
            }
            let _ = home.cli(&["credentials", "refresh", account]).await.ok();
            let bytes = std::fs::read(&file).expect("read");

            let dry = export(home, &["codex", &path, "--credential", account, "--dry-run"]).await.ok();
            assert!(dry.stdout.contains("exported") && dry.stdout.contains("dry run: nothing was changed"), "{dry}");
            assert_eq!(std::fs::read(&file).expect("read"), bytes);

            let said = export(home, &["codex", &path, "--credential", account]).await.ok();
            assert!(said.stdout.contains(&format!("wrote {path}")), "{said}");
            assert!(said.stdout.contains(&format!("Switchboard does not refresh {account} any more")), "{said}");
            assert!(std::fs::symlink_metadata(&file).expect("there").is_symlink(), "the link stays");
            assert_eq!(mode(&file), 0o640, "the mode stays");
            let after = read(&file);
            assert_ne!(after["tokens"]["refresh_token"], before["tokens"]["refresh_token"], "the current one");
            for field in ["/tokens/login_owner_id", "/tokens/account_id", "/invented_in_2027", "/auth_mode"] {
                assert_eq!(after.pointer(field), before.pointer(field), "{field}");
            }
            is_given_up(home, account).await;

            let again = export(home, &["codex", &path, "--credential", account, "--json"]).await.ok().json();
            assert_eq!((&again["status"], &again["files"][0]), (&"ok".into(), &path.as_str().into()), "{again}");
            assert_eq!(read(&file), after, "the same tokens once more");
            goes_on(&world, &after["tokens"]["refresh_token"]).await;
        }
        let switchboard = running.expect("started");
        let _ = call(&switchboard, "codex/gpt-5.5").await.ok();
        assert!(world.sim.state().stats().logins.iter().all(|login| login.alive), "no token was spent twice");
    }

    /// The fixture of OpenClaw 2026.5.12: its encrypted sidecar is opened, refreshed, and sealed again with its own seed.
    async fn openclaw_gets_its_encrypted_sidecar_back(topology) {
        let world = World::new().await;
        let copy = world.home.copy_fixture("openclaw-state");
        let state = copy.to_string_lossy().into_owned();
        world.home.env("XDG_CONFIG_HOME", copy.join("xdg-config").to_string_lossy());
        let tokens = AdoptTokens {
            account_id: Some("acct-fixture-1".into()),
            refresh_token: Some("rt-fixture-1".into()),
            ..AdoptTokens::default()
        };
        world.sim.state().adopt_tokens(tokens).expect("adopted");
        let profiles = copy.join("agents/main/agent/auth-profiles.json");
        let sidecar = copy.join("credentials/auth-profiles/f4f8252ceb052979232445f2c58871b7.json");
        std::fs::set_permissions(&sidecar, std::fs::Permissions::from_mode(0o400)).expect("set");
        let (before, sealed) = (read(&profiles), read(&sidecar));
        let _ = world.home.cli(&["import", "openclaw", &state]).await.ok();
        let profile = "openai-codex:agent@example.com";
        let label = "openai-codex";
        let _ = world.home.cli(&["credentials", "refresh", label]).await.ok();
        let switchboard = world.start(topology).await;
        let _ = call(&switchboard, "codex/gpt-5.5").await.ok();

        // Without the seed nothing can be sealed: nothing is given up, and the next step is named.
        world.home.env("XDG_CONFIG_HOME", "/nonexistent");
        let skipped = export(&world.home, &["openclaw", &state, "--credential", label]).await.exits(1);
        assert!(skipped.stdout.contains("--secret-key-file") && skipped.stdout.contains("skipped"), "{skipped}");
        assert_eq!((read(&profiles), read(&sidecar)), (before.clone(), sealed.clone()));
        let shown = switchboard.cli(&["credentials", "show", label, "--json"]).await.ok().json();
        assert_eq!(shown["exportedAt"], Value::Null);

        let seed = copy.join("xdg-config/openclaw/auth-profile-secret-key").to_string_lossy().into_owned();
        let said = export(&world.home, &["openclaw", &state, "--secret-key-file", &seed, "--json"]).await.ok().json();
        assert_eq!(said["credentials"].as_array().map(Vec::len), Some(2), "the API key too: {said}");
        let (after, resealed) = (read(&profiles), read(&sidecar));
        assert_eq!(mode(&sidecar), 0o400);
        assert_ne!(resealed["encrypted"]["iv"], sealed["encrypted"]["iv"]);
        assert_eq!(resealed["profileId"], sealed["profileId"]);
        let mut like = after.clone();
        like["profiles"][profile]["expires"] = before["profiles"][profile]["expires"].clone();
        assert_eq!(like.to_string(), before.to_string(), "only the expiry has changed");
        is_given_up(&world.home, label).await;

        // What OpenClaw finds in there is the current login: another installation opens it and goes on with it.
        let other = World::new().await;
        let taken = ["import", "openclaw", &state, "--secret-key-file", &seed, "--json"];
        let taken = other.home.cli(&taken).await.ok().json();
        assert_eq!(taken["credentials"][0]["action"], "created", "{taken}");
        let back = ["export", "codex", "--credential", label, "--json"];
        let back = other.home.cli(&back).await.ok().json();
        let auth = read(Path::new(back["files"][0].as_str().expect("a file")));
        assert_eq!(mode(Path::new(back["files"][0].as_str().expect("a file"))), 0o600, "a new file is private");
        goes_on(&world, &auth["tokens"]["refresh_token"]).await;
        assert!(world.sim.state().stats().logins.iter().all(|login| login.alive));
        let _ = call(&switchboard, "codex/gpt-5.5").await.ok();
    }

    /// A file that cannot be written: the command says what has happened to the ownership, and can be run again.
    async fn a_file_that_cannot_be_written_loses_nothing(topology) {
        let (world, _) = World::with_login().await;
        let _switchboard = world.start(topology).await;
        // A directory stands where the new file would have to be made.
        let folder = world.home.path("blocked");
        std::fs::write(&folder, "a file").expect("written");
        let target = folder.join("auth.json").to_string_lossy().into_owned();
        let said = export(&world.home, &["codex", &target]).await.exits(1);
        assert!(said.stderr.contains("was not written") && said.stderr.contains("the ownership was given up"), "{said}");
        assert!(said.stderr.contains("run the same command again"), "{said}");
        is_given_up(&world.home, "main").await;
        std::fs::remove_file(&folder).expect("removed");
        let unsure = export(&world.home, &["codex", &target]).await.exits(1);
        assert!(unsure.stdout.contains("handed over before"), "{unsure}");
        let said = export(&world.home, &["codex", &target, "--again", "--json"]).await.ok().json();
        assert_eq!(said["status"], "ok", "{said}");
        goes_on(&world, &read(Path::new(&target))["tokens"]["refresh_token"]).await;
        let none = export(&world.home, &["openclaw", &world.home.path("home").to_string_lossy()]).await.exits(1);
        assert!(none.stderr.contains("OpenClaw") && none.stderr.contains("--credential"), "{none}");
    }
}
