//! Networks that do not let a call out, and settings that cannot work.

use codex_sim::{SimConfig, TlsMode};
use config::Config;
use domain::{Clock, Reason};
use proto::transport::v1::Sent;
use service_kit::{DataDir, SealKey};
use tokio::net::TcpListener;
use transport_svc::{TransportOptions, build};

use crate::harness::{Bench, CODEX, HELLO, Service, custom};

#[tokio::test]
async fn what_does_not_connect_is_told_apart_and_was_not_sent() {
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        listener.local_addr().expect("an address")
    };
    let untrusted = Bench::new(SimConfig { tls: Some(TlsMode::Only), ..SimConfig::default() }, |_, _| {}).await;
    let service = Service::new(|config| {
        custom(config, "refused", &format!("http://{closed}/v1"));
        custom(config, "no-name", "https://no-such-host.invalid/v1");
        custom(config, "tls", &format!("{}/v1", untrusted.sim.base_url()));
    });
    for (target, text) in [("refused", "refused"), ("no-name", "cannot be resolved"), ("tls", "TLS failed")] {
        let answer = service.call(target, HELLO).await;
        let failure = answer.failure();
        assert_eq!((failure.reason, answer.outcome.sent()), (Reason::EgressUnreachable, Sent::NotSent), "{target}");
        assert!(failure.message.contains(text), "{target}: {}", failure.message);
        assert_eq!(failure.service, "transport-svc");
        assert_eq!(answer.outcome.timings.and_then(|t| t.sent_us), None, "{target}");
    }
}

#[tokio::test]
async fn a_proxy_that_cannot_be_used_is_named_without_its_password() {
    let service = Service::new(|config| {
        config.transport.proxy = Some("http://user:hunter2@127.0.0.1:9".into());
    });
    let answer = service.call(CODEX, HELLO).await;
    let failure = answer.failure();
    assert_eq!((failure.reason, answer.outcome.sent()), (Reason::EgressUnreachable, Sent::NotSent));
    assert!(failure.message.ends_with("(http://***@127.0.0.1:9)"), "{}", failure.message);
    assert!(failure.message.contains("proxy") && !failure.message.contains("hunter2"), "{}", failure.message);
}

#[tokio::test]
async fn loopback_is_reached_without_the_proxy() {
    let bench =
        Bench::new(SimConfig::default(), |_, config| config.transport.proxy = Some("http://127.0.0.1:9".into())).await;
    assert_eq!(bench.bench.call(CODEX, HELLO).await.reason(), None);
}

#[test]
fn settings_that_cannot_work_are_found_at_the_start() {
    let dir = tempfile::tempdir().expect("a directory");
    let data_dir = DataDir::open(&dir.path().join("data"), true).expect("a data directory");
    let error = |key: Option<SealKey>, change: &dyn Fn(&mut Config)| {
        let mut config = Config::default();
        change(&mut config);
        let options = TransportOptions { config: &config, seal_key: key, data_dir: &data_dir, clock: Clock::system() };
        build(options).expect_err("a bad setting")
    };
    let key = || Some(SealKey::generate().expect("random"));
    let pem = dir.path().join("ca.pem");
    std::fs::write(&pem, "nothing").expect("written");
    let seal = data_dir.file("seal.key").display().to_string();
    for (error, text) in [
        (error(None, &|_| {}), seal.as_str()),
        (error(key(), &|c| c.transport.ca_file = Some("/nonexistent.pem".into())), "/nonexistent.pem"),
        (error(key(), &|c| c.transport.ca_file = Some(pem.clone())), "no PEM certificate"),
        (error(key(), &|c| c.transport.proxy = Some("ftp://u:hunter2@x".into())), "[transport] proxy"),
        (
            error(key(), &|c| c.targets.get_mut(CODEX).expect("built in").base_url = "http://example.com/x".into()),
            "[targets.chatgpt-codex] base_url",
        ),
    ] {
        assert!(error.is_configuration(), "{error}");
        assert!(error.to_string().contains(text) && !error.to_string().contains("hunter2"), "{error}");
    }
}
