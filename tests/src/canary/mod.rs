//! The canary: a test knows every secret of its deployment, and when the deployment goes, none of them may be found in
//! anything that it has let out.
//!
//! Every [`Home`](crate::Home) over a simulator has one; no test has to ask for it. While the test runs it is shown what
//! processes print and log, what commands and both faces answer, spans, metrics pages, and the processes' arguments and
//! environment. At the end it searches all of that, and every file of the data directory but the key files, for every
//! token that the simulator has issued, every agent key that was made, API keys, passphrases and the keys of the data
//! directory. A find fails the test.
//!
//! Where each place is looked at:
//!
//! | place | where |
//! |---|---|
//! | logs, at every level | `gather`: `logs/` (CI runs the suites once more at trace level: `SWITCHBOARD_E2E_TRACE`) |
//! | OTLP exports | `Home::export_to`: all that a collector takes in |
//! | error texts | `Output::of` (commands), `Http` and `grpc::connect` (both faces, bodies and headers) |
//! | `Debug` | trace logs show messages by it; `proto::redact` and `conformance::tokens` hold it by themselves |
//! | metrics, call records, traces | `Switchboard::show`: admin pages, and the records of the newest calls with their traces |
//! | arguments and environment | `proc`, of every process; `said`, of every command |
//! | children, who would inherit it | `proc`: there are none |
//! | core dumps, debuggers | `proc`; `canary.rs` of the end-to-end tests says what an operator may switch on |
//! | database, its write-ahead log, copies | `gather`: every file below `data/` but the key files |
//! | backups | `said`: the file that `backup` has written, wherever it is |

mod gather;
mod proc;
mod search;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use codex_sim::SimState;

pub(crate) use proc::look;
use search::{Finder, SHOWN};

/// Most bytes that are kept of one text. Answers to floods are as long as the floods.
const MOST: usize = 1024 * 1024;
/// Commands whose standard output is for a secret: what they print there is learned instead.
const SHOW_KEYS: [[&str; 2]; 2] = [["keys", "create"], ["keys", "rotate"]];

/// A text that may still grow.
pub(crate) type Text = Arc<Mutex<Vec<u8>>>;

/// What one deployment must keep, and what it has let out.
#[derive(Debug)]
pub(crate) struct Canary {
    root: PathBuf,
    sim: SimState,
    seen: Mutex<Seen>,
    armed: AtomicBool,
}

#[derive(Debug, Default)]
struct Seen {
    /// Secrets beside the simulator's, each with its kind.
    secrets: Vec<(String, Vec<u8>)>,
    /// Where, and what.
    texts: Vec<(String, Text)>,
    /// Ports that answer for this deployment.
    addresses: Vec<String>,
    /// What is wrong apart from secrets.
    complaints: Vec<String>,
}

