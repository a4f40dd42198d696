//! Codex CLI, with the configuration that README gives, through `POST /v1/responses`.

use codex_sim::{RecordedRequest, Scenario};
use e2e::{Collector, Home, Output, Span, Topology};
use serde_json::Value;

use crate::{ACCOUNT, Place, outcome, tools};

/// The release that `.ci/tools` installs.
const VERSION: &str = "0.169.0";

/// The configuration as README prints it, for this base URL.
fn configuration(base_url: &str) -> String {
    let readme = include_str!("../../../README.md");
    let block = readme.split("```toml\n").find(|block| block.contains("[model_providers.switchboard]"));
    let block = block.and_then(|block| block.split("```").next()).expect("README shows Codex CLI's configuration");
    assert!(block.contains("127.0.0.1:7411"), "{block}");
    block.replace("http://127.0.0.1:7411/v1", base_url)
}

/// Runs `codex exec PROMPT` to its end with README's configuration; `settings` go over it.
pub(crate) async fn run(home: &Home, base_url: &str, key: &str, prompt: &str, settings: &[String]) -> Output {
    home.write("codex/config.toml", &configuration(base_url));
    let mut command = tools::command(home, &tools::program("codex"));
    command.env("CODEX_HOME", home.path("codex")).env("SWITCHBOARD_KEY", key);
    // The tool that the simulator asks for is an `echo`; there is nothing to guard, and nobody to ask.
    command.args(["exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"]);
    for setting in settings {
        command.args(["-c", setting]);
    }
    command.arg(prompt);
    Output::of(command, "").await
}

impl Place {
    /// Runs `codex exec PROMPT` to its end, with more settings if need be.
    async fn codex(&self, prompt: &str, settings: &[String]) -> Output {
        let base_url = format!("http://{}/v1", self.switchboard.address());
        run(&self.home, &base_url, &self.switchboard.key(), prompt, settings).await
    }

    /// What the upstream saw of a run must be Codex's own, but for the account, which is the credential's.
    fn is_codex_own(&self, request: &RecordedRequest) {
        let header = |name: &str| request.header(name).unwrap_or_default().to_owned();
        assert_eq!(header("originator"), "codex_exec");
        assert!(header("user-agent").starts_with(&format!("codex_exec/{VERSION} ")), "{}", header("user-agent"));
        for name in ["session-id", "thread-id", "x-client-request-id", "x-codex-window-id", "x-codex-turn-metadata"] {
            assert!(!header(name).is_empty(), "{name} is lost: {:?}", request.headers);
        }
        assert_eq!(header("chatgpt-account-id"), ACCOUNT);
        assert_eq!(request.credential.as_deref(), Some(ACCOUNT));
        assert_eq!((request.http_version.as_str(), request.status), ("HTTP/2", Some(200)));
        let body = body(request);
        assert_eq!((&body["model"], &body["store"], &body["stream"]), (&"gpt-5.5".into(), &false.into(), &true.into()));
        let sent = format!("{:?}{body}", request.headers);
        assert!(!sent.contains(&self.switchboard.key()), "the agent's key went upstream");
    }
}

fn body(request: &RecordedRequest) -> Value {
    request.body.clone().expect("the body is kept")
}

/// Items of a type in a request's input.
fn items<'a>(body: &'a Value, kind: &str) -> Vec<&'a Value> {
    let input = body["input"].as_array().expect("input items");
    input.iter().filter(|item| item["type"] == kind).collect()
}

#[tokio::test]
#[ignore = "needs Codex CLI: .ci/tools installs it"]
async fn the_installed_codex_is_the_one_that_was_tried() {
    let home = e2e::Home::bare();
    let mut command = tools::command(&home, &tools::program("codex"));
    command.arg("--version");
    let version = Output::of(command, "").await.ok().stdout;
    if version.trim() != format!("codex-cli {VERSION}") {
        tools::missing(&format!("Codex CLI {VERSION} (this is {})", version.trim()));
    }
}

