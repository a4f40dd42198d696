//! `buf curl`, which knows the services by reflection alone.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use e2e::{Home, Output, Topology};
use serde_json::Value;

use crate::{Place, outcome, tools};

const SERVICE: &str = "switchboard.gateway.v1.GatewayService";
/// Older clients ask the second one.
const REFLECTIONS: [&str; 2] = ["grpc-v1", "grpc-v1alpha"];

impl Place {
    /// Runs `buf curl` with `key`, asking `reflection` for the schema; `path` is relative to the gateway's port.
    async fn buf_curl(&self, reflection: &str, key: &str, path: &str, options: &[&str]) -> Output {
        let mut command = tools::command(&self.home, &tools::program("buf"));
        let header = format!("authorization: Bearer {key}");
        command.args(["curl", "--protocol", "grpc", "--http2-prior-knowledge", "--reflect-protocol", reflection]);
        command.args(["--header", &header, "--reflect-header", &header]).args(options);
        command.arg(format!("http://{}{path}", self.switchboard.address()));
        Output::of(command, "").await
    }

    async fn method(&self, reflection: &str, key: &str, method: &str, data: &str) -> Output {
        self.buf_curl(reflection, key, &format!("/{SERVICE}/{method}"), &["--data", data]).await
    }
}

/// The JSON documents of a stream, one after the other.
fn documents(text: &str) -> Vec<Value> {
    let parsed: Result<_, _> = serde_json::Deserializer::from_str(text).into_iter().collect();
    parsed.unwrap_or_else(|error| panic!("no JSON: {error}: {text}"))
}

#[tokio::test]
#[ignore = "needs buf: .ci/tools installs it"]
async fn the_installed_buf_runs() {
    let home = Home::bare();
    let mut command = tools::command(&home, &tools::program("buf"));
    command.arg("--version");
    let _ = Output::of(command, "").await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs buf: .ci/tools installs it"]
async fn services_and_methods_are_found_by_reflection() {
    let place = Place::start(Topology::OneProcess).await;
    let key = place.switchboard.key();
    for reflection in REFLECTIONS {
        let services = place.buf_curl(reflection, &key, "", &["--list-services"]).await.ok();
        let mut found: Vec<_> = services.stdout.lines().collect();
        found.sort_unstable();
        assert!(found.contains(&SERVICE) && found.contains(&"grpc.health.v1.Health"), "{services}");
        let operators = found.iter().filter(|name| name.starts_with("switchboard.") && **name != SERVICE);
        assert_eq!(operators.count(), 0, "operators' services on the agents' port: {services}");
        let methods = place.buf_curl(reflection, &key, "", &["--list-methods"]).await.ok();
        for method in ["Respond", "Complete", "ListModels", "GetStatus", "ListCalls", "GetCall"] {
            assert!(methods.stdout.lines().any(|line| line == format!("{SERVICE}/{method}")), "{method}: {methods}");
        }
    }
}

async fn calls_are_answered(topology: Topology) {
    let place = Place::start(topology).await;
    let key = place.switchboard.key();
    for reflection in REFLECTIONS {
        let data = r#"{"model":"codex/gpt-5.5","message":"Reply exactly: OK"}"#;
        let answer = place.method(reflection, &key, "Complete", data).await.ok().json();
        assert_eq!((&answer["status"], &answer["result"]["payloads"][0]["text"]), (&"ok".into(), &"OK".into()));
        let trace = &answer["result"]["meta"]["executionTrace"];
        assert_eq!((&trace["winnerProvider"], &trace["winnerModel"]), (&"openai-codex".into(), &"gpt-5.5".into()));
        assert_eq!(trace["attempts"][0]["status"], 200, "{answer:#}");

        let data = r#"{"model":"codex/gpt-5.5","message":"Reply exactly: one two three four","include_raw":true}"#;
        let stream = documents(&place.method(reflection, &key, "Respond", data).await.ok().stdout);
        assert!(stream[0].get("started").is_some(), "{:#}", stream[0]);
        let text: String = stream.iter().filter_map(|event| event["textDelta"].as_str()).collect();
        assert_eq!(text, "one two three four");
        let raw = stream.iter().filter_map(|event| event["rawJson"].as_str()).next_back().expect("raw events");
        assert_eq!(documents(raw)[0]["type"], "response.completed");
        let last = &stream[stream.len() - 1]["completed"];
        assert_eq!(last["payloads"][0]["text"], "one two three four", "{last:#}");
    }
    assert_eq!(place.outcomes().await, vec![outcome("grpc", "ok", ""); 4]);
    assert_eq!(place.upstream().len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs buf: .ci/tools installs it"]
async fn calls_are_answered_by_one_process() {
    calls_are_answered(Topology::OneProcess).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs buf: .ci/tools installs it"]
async fn calls_are_answered_by_four_processes() {
    calls_are_answered(Topology::FourProcesses).await;
}

/// `buf curl` exits with the gRPC code times eight, and prints the status with its details as JSON.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs buf: .ci/tools installs it"]
async fn errors_come_with_details() {
    let place = Place::start(Topology::OneProcess).await;
    let key = place.switchboard.key();
    for reflection in REFLECTIONS {
        let data = r#"{"model":"codex/gpt-5.5","message":"hi"}"#;
        let refused = place.method(reflection, "sbk_wrong", "Complete", data).await.exits(16 * 8);
        assert_eq!(status(&refused)["code"], "unauthenticated");
        assert!(detail(&refused, "google.rpc.ErrorInfo").contains("AGENT_KEY_INVALID"), "{refused}");
        assert!(!refused.stderr.contains("sbk_wrong"), "{refused}");

        let data = r#"{"model":"codx/gpt-5.5","message":"hi"}"#;
        let unknown = place.method(reflection, &key, "Complete", data).await.exits(5 * 8);
        let status = status(&unknown);
        assert_eq!(status["code"], "not_found");
        assert!(status["message"].as_str().is_some_and(|text| text.contains("codx")), "{unknown}");
        assert!(detail(&unknown, "google.rpc.ErrorInfo").contains("ROUTE_UNKNOWN"), "{unknown}");
        assert!(detail(&unknown, "google.rpc.Help").contains("docs/reasons/ROUTE_UNKNOWN.md"), "{unknown}");
        let failure = detail(&unknown, "switchboard.common.v1.Failure");
        assert!(failure.contains("ROUTE_UNKNOWN") && failure.contains("router-svc"), "{failure}");
        assert!(detail(&unknown, "switchboard.common.v1.ExecutionTrace").contains("resolve"), "{unknown}");
    }
    assert_eq!(place.upstream().len(), 0);
}

fn status(output: &Output) -> Value {
    serde_json::from_str(&output.stderr).unwrap_or_else(|error| panic!("no status: {error}: {output}"))
}

/// The bytes of a detail, of which the readable parts are looked at: strings stand in a message as they are.
fn detail(output: &Output, kind: &str) -> String {
    let status = status(output);
    let details = status["details"].as_array().cloned().unwrap_or_default();
    let found = details.iter().find(|detail| detail["type"] == kind).unwrap_or_else(|| panic!("no {kind}: {output}"));
    let bytes = STANDARD_NO_PAD.decode(found["value"].as_str().unwrap_or_default()).expect("base64");
    String::from_utf8_lossy(&bytes).into_owned()
}
