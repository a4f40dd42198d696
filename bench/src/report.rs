//! The figures as Markdown.

use std::time::Duration;

use crate::latency::{Block, Latency, Way, micros};
use crate::memory::Memory;

/// All that was measured.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) machine: String,
    /// Arguments of this run.
    pub(crate) command: Vec<String>,
    pub(crate) tls: bool,
    /// Of a round, by each way.
    pub(crate) calls: usize,
    pub(crate) latency: Latency,
    /// Idle, after the calls, with streams open: each of one process and of four.
    pub(crate) memory: [[Memory; 2]; 3],
    pub(crate) streams: usize,
    pub(crate) demos: Vec<Duration>,
    pub(crate) took: Duration,
}

impl Report {
    pub(crate) fn markdown(&self) -> String {
        let arguments: String = self.command.iter().map(|argument| format!(" {argument}")).collect();
        let separator = if arguments.is_empty() { "" } else { " --" };
        let upstream = if self.tls { "TLS and HTTP/2" } else { "plain HTTP/1.1" };
        let head = format!(
            "Machine: {}\nCommand: `cargo run --release -p bench{separator}{arguments}` ({:.0} s)\nUpstream: codex-sim at \
             full speed, {upstream}; {} rounds of {} calls by each way, in turns\n\n",
            self.machine,
            self.took.as_secs_f64(),
            self.latency.rounds.len(),
            self.calls
        );
        [head, self.latency_table(), self.memory_table(), self.demo_line()].concat()
    }

    fn latency_table(&self) -> String {
        let mut table =
            "| one streamed call | p50 | p90 | first byte p50 | added p50 (range of rounds) | times as long | \
                         CPU for a call |\n|---|---|---|---|---|---|---|\n"
                .to_owned();
        for way in Way::ALL {
            let of =
                |figure: fn(&Block) -> Duration| median(self.latency.of(way, figure).into_iter().map(micros).collect());
            let (added, ratio, cpu) = match way {
                Way::Direct => ("–".to_owned(), "1".to_owned(), "–".to_owned()),
                way => {
                    let added = self.latency.added(way, Block::p50);
                    let (least, most) = range(&added);
                    let cpu = self.latency.cpu_per_call[usize::from(way == Way::FourProcesses)];
                    (
                        format!("**{}** ({} to {})", ms(median(added)), ms(least), ms(most)),
                        format!("{:.2}", median(self.latency.ratio(way, Block::p50))),
                        ms(micros(cpu)),
                    )
                }
            };
            table += &format!(
                "| {} | {} | {} | {} | {added} | {ratio} | {cpu} |\n",
                label(way),
                ms(of(Block::p50)),
                ms(of(Block::p90)),
                ms(of(Block::first_p50))
            );
        }
        table + "\n"
    }

    fn memory_table(&self) -> String {
        let row = |name: &str, place: usize| {
            let cells: String = self.memory.iter().map(|when| format!(" {} |", cell(when[place]))).collect();
            format!("| {name} |{cells}\n")
        };
        format!(
            "| memory, RSS (PSS) | started, no call yet | after {} calls | with {} open streams |\n|---|---|---|---|\n{}{}\n",
            crate::latency::WARM_UP + self.latency.rounds.len() * self.calls,
            self.streams,
            row("`switchboard up`", 0),
            row("four processes, sum", 1)
        )
    }

    fn demo_line(&self) -> String {
        let seconds: Vec<f64> = self.demos.iter().map(Duration::as_secs_f64).collect();
        let (least, most) = range(&seconds);
        let runs = seconds.len();
        format!(
            "`switchboard demo` from start to exit: median **{:.2} s** ({least:.2} to {most:.2}, {runs} runs)\n",
            median(seconds)
        )
    }
}

fn label(way: Way) -> &'static str {
    match way {
        Way::Direct => "direct to the simulator",
        Way::OneProcess => "through `switchboard up`",
        Way::FourProcesses => "through four processes",
    }
}

/// The middle value, or the mean of the two in the middle; zero of none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.get(middle) {
        None => 0.0,
        Some(value) if values.len() % 2 == 1 => *value,
        Some(value) => f64::midpoint(values[middle - 1], *value),
    }
}

fn range(values: &[f64]) -> (f64, f64) {
    let least = values.iter().copied().min_by(f64::total_cmp).unwrap_or_default();
    let most = values.iter().copied().max_by(f64::total_cmp).unwrap_or_default();
    (least, most)
}

fn ms(micros: f64) -> String {
    format!("{:.2} ms", micros / 1e3)
}

fn cell(memory: Memory) -> String {
    match memory.pss {
        Some(pss) => format!("{} ({})", mib(memory.rss), mib(pss)),
        None => mib(memory.rss),
    }
}

#[expect(clippy::cast_precision_loss, reason = "no process has petabytes")]
fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_lie_in_the_middle() {
        assert_eq!(format!("{} {} {}", median(vec![3.0, 1.0, 2.0]), median(vec![4.0, 1.0]), median(vec![])), "2 2.5 0");
        assert_eq!(format!("{:?}", range(&[2.0, 1.0, 3.0])), "(1.0, 3.0)");
    }

    #[test]
    fn the_report_is_tables_and_says_how_it_was_made() {
        let values: Vec<_> = (1..=10).map(Duration::from_millis).collect();
        let block = |way| Block { way, whole: values.clone(), first: values.clone() };
        let round = Way::ALL.map(block).to_vec();
        let memory = |pss| [Memory { rss: 3 << 20, pss }; 2];
        let report = Report {
            machine: "2 × CPU".to_owned(),
            command: vec!["--tls".to_owned()],
            tls: true,
            calls: 10,
            latency: Latency { rounds: vec![round], cpu_per_call: [Duration::from_millis(1); 2] },
            memory: [memory(None), memory(None), memory(Some(2 << 20))],
            streams: 200,
            demos: vec![Duration::from_millis(1500)],
            took: Duration::from_secs(9),
        };
        let text = report.markdown();
        for part in [
            "`cargo run --release -p bench -- --tls` (9 s)",
            "| direct to the simulator | 5.00 ms | 9.00 ms | 5.00 ms | – | 1 | – |",
            "| through `switchboard up` | 5.00 ms | 9.00 ms | 5.00 ms | **0.00 ms** (0.00 ms to 0.00 ms) | 1.00 | 1.00 ms |",
            "| four processes, sum | 3.0 MiB | 3.0 MiB | 3.0 MiB (2.0 MiB) |",
            "median **1.50 s**",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }
}
