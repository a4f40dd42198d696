//! Targets, providers, models and agents.

use config::TargetKind;

use crate::{Fixture, loaded, refused};

const CUSTOM: &str = "[targets.mine]\nkind = 'custom'\nbase_url = 'http://127.0.0.1:1/v1'\n";

#[test]
fn a_server_of_ones_own() {
    let config = loaded(&format!(
        "{CUSTOM}[providers.mine]\naliases = ['m']\ntarget = 'mine'\nrealm = 'api-key'\n[models.'mine/llama']\n[agents.x]\nmodel = 'm/llama'\nallowed = ['m/*', 'mine/llama', 'gpt-5.5']"
    ));
    assert_eq!(config.targets["mine"].kind, TargetKind::Custom);
    assert_eq!(config.targets["mine"].originator, "switchboard");
}

#[test]
fn the_set_of_targets_is_closed() {
    insta::assert_snapshot!(refused(
        r"[targets.chatgpt_codex]
        base_url = 'https://chatgpt.com/backend-api/codex'
        [targets.chatgpt-codex]
        kind = 'custom'
        [targets.second]
        kind = 'chatgpt-codex'
        base_url = 'https://chatgpt.com/backend-api/codex'"), @r#"
    switchboard.toml:1: targets.chatgpt_codex.kind: missing: the built-in targets are chatgpt-codex and openai-api; a server of your own needs kind = "custom"
    switchboard.toml:1: targets.chatgpt_codex = "chatgpt_codex": a name is made of lower-case letters, digits and "-"
    switchboard.toml:2: targets.chatgpt_codex.base_url = "https://chatgpt.com/backend-api/codex": chatgpt.com is reached only through the target chatgpt-codex (https://chatgpt.com/backend-api/codex): give the provider target = "chatgpt-codex"
    switchboard.toml:4: targets.chatgpt-codex.kind = "custom": chatgpt-codex is built in; leave its kind out, and give a server of your own another name
    switchboard.toml:6: targets.second.kind = "chatgpt-codex": the targets of the built-in kinds are chatgpt-codex and openai-api; second can only be of kind "custom"
    switchboard.toml:7: targets.second.base_url = "https://chatgpt.com/backend-api/codex": chatgpt.com is reached only through the target chatgpt-codex (https://chatgpt.com/backend-api/codex): give the provider target = "chatgpt-codex"
    "#);
}

#[test]
fn only_the_responses_api_is_spoken() {
    for api in ["openai-responses", "openai-codex-responses", "openai-chatgpt-responses"] {
        loaded(&format!("[targets.chatgpt-codex]\napi = '{api}'"));
    }
    loaded(&format!("{CUSTOM}api = 'openai-responses'"));
    insta::assert_snapshot!(refused("[targets.chatgpt-codex]\napi = 'anthropic-messages'"), @r#"switchboard.toml:2: targets.chatgpt-codex.api = "anthropic-messages": only the Responses API is spoken to chatgpt-codex; use "openai-responses" or leave the key out"#);
    insta::assert_snapshot!(refused(&format!("{CUSTOM}api = 'openai-completions'\n[targets.openai-api]\napi = 'openai-codex-responses'")), @r#"
    switchboard.toml:4: targets.mine.api = "openai-completions": only the Responses API is spoken to mine; use "openai-responses" or leave the key out
    switchboard.toml:6: targets.openai-api.api = "openai-codex-responses": only the Responses API is spoken to openai-api; use "openai-responses" or leave the key out
    "#);
}

#[test]
fn what_becomes_a_header() {
    insta::assert_snapshot!(refused("[targets.openai-api]\noriginator = \"a\\nb\"\nuser_agent = 'ü'\nversion = ' '"), @r#"
    switchboard.toml:2: targets.openai-api.originator = "a\nb": sent as a header: expected printable ASCII
    switchboard.toml:3: targets.openai-api.user_agent = "ü": sent as a header: expected printable ASCII
    switchboard.toml:4: targets.openai-api.version = " ": sent as a header: expected printable ASCII
    "#);
}

#[test]
fn subscriptions_bind_to_the_codex_target_alone() {
    insta::assert_snapshot!(refused(&format!("{CUSTOM}[providers.mine]\ntarget = 'mine'\nrealm = 'subscription'")), @r#"switchboard.toml:6: providers.mine.realm = "subscription": subscription credentials bind only to the target chatgpt-codex; with mine use realm = "api-key""#);
    insta::assert_snapshot!(refused("[providers.other]\ntarget = 'chatgpt-codex'\nrealm = 'api-key'"), @r#"switchboard.toml:3: providers.other.realm = "api-key": the target chatgpt-codex takes subscription credentials only: use realm = "subscription", or target = "openai-api" for API keys"#);
    // The value that the user wrote is the one named, whichever of the two it is.
    insta::assert_snapshot!(refused("[providers.openai-codex]\ntarget = 'openai-api'"), @r#"switchboard.toml:2: providers.openai-codex.target = "openai-api": subscription credentials bind only to the target chatgpt-codex; with openai-api use realm = "api-key""#);
    insta::assert_snapshot!(refused("[providers.openai-codex]\nrealm = 'api-key'"), @r#"switchboard.toml:2: providers.openai-codex.realm = "api-key": the target chatgpt-codex takes subscription credentials only: use realm = "subscription", or target = "openai-api" for API keys"#);
    insta::assert_snapshot!(Fixture::empty().env("SWITCHBOARD__PROVIDERS__OPENAI__TARGET", "chatgpt-codex").refused(), @r#"SWITCHBOARD__PROVIDERS__OPENAI__TARGET: providers.openai.target = "chatgpt-codex": the target chatgpt-codex takes subscription credentials only: use realm = "subscription", or target = "openai-api" for API keys"#);
}

#[test]
fn a_provider_names_a_target() {
    insta::assert_snapshot!(refused("[providers.openai]\ntarget = 'openai'"), @r#"switchboard.toml:2: providers.openai.target = "openai": no such target; there are chatgpt-codex, openai-api"#);
}

#[test]
fn a_prefix_means_one_provider() {
    insta::assert_snapshot!(refused("[providers.openai]\naliases = ['codex', 'openai', 'x', 'x', 'openai-codex']"), @r#"
    switchboard.toml:2: providers.openai.aliases = "openai": already a name of provider openai: a prefix means one provider
    switchboard.toml:2: providers.openai.aliases = "x": already a name of provider openai: a prefix means one provider
    switchboard.toml:2: providers.openai.aliases = "openai-codex": already a name of provider openai-codex: a prefix means one provider
    switchboard.toml:2: providers.openai.aliases = "codex": already a name of provider openai-codex: a prefix means one provider
    "#);
    insta::assert_snapshot!(refused("\n[providers.codex]\ntarget = 'openai-api'\nrealm = 'api-key'"), @"switchboard.toml:2: providers.codex: already a name of provider openai-codex: a prefix means one provider");
}

#[test]
fn names_are_plain() {
    insta::assert_snapshot!(refused(
        r"[gateway.transports.'East 1']
        address = 'unix:///x'
        [targets.My_Box]
        kind = 'custom'
        base_url = 'http://127.0.0.1:1'
        [providers.Mine]
        target = 'openai-api'
        realm = 'api-key'
        aliases = ['a/b']"), @r#"
    switchboard.toml:1: gateway.transports."East 1" = "East 1": a name is made of lower-case letters, digits and "-"
    switchboard.toml:3: targets.My_Box = "My_Box": a name is made of lower-case letters, digits and "-"
    switchboard.toml:6: providers.Mine = "Mine": a name is made of lower-case letters, digits and "-"
    switchboard.toml:9: providers.Mine.aliases = "a/b": a name is made of lower-case letters, digits and "-"
    "#);
}

#[test]
fn models_name_their_provider() {
    insta::assert_snapshot!(refused("[models.'gpt-6']\n[models.'codex/gpt-6']\n[models.'openai/']\n[models.'nope/x']"), @r#"
    switchboard.toml:1: models.gpt-6: expected "provider/model" with a provider of openai, openai-codex
    switchboard.toml:2: models."codex/gpt-6": expected "provider/model" with a provider of openai, openai-codex
    switchboard.toml:3: models."openai/": expected "provider/model" with a provider of openai, openai-codex
    switchboard.toml:4: models."nope/x": expected "provider/model" with a provider of openai, openai-codex
    "#);
}

#[test]
fn references_name_a_known_provider() {
    insta::assert_snapshot!(refused(
        r"[defaults]
        model = 'gpt-5.5'
        fallbacks = ['opena/gpt-5.5', 'gpt-5.5', 'openai/', 'openai/*']
        [agents.main]
        model = 'azure/gpt-5.5'
        fallbacks = ['openai/gpt 5']
        allowed = ['*', 'codx/*', 'openai/gpt-*', 'openai/*']"), @r#"
    switchboard.toml:2: defaults.model = "gpt-5.5": the default model names its provider: "provider/gpt-5.5", the providers are openai, openai-codex, codex, codex-cli
    switchboard.toml:3: defaults.fallbacks = "opena/gpt-5.5": no provider "opena"; the nearest is "openai"; the providers are openai, openai-codex, codex, codex-cli
    switchboard.toml:3: defaults.fallbacks = "openai/": expected "provider/model" or a model name
    switchboard.toml:3: defaults.fallbacks = "openai/*": a pattern can only be "provider/*" in an agent's `allowed`
    switchboard.toml:5: agents.main.model = "azure/gpt-5.5": no provider "azure"; the providers are openai, openai-codex, codex, codex-cli
    switchboard.toml:6: agents.main.fallbacks = "openai/gpt 5": expected "provider/model" or a model name
    switchboard.toml:7: agents.main.allowed = "*": to allow every model, leave the key out
    switchboard.toml:7: agents.main.allowed = "codx/*": no provider "codx"; the nearest is "codex"; the providers are openai, openai-codex, codex, codex-cli
    switchboard.toml:7: agents.main.allowed = "openai/gpt-*": a pattern can only be "provider/*" in an agent's `allowed`
    "#);
    loaded("[defaults]\nmodel = 'codex-cli/gpt-5.5'\nfallbacks = ['gpt-5.4-mini', 'openai/org/model:1']");
}
