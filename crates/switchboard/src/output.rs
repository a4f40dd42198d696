//! What commands print: JSON, tables, traces; and how they fail.

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::sync::OnceLock;

use domain::service::CLI;
use domain::{ExecutionTrace, Failure, span};
use serde_json::{Value, json};
use service_kit::startup::StartError;
use tonic::Status;

use crate::interrupt::INTERRUPTED;

/// A command that failed.
#[derive(Debug)]
pub(crate) enum Failed {
    /// A process or its configuration could not start.
    Start(StartError),
    /// A failure from the table, with the execution trace if it was a call's.
    Call(Box<(Failure, Option<ExecutionTrace>)>),
    /// The command says what is wrong, beyond what it has printed; exit code 1.
    Message(String),
    /// The arguments do not fit; exit code 2.
    Usage(String),
    /// A signal ended the command; what the operator must know of what it had begun. Exit code 130.
    Interrupted(&'static str),
    /// Everything has been printed; the exit code is left.
    Printed(u8),
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        Self::Call(Box::new((failure, None)))
    }
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        Self::Message(error.to_string())
    }
}

impl Failed {
    /// From a status that `peer` answered with.
    pub(crate) fn status(status: &Status, peer: &str) -> Self {
        let trace = service_kit::trace_from_status(status);
        Self::Call(Box::new((service_kit::failure_from_status(status, peer), trace)))
    }

    /// Prints what went wrong and gives the exit code. With `json` a failure goes to standard output, that of
    /// a call with its execution trace.
    pub(crate) fn report(self, json: bool) -> ExitCode {
        match self {
            Self::Start(StartError::Failure(failure)) => Self::from(*failure).report(json),
            Self::Start(error) => {
                if json {
                    print_json(&json!({ "status": "error", "error": { "message": error.to_string() } }));
                }
                service_kit::startup::finish(Err(error))
            }
            Self::Call(failed) => {
                let (failure, trace) = *failed;
                if json {
                    print_json(&match &trace {
                        Some(_) => failure_json(&failure, trace.as_ref()),
                        None => error_json(&failure),
                    });
                } else {
                    print_failure(&failure);
                    if let Some(trace) = trace {
                        eprint_line(&format!("hops: switchboard calls show {}", trace.call_id));
                    }
                }
                ExitCode::FAILURE
            }
            Self::Message(message) => {
                if json {
                    print_json(&json!({ "status": "error", "error": { "message": message } }));
                }
                eprint_line(&format!("error: {message}"));
                ExitCode::FAILURE
            }
            Self::Usage(message) => {
                eprint_line(&format!("error: {message}"));
                ExitCode::from(2)
            }
            Self::Interrupted(state) => {
                if json {
                    print_json(&json!({ "status": "error", "error": { "message": format!("interrupted; {state}") } }));
                }
                eprint_line(&format!("interrupted; {state}"));
                ExitCode::from(INTERRUPTED)
            }
            Self::Printed(code) => ExitCode::from(code),
        }
    }
}

/// The one shape of an error.
pub(crate) fn error_json(failure: &Failure) -> Value {
    json!({ "status": "error", "error": failure })
}

/// The answer of a failed call, in the contract's shape: the error, and the shape of an answer.
pub(crate) fn failure_json(failure: &Failure, trace: Option<&ExecutionTrace>) -> Value {
    json!({ "status": "error", "error": failure, "result": { "payloads": [], "meta": { "executionTrace": trace } } })
}

/// A failure for people, on standard error.
pub(crate) fn print_failure(failure: &Failure) {
    for line in failure_lines(failure) {
        eprint_line(&line);
    }
}

/// A failure for people, line by line.
pub(crate) fn failure_lines(failure: &Failure) -> Vec<String> {
    // With one candidate the message says it all; several have a line each, with the whole of their text.
    let several = failure.candidates.len() > 1;
    let message = if several { failure.summary() } else { failure.message.as_str() };
    let mut lines = vec![format!("error: {} ({}): {message}", failure.reason, failure.service)];
    for candidate in failure.candidates.iter().filter(|_| several) {
        let reason = candidate.reason.map_or("eligible", domain::CandidateReason::as_str);
        let detail = candidate.detail.as_deref().map(|d| format!(": {d}")).unwrap_or_default();
        lines.push(format!("  credential {}: {reason}{detail}", candidate.credential));
    }
    if !failure.next_step.is_empty() && failure.next_step != "none" {
        lines.push(format!("next: {}", failure.next_step));
    }
    if let Some(seconds) = failure.retry_after_seconds.filter(|_| failure.service != CLI) {
        lines.push(format!("retry after: {seconds:.0} s"));
    }
    lines.push(format!("more: switchboard explain {}", failure.reason));
    lines
}

