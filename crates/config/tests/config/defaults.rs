//! The types, the schema and the default file say the same.

use std::{collections::BTreeSet, time::Duration};

use config::{Config, DEFAULT_FILE, Model, Provider, Realm, Seconds, Source, Target, TargetKind};

use crate::Fixture;

/// The default file with every `# key = value` and `# [table]` taken out of its comment.
fn everything() -> String {
    let is_key = |text: &str| text.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
    let is_table = |text: &str| text.starts_with('[') && text.ends_with(']');
    let live = |line: &str| match line.strip_prefix("# ") {
        Some(text) if is_key(text) || is_table(text) => text.to_owned(),
        _ => line.to_owned(),
    };
    DEFAULT_FILE.lines().map(|line| live(line) + "\n").collect()
}

/// Dotted keys, with `*` for names of the user's choice.
fn keys(table: &toml::Table) -> BTreeSet<String> {
    fn walk(table: &toml::Table, prefix: &str, keys: &mut BTreeSet<String>) {
        let free =
            ["targets.", "providers.", "models.", "agents.", "gateway.transports.", "egresses."].contains(&prefix);
        for (name, value) in table {
            let path = format!("{prefix}{}", if free { "*" } else { name });
            match value {
                toml::Value::Table(inner) => walk(inner, &format!("{path}."), keys),
                _ => drop(keys.insert(path)),
            }
        }
    }
    let mut all = BTreeSet::new();
    walk(table, "", &mut all);
    all
}

#[test]
fn without_a_file_the_defaults_are_in_force() {
    let loaded = Fixture::empty().load();
    assert_eq!(loaded.config, Config::default());
    assert_eq!(loaded.file, None);
    assert_eq!(loaded.source_of("gateway.listen"), Source::Default);
    assert_eq!(config::check(&Config::default()), []);
}

#[test]
fn the_default_file_as_a_file_changes_nothing() {
    let empty = Fixture::empty().load();
    let copied = Fixture::file(DEFAULT_FILE).load();
    assert_eq!(copied.config, empty.config);
    assert_eq!(copied.digest, empty.digest);
}

#[test]
fn every_key_of_the_types_is_documented_and_no_other() {
    let text = everything();
    let documented = keys(&text.parse().expect("the default file with everything in it is TOML"));
    let config: Config = toml::from_str(&text).expect("the documented keys fit the types");
    let typed = keys(&toml::Table::try_from(&config).expect("a table"));
    assert_eq!(documented, typed);
    // The examples are also a configuration that is accepted: the schema knows every key, and no check refuses one.
    assert_eq!(Fixture::file(&text).load().config, config);
}

#[test]
fn every_documented_key_has_words() {
    let lines: Vec<&str> = DEFAULT_FILE.lines().collect();
    let mut explained = BTreeSet::new();
    let mut bare = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let text = line.strip_prefix("# ").unwrap_or(line);
        let Some((key, _)) = text.split_once(" = ").filter(|(key, _)| !key.contains(' ')) else { continue };
        let above = lines[..index].iter().rev().take_while(|line| !line.is_empty() && !line.starts_with('['));
        if above.into_iter().any(|line| line.starts_with("# ") && line.contains(' ')) {
            explained.insert(key);
        } else {
            bare.push(key);
        }
    }
    // A second table of the same kind, or a table whose words stand above its header, need not say it all again.
    bare.retain(|key| !explained.contains(key) && !["address", "ca"].contains(key));
    assert_eq!(bare, Vec::<&str>::new());
}

#[test]
fn the_contract() {
    let config = Config::default();
    assert_eq!(config.gateway.listen, "127.0.0.1:7411");
    assert_eq!(config.gateway.admin_listen, "127.0.0.1:7421");
    assert_eq!(config.auth.admin_listen, "127.0.0.1:7422");
    assert_eq!(config.router.admin_listen, "127.0.0.1:7423");
    assert_eq!(config.transport.admin_listen, "127.0.0.1:7424");
    assert_eq!(config.gateway.max_body_bytes, 64 * 1024 * 1024);
    assert_eq!(config.gateway.drain_seconds, 30);
    assert!(!config.gateway.allow_plaintext);
    assert_eq!(config.gateway.transports["local"].address, "in-process");
    assert_eq!(config.auth.identity_url, "https://auth.openai.com");
    assert_eq!(config.auth.refresh_margin, Seconds::new(300));
    assert_eq!(config.transport.name, "local");
    assert_eq!(config.transport.connect_timeout.duration(), Duration::from_secs(10));
    assert_eq!(config.transport.headers_timeout.duration(), Duration::from_secs(120));
    assert_eq!(config.transport.idle_timeout.duration(), Duration::from_secs(300));
    assert_eq!(config.defaults.model, "openai-codex/gpt-5.5");
    assert_eq!(config.defaults.fallbacks, Vec::<String>::new());
    assert_eq!(config.agents.keys().collect::<Vec<_>>(), ["main"]);
    assert_eq!(config.agents["main"], config::Agent::default());
    assert!(!config.tls.is_complete());
}

#[test]
fn the_built_in_tables() {
    let config = Config::default();
    let codex = Target {
        kind: TargetKind::ChatgptCodex,
        base_url: "https://chatgpt.com/backend-api/codex".into(),
        ..Target::default()
    };
    assert_eq!(codex.backend(), "https://chatgpt.com/backend-api");
    let platform =
        Target { kind: TargetKind::OpenaiApi, base_url: "https://api.openai.com/v1".into(), ..Target::default() };
    assert_eq!(
        config.targets.into_iter().collect::<Vec<_>>(),
        [("chatgpt-codex".to_owned(), codex), ("openai-api".to_owned(), platform)]
    );

    let openai = Provider { target: "openai-api".into(), ..Provider::default() };
    let openai_codex = Provider {
        aliases: vec!["codex".into(), "codex-cli".into()],
        target: "chatgpt-codex".into(),
        realm: Realm::Subscription,
        egress: None,
    };
    assert_eq!(
        config.providers.into_iter().collect::<Vec<_>>(),
        [("openai".to_owned(), openai), ("openai-codex".to_owned(), openai_codex)]
    );

    let input = || vec!["text".to_owned(), "image".to_owned()];
    assert_eq!(
        config.models["openai-codex/gpt-5.5"],
        Model {
            name: "GPT-5.5".into(),
            context_window: Some(272_000),
            max_output_tokens: Some(128_000),
            input: input()
        }
    );
    let names: Vec<_> = config.models.keys().collect();
    assert_eq!(names, ["openai-codex/gpt-5.4-mini", "openai-codex/gpt-5.5", "openai/gpt-5.5"]);
}

#[test]
fn the_backend_is_next_to_the_base_unless_it_is_named() {
    let target = |base_url: &str, backend_url: Option<&str>| Target {
        base_url: base_url.into(),
        backend_url: backend_url.map(Into::into),
        ..Target::default()
    };
    assert_eq!(target("http://127.0.0.1:9/x/codex", None).backend(), "http://127.0.0.1:9/x");
    assert_eq!(target("http://127.0.0.1:9/v1", None).backend(), "http://127.0.0.1:9/v1");
    assert_eq!(target("http://127.0.0.1:9/codex", Some("http://127.0.0.1:8")).backend(), "http://127.0.0.1:8");
}
