//! All that was measured, and what is asked of it.

use serde_json::{Value, json};

use crate::figures::Figure;
use crate::latency::Times;
use crate::memory::Memory;
use crate::rows::Row;
use crate::throughput::Rate;

/// Connections of the loads.
pub(crate) const LOADS: [usize; 3] = [1, 32, 256];

/// One round of one row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Round {
    pub(crate) first_event: Times,
    pub(crate) each_event: Times,
    /// By [`LOADS`].
    pub(crate) rates: [Rate; 3],
}

/// One row.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) row: Row,
    pub(crate) rounds: Vec<Round>,
    /// Bytes after all rounds, at most.
    pub(crate) peak: u64,
    pub(crate) memory: Option<Memory>,
}

/// A number of one round.
pub(crate) type Number = fn(&Round) -> f64;

/// The whole run.
#[derive(Clone, Debug)]
pub(crate) struct Results {
    pub(crate) machine: String,
    /// As typed.
    pub(crate) command: String,
    /// Seconds.
    pub(crate) took: f64,
    pub(crate) rows: Vec<Measured>,
    /// Rows that were asked for, and what they lack.
    pub(crate) skipped: Vec<(Row, String)>,
}

/// Something that is asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Target {
    pub(crate) text: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) limit: f64,
    /// True if the figure has to be that much at least.
    pub(crate) at_least: bool,
    pub(crate) figure: Option<Figure>,
}

impl Target {
    pub(crate) fn met(&self) -> Option<bool> {
        self.figure.map(|figure| if self.at_least { figure.median >= self.limit } else { figure.median <= self.limit })
    }
}

impl Results {
    pub(crate) fn row(&self, row: Row) -> Option<&Measured> {
        self.rows.iter().find(|measured| measured.row == row)
    }

    /// Of each round, what a row has more than the direct way.
    pub(crate) fn added(&self, row: Row, number: Number) -> Vec<f64> {
        self.pairs(row, Row::Direct, number).map(|(row, direct)| row - direct).collect()
    }

    fn pairs(&self, one: Row, other: Row, number: Number) -> impl Iterator<Item = (f64, f64)> {
        let of = |row| self.row(row).map(|row| row.rounds.as_slice()).unwrap_or_default().iter().map(number);
        of(one).zip(of(other))
    }

    /// Of each round, how many times as much a row adds as nginx.
    fn added_ratio(&self, row: Row, number: Number) -> Option<Figure> {
        let (ours, nginx) = (self.added(row, number), self.added(Row::Nginx, number));
        Figure::of(ours.into_iter().zip(nginx).map(|(ours, nginx)| ours / nginx))
    }

    fn rate_ratio(&self, row: Row, number: Number) -> Option<Figure> {
        Figure::of(self.pairs(row, Row::Nginx, number).map(|(ours, nginx)| ours / nginx))
    }

    fn memory(&self, row: Row, number: impl Fn(&Memory) -> Option<f64>) -> Option<Figure> {
        Figure::of(self.row(row)?.memory.as_ref().and_then(number))
    }

    /// What Switchboard is asked to reach in the same run.
    #[expect(clippy::cast_precision_loss, reason = "no process has petabytes")]
    pub(crate) fn targets(&self) -> Vec<Target> {
        let target = |text, unit, limit, at_least, figure| Target { text, unit, limit, at_least, figure };
        let (first, at_32, at_256): (Number, Number, Number) =
            (|r| r.first_event.p50, |r| r.rates[1].per_second, |r| r.rates[2].per_second);
        let open = |memory: &Memory| Some(memory.at(200)? as f64 / 1e6);
        let further = |memory: &Memory| {
            let most = memory.open.iter().filter_map(|(count, _)| memory.further(*count)).reduce(f64::max);
            most.map(|bytes| bytes / 1e3)
        };
        vec![
            target(
                "one process: added p50 to the first event, of nginx's",
                "×",
                1.0,
                false,
                self.added_ratio(Row::One, first),
            ),
            target("one process: streams/s at 32, of nginx's", "×", 0.5, true, self.rate_ratio(Row::One, at_32)),
            target("one process: streams/s at 256, of nginx's", "×", 0.5, true, self.rate_ratio(Row::One, at_256)),
            target(
                "four processes: added p50 to the first event, of nginx's",
                "×",
                3.0,
                false,
                self.added_ratio(Row::Four, first),
            ),
            target("four processes: streams/s at 32, of nginx's", "×", 0.2, true, self.rate_ratio(Row::Four, at_32)),
            target("four processes: streams/s at 256, of nginx's", "×", 0.2, true, self.rate_ratio(Row::Four, at_256)),
            target("four processes: memory with 200 open streams", "MB", 60.0, false, self.memory(Row::Four, open)),
            target(
                "one process: memory of each further open stream",
                "KB",
                40.0,
                false,
                self.memory(Row::One, further),
            ),
            target(
                "four processes: memory of each further open stream",
                "KB",
                40.0,
                false,
                self.memory(Row::Four, further),
            ),
        ]
    }