/// Why standard output could not be written: a key that is shown once must not be lost in silence.
static LOST: OnceLock<String> = OnceLock::new();

/// Prints a line.
pub(crate) fn print_line(line: &str) {
    noted(writeln!(io::stdout().lock(), "{line}"));
}

/// Prints text without a line end, at once.
pub(crate) fn print_text(text: &str) {
    let mut out = io::stdout().lock();
    noted(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

/// A reader that has gone away (`| head`) is no failure; a full disk is.
fn noted(written: io::Result<()>) {
    if let Err(error) = written
        && error.kind() != ErrorKind::BrokenPipe
    {
        let _ = LOST.set(error.to_string());
    }
}

/// The end of a command that went well: it failed all the same if what it printed was lost.
pub(crate) fn finish() -> ExitCode {
    noted(io::stdout().lock().flush());
    let Some(error) = LOST.get() else { return ExitCode::SUCCESS };
    eprint_line(&format!("error: standard output cannot be written: {error}; what was printed is lost"));
    ExitCode::FAILURE
}

/// Prints a line on standard error.
pub(crate) fn eprint_line(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Prints text without a line end on standard error, at once.
pub(crate) fn eprint_text(text: &str) {
    let mut err = io::stderr().lock();
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
}

/// Prints JSON, indented.
pub(crate) fn print_json(value: &Value) {
    let mut value = value.clone();
    whole(&mut value);
    print_line(&serde_json::to_string_pretty(&value).unwrap_or_else(|_| value.to_string()));
}

/// Whole numbers without a fraction: times and counts travel as doubles, and `0.0` tokens are 0.
pub(crate) fn whole(value: &mut Value) {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) if number.is_f64() => {
            if let Some(exact) = number.as_f64().filter(|n| n.fract() == 0.0 && n.abs() < EXACT) {
                *value = Value::from(exact as i64);
            }
        }
        Value::Array(all) => all.iter_mut().for_each(whole),
        Value::Object(fields) => fields.values_mut().for_each(whole),
        _ => {}
    }
}

/// Prints a table whose columns are as wide as they must be; nothing but the header if there are no rows.
pub(crate) fn print_table(header: &[&str], rows: &[Vec<String>]) {
    print_table_within(header, rows, &[]);
}

/// As [`print_table`], no wider than a terminal: cells of the columns named in `shorter` are cut, the widest first, until
/// a line fits. Their whole text is in `--json` and where one thing is shown.
pub(crate) fn print_table_within(header: &[&str], rows: &[Vec<String>], shorter: &[&str]) {
    let widths = widths(header, rows, shorter);
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{:<w$}", cut(cell, *width), w = *width)).collect();
        print_line(padded.join("  ").trim_end());
    };
    line(header.to_vec());
    for row in rows {
        line(row.iter().map(String::as_str).collect());
    }
}

/// Widths of the columns, in characters.
fn widths(header: &[&str], rows: &[Vec<String>], shorter: &[&str]) -> Vec<usize> {
    /// Characters that a line has room for.
    const LINE: usize = 120;
    /// No column is cut below this, or below its heading.
    const LEAST: usize = 10;
    let mut widths: Vec<usize> = header.iter().map(|h| h.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    loop {
        let line = widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1);
        let may = |at: &usize| shorter.contains(&header[*at]) && widths[*at] > LEAST.max(header[*at].chars().count());
        match (0..header.len()).filter(may).max_by_key(|at| widths[*at]) {
            Some(widest) if line > LINE => widths[widest] -= 1,
            _ => return widths,
        }
    }
}

