//! The command on its own: what works without a server, what says so when it does not, and the demo.

#![expect(clippy::expect_used, clippy::panic, reason = "what cannot be set up is a failed test")]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn run(&self, args: &[&str]) -> Run {
        self.run_with(args, &[])
    }

    fn run_with(&self, args: &[&str], env: &[(&str, &str)]) -> Run {
        let mut command = Command::new(env!("CARGO_BIN_EXE_switchboard"));
        command.env_clear().env("HOME", self.path()).env("PATH", "/usr/bin:/bin");
        command.args(["--data-dir".as_ref(), self.path().join("data").as_os_str()]).args(args);
        command.envs(env.iter().copied());
        Run(command.output().expect("the command runs"))
    }
}

struct Run(Output);

impl Run {
    #[track_caller]
    fn exits(self, code: i32) -> Self {
        assert_eq!(self.0.status.code(), Some(code), "stdout: {}\nstderr: {}", self.out(), self.err());
        self
    }

    fn out(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }

    fn err(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.out()).unwrap_or_else(|e| panic!("no JSON: {e}: {}", self.out()))
    }
}

#[test]
fn the_demo_shows_the_whole_path() {
    let home = Home::new();
    let run = home.run(&["demo"]).exits(0);
    let out = run.out();
    assert_eq!(out.matches("answer: OK").count(), 2, "{out}");
    assert!(out.matches("/backend-api/codex/responses").count() >= 2, "{out}");
    for service in ["gateway", "router-svc", "auth-svc", "transport-svc", "upstream"] {
        assert!(out.contains(service), "{service} is missing: {out}");
    }
    assert!(!out.contains('\u{1b}'), "no ANSI when not a terminal");
    assert!(!home.path().join("data").exists(), "the demo leaves no data directory");
}

#[test]
fn without_a_server_status_and_call_fail_and_never_guess() {
    let home = Home::new();
    for args in
        [&["models", "status"][..], &["models", "list"], &["call", "--message", "hi"], &["calls", "list"], &["health"]]
    {
        let run = home.run(args).exits(1);
        assert!(
            run.err().contains("PEER_UNAVAILABLE") && run.err().contains("switchboard up"),
            "{args:?}: {}",
            run.err()
        );
    }
    let run = home.run(&["--json", "call", "--message", "hi"]).exits(1);
    assert_eq!(run.json()["error"]["reason"], "PEER_UNAVAILABLE");
    assert_eq!(run.json()["status"], "error");
    assert!(!home.path().join("data").exists(), "a failed look makes nothing");
}

#[test]
fn a_bad_configuration_is_named_with_key_file_and_line() {
    let home = Home::new();
    std::fs::create_dir(home.path().join("data")).expect("made");
    let file = home.path().join("data/switchboard.toml");
    std::fs::write(&file, "[gateway]\nlisten = \"127.0.0.1:0\"\nlissten = \"x\"\n").expect("written");
    let run = home.run(&["config", "check"]).exits(78);
    assert!(run.err().contains("switchboard.toml:3") && run.err().contains("lissten"), "{}", run.err());
    std::fs::write(&file, "[targets.chatgpt-codex]\nbase_url = \"https://chatgpt.com/backend-api\"\n")
        .expect("written");
    for args in [&["config", "check"][..], &["up"], &["keys", "list"]] {
        let run = home.run(args).exits(78);
        assert!(run.err().contains("https://chatgpt.com/backend-api/codex"), "{args:?}: {}", run.err());
    }
    let run = home.run(&["--json", "config", "check"]).exits(78);
    assert_eq!(run.json()["status"], "error");
    std::fs::remove_file(&file).expect("removed");
    let run = home.run_with(&["config", "check"], &[("SWITCHBOARD__GATEWAY__LISSTEN", "x")]).exits(78);
    assert!(run.err().contains("SWITCHBOARD__GATEWAY__LISSTEN"), "{}", run.err());
    home.run(&["config", "check"]).exits(0);
}

#[test]
fn usage_errors_exit_2_and_explain_knows_every_reason() {
    let home = Home::new();
    home.run(&["frobnicate"]).exits(2);
    home.run(&["call"]).exits(2);
    home.run(&["explain", "NO_SUCH_REASON"]).exits(2);
    home.run(&["--server", "http://example.com", "health"]).exits(2);
    let all = home.run(&["--json", "explain"]).exits(0).json();
    assert_eq!(all.as_array().map(Vec::len), Some(domain::Reason::ALL.len()));
    for reason in domain::Reason::ALL {
        let run = home.run(&["explain", &reason.as_str().to_lowercase()]).exits(0);
        let page = run.out();
        assert!(page.starts_with(&format!("# {reason}\n")) && page.contains("## What clients see"), "{page}");
        assert!(!page.contains("<!--"), "{page}");
    }
    assert!(home.run(&["explain", "edge_challenge"]).exits(0).out().contains("credential is fine"));
    let one = home.run(&["--json", "explain", "USAGE_LIMIT"]).exits(0).json();
    assert_eq!((&one["httpStatus"], &one["errorType"]), (&429.into(), &"usage_limit_reached".into()));
    assert!(one["page"].as_str().is_some_and(|page| page.contains("## What to do")), "{one}");
    let near = home.run(&["explain", "EDGE_CHALENGE"]).exits(2);
    assert!(near.err().contains("EDGE_CHALLENGE"), "{}", near.err());
    // What clients show is the error's code.
    let code = home.run(&["explain", "server_is_overloaded"]).exits(2);
    assert!(code.err().contains("UPSTREAM_OVERLOADED"), "{}", code.err());
}

