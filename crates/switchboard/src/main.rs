//! `switchboard`: the command line, and all services in one process.

mod all_in_one;
mod args;
mod authority;
mod commands;
mod control;
mod interrupt;
mod output;
mod passphrase;
mod reach;
mod replace_file;
mod scratch;
mod simulated;
mod terminal;

use std::process::ExitCode;

use clap::Parser;
use service_kit::harden;
use service_kit::startup;

use crate::args::{Cli, Command};
use crate::output::Failed;

/// A call makes some hundreds of small allocations; with this one they cost half of what the C library takes.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() && asks_for_json() => return output::unfit_arguments(&error).report(true),
        Err(error) => error.exit(),
    };
    let json = cli.json;
    let hardened = harden::harden().map_err(startup::not_hardened);
    let runtime = match hardened.and_then(|()| startup::runtime()) {
        Ok(runtime) => runtime,
        Err(error) => return Failed::from(error).report(json),
    };
    match runtime.block_on(run(cli)) {
        Ok(()) => output::finish(),
        Err(failed) => failed.report(json),
    }
}

/// Whether `--json` is among the arguments, where they are not taken for a command.
fn asks_for_json() -> bool {
    std::env::args_os().skip(1).take_while(|argument| argument != "--").any(|argument| argument == "--json")
}

async fn run(cli: Cli) -> Result<(), Failed> {
    match &cli.command {
        Command::Demo(args) => commands::demo::run(&cli, args).await,
        Command::Up(args) => commands::up::run(&cli, args).await,
        Command::Import(args) => commands::import::run(&cli, args).await,
        Command::Login(args) => commands::login::run(&cli, args).await,
        Command::Credentials(args) => commands::credentials::run(&cli, args).await,
        Command::Keys(args) => commands::keys::run(&cli, args).await,
        Command::Call(args) => commands::call::run(&cli, args).await,
        Command::Calls(args) => commands::calls::run(&cli, args).await,
        Command::Models(args) => commands::models::run(&cli, args).await,
        Command::Config(args) => commands::config::run(&cli, args),
        Command::Export(args) => commands::export::run(&cli, args).await,
        Command::Logout(args) => commands::logout::run(&cli, args).await,
        Command::Health => commands::health::run(&cli).await,
        Command::Explain(args) => commands::explain::run(&cli, args),
        Command::Audit(args) => commands::audit::run(&cli, args).await,
        Command::Doctor(args) => commands::doctor::run(&cli, args).await,
        Command::Backup(args) => commands::backup::run(&cli, args).await,
        Command::Restore(args) => commands::restore::run(&cli, args).await,
        Command::Certs(args) => commands::certs::run(&cli, args),
    }
}