fn cut(cell: &str, width: usize) -> String {
    if cell.chars().count() <= width {
        return cell.to_owned();
    }
    cell.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// How far away a Unix time is, for a narrow column: `3 d ago`, `in 5 min`.
pub(crate) fn away(unix_s: f64, now_s: i64) -> String {
    let seconds = unix_s.floor() as i64;
    let away = span(seconds.abs_diff(now_s));
    if seconds > now_s { format!("in {away}") } else { format!("{away} ago") }
}

/// A Unix time for people, with how far away it is.
pub(crate) fn when(unix_s: f64, now_s: i64) -> String {
    // Down, as clocks are read: what was within this second is now, not in the future.
    domain::when(unix_s.floor() as i64, now_s)
}

/// An execution trace for people: attempts, then a waterfall of the hops.
pub(crate) fn print_trace(trace: &ExecutionTrace) {
    print_line(&format!("call {}  trace {}  route table {}", trace.call_id, trace.trace_id, trace.route_table));
    for (i, a) in trace.attempts.iter().enumerate() {
        let mut line = format!("attempt {}  {}/{}", i + 1, a.provider, a.model);
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                line.push_str(&format!("  {name}={value}"));
            }
        };
        add("credential", a.credential.clone());
        add("egress", a.egress.clone());
        add("status", a.status.map(|s| s.to_string()));
        add("request", a.upstream_request_id.clone());
        add("ray", a.ray_id.clone());
        add("reason", a.reason.clone());
        print_line(&format!("{line}  {} in {:.1} ms", a.result.as_str(), a.elapsed_ms));
        print_line(&format!("           {}", a.url));
    }
    print_waterfall(trace);
}

fn print_waterfall(trace: &ExecutionTrace) {
    const WIDTH: f64 = 40.0;
    let end = trace.hops.iter().map(|h| h.start_us + h.duration_us).fold(1.0, f64::max);
    let name_width = trace.hops.iter().map(|h| h.service.len() + h.name.len() + 1).max().unwrap_or(0);
    for hop in &trace.hops {
        let from = (hop.start_us / end * WIDTH).floor().clamp(0.0, WIDTH - 1.0) as usize;
        let len = ((hop.duration_us / end * WIDTH).round().max(1.0) as usize).min(WIDTH as usize - from);
        let bar = format!("{}{}", " ".repeat(from), "█".repeat(len));
        let name = format!("{} {}", hop.service, hop.name);
        let outcome = if hop.outcome == "ok" { String::new() } else { format!("  {}", hop.outcome) };
        print_line(&format!(
            "  {name:<name_width$}  |{bar:<40}| {:>9.3} ms +{:.3}{outcome}",
            hop.duration_us / 1000.0,
            hop.start_us / 1000.0
        ));
    }
}

#[cfg(test)]
mod tests {
    use domain::{Candidate, CandidateReason, Reason, listing};

    use super::*;

    #[test]
    fn whole_numbers_are_printed_as_such() {
        let mut value = json!({ "tokens": 0.0, "at": [1_795_424_356.0, 0.5], "text": "1.0", "none": null });
        whole(&mut value);
        assert_eq!((value["tokens"].to_string(), value["at"].to_string()), ("0".into(), "[1795424356,0.5]".into()));
        assert_eq!((&value["text"], &value["none"]), (&json!("1.0"), &Value::Null));
    }

    #[test]
    fn a_table_fits_by_cutting_what_may_be_cut() {
        let rows = vec![vec!["x".repeat(50), "y".repeat(90), "z".repeat(40)]];
        assert_eq!(widths(&["A", "B", "C"], &rows, &["B"]), [50, 26, 40]);
        assert_eq!(widths(&["A", "B", "C"], &rows, &["A", "B"]), [38, 38, 40]);
        assert_eq!(widths(&["A", "B", "C"], &rows, &[]), [50, 90, 40]);
        assert_eq!(widths(&["A", "B", "C"], &[], &["A"]), [1, 1, 1]);
        assert_eq!((cut("abcdef", 4).as_str(), cut("abcd", 4).as_str()), ("abc…", "abcd"));
    }

    #[test]
    fn several_candidates_are_printed_once() {
        let candidate = |name: &str| Candidate {
            credential: name.into(),
            eligible: false,
            reason: Some(CandidateReason::Resting),
            detail: Some("it rests".into()),
        };
        let all = vec![candidate("a"), candidate("b")];
        let failure = Failure::new(Reason::UsageLimit, "auth-svc", listing("none before noon", &all)).candidates(all);
        let lines = failure_lines(&failure);
        assert_eq!(lines[0], "error: USAGE_LIMIT (auth-svc): none before noon");
        assert_eq!(lines[1..3], ["  credential a: resting: it rests", "  credential b: resting: it rests"]);
        let one = Failure { candidates: vec![candidate("a")], ..failure };
        assert!(failure_lines(&one)[0].contains("a: resting (it rests)"));
    }
}
