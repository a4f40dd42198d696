//! Defaults < file < environment < flag, and who said what.

use std::path::PathBuf;

use config::{Seconds, Source};

use crate::{Fixture, loaded};

#[test]
fn each_layer_lies_over_the_one_before() {
    let file = || Fixture::file("[gateway]\nlisten = \"127.0.0.1:1\"\n");
    assert_eq!(file().load().config.gateway.listen, "127.0.0.1:1");

    let env = || file().env("SWITCHBOARD__GATEWAY__LISTEN", "127.0.0.1:2");
    assert_eq!(env().load().config.gateway.listen, "127.0.0.1:2");

    let flag = env().flag("gateway.listen", "127.0.0.1:3");
    assert_eq!(flag.load().config.gateway.listen, "127.0.0.1:3");
}

#[test]
fn every_value_has_its_source() {
    let fixture = Fixture::file(
        "# words\n\n[gateway]\nlisten = \"127.0.0.1:1\"\n[agents.helper]\n[models.\"openai/x\"]\ninput=[]\n",
    )
    .env("SWITCHBOARD__TRANSPORT__NAME", "vps")
    .flag("gateway.drain_seconds", "5");
    let loaded = fixture.load();
    let path = fixture.path().join("switchboard.toml");
    let line = |line| Source::File { path: path.clone(), line: Some(line), column: None };
    assert_eq!(loaded.file, Some(path.clone()));
    assert_eq!(loaded.source_of("gateway.listen"), line(4));
    assert_eq!(loaded.source_of("agents.helper"), line(5));
    assert_eq!(loaded.source_of("models.\"openai/x\".input"), line(7));
    assert_eq!(loaded.source_of("models.'openai/x'.input"), line(7));
    assert_eq!(loaded.source_of("transport.name"), Source::Env { name: "SWITCHBOARD__TRANSPORT__NAME".into() });
    assert_eq!(loaded.source_of("gateway.drain_seconds"), Source::Flag);
    for unset in ["gateway.admin_listen", "gateway.tls_cert", "gateway", "no.such key", ""] {
        assert_eq!(loaded.source_of(unset), Source::Default, "{unset}");
    }
}

#[test]
fn a_named_file_stands_in_for_the_usual_one() {
    let mut fixture = Fixture::file("[transport]\nname = \"usual\"");
    let named = fixture.path().join("other.toml");
    std::fs::write(&named, "[transport]\nname = \"named\"").expect("a file");
    fixture.options.file = Some(named.clone());
    let loaded = fixture.load();
    assert_eq!(loaded.config.transport.name, "named");
    assert_eq!(loaded.file, Some(named));
}

#[test]
fn a_data_directory_that_is_not_there_is_no_error() {
    let mut fixture = Fixture::empty();
    fixture.options.data_dir = PathBuf::from("/nowhere/switchboard");
    assert_eq!(fixture.load().file, None);
}

#[test]
fn variables_name_keys_with_underscores_for_everything() {
    let loaded =
        Fixture::file("[targets.My-Box]\nkind='custom'\nbase_url='http://[::1]:1/v1'".replace("My-Box", "my-box"))
            .env("SWITCHBOARD__TARGETS__CHATGPT_CODEX__BASE_URL", "http://127.0.0.1:9/codex")
            .env("SWITCHBOARD__TARGETS__MY_BOX__ORIGINATOR", "me")
            .env("SWITCHBOARD__AGENTS__MAIN__MODEL", "codex/gpt-5.5")
            .env("SWITCHBOARD__AGENTS__NEW_ONE__CREDENTIALS", "a, b,")
            .env("SWITCHBOARD__GATEWAY__TRANSPORTS__LOCAL__ADDRESS", "unix:///run/t.sock")
            .env("SWITCHBOARD__MODELS__OPENAI_CODEX_GPT_5_4_MINI__CONTEXT_WINDOW", "1000")
            .env("SWITCHBOARD__PROVIDERS__openai__ALIASES", "[\"platform\"]")
            .env("SWITCHBOARD__TELEMETRY__LOG_FORMAT", "json")
            .load()
            .config;
    assert_eq!(loaded.targets["chatgpt-codex"].base_url, "http://127.0.0.1:9/codex");
    assert_eq!(loaded.targets["my-box"].originator, "me");
    assert_eq!(loaded.targets.len(), 3);
    assert_eq!(loaded.agents["main"].model.as_deref(), Some("codex/gpt-5.5"));
    assert_eq!(loaded.agents["new-one"].credentials, Some(vec!["a".into(), "b".into()]));
    assert_eq!(loaded.gateway.transports["local"].address, "unix:///run/t.sock");
    assert_eq!(loaded.models["openai-codex/gpt-5.4-mini"].context_window, Some(1000));
    assert_eq!(loaded.models.len(), 3);
    assert_eq!(loaded.providers["openai"].aliases, ["platform"]);
    assert_eq!(loaded.telemetry.log_format, config::LogFormat::Json);
}

