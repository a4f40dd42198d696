//! `call`: one agent call through the running gateway.

use std::io::Read;
use std::time::Duration;

use domain::Reason;
use domain::service::GATEWAY;
use proto::gateway::v1::gateway_service_client::GatewayServiceClient;
use proto::gateway::v1::{CompleteRequest, CompleteResponse};
use serde_json::{Value, json};
use service_kit::{trace_from_proto, usage_from_proto};

use crate::args::{CallArgs, Cli, Thinking};
use crate::control::require;
use crate::output::{Failed, failure_json, print_json, print_line, print_trace};

pub(crate) async fn run(cli: &Cli, args: &CallArgs) -> Result<(), Failed> {
    match call(cli, args).await {
        // In the shape of an answer, also where nothing was called.
        Err(Failed::Call(failed)) if cli.json => {
            print_json(&failure_json(&failed.0, failed.1.as_ref()));
            Err(Failed::Printed(1))
        }
        done => done,
    }
}

async fn call(cli: &Cli, args: &CallArgs) -> Result<(), Failed> {
    let message = message(args)?;
    let channel = require(cli, GATEWAY).await?;
    let mut client = GatewayServiceClient::new(channel).max_decoding_message_size(service_kit::MAX_MESSAGE_BYTES);
    let mut request = tonic::Request::new(CompleteRequest {
        model: args.model.clone().unwrap_or_default(),
        message,
        session: args.session.clone().unwrap_or_default(),
        thinking: args.thinking.map(thinking).unwrap_or_default().to_owned(),
        agent: args.agent.clone().unwrap_or_default(),
        ..CompleteRequest::default()
    });
    request.set_timeout(Duration::from_secs(u64::from(args.timeout)));
    match client.complete(request).await {
        Ok(answer) => {
            let answer = answer.into_inner();
            if cli.json {
                print_json(&as_json(&answer))
            } else {
                print(&answer, args.trace)
            }
            Ok(())
        }
        Err(status) => {
            let failed = Failed::status(&status, GATEWAY);
            if let (true, false, Failed::Call(call)) = (args.trace, cli.json, &failed)
                && let Some(trace) = &call.1
            {
                print_trace(trace);
            }
            Err(failed)
        }
    }
}

fn message(args: &CallArgs) -> Result<String, Failed> {
    let mut text = args.message.clone();
    if text == "-" {
        text.clear();
        std::io::stdin().read_to_string(&mut text).map_err(|e| {
            let message = format!("standard input cannot be read as text: {e}");
            Failed::because(Reason::RequestInvalid, message, "hand over UTF-8 text")
        })?;
    }
    if text.trim().is_empty() {
        return Err(Failed::usage("the message is empty", "say something with --message"));
    }
    Ok(text)
}

fn thinking(level: Thinking) -> &'static str {
    match level {
        Thinking::Minimal => "minimal",
        Thinking::Low => "low",
        Thinking::Medium => "medium",
        Thinking::High => "high",
        Thinking::Xhigh => "xhigh",
    }
}

/// The answer in the contract's shape.
pub(crate) fn as_json(answer: &CompleteResponse) -> Value {
    let result = answer.result.clone().unwrap_or_default();
    let meta = result.meta.unwrap_or_default();
    let tool_calls: Vec<_> = result
        .tool_calls
        .iter()
        .map(|t| json!({ "callId": t.call_id, "name": t.name, "arguments": t.arguments }))
        .collect();
    let mut value = json!({
        "status": answer.status,
        "result": {
            "payloads": result.payloads.iter().map(|p| json!({ "text": p.text })).collect::<Vec<_>>(),
            "meta": {
                "executionTrace": meta.execution_trace.as_ref().map(trace_from_proto),
                "usage": meta.usage.as_ref().map(usage_from_proto),
                "responseId": meta.response_id,
                "dropped": meta.dropped,
            }
        }
    });
    if !tool_calls.is_empty()
        && let Some(result) = value.get_mut("result")
    {
        result["toolCalls"] = Value::Array(tool_calls);
    }
    value
}

fn print(answer: &CompleteResponse, trace: bool) {
    let Some(result) = &answer.result else { return };
    for payload in &result.payloads {
        print_line(&payload.text);
    }
    for tool in &result.tool_calls {
        print_line(&format!("tool call {} {}({})", tool.call_id, tool.name, tool.arguments));
    }
    if trace && let Some(trace) = result.meta.as_ref().and_then(|m| m.execution_trace.as_ref()) {
        print_trace(&trace_from_proto(trace));
    }
}
