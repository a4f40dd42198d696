//! Pastes from standard input, never from arguments: those are for everybody on the machine to read.

use std::io::{self, BufRead, IsTerminal, Read};

use domain::Reason;
use tokio::sync::mpsc;

use crate::output::Failed;

/// Longest line that is read, in bytes.
const LONGEST: u64 = 64 * 1024;

/// Lines of standard input, one after the other; closed at its end. The thread that reads is not waited for: somebody who
/// gives up must not have to press Enter first.
pub(crate) fn lines() -> mpsc::Receiver<io::Result<String>> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        loop {
            let mut line = String::new();
            let mut stdin = io::stdin().lock();
            // All of a line that is too long is one paste, and is refused once: what is over is not the next one.
            let mut read = stdin.by_ref().take(LONGEST).read_line(&mut line);
            if matches!(read, Ok(bytes) if bytes as u64 == LONGEST && !line.ends_with('\n')) {
                read = stdin.skip_until(b'\n').and(read);
            }
            drop(stdin);
            let ended = !matches!(read, Ok(1..));
            let sent = match read {
                Ok(0) => break,
                Ok(_) => sender.blocking_send(Ok(line)),
                Err(error) => sender.blocking_send(Err(error)),
            };
            if ended || sent.is_err() {
                break;
            }
        }
    });
    receiver
}

/// Standard input that breaks off.
pub(super) fn unreadable(error: &io::Error) -> Failed {
    let message = format!("standard input cannot be read: {error}");
    Failed::because(Reason::RequestInvalid, message, "hand it over as UTF-8 text, and run it again")
}

/// True if a person types.
pub(super) fn is_terminal() -> bool {
    io::stdin().is_terminal()
}
