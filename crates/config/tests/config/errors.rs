//! What is refused before anything is understood: files, keys, types.

use crate::{Fixture, refused};

#[test]
fn a_named_file_that_is_missing() {
    let mut fixture = Fixture::empty();
    fixture.options.file = Some(fixture.path().join("none.toml"));
    insta::assert_snapshot!(fixture.refused(), @"none.toml: no such file");
}

#[test]
fn a_directory_instead_of_a_file() {
    let fixture = Fixture::empty();
    std::fs::create_dir(fixture.path().join("switchboard.toml")).expect("a directory");
    insta::assert_snapshot!(fixture.refused(), @"switchboard.toml: cannot be read: Is a directory (os error 21)");
}

#[test]
fn a_dangling_link_is_not_no_file() {
    let fixture = Fixture::empty();
    std::os::unix::fs::symlink("/nowhere/x.toml", fixture.path().join("switchboard.toml")).expect("a link");
    insta::assert_snapshot!(fixture.refused(), @"switchboard.toml: no such file");
}

#[test]
fn bytes_that_are_no_text() {
    insta::assert_snapshot!(Fixture::file(b"# fine\n[gateway]\nlisten = \"\xff\"\n").refused(), @"switchboard.toml:3: not UTF-8 text");
}

#[test]
fn text_that_is_no_toml() {
    insta::assert_snapshot!(refused("[gateway]\nlisten = 127.0.0.1:7411\n"), @"switchboard.toml:2:15: not TOML: invalid float, expected nothing");
    insta::assert_snapshot!(refused("[gateway]\nlisten = \"a\"\n\"ä\" = 1 ; listen = \"b\"\n"), @"switchboard.toml:3:18: not TOML: unexpected key or value, expected newline, `#`");
    insta::assert_snapshot!(refused("[gateway]\nlisten = \"a\"\nlisten = \"b\"\n"), @"switchboard.toml:3:1: not TOML: duplicate key");
}

#[test]
fn a_broken_file_is_the_only_complaint() {
    // What it would have said is not known, so what the other layers say cannot be judged.
    let fixture = Fixture::file("[gateway").env("SWITCHBOARD__GATEWAY__LISTEN", "0.0.0.0:7411");
    insta::assert_snapshot!(fixture.refused(), @"switchboard.toml:1:9: not TOML: unclosed table, expected `]`");
}

