//! Arguments of `certs`.

use std::path::PathBuf;

use clap::{Args, Subcommand, value_parser};

#[derive(Args, Debug)]
pub(crate) struct CertsArgs {
    /// Directory of the authority and all that it has signed [default: certs in the working directory]
    #[arg(long, global = true, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    #[command(subcommand)]
    pub action: CertsAction,
}

#[derive(Subcommand, Debug)]
pub(crate) enum CertsAction {
    /// Make an authority, a certificate for each service and operator, and the seal key; what is there stays
    Init(InitArgs),
    /// Sign certificates anew; running services take them up by themselves
    Renew(RenewArgs),
    /// All certificates, with when they end
    List,
}

#[derive(Args, Debug)]
pub(crate) struct InitArgs {
    /// Trust domain, the first part of every name: spiffe://DOMAIN/service/gateway [default: switchboard]
    #[arg(long, value_name = "DOMAIN")]
    pub domain: Option<String>,
    /// Operator to make a certificate for; repeat for more [default: admin]
    #[arg(long = "operator", value_name = "NAME")]
    pub operators: Vec<String>,
    /// Host name or IP address of a service, for other programs' clients, which check it; repeat for more
    #[arg(long = "host", value_name = "NAME")]
    pub hosts: Vec<String>,
    /// Days that certificates last
    #[arg(long, default_value_t = 365, value_parser = value_parser!(u16).range(1..=3650))]
    pub days: u16,
}

#[derive(Args, Debug)]
pub(crate) struct RenewArgs {
    /// Which, e.g. gateway or operator-admin [default: all]
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// Give them new private keys, too
    #[arg(long)]
    pub new_keys: bool,
    /// Days that certificates last
    #[arg(long, default_value_t = 365, value_parser = value_parser!(u16).range(1..=3650))]
    pub days: u16,
}
