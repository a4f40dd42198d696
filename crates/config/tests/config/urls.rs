//! Where calls and logins may go.

use crate::{Fixture, loaded, refused};

fn codex(base_url: &str) -> String {
    refused(&format!("[targets.chatgpt-codex]\nbase_url = '{base_url}'"))
}

fn custom(base_url: &str) -> String {
    format!("[targets.mine]\nkind = 'custom'\nbase_url = '{base_url}'")
}

#[test]
fn the_path_on_chatgpt_is_fixed() {
    insta::assert_snapshot!(codex("https://chatgpt.com/backend-api"), @r#"switchboard.toml:2: targets.chatgpt-codex.base_url = "https://chatgpt.com/backend-api": any other path on chatgpt.com is answered with an HTML 403 page that looks like a login problem and is none; use "https://chatgpt.com/backend-api/codex""#);
    let expected = codex("https://chatgpt.com/backend-api").split_once("\": ").expect("a message").1.to_owned();
    for wrong in [
        "https://chatgpt.com",
        "https://chatgpt.com/backend-api/",
        "https://chatgpt.com/backend-api/v1",
        "https://chatgpt.com/backend-api/codex/v1",
        "https://chatgpt.com/backend-api/codex/responses",
        "https://chatgpt.com/backend-api/codex//",
        "https://chatgpt.com/Backend-API/Codex",
        "https://chatgpt.com/backend-api/%63odex",
        "https://chatgpt.com/v1",
        "https://CHATGPT.com/backend-api",
        "https://chatgpt.com./backend-api",
        "https://chatgpt.com:8443/backend-api/codex",
        "http://chatgpt.com/backend-api",
    ] {
        assert!(codex(wrong).ends_with(&expected), "{wrong}: {}", codex(wrong));
    }
    insta::assert_snapshot!(codex("https://www.chatgpt.com/backend-api"), @r#"switchboard.toml:2: targets.chatgpt-codex.base_url = "https://www.chatgpt.com/backend-api": any other path on www.chatgpt.com is answered with an HTML 403 page that looks like a login problem and is none; use "https://chatgpt.com/backend-api/codex""#);
    insta::assert_snapshot!(codex("https://chat.openai.com/backend-api"), @r#"switchboard.toml:2: targets.chatgpt-codex.base_url = "https://chat.openai.com/backend-api": any other path on chat.openai.com is answered with an HTML 403 page that looks like a login problem and is none; use "https://chatgpt.com/backend-api/codex""#);
    insta::assert_snapshot!(codex("http://chatgpt.com/backend-api/codex"), @r#"switchboard.toml:2: targets.chatgpt-codex.base_url = "http://chatgpt.com/backend-api/codex": plain http is for loopback only (127.0.0.0/8, ::1, localhost); use https"#);
}

#[test]
fn the_path_on_chatgpt_is_fixed_wherever_it_is_said() {
    let fixture = Fixture::empty()
        .env("SWITCHBOARD__TARGETS__CHATGPT_CODEX__BASE_URL", "https://chatgpt.com/backend-api")
        .flag("targets.openai-api.base_url", "https://api.openai.com");
    insta::assert_snapshot!(fixture.refused(), @r#"
    SWITCHBOARD__TARGETS__CHATGPT_CODEX__BASE_URL: targets.chatgpt-codex.base_url = "https://chatgpt.com/backend-api": any other path on chatgpt.com is answered with an HTML 403 page that looks like a login problem and is none; use "https://chatgpt.com/backend-api/codex"
    command line: targets.openai-api.base_url = "https://api.openai.com": the API of api.openai.com stands below /v1; use "https://api.openai.com/v1"
    "#);
}

#[test]
fn only_the_codex_target_is_on_chatgpt() {
    insta::assert_snapshot!(refused(&custom("https://chatgpt.com/backend-api/codex")), @r#"switchboard.toml:3: targets.mine.base_url = "https://chatgpt.com/backend-api/codex": chatgpt.com is reached only through the target chatgpt-codex (https://chatgpt.com/backend-api/codex): give the provider target = "chatgpt-codex""#);
    insta::assert_snapshot!(refused("[targets.openai-api]\nbase_url = 'https://chatgpt.com/backend-api/codex'"), @r#"switchboard.toml:2: targets.openai-api.base_url = "https://chatgpt.com/backend-api/codex": chatgpt.com is reached only through the target chatgpt-codex (https://chatgpt.com/backend-api/codex): give the provider target = "chatgpt-codex""#);
}

#[test]
fn the_path_on_the_platform_is_fixed() {
    insta::assert_snapshot!(refused("[targets.openai-api]\nbase_url = 'https://api.openai.com/'"), @r#"switchboard.toml:2: targets.openai-api.base_url = "https://api.openai.com/": the API of api.openai.com stands below /v1; use "https://api.openai.com/v1""#);
    insta::assert_snapshot!(refused(&custom("https://eu.api.openai.com/v1/responses")), @r#"switchboard.toml:3: targets.mine.base_url = "https://eu.api.openai.com/v1/responses": the API of eu.api.openai.com stands below /v1; use "https://eu.api.openai.com/v1""#);
    insta::assert_snapshot!(codex("https://api.openai.com/v1"), @r#"switchboard.toml:2: targets.chatgpt-codex.base_url = "https://api.openai.com/v1": api.openai.com takes API keys, not subscriptions: that is the target openai-api; here use "https://chatgpt.com/backend-api/codex""#);
    loaded("[targets.openai-api]\nbase_url = 'https://eu.api.openai.com/v1/'");
    loaded(&custom("https://api.openai.com/v1"));
}

#[test]
fn loopback_takes_anything() {
    for url in ["http://127.0.0.1:8080", "http://127.1.2.3/backend-api", "http://[::1]:1/x", "https://localhost:1/a/b"]
    {
        let config = loaded(&format!(
            "[targets.chatgpt-codex]\nbase_url = '{url}'\nbackend_url = '{url}'\n[targets.openai-api]\nbase_url = '{url}'\n[auth]\nidentity_url = '{url}'\n{}",
            custom(url)
        ));
        assert_eq!(config.targets["mine"].base_url, url);
    }
}

#[test]
fn plain_http_stays_on_loopback() {
    insta::assert_snapshot!(refused(
        r"[auth]
        identity_url = 'http://auth.example'
        [targets.chatgpt-codex]
        base_url = 'http://10.0.0.1/backend-api/codex'
        backend_url = 'http://localhost.example'
        [targets.mine]
        kind = 'custom'
        base_url = 'http://model.local:8080/v1'"), @r#"
    switchboard.toml:2: auth.identity_url = "http://auth.example": plain http is for loopback only (127.0.0.0/8, ::1, localhost); use https
    switchboard.toml:4: targets.chatgpt-codex.base_url = "http://10.0.0.1/backend-api/codex": plain http is for loopback only (127.0.0.0/8, ::1, localhost); use https
    switchboard.toml:5: targets.chatgpt-codex.backend_url = "http://localhost.example": plain http is for loopback only (127.0.0.0/8, ::1, localhost); use https
    switchboard.toml:8: targets.mine.base_url = "http://model.local:8080/v1": plain http is for loopback only (127.0.0.0/8, ::1, localhost); use https
    "#);
    for url in ["http://127.0.0.1.example", "http://0.0.0.0:1", "http://[::ffff:10.0.0.1]", "http://localhost.:1"] {
        assert!(refused(&custom(url)).contains("plain http"), "{url}");
    }
}

#[test]
fn urls_hold_nothing_else() {
    insta::assert_snapshot!(codex("https://me:pass@proxy.example/codex"), @r#"switchboard.toml:2: targets.chatgpt-codex.base_url = "https://***@proxy.example/codex": a URL here holds no credentials; expected one such as "https://chatgpt.com/backend-api/codex""#);
    insta::assert_snapshot!(codex("https://proxy.example/codex?key=1"), @r#"switchboard.toml:2: targets.chatgpt-codex.base_url = "https://proxy.example/codex?***": a URL here has no query and no fragment; expected one such as "https://chatgpt.com/backend-api/codex""#);
    insta::assert_snapshot!(codex("https://proxy.example/codex#x"), @r#"switchboard.toml:2: targets.chatgpt-codex.base_url = "https://proxy.example/codex?***": a URL here has no query and no fragment; expected one such as "https://chatgpt.com/backend-api/codex""#);
    insta::assert_snapshot!(codex("ftp://proxy.example/codex"), @r#"switchboard.toml:2: targets.chatgpt-codex.base_url = "ftp://proxy.example/codex": neither an http nor an https URL; expected one such as "https://chatgpt.com/backend-api/codex""#);
    insta::assert_snapshot!(codex("proxy.example/codex"), @r#"switchboard.toml:2: targets.chatgpt-codex.base_url = "proxy.example/codex": not a URL; expected one such as "https://chatgpt.com/backend-api/codex""#);
    insta::assert_snapshot!(refused(&custom("localhost:8080/v1")), @r#"switchboard.toml:3: targets.mine.base_url = "localhost:8080/v1": neither an http nor an https URL; expected one such as "https://host/v1""#);
}

#[test]
fn the_account_endpoints() {
    let elsewhere = refused("[targets.openai-api]\nbackend_url = 'https://chatgpt.com/backend-api'");
    assert!(elsewhere.contains("only through the target chatgpt-codex"), "{elsewhere}");
    insta::assert_snapshot!(refused("[targets.chatgpt-codex]\nbackend_url = 'https://chatgpt.com/backend-api/codex'"), @r#"switchboard.toml:2: targets.chatgpt-codex.backend_url = "https://chatgpt.com/backend-api/codex": the account endpoints of chatgpt.com stand below /backend-api; use "https://chatgpt.com/backend-api""#);
}

#[test]
fn the_identity_provider() {
    insta::assert_snapshot!(refused("[auth]\nidentity_url = 'https://auth.openai.com/oauth/token'"), @r#"switchboard.toml:2: auth.identity_url = "https://auth.openai.com/oauth/token": the paths of auth.openai.com are added to it; use "https://auth.openai.com""#);
    insta::assert_snapshot!(refused("[auth]\nidentity_url = 'auth.openai.com'"), @r#"switchboard.toml:2: auth.identity_url = "auth.openai.com": not a URL; expected one such as "https://auth.openai.com""#);
}

#[test]
fn a_proxy_of_ones_own_may_be_the_codex_target() {
    let config = loaded("[targets.chatgpt-codex]\nbase_url = 'https://relay.example/chatgpt/codex/'");
    assert_eq!(config.targets["chatgpt-codex"].backend(), "https://relay.example/chatgpt");
}

#[test]
fn origins_of_workspaces() {
    loaded("[targets.chatgpt-codex]\nworkspace_origins = ['https://eu.example.com', 'http://127.0.0.1:9']");
    for (origins, why) in [
        ("['https://eu.example.com/backend-api']", "an origin has no path"),
        ("['http://eu.example.com']", "https"),
        ("['eu.example.com']", "not a URL"),
    ] {
        let told = refused(&format!("[targets.chatgpt-codex]\nworkspace_origins = {origins}"));
        assert!(told.contains("targets.chatgpt-codex.workspace_origins") && told.contains(why), "{told}");
    }
    let told = refused("[targets.openai-api]\nworkspace_origins = ['https://eu.example.com']");
    assert!(told.contains("only accounts of the target chatgpt-codex"), "{told}");
}
