//! Questions on the terminal whose answer is not shown.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::output::Failed;

/// What Ctrl-C gives where it does not interrupt.
const INTERRUPT: u8 = 3;

/// The terminal of this process, if it has one.
pub(crate) fn open() -> Option<File> {
    OpenOptions::new().read(true).write(true).open("/dev/tty").ok()
}

/// Puts the terminal's settings back when it goes.
struct Quiet<'a> {
    terminal: &'a File,
    before: Termios,
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.terminal, OptionalActions::Flush, &self.before);
    }
}

/// Asks, and reads a line that is not shown. `what` names it in errors.
pub(crate) fn ask(terminal: &mut File, question: &str, what: &str) -> Result<Zeroizing<String>, Failed> {
    terminal.write_all(question.as_bytes())?;
    let line = {
        let before = tcgetattr(&*terminal).map_err(std::io::Error::from)?;
        let mut quiet = before.clone();
        // Ctrl-C ends the line instead of the process, which would leave the terminal without its echo.
        quiet.local_modes.remove(LocalModes::ECHO | LocalModes::ISIG);
        quiet.special_codes[SpecialCodeIndex::VEOL] = INTERRUPT;
        let _quiet = Quiet { terminal, before };
        tcsetattr(&*terminal, OptionalActions::Flush, &quiet).map_err(std::io::Error::from)?;
        let mut line = Zeroizing::new(Vec::with_capacity(1024));
        read_line(&*terminal, &mut line)?;
        line
    };
    terminal.write_all(b"\n")?;
    if line.last() == Some(&INTERRUPT) {
        return Err(Failed::Interrupted("nothing was done"));
    }
    let text =
        std::str::from_utf8(&line).map_err(|_| Failed::usage(format!("{what} is not UTF-8 text"), "type it again"))?;
    Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}

/// Reads up to a line's end or Ctrl-C, which stays at its end. Byte by byte: a buffer would keep what it has read.
fn read_line(mut from: impl Read, line: &mut Vec<u8>) -> Result<(), Failed> {
    let mut byte = [0];
    while from.read(&mut byte)? == 1 && byte[0] != b'\n' {
        line.extend_from_slice(&byte);
        if byte[0] == INTERRUPT {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_at_its_end_or_at_an_interrupt() {
        for (input, expected) in [(b"ab\ncd".as_slice(), b"ab".as_slice()), (b"ab\x03cd", b"ab\x03"), (b"ab", b"ab")] {
            let mut line = Vec::new();
            read_line(input, &mut line).expect("read");
            assert_eq!(line, expected);
        }
    }
}
