//! OpenAI's SDK for Python, through `sdk.py`.

use e2e::{Home, Output, Topology};
use serde_json::{Value, json};

use crate::{Place, outcome, tools};

/// The release that `.ci/tools` installs.
const VERSION: &str = "3.54.0";

/// Runs a script beside this file with a base URL and a key.
async fn run(home: &Home, script: &str, base_url: &str, key: &str, arguments: &[&str]) -> Output {
    let python = tools::program("python3");
    let mut command = tools::command(home, &python);
    command.env("OPENAI_BASE_URL", base_url).env("OPENAI_API_KEY", key);
    command.arg(format!("{}/tests/clients/{script}", env!("CARGO_MANIFEST_DIR"))).args(arguments);
    Output::of(command, "").await
}

/// What one call that fails came to.
pub(crate) async fn matrix(home: &Home, base_url: &str, (key, body): &(String, Value)) -> Output {
    run(home, "sdk.py", base_url, key, &[&body.to_string()]).await
}

impl Place {
    /// What a script beside this file saw.
    pub(crate) async fn sdk(&self, script: &str) -> Value {
        let python = tools::program("python3");
        let mut check = tools::command(&self.home, &python);
        check.args(["-c", "import openai; print(openai.__version__)"]);
        let found = Output::of(check, "").await;
        if found.stdout.trim() != VERSION {
            tools::missing(&format!("OpenAI's SDK {VERSION} for {}", python.display()));
        }
        let base_url = format!("http://{}/v1", self.switchboard.address());
        run(&self.home, script, &base_url, &self.switchboard.key(), &[]).await.ok().json()
    }
}

async fn the_sdk_works(topology: Topology) {
    let place = Place::start(topology).await;
    let seen = place.sdk("sdk.py").await;
    assert_eq!((&seen["text"], &seen["status"]), (&"OK".into(), &"completed".into()), "{seen:#}");
    assert!(seen["output_tokens"].as_u64().is_some_and(|tokens| tokens > 0), "{seen:#}");
    assert!(!seen["call_id"].as_str().unwrap_or_default().is_empty(), "{seen:#}");
    assert_eq!(seen["dropped"], "top_p", "{seen:#}");

    let kinds = seen["kinds"].as_array().expect("kinds");
    assert_eq!((kinds.first(), kinds.last()), (Some(&"response.created".into()), Some(&"response.completed".into())));
    assert_eq!((&seen["streamed"], &seen["helper"]), (&"one two three".into(), &"helper".into()), "{seen:#}");
    assert_eq!(seen["tool"], json!(["shell"]), "{seen:#}");
    let models = seen["models"].as_array().expect("models");
    assert!(models.contains(&"openai-codex/gpt-5.5".into()), "{seen:#}");

    for refusal in [&seen["unknown"], &seen["unknown_streamed"]] {
        assert_eq!((&refusal["class"], &refusal["code"]), (&"BadRequestError".into(), &"model_not_found".into()));
        assert_eq!((&refusal["status"], &refusal["reason"]), (&400.into(), &"ROUTE_UNKNOWN".into()), "{refusal:#}");
        assert!(!refusal["next_step"].as_str().unwrap_or_default().is_empty(), "{refusal:#}");
    }
    let limit = &seen["limit"];
    assert_eq!(
        (&limit["class"], &limit["type"]),
        (&"RateLimitError".into(), &"usage_limit_reached".into()),
        "{limit:#}"
    );
    let stranger = &seen["stranger"];
    assert_eq!((&stranger["class"], &stranger["reason"]), (&"AuthenticationError".into(), &"AGENT_KEY_INVALID".into()));

    // `x-should-retry: false` keeps the SDK from asking three times over. A stranger's call is nobody's record.
    let ok = outcome("http", "ok", "");
    let unknown = outcome("http", "error", "ROUTE_UNKNOWN");
    let mut expected = vec![ok; 5];
    expected.extend([unknown.clone(), unknown, outcome("http", "error", "USAGE_LIMIT")]);
    let mut outcomes = place.outcomes().await;
    outcomes.retain(|(_, _, reason)| reason != "AGENT_KEY_INVALID");
    assert_eq!(outcomes, expected);
    assert_eq!(place.upstream().len(), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs OpenAI's SDK: .ci/tools installs it"]
async fn the_sdk_works_with_one_process() {
    the_sdk_works(Topology::OneProcess).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs OpenAI's SDK: .ci/tools installs it"]
async fn the_sdk_works_with_four_processes() {
    the_sdk_works(Topology::FourProcesses).await;
}
