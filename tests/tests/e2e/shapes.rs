//! One shape for every failure of the command line, and one way to write numbers.

use e2e::Home;
use serde_json::Value;

use crate::support::World;

/// Runs it with `--json` and without: everything that a failure has is there, once.
async fn fails(home: &Home, args: &[&str], code: i32, reason: &str) -> Value {
    let with: Vec<&str> = args.iter().chain(&["--json"]).copied().collect();
    let said = home.cli(&with).await.exits(code);
    let shown = said.json();
    let error = &shown["error"];
    assert_eq!((&shown["status"], &error["reason"]), (&"error".into(), &reason.into()), "{said}");
    for field in ["message", "service", "nextStep"] {
        assert!(error[field].as_str().is_some_and(|text| text.len() > 3), "{field}: {said}");
    }
    assert_eq!(error["retryable"], false, "{said}");
    assert!(!said.stderr.contains("error"), "it is not told twice: {said}");
    error.clone()
}

/// The same for people.
async fn tells(home: &Home, args: &[&str], code: i32, reason: &str) {
    let said = home.cli(args).await.exits(code);
    assert!(said.stderr.starts_with(&format!("error: {reason} (")) && said.stderr.contains("\nnext: "), "{said}");
}

/// Every command that fails before a service has said anything, or without one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_command_fails_with_a_bare_message() {
    let (world, _) = World::with_login().await;
    let home = &world.home;
    let passphrase = home.write("passphrase", "correct horse").to_string_lossy().into_owned();
    let there = home.write("there", "").to_string_lossy().into_owned();
    let nowhere = home.path("no/dir/x").to_string_lossy().into_owned();
    let with = ["--passphrase-file", &passphrase];
    for (args, code, reason) in [
        (vec!["credentials", "show", "nope"], 1, "NOT_FOUND"),
        (vec!["keys", "show", "nope"], 1, "NOT_FOUND"),
        (vec!["keys", "revoke", "nope"], 1, "NOT_FOUND"),
        (vec!["import", "codex", "/nope"], 1, "NOT_FOUND"),
        (vec!["restore", "/nope", with[0], with[1]], 1, "NOT_FOUND"),
        (vec!["backup", &there, with[0], with[1]], 1, "REQUEST_INVALID"),
        (vec!["backup", &nowhere, with[0], with[1]], 1, "NOT_FOUND"),
        (vec!["backup", "/tmp/x", with[0], &nowhere], 1, "NOT_FOUND"),
        (vec!["explain", "NOPE"], 2, "REQUEST_INVALID"),
        (vec!["call", "--message", " "], 2, "REQUEST_INVALID"),
    ] {
        let error = fails(home, &args, code, reason).await;
        tells(home, &args, code, reason).await;
        if args[1] == nowhere {
            let next = error["nextStep"].as_str().unwrap_or_default();
            assert!(next.contains("make the directory, or name another") && !next.contains("room"), "{error}");
        }
    }
    // What the parser of the arguments finds itself.
    for args in [
        ["keys", "create", "k", "--ttl", "0"].as_slice(),
        &["audit", "list", "--since", "x"],
        &["no-such-command"],
        &["backup"],
    ] {
        let error = fails(home, args, 2, "REQUEST_INVALID").await;
        assert!(error["message"].as_str().is_some_and(|text| !text.starts_with("error")), "{error}");
    }
    home.write("data/database.key", &"ab".repeat(32));
    let error = fails(home, &["credentials", "list"], 78, "STORE_UNAVAILABLE").await;
    assert!(error["message"].as_str().is_some_and(|text| text.contains("was encrypted with key")), "{error}");
    tells(home, &["credentials", "list"], 78, "STORE_UNAVAILABLE").await;
    home.write("switchboard.toml", "[auth]\nno_such_key = 1\n");
    let _ = fails(home, &["credentials", "list"], 78, "REQUEST_INVALID").await;
    let _ = fails(home, &["config", "check"], 78, "REQUEST_INVALID").await;
}

/// Times in whole seconds, and no `.0`, on one line as on many.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_are_written_in_one_way() {
    let (world, _) = World::with_login().await;
    let audit = world.home.cli(&["audit", "list", "--json"]).await.ok();
    assert!(audit.json()["entries"][0]["at"].is_i64(), "{audit}");
    let list = world.home.cli(&["credentials", "list", "--json"]).await.ok();
    let shown = &list.json()["credentials"][0];
    for time in ["expiresAt", "lastRefresh", "nextRefresh"] {
        assert!(shown[time].is_i64(), "{time}: {list}");
    }
    let explained = world.home.cli(&["explain", "IDENTITY_UNAVAILABLE", "--json"]).await.ok();
    assert!(explained.json()["retryAfterSeconds"].is_i64(), "{explained}");
    for said in [audit, list] {
        let a_fraction = said.stdout.lines().find(|line| line.trim_end_matches(',').ends_with(".0"));
        assert_eq!(a_fraction, None, "{said}");
    }
}
