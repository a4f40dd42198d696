//! Serving and calling over real sockets.
#![expect(clippy::expect_used, reason = "a test that cannot go on fails where it stands")]

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::routing::get;
use bytes::Bytes;
use futures_util::stream;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use service_kit::{Bound, ListenAddress, PeerChannel, ServeOptions, ServiceLayers, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

/// A served router; it ends with this.
struct Served {
    shutdown: CancellationToken,
    address: ListenAddress,
    _dir: tempfile::TempDir,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

async fn served(router: axum::Router, tcp: bool) -> Served {
    served_with(router, tcp, ServeOptions { drain: Duration::ZERO, ..ServeOptions::default() }).await
}

async fn served_with(router: axum::Router, tcp: bool, options: ServeOptions) -> Served {
    let dir = tempfile::tempdir().expect("a directory");
    let address = match tcp {
        true => ListenAddress::Tcp(([127, 0, 0, 1], 0).into()),
        false => ListenAddress::Unix(dir.path().join("peer.sock")),
    };
    let bound = Bound::bind(&address).await.expect("bound");
    let (address, shutdown) = (bound.address().expect("an address"), CancellationToken::new());
    drop(TaskTracker::new().spawn(serve(router, bound, options, shutdown.clone())));
    Served { shutdown, address, _dir: dir }
}

#[tokio::test]
async fn callers_that_stop_reading_do_not_stop_the_others() {
    let endless = || async {
        let chunk = Bytes::from(vec![b'x'; 32 * 1024]);
        Body::from_stream(stream::repeat_with(move || Ok::<_, Infallible>(chunk.clone())))
    };
    let router = axum::Router::new().route("/endless", get(endless)).route("/short", get(|| async { "short\n" }));
    let served = served(router, false).await;
    let ListenAddress::Unix(path) = &served.address else { panic!("a socket") };
    let channel = PeerChannel::unix("peer", path);
    let call = async |path: &str| {
        let request = Request::get(format!("http://localhost{path}")).body(tonic::body::Body::empty()).expect("built");
        channel.clone().oneshot(request).await.expect("answered").into_body()
    };
    let all = async {
        let mut stopped = Vec::new();
        for _ in 0..24 {
            let mut body = call("/endless").await;
            body.frame().await.expect("a frame").expect("bytes");
            stopped.push(body);
        }
        // Time for what the windows let through.
        tokio::time::sleep(Duration::from_millis(300)).await;
        for _ in 0..4 {
            assert_eq!(call("/short").await.collect().await.expect("whole").to_bytes(), "short\n");
        }
    };
    tokio::time::timeout(Duration::from_secs(10), all).await.expect("nobody waits for those who stopped");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_says_nothing_is_closed() {
    let served = served(axum::Router::new(), true).await;
    let ListenAddress::Tcp(address) = served.address else { panic!("a port") };
    for word in ["", "PRI"] {
        let mut client = tokio::net::TcpStream::connect(address).await.expect("connected");
        client.write_all(word.as_bytes()).await.expect("written");
        // The clock runs ahead while everybody waits.
        let read = tokio::time::timeout(Duration::from_secs(60), client.read_u8()).await;
        assert!(read.expect("closed in time").is_err(), "{word:?}");
    }
}

#[tokio::test]
async fn a_grpc_deadline_over_plain_http_is_the_handlers_affair() {
    let slow = || async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        "done"
    };
    let router = ServiceLayers::open("gateway").apply(axum::Router::new().route("/slow", get(slow)));
    let ask = async |kind: &str| {
        let request = Request::get("/slow").header("grpc-timeout", "5m").header("content-type", kind);
        let response = router.clone().oneshot(request.body(Body::empty()).expect("built")).await.expect("answered");
        let grpc_status = response.headers().get("grpc-status").and_then(|v| v.to_str().ok()).map(str::to_owned);
        (response.status(), grpc_status, response.into_body().collect().await.expect("whole").to_bytes())
    };
    assert_eq!(ask("application/json").await, (StatusCode::OK, None, Bytes::from_static(b"done")));
    assert_eq!(ask("application/grpc").await.1.as_deref(), Some("4"));
}

/// What a server says to `words`, up to the end of the connection; it has to come within a guard.
async fn said(address: &ListenAddress, words: &[u8]) -> String {
    let mut client = TcpStream::connect(address.to_string()).await.expect("connected");
    // The server may have closed the connection by then.
    let _ = client.write_all(words).await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), client.read_to_end(&mut answer)).await;
    let _ = read.expect("the connection is closed");
    String::from_utf8_lossy(&answer).into_owned()
}

