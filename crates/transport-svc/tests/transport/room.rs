//! More request bodies than there is room for.

use std::sync::Arc;

use bytes::Bytes;
use domain::{Failure, Reason};
use proto::transport::v1::transport_service_client::TransportServiceClient;
use proto::transport::v1::{RespondRequest, RespondResponse};
use service_kit::{Bound, ListenAddress, MAX_MESSAGE_BYTES, PeerChannel, ServeOptions, failure_from_status, serve};
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Streaming;

use crate::harness::{ACCOUNT, Bench, CODEX, HELLO, Service, custom};

/// Bytes of a large body: more than the kernel takes of it for a server that does not read.
const LARGE: usize = 16 * 1024 * 1024;
/// A target that takes no bytes.
const STUCK: &str = "stuck";

/// A server that accepts connections, and reads nothing.
fn stuck() -> TcpListener {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(64 * 1024).expect("small");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("bound");
    socket.listen(16).expect("listening")
}

/// A service with room for one large body.
async fn bench(stuck: &TcpListener) -> Bench {
    let url = format!("http://{}/v1", stuck.local_addr().expect("an address"));
    Bench::new(codex_sim::SimConfig::default(), |_, config| {
        config.gateway.max_body_bytes = LARGE;
        config.transport.max_held_bytes = LARGE + LARGE / 2;
        config.transport.headers_timeout = config::Seconds::new(60);
        custom(config, STUCK, &url);
    })
    .await
}

fn large(service: &Service, target: &str) -> RespondRequest {
    let mut request = service.request(target, HELLO, &[]);
    let text = "x".repeat(LARGE - 100);
    request.body =
        Bytes::from(format!(r#"{{"model":"codex/gpt-5.5","input":"Reply exactly: OK","instructions":"{text}"}}"#));
    request
}

type Client = TransportServiceClient<PeerChannel>;

async fn open(client: &Client, request: RespondRequest) -> Result<Streaming<RespondResponse>, Failure> {
    let opened = client.clone().respond(request).await;
    opened.map(tonic::Response::into_inner).map_err(|status| failure_from_status(&status, "gateway"))
}

/// The service in process, and over a socket, as two gateways have it.
async fn both(bench: &Bench, dir: &std::path::Path, stop: &CancellationToken) -> [Client; 2] {
    let path = dir.join("transport-svc.sock");
    let bound = Bound::bind(&ListenAddress::Unix(path.clone())).await.expect("bound");
    let router = bench.bench.service.mounted().listenable().await.expect("reflection");
    TaskTracker::new().spawn(serve(router, bound, ServeOptions::default(), stop.clone()));
    let socket = Client::new(PeerChannel::unix("transport-svc", &path)).max_encoding_message_size(MAX_MESSAGE_BYTES);
    [bench.bench.client.clone().max_encoding_message_size(MAX_MESSAGE_BYTES), socket]
}

#[tokio::test]
async fn a_body_without_room_is_refused_and_one_that_is_sent_or_given_up_takes_none() {
    let stuck = Arc::new(stuck());
    let bench = bench(&stuck).await;
    let (dir, stop) = (tempfile::tempdir().expect("a directory"), CancellationToken::new());
    let [one, other] = both(&bench, dir.path(), &stop).await;
    for (first, second) in [(&one, &other), (&other, &one)] {
        // The upstream takes nothing of the first one's body: it is held.
        let mut held = open(first, large(&bench.bench, STUCK)).await.expect("there is room");
        let waits = TaskTracker::new().spawn(async move { held.message().await });
        let (accepted, _) = stuck.accept().await.expect("a connection");
        let refused = open(second, large(&bench.bench, CODEX)).await.expect_err("no room for two");
        assert_eq!((refused.reason, refused.service.as_str()), (Reason::Shed, "transport-svc"));
        assert_eq!(refused.retry_after_seconds, Some(1.0));
        assert!(refused.next_step.contains("[transport] max_held_bytes"), "{refused:?}");
        assert!(bench.bench.call(CODEX, HELLO).await.reason().is_none(), "a small one has room");
        // Its caller goes away.
        waits.abort();
        let _ = waits.await;
        drop(accepted);
        // Sent, and answered for long: nothing of it is held.
        bench.sim.state().set_scenario(ACCOUNT, "long:100000:16:20".parse().ok());
        let mut streams = Vec::new();
        for client in [first, second, first] {
            let mut stream = open(client, large(&bench.bench, CODEX)).await.expect("room");
            stream.message().await.expect("a head").expect("a head");
            streams.push(stream);
        }
        bench.sim.state().set_scenario(ACCOUNT, None);
    }
    stop.cancel();
}
