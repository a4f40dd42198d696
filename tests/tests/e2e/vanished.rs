//! Callers who vanish in the middle of their answers leave nothing behind, and take nobody along.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use e2e::{Gateway, Http, Part, Switchboard, eventually, eventually_async, stream_question};
use futures_util::future::join_all;
use proto::gateway::v1::RespondResponse;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Streaming;

use crate::support::{MODEL, World, streamed, whole};
use crate::wire::{
    ACK, CANCEL, DATA, END_HEADERS, END_STREAM, HEADERS, PING, RST_STREAM, WINDOW_UPDATE, call_headers, frame, frames,
    http2, take_frames,
};

/// Callers at a time; there is room for no more, so that each place has to come back.
const AT_ONCE: usize = 60;
/// Callers on one connection of HTTP/2.
const SHARED: u32 = 5;
/// How often so many come and go: the first ones warm up what is kept for later, and are not among the thousand.
const WAVES: usize = 18;
/// A long answer that costs little, the simulator too, which makes all of it before it begins.
const ENDLESS: &str = "[[sim:long:1000:16:500]]";
/// One of which something is always on its way.
const BRISK: &str = "[[sim:long:1000:100:20]]";
/// Descriptors and tasks that may come and go for other reasons: idle connections, a report under way. One caller in a
/// hundred who leaves one behind would be ten.
const SPARE: f64 = 8.0;

/// Callers in the middle of an answer: each kind on connections of its own, and many on one connection.
struct Callers {
    http1: Vec<TcpStream>,
    http2: Vec<Http2>,
    grpc: Vec<(Option<Gateway>, Streaming<RespondResponse>)>,
    /// The connection that those over gRPC share which have none of their own.
    _shared: Gateway,
}

/// Some who share a connection of HTTP/2, which answers to signs of life until they vanish.
struct Http2 {
    vanish: CancellationToken,
    gone: JoinHandle<()>,
}

impl Callers {
    async fn arrive(switchboard: &Switchboard, count: usize, ask: &'static str) -> Self {
        let (shared, key) = (switchboard.grpc(), switchboard.key());
        let http1 = join_all((0..count / 2).map(|_| over_http1(switchboard.address(), &key, ask)));
        let http2 = (0..count / 4 / SHARED as usize)
            .map(|i| over_http2(switchboard.address().to_owned(), key.clone(), ask, i % 2 == 0));
        let grpc = join_all((0..count / 4).map(|i| {
            let own = (i % 2 == 0).then(|| switchboard.grpc());
            let client = own.clone().unwrap_or_else(|| shared.clone());
            async move { (own, over_grpc(client, ask).await) }
        }));
        let (http1, http2, grpc) = tokio::join!(http1, join_all(http2), grpc);
        Self { http1, http2, grpc, _shared: shared }
    }

    /// Every other one over HTTP/1 by a TCP reset, the others by a closed connection; those over HTTP/2 by reset streams, or
    /// with their whole connection.
    async fn vanish(self) {
        for (i, stream) in self.http1.into_iter().enumerate() {
            if i % 2 == 0 {
                stream.set_zero_linger().expect("set");
            }
            drop(stream);
        }
        drop(self.grpc);
        for callers in self.http2 {
            callers.vanish.cancel();
            callers.gone.await.expect("no panic");
        }
    }
}

async fn over_http1(address: &str, key: &str, ask: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    let body = streamed(ask).to_string();
    let head = format!(
        "POST /v1/responses HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    while !String::from_utf8_lossy(&answer).contains("response.created") {
        assert_ne!(stream.read_buf(&mut answer).await.expect("an answer"), 0, "{}", String::from_utf8_lossy(&answer));
    }
    stream
}

async fn over_http2(address: String, key: String, ask: &'static str, resets: bool) -> Http2 {
    let (vanish, begun) = (CancellationToken::new(), Arc::new(Notify::new()));
    let (end, all_begun) = (vanish.clone(), Arc::clone(&begun));
    let gone = TaskTracker::new().spawn(async move {
        let mut connection = http2(&address, &[]).await;
        // Nobody who reads nothing holds up the others.
        let mut asked = frame(WINDOW_UPDATE, 0, 0, &0x7000_0000_u32.to_be_bytes());
        let streams: Vec<u32> = (0..SHARED).map(|i| 2 * i + 1).collect();
        for stream in &streams {
            asked.extend(frame(HEADERS, END_HEADERS, *stream, &call_headers(&key, &[])));
            asked.extend(frame(DATA, END_STREAM, *stream, streamed(ask).to_string().as_bytes()));
        }
        connection.write_all(&asked).await.expect("sent");
        let (mut answer, mut waiting) = (Vec::new(), BTreeSet::from_iter(streams.iter().copied()));
        loop {
            tokio::select! {
                read = connection.read_buf(&mut answer) => assert_ne!(read.expect("an answer"), 0, "{:?}", frames(&answer)),
                () = end.cancelled() => break,
            }
            for frame in take_frames(&mut answer) {
                match frame.kind {
                    DATA => drop(waiting.remove(&frame.stream)),
                    PING => connection.write_all(&crate::wire::frame(PING, ACK, 0, &frame.payload)).await.expect("sent"),
                    _ => {}
                }
            }
            if waiting.is_empty() {
                all_begun.notify_one();
            }
        }
        for stream in streams.iter().filter(|_| resets) {
            connection.write_all(&frame(RST_STREAM, 0, *stream, &CANCEL.to_be_bytes())).await.expect("sent");
        }
    });
    begun.notified().await;
    Http2 { vanish, gone }
}

