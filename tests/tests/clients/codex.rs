//! Codex CLI, with the configuration that README gives, through `POST /v1/responses`.

use codex_sim::{RecordedRequest, Scenario};
use e2e::{Collector, Home, Output, Span, eventually_async};
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

/// Runs `codex exec` with these arguments to its end with README's configuration; `settings` go over it.
pub(crate) async fn run(home: &Home, base_url: &str, key: &str, arguments: &[&str], settings: &[String]) -> Output {
    home.write("codex/config.toml", &configuration(base_url));
    let mut command = tools::command(home, &tools::program("codex"));
    command.env("CODEX_HOME", home.path("codex")).env("SWITCHBOARD_KEY", key);
    // The tool that the simulator asks for is an `echo`; there is nothing to guard, and nobody to ask.
    command.args(["exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"]);
    for setting in settings {
        command.args(["-c", setting]);
    }
    command.args(arguments);
    Output::of(command, "").await
}

impl Place {
    /// Runs `codex exec PROMPT` to its end, with more settings if need be.
    async fn codex(&self, prompt: &str, settings: &[String]) -> Output {
        self.codex_exec(&[prompt], settings).await
    }

    /// Runs `codex exec` with these arguments.
    async fn codex_exec(&self, arguments: &[&str], settings: &[String]) -> Output {
        let base_url = format!("http://{}/v1", self.switchboard.address());
        run(&self.home, &base_url, &self.switchboard.key(), arguments, settings).await
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

in_each_topology! {
    async fn a_question_is_answered(topology) {
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

    async fn a_tool_call_goes_round(topology) {
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

    /// A second run goes on where the first one ended: one session, with all that was said.
    async fn a_session_is_resumed(topology) {
        let place = Place::start(topology).await;
        let _ = place.codex("Reply exactly: the first answer", &[]).await.ok();
        let output = place.codex_exec(&["resume", "--last", "Reply exactly: the second answer"], &[]).await.ok();
        assert_eq!(output.stdout.trim(), "the second answer", "{output}");
        let requests = place.upstream();
        assert_eq!(requests.len(), 2, "{requests:#?}");
        requests.iter().for_each(|request| place.is_codex_own(request));
        assert_eq!(requests[0].header("session-id"), requests[1].header("session-id"));
        let [first, second] = [body(&requests[0]), body(&requests[1])];
        assert_eq!(first["prompt_cache_key"], second["prompt_cache_key"]);
        assert!(second["input"].to_string().contains("the first answer"), "{second:#}");
    }

    /// A conversation that has grown too long is made shorter on the way, and the answer comes all the same: by a summary
    /// that the model writes, or by the backend where the provider is called OpenAI.
    async fn a_conversation_is_compacted(topology) {
        for (provider, kept) in [("Switchboard", "Another language model"), ("OpenAI", "\"compaction\"")] {
            let place = Place::start(topology).await;
            let _ = place.codex("Reply exactly: the first answer", &[]).await.ok();
            let limit = "model_auto_compact_token_limit=10".to_owned();
            let settings = [limit, format!("model_providers.switchboard.name={provider:?}")];
            let output = place.codex_exec(&["resume", "--last", "Reply exactly: the second answer"], &settings).await.ok();
            assert_eq!(output.stdout.trim(), "the second answer", "{provider}: {output}");
            assert!(output.text().contains("context compacted"), "{provider}: {output}");
            let requests = place.upstream();
            assert_eq!(requests.len(), 3, "{provider}: a turn, the compaction, a turn");
            let last = body(&requests[2])["input"].to_string();
            assert!(last.contains(kept) && !last.contains("the first answer\",\"annotations"), "{provider}: {last}");
            assert_eq!(place.outcomes().await, vec![outcome("http", "ok", ""); 3]);
        }
    }

    /// What lasts for a moment costs Codex one more request, and its user nothing.
    async fn an_upstream_that_recovers_is_asked_again(topology) {
        let place = Place::start(topology).await;
        place.sim.state().set_scenario(ACCOUNT, Some(Scenario::ServerError));
        let recovers = async {
            eventually_async("a whole call has failed", async || !place.outcomes().await.is_empty()).await;
            place.sim.state().set_scenario(ACCOUNT, None);
        };
        let (output, ()) = tokio::join!(place.codex("Reply exactly: OK", &[]), recovers);
        assert_eq!(output.ok().stdout.trim(), "OK");
        let outcomes = place.outcomes().await;
        let (last, failed) = outcomes.split_last().expect("calls");
        assert_eq!(*last, outcome("http", "ok", ""), "{outcomes:?}");
        assert!(!failed.is_empty() && failed.iter().all(|(_, _, reason)| reason == "UPSTREAM_ERROR"), "{outcomes:?}");
    }

    /// A limit is final for Codex: it must neither ask again nor lose the text that says when the limit ends.
    async fn a_usage_limit_ends_the_run_at_once(topology) {
        let place = Place::start(topology).await;
        place.sim.state().set_scenario(ACCOUNT, Some(Scenario::UsageLimit { resets_in: 7200 }));
        let output = place.codex("Say hello", &[]).await.exits(1);
        assert!(output.text().to_lowercase().contains("usage limit"), "{output}");
        assert_eq!(place.outcomes().await, [outcome("http", "error", "USAGE_LIMIT")], "{output}");
        assert_eq!(place.upstream().len(), 1, "{output}");
    }

    /// Codex retries a 403 five times over; as a 400 a challenge is asked for once, and it is not called a login problem.
    async fn a_challenge_is_not_hammered_and_not_called_a_login_problem(topology) {
        let place = Place::start(topology).await;
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
    async fn a_refusal_in_the_stream_ends_the_run_with_its_text(topology) {
        let place = Place::start(topology).await;
        place.sim.state().set_scenario(ACCOUNT, Some(Scenario::Policy { code: "cyber_policy".to_owned() }));
        let output = place.codex("Say hello", &[]).await.exits(1);
        assert_eq!(place.outcomes().await, [outcome("http", "error", "POLICY_REFUSED")], "{output}");
        assert_eq!(place.upstream().len(), 1, "{output}");
        assert!(output.text().to_lowercase().contains("cybersecurity risk"), "{output}");
    }

    /// With its own tracing on, Codex sends a `traceparent`: its spans and the services' are one trace.
    async fn a_trace_that_codex_begins_goes_on_through_the_services(topology) {
        let collector = Collector::start().await;
        let export = |home: &Home| {
            home.export_to(&collector);
        };
        let place = Place::start_with(topology, export).await;
        let exporter = format!("otel.trace_exporter={{otlp-grpc={{endpoint=\"{}\"}}}}", collector.endpoint());
        let output = place.codex("Reply exactly: OK", &[exporter]).await.ok();
        assert_eq!(output.stdout.trim(), "OK", "{output}");
        let calls = place.calls().await;
        assert_eq!(calls.len(), 1, "{output}");
        let trace = calls[0].execution_trace.clone().expect("a trace");
        let ours = ["gateway", "router-svc", "auth-svc", "transport-svc"];
        let is_codex = |span: &&Span| !ours.contains(&span.service.as_str());
        // Processes export on their own time: the gateway's first span, and Codex's above it, may come last.
        let joined = |spans: &[Span]| {
            let parents = spans.iter().filter(is_codex);
            let above = |span: &Span| parents.clone().any(|parent| parent.span_id == span.parent_id);
            spans.iter().any(|span| span.service == "gateway" && above(span))
        };
        let whole = |spans: &[Span]| {
            let from = |process: &&str| spans.iter().any(|span| span.service == *process);
            ours.iter().all(from) && joined(spans)
        };
        collector.wait_for(&trace.trace_id, whole).await;
    }
}
