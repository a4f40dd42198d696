//! Large requests: what clients with images send.

use e2e::{Answer, Switchboard};
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{MODEL, World};

/// Of the image, in its encoding: nearly what the gateway takes by default.
const IMAGE_BYTES: usize = 60 * 1024 * 1024;

e2e::in_each_topology! {
    /// An image of nearly 64 MiB passes, and a larger one is refused although it is small as it travels.
    async fn a_large_image_passes_and_a_larger_one_is_refused(topology) {
        let (world, _) = World::with_login().await;
        let switchboard = world.start(topology).await;
        let http = switchboard.http();
        let body = |bytes: usize| {
            let content = json!([{ "type": "input_text", "text": "Reply exactly: OK" },
                { "type": "input_image", "image_url": format!("data:image/png;base64,{}", "A".repeat(bytes)) }]);
            json!({ "model": MODEL, "stream": true, "input": [{ "role": "user", "content": content }] }).to_string()
        };
        let packed = zstd::encode_all(body(IMAGE_BYTES).as_bytes(), 1).expect("packed");
        let request = http.request(Method::POST, "/v1/responses").header("content-type", "application/json");
        let answer = Answer::of(request.header("content-encoding", "zstd").body(packed)).await.is(200);
        assert_eq!(answer.streamed_text(), "OK");
        assert!(answer.headers.get("set-cookie").is_none(), "cookies stay here");
        let sent = world.upstream().pop().expect("a request");
        assert!(sent.decoded_bytes > IMAGE_BYTES as u64, "{} bytes", sent.decoded_bytes);
        let packed = zstd::encode_all(body(65 * 1024 * 1024).as_bytes(), 1).expect("packed");
        let request = http.request(Method::POST, "/v1/responses").header("content-type", "application/json");
        let refused = Answer::of(request.header("content-encoding", "zstd").body(packed)).await.is(413).json();
        assert_eq!(refused["error"]["reason"], "REQUEST_TOO_LARGE", "{refused}");
        assert_eq!(world.upstream().len(), 1);
    }

    /// A limit that was raised counts for all services; and a body that grows beyond it when it is translated is refused as
    /// too large, by no egress's fault.
    async fn the_limit_is_of_what_is_sent_upstream(topology) {
        let (world, _) = World::with_login().await;
        world.home.set("gateway.max_body_bytes", (100 * 1024 * 1024).to_string());
        let switchboard = world.start(topology).await;
        let http = switchboard.http();
        let ask = async |path: &str, body: String| {
            let request = http.request(Method::POST, path).header("content-type", "application/json");
            Answer::of(request.header("content-encoding", "zstd").body(zstd::encode_all(body.as_bytes(), 1).expect("packed"))).await
        };
        let image = format!("data:image/png;base64,{}", "A".repeat(82 * 1024 * 1024));
        let content = json!([{ "type": "input_text", "text": "Reply exactly: OK" }, { "type": "input_image", "image_url": image }]);
        let large = json!({ "model": MODEL, "input": [{ "role": "user", "content": content }] }).to_string();
        // All of ours let it pass; the upstream has a limit of its own, and says so.
        let refused = ask("/v1/responses", large).await.is(413).json();
        assert_eq!((&refused["error"]["reason"], &refused["error"]["service"]), (&"REQUEST_TOO_LARGE".into(), &"upstream".into()));

        let many = r#"{"role":"user","content":""},"#.repeat(45 * 1024 * 1024 / 29);
        let grows = format!(r#"{{"model":"{MODEL}","messages":[{many}{{"role":"user","content":"Hello"}}]}}"#);
        let asked = world.upstream().len();
        let refused = ask("/v1/chat/completions", grows).await.is(413).json();
        assert_eq!((&refused["error"]["reason"], &refused["error"]["service"]), (&"REQUEST_TOO_LARGE".into(), &"gateway".into()));
        assert_eq!(world.upstream().len(), asked);
        let status = switchboard.cli(&["models", "status", "--json"]).await.ok().json();
        let open = status["egresses"].as_array().is_some_and(|all| all.iter().any(|one| one["circuit"] != "closed"));
        assert!(!open, "{status}");
    }

    /// A request that is refused unread takes no other one with it: the connection that clients reuse stays.
    async fn a_connection_outlives_a_refusal(topology) {
        let (world, _) = World::with_login().await;
        let switchboard = world.start(topology).await;
        let refusals = [
            ("POST /v1/embeddings", "", 404),
            ("POST /v1/models", "", 405),
            ("GET /v1/models/nobody/knows", "", 404),
            ("POST /v1/responses", "content-encoding: br\r\n", 400),
            ("POST /v1/responses", "content-encoding: gzip\r\n", 400),
            ("POST /v1/responses/compact", "", 400),
        ];
        for bytes in [50, 2_000_000] {
            let mut connection = TcpStream::connect(switchboard.address()).await.expect("connected");
            for (line, header, status) in refusals {
                let head = format!("{line} HTTP/1.1\r\n{}{header}content-length: {bytes}\r\n\r\n", about(&switchboard));
                connection.write_all(head.as_bytes()).await.expect("the head is sent");
                // The head is read before any of the body comes.
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                connection.write_all(&vec![b'x'; bytes]).await.unwrap_or_else(|error| panic!("{line}: {error}"));
                assert_eq!(status_of(&mut connection).await, status, "{line} {header}");
            }
            let again = format!("GET /v1/models HTTP/1.1\r\n{}\r\n", about(&switchboard));
            connection.write_all(again.as_bytes()).await.expect("sent");
            assert_eq!(status_of(&mut connection).await, 200);
        }
    }

    /// A client that asks before it sends a body is told at once that it need not: the body is not asked for.
    async fn a_body_that_would_be_refused_is_not_asked_for(topology) {
        let (world, _) = World::with_login().await;
        let switchboard = world.start(topology).await;
        for (key, bytes, status) in [("sbk_nobody", 1_000_000, 401), (switchboard.key().as_str(), 200_000_000, 413)] {
            let mut connection = TcpStream::connect(switchboard.address()).await.expect("connected");
            let head = format!(
                "POST /v1/responses HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
                 expect: 100-continue\r\ncontent-length: {bytes}\r\n\r\n"
            );
            let began = std::time::Instant::now();
            connection.write_all(head.as_bytes()).await.expect("the head is sent");
            let mut answer = String::new();
            // The server closes it: what would come next is not known.
            let _ = connection.read_to_string(&mut answer).await.expect("an answer");
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
            assert!(answer.to_ascii_lowercase().contains("connection: close"), "{answer}");
            // Waiting for the body would take two seconds; a busy machine takes its time, too.
            println!("{status} after {:?}", began.elapsed());
        }
        let mut connection = TcpStream::connect(switchboard.address()).await.expect("connected");
        let body = json!({ "model": MODEL, "input": "Reply exactly: OK" }).to_string();
        let head = format!(
            "POST /v1/responses HTTP/1.1\r\n{}expect: 100-continue\r\ncontent-length: {}\r\n\r\n",
            about(&switchboard),
            body.len()
        );
        connection.write_all(head.as_bytes()).await.expect("the head is sent");
        let mut leave = [0; 25];
        connection.read_exact(&mut leave).await.expect("leave to send");
        assert_eq!(&leave, b"HTTP/1.1 100 Continue\r\n\r\n");
        connection.write_all(body.as_bytes()).await.expect("the body is sent");
        assert_eq!(status_of(&mut connection).await, 200);
    }
}

/// The headers of every request.
fn about(switchboard: &Switchboard) -> String {
    format!("host: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n", switchboard.key())
}

/// Reads one answer that says how long it is, and gives its status.
async fn status_of(connection: &mut TcpStream) -> u16 {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(connection.read_u8().await.expect("an answer"));
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()).expect("its length");
    let mut body = vec![0; length.parse().expect("a number")];
    connection.read_exact(&mut body).await.expect("the body");
    head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status")
}