async fn over_grpc(mut client: Gateway, ask: &str) -> Streaming<RespondResponse> {
    let mut messages = client.respond(stream_question(MODEL, ask)).await.expect("a stream").into_inner();
    messages.message().await.expect("no error").expect("an event");
    messages
}

/// The processes' own account: what each has open of streams, tasks and descriptors.
pub(crate) struct Account(BTreeMap<&'static str, Http>);

impl Account {
    pub(crate) fn of(switchboard: &Switchboard) -> Self {
        let name = |part| switchboard.topology().process_of(part);
        Self(Part::ALL.map(|part| (name(part), Http::new(&switchboard.admin_url(part), None))).into())
    }

    pub(crate) async fn held(&self) -> BTreeMap<String, f64> {
        let mut found = BTreeMap::new();
        for (name, http) in &self.0 {
            let page = http.get("/metrics").await.is(200).text();
            for gauge in ["switchboard_open_streams", "switchboard_tasks", "process_open_fds"] {
                let value = page.lines().find_map(|line| line.strip_prefix(gauge)?.trim().parse().ok());
                found.insert(format!("{gauge} of {name}"), value.unwrap_or_else(|| panic!("no {gauge}: {page}")));
            }
        }
        found
    }
}

/// Streams that go on while others vanish: each is read all the time.
struct Undisturbed {
    readers: JoinSet<()>,
    pieces: Vec<Arc<AtomicUsize>>,
    over: Arc<AtomicBool>,
}

impl Undisturbed {
    async fn begin(switchboard: &Switchboard, count: usize) -> Self {
        let (mut readers, mut pieces, over) = (JoinSet::new(), Vec::new(), Arc::new(AtomicBool::new(false)));
        let http = switchboard.http();
        for _ in 0..count {
            let mut response = http.open(&streamed("[[sim:long:4000:16:100]]")).await;
            assert_eq!(response.status(), 200);
            let (read, end) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&over));
            pieces.push(Arc::clone(&read));
            readers.spawn(async move {
                while !end.load(Ordering::Relaxed) {
                    let piece = response.chunk().await.expect("it is not cut").expect("it does not end");
                    assert!(!piece.windows(15).any(|bytes| bytes == b"response.failed"), "{piece:?}");
                    read.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        Self { readers, pieces, over }
    }

    /// Each gets more than it had.
    async fn go_on(&self) {
        let now = || self.pieces.iter().map(|read| read.load(Ordering::Relaxed));
        let before: Vec<usize> = now().collect();
        eventually("every stream goes on", || now().zip(&before).all(|(now, before)| now > before + 2)).await;
    }

    async fn end(mut self) {
        self.go_on().await;
        self.over.store(true, Ordering::Relaxed);
        while let Some(ended) = self.readers.join_next().await {
            ended.expect("undisturbed");
        }
    }
}

e2e::in_each_topology! {
    /// A thousand, by a TCP reset, a closed connection, a reset stream and a lost connection with streams on it: no upstream
    /// request goes on, no place is kept, no task, stream or descriptor stays, and each call is recorded as given up.
    async fn a_thousand_who_vanish_leave_nothing_behind(topology) {
        let (world, _) = World::with_login().await;
        world.home.set("gateway.max_calls", AT_ONCE.to_string()).set("gateway.max_key_share", "100");
        let switchboard = world.start(topology).await;
        let state = world.sim.state();
        let (http, account, mut before) = (switchboard.http(), Account::of(&switchboard), BTreeMap::new());
        for wave in 0..WAVES {
            let callers = Callers::arrive(&switchboard, AT_ONCE, ENDLESS).await;
            assert_eq!(state.open_streams(), AT_ONCE as u64);
            callers.vanish().await;
            eventually("no upstream request goes on", || state.open_streams() == 0).await;
            eventually_async("no stream is open", async || {
                account.held().await.iter().all(|(name, value)| !name.contains("streams") || *value == 0.0)
            })
            .await;
            let _ = http.respond(&whole("Reply exactly: OK")).await.is(200);
            if wave == 0 {
                before = account.held().await;
            }
        }
        let answered = world.upstream().iter().filter(|request| !request.client_gone()).count();
        assert_eq!(answered, WAVES, "those that were answered whole");
        let mut after = BTreeMap::new();
        let began = std::time::Instant::now();
        while after.is_empty() || after.iter().any(|(name, value)| *value > before[name] + SPARE) {
            assert!(began.elapsed() < e2e::PATIENCE, "something stays behind: {before:?}, then {after:?}");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            after = account.held().await;
        }
        let calls = switchboard.cli(&["calls", "list", "--failed", "--json"]).await.ok().json();
        let calls = calls["calls"].as_array().expect("calls");
        assert!(!calls.is_empty() && calls.iter().all(|call| call["error"]["reason"] == "CANCELLED"), "{calls:?}");
    }

    /// Five hundred, whose answers are on their way, while twenty others read on: whoever leaves leaves alone, on
    /// the agents' port and on every connection behind it.
    async fn who_vanishes_takes_nobody_along(topology) {
        let (world, _) = World::with_login().await;
        let switchboard = world.start(topology).await;
        let undisturbed = Undisturbed::begin(&switchboard, 20).await;
        for _ in 0..13 {
            Callers::arrive(&switchboard, 40, BRISK).await.vanish().await;
            undisturbed.go_on().await;
        }
        undisturbed.end().await;
        eventually("nothing is open", || world.sim.state().open_streams() == 0).await;
    }
}
