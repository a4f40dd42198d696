//! What Switchboard costs: time added to a streamed call, memory, and the time of `demo`, measured against the
//! simulator at full speed. `docs/performance.md` records a run and says how to read it.

mod deployments;
mod latency;
mod machine;
mod memory;
mod report;
mod sim;

use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;

use crate::deployments::Deployments;
use crate::report::Report;
use crate::sim::SimProcess;

/// Nothing here may take longer; a machine that needs more has something to tell already.
const TIME_LIMIT: Duration = Duration::from_secs(90);

/// What can go wrong: nobody but a person reads it.
pub(crate) type Failed = Box<dyn Error>;

/// Measures added latency, memory and the time of `demo` against the simulator; prints Markdown.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// Rounds; in each one every way to the simulator is measured, in turns.
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: usize,
    /// Calls of a round by each way, one after the other.
    #[arg(long, value_name = "N", default_value_t = 300)]
    calls: usize,
    /// Streams held open for the memory's sake.
    #[arg(long, value_name = "N", default_value_t = 200)]
    streams: usize,
    /// Runs of `demo`.
    #[arg(long, value_name = "N", default_value_t = 5)]
    demos: usize,
    /// Let the simulator speak TLS and HTTP/2, as the real upstream does; otherwise plain HTTP/1.1.
    #[arg(long)]
    tls: bool,
}

fn main() -> ExitCode {
    let result = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(Failed::from)
        .and_then(|runtime| runtime.block_on(limited(&Options::parse())));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn limited(options: &Options) -> Result<(), Failed> {
    let measured = Box::pin(tokio::time::timeout(TIME_LIMIT, measure(options))).await;
    let report = measured.map_err(|_| format!("not done after {} s", TIME_LIMIT.as_secs()))??;
    std::io::stdout().write_all(report.markdown().as_bytes())?;
    Ok(())
}

async fn measure(options: &Options) -> Result<Report, Failed> {
    deployments::check_binaries()?;
    let machine = machine::describe();
    let began = Instant::now();
    let sim = SimProcess::start(options.tls).await?;
    let mut deployments = Deployments::start(&sim).await?;
    let idle = deployments.memory()?;
    let latency = latency::measure(&sim, &mut deployments, options.rounds, options.calls).await?;
    let worked = deployments.memory()?;
    let loaded = memory::with_streams(&sim, &mut deployments, options.streams).await?;
    deployments.stop().await;
    let demos = deployments::demos(options.demos).await?;
    Ok(Report {
        machine,
        command: std::env::args().skip(1).collect(),
        tls: options.tls,
        calls: options.calls,
        latency,
        memory: [idle, worked, loaded],
        streams: options.streams,
        demos,
        took: began.elapsed(),
    })
}
