//! Backups and restores, another database key, and the way through upgrades: what was durable is there afterwards, and
//! no refresh token is spent twice.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use codex_sim::{SeedLogin, Sim};
use e2e::{Home, Output, Part, Switchboard};
use futures_util::future::join;
use serde_json::Value;

use crate::support::{World, call, candidates, lasting_files, only_route, status, whole};

/// A passphrase file and the path of a backup beside it.
struct Backup {
    file: String,
    passphrase: String,
}

impl Backup {
    fn beside(home: &Home) -> Self {
        let passphrase = home.write("passphrase", "correct horse battery staple\n");
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        Self { file: text(home.path("switchboard.backup")), passphrase: text(passphrase) }
    }

    async fn make(&self, home: &Home) -> Output {
        home.cli(&["backup", &self.file, "--passphrase-file", &self.passphrase, "--json"]).await
    }

    async fn restore(&self, home: &Home) -> Output {
        home.cli(&["restore", &self.file, "--passphrase-file", &self.passphrase, "--json"]).await
    }
}

/// What became of each item of a backup: kind, name, action.
fn items(said: &Value) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let list = said["items"].as_array().expect("items");
    list.iter().map(|one| (text(&one["kind"]), text(&one["name"]), text(&one["action"]))).collect()
}

fn came_in(said: &Value, kind: &str, name: &str, action: &str) {
    let found = items(said).iter().any(|one| (one.0.as_str(), one.1.as_str(), one.2.as_str()) == (kind, name, action));
    assert!(found, "{kind} {name} {action}: {said}");
}

async fn credential(home: &Home, label: &str) -> Value {
    home.cli(&["credentials", "show", label, "--json"]).await.ok().json()
}

fn refreshes(sim: &Sim) -> Vec<String> {
    sim.state().token_requests().into_iter().map(|request| request.outcome).collect()
}

fn nothing_was_reused(sim: &Sim) {
    let logins = sim.state().stats().logins;
    assert!(logins.iter().all(|login| login.alive), "{logins:?}");
}

/// Calls until told to stop, each of which must be answered. Gives their number.
async fn calls_go_on(switchboard: &Switchboard, stop: &std::sync::atomic::AtomicBool) -> usize {
    let http = switchboard.http();
    let mut made = 0;
    while !stop.load(std::sync::atomic::Ordering::SeqCst) {
        let _ = http.respond(&whole("Hello")).await.is(200);
        made += 1;
    }
    made
}

