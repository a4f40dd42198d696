//! What commands print: JSON, tables, traces; and how they fail.

use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::OnceLock;

use domain::service::CLI;
use domain::{ExecutionTrace, Failure, Reason, span};
use serde_json::{Value, json};
use service_kit::json;
use service_kit::startup::{EXIT_CONFIGURATION, StartError};
use tonic::Status;

use crate::interrupt::INTERRUPTED;

/// A command that failed. There is no way to fail with a bare message: every failure has its reason, its place and the
/// next step.
#[derive(Debug)]
pub(crate) enum Failed {
    /// A failure from the table, with the execution trace if it was a call's; exit code 1.
    Call(Box<(Failure, Option<ExecutionTrace>)>),
    /// The arguments do not fit; exit code 2.
    Usage(Box<Failure>),
    /// The configuration is at fault, or what it names; exit code 78.
    Configuration(Box<Failure>),
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

impl From<StartError> for Failed {
    fn from(error: StartError) -> Self {
        let is_configuration = error.exit_code() == EXIT_CONFIGURATION;
        let failure = error.into_failure(CLI);
        if is_configuration { Self::Configuration(Box::new(failure)) } else { failure.into() }
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::because(Reason::Internal, error.to_string(), "see what the system says of it, and run it again")
    }
}

impl Failed {
    /// A failure of the command itself that nobody mends by waiting.
    pub(crate) fn because(reason: Reason, message: impl Into<String>, next: impl Into<String>) -> Self {
        let failure = Failure::new(reason, CLI, message).next_step(next);
        Failure { retryable: false, retry_after_seconds: None, ..failure }.into()
    }

    /// A file that is named by the operator and cannot be read.
    pub(crate) fn unreadable(what: &str, file: &Path, error: &io::Error) -> Self {
        let reason = if error.kind() == ErrorKind::NotFound { Reason::NotFound } else { Reason::RequestInvalid };
        let message = format!("{what} {} cannot be read: {error}", file.display());
        Self::because(reason, message, "name a file that is there and that this user may read")
    }

    /// Arguments, or what stands for them, that do not fit.
    pub(crate) fn usage(message: impl Into<String>, next: impl Into<String>) -> Self {
        Self::Usage(Box::new(Failure::new(Reason::RequestInvalid, CLI, message).next_step(next)))
    }

    /// From a status that `peer` answered with.
    pub(crate) fn status(status: &Status, peer: &str) -> Self {
        let trace = service_kit::trace_from_status(status);
        Self::Call(Box::new((service_kit::failure_from_status(status, peer), trace)))
    }

    /// What went wrong; `None` where it has been printed.
    pub(crate) fn failure(&self) -> Option<Failure> {
        match self {
            Self::Call(failed) => Some(failed.0.clone()),
            Self::Usage(failure) | Self::Configuration(failure) => Some((**failure).clone()),
            Self::Interrupted(state) => {
                let failure = Failure::new(Reason::Cancelled, CLI, format!("interrupted; {state}"));
                Some(failure.next_step("see how it stands, and run it again if it is still wanted"))
            }
            Self::Printed(_) => None,
        }
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::Call(_) => 1,
            Self::Usage(_) => 2,
            Self::Configuration(_) => EXIT_CONFIGURATION,
            Self::Interrupted(_) => INTERRUPTED,
            Self::Printed(code) => *code,
        }
    }

    /// Prints what went wrong and gives the exit code. With `json` a failure goes to standard output, that of
    /// a call with its execution trace.
    pub(crate) fn report(self, json: bool) -> ExitCode {
        let trace = match &self {
            Self::Call(failed) => failed.1.as_ref(),
            _ => None,
        };
        match (&self, self.failure()) {
            (_, Some(failure)) if json => print_json(&match trace {
                Some(_) => failure_json(&failure, trace),
                None => error_json(&failure),
            }),
            // It did what it was told to: no error.
            (Self::Interrupted(state), _) => eprint_line(&format!("interrupted; {state}")),
            (_, Some(failure)) => print_failure(&failure),
            (_, None) => {}
        }
        if let Some(trace) = trace.filter(|_| !json) {
            eprint_line(&format!("hops: switchboard calls show {}", trace.call_id));
        }
        ExitCode::from(self.exit_code())
    }
}

/// What clap says of arguments that do not fit, in the one shape.
pub(crate) fn unfit_arguments(error: &clap::Error) -> Failed {
    let text = error.render().to_string();
    let what: Vec<&str> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    Failed::usage(what.join(" ").trim_start_matches("error: "), "see the command's --help")
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
        lines.push(format!("retry after: {:.0} s", seconds.ceil()));
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
    print_line(&json::pretty(value));
}

/// Prints JSON on one line: what comes line by line while a command goes on.
pub(crate) fn print_json_line(value: &Value) {
    print_line(&json::line(value));
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
pub(crate) fn widths(header: &[&str], rows: &[Vec<String>], shorter: &[&str]) -> Vec<usize> {
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
    fn every_failure_has_its_reason_place_and_next_step() {
        let start = |error: StartError| Failed::from(error);
        let all = [
            (start(StartError::Failed("the port is in use".into())), 1),
            (start(StartError::Configuration("[auth] no".into())), 78),
            (start(StartError::Unfit(Box::new(Failure::new(Reason::StoreUnavailable, "auth-svc", "another key")))), 78),
            (Failed::from(io::Error::other("cut off")), 1),
            (Failed::unreadable("backup", Path::new("/nope"), &ErrorKind::NotFound.into()), 1),
            (Failed::usage("it must be more than 0", "give more"), 2),
            (Failed::Interrupted("nothing was done"), 130),
        ];
        for (failed, code) in all {
            let shown = error_json(&failed.failure().expect("a failure"));
            assert_eq!(shown["status"], "error");
            for field in ["reason", "message", "service", "nextStep"] {
                assert!(shown["error"][field].as_str().is_some_and(|text| text.len() > 3), "{field}: {shown}");
            }
            assert!(shown["error"]["retryable"].is_boolean(), "{shown}");
            assert_eq!(failed.exit_code(), code, "{shown}");
        }
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
