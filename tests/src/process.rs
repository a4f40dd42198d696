//! One process of ours: its standard output line by line, its log in a file, and its end.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix::process::{Pid, kill_process};
use tokio::sync::watch;

use crate::canary::{Canary, look};
use crate::eventually;

/// A signal to send.
pub use rustix::process::Signal;

/// Set to `1`, it lets every process of every suite log all that it can, so that all of that is searched for secrets.
const TRACE: &str = "SWITCHBOARD_E2E_TRACE";
/// Log lines that are printed when a test fails.
const LAST_LINES: usize = 60;

/// Whether every process logs all that it can: floods then cost what writing of them costs, and times say little.
pub fn logs_all() -> bool {
    std::env::var_os(TRACE).is_some_and(|value| value == "1")
}

/// What came on standard output so far.
#[derive(Debug, Default)]
struct Printed {
    lines: Vec<String>,
    ended: bool,
}

/// A running process. It is killed and waited for when this is dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    printed: watch::Receiver<Printed>,
    log: PathBuf,
    canary: Option<Weak<Canary>>,
}

impl Process {
    /// Starts `command`. Its standard error is appended to the file `log`, so that a restart keeps what came before.
    pub fn spawn(name: &str, mut command: Command, log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log).expect("the log file can be opened");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(file);
        if logs_all() && !command.get_envs().any(|(k, _)| k == "RUST_LOG") {
            command.env("RUST_LOG", "trace");
        }
        let canary = Canary::of_command(&command).map(|canary| Arc::downgrade(&canary));
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        let stdout = child.stdout.take().expect("standard output is piped");
        let (sender, printed) = watch::channel(Printed::default());
        // Reads until the end, or the process would block on a full pipe one day.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                sender.send_modify(|printed| printed.lines.push(line));
            }
            sender.send_modify(|printed| printed.ended = true);
        });
        Self { name: name.to_owned(), child, printed, log: log.to_owned(), canary }
    }

    /// Waits for the line `listening <name> <address>` of each of `names`; gives the addresses in the same order.
    ///
    /// # Errors
    ///
    /// What happened instead, with the end of the log.
    pub async fn listening(&mut self, names: &[&str], limit: Duration) -> Result<Vec<String>, String> {
        let found = self.printed_addresses(names, limit).await?;
        if let Some(canary) = self.canary.as_ref().and_then(Weak::upgrade) {
            look(&canary, &self.name, self.id());
        }
        Ok(found)
    }

    async fn printed_addresses(&mut self, names: &[&str], limit: Duration) -> Result<Vec<String>, String> {
        let addresses = |printed: &Printed| -> Option<Vec<String>> {
            names.iter().map(|name| printed.lines.iter().find_map(|line| address(line, name))).collect()
        };
        let waited = self.printed.wait_for(|printed| addresses(printed).is_some() || printed.ended);
        let why = match tokio::time::timeout(limit, waited).await {
            Ok(Ok(printed)) => match addresses(&printed) {
                Some(found) => return Ok(found),
                None => "it ended".to_owned(),
            },
            Ok(Err(_)) => "its output was lost".to_owned(),
            Err(_) => format!("{} s went by", limit.as_secs()),
        };
        let name = &self.name;
        Err(format!("{name} does not say that it listens as {}: {why}\n{}", names.join(", "), self.story()))
    }

    /// The name it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal, if it still runs: an id that was waited for may be somebody else's by now.
    pub fn signal(&mut self, signal: Signal) {
        if self.is_running() {
            kill_process(Pid::from_child(&self.child), signal).expect("a child can be signalled");
        }
    }

    /// Sends a signal and waits until the process has ended.
    pub async fn end(&mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        self.exited().await
    }

    /// Waits until the process ends by itself.
    pub async fn exited(&mut self) -> ExitStatus {
        eventually(&format!("{} ended", self.name.clone()), || !self.is_running()).await;
        self.child.wait().expect("the exit status of a child")
    }

    /// What it printed on standard output so far.
    pub fn stdout(&self) -> String {
        self.printed.borrow().lines.join("\n")
    }

    /// What it logged so far, earlier processes of the same name included.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Resident memory in bytes; none if it has ended.
    pub fn memory(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
    }

    /// Output and the end of the log, for a failed test.
    pub fn story(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        let last = lines.get(lines.len().saturating_sub(LAST_LINES)..).unwrap_or_default();
        format!("--- {} printed\n{}\n--- and logged\n{}\n---", self.name, self.stdout(), last.join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(canary) = self.canary.as_ref().and_then(Weak::upgrade) {
            canary.see(format!("the standard output of {}", self.name), self.stdout());
        }
        // By the handle of this very child; one that has ended already is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            #[expect(clippy::print_stderr, reason = "the test failed, and this is what it needs to be understood")]
            {
                eprintln!("{}", self.story());
            }
        }
    }
}

/// The address in the line `listening <name> <address>`.
fn address(line: &str, name: &str) -> Option<String> {
    line.strip_prefix("listening ")?.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    fn shell(script: &str, dir: &tempfile::TempDir) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::spawn("shell", command, &dir.path().join("log"))
    }

    #[tokio::test]
    async fn addresses_are_read_when_they_are_printed() {
        let dir = tempfile::tempdir().expect("tempdir");
        let script =
            "echo listening gateway-two x; echo listening gateway 127.0.0.1:9; echo listening admin y; exec sleep 60";
        let mut process = shell(script, &dir);
        let found = process.listening(&["admin", "gateway"], crate::PATIENCE).await.expect("printed");
        assert_eq!(found, ["y", "127.0.0.1:9"]);
        assert!(process.is_running() && process.memory().is_some());
        let status = process.end(Signal::TERM).await;
        assert_eq!(status.signal(), Some(15));
        process.signal(Signal::TERM);
    }

    #[tokio::test]
    async fn a_process_that_ends_or_stays_silent_tells_its_story() {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut process = shell("echo no port >&2; exit 78", &dir);
        let story = process.listening(&["gateway"], crate::PATIENCE).await.expect_err("ended");
        assert!(story.contains("it ended") && story.contains("no port"), "{story}");
        assert_eq!(process.exited().await.code(), Some(78));
        let mut process = shell("exec sleep 60", &dir);
        let story = process.listening(&["gateway"], Duration::from_millis(50)).await.expect_err("silent");
        assert!(story.contains("shell does not say that it listens as gateway"), "{story}");
    }

    #[tokio::test]
    async fn a_dropped_process_is_gone() {
        let dir = tempfile::tempdir().expect("tempdir");
        let process = shell("echo listening x y; exec sleep 60", &dir);
        let id = process.id();
        drop(process);
        assert!(!Path::new(&format!("/proc/{id}")).exists());
    }
}
