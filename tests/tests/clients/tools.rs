//! The programs that `.ci/tools` installs.

use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::Home;

/// A program by its name.
///
/// # Panics
///
/// If it is not there: the test needs it.
pub(crate) fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| missing(name))
}

/// Where the npm packages are: `.ci/tools` installs them beside Codex CLI.
///
/// # Panics
///
/// If nothing has been installed.
pub(crate) fn packages() -> PathBuf {
    let found = program("codex").ancestors().find(|folder| folder.ends_with("node_modules")).map(Path::to_owned);
    found.unwrap_or_else(|| missing("a folder of npm packages with Codex CLI"))
}

/// The Node.js that OpenClaw needs, which is newer than most machines', and its script.
///
/// # Panics
///
/// If they are not there.
pub(crate) fn openclaw() -> (PathBuf, PathBuf) {
    let packages =
        std::env::var_os("SWITCHBOARD_TOOLS").map(|tools| PathBuf::from(tools).join("openclaw/node_modules"));
    let packages = packages.unwrap_or_else(|| missing("SWITCHBOARD_TOOLS"));
    let (node, script) = (packages.join(".bin/node"), packages.join("openclaw/openclaw.mjs"));
    if !node.is_file() || !script.is_file() {
        missing("OpenClaw");
    }
    (node, script)
}

/// Fails the test for want of a tool.
pub(crate) fn missing(what: &str) -> ! {
    panic!("{what} is not there: run `.ci/tools`, then `. .ci/env`, and this suite again")
}

/// A command with nothing of the test's own environment but `PATH`, in a scratch folder of `home` that is no git
/// repository.
pub(crate) fn command(home: &Home, program: &Path) -> Command {
    let scratch = home.path("scratch");
    std::fs::create_dir_all(&scratch).expect("made");
    let mut command = Command::new(program);
    command.env_clear().env("HOME", home.path("home")).current_dir(scratch);
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}
