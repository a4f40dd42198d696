//! The command line as scripts meet it.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt;

use crate::PATIENCE;
use crate::canary::Canary;

/// What a command said.
#[derive(Clone, Debug)]
pub struct Output {
    /// The command line, for messages.
    pub command: String,
    /// Exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Runs a command to its end, with `input` on its standard input.
    pub async fn of(command: Command, input: &str) -> Self {
        Self::within(2 * PATIENCE, command, input).await
    }

    /// As [`Self::of`], for a command that takes longer than others: `limit` at most.
    pub async fn within(limit: Duration, command: Command, input: &str) -> Self {
        let shown = format!("{command:?}");
        let canary = Canary::of_command(&command);
        if let Some(canary) = &canary {
            canary.given(&command, input);
        }
        let arguments = arguments_of(&command);
        let mut command = tokio::process::Command::from(command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{shown} cannot be started: {error}"));
        let mut stdin = child.stdin.take().expect("standard input is piped");
        // A command that reads nothing may have closed it already.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let ended = tokio::time::timeout(limit, child.wait_with_output()).await;
        let output = ended.unwrap_or_else(|_| panic!("{shown} does not end")).expect("its output");
        if let Some(canary) = &canary {
            canary.said(&arguments, &output.stdout, &output.stderr);
        }
        Self {
            command: shown,
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Asserts exit code 0.
    #[must_use]
    #[track_caller]
    pub fn ok(self) -> Self {
        self.exits(0)
    }

    /// Asserts an exit code.
    #[must_use]
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// Standard output as JSON, which `--json` promises to be one document.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("no JSON: {error}: {self}"))
    }

    /// Both outputs together, for a search.
    pub fn text(&self) -> String {
        format!("{}\n{}", self.stdout, self.stderr)
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { command, code, stdout, stderr } = self;
        write!(f, "{command}\n--- exit code {code:?}, standard output\n{stdout}\n--- standard error\n{stderr}\n---")
    }
}

/// The same command, for those who look at its arguments when it has been used up.
fn arguments_of(command: &Command) -> Command {
    let mut copy = Command::new(command.get_program());
    copy.args(command.get_args());
    copy
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn input_output_and_code_arrive() {
        let mut command = Command::new("sh");
        command.args(["-c", "cat; echo oh >&2; exit 3"]);
        let output = Output::of(command, r#"{"a":1}"#).await.exits(3);
        assert_eq!((output.json()["a"].clone(), output.stderr.trim()), (1.into(), "oh"));
        assert!(output.text().contains("oh") && output.to_string().contains("exit code Some(3)"));
    }
}