fn short() -> axum::Router {
    axum::Router::new().route("/short", get(|| async { "short\n" }))
}

#[tokio::test]
async fn headers_are_few_and_small_and_come_in_time() {
    let headers_timeout = Duration::from_millis(300);
    let served = served_with(short(), true, ServeOptions { headers_timeout, ..ServeOptions::default() }).await;
    let request = |headers: String| format!("GET /short HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n");
    let many = |count: usize| (0..count).map(|i| format!("x-{i}: y\r\n")).collect::<String>();
    let large = |bytes: usize| format!("x-large: {}\r\n", "y".repeat(bytes));
    for headers in [many(90), large(30_000)] {
        let answer = said(&served.address, request(headers).as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    for headers in [many(200), large(200_000)] {
        let answer = said(&served.address, request(headers).as_bytes()).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
    // Half a head, and nothing at all: the connection ends, without this test's doing.
    for words in ["GET /short HTTP/1.1\r\nhost: x\r\nx-slow: ", ""] {
        let answer = said(&served.address, words.as_bytes()).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
}

#[tokio::test]
async fn connections_have_places_until_they_go() {
    let served = served_with(short(), true, ServeOptions { max_connections: 2, ..ServeOptions::default() }).await;
    let ListenAddress::Tcp(address) = &served.address else { panic!("a port") };
    let ask = b"GET /short HTTP/1.1\r\nhost: x\r\n\r\n";
    let open = async || {
        let mut client = TcpStream::connect(address).await.expect("connected");
        client.write_all(ask).await.expect("sent");
        let mut answer = [0; 512];
        let read = client.read(&mut answer).await.unwrap_or(0);
        (client, answer[..read].starts_with(b"HTTP/1.1 200"))
    };
    let (first, second) = (open().await, open().await);
    assert!(first.1 && second.1);
    assert!(!open().await.1, "there is no place for a third");
    drop(first);
    let mut served_again = false;
    for _ in 0..500 {
        served_again |= open().await.1;
        if served_again {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(served_again, "the place of one that went is the next one's");
}

/// Tells when it has gone.
struct Guard(Arc<AtomicUsize>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// An endless answer at `/endless`, of which as many as the counter says are under way, and a short one.
fn endless(open: &Arc<AtomicUsize>) -> axum::Router {
    let open = Arc::clone(open);
    let endless = move || {
        open.fetch_add(1, Ordering::SeqCst);
        let guard = Guard(Arc::clone(&open));
        async move {
            Body::from_stream(stream::repeat_with(move || {
                let _ = &guard;
                Ok::<_, Infallible>(Bytes::from_static(&[b'x'; 400]))
            }))
        }
    };
    axum::Router::new().route("/endless", get(endless)).merge(short())
}

/// A connection of HTTP/2 on which each stream lets 1000 bytes come, until they are taken.
async fn narrow(address: &ListenAddress) -> h2::client::SendRequest<Bytes> {
    let stream = TcpStream::connect(address.to_string()).await.expect("connected");
    let (client, connection) =
        h2::client::Builder::new().initial_window_size(1000).handshake(stream).await.expect("HTTP/2");
    drop(TaskTracker::new().spawn(connection));
    client
}

/// Asks for `path`; gives the answer's body, of which nothing is taken yet.
async fn ask(client: &h2::client::SendRequest<Bytes>, path: &str, headers: &[(&str, &str)]) -> h2::RecvStream {
    let request =
        headers.iter().fold(Request::get(format!("http://x{path}")), |r, (name, value)| r.header(*name, *value));
    let mut client = client.clone().ready().await.expect("ready");
    let (answer, _) = client.send_request(request.body(()).expect("built"), true).expect("sent");
    answer.await.expect("answered").into_body()
}

/// How an answer ends: all bytes that came are counted, and none is taken.
async fn end_of(mut body: h2::RecvStream) -> (usize, Option<h2::Reason>) {
    let mut bytes = 0;
    loop {
        match body.data().await {
            Some(Ok(data)) => bytes += data.len(),
            Some(Err(error)) => return (bytes, error.reason()),
            None => return (bytes, None),
        }
    }
}

#[tokio::test]
async fn a_deadline_is_kept_though_nothing_is_taken() {
    let open = Arc::new(AtomicUsize::new(0));
    let served = served(ServiceLayers::open("gateway").apply(endless(&open)), true).await;
    let client = narrow(&served.address).await;
    for kind in ["application/grpc", "application/json"] {
        let body = ask(&client, "/endless", &[("grpc-timeout", "300m"), ("content-type", kind)]).await;
        assert_eq!(open.load(Ordering::SeqCst), 1);
        let ended = tokio::time::timeout(Duration::from_secs(20), end_of(body)).await.expect("it ends");
        assert_eq!(ended, (1000, Some(h2::Reason::CANCEL)), "{kind}");
        assert_eq!(open.load(Ordering::SeqCst), 0, "{kind}: what made it is let go");
    }
    assert_eq!(end_of(ask(&client, "/short", &[]).await).await, (6, None), "the connection goes on");
}

#[tokio::test]
async fn a_stream_that_is_not_taken_ends_by_itself_on_a_busy_connection() {
    let open = Arc::new(AtomicUsize::new(0));
    let reader_timeout = Some(Duration::from_secs(1));
    let options = ServeOptions { drain: Duration::ZERO, reader_timeout, ..ServeOptions::default() };
    let served = served_with(endless(&open), true, options).await;
    let client = narrow(&served.address).await;
    let stalled = ask(&client, "/endless", &[]).await;
    let mut slow = ask(&client, "/endless", &[]).await;
    let busy = async {
        let mut taken = 0;
        while open.load(Ordering::SeqCst) > 1 || taken < 20 {
            assert_eq!(end_of(ask(&client, "/short", &[]).await).await, (6, None));
            let data = slow.data().await.expect("more").expect("who takes a little now and then is no such reader");
            slow.flow_control().release_capacity(data.len()).expect("taken");
            taken += 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), busy).await.expect("the stalled one ends");
    assert_eq!(end_of(stalled).await, (1000, Some(h2::Reason::CANCEL)));
    assert_eq!(open.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_connection_of_http_1_ends_when_nothing_is_taken() {
    let open = Arc::new(AtomicUsize::new(0));
    let reader_timeout = Some(Duration::from_millis(500));
    let late = "grpc-timeout: 500m\r\n";
    for (reader_timeout, header) in [(reader_timeout, ""), (None, late)] {
        let served =
            served_with(endless(&open), true, ServeOptions { reader_timeout, ..ServeOptions::default() }).await;
        let mut client = TcpStream::connect(served.address.to_string()).await.expect("connected");
        let asked = format!("GET /endless HTTP/1.1\r\nhost: x\r\n{header}\r\n");
        client.write_all(asked.as_bytes()).await.expect("sent");
        client.readable().await.expect("an answer");
        let ended = async {
            while open.load(Ordering::SeqCst) > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), ended).await.expect("what made it is let go");
    }
}
