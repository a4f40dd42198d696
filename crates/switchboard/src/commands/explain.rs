//! `explain REASON`: what a reason means and what to do. Needs no server.

use domain::Reason;
use serde_json::{Value, json};

use crate::args::{Cli, ExplainArgs};
use crate::output::{Failed, print_json, print_line, print_table};

pub(crate) fn run(cli: &Cli, args: &ExplainArgs) -> Result<(), Failed> {
    let Some(name) = &args.reason else {
        if cli.json {
            print_json(&Value::Array(Reason::ALL.iter().map(|r| as_json(*r)).collect()));
        } else {
            let rows: Vec<_> = Reason::ALL.iter().map(|r| vec![r.to_string(), r.row().when.to_owned()]).collect();
            print_table(&["REASON", "WHEN"], &rows);
        }
        return Ok(());
    };
    let reason: Reason = name
        .trim()
        .to_ascii_uppercase()
        .parse()
        .map_err(|_| Failed::Usage(format!("no reason {name:?}; `switchboard explain` lists them all")))?;
    if cli.json {
        print_json(&as_json(reason));
        return Ok(());
    }
    let row = reason.row();
    print_line(&format!("{reason}: {}", row.when));
    print_line(&format!("next: {}", row.next_step));
    print_line(&format!(
        "agents see: HTTP {} with error code {}; gRPC status {:?}",
        row.http, row.error_code, row.grpc
    ));
    print_line(if row.retryable {
        "retry: the same call can succeed later by itself"
    } else {
        "retry: useless until something is changed"
    });
    Ok(())
}

fn as_json(reason: Reason) -> Value {
    let row = reason.row();
    json!({ "reason": reason, "when": row.when, "nextStep": row.next_step, "httpStatus": row.http,
        "errorCode": row.error_code, "grpcStatus": format!("{:?}", row.grpc), "retryable": row.retryable })
}
