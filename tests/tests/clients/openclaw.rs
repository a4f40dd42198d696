//! OpenClaw, with the configuration that docs/clients.md gives, run without its own gateway.

use std::time::Duration;

use codex_sim::Scenario;
use e2e::Output;
use serde_json::Value;

use crate::{ACCOUNT, Place, outcome, tools};

/// The release that `.ci/tools` installs.
const VERSION: &str = "2026.9.6";

/// The configuration as docs/clients.md prints it, for this base URL.
fn configuration(base_url: &str) -> String {
    let page = include_str!("../../../docs/clients.md");
    let block = page.split("```json\n").find(|block| block.contains("\"api\": \"openai-responses\""));
    let block = block.and_then(|block| block.split("```").next()).expect("docs/clients.md shows the configuration");
    assert!(block.contains("127.0.0.1:7411"), "{block}");
    block.replace("http://127.0.0.1:7411/v1", base_url)
}

impl Place {
    /// Runs `openclaw agent` for one message to its end.
    async fn openclaw(&self, message: &str) -> Output {
        let base_url = format!("http://{}/v1", self.switchboard.address());
        let file = self.home.write("openclaw/openclaw.json", &configuration(&base_url));
        let (node, script) = tools::openclaw();
        let package = script.with_file_name("package.json");
        let package: Value =
            serde_json::from_str(&std::fs::read_to_string(package).unwrap_or_default()).unwrap_or_default();
        if package["version"] != VERSION {
            tools::missing(&format!("OpenClaw {VERSION} (this is {})", package["version"]));
        }
        let mut command = tools::command(&self.home, &node);
        command.arg(script).args(["agent", "--local", "--session-id", "tried", "--message", message, "--json"]);
        command.env("SWITCHBOARD_KEY", self.switchboard.key());
        command.env("OPENCLAW_STATE_DIR", self.home.path("openclaw")).env("OPENCLAW_CONFIG_PATH", file);
        // It takes its time to start, and more of it on a busy machine.
        Output::within(Duration::from_secs(300), command, "").await
    }
}

in_each_topology! {
    async fn an_agent_gets_its_answer(topology) {
        let place = Place::start(topology).await;
        let answer = place.openclaw("Reply exactly: OK").await.ok().json();
        // The simulator answers to the last message, and OpenClaw puts one of its own behind the user's.
        assert!(!answer["payloads"][0]["text"].as_str().unwrap_or_default().is_empty(), "{answer:#}");
        assert_eq!(answer["meta"]["agentMeta"]["model"], "codex/gpt-5.5", "{answer:#}");
        assert_eq!(place.outcomes().await, [outcome("http", "ok", "")], "{answer:#}");
        let sent = place.upstream();
        let body = sent[0].body.as_ref().expect("the body is kept");
        // Its system prompt, which it sends as a developer message, is what the backend knows as instructions.
        assert!(body["instructions"].as_str().is_some_and(|text| text.len() > 1000), "{body:#}");
        assert!(body["input"].to_string().contains("Reply exactly: OK") && body["max_output_tokens"].is_null(), "{body:#}");
    }

    /// A limit is told once, and as what it is.
    async fn a_usage_limit_ends_the_run(topology) {
        let place = Place::start(topology).await;
        place.sim.state().set_scenario(ACCOUNT, Some(Scenario::UsageLimit { resets_in: 7200 }));
        let output = place.openclaw("Say hello").await;
        assert_eq!(place.outcomes().await, [outcome("http", "error", "USAGE_LIMIT")], "{output}");
        assert!(output.text().to_lowercase().contains("limit"), "{output}");
    }
}
