//! Memory of the services, idle and with streams open.

use std::iter::Sum;
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::{Client, Response};

use crate::Failed;
use crate::deployments::{Deployment, Deployments};
use crate::sim::SimProcess;

/// Events come this often on each open stream, for longer than anybody looks.
const PROMPT: &str = "[[sim:long:10000:16:100]]";
/// How long streams run before the look.
const SETTLE: Duration = Duration::from_secs(2);
/// How long streams may take to open and to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// `VmRSS`: a page that several processes share counts for each of them.
    pub(crate) rss: u64,
    /// `Pss`: a shared page counts in equal parts. None where the kernel does not say.
    pub(crate) pss: Option<u64>,
}

impl Memory {
    /// Of one process.
    pub(crate) fn of(id: u32) -> Result<Self, Failed> {
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
        let rss = kilobytes(&status, "VmRSS:").ok_or_else(|| format!("/proc/{id}/status has no VmRSS"))?;
        let smaps = std::fs::read_to_string(format!("/proc/{id}/smaps_rollup")).unwrap_or_default();
        Ok(Self { rss, pss: kilobytes(&smaps, "Pss:") })
    }
}

impl Sum for Memory {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self { rss: 0, pss: Some(0) }, |sum, part| Self {
            rss: sum.rss + part.rss,
            pss: sum.pss.zip(part.pss).map(|(sum, part)| sum + part),
        })
    }
}

/// The value in bytes of a line `name  123 kB`.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// The memory of each deployment while it has `count` streams open, one deployment after the other.
pub(crate) async fn with_streams(
    sim: &SimProcess,
    deployments: &mut Deployments,
    count: usize,
) -> Result<[Memory; 2], Failed> {
    let one = loaded(sim, &mut deployments.one, count).await?;
    let four = loaded(sim, &mut deployments.four, count).await?;
    Ok([one, four])
}

async fn loaded(sim: &SimProcess, deployment: &mut Deployment, count: usize) -> Result<Memory, Failed> {
    let client = Client::builder().no_proxy().build()?;
    let opening = (0..count).map(|_| open(deployment.call(&client, PROMPT)));
    let opened = tokio::time::timeout(PATIENCE, join_all(opening)).await;
    let opened = opened.map_err(|_| format!("{count} streams are not open after {} s", PATIENCE.as_secs()))?;
    let streams: Vec<Response> = opened.into_iter().collect::<Result<_, _>>()?;
    let reading = join_all(streams.into_iter().map(read));
    let looking = async {
        tokio::time::sleep(SETTLE).await;
        let open = sim.open_streams().await?;
        if open != count as u64 {
            return Err(format!("{open} streams are open at the simulator, not {count}").into());
        }
        deployment.memory()
    };
    let memory = tokio::select! {
        memory = looking => memory?,
        _ = reading => return Err("the streams have ended".into()),
    };
    // Dropped with `reading`; the next measurement must not see them.
    gone(sim).await?;
    Ok(memory)
}

async fn open(request: reqwest::RequestBuilder) -> Result<Response, Failed> {
    let mut response = request.send().await?.error_for_status()?;
    // Up to the first event: headers may come before it.
    response.chunk().await?.ok_or("a stream ended at once")?;
    Ok(response)
}

async fn read(mut response: Response) {
    while let Ok(Some(_)) = response.chunk().await {}
}

/// Waits until no stream is open at the simulator.
async fn gone(sim: &SimProcess) -> Result<(), Failed> {
    let waiting = async {
        while sim.open_streams().await? > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok::<_, Failed>(())
    };
    tokio::time::timeout(PATIENCE, waiting).await.map_err(|_| "streams stay open after their callers went away")?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lines_are_read_and_summed() {
        assert_eq!(kilobytes("VmPeak:\t 9 kB\nVmRSS:\t  12 kB\n", "VmRSS:"), Some(12 * 1024));
        assert_eq!(kilobytes("", "Pss:"), None);
        let part = |rss, pss| Memory { rss, pss };
        assert_eq!([part(1, Some(1)), part(2, Some(1))].into_iter().sum::<Memory>(), part(3, Some(2)));
        assert_eq!([part(1, Some(1)), part(2, None)].into_iter().sum::<Memory>(), part(3, None));
        assert!(Memory::of(std::process::id()).is_ok_and(|memory| memory.rss > 0));
    }
}
