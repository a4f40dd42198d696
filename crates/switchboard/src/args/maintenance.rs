//! Arguments of the commands that care for the store.

use std::path::PathBuf;

use clap::Args;

#[derive(Args, Debug)]
pub(crate) struct BackupArgs {
    /// File to write
    pub file: PathBuf,
    #[command(flatten)]
    pub passphrase: PassphraseArgs,
    /// Replace the file if it is there
    #[arg(long)]
    pub force: bool,
}

#[derive(Args, Debug)]
pub(crate) struct RestoreArgs {
    /// File that `backup` has made
    pub file: PathBuf,
    #[command(flatten)]
    pub passphrase: PassphraseArgs,
    /// Say what would happen, change nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Args, Debug)]
pub(crate) struct PassphraseArgs {
    /// File with the passphrase; the line end after it does not count [default: asked on the terminal]
    #[arg(long, value_name = "FILE", env = "SWITCHBOARD_PASSPHRASE_FILE")]
    pub passphrase_file: Option<PathBuf>,
}
