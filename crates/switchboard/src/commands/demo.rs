//! `demo`: the whole path once, in one process and against the simulator, in a data directory that goes afterwards.
//! It logs in by device code and then calls the way agents do: over gRPC and over HTTP, on a real port.

use std::time::{Duration, Instant};

use codex_sim::Sim;
use config::LoadOptions;
use domain::service::{AUTH, GATEWAY};
use domain::{ExecutionTrace, Reason};
use proto::gateway::v1::gateway_service_client::GatewayServiceClient;
use proto::gateway::v1::{CompleteRequest, GetCallRequest};
use serde_json::{Value, json};
use service_kit::startup::{StartError, loader};
use service_kit::{Bound, DataDir, ListenAddress, PeerChannel, ServeOptions, serve, trace_from_proto};
use tokio_util::sync::CancellationToken;

use crate::all_in_one::AllInOne;
use crate::args::{Cli, DemoArgs};
use crate::commands::login::login;
use crate::output::{Failed, print_json, print_line, print_trace};
use crate::scratch::Scratch;
use crate::simulated;

const QUESTION: &str = "Reply exactly: OK";

pub(crate) async fn run(cli: &Cli, _args: &DemoArgs) -> Result<(), Failed> {
    let began = Instant::now();
    let scratch = Scratch::make("demo")?;
    let sim = simulated::start().await?;
    let simulator = sim.base_url();
    let telemetry = telemetry::init("switchboard", telemetry::LogFormat::Text, "warn").map_err(StartError::from)?;
    let result = demo(&scratch, &sim, cli.json).await;
    telemetry.shutdown(Duration::from_secs(2)).await;
    sim.stop().await;
    let calls = result?;
    if cli.json {
        let elapsed_ms = began.elapsed().as_secs_f64() * 1000.0;
        print_json(&json!({ "status": "ok", "simulator": simulator, "calls": calls, "elapsedMs": elapsed_ms }));
        return Ok(());
    }
    print_line("");
    print_line(&format!("done in {:.1} s; nothing was left behind", began.elapsed().as_secs_f64()));
    print_line("next: switchboard import openclaw (or import codex, or login codex), then switchboard up");
    Ok(())
}

async fn demo(scratch: &Scratch, sim: &Sim, json: bool) -> Result<Vec<Value>, Failed> {
    let dir = DataDir::open(scratch.path(), true).map_err(StartError::from)?;
    let options = LoadOptions {
        file: None,
        data_dir: dir.path().to_owned(),
        env: Vec::new(),
        overrides: simulated::overrides(sim),
    };
    let config = config::load(&options).map_err(StartError::from)?.config;
    let services = AllInOne::build(&config, &dir, loader(options), true).await?;

    // With --json there is one document at the end, and nothing else.
    let say = |line: String| {
        if !json {
            print_line(&line);
        }
    };
    say(format!("simulated upstream and identity provider at {}", sim.base_url()));
    let auth = PeerChannel::in_process(AUTH, services.control().router());
    let done = login(
        auth,
        None,
        None,
        |started| {
            say(format!("login by device code: open {} and enter {}", started.verification_url, started.user_code));
        },
        |_| (),
    )
    .await?;
    let email = done.email.unwrap_or_default();
    say(format!("logged in as {email}; credential {}", done.credential.unwrap_or_default()));

    let key = std::fs::read_to_string(dir.file("agent.key"))?;
    let loopback = ListenAddress::Tcp(([127, 0, 0, 1], 0).into());
    let agents = Bound::bind(&loopback).await.map_err(StartError::from)?;
    let address = agents.address().map(|a| a.to_string()).unwrap_or_default();
    let front = services.front().await?;
    let shutdown = CancellationToken::new();
    let options = ServeOptions { drain: Duration::from_secs(1), ..ServeOptions::default() };
    let serving = serve(front, agents, options, shutdown.clone());
    let calling = async {
        let called = calls(&services, &address, key.trim(), json).await;
        shutdown.cancel();
        called
    };
    let ((), called) = tokio::join!(serving, calling);
    services.finish().await;
    called
}

/// Makes the calls, shows each (but for `json`), and gives them.
async fn calls(services: &AllInOne, address: &str, key: &str, json: bool) -> Result<Vec<Value>, Failed> {
    let gateway = PeerChannel::in_process(GATEWAY, services.control().router());
    let mut client = GatewayServiceClient::new(gateway);
    let mut made = Vec::new();
    let mut show = |how: String, text: &str, trace: Option<ExecutionTrace>| {
        if !json {
            print_line("");
            print_line(&format!("{}. {how}", made.len() + 1));
            print_line(&format!("answer: {text}"));
            if let Some(trace) = &trace {
                print_trace(trace);
            }
        }
        made.push(json!({ "call": how, "answer": text, "executionTrace": trace }));
    };

    let request = CompleteRequest {
        model: "openai-codex/gpt-5.5".to_owned(),
        message: QUESTION.to_owned(),
        ..CompleteRequest::default()
    };
    let answer = client.complete(request).await.map_err(|s| Failed::status(&s, GATEWAY))?.into_inner();
    let result = answer.result.unwrap_or_default();
    let text: String = result.payloads.iter().map(|payload| payload.text.as_str()).collect();
    let trace = result.meta.and_then(|m| m.execution_trace).as_ref().map(trace_from_proto);
    let how = format!("gRPC: gateway.v1.GatewayService/Complete, model openai-codex/gpt-5.5, \"{QUESTION}\"");
    show(how, &text, trace);

    let (call_id, text) = post(address, key).await?;
    let call = client.get_call(GetCallRequest { call_id }).await.map_err(|s| Failed::status(&s, GATEWAY))?;
    let trace = call.into_inner().call.and_then(|c| c.execution_trace).as_ref().map(trace_from_proto);
    show(format!("HTTP: POST http://{address}/v1/responses, model codex/gpt-5.5, streamed"), &text, trace);
    Ok(made)
}

/// One streamed HTTP call. Gives the call's id and the text of the events.
async fn post(address: &str, key: &str) -> Result<(String, String), Failed> {
    let failed = |e: &dyn std::fmt::Display| {
        let next = "see what the demo has printed before it; `switchboard doctor` looks at this host";
        Failed::because(Reason::Internal, format!("POST /v1/responses: {e}"), next)
    };
    let body = serde_json::json!({ "model": "codex/gpt-5.5", "input": QUESTION, "stream": true });
    let response = reqwest::Client::builder()
        .no_proxy()
        .build()
        .map_err(|e| failed(&e))?
        .post(format!("http://{address}/v1/responses"))
        .bearer_auth(key)
        .json(&body)
        .send()
        .await
        .map_err(|e| failed(&e))?;
    let status = response.status();
    let call_id =
        response.headers().get("x-switchboard-call-id").and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let bytes = response.bytes().await.map_err(|e| failed(&e))?;
    if !status.is_success() {
        return Err(failed(&format!("HTTP {status}: {}", String::from_utf8_lossy(&bytes))));
    }
    let mut splitter = domain::sse::Splitter::default();
    let events = splitter.push(bytes).map(|piece| piece.events).unwrap_or_default();
    let text = events
        .iter()
        .filter(|e| e.kind() == "response.output_text.delta")
        .filter_map(|e| serde_json::from_slice::<serde_json::Value>(&e.data).ok())
        .filter_map(|v| v.get("delta").and_then(|d| d.as_str().map(str::to_owned)))
        .collect();
    Ok((call_id, text))
}