e2e::in_each_topology! {
    /// A backup while calls run, restored on another host with another database key: calls work there with the token
    /// that lives, keys work there, and no refresh reaches the provider before somebody confirms.
    async fn a_backup_works_elsewhere_and_spends_nothing(topology) {
        let (world, _) = World::with_login().await;
        world.expired("acct-2", "spare").await;
        let mut here = world.start(topology).await;
        let key = here.key();
        let backup = Backup::beside(&world.home);
        let stop = std::sync::atomic::AtomicBool::new(false);
        let making = async {
            let made = backup.make(&world.home).await.ok().json();
            stop.store(true, std::sync::atomic::Ordering::SeqCst);
            made
        };
        let (made, calls) = join(making, calls_go_on(&here, &stop)).await;
        assert!(made["bytes"].as_u64().is_some_and(|bytes| bytes > 500) && calls > 0, "{made}, {calls} calls");
        let bytes = std::fs::read(&backup.file).expect("the backup");
        assert_eq!(std::fs::metadata(&backup.file).expect("there").permissions().mode() & 0o777, 0o600);
        assert!(!bytes.windows(6).any(|window| window == b"acct-1"), "it is encrypted");
        let refused = backup.make(&world.home).await.exits(1);
        assert!(refused.json()["error"]["nextStep"].as_str().is_some_and(|next| next.contains("--force")), "{refused}");
        assert!(std::fs::read(&backup.file).expect("the backup") == bytes);
        here.stop().await;

        let elsewhere = Home::new(&world.sim);
        let said = backup.restore(&elsewhere).await.ok().json();
        came_in(&said, "credential", "main", "created");
        came_in(&said, "credential", "spare", "created");
        came_in(&said, "key", "default", "created");
        assert!(!elsewhere.data_dir().join("agent.key").exists(), "no key is made that the old host did not have");
        assert!(said["notes"].to_string().contains("credentials confirm"), "{said}");
        let read = |home: &Home| std::fs::read(home.data_dir().join("database.key")).expect("a key");
        assert_ne!(read(&world.home), read(&elsewhere));
        let there = Switchboard::start(&elsewhere, topology).await;
        let before = refreshes(&world.sim).len();
        let answer = call(&there, "codex/gpt-5.5").await.ok().json();
        assert_eq!(answer["result"]["payloads"][0]["text"], "OK");
        let _ = there.http_as(Some(&key)).respond(&whole("Hello")).await.is(200);
        let main = credential(&elsewhere, "main").await;
        assert_eq!((&main["state"], &main["unconfirmed"]), (&"ready".into(), &true.into()), "{main}");
        assert!(main["detail"].as_str().is_some_and(|text| text.contains("unconfirmed")), "{main}");
        let spare = credential(&elsewhere, "spare").await;
        assert_eq!((&spare["state"], &spare["unconfirmed"]), (&"unconfirmed".into(), &true.into()), "{spare}");

        // Only the refresh token would help this one, and it is not used.
        let _ = there.cli(&["credentials", "remove", "main"]).await.ok();
        let failed = call(&there, "codex/gpt-5.5").await.exits(1).json();
        assert_eq!(failed["error"]["reason"], "CREDENTIAL_NOT_BOUND", "{failed}");
        assert_eq!(candidates(&failed["error"]["candidates"]), [("spare".to_owned(), "unconfirmed".to_owned())]);
        assert!(failed["error"]["nextStep"].as_str().is_some_and(|text| text.contains("confirm")), "{failed}");
        assert_eq!(only_route(&status(&there).await)["reason"], "unconfirmed");
        let refused = there.cli(&["credentials", "refresh", "spare"]).await.exits(1);
        assert!(refused.stderr.contains("switchboard credentials confirm spare"), "{refused}");
        assert_eq!(refreshes(&world.sim).len(), before, "no refresh reached the provider");

        assert_eq!(there.cli(&["credentials", "confirm", "spare"]).await.ok().stdout, "confirmed spare\n");
        let again = there.cli(&["credentials", "confirm", "spare"]).await.ok();
        assert!(again.stdout.contains("needs no confirmation"), "{again}");
        let _ = call(&there, "codex/gpt-5.5").await.ok();
        assert_eq!(refreshes(&world.sim).len(), before + 1);
        let spare = credential(&elsewhere, "spare").await;
        assert_eq!((&spare["state"], &spare["unconfirmed"]), (&"ready".into(), &false.into()), "{spare}");
        nothing_was_reused(&world.sim);
    }

    /// Over a live database, after the login was refreshed: what is here is newer and stays.
    async fn a_restore_over_a_live_database_keeps_the_newer_tokens(topology) {
        let (world, _) = World::with_login().await;
        world.api_key("paid").await;
        let mut switchboard = world.start(topology).await;
        let backup = Backup::beside(&world.home);
        let _ = backup.make(&world.home).await.ok();
        let _ = switchboard.cli(&["credentials", "refresh", "main"]).await.ok();
        let _ = switchboard.cli(&["credentials", "remove", "paid"]).await.ok();
        let _ = switchboard.cli(&["keys", "revoke", "default"]).await.ok();
        let before = credential(&world.home, "main").await;
        assert_eq!(before["version"], 2);
        let planned = switchboard
            .cli(&["restore", &backup.file, "--passphrase-file", &backup.passphrase, "--dry-run"])
            .await
            .ok();
        assert!(planned.stdout.contains("kept") && planned.stdout.contains("dry run: nothing"), "{planned}");
        let said = backup.restore(&world.home).await.ok().json();
        came_in(&said, "credential", "main", "kept");
        came_in(&said, "credential", "paid", "created");
        came_in(&said, "key", "default", "kept");
        assert_eq!(credential(&world.home, "main").await, before);
        assert_eq!(credential(&world.home, "paid").await["state"], "ready", "an API key is not spent by use");
        let _ = call(&switchboard, "openai/gpt-5.5").await.ok();
        let _ = call(&switchboard, "codex/gpt-5.5").await.ok();
        assert_eq!(switchboard.http().respond(&whole("Hello")).await.status, 401, "revoked here stays revoked");
        assert_eq!(refreshes(&world.sim), ["ok"]);
        switchboard.stop().await;
        nothing_was_reused(&world.sim);
    }

    /// Another key while calls run: none of them fails, the old key opens nothing, a restart finds everything.
    async fn another_key_while_serving(topology) {
        let (world, _) = World::with_login().await;
        world.expired("acct-2", "spare").await;
        let mut switchboard = world.start(topology).await;
        let file = world.home.data_dir().join("database.key");
        let old = std::fs::read(&file).expect("a key");
        let stop = std::sync::atomic::AtomicBool::new(false);
        let changing = async {
            for _ in 0..3 {
                let said = switchboard.cli(&["credentials", "rekey", "--json"]).await.ok().json();
                assert!(said["values"].as_i64().is_some_and(|values| values >= 4), "{said}");
                assert_ne!(said["oldKeyId"], said["newKeyId"]);
            }
            // A refresh after the change writes under the new key.
            let _ = switchboard.cli(&["credentials", "refresh", "spare"]).await.ok();
            stop.store(true, std::sync::atomic::Ordering::SeqCst);
        };
        let ((), calls) = join(changing, calls_go_on(&switchboard, &stop)).await;
        assert!(calls > 0);
        let new = std::fs::read(&file).expect("a key");
        assert_ne!(old, new);
        assert_eq!(std::fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
        let names: Vec<String> = lasting_files(&world.home).into_iter().map(|(name, _)| name).collect();
        assert!(!names.iter().any(|name| name.contains(".next") || name.contains(".old")), "{names:?}");
        switchboard.kill_all().await;
        switchboard.restart().await;
        let _ = call(&switchboard, "codex/gpt-5.5").await.ok();
        switchboard.stop().await;

        world.home.write("data/database.key", &String::from_utf8_lossy(&old));
        let refused = world.home.cli(&["credentials", "list"]).await.exits(78);
        assert!(refused.stderr.contains("was encrypted with key"), "{refused}");
        world.home.write("data/database.key", &String::from_utf8_lossy(&new));
        let again = world.start(topology).await;
        let _ = again.cli(&["credentials", "remove", "main"]).await.ok();
        let _ = call(&again, "codex/gpt-5.5").await.ok();
        nothing_was_reused(&world.sim);
    }

    /// The process dies at each step of a change of the key, with a server and without: nothing is lost, and the next
    /// start brings the change to its end or takes it back.
    async fn a_change_of_the_key_survives_a_kill_at_every_step(topology) {
        let (world, _) = World::with_login().await;
        let mut switchboard = world.start(topology).await;
        switchboard.stop().await;
        let file = world.home.data_dir().join("database.key");
        let steps =
            ["rekey-prepared", "rekey-before-commit", "rekey-committed", "rekey-before-rename", "rekey-renamed"];
        for (step, changed) in steps.into_iter().zip([false, false, true, true, true]) {
            let before = std::fs::read(&file).expect("a key");
            world.home.env("SWITCHBOARD_FAIL_POINT", step);
            let killed = world.home.cli(&["credentials", "rekey"]).await;
            assert_eq!(killed.code, None, "{step}: {killed}");
            world.home.env("SWITCHBOARD_FAIL_POINT", "");
            let main = credential(&world.home, "main").await;
            assert_eq!(main["state"], "ready", "{step}: {main}");
            assert_eq!(std::fs::read(&file).expect("a key") != before, changed, "{step}");
            let names: Vec<String> = lasting_files(&world.home).into_iter().map(|(name, _)| name).collect();
            assert!(!names.iter().any(|name| name.ends_with(".next")), "{step}: {names:?}");
        }
        world.home.env("SWITCHBOARD_FAIL_POINT", "rekey-committed");
        let mut serving = world.start(topology).await;
        let _ = call(&serving, "codex/gpt-5.5").await.ok();
        let _ = serving.cli(&["credentials", "rekey"]).await.exits(1);
        let _ = serving.process(Part::Auth).exited().await;
        world.home.env("SWITCHBOARD_FAIL_POINT", "");
        serving.restart().await;
        let _ = call(&serving, "codex/gpt-5.5").await.ok();
        let _ = serving.cli(&["credentials", "refresh", "main"]).await.ok();
        nothing_was_reused(&world.sim);
    }
}

/// What is wrong with the file or the passphrase is told apart, and nothing is changed, nor made where nothing was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_does_not_open_changes_nothing() {
    let (world, _) = World::with_login().await;
    let backup = Backup::beside(&world.home);
    let _ = backup.make(&world.home).await.ok();
    let whole = std::fs::read(&backup.file).expect("the backup");
    let elsewhere = Home::new(&world.sim);
    let wrong = world.home.write("wrong", "another passphrase");
    let with = async |home: &Home, passphrase: &str, bytes: &[u8]| {
        std::fs::write(&backup.file, bytes).expect("written");
        home.cli(&["restore", &backup.file, "--passphrase-file", passphrase]).await.exits(1)
    };
    let before = lasting_files(&world.home);
    let mut changed = whole.clone();
    *changed.last_mut().expect("not empty") ^= 1;
    for (what, passphrase, bytes, says) in [
        ("another passphrase", wrong.to_string_lossy().as_ref(), whole.as_slice(), "passphrase is not the one"),
        ("cut off", &backup.passphrase, &whole[..whole.len() - 10], "is damaged: it is cut off"),
        ("cut off early", &backup.passphrase, &whole[..30], "is damaged"),
        ("changed", &backup.passphrase, &changed, "is damaged"),
        ("another file", &backup.passphrase, b"SQLite format 3\0", "no backup"),
    ] {
        for home in [&world.home, &elsewhere] {
            let refused = with(home, passphrase, bytes).await;
            assert!(refused.stderr.contains(says) && refused.stderr.contains("next: "), "{what}: {refused}");
            assert!(!refused.text().contains("another passphrase"), "{refused}");
        }
        assert!(!elsewhere.data_dir().exists(), "{what}");
        let now = credential(&world.home, "main").await;
        assert_eq!((&now["version"], &now["unconfirmed"]), (&1.into(), &false.into()), "{what}: {now}");
    }
    let names = |files: &[(String, Vec<u8>)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&before), names(&lasting_files(&world.home)));
    // A dry run makes nothing either.
    std::fs::write(&backup.file, &whole).expect("written");
    let args = ["restore", &backup.file, "--passphrase-file", &backup.passphrase, "--dry-run", "--json"];
    let said = elsewhere.cli(&args).await.ok().json();
    came_in(&said, "credential", "main", "created");
    assert!(!elsewhere.data_dir().exists());
}

