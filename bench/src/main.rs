//! What Switchboard costs: one table, in one run, beside the simulator alone, nginx and LiteLLM. `docs/performance.md`
//! records a run and says how to read it.

mod build;
mod client;
mod figures;
mod latency;
mod machine;
mod memory;
mod report;
mod results;
mod rows;
mod sim;
mod throughput;

use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;

use crate::results::{LOADS, Measured, Results, Round};
use crate::rows::{Row, Running};
use crate::sim::SimProcess;

/// What can go wrong: nobody but a person reads it.
pub(crate) type Failed = Box<dyn Error + Send + Sync>;

/// Measures Switchboard beside what else could stand before the upstream; prints one table as Markdown.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// Fewer and shorter rounds, and no more than 1,000 open streams: to see that it works, not for figures.
    #[arg(long)]
    quick: bool,
    /// Rows of the table, comma separated; what is not installed is left out [default: all]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "ROW")]
    rows: Vec<Row>,
    /// Rounds; in each one every row is measured, in turns [default: 5, quick: 2]
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// Milliseconds that each load lasts in a round [default: 1500, quick: 200]
    #[arg(long, value_name = "MS")]
    window: Option<u64>,
    /// Numbers of open streams to look at memory with; 0 for none [default: 200,1000,5000, quick: 200,1000]
    #[arg(long, value_delimiter = ',', value_name = "N")]
    streams: Option<Vec<usize>>,
    /// Let the simulator speak TLS with those in between, as the real upstream does (HTTP/2 where they speak it).
    #[arg(long)]
    tls: bool,
    /// Print everything as JSON, round by round.
    #[arg(long)]
    json: bool,
    /// Take the binaries as they are, also if they are old.
    #[arg(long)]
    no_build: bool,
}

/// How much is measured.
struct Size {
    rounds: usize,
    window: Duration,
    /// Calls whose first event is timed.
    calls: usize,
    /// Events that are timed.
    events: usize,
    streams: Vec<usize>,
}

impl Options {
    fn size(&self) -> Size {
        let quick = self.quick;
        let streams = self.streams.clone().unwrap_or_else(|| vec![200, 1000, 5000]);
        let (most, any) = (if quick && self.streams.is_none() { 1000 } else { usize::MAX }, 1);
        Size {
            rounds: self.rounds.unwrap_or(if quick { 2 } else { 5 }).max(1),
            window: Duration::from_millis(self.window.unwrap_or(if quick { 200 } else { 1500 })),
            calls: if quick { 50 } else { 500 },
            events: if quick { 20 } else { 200 },
            streams: streams.into_iter().filter(|count| (any..=most).contains(count)).collect(),
        }
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    // One thread: what the load takes is missing to what is measured.
    let result = build::ensure(!options.no_build).and_then(|()| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(measure(&options))
    });
    let printed = result.and_then(|results| {
        let text = if options.json { format!("{:#}\n", results.json()) } else { results.markdown() };
        Ok(std::io::stdout().write_all(text.as_bytes())?)
    });
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(options: &Options) -> Result<Results, Failed> {
    machine::raise_open_files();
    let (machine, began, size) = (machine::describe(), Instant::now(), options.size());
    let asked = if options.rows.is_empty() { Row::ALL.to_vec() } else { options.rows.clone() };
    let mut skipped = Vec::new();
    let sim = SimProcess::start(options.tls).await?;
    let mut running = Vec::new();
    // What the others are compared with is always there.
    for row in Row::ALL.into_iter().filter(|row| *row == Row::Direct || asked.contains(row)) {
        match row.missing() {
            Some(why) => skipped.push((row, why)),
            None => running.push(row.start(&sim).await?),
        }
    }
    let mut rows: Vec<Measured> = running.iter().map(|running| Measured::none(running.row)).collect();
    for round in 0..size.rounds {
        tell(&format!("round {} of {}", round + 1, size.rounds));
        // Each row comes first once, and every number is of all rows before the next number is: what disturbs the
        // machine for a while disturbs all of them.
        running.rotate_left(usize::from(round > 0));
        for (row, numbers) in one_round(&mut running, &size).await? {
            rows.iter_mut().filter(|measured| measured.row == row).for_each(|measured| measured.rounds.push(numbers));
        }
    }
    for row in &mut running {
        let peak = row.usage()?.peak;
        rows.iter_mut().filter(|measured| measured.row == row.row).for_each(|measured| measured.peak = peak);
    }
    drop(running);
    for measured in rows.iter_mut().filter(|row| row.row != Row::Direct && !size.streams.is_empty()) {
        tell(&format!("memory of {}", measured.row.label()));
        measured.memory = Some(memory::measure(measured.row, &sim, &size.streams).await?);
    }
    let arguments: String = std::env::args().skip(1).map(|argument| format!(" {argument}")).collect();
    let separator = if arguments.is_empty() { "" } else { " --" };
    let command = format!("cargo run --release -p bench{separator}{arguments}");
    Ok(Results { machine, command, took: began.elapsed().as_secs_f64(), rows, skipped })
}

async fn one_round(rows: &mut [Running], size: &Size) -> Result<Vec<(Row, Round)>, Failed> {
    let mut found: Vec<(Row, Round)> = rows.iter().map(|row| (row.row, Round::default())).collect();
    for (row, (_, round)) in rows.iter().zip(&mut found) {
        round.first_event = named(row, latency::first_event(row, size.calls, size.window * 2).await)?;
    }
    for (row, (_, round)) in rows.iter().zip(&mut found) {
        round.each_event = named(row, latency::each_event(row, size.events).await)?;
    }
    for (at, connections) in LOADS.into_iter().enumerate() {
        for (row, (_, round)) in rows.iter_mut().zip(&mut found) {
            let rate = throughput::rate(row, connections, size.window).await;
            if let Some(place) = round.rates.get_mut(at) {
                *place = named(row, rate)?;
            }
        }
    }
    Ok(found)
}

fn named<T>(row: &Running, result: Result<T, Failed>) -> Result<T, Failed> {
    result.map_err(|error| format!("{}: {error}", row.row.label()).into())
}

/// How far it is, for whoever waits.
fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
