//! Logging in and out through the command line, with and without a running server.

use std::process::Stdio;

use codex_sim::SimConfig;
use e2e::{Home, Output, eventually, eventually_async};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

use crate::support::{CODEX, PLATFORM, World, call, lasting_files, only_route, status};

async fn world() -> World {
    World::with(SimConfig { device_interval_seconds: 1, ..SimConfig::default() }).await
}

/// Runs `login codex` while its owner enters the code that the simulator waits for.
async fn log_in(world: &World, args: &[&str]) -> (Output, String) {
    let all: Vec<&str> = ["login", "codex"].iter().chain(args).copied().collect();
    let owner = async {
        let mut code = String::new();
        eventually_async("a code waits for its owner", async || {
            code = world.sim.state().pending_devices().pop().unwrap_or_default();
            !code.is_empty()
        })
        .await;
        world.sim.state().approve_device(&code).expect("approved");
        code
    };
    tokio::join!(world.home.cli(&all), owner)
}

/// Starts `switchboard <args>` with its ends in our hands.
fn spawn(world: &World, args: &[&str]) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut command = world.home.command("switchboard");
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn().expect("started");
    let stdout = child.stdout.take().expect("piped");
    (child, BufReader::new(stdout).lines())
}

/// Runs `login codex --paste`, signs in at the address that it prints, and pastes the lines that `pastes` makes of where
/// the browser ends.
async fn paste(world: &World, args: &[&str], pastes: impl FnOnce(String) -> Vec<String>) -> (Output, String) {
    let all: Vec<&str> = ["login", "codex", "--paste"].iter().chain(args).copied().collect();
    let (mut child, mut lines) = spawn(world, &all);
    let first = lines.next_line().await.expect("read").expect("a line");
    let url = first.split('"').find(|part| part.contains("/oauth/authorize?")).expect("a URL");
    let redirect = browse(url.trim_start_matches("open   ")).await;
    let mut stdin = child.stdin.take().expect("piped");
    for line in pastes(redirect.clone()) {
        stdin.write_all(format!("{line}\n").as_bytes()).await.expect("pasted");
    }
    drop(stdin);
    let mut stdout = first + "\n";
    while let Some(line) = lines.next_line().await.expect("read") {
        stdout += &(line + "\n");
    }
    let ended = child.wait_with_output().await.expect("ended");
    let stderr = String::from_utf8_lossy(&ended.stderr).into_owned();
    (Output { command: format!("switchboard {all:?}"), code: ended.status.code(), stdout, stderr }, redirect)
}

/// Where a browser ends that opens `url`.
async fn browse(url: &str) -> String {
    let none = reqwest::redirect::Policy::none();
    let browser = reqwest::Client::builder().redirect(none).no_proxy().build().expect("a client");
    let answer = browser.get(url).send().await.expect("answered");
    answer.headers()["location"].to_str().expect("text").to_owned()
}

/// A field of a URL's query; those of these tests need no decoding.
fn field(url: &str, name: &str) -> String {
    let query = url.split_once('?').expect("a query").1;
    let found = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("{url} has no {name}")).to_owned()
}

/// Starts a login and presses Ctrl-C once it waits.
async fn interrupt(world: &World, args: &[&str]) {
    let (mut child, mut lines) = spawn(world, args);
    // Held, or waiting for the child would close it: nobody has to press Enter.
    let _stdin = child.stdin.take();
    while !lines.next_line().await.expect("read").expect("a line").contains("Ctrl-C") {}
    if !args.contains(&"--paste") {
        eventually("it asks", || !world.sim.state().requests_to("/api/accounts/deviceauth/token").is_empty()).await;
    }
    let id = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)).expect("it runs");
    kill_process(id, Signal::INT).expect("signalled");
    let ended = tokio::time::timeout(e2e::PATIENCE, child.wait()).await.expect("in time").expect("ended");
    assert_eq!(ended.code(), Some(130), "{args:?}");
}

