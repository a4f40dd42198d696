//! Ctrl-C and SIGTERM in the middle of a command that runs its own auth-svc: what has begun is brought to its end.

use std::process::Stdio;

use codex_sim::SeedLogin;
use e2e::eventually;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::World;

fn command_of(world: &World, args: &[&str]) -> std::process::Command {
    let mut command = world.home.command("switchboard");
    command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// True under `nohup` and its like: a command that these tests start goes on at a hangup then, as it should.
fn hangups_are_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("a mask");
    u64::from_str_radix(mask.trim(), 16).expect("hexadecimal") & 1 == 1
}

/// Starts a command, and sends it signals once the provider, whose answer is held back, was asked: each so many
/// milliseconds after the one before.
async fn interrupted(world: &World, args: &[&str], signals: &[(Signal, u64)]) -> (Option<i32>, String) {
    let before = world.sim.state().requests_to("/oauth/token").len();
    let mut command = tokio::process::Command::from(command_of(world, args));
    command.kill_on_drop(true);
    let child = command.spawn().expect("started");
    let id = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)).expect("it runs");
    eventually("it asks", || world.sim.state().requests_to("/oauth/token").len() > before).await;
    for (signal, after_ms) in signals {
        tokio::time::sleep(std::time::Duration::from_millis(*after_ms)).await;
        kill_process(id, *signal).expect("signalled");
    }
    let ended = tokio::time::timeout(e2e::PATIENCE, child.wait_with_output()).await.expect("in time").expect("ended");
    (ended.status.code(), String::from_utf8_lossy(&ended.stderr).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_without_a_server_is_kept_when_it_is_interrupted() {
    let (world, _) = World::with_login().await;
    let account = world.home.cli(&["credentials", "list", "--json"]).await.ok().json()["credentials"][0].clone();
    let label = account["label"].as_str().expect("a label").to_owned();
    let state = world.sim.state();
    let signals = [Signal::INT, Signal::TERM, Signal::HUP];
    let signals = &signals[..if hangups_are_ignored() { 2 } else { 3 }];
    for (signal, version) in signals.iter().copied().zip(2..) {
        state.set_token_scenario("*", Some("delay:1500".parse().expect("known")));
        // `timeout` sends its signal twice: that is one request to end.
        let twice = [(signal, 0), (signal, 100)];
        let (code, said) = interrupted(&world, &["credentials", "refresh", &label], &twice).await;
        assert_eq!(code, Some(130), "{signal:?}: {said}");
        assert!(said.contains("interrupted"), "{signal:?}: {said}");
        let shown = world.home.cli(&["credentials", "show", &label, "--json"]).await.ok().json();
        assert_eq!((shown["version"].as_i64(), shown["state"].as_str()), (Some(version), Some("ready")), "{shown}");
    }
    let acts = world.home.cli(&["audit", "list", "--json"]).await.ok().json();
    let refreshes = acts["entries"].as_array().expect("a list").iter().filter(|act| act["act"] == "credential.refresh");
    assert_eq!(refreshes.filter(|act| act["outcome"] == "ok").count(), signals.len(), "{acts}");

    // Who will not wait is not made to.
    state.set_token_scenario("*", Some("stall".parse().expect("known")));
    let (code, said) =
        interrupted(&world, &["credentials", "refresh", &label], &[(Signal::INT, 0), (Signal::INT, 1500)]).await;
    assert_eq!(code, Some(130), "{said}");
    assert_eq!(said.matches("interrupted").count(), 1, "it ended at once: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_is_interrupted_says_what_to_do() {
    let world = World::new().await;
    let login = world.sim.state().seed_login(SeedLogin::account("a"));
    let auth = world.home.write("codex/auth.json", &login.codex_auth_json().to_string());
    let path = auth.to_string_lossy().into_owned();
    let _ = world.home.cli(&["import", "codex", &path, "--label", "main"]).await.ok();
    let mut server = world.start(e2e::Topology::OneProcess).await;
    world.sim.state().set_token_scenario("*", Some("delay:3000".parse().expect("known")));
    // While this is under way an export waits for it, in the server.
    let refresh = world.home.cli(&["credentials", "refresh", "main"]);
    let export = async {
        eventually("a refresh begins", || !world.sim.state().requests_to("/oauth/token").is_empty()).await;
        let mut command = tokio::process::Command::from(command_of(&world, &["export", "codex", &path]));
        command.kill_on_drop(true);
        let child = command.spawn().expect("started");
        let id = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)).expect("it runs");
        e2e::eventually_async("it gives the ownership up", async || {
            let shown = world.home.cli(&["credentials", "show", "main", "--json"]).await.ok().json();
            shown["exportedAt"].is_number()
        })
        .await;
        kill_process(id, Signal::INT).expect("signalled");
        child.wait_with_output().await.expect("ended")
    };
    let (refresh, export) = tokio::join!(refresh, export);
    let said = String::from_utf8_lossy(&export.stderr).into_owned();
    assert_eq!(export.status.code(), Some(130), "{said}");
    assert!(said.contains("ownership may have been given up") && said.contains("same command again"), "{said}");
    let _ = refresh;
    e2e::eventually_async("it is recorded", async || {
        let acts = world.home.cli(&["audit", "list", "--act", "credential.export", "--json"]).await.ok().json();
        acts["entries"].as_array().is_some_and(|entries| entries.len() == 1)
    })
    .await;
    let _ = world.home.cli(&["export", "codex", &path, "--again"]).await.ok();
    let written = std::fs::read_to_string(&auth).expect("read");
    assert!(!written.contains(&login.refresh_token), "the current tokens are there");
    server.stop().await;
}