    /// Everything, round by round.
    pub(crate) fn json(&self) -> Value {
        let figure = |figure: Figure| json!({ "median": figure.median, "least": figure.least, "most": figure.most });
        let targets = self.targets().into_iter().map(|target| {
            json!({ "target": target.text, "unit": target.unit, "limit": target.limit, "atLeast": target.at_least,
                "measured": target.figure.map(figure), "met": target.met() })
        });
        let skipped = self.skipped.iter().map(|(row, why)| json!({ "row": row.key(), "why": why }));
        json!({
            "machine": self.machine, "command": self.command, "seconds": self.took,
            "rows": self.rows.iter().map(Measured::json).collect::<Vec<_>>(),
            "skipped": skipped.collect::<Vec<_>>(),
            "targets": targets.collect::<Vec<_>>(),
        })
    }
}

impl Measured {
    pub(crate) fn none(row: Row) -> Self {
        Self { row, rounds: Vec::new(), peak: 0, memory: None }
    }

    fn json(&self) -> Value {
        let times = |times: Times| json!({ "p50Us": times.p50, "p99Us": times.p99 });
        let rates = |round: &Round| {
            let of = |(load, rate): (usize, Rate)| json!({ "connections": load, "perSecond": rate.per_second, "cpuUs": rate.cpu });
            LOADS.into_iter().zip(round.rates).map(of).collect::<Vec<_>>()
        };
        let round = |round: &Round| json!({ "firstEvent": times(round.first_event), "eachEvent": times(round.each_event), "streams": rates(round) });
        let memory = self.memory.as_ref().map(|memory| {
            let open = |(count, bytes): &(usize, u64)| json!({ "streams": count, "bytes": bytes, "eachFurther": memory.further(*count) });
            json!({ "idle": memory.idle, "open": memory.open.iter().map(open).collect::<Vec<_>>(), "ended": memory.ended })
        });
        json!({ "row": self.row.key(), "name": self.row.label(), "peakBytes": self.peak, "memory": memory,
            "rounds": self.rounds.iter().map(round).collect::<Vec<_>>() })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Rows that answer so many streams a second, and add so many microseconds.
    pub(crate) fn results(rows: &[(Row, f64, f64)]) -> Results {
        let measured = |(row, per_second, time): &(Row, f64, f64)| {
            let times = Times { p50: *time, p99: *time * 2.0 };
            let rates = [Rate { per_second: *per_second, cpu: 100.0 }; 3];
            let round = Round { first_event: times, each_event: times, rates };
            let memory = Memory { idle: 1, open: vec![(200, 30_000_000), (1000, 54_000_000)], ended: None };
            let memory = (*row != Row::Direct).then_some(memory);
            Measured { row: *row, rounds: vec![round, round], peak: 2_000_000, memory }
        };
        let rows = rows.iter().map(measured).collect();
        let skipped = vec![(Row::Litellm, "it is not installed".to_owned())];
        Results { machine: "2 × CPU".into(), command: "bench --quick".into(), took: 9.0, rows, skipped }
    }

    #[test]
    fn targets_are_ratios_within_a_round() {
        let results = results(&[
            (Row::Direct, 5000.0, 100.0),
            (Row::Nginx, 4000.0, 150.0),
            (Row::One, 2000.0, 200.0),
            (Row::Four, 700.0, 250.0),
        ]);
        let targets = results.targets();
        let found: Vec<_> = targets.iter().map(|target| (target.figure.map(|f| f.median), target.met())).collect();
        let none = |median: f64, met| (Some(median), Some(met));
        let expected = [
            none(2.0, false),
            none(0.5, true),
            none(0.5, true),
            none(3.0, true),
            none(0.175, false),
            none(0.175, false),
            none(30.0, true),
            none(30.0, true),
            none(30.0, true),
        ];
        assert_eq!(found, expected);
    }
}