async fn kept(home: &Home) -> Value {
    home.cli(&["credentials", "list", "--json"]).await.ok().json()["credentials"].clone()
}

e2e::in_each_topology! {
    /// Lines for people, lines for programs, and a login that serves the next call.
    async fn a_device_login_serves_the_next_call(topology) {
        let world = world().await;
        // Without a server first.
        let (said, code) = log_in(&world, &["--label", "first"]).await;
        let said = said.ok();
        let lines: Vec<&str> = said.stdout.lines().collect();
        assert_eq!(lines[0], format!("open   {}/codex/device", world.sim.base_url()), "{said}");
        assert_eq!(lines[1], format!("enter  {code}"), "{said}");
        assert!(lines[2].contains("15 minutes"), "{said}");
        assert_eq!(lines[3], "logged in as sim@example.com, plan plus; credential first", "{said}");
        let first = kept(&world.home).await;
        assert_eq!(
            (&first[0]["label"], &first[0]["source"], &first[0]["state"]),
            (&"first".into(), &"login".into(), &"ready".into())
        );

        let switchboard = world.start(topology).await;
        let (said, code) = log_in(&world, &["--json"]).await;
        let said = said.ok();
        let lines: Vec<Value> = said.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let [pending, done] = lines.as_slice() else { panic!("two lines: {said}") };
        assert_eq!((&pending["status"], &pending["userCode"]), (&"pending".into(), &code.as_str().into()), "{said}");
        assert!(pending["verificationUrl"].as_str().is_some_and(|url| url.ends_with("/codex/device")), "{said}");
        assert!(pending["expiresAt"].as_f64().is_some_and(|at| at > 1.6e9), "{said}");
        assert_eq!(
            (&done["status"], &done["email"], &done["plan"]),
            (&"ok".into(), &"sim@example.com".into(), &"plus".into())
        );
        // The same account: its credential is renewed and gets no twin.
        assert_eq!(done["credential"], "first", "{said}");
        let again = kept(&world.home).await;
        assert_eq!((again.as_array().map(Vec::len), &again[0]["version"]), (Some(1), &2.into()), "{again}");
        assert_eq!(only_route(&status(&switchboard).await)["bound"]["credential"], "first");
        let _ = call(&switchboard, "codex/gpt-5.5").await.ok();
        assert!(!said.text().contains("eyJ") && !said.text().contains("rt_sim"));
    }

    /// An account that does not allow device codes is told so; nothing is stored.
    async fn a_login_that_is_not_allowed_says_so(topology) {
        let config = SimConfig { device_login_enabled: false, ..SimConfig::default() };
        let world = World::with(config).await;
        let switchboard = world.start(topology).await;
        let refused = switchboard.cli(&["login", "codex"]).await.exits(1);
        assert!(refused.stderr.contains("device"), "{refused}");
        world.sim.state().set_token_scenario("*", Some("challenge".parse().expect("a scenario")));
        let challenged = switchboard.cli(&["login", "codex", "--json"]).await.exits(1).json();
        assert_eq!(challenged["error"]["reason"], "IDENTITY_UNAVAILABLE", "{challenged}");
        assert_eq!(kept(&world.home).await.as_array().map(Vec::len), Some(0));
    }

    /// A pasted redirect, for people and for programs, with and without a server.
    async fn a_pasted_login_serves_the_next_call(topology) {
        let world = world().await;
        let (said, redirect) = paste(&world, &["--label", "first"], |redirect| vec![redirect]).await;
        let said = said.ok();
        assert!(said.stdout.contains("error page at localhost:1455"), "{said}");
        assert!(said.stdout.ends_with("logged in as sim@example.com, plan plus; credential first\n"), "{said}");
        assert!(!said.text().contains(&field(&redirect, "code")), "{said}");

        let switchboard = world.start(topology).await;
        // A wrong state is refused, and the login goes on to the next line.
        let (said, _) = paste(&world, &["--json"], |redirect| {
            let code = field(&redirect, "code");
            // Longer than a line that is read: refused once, not piece by piece.
            let long = "x".repeat(100_000);
            vec![format!("{code}#another-state"), long, format!("{code}#{}", field(&redirect, "state"))]
        })
        .await;
        let said = said.ok();
        let lines: Vec<Value> = said.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let [pending, refused, long, done] = lines.as_slice() else { panic!("four lines: {said}") };
        assert_eq!(long["error"]["reason"], "REQUEST_INVALID", "{said}");
        assert!(pending["expiresAt"].is_i64() && !said.stdout.contains(".0,"), "whole seconds: {said}");
        assert_eq!((&pending["status"], &pending["method"]), (&"pending".into(), &"paste".into()), "{said}");
        assert_eq!((&refused["status"], &refused["error"]["reason"]), (&"pending".into(), &"REQUEST_INVALID".into()));
        assert_eq!((&done["status"], &done["credential"]), (&"ok".into(), &"first".into()), "{said}");
        assert_eq!(kept(&world.home).await.as_array().map(Vec::len), Some(1));
        let _ = call(&switchboard, "codex/gpt-5.5").await.ok();

        // Nothing pasted: one line says so.
        let (said, _) = paste(&world, &["--json"], |_| Vec::new()).await;
        let said = said.exits(1);
        let last: Value = serde_json::from_str(said.stdout.lines().last().expect("a line")).expect("JSON");
        assert_eq!((&last["status"], &last["error"]["reason"]), (&"error".into(), &"REQUEST_INVALID".into()), "{said}");
        world.sim.state().set_token_scenario("*", Some("missing_entitlement".parse().expect("a scenario")));
        let (said, _) = paste(&world, &[], |redirect| vec![redirect]).await;
        assert!(said.exits(1).stderr.contains("this workspace has no Codex"));
    }

    /// Ctrl-C ends the login everywhere and leaves nothing behind.
    async fn an_interrupted_login_leaves_nothing_behind(topology) {
        let world = world().await;
        let names = || lasting_files(&world.home).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        // The first command makes the data directory; what follows adds nothing to it.
        let _ = world.home.cli(&["keys", "create", "first"]).await.ok();
        for method in [&["login", "codex"][..], &["login", "codex", "--paste"]] {
            let before = names();
            interrupt(&world, method).await;
            assert_eq!(before, names());
            // The lock is free again.
            assert_eq!(kept(&world.home).await.as_array().map(Vec::len), Some(0));
        }
        let switchboard = world.start(topology).await;
        for method in [&["login", "codex"][..], &["login", "codex", "--paste"]] {
            interrupt(&world, method).await;
        }
        for code in world.sim.state().pending_devices() {
            world.sim.state().approve_device(&code).expect("approved");
        }
        let polls = world.sim.state().requests().len();
        // Longer than the interval at which a living login would ask.
        tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
        assert_eq!(world.sim.state().requests().len(), polls, "nobody asks for a login that was given up");
        assert!(world.sim.state().token_requests().is_empty());
        let list = switchboard.cli(&["credentials", "list", "--json"]).await.ok().json();
        assert_eq!(list["credentials"].as_array().map(Vec::len), Some(0), "{list}");
    }

    /// An API key from standard input serves the next call, is replaced, and shows nowhere.
    async fn an_api_key_serves_the_next_call(topology) {
        let world = world().await;
        world.sim.state().add_api_key("sk-e2e-second");
        let add = async |input: &str, args: &[&str]| {
            let all: Vec<&str> = ["login", "api-key", "--provider", "openai"].iter().chain(args).copied().collect();
            let said = world.home.cli_with_input(&all, input).await;
            assert!(!said.stdout.contains("sk-e2e") && !said.stderr.contains("sk-e2e"), "{said}");
            said
        };
        let said = add(" sk-e2e-first\n", &[]).await.ok();
        assert_eq!(said.stdout, "stored; credential openai\n");
        let mut switchboard = world.start(topology).await;
        let _ = call(&switchboard, "openai/gpt-5.5").await.exits(1);
        let said = add("sk-e2e-second", &["--json"]).await.ok().json();
        let (status, label, action) = (&said["status"], &said["credential"], &said["action"]);
        assert_eq!((status, label, action), (&"ok".into(), &"openai".into(), &"updated".into()));
        // The upstream had rejected the old key; the new one is tried at once.
        let _ = call(&switchboard, "openai/gpt-5.5").await.ok();
        assert_eq!(world.sim.state().requests_to(PLATFORM).last().and_then(|r| r.status), Some(200));
        let again = add("sk-e2e-second\n", &["--label", "x"]).await.ok();
        assert_eq!(again.stdout, "unchanged; credential openai holds this key already\n");
        for (input, says) in [("", "empty"), ("sk-e2e a\n", "white space"), ("sk-e2e-1\nsk-e2e-2\n", "white space")] {
            assert!(add(input, &[]).await.exits(1).stderr.contains(says));
        }
        let _ = world.home.cli(&["login", "api-key", "--provider", "openai", "sk-argument"]).await.exits(2);
        let wrong = ["login", "api-key", "--provider", "openai-codex"];
        let wrong = world.home.cli_with_input(&wrong, "sk-e2e").await.exits(1);
        assert!(wrong.stderr.contains("not billed to an API key"), "{wrong}");
        switchboard.stop().await;
        assert!(!world.home.logs().contains("sk-e2e"));
    }

    /// A logout revokes and forgets; where it cannot revoke, nothing changes.
    async fn a_logout_revokes_and_forgets(topology) {
        let world = world().await;
        world.login("acct-0", "zero").await;
        let said = world.home.cli(&["logout", "zero"]).await.ok();
        assert!(said.stdout.starts_with("logged out zero\nnote: the login is ended"), "{said}");
        for label in ["one", "two"] {
            world.login(&format!("acct-{label}"), label).await;
        }
        let switchboard = world.start(topology).await;
        let said = switchboard.cli(&["logout", "one", "--json"]).await.ok().json();
        let (status, label, revoked) = (&said["status"], &said["credential"], &said["revoked"]);
        assert_eq!((status, label, revoked), (&"ok".into(), &"one".into(), &true.into()));
        world.sim.state().set_token_scenario("*", Some("challenge".parse().expect("a scenario")));
        let said = switchboard.cli(&["logout", "two"]).await.exits(1);
        assert!(said.stderr.contains("two is not logged out and stays as it was"), "{said}");
        assert!(said.stderr.contains("challenge page") && said.stderr.contains("credentials remove two"), "{said}");
        let failed = switchboard.cli(&["logout", "two", "--json"]).await.exits(1).json();
        assert_eq!(failed["error"]["reason"], "IDENTITY_UNAVAILABLE", "{failed}");
        assert_eq!(failed.get("result"), None, "the one shape of an error: {failed}");
        assert_eq!(kept(&world.home).await.as_array().map(Vec::len), Some(1));
        // Who has to forget it all the same is told what that means.
        let said = switchboard.cli(&["credentials", "remove", "two"]).await.ok();
        assert!(said.stdout == "removed two\n" && said.stderr.contains("switchboard logout two"), "{said}");
        assert_eq!(kept(&world.home).await.as_array().map(Vec::len), Some(0));
        let alive: Vec<bool> = world.sim.state().stats().logins.into_iter().map(|login| login.alive).collect();
        assert_eq!(alive, [false, false, true]);
        let gone = switchboard.cli(&["logout", "two", "--json"]).await.exits(1).json();
        assert_eq!(gone["error"]["reason"], "NOT_FOUND", "{gone}");
        let _ = call(&switchboard, "codex/gpt-5.5").await.exits(1);
        assert_eq!(world.sim.state().requests_to(CODEX).len(), 0);
    }
}
