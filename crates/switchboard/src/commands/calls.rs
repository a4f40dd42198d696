//! `calls list` and `calls show`: recent calls, as the gateway keeps them in memory.

use domain::service::GATEWAY;
use proto::gateway::v1::gateway_service_client::GatewayServiceClient;
use proto::gateway::v1::{CallRecord, GetCallRequest, ListCallsRequest};
use serde_json::{Value, json};
use service_kit::{failure_from_proto, trace_from_proto, usage_from_proto};

use crate::args::{CallsAction, CallsArgs, Cli};
use crate::control::require;
use crate::output::{Failed, failure_lines, print_json, print_line, print_table, print_trace, when};

pub(crate) async fn run(cli: &Cli, args: &CallsArgs) -> Result<(), Failed> {
    let mut client = GatewayServiceClient::new(require(cli, GATEWAY).await?);
    match &args.action {
        CallsAction::List { failed, limit } => {
            let request = ListCallsRequest { limit: i32::from(*limit), failed: *failed };
            let calls = client.list_calls(request).await.map_err(|s| Failed::status(&s, GATEWAY))?.into_inner().calls;
            if cli.json {
                print_json(&json!({ "calls": calls.iter().map(as_json).collect::<Vec<_>>() }));
            } else {
                let now = domain::Clock::system().now_s();
                let rows: Vec<_> = calls.iter().map(|c| row(c, now)).collect();
                print_table(&["CALL", "STARTED", "AGENT", "FACE", "MODEL", "CREDENTIAL", "MS", "RESULT"], &rows);
            }
        }
        CallsAction::Show { id } => {
            let request = GetCallRequest { call_id: id.clone() };
            let call = client.get_call(request).await.map_err(|s| Failed::status(&s, GATEWAY))?.into_inner().call;
            let call = call.unwrap_or_default();
            if cli.json {
                print_json(&as_json(&call));
            } else {
                show(&call);
            }
        }
    }
    Ok(())
}

fn row(call: &CallRecord, now: i64) -> Vec<String> {
    let trace = call.execution_trace.clone().unwrap_or_default();
    let last = trace.attempts.last().cloned().unwrap_or_default();
    // A caller that names no model gets its agent's: what was resolved says more than nothing.
    let model = match (trace.requested_model, last.model.as_str()) {
        (asked, _) if !asked.is_empty() => asked,
        (_, "") => "-".to_owned(),
        (_, model) => format!("{}/{model}", last.provider),
    };
    vec![
        call.call_id.clone(),
        when(call.started_at, now),
        call.agent.clone(),
        call.face.clone(),
        model,
        if last.credential.is_empty() { "-".to_owned() } else { last.credential },
        format!("{:.1}", call.elapsed_ms),
        call.error.as_ref().map_or_else(|| call.status.clone(), |e| e.reason.clone()),
    ]
}

fn show(call: &CallRecord) {
    let now = domain::Clock::system().now_s();
    print_line(&format!("{}  agent {}  {}  {}", call.status, call.agent, call.face, when(call.started_at, now)));
    if let Some(trace) = &call.execution_trace {
        print_trace(&trace_from_proto(trace));
    }
    if let Some(failure) = &call.error {
        // It is what was asked for, so it goes where the rest goes.
        for line in failure_lines(&failure_from_proto(failure)) {
            print_line(&line);
        }
    }
}

fn as_json(call: &CallRecord) -> Value {
    json!({ "callId": call.call_id, "agent": call.agent, "status": call.status, "startedAt": call.started_at,
        "elapsedMs": call.elapsed_ms, "face": call.face, "error": call.error.as_ref().map(failure_from_proto),
        "executionTrace": call.execution_trace.as_ref().map(trace_from_proto),
        "usage": call.usage.as_ref().map(usage_from_proto) })
}
