//! The arguments of every command.

mod certs;
mod credentials;
mod keys;
mod maintenance;
mod time;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use service_kit::startup::Places;

pub(crate) use certs::{CertsAction, CertsArgs, InitArgs, RenewArgs};
pub(crate) use credentials::{CredentialsAction, CredentialsArgs, ImportArgs, ImportFrom, LoginArgs, LoginProvider};
pub(crate) use credentials::{ExportArgs, ExportTo, LogoutArgs};
pub(crate) use keys::{AuditAction, AuditArgs, CreateArgs, KeysAction, KeysArgs};
pub(crate) use maintenance::{BackupArgs, PassphraseArgs, RestoreArgs};

/// One front door to Codex for agents, self-hosted.
#[derive(Parser, Debug)]
#[command(name = "switchboard", version, about, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub places: Places,
    /// Server to talk to: unix:///path, or https://host:port with an operator's certificate [default: the data directory's
    /// sockets]
    #[arg(long, global = true, value_name = "ADDRESS", env = "SWITCHBOARD_SERVER")]
    pub server: Option<String>,
    #[command(flatten)]
    pub certificate: CertificateArgs,
    /// Work on the simulator's own data directory, `sim` in the data directory
    #[arg(long, global = true)]
    pub sim: bool,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

/// Whose certificate is shown to a server on the network. All three or none.
#[derive(Args, Debug)]
pub(crate) struct CertificateArgs {
    /// Authority that signed the server's certificate, PEM [default: tls.ca of the configuration]
    #[arg(long = "ca", id = "tls_ca", global = true, value_name = "FILE", env = "SWITCHBOARD_TLS_CA")]
    pub ca: Option<PathBuf>,
    /// Operator's certificate, PEM [default: tls.cert of the configuration]
    #[arg(long = "cert", id = "tls_cert", global = true, value_name = "FILE", env = "SWITCHBOARD_TLS_CERT")]
    pub cert: Option<PathBuf>,
    /// File of its private key, PEM [default: tls.key of the configuration]
    #[arg(long = "key", id = "tls_key", global = true, value_name = "FILE", env = "SWITCHBOARD_TLS_KEY")]
    pub key: Option<PathBuf>,
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
    /// Make, list, rotate and revoke agent keys
    Keys(KeysArgs),
    /// Make one agent call
    Call(CallArgs),
    /// Recent calls with their execution traces
    Calls(CallsArgs),
    /// Models, and whether a call to them would be bound
    Models(ModelsArgs),
    /// Check or show the configuration
    Config(ConfigArgs),
    /// Hand current tokens back to another program and stop refreshing them: the way back of an import
    Export(ExportArgs),
    /// End a login: revoke it at the provider and forget it
    Logout(LogoutArgs),
    /// Ask every service whether it serves
    Health,
    /// What a reason means and what to do
    Explain(ExplainArgs),
    /// What operators did
    Audit(AuditArgs),
    /// Look at everything and say what is wrong, what will be, and what to do
    Doctor(DoctorArgs),
    /// Copy everything into one file, encrypted under a passphrase; works while a server runs
    Backup(BackupArgs),
    /// Take a backup in, here or on another host; works while a server runs
    Restore(RestoreArgs),
    /// Certificates for services and operators on several hosts
    Certs(CertsArgs),
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

#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    /// Only this agent's routes [default: every agent]
    #[arg(long)]
    pub agent: Option<String>,
}
