//! Ports and sockets.

use crate::{Fixture, loaded, refused};

#[test]
fn plaintext_stays_on_loopback() {
    for listen in ["127.0.0.1:0", "127.0.0.9:7411", "[::1]:7411", "localhost:7411"] {
        assert_eq!(loaded(&format!("[gateway]\nlisten = '{listen}'")).gateway.listen, listen);
    }
    insta::assert_snapshot!(refused(
        "[gateway]\nlisten = '0.0.0.0:7411'\nadmin_listen = '[::]:7421'\n[auth]\nadmin_listen='10.0.0.1:1'\n[router]\nadmin_listen='box:1'\n[transport]\nadmin_listen='0.0.0.0:1'"), @r#"
    switchboard.toml:2: gateway.listen = "0.0.0.0:7411": beyond loopback this port needs gateway.tls_cert and gateway.tls_key, or gateway.allow_plaintext = true where something else guards it
    switchboard.toml:3: gateway.admin_listen = "[::]:7421": beyond loopback this port needs gateway.allow_plaintext = true, where something else guards it
    switchboard.toml:5: auth.admin_listen = "10.0.0.1:1": beyond loopback this port needs gateway.allow_plaintext = true, where something else guards it
    switchboard.toml:7: router.admin_listen = "box:1": beyond loopback this port needs gateway.allow_plaintext = true, where something else guards it
    switchboard.toml:9: transport.admin_listen = "0.0.0.0:1": beyond loopback this port needs gateway.allow_plaintext = true, where something else guards it
    "#);
}

#[test]
fn plaintext_leaves_loopback_when_the_user_says_so() {
    let listen = "listen = '0.0.0.0:7411'\nadmin_listen = '0.0.0.0:7421'\n";
    loaded(&format!("[gateway]\n{listen}allow_plaintext = true"));
    loaded("[gateway]\nlisten = '0.0.0.0:7411'\ntls_cert = '/c'\ntls_key = '/k'");
    // Admin ports speak no TLS.
    insta::assert_snapshot!(
        refused("[gateway]\ntls_cert = '/c'\ntls_key = '/k'\nadmin_listen = '0.0.0.0:7421'"),
        @r#"switchboard.toml:4: gateway.admin_listen = "0.0.0.0:7421": beyond loopback this port needs gateway.allow_plaintext = true, where something else guards it"#
    );
    loaded("[gateway]\nallow_plaintext = true\n[auth]\nadmin_listen = '0.0.0.0:7422'");
}

#[test]
fn half_a_certificate() {
    insta::assert_snapshot!(refused("[gateway]\ntls_cert = '/c'\nlisten = '0.0.0.0:1'"), @r#"
    switchboard.toml:2: gateway.tls_cert: needs gateway.tls_key beside it
    switchboard.toml:3: gateway.listen = "0.0.0.0:1": beyond loopback this port needs gateway.tls_cert and gateway.tls_key, or gateway.allow_plaintext = true where something else guards it
    "#);
    insta::assert_snapshot!(refused("[gateway]\ntls_key = '/k'"), @"switchboard.toml:2: gateway.tls_key: needs gateway.tls_cert beside it");
}

#[test]
fn ports_that_are_none() {
    for listen in [
        "7411",
        ":7411",
        "127.0.0.1",
        "127.0.0.1:70000",
        "127.0.0.1:x",
        "http://127.0.0.1:7411",
        "::1:7411",
        "unix:///x",
    ] {
        let refused = refused(&format!("[gateway]\nlisten = '{listen}'"));
        assert_eq!(
            refused,
            format!(
                "switchboard.toml:2: gateway.listen = \"{listen}\": expected \"host:port\" with a port from 0 to 65535, such as \"127.0.0.1:7411\""
            )
        );
    }
}

#[test]
fn services_listen_on_sockets() {
    let config = loaded("[auth]\nlisten = 'unix:///run/a.sock'");
    assert_eq!(config.auth.listen.as_deref(), Some("unix:///run/a.sock"));
    insta::assert_snapshot!(refused(
        "[auth]\nlisten = '127.0.0.1:7412'\n[router]\nlisten = 'https://0.0.0.0:7413'\n[transport]\nlisten = 'unix://run/t.sock'"), @r#"
    switchboard.toml:2: auth.listen = "127.0.0.1:7412": TCP between services needs mutual TLS: set [tls] ca, cert, key, or use "unix:///absolute/path"
    switchboard.toml:4: router.listen = "https://0.0.0.0:7413": TCP between services needs mutual TLS: set [tls] ca, cert, key, or use "unix:///absolute/path"
    switchboard.toml:6: transport.listen = "unix://run/t.sock": expected "unix:///absolute/path", with three slashes
    "#);
    insta::assert_snapshot!(refused("[auth]\nlisten = 'http://h:1'\n[router]\nlisten = '/run/r.sock'\n[transport]\nlisten='unix:/t'"), @r#"
    switchboard.toml:2: auth.listen = "http://h:1": expected "unix:///absolute/path", or "host:port" with [tls] ca, cert, key
    switchboard.toml:4: router.listen = "/run/r.sock": expected "unix:///absolute/path", or "host:port" with [tls] ca, cert, key
    switchboard.toml:6: transport.listen = "unix:/t": expected "unix:///absolute/path", with three slashes
    "#);
}

const TLS: &str = "[tls]\nca = '/ca'\ncert = '/cert'\nkey = '/key'\n";

#[test]
fn services_listen_on_tcp_with_mutual_tls_only() {
    let config = loaded(&format!("{TLS}[auth]\nlisten = '0.0.0.0:7412'\n[router]\nlisten = 'https://0.0.0.0:7413'"));
    assert!(config.tls.is_complete());
    insta::assert_snapshot!(refused("[tls]\ncert = '/cert'\n[auth]\nlisten = '0.0.0.0:7412'"), @r#"
    switchboard.toml:2: tls.cert: mutual TLS takes [tls] ca, cert, key together; missing: tls.ca, tls.key
    switchboard.toml:4: auth.listen = "0.0.0.0:7412": TCP between services needs mutual TLS: set [tls] ca, cert, key, or use "unix:///absolute/path"
    "#);
    insta::assert_snapshot!(refused("[tls]\nca = '/ca'\nkey = '/key'"), @"switchboard.toml:2: tls.ca: mutual TLS takes [tls] ca, cert, key together; missing: tls.cert");
}

#[test]
fn peers_are_sockets_or_mutual_tls() {
    loaded("[gateway]\nrouter = 'unix:///r'\nauth = 'unix:///a'\ntransports.east.address = 'unix:///t'");
    loaded(&format!("{TLS}[gateway]\nrouter = 'https://box:7413'\ntransports.east.address = 'https://[fd00::1]:7414'"));
    insta::assert_snapshot!(refused(
        r"[gateway]
        router = 'in-process'
        auth = 'https://box:7412'
        [gateway.transports]
        local.address = 'http://127.0.0.1:7414'
        east.address = '127.0.0.1:7414'
        west.address = 'unix:t.sock'
        north.address = 'https://box:7414/path'"), @r#"
    switchboard.toml:2: gateway.router = "in-process": expected "unix:///absolute/path", or "https://host:port" with [tls] ca, cert, key
    switchboard.toml:3: gateway.auth = "https://box:7412": TCP between services needs mutual TLS: set [tls] ca, cert, key, or use "unix:///absolute/path"
    switchboard.toml:5: gateway.transports.local.address = "http://127.0.0.1:7414": expected "in-process", "unix:///absolute/path", or "https://host:port" with [tls] ca, cert, key
    switchboard.toml:6: gateway.transports.east.address = "127.0.0.1:7414": expected "in-process", "unix:///absolute/path", or "https://host:port" with [tls] ca, cert, key
    switchboard.toml:7: gateway.transports.west.address = "unix:t.sock": expected "unix:///absolute/path", with three slashes
    switchboard.toml:8: gateway.transports.north.address = "https://box:7414/path": expected "in-process", "unix:///absolute/path", or "https://host:port" with [tls] ca, cert, key
    "#);
}

#[test]
fn the_place_of_a_listener_may_be_a_variable() {
    let fixture = Fixture::empty().env("SWITCHBOARD__AUTH__LISTEN", "0.0.0.0:7412");
    insta::assert_snapshot!(fixture.refused(), @r#"SWITCHBOARD__AUTH__LISTEN: auth.listen = "0.0.0.0:7412": TCP between services needs mutual TLS: set [tls] ca, cert, key, or use "unix:///absolute/path""#);
}

/// Operators elsewhere are let in by their certificate, or not at all.
#[test]
fn the_gateways_port_for_operators_speaks_mutual_tls() {
    insta::assert_snapshot!(
        refused("[gateway]\ncontrol_listen = '10.0.0.1:7415'"),
        @r#"switchboard.toml:2: gateway.control_listen = "10.0.0.1:7415": TCP between services needs mutual TLS: set [tls] ca, cert, key, or use "unix:///absolute/path""#
    );
    loaded("[gateway]\ncontrol_listen = '10.0.0.1:7415'\n[tls]\nca = '/a'\ncert = '/c'\nkey = '/k'");
}
