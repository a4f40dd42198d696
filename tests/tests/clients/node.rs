//! OpenAI's SDK for Node, through `sdk.mjs`. What it does with Chat Completions has a place of its own.

use e2e::{Home, Output, Topology};
use serde_json::{Value, json};

use crate::{Place, outcome, tools};

/// The release that `.ci/tools` installs.
const VERSION: &str = "7.57.0";

/// Runs `sdk.mjs` with a base URL and a key. Node looks for packages beside the script, so the script is put beside them.
async fn script(home: &Home, base_url: &str, key: &str, arguments: &[&str]) -> Output {
    let packages = tools::packages();
    let found = std::fs::read_to_string(packages.join("openai/package.json")).unwrap_or_default();
    let found: Value = serde_json::from_str(&found).unwrap_or_default();
    if found["version"] != VERSION {
        tools::missing(&format!("OpenAI's SDK {VERSION} for Node in {}", packages.display()));
    }
    let copy = home.write("node/sdk.mjs", include_str!("sdk.mjs"));
    let beside = home.path("node/node_modules");
    if let Err(error) = std::os::unix::fs::symlink(&packages, &beside) {
        assert!(beside.exists(), "{}: {error}", beside.display());
    }
    let mut command = tools::command(home, &tools::program("node"));
    command.env("OPENAI_BASE_URL", base_url).env("OPENAI_API_KEY", key).arg(copy).args(arguments);
    Output::of(command, "").await
}

/// What one call that fails came to.
pub(crate) async fn matrix(home: &Home, base_url: &str, (key, body): &(String, Value)) -> Output {
    script(home, base_url, key, &[&body.to_string()]).await
}

async fn the_sdk_works(topology: Topology) {
    let place = Place::start(topology).await;
    let base_url = format!("http://{}/v1", place.switchboard.address());
    let seen = script(&place.home, &base_url, &place.switchboard.key(), &[]).await.ok().json();
    assert_eq!((&seen["text"], &seen["status"], &seen["raw"]), (&"OK".into(), &"completed".into(), &"OK".into()));
    assert!(seen["output_tokens"].as_u64().is_some_and(|tokens| tokens > 0), "{seen:#}");
    assert!(!seen["call_id"].as_str().unwrap_or_default().is_empty(), "{seen:#}");
    assert_eq!(seen["dropped"], "top_p", "{seen:#}");

    let kinds = seen["kinds"].as_array().expect("kinds");
    assert_eq!((kinds.first(), kinds.last()), (Some(&"response.created".into()), Some(&"response.completed".into())));
    assert_eq!((&seen["streamed"], &seen["helper"]), (&"one two three".into(), &"helper".into()), "{seen:#}");
    assert_eq!(seen["tool"], "shell", "{seen:#}");
    assert!(seen["tool_answer"].as_str().is_some_and(|text| text.contains("hello-from-tool")), "{seen:#}");
    assert!(seen["models"].as_array().is_some_and(|all| all.contains(&"openai-codex/gpt-5.5".into())), "{seen:#}");

    for refusal in [&seen["unknown"], &seen["unknown_streamed"]] {
        assert_eq!((&refusal["class"], &refusal["code"]), (&"BadRequestError".into(), &"model_not_found".into()));
        assert_eq!((&refusal["status"], &refusal["reason"]), (&400.into(), &"ROUTE_UNKNOWN".into()), "{refusal:#}");
        assert_eq!(refusal["param"], "model", "{refusal:#}");
    }
    assert_eq!(seen["cut_code"], "STREAM_CUT", "{seen:#}");
    let (limit, stranger) = (&seen["limit"], &seen["stranger"]);
    assert_eq!((&limit["class"], &limit["type"]), (&"RateLimitError".into(), &"usage_limit_reached".into()));
    assert_eq!((&stranger["class"], &stranger["reason"]), (&"AuthenticationError".into(), &"AGENT_KEY_INVALID".into()));

    // `x-should-retry: false` keeps the SDK from asking three times over. A stranger's call is nobody's record.
    let ok = outcome("http", "ok", "");
    let failed = |reason| outcome("http", "error", reason);
    let mut expected = vec![ok; 6];
    expected.extend([failed("ROUTE_UNKNOWN"), failed("ROUTE_UNKNOWN"), failed("STREAM_CUT"), failed("USAGE_LIMIT")]);
    let mut outcomes = place.outcomes().await;
    outcomes.retain(|(_, _, reason)| reason != "AGENT_KEY_INVALID");
    assert_eq!(outcomes, expected, "{}", json!(seen));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs OpenAI's SDK for Node: .ci/tools installs it"]
async fn the_sdk_works_with_one_process() {
    the_sdk_works(Topology::OneProcess).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs OpenAI's SDK for Node: .ci/tools installs it"]
async fn the_sdk_works_with_four_processes() {
    the_sdk_works(Topology::FourProcesses).await;
}
