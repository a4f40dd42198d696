//! The arguments of every command.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use service_kit::startup::Places;

/// One front door to Codex for agents, self-hosted.
#[derive(Parser, Debug)]
#[command(name = "switchboard", version, about, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub places: Places,
    /// Server to talk to: unix:///path [default: the data directory's sockets]
    #[arg(long, global = true, value_name = "ADDRESS", env = "SWITCHBOARD_SERVER")]
    pub server: Option<String>,
    /// Work on the simulator's own data directory, `sim` in the data directory
    #[arg(long, global = true)]
    pub sim: bool,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Show the whole path once, against the built-in simulator: no account, no network
    Demo(DemoArgs),
    /// Run all services in one process
    Up(UpArgs),
    /// Take over credentials from another program's files
    Import(ImportArgs),
    /// Log in
    Login(LoginArgs),
    /// Look at and manage credentials; never prints a token
    Credentials(CredentialsArgs),
    /// Make, list and revoke agent keys
    Keys(KeysArgs),
    /// Make one agent call
    Call(CallArgs),
    /// Recent calls with their execution traces
    Calls(CallsArgs),
    /// Models, and whether a call to them would be bound
    Models(ModelsArgs),
    /// Check or show the configuration
    Config(ConfigArgs),
    /// Ask every service whether it serves
    Health,
    /// What a reason means and what to do
    Explain(ExplainArgs),
}

#[derive(Args, Debug)]
pub(crate) struct DemoArgs {}

#[derive(Args, Debug)]
pub(crate) struct UpArgs {
    /// Where agents connect [default: 127.0.0.1:7411]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Where the admin port listens [default: 127.0.0.1:7421]
    #[arg(long, value_name = "ADDRESS")]
    pub admin_listen: Option<String>,
}

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
        /// Label for the credential [default: main, or the account's e-mail]
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
pub(crate) struct LoginArgs {
    #[command(subcommand)]
    pub provider: LoginProvider,
}

#[derive(Subcommand, Debug)]
pub(crate) enum LoginProvider {
    /// A ChatGPT account, by device code: needs no browser on this machine
    Codex {
        /// Label for the credential [default: main, or the account's e-mail]
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
    /// Forget one
    Remove {
        /// Label or id
        credential: String,
    },
    /// Set the order in which a provider's credentials are tried
    Order {
        /// Provider, e.g. openai-codex
        provider: String,
        /// Labels, first tried first
        #[arg(required = true)]
        credentials: Vec<String>,
    },
}

#[derive(Args, Debug)]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    pub action: KeysAction,
}

#[derive(Subcommand, Debug)]
pub(crate) enum KeysAction {
    /// Make a key; it is printed once
    Create {
        /// Name, unique among live keys
        name: String,
        /// Agent it names
        #[arg(long, default_value = "main")]
        agent: String,
        /// Model or pattern it allows; repeat for more [default: all]
        #[arg(long = "model", value_name = "PATTERN")]
        models: Vec<String>,
        /// Credential it allows; repeat for more [default: all]
        #[arg(long = "credential", value_name = "LABEL")]
        credentials: Vec<String>,
        /// Seconds until it expires [default: never]
        #[arg(long, value_name = "SECONDS")]
        ttl: Option<u32>,
    },
    /// All keys, without the keys
    List,
    /// End a key
    Revoke {
        /// Id or name
        key: String,
    },
}

/// Reasoning effort.
#[derive(ValueEnum, Clone, Copy, Debug)]
pub(crate) enum Thinking {
    Minimal,
    Low,
    Medium,
    High,
    Xhigh,
}

#[derive(Args, Debug)]
pub(crate) struct CallArgs {
    /// Model, e.g. codex/gpt-5.5 [default: the agent's]
    #[arg(long, short)]
    pub model: Option<String>,
    /// What to say; - reads standard input
    #[arg(long, short = 't', visible_alias = "text")]
    pub message: String,
    /// Session, for the prompt cache
    #[arg(long, short)]
    pub session: Option<String>,
    /// Reasoning effort
    #[arg(long, value_enum)]
    pub thinking: Option<Thinking>,
    /// Agent to call as
    #[arg(long)]
    pub agent: Option<String>,
    /// Print the execution trace too (it is always in --json)
    #[arg(long)]
    pub trace: bool,
    /// Seconds to wait at most
    #[arg(long, default_value_t = 600, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub timeout: u32,
}

#[derive(Args, Debug)]
pub(crate) struct CallsArgs {
    #[command(subcommand)]
    pub action: CallsAction,
}

#[derive(Subcommand, Debug)]
pub(crate) enum CallsAction {
    /// Recent calls, newest first
    List {
        /// Only failed ones
        #[arg(long)]
        failed: bool,
        /// Most calls to show
        #[arg(long, default_value_t = 50)]
        limit: u16,
    },
    /// One call with its execution trace
    Show {
        /// Id of the call
        id: String,
    },
}

#[derive(Args, Debug)]
pub(crate) struct ModelsArgs {
    #[command(subcommand)]
    pub action: ModelsAction,
}

#[derive(Subcommand, Debug)]
pub(crate) enum ModelsAction {
    /// Known models
    List {
        /// Agent whose models to show [default: main]
        #[arg(long)]
        agent: Option<String>,
    },
    /// Whether a call would be bound, found by the call's own functions in the server
    Status {
        /// Only this agent [default: every agent]
        #[arg(long)]
        agent: Option<String>,
        /// Make the cheapest real upstream request for each bound route
        #[arg(long)]
        probe: bool,
        /// Exit 1 if a route in use cannot be bound (or its probe failed)
        #[arg(long)]
        check: bool,
    },
}

#[derive(Args, Debug)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    pub action: ConfigAction,
}

#[derive(Subcommand, Debug, Clone, Copy)]
pub(crate) enum ConfigAction {
    /// Read it and say what is wrong
    Check,
    /// Print what is in force, and where each value comes from
    Show,
}

#[derive(Args, Debug)]
pub(crate) struct ExplainArgs {
    /// Reason, e.g. CREDENTIAL_NOT_BOUND; without one, all are listed
    pub reason: Option<String>,
}
