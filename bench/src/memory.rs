//! Memory while streams are open, with fresh processes.

use std::time::Duration;

use futures_util::future::try_join_all;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::task::JoinSet;

use crate::Failed;
use crate::client::Connection;
use crate::rows::{Endpoint, Row};
use crate::sim::SimProcess;
use crate::throughput::SHORT;

/// Streams that last for minutes, with an event every two seconds.
const PACED: &str = "[[sim:long:150:16:2000]]";
/// Calls before the first look, on several connections at once.
const WARM_UP: usize = 50;
/// Streams that are opened at once.
const OPENING: usize = 64;
/// How long opening or closing all of them may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Buffers that are full for a moment are empty again by then, and what is freed has been given back.
const SETTLE: Duration = Duration::from_millis(1500);

/// Bytes with so many streams open.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Memory {
    /// After some calls, none open.
    pub(crate) idle: u64,
    /// Streams, and bytes with them.
    pub(crate) open: Vec<(usize, u64)>,
    /// Why there are no more figures.
    pub(crate) ended: Option<String>,
}

impl Memory {
    /// Bytes with so many streams.
    pub(crate) fn at(&self, streams: usize) -> Option<u64> {
        self.open.iter().find(|(count, _)| *count == streams).map(|(_, bytes)| *bytes)
    }

    /// Bytes for each stream beyond the first figure's.
    #[expect(clippy::cast_precision_loss, reason = "no process has petabytes")]
    pub(crate) fn further(&self, streams: usize) -> Option<f64> {
        let (few, base) = *self.open.first()?;
        let bytes = self.at(streams)?;
        (streams > few).then(|| (bytes as f64 - base as f64) / (streams - few) as f64)
    }
}

/// Starts the row anew and looks at its memory with each of these numbers of streams, which grow.
pub(crate) async fn measure(row: Row, sim: &SimProcess, counts: &[usize]) -> Result<Memory, Failed> {
    let mut running = row.start(sim).await?;
    let endpoint = running.endpoint.clone();
    try_join_all((0..WARM_UP).map(|_| call(&endpoint))).await?;
    tokio::time::sleep(SETTLE).await;
    let mut memory = Memory { idle: running.usage()?.memory, ..Memory::default() };
    let mut open = JoinSet::new();
    for count in counts {
        if let Err(error) = grow(&mut open, *count, &endpoint, sim).await {
            memory.ended = Some(format!("{count} streams: {error}"));
            break;
        }
        memory.open.push((*count, running.usage()?.memory));
    }
    open.abort_all();
    while open.join_next().await.is_some() {}
    drop(running);
    gone(sim).await?;
    Ok(memory)
}

async fn call(endpoint: &Endpoint) -> Result<(), Failed> {
    Connection::open(endpoint.address).await?.call(&endpoint.request(SHORT), |_: &[u8]| ()).await
}

/// Opens streams until there are `count`, and lets them be for a while.
async fn grow(open: &mut JoinSet<()>, count: usize, endpoint: &Endpoint, sim: &SimProcess) -> Result<(), Failed> {
    let request = endpoint.request(PACED);
    let opening = stream::iter(open.len()..count).map(|_| begin(endpoint, &request)).buffer_unordered(OPENING);
    let opened = tokio::time::timeout(PATIENCE, opening.try_collect::<Vec<_>>()).await;
    for connection in opened.map_err(|_| format!("not open after {} s", PATIENCE.as_secs()))?? {
        open.spawn(keep(connection));
    }
    tokio::time::sleep(SETTLE).await;
    let found = sim.open_streams().await?;
    let ended = std::iter::from_fn(|| open.try_join_next()).count();
    if found != count as u64 || ended > 0 {
        return Err(format!("{found} are open at the simulator, and {ended} have ended here").into());
    }
    Ok(())
}

/// Up to the first event: headers may come before it.
async fn begin(endpoint: &Endpoint, request: &[u8]) -> Result<(Connection, crate::client::Chunks), Failed> {
    let mut connection = Connection::open(endpoint.address).await?;
    let chunks = connection.begin(request, &mut |_: &[u8]| ()).await?;
    Ok((connection, chunks))
}

/// Reads a stream to its end.
async fn keep((mut connection, mut chunks): (Connection, crate::client::Chunks)) {
    while connection.rest().await.is_ok() && connection.more(&mut chunks, &mut |_: &[u8]| ()).await.is_ok() {
        if chunks.is_over() {
            return;
        }
    }
}

/// Waits until no stream is open at the simulator: the next measurement must not see them.
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
    fn further_streams_are_those_beyond_the_first_figures() {
        let memory = Memory { idle: 1, open: vec![(200, 5_000_000), (1000, 13_000_000)], ended: None };
        assert_eq!((memory.at(200), memory.further(200), memory.further(5000)), (Some(5_000_000), None, None));
        assert_eq!(memory.further(1000).map(f64::round), Some(10_000.0));
    }
}