/// All canaries of this process, to be found by what belongs to them.
static ALL: Mutex<Vec<Weak<Canary>>> = Mutex::new(Vec::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Canary {
    /// One for the deployment below `root`.
    pub(crate) fn new(root: &Path, sim: SimState) -> Arc<Self> {
        let this = Arc::new(Self { root: root.to_owned(), sim, seen: Mutex::default(), armed: AtomicBool::new(true) });
        let mut all = lock(&ALL);
        all.retain(|canary| canary.strong_count() > 0);
        all.push(Arc::downgrade(&this));
        this
    }

    fn which(is_it: impl Fn(&Self) -> bool) -> Option<Arc<Self>> {
        lock(&ALL).iter().rev().filter_map(Weak::upgrade).find(|canary| is_it(canary))
    }

    /// That of the deployment in which `command` runs.
    pub(crate) fn of_command(command: &Command) -> Option<Arc<Self>> {
        let paths: Vec<&Path> = command.get_args().map(Path::new).collect();
        Self::which(|canary| paths.iter().any(|path| path.starts_with(&canary.root)))
    }

    /// That of the deployment that answers at `address` (`host:port`).
    pub(crate) fn at(address: &str) -> Option<Arc<Self>> {
        Self::which(|canary| lock(&canary.seen).addresses.iter().any(|known| known == address))
    }

    /// The deployment answers at `address`.
    pub(crate) fn answers_at(&self, address: &str) {
        lock(&self.seen).addresses.push(address.to_owned());
    }

    /// A text that was let out.
    pub(crate) fn see(&self, place: impl Into<String>, text: impl AsRef<[u8]>) {
        self.watch(place, &Text::default()).append(text.as_ref());
    }

    /// A text that will grow.
    pub(crate) fn watch(&self, place: impl Into<String>, text: &Text) -> Watched {
        lock(&self.seen).texts.push((place.into(), Arc::clone(text)));
        Watched(Arc::clone(text))
    }

    /// Something that must not get out.
    pub(crate) fn learn(&self, kind: &str, secret: impl AsRef<[u8]>) {
        lock(&self.seen).secrets.push((kind.to_owned(), secret.as_ref().trim_ascii().to_vec()));
    }

    /// This very text is not looked at: it says what a caller has sent itself.
    pub(crate) fn excuse(&self, text: &[u8]) {
        lock(&self.seen).texts.retain(|(_, seen)| lock(seen).as_slice() != text);
    }

    /// Something is wrong apart from secrets.
    pub(crate) fn complain(&self, complaint: String) {
        lock(&self.seen).complaints.push(complaint);
    }

    /// Takes note of a command's secrets: what is typed into it, and what its arguments name.
    pub(crate) fn given(&self, command: &Command, input: &str) {
        let args: Vec<&str> = command.get_args().filter_map(|arg| arg.to_str()).collect();
        if args.contains(&"api-key") {
            self.learn("an API key", input);
        }
        for pair in args.windows(2) {
            if matches!(pair, ["--passphrase-file" | "--secret-key-file", _])
                && let Ok(text) = std::fs::read(pair[1])
            {
                self.learn("the content of a secret file", text);
            }
        }
    }

    /// Takes note of what a command said.
    pub(crate) fn said(&self, command: &Command, stdout: &[u8], stderr: &[u8]) {
        let args: Vec<&str> = command.get_args().filter_map(|arg| arg.to_str()).collect();
        let name = format!("the output of {}", args.iter().skip(4).copied().collect::<Vec<_>>().join(" "));
        self.see("the arguments of a command", args.join("\0"));
        let after_backup = args.windows(2).find(|pair| pair[0] == "backup").map(|pair| pair[1]);
        if let Some(backup) = after_backup.and_then(|file| std::fs::read(file).ok()) {
            // Whole, however long it is: it outlives everything else.
            lock(&self.seen).texts.push(("a backup".to_owned(), Text::new(backup.into())));
        }
        if SHOW_KEYS.iter().any(|shows| args.windows(2).any(|pair| pair == shows)) {
            let text = String::from_utf8_lossy(stdout);
            let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'));
            // What an answer shows of a key beside it is none.
            words
                .filter(|word| word.starts_with("sbk_") && word.len() > SHOWN)
                .for_each(|key| self.learn("an agent key", key));
        } else {
            self.see(name.clone(), stdout);
        }
        self.see(name, stderr);
    }

    /// The deployment's end is not looked at: for a test that has leaked something on purpose.
    #[cfg(test)]
    pub(crate) fn disarm(&self) {
        self.armed.store(false, Ordering::Relaxed);
    }

    /// Every leak, and everything else that is wrong, one line each.
    pub(crate) fn verdict(&self) -> Vec<String> {
        self.gather();
        let seen = lock(&self.seen);
        let issued = self.sim.secrets();
        let issued = issued.iter().map(|(kind, secret)| (*kind, secret.as_bytes()));
        let learned = seen.secrets.iter().map(|(kind, secret)| (kind.as_str(), secret.as_slice()));
        let finder = Finder::new(issued.chain(learned));
        let mut complaints = seen.complaints.clone();
        for (place, text) in &seen.texts {
            let text = lock(text);
            for (what, at) in finder.find(&text) {
                let before = String::from_utf8_lossy(&text[at.saturating_sub(200)..at]).into_owned();
                complaints.push(format!("{place} holds {what}, after {before:?}"));
            }
        }
        complaints
    }

    /// Looks at everything for the last time, and fails the test if something is wrong.
    pub(crate) fn finish(&self) {
        if !self.armed.swap(false, Ordering::Relaxed) {
            return;
        }
        let complaints = self.verdict();
        if complaints.is_empty() {
            return;
        }
        let text = format!("secrets got out of {}:\n  {}", self.root.display(), complaints.join("\n  "));
        if std::thread::panicking() || on_a_worker() {
            #[expect(clippy::print_stderr, reason = "a panic here would end the process, or be lost with its task")]
            {
                eprintln!("{text}");
            }
            if on_a_worker() {
                std::process::abort();
            }
        } else {
            panic!("{text}");
        }
    }
}

/// On a runtime's own thread a panic ends a task and no test.
fn on_a_worker() -> bool {
    std::thread::current().name().is_some_and(|name| name.starts_with("tokio-"))
}

/// Appends to a text that is watched.
#[derive(Clone, Debug)]
pub(crate) struct Watched(Text);

impl Watched {
    /// More of it, up to [`MOST`].
    pub(crate) fn append(&self, bytes: &[u8]) {
        let mut text = lock(&self.0);
        let room = MOST.saturating_sub(text.len());
        text.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}
