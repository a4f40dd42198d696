//! Signals that ask a command to end: what it has begun is brought to its end first.

use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

/// Exit code after a signal, as a shell gives it to a program that Ctrl-C ends.
pub(crate) const INTERRUPTED: u8 = 130;

/// Signals so close together are one request: `timeout`, for one, sends its signal to the command and then to the whole
/// group of processes. Whoever wants the command to give up what it has begun says so again, later.
const ONE_REQUEST: Duration = Duration::from_secs(1);

static ASKED: OnceLock<CancellationToken> = OnceLock::new();

/// A token that is cancelled at the first Ctrl-C, SIGTERM or hangup of the terminal. From the first call on such a signal
/// does not end the process any more; one that comes a second later or more does, at once. The same token for every caller.
pub(crate) fn listen() -> io::Result<CancellationToken> {
    if let Some(asked) = ASKED.get() {
        return Ok(asked.clone());
    }
    let asked = ASKED.get_or_init(CancellationToken::new).clone();
    let (mut int, mut term) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut hangup = if ignores_hangup() { None } else { Some(signal(SignalKind::hangup())?) };
    let mut next = async move || {
        let hung_up = async {
            match &mut hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! { _ = int.recv() => {} _ = term.recv() => {} _ = hung_up => {} }
    };
    let first = asked.clone();
    let watch = async move {
        next().await;
        first.cancel();
        let until = Instant::now() + ONE_REQUEST;
        while timeout_at(until, next()).await.is_ok() {}
        next().await;
        std::process::exit(i32::from(INTERRUPTED));
    };
    #[expect(clippy::disallowed_methods, reason = "it belongs to the process: nothing waits for it")]
    drop(tokio::spawn(watch));
    Ok(asked)
}

/// Was it started to outlive its terminal, as by `nohup`? Then it is not ended with it.
fn ignores_hangup() -> bool {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return false };
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // Signal n is bit n - 1, and a hangup is signal 1.
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}
