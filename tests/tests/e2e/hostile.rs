//! Peers who mean harm, or know no better: each is refused or cut off in bounded time and memory, others are served
//! meanwhile, and the metrics tell of it.

use std::io::Write;
use std::time::Duration;

use e2e::{Answer, Http, Part, Switchboard, eventually, eventually_async};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::{MODEL, World, streamed, whole};
use crate::wire::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, HEADERS, PING, RST_STREAM, SETTINGS,
    call_headers, field, frame, frames, goaway, http2, until_ended, write,
};

/// What the processes may grow by for reasons of their own: code that runs for the first time, connections.
const SLACK: u64 = 48 * 1024 * 1024;
/// Bytes of the largest frame that is taken.
const FRAME: usize = 16_384;

/// An honest call is answered.
async fn served(switchboard: &Switchboard) {
    let _ = switchboard.http().respond(&whole("Reply exactly: OK")).await.is(200);
}

/// How many connections the gateway has closed for this reason.
async fn closed(switchboard: &Switchboard, why: &str) -> u64 {
    counted(switchboard, "connections_closed", why).await
}

async fn counted(switchboard: &Switchboard, what: &str, why: &str) -> u64 {
    let page = Http::new(&switchboard.admin_url(Part::Gateway), None).get("/metrics").await.is(200).text();
    let line = format!("switchboard_{what}_total{{why=\"{why}\"}} ");
    page.lines().find_map(|text| text.strip_prefix(&line)?.parse().ok()).unwrap_or(0)
}

fn memory(switchboard: &mut Switchboard) -> u64 {
    switchboard.processes().filter_map(|process| process.memory()).sum()
}

/// What is answered to these bytes, until the connection is ended.
async fn answer(address: &str, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    write(&mut stream, bytes).await;
    String::from_utf8_lossy(&until_ended(stream).await).into_owned()
}

/// What is answered over HTTP/2 to these frames, until the connection is ended.
async fn answer2(address: &str, settings: &[(u16, u32)], bytes: &[u8]) -> Vec<u8> {
    let mut stream = http2(address, settings).await;
    write(&mut stream, bytes).await;
    until_ended(stream).await
}

/// A header block in frames, the last of which ends it.
fn block(bytes: &[u8]) -> Vec<u8> {
    let parts: Vec<&[u8]> = bytes.chunks(FRAME).collect();
    let last = parts.len() - 1;
    let kind = |index| if index == 0 { HEADERS } else { CONTINUATION };
    let flags = |index| if index == last { END_HEADERS } else { 0 };
    parts.iter().enumerate().flat_map(|(index, part)| frame(kind(index), flags(index), 1, part)).collect()
}