/// A page that names a command or an option that does not exist costs somebody the rest of the night.
#[test]
fn pages_name_commands_that_exist() {
    let home = Home::new();
    let mut helps = std::collections::HashMap::new();
    for reason in domain::Reason::ALL {
        let page = reason.page();
        let inline = page.split('`').skip(1).step_by(2);
        let commands = page.lines().chain(inline).filter(|text| text.starts_with("switchboard "));
        for command in commands {
            let words: Vec<&str> =
                command.split(['|', ';', '#']).next().unwrap_or_default().split(' ').skip(1).collect();
            let is_name =
                |word: &&&str| word.starts_with(|c: char| c.is_ascii_lowercase()) && !word.contains(['/', '.']);
            let mut path: Vec<&str> = words.iter().take_while(is_name).copied().collect();
            path.push("--help");
            let help = helps.entry(path.clone()).or_insert_with(|| home.run(&path).exits(0).out());
            for option in words.iter().filter(|word| word.starts_with("--")) {
                assert!(help.contains(option), "{reason}: {command:?} has no {option}");
            }
        }
    }
    assert!(helps.len() > 10, "{:?}", helps.keys());
}

#[test]
fn keys_work_without_a_server_and_are_shown_once() {
    let home = Home::new();
    let key = home.run(&["keys", "create", "ci", "--agent", "builder"]).exits(0).out();
    assert!(key.starts_with("sbk_") && key.lines().count() == 1, "{key}");
    let list = home.run(&["--json", "keys", "list"]).exits(0);
    assert!(!list.out().contains(key.trim()));
    assert!(list.json()["keys"].as_array().expect("keys").iter().any(|k| k["name"] == "ci" && k["agent"] == "builder"));
    home.run(&["keys", "revoke", "ci"]).exits(0);
    home.run(&["keys", "revoke", "no-such-key"]).exits(1);
    let empty = home.run(&["credentials", "list"]).exits(0);
    assert!(empty.out().contains("switchboard login codex"), "{}", empty.out());
}

#[test]
fn the_demo_in_json_is_one_document() {
    let demo = Home::new().run(&["demo", "--json"]).exits(0).json();
    assert_eq!(demo["status"], "ok");
    let calls = demo["calls"].as_array().expect("calls");
    assert_eq!(calls.len(), 2);
    for call in calls {
        assert_eq!(call["answer"], "OK");
        assert_eq!(call["executionTrace"]["attempts"][0]["result"], "success");
    }
}

#[test]
fn what_cannot_be_printed_is_no_success() {
    let home = Home::new();
    let full = std::fs::File::options().write(true).open("/dev/full").expect("a device without space");
    let mut command = Command::new(env!("CARGO_BIN_EXE_switchboard"));
    command.env_clear().arg("--data-dir").arg(home.path().join("data")).args(["keys", "create", "lost"]).stdout(full);
    let run = Run(command.output().expect("the command runs")).exits(1);
    assert!(run.err().contains("standard output cannot be written"), "{}", run.err());
}

#[test]
fn a_call_without_words_or_time_is_wrong_usage() {
    let home = Home::new();
    assert!(home.run(&["call", "--message", " "]).exits(2).err().contains("empty"));
    assert!(home.run(&["call", "--message", "-"]).exits(2).err().contains("empty"), "standard input is empty");
    home.run(&["call", "--message", "hi", "--timeout", "0"]).exits(2);
}

#[test]
fn an_empty_server_variable_is_none_and_the_simulator_needs_its_own() {
    let home = Home::new();
    let run = home.run_with(&["health"], &[("SWITCHBOARD_SERVER", "")]).exits(1);
    assert!(run.err().contains("PEER_UNAVAILABLE") && !run.err().contains("(or "), "{}", run.err());
    let run = home.run(&["--sim", "login", "codex"]).exits(1);
    assert!(run.err().contains("switchboard up --sim"), "{}", run.err());
    assert!(!home.path().join("data").exists(), "nothing was made");
}

#[test]
fn importing_twice_says_that_nothing_is_left_to_do() {
    let home = Home::new();
    let state = home.path().join("openclaw");
    std::fs::create_dir_all(state.join("agents/main/agent")).expect("made");
    std::fs::write(state.join("openclaw.json"), r#"{"agents":{"defaults":{"model":{"primary":"openai/gpt-5.5"}}}}"#)
        .expect("written");
    let profiles = r#"{"version":1,"profiles":{"openai:default":{"type":"api_key","provider":"openai","key":"sk-1"}}}"#;
    std::fs::write(state.join("agents/main/agent/auth-profiles.json"), profiles).expect("written");
    let state = state.to_string_lossy().into_owned();
    let first = home.run(&["import", "openclaw", &state]).exits(0).out();
    assert!(first.contains("created") && first.contains("routes written to"), "{first}");
    let second = home.run(&["import", "openclaw", &state]).exits(0).out();
    assert!(second.contains("unchanged") && second.contains("routes unchanged"), "{second}");
    assert!(!second.contains("add by hand"), "{second}");
    assert!(!home.run(&["credentials", "list"]).exits(0).out().contains("sk-1"));
}