#[test]
fn text_outside_the_file_takes_the_type_of_its_key() {
    let config = Fixture::empty()
        .env("SWITCHBOARD__TRANSPORT__NAME", "7411")
        .env("SWITCHBOARD__TARGETS__CHATGPT_CODEX__VERSION", "true")
        .env("SWITCHBOARD__GATEWAY__MAX_BODY_BYTES", " 2048 ")
        .env("SWITCHBOARD__GATEWAY__ALLOW_PLAINTEXT", "true")
        .env("SWITCHBOARD__TRANSPORT__IDLE_TIMEOUT", "90")
        .env("SWITCHBOARD__TRANSPORT__HEADERS_TIMEOUT", "2m")
        .env("SWITCHBOARD__DEFAULTS__FALLBACKS", "")
        .flag("auth.refresh_margin", "1h")
        .flag("defaults.model", "openai/gpt-5.5")
        .flag("models.\"openai/gpt-5.5\".input", "text")
        .load()
        .config;
    assert_eq!(config.transport.name, "7411");
    assert_eq!(config.targets["chatgpt-codex"].version.as_deref(), Some("true"));
    assert_eq!(config.gateway.max_body_bytes, 2048);
    assert!(config.gateway.allow_plaintext);
    assert_eq!(config.transport.idle_timeout, Seconds::new(90));
    assert_eq!(config.transport.headers_timeout, Seconds::new(120));
    assert_eq!(config.defaults.fallbacks, Vec::<String>::new());
    assert_eq!(config.auth.refresh_margin, Seconds::new(3600));
    assert_eq!(config.models["openai/gpt-5.5"].input, ["text"]);
}

#[test]
fn durations_in_the_file_are_numbers_or_text() {
    let config = loaded("[transport]\nconnect_timeout = 7\nidle_timeout = \"1h\"");
    assert_eq!(config.transport.connect_timeout, Seconds::new(7));
    assert_eq!(config.transport.idle_timeout, Seconds::new(3600));
}

#[test]
fn tables_merge_by_entry_and_by_key_and_lists_are_replaced() {
    let config = loaded(
        r#"
        [gateway.transports.frankfurt]
        address = "unix:///run/frankfurt.sock"
        [targets.chatgpt-codex]
        originator = "mine"
        [providers.openai-codex]
        aliases = ["cx"]
        [models."openai/gpt-6"]
        context_window = 1
        "#,
    );
    assert_eq!(config.gateway.transports.keys().collect::<Vec<_>>(), ["frankfurt", "local"]);
    assert_eq!(config.targets["chatgpt-codex"].originator, "mine");
    assert_eq!(config.targets["chatgpt-codex"].base_url, "https://chatgpt.com/backend-api/codex");
    assert_eq!(config.providers["openai-codex"].aliases, ["cx"]);
    assert_eq!(config.providers["openai-codex"].target, "chatgpt-codex");
    assert_eq!(config.models.len(), 4);
    assert_eq!(config.models["openai/gpt-6"].name, "gpt-6");
    assert_eq!(config.models["openai/gpt-6"].input, ["text"]);
}

#[test]
fn other_variables_are_not_ours() {
    let fixture = Fixture::empty()
        .env("SWITCHBOARD_CONFIG", "/x")
        .env("SWITCHBOARD_PORT", "tcp://10.0.0.1:7411")
        .env("SWITCHBOARDS__X", "1")
        .env("PATH", "/bin");
    assert_eq!(fixture.load().config, config::Config::default());
}

#[test]
fn urls_are_kept_in_one_form() {
    let config = loaded(
        r#"
        auth.identity_url = "https://auth.openai.com/"
        targets.chatgpt-codex.base_url = "https://ChatGPT.com:443/backend-api/codex/"
        targets.chatgpt-codex.backend_url = "https://chatgpt.com/backend-api/"
        "#,
    );
    assert_eq!(config.auth.identity_url, "https://auth.openai.com");
    assert_eq!(config.targets["chatgpt-codex"].base_url, "https://chatgpt.com/backend-api/codex");
    assert_eq!(config.targets["chatgpt-codex"].backend_url.as_deref(), Some("https://chatgpt.com/backend-api"));
}

#[test]
fn a_byte_order_mark_and_windows_lines_are_fine() {
    let fixture = Fixture::file("\u{feff}[gateway]\r\nlisten = \"127.0.0.1:1\"\r\n");
    assert!(matches!(fixture.load().source_of("gateway.listen"), Source::File { line: Some(2), .. }));
}
