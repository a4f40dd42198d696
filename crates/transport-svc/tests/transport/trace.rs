//! Spans, and calls over a socket.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use proto::transport::v1::RespondRequest;
use proto::transport::v1::transport_service_client::TransportServiceClient;
use service_kit::{Bound, ListenAddress, MAX_MESSAGE_BYTES, PeerChannel, ServeOptions, serve};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::harness::{ACCOUNT, Bench, CODEX, HELLO, custom, eventually};

#[tokio::test]
async fn the_upstream_request_is_a_span_of_the_callers_trace() {
    // Fails only where another test of this process was first, and then spans have ids all the same.
    let _ = telemetry::init("transport-svc", telemetry::LogFormat::Text, "off");
    let mut bench = Bench::new(codex_sim::SimConfig::default(), |sim, config| {
        custom(config, "own", &sim.openai_base_url());
    })
    .await;
    let span = tracing::info_span!(target: "hop", "test");
    let trace = telemetry::trace_id(&span).expect("a trace id");
    let answer = bench.bench.call(CODEX, HELLO).instrument(span.clone()).await;
    assert_eq!(answer.outcome.span_id.len(), 16, "{:?}", answer.outcome);
    assert_eq!(bench.last().header("traceparent"), None, "the provider is not part of the trace");

    bench.sim.state().add_api_key("sk-test-1");
    bench.bench.token = "sk-test-1".into();
    let answer = bench.bench.call("own", HELLO).instrument(span).await;
    // Nobody records here, and so it says.
    let expected = format!("00-{trace}-{}-00", answer.outcome.span_id);
    assert_eq!(bench.last().header("traceparent"), Some(expected.as_str()));
}

#[tokio::test]
async fn large_bodies_and_departures_cross_a_socket() {
    let bench = Bench::plain().await;
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("transport.sock");
    let listener = Bound::bind(&ListenAddress::Unix(path.clone())).await.expect("bound");
    let router = bench.bench.service.mounted().listenable().await.expect("a router");
    let stop = CancellationToken::new();
    let options = ServeOptions { drain: Duration::from_secs(1), ..ServeOptions::default() };
    let client = async {
        let channel = PeerChannel::unix("transport-svc", &path);
        let mut client = TransportServiceClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);

        let body = format!(r#"{{"input":"{}"}}"#, "x".repeat(6 * 1024 * 1024));
        let request = RespondRequest { body: Bytes::from(body), ..bench.bench.request(CODEX, "", &[]) };
        let mut stream = client.respond(request).await.expect("a stream").into_inner();
        let mut messages = 0;
        while stream.message().await.expect("a message").is_some() {
            messages += 1;
        }
        assert!(messages > 2);
        assert!(bench.last().decoded_bytes > 6 * 1024 * 1024);

        bench.sim.state().set_scenario(ACCOUNT, "long:100000:16:20".parse().ok());
        let mut stream = client.respond(bench.bench.request(CODEX, HELLO, &[])).await.expect("a stream").into_inner();
        for _ in 0..3 {
            stream.message().await.expect("a message");
        }
        drop(stream);
        let took = eventually("the client goes", || bench.last().client_gone()).await;
        assert!(took < Duration::from_secs(1), "{took:?}");
        stop.cancel();
    };
    tokio::join!(serve(router, listener, options, stop.clone()), client);
}

#[tokio::test]
async fn many_streams_do_not_wait_for_each_other() {
    let config = codex_sim::SimConfig {
        tls: Some(codex_sim::TlsMode::Only),
        max_concurrent_streams: Some(60),
        ..codex_sim::SimConfig::default()
    };
    // A hundred handshakes take their time on a busy machine, and no call may end by itself meanwhile.
    let bench = Bench::new(config, |_, config| {
        let patient = config::Seconds::new(120);
        config.transport.connect_timeout = patient;
        config.transport.headers_timeout = patient;
        config.transport.idle_timeout = patient;
    })
    .await;
    assert_eq!(bench.bench.call(CODEX, HELLO).await.reason(), None);
    bench.sim.state().set_scenario(ACCOUNT, "silence:3".parse().ok());
    let calls = join_all((0..150).map(|_| bench.bench.call(CODEX, HELLO)));
    let open = async {
        while bench.sim.state().open_streams() < 150 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    // All are open at once, although one connection takes 60; none ends by itself.
    tokio::select! {
        () = open => {}
        _ = calls => panic!("the calls ended before all were open"),
    }
    eventually("all go", || bench.sim.state().open_streams() == 0).await;
}

#[tokio::test]
async fn callers_that_stop_reading_do_not_stop_the_others() {
    let bench = Bench::tls().await;
    assert_eq!(bench.bench.call(CODEX, HELLO).await.reason(), None);
    bench.sim.state().set_scenario(ACCOUNT, "long:2000:1000:0".parse().ok());
    let mut stopped = Vec::new();
    for _ in 0..12 {
        let mut stream = bench.bench.open(bench.bench.request(CODEX, HELLO, &[])).await.expect("a stream");
        stream.message().await.expect("a head");
        stopped.push(stream);
    }
    // Time for what the windows let through.
    tokio::time::sleep(Duration::from_millis(500)).await;
    bench.sim.state().set_scenario(ACCOUNT, None);
    let call = tokio::time::timeout(Duration::from_secs(5), bench.bench.call(CODEX, HELLO)).await;
    assert_eq!(call.expect("in time").reason(), None);
}
