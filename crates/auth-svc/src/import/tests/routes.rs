//! Routes of `openclaw.json` as a configuration that Switchboard reads.

use config::{Config, LoadOptions};

use super::*;

/// The configuration that a text means, through every check of the real reader.
pub(super) fn parsed(text: &str) -> Config {
    let dir = tempfile::tempdir().expect("tempdir");
    std::fs::write(dir.path().join("switchboard.toml"), text).expect("written");
    let options = LoadOptions { data_dir: dir.path().to_owned(), ..LoadOptions::default() };
    config::load(&options).unwrap_or_else(|problems| panic!("{problems}\n{text}")).config
}

async fn import(config: &str) -> (String, String) {
    let bench = Bench::new().await;
    let files = vec![profiles(json!({ "openai-codex:a": login("acct-1", NOW + DAY) })), raw("openclaw.json", config)];
    let response = bench.import(openclaw(files)).await;
    (response.config_toml, response.notes.join("\n"))
}

fn with_primary(primary: &str, rest: &str) -> String {
    format!("{{ agents: {{ defaults: {{ model: {{ primary: '{primary}', fallbacks: [] }}, {rest} }} }} }}")
}

#[tokio::test]
async fn every_name_of_the_codex_login_is_one_route() {
    for (config, expected) in [
        (with_primary("codex/gpt-5.5", ""), "openai-codex/gpt-5.5"),
        (with_primary("codex-cli/gpt-5.5", ""), "openai-codex/gpt-5.5"),
        (with_primary("OpenAI-Codex/gpt-5.5", ""), "openai-codex/gpt-5.5"),
        (with_primary("openai-codex/gpt-5.5@openai-codex:a", ""), "openai-codex/gpt-5.5"),
        (with_primary("openai/gpt-5.5", ""), "openai/gpt-5.5"),
        (with_primary("openai/gpt-5.5", "agentRuntime: { id: 'codex' }"), "openai-codex/gpt-5.5"),
        (
            with_primary("openai/gpt-5.5", "models: { 'openai/gpt-5.5': { agentRuntime: { id: 'codex' } } }"),
            "openai-codex/gpt-5.5",
        ),
        (
            with_primary("openai/gpt-5.5", "models: { 'openai/*': { agentRuntime: { id: 'codex' } } }"),
            "openai-codex/gpt-5.5",
        ),
        (
            with_primary(
                "openai/gpt-5.5",
                "agentRuntime: { id: 'codex' }, models: { 'openai/gpt-5.5': { agentRuntime: { id: 'pi' } } }",
            ),
            "openai/gpt-5.5",
        ),
        (with_primary("smart", "models: { 'codex/gpt-5.5': { alias: 'Smart' } }"), "openai-codex/gpt-5.5"),
        (
            "{agents:{defaults:{model:'openai/gpt-5.5'}},models:{providers:{openai:{agentRuntime:{id:'codex'}}}}}"
                .to_owned(),
            "openai-codex/gpt-5.5",
        ),
    ] {
        let (toml, notes) = import(&config).await;
        assert_eq!(parsed(&toml).defaults.model, expected, "{config}\n{toml}");
        assert_eq!(notes.contains("need an API key"), expected.starts_with("openai/"), "{notes}");
    }
}

#[tokio::test]
async fn agents_and_fallbacks_are_taken_and_the_rest_is_a_comment() {
    let (toml, notes) = import(
        r#"{
          // JSON5, as people write it
          agents: {
            defaults: { model: { primary: "openai-codex/gpt-5.5", fallbacks: ["codex/gpt-5.4-mini", "anthropic/claude\n[x]", "openai/gpt-5.5",] },
                        models: { "openai-codex/gpt-5.5": {}, "codex/gpt-5.5": {}, "anthropic/claude": {} } },
            list: [
              { id: "main", default: true },
              { id: "Research Bot", model: "codex/gpt-5.4-mini" },
              { id: "other", model: { primary: "ollama/x", fallbacks: ["codex/gpt-5.5", "openai-codex/gpt-5.5"] } },
              { model: "no-id" }, 7,
            ],
          },
        }"#,
    )
    .await;
    let config = parsed(&toml);
    assert_eq!(config.defaults.model, "openai-codex/gpt-5.5");
    assert_eq!(config.defaults.fallbacks, ["openai-codex/gpt-5.4-mini", "openai/gpt-5.5"]);
    let research = &config.agents["research-bot"];
    assert_eq!(research.model.as_deref(), Some("openai-codex/gpt-5.4-mini"));
    assert_eq!(
        research.fallbacks.as_deref(),
        Some(&[][..]),
        "an agent's own model comes without the others' fallbacks"
    );
    assert_eq!(config.agents["other"].model, None);
    assert_eq!(config.agents["other"].fallbacks.as_deref(), Some(&["openai-codex/gpt-5.5".to_owned()][..]));
    assert!(toml.contains("# model = \"ollama/x\""), "{toml}");
    assert!(toml.contains("# allowed = [\"openai-codex/gpt-5.5\"]"), "{toml}");
    assert!(notes.contains("\"ollama/x\" was not taken over") && notes.contains("\"ollama\" is not served"), "{notes}");
    assert!(notes.contains("fallback openai/gpt-5.5 leaves the subscription"), "{notes}");
}

#[tokio::test]
async fn workarounds_in_the_providers_need_nothing_here() {
    let config = |settings: &str| format!("{{ models: {{ providers: {{ {settings} }} }} }}");
    for (settings, says) in [
        ("'openai-codex': { baseUrl: 'https://chatgpt.com/backend-api' }", "nothing needs to be set"),
        (
            "codex: { baseUrl: 'https://chatgpt.com/backend-api/v1/', apiKey: 'codex-app-server' }",
            "nothing needs to be set",
        ),
        ("codex: { baseUrl: 'https://chatgpt.com/elsewhere' }", "not the Codex backend"),
        ("'openai-codex': { api: 'anthropic-messages' }", "not what the Codex backend speaks"),
        ("'openai-codex': { baseUrl: 'http://user:S3CRET@proxy:8080/v1' }", "another server's"),
        ("openai: { apiKey: 'sk-S3CRET' }", "was not taken over"),
    ] {
        let (toml, notes) = import(&config(settings)).await;
        assert!(notes.contains(says), "{settings}: {notes}");
        assert_eq!(toml, "", "no routes");
    }
    let quiet = "'openai-codex': { baseUrl: 'https://chatgpt.com/backend-api/codex', api: 'openai-codex-responses' }, gw: { baseUrl: 'http://x' }";
    let (_, notes) = import(&config(quiet)).await;
    assert!(!notes.contains("models.providers"), "{notes}");
    let (_, notes) = import("{ $include: './more.json5' }").await;
    assert!(notes.contains("$include"), "{notes}");
}
