//! The time of one streamed call, from sending it to the end of its body, on a connection that is kept.

use std::time::{Duration, Instant};

use reqwest::{Client, RequestBuilder};

use crate::Failed;
use crate::deployments::Deployments;
use crate::sim::SimProcess;

/// Calls before the measurement, so that connections, pools and caches are as in service.
pub(crate) const WARM_UP: usize = 100;
/// A dozen events, as a short answer has.
const PROMPT: &str = "Reply exactly: OK";
/// The last event of a good answer.
const LAST_EVENT: &[u8] = b"response.completed";

/// The ways to the simulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Direct,
    OneProcess,
    FourProcesses,
}

impl Way {
    pub(crate) const ALL: [Way; 3] = [Way::Direct, Way::OneProcess, Way::FourProcesses];
}

/// One round's calls by one way.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) way: Way,
    /// To the end of the body, sorted.
    pub(crate) whole: Vec<Duration>,
    /// To the first byte of the body, sorted.
    pub(crate) first: Vec<Duration>,
}

/// All rounds.
#[derive(Clone, Debug)]
pub(crate) struct Latency {
    pub(crate) rounds: Vec<Vec<Block>>,
    /// Processor time of the services for one call: one process, four processes.
    pub(crate) cpu_per_call: [Duration; 2],
}

/// Measures all ways in turns: what disturbs the machine for a while disturbs all of them.
pub(crate) async fn measure(
    sim: &SimProcess,
    deployments: &mut Deployments,
    rounds: usize,
    calls: usize,
) -> Result<Latency, Failed> {
    // A client of its own for each way: as many connections as agents would have.
    let clients = [sim.client()?, sim.client()?, sim.client()?];
    for way in Way::ALL {
        block(way, &clients, sim, deployments, WARM_UP).await?;
    }
    let before = [deployments.one.cpu()?, deployments.four.cpu()?];
    let mut done = Vec::new();
    for round in 0..rounds {
        let mut blocks = Vec::new();
        // Each way comes first, second and third.
        for turn in 0..Way::ALL.len() {
            let way = Way::ALL[(round + turn) % Way::ALL.len()];
            blocks.push(block(way, &clients, sim, deployments, calls).await?);
        }
        done.push(blocks);
    }
    let after = [deployments.one.cpu()?, deployments.four.cpu()?];
    let count = u32::try_from(rounds.saturating_mul(calls).max(1))?;
    let per_call = |place: usize| after[place].saturating_sub(before[place]) / count;
    Ok(Latency { rounds: done, cpu_per_call: [per_call(0), per_call(1)] })
}

async fn block(
    way: Way,
    clients: &[Client; 3],
    sim: &SimProcess,
    deployments: &Deployments,
    calls: usize,
) -> Result<Block, Failed> {
    let mut block = Block { way, whole: Vec::new(), first: Vec::new() };
    for _ in 0..calls {
        let request = match way {
            Way::Direct => sim.direct_call(&clients[0], PROMPT),
            Way::OneProcess => deployments.one.call(&clients[1], PROMPT),
            Way::FourProcesses => deployments.four.call(&clients[2], PROMPT),
        };
        let (first, whole) = call(request).await.map_err(|error| format!("{way:?}: {error}"))?;
        block.first.push(first);
        block.whole.push(whole);
    }
    block.first.sort_unstable();
    block.whole.sort_unstable();
    Ok(block)
}

/// One call read to its end; a body without its last event is a failed measurement.
async fn call(request: RequestBuilder) -> Result<(Duration, Duration), Failed> {
    let request = request.build_split();
    let (client, request) = (request.0, request.1?);
    let began = Instant::now();
    let mut response = client.execute(request).await?;
    let status = response.status();
    let (mut first, mut tail) = (None, Vec::new());
    while let Some(chunk) = response.chunk().await? {
        first.get_or_insert_with(|| began.elapsed());
        tail.extend_from_slice(&chunk);
    }
    let whole = began.elapsed();
    if !status.is_success() || !tail.windows(LAST_EVENT.len()).any(|part| part == LAST_EVENT) {
        return Err(format!("{status}: {}", String::from_utf8_lossy(&tail)).into());
    }
    Ok((first.unwrap_or(whole), whole))
}

impl Latency {
    /// A figure of each round by one way.
    pub(crate) fn of(&self, way: Way, figure: impl Fn(&Block) -> Duration) -> Vec<Duration> {
        self.rounds.iter().flatten().filter(|block| block.way == way).map(figure).collect()
    }

    /// What a way adds to the direct call in each round, in microseconds.
    pub(crate) fn added(&self, way: Way, figure: impl Fn(&Block) -> Duration) -> Vec<f64> {
        let (direct, way) = (self.of(Way::Direct, &figure), self.of(way, &figure));
        direct.iter().zip(way).map(|(direct, way)| micros(way) - micros(*direct)).collect()
    }

    /// How many times as long a way takes, in each round.
    pub(crate) fn ratio(&self, way: Way, figure: impl Fn(&Block) -> Duration) -> Vec<f64> {
        let (direct, way) = (self.of(Way::Direct, &figure), self.of(way, &figure));
        direct.iter().zip(way).map(|(direct, way)| micros(way) / micros(*direct)).collect()
    }
}

impl Block {
    pub(crate) fn p50(&self) -> Duration {
        percentile(&self.whole, 50)
    }

    pub(crate) fn p90(&self) -> Duration {
        percentile(&self.whole, 90)
    }

    pub(crate) fn first_p50(&self) -> Duration {
        percentile(&self.first, 50)
    }
}

/// The value below which `percent` of the sorted values lie (nearest rank); zero of none.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

pub(crate) fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(way: Way, values: &[u64]) -> Block {
        let values: Vec<_> = values.iter().map(|value| Duration::from_micros(*value)).collect();
        Block { way, whole: values.clone(), first: values }
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        let values = block(Way::Direct, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        assert_eq!((values.p50(), values.p90()), (Duration::from_micros(5), Duration::from_micros(9)));
        assert_eq!(block(Way::Direct, &[7]).p90(), Duration::from_micros(7));
        assert_eq!(block(Way::Direct, &[]).p50(), Duration::ZERO);
    }

    #[test]
    fn ways_are_compared_within_their_round() {
        let round = |direct, one| vec![block(Way::OneProcess, &[one]), block(Way::Direct, &[direct])];
        let latency = Latency { rounds: vec![round(100, 300), round(200, 300)], cpu_per_call: [Duration::ZERO; 2] };
        let rounded = |values: Vec<f64>| values.into_iter().map(f64::round).collect::<Vec<_>>();
        assert_eq!(rounded(latency.added(Way::OneProcess, Block::p50)), [200.0, 100.0]);
        assert_eq!(rounded(latency.ratio(Way::OneProcess, Block::p50)), [3.0, 2.0]);
    }
}
