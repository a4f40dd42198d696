//! Small events and small requests are not held back on their way: no hop gathers, waits for more to send, or for a timer.
//!
//! A reader that takes everything at once and writes nothing is acknowledged at once, and hides Nagle's algorithm. So the two
//! ends of the test acknowledge late (TCP_QUICKACK off), as ends that also write do: a hop without TCP_NODELAY then waits 40 ms
//! for each event.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::net::sockopt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;

use crate::support::{MODEL, World};

/// Between two events of the upstream.
const PACE: Duration = Duration::from_millis(10);
/// Events of one answer.
const EVENTS: usize = 80;
/// Events, or requests, over which a median is taken. The best one counts: whoever holds back does so all the time, and a
/// busy machine does not.
const WINDOW: usize = 20;
/// How long an event may take over all hops.
const QUICK: Duration = Duration::from_millis(5);
/// How long a request may take to the upstream: a key, a route and a credential are looked up on the way.
const QUICK_REQUEST: Duration = Duration::from_millis(20);
/// The same with every line in the logs, still less than what Nagle's algorithm costs.
const QUICK_LOGGED: Duration = Duration::from_millis(36);
/// Answers that are tried before it is called slow.
const TRIES: usize = 8;

/// An upstream that says in each event when it was sent, and notes when each request was there as a whole.
struct Clockwork {
    url: String,
    began: Instant,
    arrived: Arc<Mutex<Vec<Instant>>>,
    _tasks: TaskTracker,
}

impl Clockwork {
    async fn start(events: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let url = format!("http://{}/backend-api/codex", listener.local_addr().expect("an address"));
        let (began, arrived, tasks) = (Instant::now(), Arc::<Mutex<Vec<Instant>>>::default(), TaskTracker::new());
        let (noted, spawner) = (Arc::clone(&arrived), tasks.clone());
        tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).expect("set");
                let noted = Arc::clone(&noted);
                // It ends when the other side has gone.
                spawner.spawn(async move { answer_all(stream, events, began, &noted).await });
            }
        });
        Self { url, began, arrived, _tasks: tasks }
    }
}

/// Reads as an end that acknowledges late. The kernel forgets that it was told so.
async fn read_late(stream: &mut TcpStream, into: &mut Vec<u8>) -> std::io::Result<usize> {
    sockopt::set_tcp_quickack(&*stream, false)?;
    stream.read_buf(into).await
}

/// Answers one request after the other.
async fn answer_all(
    mut stream: TcpStream,
    events: usize,
    began: Instant,
    arrived: &Mutex<Vec<Instant>>,
) -> std::io::Result<()> {
    loop {
        let mut request = Vec::new();
        loop {
            if read_late(&mut stream, &mut request).await? == 0 {
                return Ok(());
            }
            if whole(&request) {
                break;
            }
        }
        arrived.lock().expect("no panic").push(Instant::now());
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            .await?;
        let id = r#""response":{"id":"resp_1","status":"#;
        send(&mut stream, &format!(r#"{{"type":"response.created",{id}"in_progress"}}}}"#)).await?;
        for _ in 0..events {
            tokio::time::sleep(PACE).await;
            let now = began.elapsed().as_micros();
            send(&mut stream, &format!(r#"{{"type":"response.output_text.delta","delta":"{now}"}}"#)).await?;
        }
        send(&mut stream, &format!(r#"{{"type":"response.completed",{id}"completed","output":[]}}}}"#)).await?;
        stream.write_all(b"0\r\n\r\n").await?;
    }
}

async fn send(stream: &mut TcpStream, data: &str) -> std::io::Result<()> {
    let event = format!("data: {data}\n\n");
    stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await
}

/// True once a request has come with all of its body.
fn whole(request: &[u8]) -> bool {
    let Some(end) = request.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&request[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    request.len() >= end + 4 + length.expect("a length")
}

fn request(key: &str, padding: usize) -> String {
    let body = serde_json::json!({ "model": MODEL, "input": "x".repeat(padding), "stream": true }).to_string();
    format!(
        "POST /v1/responses HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Asks over `stream`, and reads the answer to its end; gives how long each event took.
async fn ask(stream: &mut TcpStream, request: &str, began: Instant) -> Vec<Duration> {
    stream.write_all(request.as_bytes()).await.expect("sent");
    let (mut answer, mut took, mut seen) = (Vec::new(), Vec::new(), 0);
    while !answer.ends_with(b"\r\n0\r\n\r\n") {
        assert_ne!(read_late(stream, &mut answer).await.expect("read"), 0, "{}", String::from_utf8_lossy(&answer));
        let now = began.elapsed();
        let text = String::from_utf8_lossy(&answer[seen..]).into_owned();
        let Some(end) = text.rfind("\n\n") else { continue };
        for part in text[..end].split(r#""delta":""#).skip(1) {
            let sent = part.split('"').next().and_then(|text| text.parse().ok()).expect("a time");
            took.push(now.saturating_sub(Duration::from_micros(sent)));
        }
        seen += end;
    }
    took
}

fn best_median(took: &[Duration]) -> Duration {
    let median = |window: &[Duration]| {
        let mut window = window.to_vec();
        window.sort();
        window[window.len() / 2]
    };
    took.chunks_exact(WINDOW).map(median).min().expect("a window")
}

e2e::in_each_topology! {
    /// Events that come every 10 ms take less than 5 ms from the upstream's socket to the agent's.
    async fn small_events_are_not_held_back(topology) {
        let (world, _) = World::with_login().await;
        let upstream = Clockwork::start(EVENTS).await;
        world.home.set("targets.chatgpt-codex.base_url", format!("{:?}", upstream.url));
        let switchboard = world.start(topology).await;
        let request = request(&switchboard.key(), 10);
        let mut stream = TcpStream::connect(switchboard.address()).await.expect("connected");
        let mut best = Duration::MAX;
        for _ in 0..TRIES {
            let took = ask(&mut stream, &request, upstream.began).await;
            assert_eq!(took.len(), EVENTS);
            // The kernel acknowledges the first segments of a connection at once, and they tell nothing.
            best = best.min(best_median(&took[WINDOW..]));
            if best < QUICK {
                return;
            }
        }
        panic!("events take {best:?}");
    }

    /// Requests on connections that stay open are with the upstream at once, with all of their bodies.
    async fn requests_are_not_held_back(topology) {
        let (world, _) = World::with_login().await;
        let upstream = Clockwork::start(0).await;
        world.home.set("targets.chatgpt-codex.base_url", format!("{:?}", upstream.url));
        let switchboard = world.start(topology).await;
        let mut stream = TcpStream::connect(switchboard.address()).await.expect("connected");
        stream.set_nodelay(true).expect("set");
        let mut best = Duration::MAX;
        for _ in 0..TRIES {
            for padding in [10, 100_000] {
                let request = request(&switchboard.key(), padding);
                let mut took = Vec::new();
                for _ in 0..WINDOW {
                    let asked = Instant::now();
                    ask(&mut stream, &request, upstream.began).await;
                    let arrived = upstream.arrived.lock().expect("no panic").pop().expect("a request");
                    took.push(arrived.saturating_duration_since(asked));
                }
                let median = best_median(&took);
                best = best.min(median);
            }
            if best < if e2e::logs_all() { QUICK_LOGGED } else { QUICK_REQUEST } {
                return;
            }
        }
        panic!("requests take {best:?}");
    }
}
