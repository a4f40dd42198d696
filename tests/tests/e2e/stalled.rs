//! Callers who stop reading: the upstream is slowed, and what waits for them is bounded.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use e2e::{Http, Part, Switchboard, eventually, eventually_async, stream_question};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::task::TaskTracker;
use tonic::{Code, Request};

use crate::support::{MODEL, World, streamed};

/// Callers who stop reading.
const CALLERS: u64 = 24;
/// Bytes that one stream may hold over all hops.
const HELD: u64 = 1024 * 1024;
/// What a caller over gRPC lets come before it reads: hyper's window.
const CLIENTS_OWN: u64 = 2 * 1024 * 1024;
/// What a deployment may grow by for other reasons: the code of a call that is run for the first time, connections.
const SLACK: u64 = 32 * 1024 * 1024;

/// Asks for a stream and reads no more than its head. The kernel's part is kept small, as of a slow network.
async fn ask_and_stop(address: &str, key: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(16 * 1024).expect("a small buffer");
    let mut stream = socket.connect(address.parse().expect("an address")).await.expect("connected");
    let body = streamed("Tell me everything.").to_string();
    let head = format!(
        "POST /v1/responses HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut some = [0; 512];
    let read = stream.read(&mut some).await.expect("an answer");
    assert!(some[..read].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&some[..read]));
    stream
}

/// Bytes that the kernel holds for the TCP connections of these ports.
fn in_the_kernel(ports: &[u16]) -> u64 {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel's table");
    let port = |address: &str| u16::from_str_radix(address.rsplit(':').next().unwrap_or_default(), 16).unwrap_or(0);
    let mut sum = 0;
    for line in table.lines().skip(1) {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let [_, local, remote, _, queues, ..] = columns.as_slice() else { continue };
        if ports.contains(&port(local)) || ports.contains(&port(remote)) {
            sum += queues.split(':').map(|bytes| u64::from_str_radix(bytes, 16).unwrap_or(0)).sum::<u64>();
        }
    }
    sum
}

fn port_of(address: &str) -> u16 {
    address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port")
}

/// An upstream whose answers do not end, and are sent as fast as they are taken.
struct Spring {
    url: String,
    /// Bytes that the kernel has taken from it.
    sent: Arc<AtomicU64>,
    /// Answers under way.
    open: Arc<AtomicU64>,
    tasks: TaskTracker,
}

impl Spring {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let url = format!("http://{}/backend-api/codex", listener.local_addr().expect("an address"));
        let spring = Self { url, sent: Arc::default(), open: Arc::default(), tasks: TaskTracker::new() };
        let (sent, open, tasks) = (Arc::clone(&spring.sent), Arc::clone(&spring.open), spring.tasks.clone());
        spring.tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (sent, open) = (Arc::clone(&sent), Arc::clone(&open));
                tasks.spawn(async move {
                    open.fetch_add(1, Ordering::SeqCst);
                    // It ends when the other side has gone.
                    let _ = flow(stream, &sent).await;
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        spring
    }

    /// Waits until it cannot send any more; gives how much it could.
    async fn until_stopped(&self) -> u64 {
        let (mut before, mut same) = (0, 0);
        for _ in 0..240 {
            tokio::time::sleep(Duration::from_millis(250)).await;
            let now = self.sent.load(Ordering::SeqCst);
            same = if now == before && now > 0 { same + 1 } else { 0 };
            if same == 4 {
                return now;
            }
            before = now;
        }
        panic!("the upstream is never slowed: {before} bytes");
    }

    async fn until_dry(&self) {
        eventually("no answer is under way", || self.open.load(Ordering::SeqCst) == 0).await;
        self.sent.store(0, Ordering::SeqCst);
    }
}

/// Reads a request and answers it until nobody takes any more.
async fn flow(mut stream: TcpStream, sent: &AtomicU64) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"}") {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n").await?;
    let delta = "x".repeat(1000);
    let event = format!("data: {{\"type\":\"response.output_text.delta\",\"delta\":\"{delta}\"}}\n\n");
    loop {
        let mut rest = event.as_bytes();
        while !rest.is_empty() {
            let taken = stream.write(rest).await?;
            sent.fetch_add(taken as u64, Ordering::SeqCst);
            rest = &rest[taken..];
        }
    }
}

fn memory(switchboard: &mut Switchboard) -> u64 {
    switchboard.processes().filter_map(|process| process.memory()).sum()
}

e2e::in_each_topology! {
    /// Over HTTP and over gRPC: a caller who stops reading stops the upstream, and the processes hold at most 1 MiB of
    /// its stream together. The caller who goes away then takes all of it along.
    async fn a_caller_who_stops_reading_slows_the_upstream(topology) {
        let (world, _) = World::with_login().await;
        let spring = Spring::start().await;
        world.home.set("targets.chatgpt-codex.base_url", format!("{:?}", spring.url));
        let mut switchboard = world.start(topology).await;
        let (address, key) = (switchboard.address().to_owned(), switchboard.key());
        let ports = [port_of(&address), port_of(spring.url.trim_end_matches("/backend-api/codex"))];
        drop(ask_and_stop(&address, &key).await);
        spring.until_dry().await;

        let before = memory(&mut switchboard);
        let mut callers = Vec::new();
        for _ in 0..CALLERS {
            callers.push(ask_and_stop(&address, &key).await);
        }
        let sent = spring.until_stopped().await;
        let held = sent.saturating_sub(in_the_kernel(&ports));
        let grown = memory(&mut switchboard).saturating_sub(before);
        assert!(held <= CALLERS * HELD, "{} KiB are held for each caller", held / CALLERS / 1024);
        assert!(grown <= CALLERS * HELD + SLACK, "memory has grown by {} KiB", grown / 1024);
        drop(callers);
        spring.until_dry().await;

        let mut messages = switchboard.grpc().respond(stream_question(MODEL, "Hello")).await.expect("a stream").into_inner();
        messages.message().await.expect("no error").expect("an event");
        let sent = spring.until_stopped().await;
        let held = sent.saturating_sub(in_the_kernel(&ports));
        assert!(held <= HELD + CLIENTS_OWN, "{} KiB are held for a caller over gRPC", held / 1024);
        drop(messages);
        spring.until_dry().await;
    }

    /// A caller's deadline holds though nothing is taken, over HTTP/2 and on every hop: the upstream and its place are let
    /// go, and the stream ends.
    async fn a_deadline_is_kept_though_its_caller_has_stopped_reading(topology) {
        let (world, _) = World::with_login().await;
        let spring = Spring::start().await;
        world.home.set("targets.chatgpt-codex.base_url", format!("{:?}", spring.url));
        let switchboard = world.start(topology).await;
        let mut asked = Request::new(stream_question(MODEL, "Hello"));
        asked.set_timeout(Duration::from_secs(5));
        let mut messages = switchboard.grpc().respond(asked).await.expect("a stream").into_inner();
        messages.message().await.expect("no error").expect("an event");
        spring.until_dry().await;
        let open = "switchboard_open_streams 0";
        let metrics = Http::new(&switchboard.admin_url(Part::Gateway), None);
        eventually_async("its place is free", async || metrics.get("/metrics").await.text().contains(open)).await;
        let ended = loop {
            match messages.message().await {
                Ok(message) => assert!(message.is_some(), "it does not end as if it were whole"),
                Err(status) => break status.code(),
            }
        };
        assert!([Code::Cancelled, Code::DeadlineExceeded].contains(&ended), "{ended}");
    }
}