async fn a_question_is_answered(topology: Topology) {
    let place = Place::start(topology).await;
    let output = place.codex("Reply exactly: switchboard says hello", &[]).await.ok();
    assert_eq!(output.stdout.trim(), "switchboard says hello", "{output}");
    let requests = place.upstream();
    assert_eq!(requests.len(), 1, "{requests:#?}");
    place.is_codex_own(&requests[0]);
    assert_eq!(place.outcomes().await, [outcome("http", "ok", "")]);
    // The client asks for nothing else, and nothing else is asked upstream on its behalf but the account's routing.
    let all = place.sim.state().requests();
    let other: Vec<_> = all.iter().map(|request| request.path.as_str()).filter(|path| path.contains("codex")).collect();
    assert_eq!(other, [crate::RESPONSES]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Codex CLI: .ci/tools installs it"]
async fn a_question_is_answered_by_one_process() {
    a_question_is_answered(Topology::OneProcess).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Codex CLI: .ci/tools installs it"]
async fn a_question_is_answered_by_four_processes() {
    a_question_is_answered(Topology::FourProcesses).await;
}

async fn a_tool_call_goes_round(topology: Topology) {
    let place = Place::start(topology).await;
    let output = place.codex("Use your tool once. [[sim:tool]]", &[]).await.ok();
    assert!(output.stdout.contains("The tool answered:"), "{output}");
    assert!(output.stdout.contains("hello-from-tool"), "{output}");

    let requests = place.upstream();
    assert_eq!(requests.len(), 2, "{requests:#?}");
    requests.iter().for_each(|request| place.is_codex_own(request));
    let [first, second] = [body(&requests[0]), body(&requests[1])];
    assert!(items(&first, "function_call").is_empty() && items(&first, "function_call_output").is_empty());
    let (calls, outputs) = (items(&second, "function_call"), items(&second, "function_call_output"));
    assert_eq!((calls.len(), outputs.len()), (1, 1), "{second:#}");
    assert_eq!((&calls[0]["name"], &calls[0]["call_id"]), (&"exec_command".into(), &outputs[0]["call_id"]));
    assert!(outputs[0]["output"].to_string().contains("hello-from-tool"), "{second:#}");

    // One session, and the upstream's sticky token came down with the first answer and went up with the second request.
    let both = |name: &str| (requests[0].header(name).map(str::to_owned), requests[1].header(name).map(str::to_owned));
    for name in ["session-id", "thread-id", "x-codex-window-id"] {
        let (before, after) = both(name);
        assert_eq!(before, after, "{name}");
    }
    let (before, after) = both("x-codex-turn-state");
    assert_eq!(before, None);
    assert!(after.as_deref().is_some_and(|state| state.starts_with("ts_")), "{after:?}");
    assert_eq!(place.outcomes().await, [outcome("http", "ok", ""), outcome("http", "ok", "")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Codex CLI: .ci/tools installs it"]
async fn a_tool_call_goes_round_through_one_process() {
    a_tool_call_goes_round(Topology::OneProcess).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Codex CLI: .ci/tools installs it"]
async fn a_tool_call_goes_round_through_four_processes() {
    a_tool_call_goes_round(Topology::FourProcesses).await;
}

/// A limit is final for Codex: it must neither ask again nor lose the text that says when the limit ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Codex CLI: .ci/tools installs it"]
async fn a_usage_limit_ends_the_run_at_once() {
    let place = Place::start(Topology::OneProcess).await;
    place.sim.state().set_scenario(ACCOUNT, Some(Scenario::UsageLimit { resets_in: 7200 }));
    let output = place.codex("Say hello", &[]).await.exits(1);
    assert!(output.text().to_lowercase().contains("usage limit"), "{output}");
    assert_eq!(place.outcomes().await, [outcome("http", "error", "USAGE_LIMIT")], "{output}");
    assert_eq!(place.upstream().len(), 1, "{output}");
}

/// Codex retries a 403 five times over; as a 400 a challenge is asked for once, and it is not called a login problem.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Codex CLI: .ci/tools installs it"]
async fn a_challenge_is_not_hammered_and_not_called_a_login_problem() {
    let place = Place::start(Topology::OneProcess).await;
    place.sim.state().set_scenario(ACCOUNT, Some(Scenario::Challenge));
    let output = place.codex("Say hello", &[]).await.exits(1);
    assert_eq!(place.outcomes().await, [outcome("http", "error", "EDGE_CHALLENGE")], "{output}");
    assert_eq!(place.upstream().len(), 1, "{output}");
    assert!(output.text().contains("EDGE_CHALLENGE"), "{output}");
    let said = output.text().to_lowercase();
    for wrong in ["log in", "login", "sign in", "re-authenticate", "<html", "just a moment"] {
        assert!(!said.contains(wrong), "it says {wrong:?}: {output}");
    }
    // The credential is as good as before.
    place.sim.state().set_scenario(ACCOUNT, None);
    let output = place.codex("Reply exactly: OK", &[]).await.ok();
    assert_eq!(output.stdout.trim(), "OK", "{output}");
}

/// A policy's refusal comes in the stream, and is final too: Codex must see the upstream's own text.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Codex CLI: .ci/tools installs it"]
async fn a_refusal_in_the_stream_ends_the_run_with_its_text() {
    let place = Place::start(Topology::OneProcess).await;
    place.sim.state().set_scenario(ACCOUNT, Some(Scenario::Policy { code: "cyber_policy".to_owned() }));
    let output = place.codex("Say hello", &[]).await.exits(1);
    assert_eq!(place.outcomes().await, [outcome("http", "error", "POLICY_REFUSED")], "{output}");
    assert_eq!(place.upstream().len(), 1, "{output}");
    assert!(output.text().to_lowercase().contains("cybersecurity risk"), "{output}");
}

/// With its own tracing on, Codex sends a `traceparent`: its spans and the services' are one trace.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Codex CLI: .ci/tools installs it"]
async fn a_trace_that_codex_begins_goes_on_through_the_services() {
    let collector = Collector::start().await;
    let export = |home: &Home| {
        home.export_to(&collector);
    };
    let place = Place::start_with(Topology::FourProcesses, export).await;
    let exporter = format!("otel.trace_exporter={{otlp-grpc={{endpoint=\"{}\"}}}}", collector.endpoint());
    let output = place.codex("Reply exactly: OK", &[exporter]).await.ok();
    assert_eq!(output.stdout.trim(), "OK", "{output}");
    let calls = place.calls().await;
    assert_eq!(calls.len(), 1, "{output}");
    let trace = calls[0].execution_trace.clone().expect("a trace");
    let ours = ["gateway", "router-svc", "auth-svc", "transport-svc"];
    let is_codex = |span: &&Span| !ours.contains(&span.process.as_str());
    // Processes export on their own time: the gateway's first span, and Codex's above it, may come last.
    let joined = |spans: &[Span]| {
        let parents = spans.iter().filter(is_codex);
        let above = |span: &Span| parents.clone().any(|parent| parent.span_id == span.parent_id);
        spans.iter().any(|span| span.process == "gateway" && above(span))
    };
    let whole = |spans: &[Span]| {
        let from = |process: &&str| spans.iter().any(|span| span.process == *process);
        ours.iter().all(from) && joined(spans)
    };
    collector.wait_for(&trace.trace_id, whole).await;
}