e2e::in_each_topology! {
    /// Too many headers, too large ones, ones that do not end, and what is no HTTP at all.
    async fn headers_without_measure_are_refused(topology) {
        let (world, _) = World::with_login().await;
        let mut switchboard = world.start(topology).await;
        served(&switchboard).await;
        let (address, key, before) = (switchboard.address().to_owned(), switchboard.key(), memory(&mut switchboard));
        let (many, large) = ("x: y\r\n".repeat(500), format!("x: {}\r\n", "y".repeat(100_000)));
        for headers in [many, large] {
            let said = answer(&address, format!("POST /v1/responses HTTP/1.1\r\nhost: x\r\n{headers}\r\n").as_bytes()).await;
            assert!(said.starts_with("HTTP/1.1 431"), "{said}");
        }
        let mut endless = TcpStream::connect(&address).await.expect("connected");
        write(&mut endless, b"POST /v1/responses HTTP/1.1\r\nx: ").await;
        let mut sent = 0;
        while write(&mut endless, &[b'y'; 64 * 1024]).await {
            sent += 64;
            assert!(sent < 64 * 1024, "{sent} KiB of a header were taken");
        }
        drop(endless);
        let said = answer(&address, b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n").await;
        assert!(said.starts_with("HTTP/1.1 400") || said.is_empty(), "{said}");

        let client = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().expect("a client");
        let request = client.post(format!("http://{address}/v1/responses")).bearer_auth(&key);
        let refused = Answer::of(request.header("x", "y".repeat(40_000)).json(&whole("Hello"))).await;
        assert_eq!(refused.status, 431, "{}", refused.text());
        let far_beyond = block(&call_headers(&key, &[("x", &"y".repeat(500_000))]));
        let calm = Some(ENHANCE_YOUR_CALM);
        assert_eq!(goaway(&answer2(&address, &[], &far_beyond).await), calm);
        let mut continued = frame(HEADERS, 0, 1, &field(":method", "POST"));
        continued.extend(frame(CONTINUATION, 0, 1, b"").repeat(1000));
        assert_eq!(goaway(&answer2(&address, &[], &continued).await), calm);
        assert!(!answer2(&address, &[], &[0xff; 1000]).await.is_empty(), "it is told to go");
        let lie = [block(&call_headers(&key, &[("content-length", "10")])), frame(DATA, END_STREAM, 1, &[b'x'; 20])].concat();
        let mut stream = http2(&address, &[]).await;
        assert!(write(&mut stream, &lie).await);
        let mut said = Vec::new();
        while !frames(&said).iter().any(|frame| frame.stream == 1) {
            assert_ne!(stream.read_buf(&mut said).await.expect("read"), 0, "{:?}", frames(&said));
        }
        assert!(frames(&said).iter().any(|frame| frame.stream == 1 && frame.kind == RST_STREAM), "{:?}", frames(&said));

        served(&switchboard).await;
        assert!(memory(&mut switchboard) < before + SLACK, "memory has grown by {}", memory(&mut switchboard) - before);
        eventually_async("the metrics tell", async || closed(&switchboard, "protocol").await >= 3).await;
    }

    /// Streams that are opened to be reset, and pings and settings without end from somebody who reads no answer.
    async fn floods_take_no_memory_and_stop_nobody(topology) {
        let (world, _) = World::with_login().await;
        let mut switchboard = world.start(topology).await;
        served(&switchboard).await;
        let (address, key, before) = (switchboard.address().to_owned(), switchboard.key(), memory(&mut switchboard));
        let headers = call_headers(&key, &[]);
        let mut resets = http2(&address, &[]).await;
        let mut stream = 1;
        // Where every frame is a line in a log, a part of them is a flood.
        let part = if e2e::logs_all() { 20 } else { 1 };
        for _ in 0..200 / part {
            let mut batch = Vec::new();
            for _ in 0..100 {
                batch.extend(frame(HEADERS, END_HEADERS, stream, &headers));
                batch.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
                stream += 2;
            }
            if !write(&mut resets, &batch).await {
                break;
            }
        }
        served(&switchboard).await;
        let mut held = vec![resets];
        for flood in [frame(PING, 0, 0, &[7; 8]), frame(SETTINGS, 0, 0, &[])] {
            let mut stream = http2(&address, &[]).await;
            let many = flood.repeat(10_000 / part);
            for _ in 0..100 {
                if !write(&mut stream, &many).await {
                    break;
                }
            }
            held.push(stream);
        }
        served(&switchboard).await;
        let grown = memory(&mut switchboard).saturating_sub(before);
        assert!(grown < SLACK, "memory has grown by {} KiB", grown / 1024);
        drop(held);
        eventually("nothing is open upstream", || world.sim.state().open_streams() == 0).await;
    }

    /// Who is slow to speak, to go on, or to listen is not waited for.
    async fn the_slow_are_not_waited_for(topology) {
        let (world, _) = World::with_login().await;
        world.home.set("gateway.headers_timeout", "\"4s\"").set("gateway.body_timeout", "\"2s\"");
        world.home.set("gateway.idle_timeout", "\"6s\"").set("gateway.reader_timeout", "\"4s\"");
        let switchboard = world.start(topology).await;
        served(&switchboard).await;
        let (address, key) = (switchboard.address().to_owned(), switchboard.key());
        let (address, key) = (address.as_str(), key.as_str());
        let body = format!(
            "POST /v1/responses HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
             content-length: 1000\r\n\r\n{{\"model\":"
        );
        let dripping = async {
            let mut stream = TcpStream::connect(address).await.expect("connected");
            while write(&mut stream, b"x").await {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let stranger = async {
            let block = call_headers("sbk_nobody", &[]);
            let said = answer2(address, &[], &frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)).await;
            assert!(frames(&said).iter().any(|frame| frame.kind == HEADERS), "it is told 401: {:?}", frames(&said));
        };
        let slow_body = async {
            let said = answer(address, body.as_bytes()).await;
            assert!(said.starts_with("HTTP/1.1 400") && said.contains("comes too slowly"), "{said}");
        };
        let endless = streamed("[[sim:long:20000:1000:0]]").to_string();
        let shut_window = async {
            let mut asked = frame(HEADERS, END_HEADERS, 1, &call_headers(key, &[]));
            asked.extend(frame(DATA, END_STREAM, 1, endless.as_bytes()));
            let said = answer2(address, &[(4, 0)], &asked).await;
            assert!(frames(&said).iter().all(|frame| frame.kind != DATA), "not a byte was asked for");
            assert!(frames(&said).iter().any(|frame| frame.stream == 1 && frame.kind == RST_STREAM), "it is reset");
        };
        let waiting = async {
            let half = frame(HEADERS, 0, 1, &field(":method", "POST"));
            let acknowledged = frame(SETTINGS, ACK, 0, &[]);
            for said in join_all([answer2(address, &[], b""), answer2(address, &[], &half), answer2(address, &[], &acknowledged)].map(Box::pin)).await {
                assert!(frames(&said).iter().any(|frame| frame.kind == SETTINGS));
            }
        };
        let silent = async {
            for word in ["", "POST /v1/responses HTTP/1.1\r\nhost:", "PRI * HTTP/2.0\r\n\r\n"] {
                let said = answer(address, word.as_bytes()).await;
                assert!(said.is_empty() || said.starts_with("HTTP/1.1 408"), "{said}");
            }
        };
        tokio::join!(dripping, stranger, slow_body, shut_window, waiting, silent, served(&switchboard));

        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(16 * 1024).expect("a small buffer");
        let mut deaf = socket.connect(address.parse().expect("an address")).await.expect("connected");
        let asked = format!(
            "POST /v1/responses HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{endless}",
            endless.len()
        );
        deaf.write_all(asked.as_bytes()).await.expect("sent");
        deaf.readable().await.expect("an answer");
        eventually("nobody is waited for", || world.sim.state().open_streams() == 0).await;
        served(&switchboard).await;
        for (why, least) in [("headers", 3), ("idle", 3), ("reader", 1)] {
            eventually_async("the metrics tell", async || closed(&switchboard, why).await >= least).await;
        }
        let reset = async || counted(&switchboard, "streams_reset", "reader").await >= 1;
        eventually_async("the metrics tell of the stream that was reset", reset).await;
    }

    /// Small bodies that would become large ones, of agents and of strangers.
    async fn bombs_do_not_go_off(topology) {
        let (world, _) = World::with_login().await;
        world.home.set("gateway.max_body_bytes", "4194304").set("gateway.max_held_bytes", "16777216");
        let mut switchboard = world.start(topology).await;
        served(&switchboard).await;
        let before = memory(&mut switchboard);
        let large = vec![b' '; 256 * 1024 * 1024];
        let zstd = zstd::encode_all(large.as_slice(), 3).expect("encoded");
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&large).expect("encoded");
        let gzip = gzip.finish().expect("encoded");
        drop(large);
        let throw = |key: Option<&str>, encoding: &'static str, bomb: &[u8]| {
            let http = switchboard.http_as(key);
            let request = http.request(Method::POST, "/v1/responses").header("content-encoding", encoding);
            Box::pin(Answer::of(request.body(bomb.to_vec())))
        };
        let key = switchboard.key();
        let bombs = [("zstd", &zstd), ("gzip", &gzip)].into_iter().cycle().take(32);
        for refused in join_all(bombs.clone().map(|(encoding, bomb)| throw(Some(&key), encoding, bomb))).await {
            assert!([413, 503].contains(&refused.status), "{}", refused.text());
        }
        for refused in join_all(bombs.map(|(encoding, bomb)| throw(None, encoding, bomb))).await {
            assert_eq!(refused.status, 401, "{}", refused.text());
        }
        let mut wide = zstd::Encoder::new(Vec::new(), 1).expect("an encoder");
        wide.window_log(27).expect("a window");
        wide.write_all(json!({ "model": MODEL, "input": "Hello" }).to_string().as_bytes()).expect("encoded");
        let refused = throw(Some(&key), "zstd", &wide.finish().expect("encoded")).await.is(400);
        assert_eq!(refused.json()["error"]["reason"], "REQUEST_INVALID");
        let grown = memory(&mut switchboard).saturating_sub(before);
        assert!(grown < SLACK + 32 * 1024 * 1024, "memory has grown by {} KiB", grown / 1024);
        served(&switchboard).await;
    }

    /// A client that begins to speak TLS and does not go on.
    async fn a_handshake_that_does_not_end_is_ended(topology) {
        let (world, _) = World::with_login().await;
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        let certificate = world.home.write("gateway.pem", &made.cert.pem());
        let key = world.home.write("gateway-key.pem", &made.signing_key.serialize_pem());
        world.home.set("gateway.tls_cert", format!("{certificate:?}")).set("gateway.tls_key", format!("{key:?}"));
        world.home.set("gateway.headers_timeout", "\"1s\"");
        let switchboard = world.start(topology).await;
        let address = switchboard.address();
        for word in [&b""[..], b"\x16\x03\x01\x02\x00\x01\x00", b"POST / HTTP/1.1\r\n"] {
            answer(address, word).await;
        }
        eventually_async("the metrics tell", async || closed(&switchboard, "tls").await >= 3).await;
    }
}
