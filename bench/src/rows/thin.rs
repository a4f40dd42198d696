//! The least that a proxy of hyper costs: `thin-proxy`, beside this binary.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use e2e::Home;

use super::free_port;
use super::process::Service;
use crate::Failed;
use crate::sim::SimProcess;

const START_TIME: Duration = Duration::from_secs(10);

pub(super) async fn start(sim: &SimProcess) -> Result<(Service, SocketAddr), Failed> {
    let program = std::env::current_exe()?.with_file_name("thin-proxy");
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
    let mut command = Command::new(program);
    command.arg(address.to_string()).arg(sim.address()?.to_string());
    let home = Home::bare();
    let mut service = Service::spawn("thin-proxy", command, &home)?;
    service.listening(address, START_TIME).await?;
    Ok((service, address))
}