#[test]
fn unknown_keys_with_the_nearest_known_one() {
    insta::assert_snapshot!(refused(
        r#"colour = "red"
        listen = "127.0.0.1:1"
        [gatway]
        [gateway]
        admin-listen = "127.0.0.1:1"
        lisen = "127.0.0.1:1"
        identity_url = "https://auth.openai.com"
        colour = "red"
        [gateway.transports.local]
        adress = "x"
        [agents.main]
        allow = []
        [models."openai/gpt-5.5"]
        colour = { deep = "red" }
        "#), @r#"
    switchboard.toml:1: colour: unknown section; there are gateway, auth, router, transport, egresses, tls, telemetry, defaults, targets, providers, models, agents
    switchboard.toml:2: listen: unknown key; the nearest is gateway.listen
    switchboard.toml:3: gatway: unknown key; the nearest is gateway
    switchboard.toml:5: gateway.admin-listen: unknown key; the nearest is gateway.admin_listen
    switchboard.toml:6: gateway.lisen: unknown key; the nearest is gateway.listen
    switchboard.toml:7: gateway.identity_url: unknown key; the nearest is auth.identity_url
    switchboard.toml:8: gateway.colour: unknown key; [gateway] takes listen, admin_listen, control_listen, allow_plaintext, tls_cert, tls_key, max_body_bytes, max_calls, max_held_bytes, max_key_share, max_connections, headers_timeout, body_timeout, idle_timeout, reader_timeout, drain_seconds, keep_alive, router, auth, max_attempts, retry_percent, circuit_failures, circuit_open, circuit_open_max, circuit_probe, transports
    switchboard.toml:10: gateway.transports.local.adress: unknown key; the nearest is gateway.transports.local.address
    switchboard.toml:12: agents.main.allow: unknown key; the nearest is agents.main.allowed
    switchboard.toml:14: models."openai/gpt-5.5".colour: unknown key; [models."openai/gpt-5.5"] takes name, context_window, max_output_tokens, input
    "#);
}

#[test]
fn wrong_types_with_the_expected_one() {
    insta::assert_snapshot!(refused(
        r#"auth = 5
        agents = ["main"]
        [gateway]
        listen = 7411
        admin_listen = ""
        allow_plaintext = "yes"
        max_body_bytes = -1
        drain_seconds = 99999999999999999999
        tls_cert = { file = "x" }
        [gateway.transports]
        local = "unix:///x"
        [transport]
        connect_timeout = "10 seconds"
        headers_timeout = 1.5
        idle_timeout = -3
        [telemetry]
        log_format = "xml"
        [defaults]
        fallbacks = "openai/gpt-5.5"
        [targets.chatgpt-codex]
        hoist_instructions = true
        [providers.openai]
        aliases = ["a", 2]
        realm = "oauth"
        "#), @r#"
    switchboard.toml:1: auth = 5: expected a table with listen, admin_listen, database, key_file, seal_key_file, identity_url, refresh_margin, proactive_refresh, identity_timeout, proxy, usage_refresh, usage_probe_after, workspace_refresh, max_calls
    switchboard.toml:2: agents = ["main"]: expected a table with one table for each name
    switchboard.toml:4: gateway.listen = 7411: expected text in quotes
    switchboard.toml:5: gateway.admin_listen = "": empty; leave it out instead
    switchboard.toml:6: gateway.allow_plaintext = "yes": expected true or false
    switchboard.toml:7: gateway.max_body_bytes = -1: expected a whole number, not negative
    switchboard.toml:8: gateway.drain_seconds: expected a whole number, not negative
    switchboard.toml:9: gateway.tls_cert: expected text in quotes
    switchboard.toml:11: gateway.transports.local = "unix:///x": expected a table with address, labels
    switchboard.toml:13: transport.connect_timeout = "10 seconds": expected whole seconds or a duration such as "30s", "5m", "2h"
    switchboard.toml:14: transport.headers_timeout = 1.5: expected whole seconds or a duration such as "30s", "5m", "2h"
    switchboard.toml:15: transport.idle_timeout = -3: expected whole seconds or a duration such as "30s", "5m", "2h"
    switchboard.toml:17: telemetry.log_format = "xml": expected "text" or "json"
    switchboard.toml:19: defaults.fallbacks = "openai/gpt-5.5": expected a list of texts, such as ["a", "b"]
    switchboard.toml:21: targets.chatgpt-codex.hoist_instructions = true: expected "auto" or "always" or "never"
    switchboard.toml:23: providers.openai.aliases = ["a", 2]: expected a list of texts, such as ["a", "b"]
    switchboard.toml:24: providers.openai.realm = "oauth": expected "subscription" or "api-key"
    "#);
}

#[test]
fn a_wrong_type_does_not_hide_the_rest() {
    insta::assert_snapshot!(refused("[gateway]\ndrain_seconds = 'x'\nlisten = '0.0.0.0:1'\n[auth]\nx = 1"), @r#"
    switchboard.toml:2: gateway.drain_seconds = "x": expected a whole number, not negative
    switchboard.toml:3: gateway.listen = "0.0.0.0:1": beyond loopback this port needs gateway.tls_cert and gateway.tls_key, or gateway.allow_plaintext = true where something else guards it
    switchboard.toml:5: auth.x: unknown key; [auth] takes listen, admin_listen, database, key_file, seal_key_file, identity_url, refresh_margin, proactive_refresh, identity_timeout, proxy, usage_refresh, usage_probe_after, workspace_refresh, max_calls
    "#);
}

#[test]
fn tables_that_lack_what_they_need() {
    insta::assert_snapshot!(refused(
        r#"[gateway.transports.east]
        [targets.mine]
        base_url = "http://127.0.0.1:1"
        [targets.yours]
        kind = "custom"
        [providers.mine]
        target = "mine"
        [providers.yours]
        realm = "api-key"
        "#), @r#"
    switchboard.toml:1: gateway.transports.east.address: missing: the egress has no address: "unix:///path" or "https://host:port"
    switchboard.toml:2: targets.mine.kind: missing: the built-in targets are chatgpt-codex and openai-api; a server of your own needs kind = "custom"
    switchboard.toml:4: targets.yours.base_url: missing: the target has no URL, such as "http://127.0.0.1:8080/v1"
    switchboard.toml:6: providers.mine.realm: missing: the provider has no realm: "subscription" or "api-key"
    switchboard.toml:8: providers.yours.target: missing: the provider has no target, a name under [targets]
    "#);
}

#[test]
fn variables_that_name_nothing() {
    let fixture = Fixture::empty()
        .env("SWITCHBOARD__GATEWAY__LISEN", "x")
        .env("SWITCHBOARD__GATWAY__LISTEN", "x")
        .env("SWITCHBOARD__LISTEN", "x")
        .env("SWITCHBOARD__GATEWAY__TRANSPORTS__LOCAL__ADRESS", "x")
        .env("SWITCHBOARD__TARGETS__CHATGPT_CODEX__BASEURL", "x")
        .env("SWITCHBOARD__MODELS__OPENAI_GPT_6__NAME", "x")
        .env("SWITCHBOARD__AGENTS____MODEL", "x")
        .env("SWITCHBOARD__GATEWAY__LISTEN__X", "x")
        .env("SWITCHBOARD__GATEWAY", "x")
        .env("SWITCHBOARD__AGENTS__MAIN", "x")
        .env("SWITCHBOARD__", "x")
        .env("SWITCHBOARD__COLOUR", "x");
    insta::assert_snapshot!(fixture.refused(), @r#"
    SWITCHBOARD__: unknown variable
    SWITCHBOARD__AGENTS__MAIN: agents.main: a table; name a key in it
    SWITCHBOARD__AGENTS____MODEL: unknown variable
    SWITCHBOARD__COLOUR: unknown variable
    SWITCHBOARD__GATEWAY: gateway: a table; name a key in it
    SWITCHBOARD__GATEWAY__LISEN: unknown variable; the nearest is SWITCHBOARD__GATEWAY__LISTEN
    SWITCHBOARD__GATEWAY__LISTEN__X: unknown variable
    SWITCHBOARD__GATEWAY__TRANSPORTS__LOCAL__ADRESS: unknown variable; the nearest is SWITCHBOARD__GATEWAY__TRANSPORTS__LOCAL__ADDRESS
    SWITCHBOARD__GATWAY__LISTEN: unknown variable; the nearest is SWITCHBOARD__GATEWAY
    SWITCHBOARD__LISTEN: unknown variable; the nearest is SWITCHBOARD__GATEWAY__LISTEN
    SWITCHBOARD__MODELS__OPENAI_GPT_6__NAME: no such model: a variable cannot spell "provider/model", so add its table to the file first
    SWITCHBOARD__TARGETS__CHATGPT_CODEX__BASEURL: unknown variable; the nearest is SWITCHBOARD__TARGETS__CHATGPT_CODEX__BASE_URL
    "#);
}

#[test]
fn a_variable_that_may_mean_two_entries() {
    let fixture = Fixture::file("[agents.a-b]\n[agents.a_b]\n").env("SWITCHBOARD__AGENTS__A_B__MODEL", "codex/x");
    insta::assert_snapshot!(fixture.refused(), @"SWITCHBOARD__AGENTS__A_B__MODEL: may mean a-b or a_b: say it in the file");
}

#[test]
fn variables_of_the_wrong_type() {
    let fixture = Fixture::empty()
        .env("SWITCHBOARD__GATEWAY__DRAIN_SECONDS", "soon")
        .env("SWITCHBOARD__GATEWAY__ALLOW_PLAINTEXT", "yes")
        .env("SWITCHBOARD__TRANSPORT__IDLE_TIMEOUT", "-1")
        .env("SWITCHBOARD__TRANSPORT__NAME", "")
        .env("SWITCHBOARD__DEFAULTS__FALLBACKS", "[openai/gpt-5.5]")
        .env("SWITCHBOARD__TARGETS__CHATGPTCODEX__BASE_URL", "http://127.0.0.1:1")
        .env("SWITCHBOARD__TARGETS__OPENAI_API__HOIST_INSTRUCTIONS", "Auto");
    insta::assert_snapshot!(fixture.refused(), @r#"
    SWITCHBOARD__DEFAULTS__FALLBACKS: defaults.fallbacks = "[openai/gpt-5.5]": expected a list of texts, such as ["a", "b"]
    SWITCHBOARD__GATEWAY__ALLOW_PLAINTEXT: gateway.allow_plaintext = "yes": expected true or false
    SWITCHBOARD__GATEWAY__DRAIN_SECONDS: gateway.drain_seconds = "soon": expected a whole number, not negative
    SWITCHBOARD__TARGETS__OPENAI_API__HOIST_INSTRUCTIONS: targets.openai-api.hoist_instructions = "Auto": expected "auto" or "always" or "never"
    SWITCHBOARD__TRANSPORT__IDLE_TIMEOUT: transport.idle_timeout = "-1": expected whole seconds or a duration such as "30s", "5m", "2h"
    SWITCHBOARD__TRANSPORT__NAME: transport.name = "": empty; leave it out instead
    SWITCHBOARD__TARGETS__CHATGPTCODEX__BASE_URL: targets.chatgptcodex.kind: missing: the built-in targets are chatgpt-codex and openai-api; a server of your own needs kind = "custom"
    "#);
}

#[test]
fn flags_that_name_nothing_or_the_wrong_type() {
    let fixture = Fixture::empty()
        .flag("gateway.lisen", "x")
        .flag("gateway", "x")
        .flag("what is this", "x")
        .flag("gateway.drain_seconds", "soon")
        .flag("gateway.listen", "0.0.0.0:1");
    insta::assert_snapshot!(fixture.refused(), @r#"
    command line: gateway.lisen: unknown key; the nearest is gateway.listen
    command line: gateway: a table; name a key in it
    command line: "what is this": unknown section; there are gateway, auth, router, transport, egresses, tls, telemetry, defaults, targets, providers, models, agents
    command line: gateway.drain_seconds = "soon": expected a whole number, not negative
    command line: gateway.listen = "0.0.0.0:1": beyond loopback this port needs gateway.tls_cert and gateway.tls_key, or gateway.allow_plaintext = true where something else guards it
    "#);
}

#[test]
fn problems_come_in_the_order_of_the_file_then_environment_then_flags() {
    let fixture = Fixture::file("[transport]\nidle_timeout = 0\nx = 1\n[gateway]\ndrain_seconds = 'x'\nlisten = 'x'\n")
        .env("SWITCHBOARD__ROUTER__ADMIN_LISTEN", "x")
        .flag("auth.admin_listen", "x");
    let lines: Vec<String> =
        fixture.refused().lines().map(|line| line.split(": ").next().unwrap_or_default().to_owned()).collect();
    assert_eq!(
        lines,
        [
            "switchboard.toml:2",
            "switchboard.toml:3",
            "switchboard.toml:5",
            "switchboard.toml:6",
            "SWITCHBOARD__ROUTER__ADMIN_LISTEN",
            "command line"
        ]
    );
}

#[test]
fn problems_are_data_too() {
    let error = Fixture::empty().env("SWITCHBOARD__GATEWAY__LISTEN", "0.0.0.0:1").try_load().expect_err("refused");
    let [problem] = error.problems.as_slice() else { panic!("one problem: {error}") };
    assert_eq!(problem.key, "gateway.listen");
    assert_eq!(problem.value.as_deref(), Some("\"0.0.0.0:1\""));
    assert_eq!(problem.source, config::Source::Env { name: "SWITCHBOARD__GATEWAY__LISTEN".into() });
    // Whoever has only a configuration gets the same without the place.
    let mut config = config::Config::default();
    config.gateway.listen = "0.0.0.0:1".into();
    let problems = config::check(&config);
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].message, problem.message);
    assert_eq!(problems[0].source, config::Source::Default);
}
