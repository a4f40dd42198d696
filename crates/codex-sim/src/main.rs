//! The simulator as a command: binds, prints its addresses, serves until it is told to stop.

mod options;

use std::{error::Error, io::Write as _};

use clap::Parser as _;
use codex_sim::Sim;
use tokio::signal::unix::{SignalKind, signal};

use crate::options::Options;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let sim = Sim::start(options.config()).await?;
    if let (Some(path), Some(pem)) = (&options.ca_out, sim.ca_pem()) {
        std::fs::write(path, pem)?;
    }
    for api_key in &options.api_keys {
        sim.state().add_api_key(api_key);
    }
    announce(&sim);

    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
    }
    sim.stop().await;
    Ok(())
}

/// One address a line, the one with TLS first. A script that has read enough may close its end.
fn announce(sim: &Sim) {
    let plain = sim.plain_base_url().filter(|plain| *plain != sim.base_url());
    let lines: String = [Some(sim.base_url()), plain].into_iter().flatten().map(|url| url + "\n").collect();
    let _ = std::io::stdout().write_all(lines.as_bytes());
}
