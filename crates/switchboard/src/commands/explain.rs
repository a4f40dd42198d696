//! `explain REASON`: what happened, how to confirm it, what to do. Needs no server: the pages of `docs/reasons/` are part
//! of the program.

use std::collections::BTreeMap;

use domain::Reason;
use serde_json::{Value, json};

use crate::args::{Cli, ExplainArgs};
use crate::output::{Failed, print_json, print_line, print_table, print_text};

/// Most names that are suggested for one that is not known.
const MOST_NEAREST: usize = 3;

pub(crate) fn run(cli: &Cli, args: &ExplainArgs) -> Result<(), Failed> {
    let Some(name) = &args.reason else {
        list(cli.json);
        return Ok(());
    };
    let name = name.trim().to_ascii_uppercase().replace('-', "_");
    let reason: Reason = name.parse().map_err(|_| unknown(&name))?;
    if cli.json {
        let mut row = as_json(reason);
        row["page"] = readable(reason).into();
        print_json(&row);
    } else {
        print_text(&readable(reason));
    }
    Ok(())
}

fn list(json: bool) {
    if json {
        print_json(&Value::Array(Reason::ALL.iter().map(|r| as_json(*r)).collect()));
        return;
    }
    let row = |reason: &Reason| {
        let row = reason.row();
        vec![reason.to_string(), row.http.to_string(), format!("{:?}", row.grpc), row.when.to_owned()]
    };
    print_table(&["REASON", "HTTP", "GRPC", "WHEN"], &Reason::ALL.iter().map(row).collect::<Vec<_>>());
    print_line("more: switchboard explain REASON");
}

/// The page without the marks that are the generator's.
fn readable(reason: Reason) -> String {
    let lines = reason.page().lines().filter(|line| !line.starts_with("<!--"));
    let mut text: String = lines.map(|line| format!("{line}\n")).collect();
    while text.contains("\n\n\n") {
        text = text.replace("\n\n\n", "\n\n");
    }
    text
}

fn unknown(name: &str) -> Failed {
    // An error code of a client's error body names its reasons too.
    let by_code = Reason::ALL.iter().filter(|reason| reason.row().error_code.eq_ignore_ascii_case(name));
    let distance = |reason: &&Reason| (strsim::osa_distance(reason.as_str(), name), reason.as_str());
    let by_distance: BTreeMap<_, _> = Reason::ALL.iter().map(|reason| (distance(&reason), reason)).collect();
    let mut nearest: Vec<&str> = Vec::new();
    for reason in by_code.chain(by_distance.into_values()) {
        if nearest.len() < MOST_NEAREST && !nearest.contains(&reason.as_str()) {
            nearest.push(reason.as_str());
        }
    }
    let nearest = nearest.join(", ");
    let message = format!("no reason {name:?}; the nearest are {nearest}");
    Failed::usage(message, "name one of them; `switchboard explain` lists them all")
}

fn as_json(reason: Reason) -> Value {
    let row = reason.row();
    json!({ "reason": reason, "when": row.when, "nextStep": row.next_step, "httpStatus": row.http,
        "errorType": row.error_type, "errorCode": row.error_code, "grpcStatus": format!("{:?}", row.grpc),
        "retryable": row.retryable, "retryAfterSeconds": row.retry_after_seconds })
}
