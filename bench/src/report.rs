//! The figures as Markdown.

use crate::figures::Figure;
use crate::memory::Memory;
use crate::results::{Measured, Number, Results, Target};
use crate::rows::Row;

impl Results {
    pub(crate) fn markdown(&self) -> String {
        let head = format!("Machine: {}\nCommand: `{}` ({:.0} s)\n\n", self.machine, self.command, self.took);
        let skipped = self.skipped.iter().map(|(row, why)| format!("Left out: {}: {why}\n", row.label()));
        let ended = self.rows.iter().filter_map(|row| {
            let why = row.memory.as_ref()?.ended.as_ref()?;
            Some(format!("Not measured: {}: {why}\n", row.row.label()))
        });
        let remarks: String = skipped.chain(ended).collect();
        [head, self.table(), "\n".to_owned(), self.memory_table(), "\n".to_owned(), self.verdicts(), remarks].concat()
    }

    fn table(&self) -> String {
        let mut table = "| | to the first event: added p50 | added p99 | each event: added p50 | added p99 | streams/s at 1 | \
                         at 32 | at 256 | CPU for a stream at 32 | peak memory |\n|---|---|---|---|---|---|---|---|---|---|\n"
            .to_owned();
        for row in &self.rows {
            let times: [Number; 4] =
                [|r| r.first_event.p50, |r| r.first_event.p99, |r| r.each_event.p50, |r| r.each_event.p99];
            let times = times.map(|number| match row.row {
                // Of what the others are compared with, the whole time.
                Row::Direct => format!("({})", micros(Figure::of(row.rounds.iter().map(number)))),
                _ => micros(Figure::of(self.added(row.row, number))),
            });
            let rates: [Number; 3] = [|r| r.rates[0].per_second, |r| r.rates[1].per_second, |r| r.rates[2].per_second];
            let rates = rates.map(|number| spread(Figure::of(row.rounds.iter().map(number)), 0, ""));
            let cpu: Number = |r| r.rates[1].cpu;
            let cpu =
                if row.row == Row::Direct { "–".to_owned() } else { micros(Figure::of(row.rounds.iter().map(cpu))) };
            let peak = if row.row == Row::Direct { "–".to_owned() } else { megabytes(row.peak) };
            table +=
                &format!("| {} | {} | {} | {cpu} | {peak} |\n", row.row.label(), times.join(" | "), rates.join(" | "));
        }
        table
    }

    fn memory_table(&self) -> String {
        let with = |row: &Measured| row.memory.clone().map(|memory| (row.row, memory));
        let rows: Vec<(Row, Memory)> = self.rows.iter().filter_map(with).collect();
        let most = rows.iter().max_by_key(|(_, memory)| memory.open.len());
        let Some(counts) = most.map(|(_, memory)| memory.open.iter().map(|(count, _)| *count).collect::<Vec<_>>())
        else {
            return String::new();
        };
        let head: String = counts.iter().map(|count| format!(" {count} open streams |")).collect();
        let further: String = counts.iter().skip(1).map(|count| format!(" each further up to {count} |")).collect();
        let lines = "---|".repeat(1 + counts.len() * 2);
        let mut table = format!("| memory | idle |{head}{further}\n|{lines}\n");
        for (row, memory) in rows {
            let cell = |text: Option<String>| format!(" {} |", text.unwrap_or_else(|| "–".to_owned()));
            let open: String = counts.iter().map(|count| cell(memory.at(*count).map(megabytes))).collect();
            let each = |count: &usize| cell(memory.further(*count).map(|bytes| format!("{:.1} KB", bytes / 1e3)));
            let each: String = counts.iter().skip(1).map(each).collect();
            table += &format!("| {} | {} |{open}{each}\n", row.label(), megabytes(memory.idle));
        }
        table
    }

    fn verdicts(&self) -> String {
        let mut table = "| target | asked | measured | |\n|---|---|---|---|\n".to_owned();
        for target in self.targets() {
            let Target { text, unit, limit, at_least, figure } = target;
            let asked = if at_least { "at least" } else { "at most" };
            let places = if unit == "×" { 2 } else { 1 };
            let verdict = match target.met() {
                Some(true) => "met",
                Some(false) => "**not met**",
                None => "not measured",
            };
            let measured = spread(figure, places, unit);
            table += &format!("| {text} | {asked} {limit} {unit} | {measured} | {verdict} |\n");
        }
        table + "\n"
    }
}

fn micros(figure: Option<Figure>) -> String {
    spread(figure, 0, "µs")
}

/// The median, and the range where there is one.
fn spread(figure: Option<Figure>, places: usize, unit: &str) -> String {
    let Some(Figure { median, least, most }) = figure else { return "–".to_owned() };
    let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
    if (most - least).abs() < f64::EPSILON {
        return format!("{median:.places$}{unit}");
    }
    format!("{median:.places$}{unit} ({least:.places$} to {most:.places$})")
}

#[expect(clippy::cast_precision_loss, reason = "no process has petabytes")]
fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use crate::results::tests::results;
    use crate::rows::Row;

    #[test]
    fn the_report_is_tables_and_says_how_it_was_made() {
        let text =
            results(&[(Row::Direct, 5000.0, 100.0), (Row::Nginx, 4000.0, 150.0), (Row::One, 2000.0, 200.0)]).markdown();
        for part in [
            "Command: `bench --quick` (9 s)",
            "| the simulator directly | (100 µs) | (200 µs) | (100 µs) | (200 µs) | 5000 | 5000 | 5000 | – | – |",
            "| nginx | 50 µs | 100 µs | 50 µs | 100 µs | 4000 | 4000 | 4000 | 100 µs | 2.0 MB |",
            "| Switchboard, one process | 0.0 MB | 30.0 MB | 54.0 MB | 30.0 KB |",
            "| one process: added p50 to the first event, of nginx's | at most 1 × | 2.00 × | **not met** |",
            "| one process: streams/s at 32, of nginx's | at least 0.5 × | 0.50 × | met |",
            "| four processes: memory with 200 open streams | at most 60 MB | – | not measured |",
            "Left out: LiteLLM: it is not installed\n",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }
}
