//! Pastes from standard input, never from arguments: those are for everybody on the machine to read.

use std::io::{self, BufRead, IsTerminal, Read};

use tokio::sync::mpsc;

/// Longest line that is read, in bytes.
const LONGEST: u64 = 64 * 1024;

/// Lines of standard input, one after the other; closed at its end. The thread that reads is not waited for: somebody who
/// gives up must not have to press Enter first.
pub(crate) fn lines() -> mpsc::Receiver<io::Result<String>> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        loop {
            let mut line = String::new();
            let read = io::stdin().lock().take(LONGEST).read_line(&mut line);
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

/// True if a person types.
pub(super) fn is_terminal() -> bool {
    io::stdin().is_terminal()
}
