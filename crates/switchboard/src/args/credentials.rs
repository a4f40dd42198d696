//! Arguments of the commands about credentials: where they come from, where they go, what is done to them.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Args, Debug)]
pub(crate) struct ImportArgs {
    #[command(subcommand)]
    pub from: ImportFrom,
}

#[derive(Subcommand, Debug)]
pub(crate) enum ImportFrom {
    /// Codex CLI's auth.json
    Codex {
        /// File or directory [default: $CODEX_HOME, else ~/.codex]
        path: Option<PathBuf>,
        #[command(flatten)]
        common: ImportCommon,
        /// Label for the credential [default: main, else main-2, main-3, …; a login that is here keeps its own]
        #[arg(long)]
        label: Option<String>,
    },
    /// OpenClaw's state directory: profiles, sidecars, order and routes
    Openclaw {
        /// State directory [default: $OPENCLAW_STATE_DIR, else ~/.openclaw]
        state_dir: Option<PathBuf>,
        /// File with the seed of the sidecars' key [default: where OpenClaw keeps it]
        #[arg(long, value_name = "FILE")]
        secret_key_file: Option<PathBuf>,
        #[command(flatten)]
        common: ImportCommon,
    },
}

#[derive(Args, Debug, Clone, Copy)]
pub(crate) struct ImportCommon {
    /// Say what would happen, change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Use access tokens while they live, never refresh: the other program stays the owner
    #[arg(long)]
    pub borrow: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ExportArgs {
    #[command(subcommand)]
    pub to: ExportTo,
}

#[derive(Subcommand, Debug)]
pub(crate) enum ExportTo {
    /// Codex CLI's auth.json
    Codex {
        /// File (a name that ends in .json) or directory, made if it is missing [default: $CODEX_HOME, else ~/.codex]
        path: Option<PathBuf>,
        /// Label or id of the credential [default: the login that came from Codex CLI, or the only one]
        #[arg(long, value_name = "LABEL")]
        credential: Option<String>,
        /// Hand over once more what an export has handed over before; no other program may have it
        #[arg(long)]
        again: bool,
        /// Say what would happen, change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// OpenClaw's profiles, inline or in sidecars as they are
    Openclaw {
        /// State directory [default: $OPENCLAW_STATE_DIR, else ~/.openclaw]
        state_dir: Option<PathBuf>,
        /// File with the seed of the sidecars' key [default: where OpenClaw keeps it]
        #[arg(long, value_name = "FILE")]
        secret_key_file: Option<PathBuf>,
        /// Label or id of a credential; repeat for more [default: all that came from OpenClaw]
        #[arg(long = "credential", value_name = "LABEL")]
        credentials: Vec<String>,
        /// Hand over once more what an export has handed over before; no other program may have it
        #[arg(long)]
        again: bool,
        /// Say what would happen, change nothing
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Args, Debug)]
pub(crate) struct LogoutArgs {
    /// Label or id
    pub credential: String,
}

#[derive(Args, Debug)]
pub(crate) struct LoginArgs {
    #[command(subcommand)]
    pub provider: LoginProvider,
}

#[derive(Subcommand, Debug)]
pub(crate) enum LoginProvider {
    /// A ChatGPT account, by device code: needs no browser on this machine
    Codex {
        /// Label for the credential [default: main, else main-2, main-3, …; a login that is here keeps its own]
        #[arg(long)]
        label: Option<String>,
        /// Sign in with a browser anywhere and paste the address at which it ends, instead of entering a code
        #[arg(long)]
        paste: bool,
        /// Name or label of the egress by which the login leaves, and which the credential requires from then on
        #[arg(long, value_name = "NAME")]
        egress: Option<String>,
    },
    /// An API key of a platform account, read from standard input
    ApiKey {
        /// Provider whose realm is api-key, e.g. openai
        #[arg(long)]
        provider: String,
        /// Label for the credential; one of this label gets the new key [default: the provider's name]
        #[arg(long)]
        label: Option<String>,
    },
}

#[derive(Args, Debug)]
pub(crate) struct CredentialsArgs {
    #[command(subcommand)]
    pub action: CredentialsAction,
}

#[derive(Subcommand, Debug)]
pub(crate) enum CredentialsAction {
    /// All credentials, in the order in which they are tried
    List,
    /// One credential
    Show {
        /// Label or id
        credential: String,
    },
    /// Refresh one now
    Refresh {
        /// Label or id
        credential: String,
    },
    /// Forget one; asks in a terminal where it would lose a login's only tokens
    Remove {
        /// Label or id
        credential: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Set the order in which a provider's credentials are tried, or spread sessions over them
    Order {
        /// Provider, e.g. openai-codex
        provider: String,
        /// Labels, first tried first
        #[arg(required_unless_present = "by_session", conflicts_with = "by_session")]
        credentials: Vec<String>,
        /// Let each session keep to one of them (the default until an order is given)
        #[arg(long)]
        by_session: bool,
    },
    /// Permit the refresh of a restored one: nothing else has used its login since the backup
    Confirm {
        /// Label or id
        credential: String,
    },
    /// Encrypt every secret anew under a new database key; works while a server runs
    Rekey,
    /// Say which egresses may make requests with a credential: its calls, login and refreshes, usage and models
    Egress {
        /// Label or id
        credential: String,
        /// Only egresses with one of these names or labels
        #[arg(long, value_name = "NAME", num_args = 1.., required_unless_present_any = ["prefer", "none"])]
        require: Vec<String>,
        /// Those with one of these names or labels first, in this order
        #[arg(long, value_name = "NAME", num_args = 1..)]
        prefer: Vec<String>,
        /// All egresses, as if nothing had been said
        #[arg(long, conflicts_with_all = ["require", "prefer"])]
        none: bool,
    },
}
