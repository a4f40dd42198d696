//! Streams per second over so many connections, and the processor time that one takes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::Failed;
use crate::client::Connection;
use crate::latency::LAST_EVENT;
use crate::rows::Running;

/// A stream of 26 events.
pub(crate) const SHORT: &str = "[[sim:long:18]]";
const SHORT_EVENTS: usize = 26;

/// What one load gave.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Rate {
    /// Streams that ended in a second.
    pub(crate) per_second: f64,
    /// Microseconds of processor time of the row's processes for one of them.
    pub(crate) cpu: f64,
}

/// Makes calls over `connections` at once for as long as `window`.
pub(crate) async fn rate(row: &mut Running, connections: usize, window: Duration) -> Result<Rate, Failed> {
    let request: Arc<[u8]> = row.endpoint.request(SHORT).into();
    let ready = Arc::new(Barrier::new(connections + 1));
    let go = Arc::new(Barrier::new(connections + 1));
    let mut loops = JoinSet::new();
    for _ in 0..connections {
        let (request, ready, go, address) = (request.clone(), ready.clone(), go.clone(), row.endpoint.address);
        loops.spawn(async move {
            let opened = open(address, &request).await;
            ready.wait().await;
            go.wait().await;
            match opened {
                Ok((connection, lines)) => repeat(connection, &request, lines, window).await,
                Err(error) => Err(error),
            }
            .map_err(|error| error.to_string())
        });
    }
    ready.wait().await;
    let before = row.usage()?.cpu;
    go.wait().await;
    let (mut within, mut all) = (0, 0);
    while let Some(ended) = loops.join_next().await {
        let (in_time, late) = ended??;
        within += in_time;
        all += in_time + late;
    }
    let cpu = row.usage()?.cpu.saturating_sub(before);
    Ok(Rate {
        per_second: f64::from(within) / window.as_secs_f64(),
        cpu: cpu.as_secs_f64() * 1e6 / f64::from(all.max(1)),
    })
}

/// A connection that has made a call, and the lines that its stream had.
async fn open(address: std::net::SocketAddr, request: &[u8]) -> Result<(Connection, usize), Failed> {
    let mut connection = Connection::open(address).await?;
    let (mut body, mut lines) = (Vec::new(), 0);
    connection.call(request, |part: &[u8]| body.extend_from_slice(part)).await?;
    lines += line_ends(&body);
    let events = body.windows(2).filter(|two| two == b"\n\n").count();
    if events < SHORT_EVENTS || !body.windows(LAST_EVENT.len()).any(|part| part == LAST_EVENT) {
        return Err(format!("a stream of {events} events: {}", String::from_utf8_lossy(&body)).into());
    }
    Ok((connection, lines))
}

/// Calls until `window` is over; how many ended within it, and after.
async fn repeat(
    mut connection: Connection,
    request: &[u8],
    expected: usize,
    window: Duration,
) -> Result<(u32, u32), Failed> {
    let began = Instant::now();
    let mut within = 0;
    loop {
        let mut lines = 0;
        connection.call(request, |part: &[u8]| lines += line_ends(part)).await?;
        // A stream that is cut short would be a fast one.
        if lines != expected {
            return Err(format!("a stream had {lines} lines, and the one before {expected}").into());
        }
        if began.elapsed() > window {
            return Ok((within, 1));
        }
        within += 1;
    }
}

fn line_ends(part: &[u8]) -> usize {
    part.iter().filter(|byte| **byte == b'\n').count()
}
