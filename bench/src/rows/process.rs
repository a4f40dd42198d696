//! A server of somebody else's: started on loopback in a folder of its own, and ended by its id.

use std::fs::File;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use e2e::Home;
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpStream;

use crate::Failed;

/// How long it gets to end by itself.
const END_TIME: Duration = Duration::from_secs(5);

/// A running server. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Service {
    child: Child,
    name: &'static str,
    /// Its configuration and its log.
    home: Home,
}

impl Service {
    pub(super) fn spawn(name: &'static str, mut command: Command, home: &Home) -> Result<Self, Failed> {
        let log = File::create(home.log_file(name))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().map_err(|error| format!("{name} cannot be started: {error}"))?;
        Ok(Self { child, name, home: home.clone() })
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it takes connections.
    pub(super) async fn listening(&mut self, address: SocketAddr, limit: Duration) -> Result<(), Failed> {
        let began = Instant::now();
        while TcpStream::connect(address).await.is_err() {
            let ended = self.child.try_wait()?;
            if ended.is_some() || began.elapsed() > limit {
                let log = std::fs::read_to_string(self.home.log_file(self.name)).unwrap_or_default();
                return Err(format!("{} does not listen on {address}: {ended:?}\n{log}", self.name).into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Asked first: one that is killed leaves those behind that it has started.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        }
        let began = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && began.elapsed() < END_TIME {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
