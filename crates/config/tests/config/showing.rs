//! `config show`, digests, and what must not be shown.

use crate::Fixture;

#[test]
fn every_key_is_shown_with_its_source() {
    let fixture = Fixture::file("[transport]\nname = \"vps\"\n")
        .env("SWITCHBOARD__AGENTS__MAIN__MODEL", "codex/gpt-5.5")
        .flag("gateway.listen", "127.0.0.1:0");
    let loaded = fixture.load();
    let shown = config::show(&loaded)
        .replace(&format!("{}/", fixture.path().display()), "")
        .replace(&loaded.digest, "<digest>");
    insta::assert_snapshot!(shown, @r#"
    # configuration <digest>, file: switchboard.toml

    [gateway]
    listen = "127.0.0.1:0"  # command line
    admin_listen = "127.0.0.1:7421"  # default
    allow_plaintext = false  # default
    max_body_bytes = 67108864  # default
    max_calls = 10000  # default
    max_held_bytes = 268435456  # default
    max_key_share = 50  # default
    max_connections = 20000  # default
    headers_timeout = "30s"  # default
    body_timeout = "1m"  # default
    idle_timeout = "5m"  # default
    reader_timeout = "5m"  # default
    drain_seconds = 30  # default
    keep_alive = "15s"  # default
    max_attempts = 4  # default
    retry_percent = 10  # default
    circuit_failures = 5  # default
    circuit_open = "1s"  # default
    circuit_open_max = "1m"  # default
    circuit_probe = true  # default

    [gateway.transports.local]
    address = "in-process"  # default
    labels = []  # default

    [auth]
    admin_listen = "127.0.0.1:7422"  # default
    identity_url = "https://auth.openai.com"  # default
    refresh_margin = "5m"  # default
    proactive_refresh = true  # default
    identity_timeout = "20s"  # default
    usage_refresh = "30m"  # default
    usage_probe_after = "1m"  # default
    workspace_refresh = "6h"  # default
    max_calls = 10000  # default

    [router]
    admin_listen = "127.0.0.1:7423"  # default
    max_calls = 10000  # default

    [transport]
    admin_listen = "127.0.0.1:7424"  # default
    name = "vps"  # switchboard.toml:2
    connect_timeout = "10s"  # default
    headers_timeout = "2m"  # default
    idle_timeout = "5m"  # default
    max_calls = 10000  # default
    max_held_bytes = 536870912  # default

    [tls]

    [telemetry]
    log_format = "text"  # default

    [defaults]
    model = "openai-codex/gpt-5.5"  # default
    fallbacks = []  # default

    [targets.chatgpt-codex]
    kind = "chatgpt-codex"  # default
    base_url = "https://chatgpt.com/backend-api/codex"  # default
    originator = "switchboard"  # default
    hoist_instructions = "auto"  # default
    workspace_origins = []  # default

    [targets.openai-api]
    kind = "openai-api"  # default
    base_url = "https://api.openai.com/v1"  # default
    originator = "switchboard"  # default
    hoist_instructions = "auto"  # default
    workspace_origins = []  # default

    [providers.openai]
    aliases = []  # default
    target = "openai-api"  # default
    realm = "api-key"  # default

    [providers.openai-codex]
    aliases = ["codex", "codex-cli"]  # default
    target = "chatgpt-codex"  # default
    realm = "subscription"  # default

    [models."openai-codex/gpt-5.4-mini"]
    name = "GPT-5.4 mini"  # default
    input = ["text", "image"]  # default

    [models."openai-codex/gpt-5.5"]
    name = "GPT-5.5"  # default
    context_window = 272000  # default
    max_output_tokens = 128000  # default
    input = ["text", "image"]  # default

    [models."openai/gpt-5.5"]
    name = "GPT-5.5"  # default
    input = ["text", "image"]  # default

    [agents.main]
    model = "codex/gpt-5.5"  # SWITCHBOARD__AGENTS__MAIN__MODEL
    "#);
}

#[test]
fn what_is_shown_is_the_same_configuration() {
    let first =
        Fixture::file("[agents.\"odd name\"]\nallowed=['codex/*']\n[auth]\nrefresh_margin=61\nkey_file='C:\\x \"y\"'")
            .load();
    let second = Fixture::file(config::show(&first)).load();
    assert_eq!(second.config, first.config);
    assert_eq!(second.digest, first.digest);
}

#[test]
fn passwords_of_proxies_are_not_shown() {
    let proxied = |password: &str| {
        Fixture::file(format!(
            "[auth]\nproxy = 'http://me:{password}@proxy:3128'\n[transport]\nproxy = 'socks5h://me:{password}@proxy'"
        ))
        .load()
    };
    let loaded = proxied("hunter2");
    assert_eq!(loaded.config.transport.proxy.as_deref(), Some("socks5h://me:hunter2@proxy"));
    let texts = [config::show(&loaded), format!("{loaded:?}"), format!("{:#?}", loaded.config)];
    for text in texts {
        assert!(!text.contains("hunter2"), "{text}");
        assert!(text.contains("http://***@proxy:3128"), "{text}");
    }
    assert_eq!(proxied("other").digest, loaded.digest);
}

#[test]
fn secrets_in_broken_values_are_not_shown() {
    let refused = Fixture::file(
        "[auth]\nproxy = 'me:hunter2@proxy:3128'\nidentity_url = 'https://x.example/?key=hunter2'\n[transport]\nproxy = ['http://me:hunter2@proxy']\n[targets.chatgpt-codex]\nbase_url = 'https://me:hunter2@x.example/'\n[gateway]\nrouter = 'http://me:hunter2@x'\npassword = 'hunter2'",
    )
    .refused();
    assert_eq!(refused.lines().count(), 6, "{refused}");
    assert!(!refused.contains("hunter2"), "{refused}");
    let refused = Fixture::file("[auth]\nproxy = \"http://me:hunter2@proxy\n").refused();
    assert!(!refused.contains("hunter2"), "{refused}");
}

#[test]
fn the_digest_follows_the_effective_configuration_alone() {
    let by_default = Fixture::empty().load().digest;
    assert_eq!(by_default.len(), 16);
    assert_eq!(Fixture::file("# nothing\n[gateway]\ndrain_seconds = 30").load().digest, by_default);
    assert_eq!(Fixture::file("[transport]\nidle_timeout = 300").load().digest, by_default);
    assert_eq!(Fixture::file("[auth]\nidentity_url = 'https://auth.openai.com/'").load().digest, by_default);

    let by_file = Fixture::file("[gateway]\ndrain_seconds = 31").load().digest;
    let by_env = Fixture::empty().env("SWITCHBOARD__GATEWAY__DRAIN_SECONDS", "31").load().digest;
    let by_flag = Fixture::empty().flag("gateway.drain_seconds", "31").load().digest;
    assert_ne!(by_file, by_default);
    assert_eq!([&by_env, &by_flag], [&by_file, &by_file]);
}

#[test]
fn an_agent_more_is_another_digest() {
    assert_ne!(Fixture::file("[agents.x]").load().digest, Fixture::empty().load().digest);
}
