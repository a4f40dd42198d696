//! What commands print: JSON, tables, traces; and how they fail.

use std::cmp::Ordering;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::sync::OnceLock;

use domain::service::CLI;
use domain::{ExecutionTrace, Failure};
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

    /// Prints what went wrong and gives the exit code. With `json` the failure of a call goes to standard output in
    /// the shape of a call's answer.
    pub(crate) fn report(self, json: bool) -> ExitCode {
        match self {
            Self::Start(error) => {
                if json {
                    print_json(&json!({ "status": "error", "error": { "message": error.to_string() } }));
                }
                service_kit::startup::finish(Err(error))
            }
            Self::Call(failed) => {
                let (failure, trace) = *failed;
                if json {
                    print_json(&failure_json(&failure, trace.as_ref()));
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

/// The answer of a failed call, in the contract's shape.
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
    let mut lines = vec![format!("error: {} ({}): {}", failure.reason, failure.service, failure.message)];
    // With one candidate the message has said it all.
    for candidate in failure.candidates.iter().filter(|_| failure.candidates.len() > 1) {
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
    print_line(&serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string()));
}

/// Prints a table whose columns are as wide as they must be; nothing but the header if there are no rows.
pub(crate) fn print_table(header: &[&str], rows: &[Vec<String>]) {
    let mut widths: Vec<usize> = header.iter().map(|h| h.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<w$}", w = *width)).collect();
        print_line(padded.join("  ").trim_end());
    };
    line(header.to_vec());
    for row in rows {
        line(row.iter().map(String::as_str).collect());
    }
}

/// A Unix time for people, with how far away it is.
pub(crate) fn when(unix_s: f64, now_s: i64) -> String {
    // Down, as clocks are read: what was within this second is now, not in the future.
    let seconds = unix_s.floor() as i64;
    let Ok(time) = jiff::Timestamp::from_second(seconds) else { return "unknown".to_owned() };
    let stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ");
    let away = span(seconds.abs_diff(now_s));
    match seconds.cmp(&now_s) {
        Ordering::Equal => format!("{stamp} (now)"),
        Ordering::Greater => format!("{stamp} (in {away})"),
        Ordering::Less => format!("{stamp} ({away} ago)"),
    }
}

fn span(seconds: u64) -> String {
    match seconds {
        s if s >= 172_800 => format!("{} d", s / 86_400),
        s if s >= 7200 => format!("{} h", s / 3600),
        s if s >= 120 => format!("{} min", s / 60),
        s => format!("{s} s"),
    }
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
