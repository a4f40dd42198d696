//! A backup's passphrase: from a file, or asked on the terminal without showing it. Never an argument, which every
//! process on the machine can read.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use domain::Reason;
use secrecy::SecretString;
use zeroize::Zeroizing;

use crate::args::PassphraseArgs;
use crate::output::{Failed, eprint_line};
use crate::terminal::{self, ask};

/// Longest passphrase file, in bytes.
const MOST: u64 = 64 * 1024;
/// After a passphrase that was not taken.
const AGAIN: &str = "run it again, and type the passphrase both times alike";

/// The passphrase. `twice`: a new one, which is asked for again, since nothing would tell a mistake later.
pub(crate) fn passphrase(args: &PassphraseArgs, twice: bool) -> Result<SecretString, Failed> {
    // An empty variable is one that is not set.
    if let Some(file) = args.passphrase_file.as_deref().filter(|file| !file.as_os_str().is_empty()) {
        return from_file(file);
    }
    let mut terminal = terminal::open().ok_or_else(|| {
        Failed::usage(
            "there is no terminal to ask for the passphrase on",
            "name a file with --passphrase-file or SWITCHBOARD_PASSPHRASE_FILE",
        )
    })?;
    let first = ask(&mut terminal, "Passphrase: ", "the passphrase")?;
    if first.is_empty() {
        return Err(Failed::usage("the passphrase is empty", AGAIN));
    }
    if twice && *ask(&mut terminal, "The same again: ", "the passphrase")? != *first {
        return Err(Failed::usage("the two passphrases are not the same", AGAIN));
    }
    Ok(SecretString::from(first.as_str()))
}

fn from_file(file: &Path) -> Result<SecretString, Failed> {
    let name = file.display();
    let failed = |error: std::io::Error| Failed::unreadable("passphrase file", file, &error);
    let unfit = |why: String| {
        let message = format!("passphrase file {name} {why}");
        Failed::because(Reason::RequestInvalid, message, "name a file that holds the passphrase, and nothing else")
    };
    let opened = File::open(file).map_err(failed)?;
    let meta = opened.metadata().map_err(failed)?;
    // A pipe of the shell's has no such mode to speak of.
    if meta.is_file() && meta.mode() & 0o077 != 0 && !file.starts_with("/run/secrets") {
        eprint_line(&format!(
            "warning: passphrase file {name} has mode {:04o}, others can read it; run: chmod 600 {name}",
            meta.mode() & 0o7777
        ));
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(1024));
    opened.take(MOST + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MOST {
        return Err(unfit(format!("is longer than {} KiB", MOST / 1024)));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| unfit("is not UTF-8 text".to_owned()))?;
    let text = text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
    if text.is_empty() {
        return Err(unfit("is empty".to_owned()));
    }
    Ok(SecretString::from(text))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_file_gives_its_one_line() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("p");
        let read = |content: &[u8]| {
            std::fs::write(&path, content).expect("written");
            from_file(&path).map(|secret| secret.expose_secret().to_owned()).map_err(|error| format!("{error:?}"))
        };
        assert_eq!(read(b"correct horse\n").as_deref(), Ok("correct horse"));
        assert_eq!(read(b" kept \r\n").as_deref(), Ok(" kept "));
        assert_eq!(read(b"two\n\n").as_deref(), Ok("two\n"));
        for bad in [b"".as_slice(), b"\n", b"\xff\xfe"] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
        assert!(read(&vec![b'x'; MOST as usize + 1]).is_err());
        assert!(from_file(&dir.path().join("nothing")).is_err());
    }
}