/// Where the passphrase may come from.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_passphrase_comes_from_a_file_or_the_variable_that_names_it() {
    let (world, _) = World::with_login().await;
    let backup = Backup::beside(&world.home);
    let empty = world.home.write("empty", "\n");
    let refused =
        world.home.cli(&["backup", &backup.file, "--passphrase-file", &empty.to_string_lossy()]).await.exits(1);
    assert!(refused.stderr.contains("is empty"), "{refused}");
    assert!(!PathBuf::from(&backup.file).exists());
    std::fs::set_permissions(&backup.passphrase, std::fs::Permissions::from_mode(0o644)).expect("changed");
    world.home.env("SWITCHBOARD_PASSPHRASE_FILE", backup.passphrase.clone());
    let made = world.home.cli(&["backup", &backup.file]).await.ok();
    assert!(made.stdout.contains("wrote ") && made.stderr.contains("chmod 600"), "{made}");
    let again = world.home.cli(&["restore", &backup.file, "--json"]).await.ok().json();
    came_in(&again, "credential", "main", "unchanged");
    let _ = world.home.cli(&["backup", &backup.file, "--force"]).await.ok();
}

/// The key in the environment: it is changed for the one that is named as the next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_in_the_environment_is_changed_for_the_next_one() {
    let world = World::new().await;
    let (old, new) = ("0123456789abcdef".repeat(4), "fedcba9876543210".repeat(4));
    world.home.env("SWITCHBOARD_DATABASE_KEY", old.clone());
    world.login("acct-1", "main").await;
    let refused = world.home.cli(&["credentials", "rekey"]).await.exits(1);
    assert!(refused.stderr.contains("SWITCHBOARD_DATABASE_KEY_NEXT"), "{refused}");
    world.home.env("SWITCHBOARD_DATABASE_KEY_NEXT", new.clone());
    let said = world.home.cli(&["credentials", "rekey", "--json"]).await.ok().json();
    assert!(said["keyFile"].as_str().is_some_and(|place| place.contains("_NEXT")), "{said}");
    assert_eq!(credential(&world.home, "main").await["state"], "ready", "with both set");
    world.home.env("SWITCHBOARD_DATABASE_KEY", new.clone());
    assert_eq!(credential(&world.home, "main").await["state"], "ready", "with both the same");
    world.home.env("SWITCHBOARD_DATABASE_KEY", old).env("SWITCHBOARD_DATABASE_KEY_NEXT", "ab".repeat(32));
    let refused = world.home.cli(&["credentials", "list"]).await.exits(78);
    assert!(refused.stderr.contains("was encrypted with key"), "{refused}");
    assert!(!world.home.data_dir().join("database.key").exists());
}

/// A rejected token of a restored login is not refreshed; the confirmation makes it so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejected_restored_token_waits_for_its_confirmation() {
    let world = World::new().await;
    let (_, path) = world.home.codex_login(&world.sim, SeedLogin::account("acct-1"));
    let _ = world.import(&path, "main").await.ok();
    let backup = Backup::beside(&world.home);
    let _ = backup.make(&world.home).await.ok();
    let elsewhere = Home::new(&world.sim);
    let _ = backup.restore(&elsewhere).await.ok();
    let there = Switchboard::start(&elsewhere, e2e::Topology::OneProcess).await;
    world.behave("acct-1", "unauthorized_once");
    let failed = call(&there, "codex/gpt-5.5").await.exits(1).json();
    let detail = failed["error"]["candidates"][0]["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("switchboard credentials confirm main"), "{failed}");
    assert!(refreshes(&world.sim).is_empty());
    let _ = there.cli(&["credentials", "confirm", "main"]).await.ok();
    e2e::eventually_async("it is used again", async || call(&there, "codex/gpt-5.5").await.code == Some(0)).await;
    nothing_was_reused(&world.sim);
}
