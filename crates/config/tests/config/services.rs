//! Limits, timeouts, the database, proxies.

use crate::{loaded, refused};

#[test]
fn numbers_that_cannot_be_meant() {
    insta::assert_snapshot!(refused(
        "[gateway]\nmax_body_bytes = 0\n[transport]\nconnect_timeout = 0\nheaders_timeout = '0s'\nidle_timeout = '0m'\n[auth]\nidentity_timeout = 0\nusage_probe_after = '0s'"), @r#"
    switchboard.toml:2: gateway.max_body_bytes = 0: expected bytes, from 1024 to 1073741824 (1 GiB); 67108864 (64 MiB) is the default
    switchboard.toml:4: transport.connect_timeout = 0: no call could finish in no time: expected at least "1s"
    switchboard.toml:5: transport.headers_timeout = 0: no call could finish in no time: expected at least "1s"
    switchboard.toml:6: transport.idle_timeout = 0: no call could finish in no time: expected at least "1s"
    switchboard.toml:8: auth.identity_timeout = 0: no refresh could finish in no time: expected at least "1s"
    switchboard.toml:9: auth.usage_probe_after = 0: the provider would be asked without a pause: expected at least "1s"
    "#);
    insta::assert_snapshot!(refused("[auth]\nmax_calls = 0\n[router]\nmax_calls = 0\n[transport]\nmax_calls = 0"), @r#"
    switchboard.toml:2: auth.max_calls = 0: nothing would ever be answered: expected at least 1
    switchboard.toml:4: router.max_calls = 0: nothing would ever be answered: expected at least 1
    switchboard.toml:6: transport.max_calls = 0: nothing would ever be sent: expected at least 1
    "#);
    insta::assert_snapshot!(refused("[gateway]\nmax_body_bytes = 68719476736"), @"switchboard.toml:2: gateway.max_body_bytes = 68719476736: expected bytes, from 1024 to 1073741824 (1 GiB); 67108864 (64 MiB) is the default");
    insta::assert_snapshot!(refused("[auth]\nidentity_timeout = '601s'"), @r#"switchboard.toml:2: auth.identity_timeout = 601s: calls would wait for it, and no other process takes a refresh over before twice that time: expected at most "10m""#);
    loaded("[auth]\nidentity_timeout = '10m'");
    loaded("[gateway]\ndrain_seconds = 0\n[auth]\nrefresh_margin = 0");
}

#[test]
fn the_database() {
    loaded("[auth]\ndatabase = 'sqlite:/var/lib/switchboard.db'");
    insta::assert_snapshot!(refused("[auth]\ndatabase = 'postgres://u:p@db/x'"), @r#"switchboard.toml:2: auth.database = "postgres://***@db/x": expected "sqlite:" and the path of the database file"#);
    insta::assert_snapshot!(refused("[auth]\ndatabase = '/var/lib/switchboard.db'"), @r#"switchboard.toml:2: auth.database = "/var/lib/switchboard.db": expected "sqlite:" and the path of the database file"#);
}

#[test]
fn proxies() {
    for proxy in ["http://proxy:3128", "https://u:p@proxy", "socks5://127.0.0.1:1080", "socks5h://proxy:1080"] {
        loaded(&format!("[transport]\nproxy = '{proxy}'"));
    }
    insta::assert_snapshot!(refused("[transport]\nproxy = 'proxy:3128'\n[auth]\nproxy = 'ftp://u:p@proxy'"), @r#"
    switchboard.toml:2: transport.proxy = "proxy:3128": expected the URL of a proxy, such as "http://host:3128" or "socks5h://host:1080"
    switchboard.toml:4: auth.proxy = "ftp://***@proxy": expected the URL of a proxy, such as "http://host:3128" or "socks5h://host:1080"
    "#);
}

#[test]
fn how_often_a_call_is_tried() {
    insta::assert_snapshot!(refused(
        "[gateway]\nmax_attempts = 0\nretry_percent = 101\ncircuit_failures = 0\ncircuit_open = 0"), @r#"
    switchboard.toml:2: gateway.max_attempts = 0: expected 1 to 20; 4 is the default
    switchboard.toml:3: gateway.retry_percent = 101: expected 0 to 100; 10 is the default
    switchboard.toml:4: gateway.circuit_failures = 0: nothing would ever be tried: expected 1 or more
    switchboard.toml:5: gateway.circuit_open = 0: what fails would be tried without a pause: expected at least "1s"
    "#);
    insta::assert_snapshot!(refused("[gateway]\ncircuit_open = '5m'"), @"switchboard.toml:2: gateway.circuit_open = 5m: longer than circuit_open_max, 1m");
}

#[test]
fn rules_name_egresses_that_are_there() {
    let home = "[gateway.transports.home]\naddress = 'unix:///run/home.sock'\nlabels = ['eu', 'quiet']\n";
    let good = loaded(&format!(
        "{home}[providers.openai]\negress.require = ['eu']\n[agents.main]\negress = {{ prefer = ['home', 'local'] }}"
    ));
    assert_eq!(
        good.providers["openai"].egress.as_ref().map(|rule| rule.require.as_slice()),
        Some(&["eu".to_owned()][..])
    );
    insta::assert_snapshot!(refused(&format!("{home}[providers.openai]\negress.require = ['us']\n[agents.main]\negress.prefer = ['hom']")), @r#"
    switchboard.toml:5: providers.openai.egress.require = "us": no egress has this name or label; there are home (eu, quiet), local
    switchboard.toml:7: agents.main.egress.prefer = "hom": no egress has this name or label; there are home (eu, quiet), local
    "#);
    insta::assert_snapshot!(refused("[gateway.transports.home]\naddress = 'unix:///x'\nlabels = ['local', 'E U']"), @r#"
    switchboard.toml:3: gateway.transports.home.labels = "local": another egress has this name: a rule could mean either
    switchboard.toml:3: gateway.transports.home.labels = "E U": a name is made of lower-case letters, digits and "-"
    "#);
}
