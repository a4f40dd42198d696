//! More than there is room for: what comes too much is refused at once, and memory stays where it is.

use std::time::Duration;

use e2e::{Http, eventually, failure_from_status, question};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::{MODEL, World, streamed, whole};

/// A body with an image or two.
const BODY: usize = 10 * 1024 * 1024;
/// How many of them are offered at a time.
const OFFERED: usize = 500;
/// How many of them there is room for.
const ROOM: usize = 6;
/// What the processes may grow by together: each body that is let in, in its pieces and whole, and what 500 connections
/// and the parts of bodies on their way need.
const GROWTH: u64 = 3 * (ROOM * BODY) as u64 + 96 * 1024 * 1024;

/// A body of `BODY` bytes, in two parts, of which the second is short.
fn body() -> (Vec<u8>, Vec<u8>) {
    let (start, end) = (
        format!("{{\"model\":\"{MODEL}\",\"stream\":false,\"input\":\"Reply exactly: OK\",\"instructions\":\""),
        "\"}",
    );
    let mut first = start.into_bytes();
    first.resize(BODY - end.len(), b'x');
    (first, end.into())
}

/// Offers a body but for its end. Gives the answer if one comes before, else the connection that waits for the end.
async fn offer(address: String, key: String, first: std::sync::Arc<Vec<u8>>) -> Result<TcpStream, String> {
    let mut stream = TcpStream::connect(&address).await.expect("connected");
    let head = format!(
        "POST /v1/responses HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {key}\r\n\
         content-type: application/json\r\ncontent-length: {BODY}\r\n\r\n"
    );
    let (mut reads, mut writes) = stream.split();
    let write = async {
        writes.write_all(head.as_bytes()).await?;
        for part in first.chunks(64 * 1024) {
            writes.write_all(part).await?;
        }
        std::io::Result::Ok(())
    };
    let mut answer = vec![0; 2048];
    let answered = tokio::select! {
        biased;
        read = reads.read(&mut answer) => Some(read),
        // A refusal does not wait for ever for who still sends.
        written = write => if written.is_err() { Some(reads.read(&mut answer).await) } else { None },
    };
    let answered = match answered {
        Some(read) => Ok(read),
        // What is refused is refused before its end.
        None => tokio::time::timeout(Duration::from_secs(10), reads.read(&mut answer)).await,
    };
    match answered {
        Ok(read) => Err(String::from_utf8_lossy(&answer[..read.unwrap_or(0)]).into_owned()),
        Err(_) => Ok(stream),
    }
}

e2e::in_each_topology! {
    /// 500 callers offer 10 MiB each. There is room for six: they are answered, the others get SHED at once, and the
    /// memory of the processes grows by what six need.
    async fn bodies_without_room_are_refused_before_memory_grows(topology) {
        let (world, _) = World::with_login().await;
        world.home.set("gateway.max_held_bytes", (ROOM * BODY + BODY / 2).to_string());
        let mut switchboard = world.start(topology).await;
        let memory = |switchboard: &mut e2e::Switchboard| -> u64 {
            switchboard.processes().filter_map(|process| process.memory()).sum()
        };
        let _ = switchboard.http().respond(&whole("Reply exactly: OK")).await.is(200);
        let before = memory(&mut switchboard);
        let (first, last) = body();
        let first = std::sync::Arc::new(first);
        let mut offers = JoinSet::new();
        for _ in 0..OFFERED {
            offers.spawn(offer(switchboard.address().to_owned(), switchboard.key(), std::sync::Arc::clone(&first)));
        }
        let (mut waiting, mut refused, mut told, mut most) = (Vec::new(), 0, 0, 0);
        let health = Http::new(&switchboard.admin_url(e2e::Part::Gateway), None);
        while let Some(offered) = offers.join_next().await {
            match offered.expect("no panic") {
                Ok(stream) => waiting.push(stream),
                Err(answer) => {
                    refused += 1;
                    if answer.is_empty() {
                        continue;
                    }
                    told += 1;
                    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("\"SHED\""), "{answer}");
                    assert!(answer.to_ascii_lowercase().contains("\r\nretry-after: 1\r\n"), "{answer}");
                }
            }
            if refused % 50 == 1 {
                let _ = health.get("/healthz").await.is(200);
                most = most.max(memory(&mut switchboard));
            }
        }
        most = most.max(memory(&mut switchboard));
        assert_eq!((waiting.len(), refused), (ROOM, OFFERED - ROOM));
        assert!(told > OFFERED / 10, "{told} were told why");
        for mut stream in waiting {
            stream.write_all(&last).await.expect("sent");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.expect("an answer");
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            most = most.max(memory(&mut switchboard));
        }
        let grown = most.saturating_sub(before);
        assert!(grown < GROWTH, "memory has grown by {} MiB", grown / 1024 / 1024);
        // All of it was given back.
        let large = switchboard.http().request(reqwest::Method::POST, "/v1/responses").body([first.as_slice(), &last].concat());
        let _ = e2e::Answer::of(large).await.is(200);
    }

    /// A gateway takes as many calls as it is told to, over both faces together; the place of a call that ends, or whose
    /// caller leaves, is the next one's.
    async fn calls_without_a_place_are_refused(topology) {
        let (world, _) = World::with_login().await;
        world.home.set("gateway.max_calls", "2").set("gateway.max_key_share", "100");
        let switchboard = world.start(topology).await;
        let endless = streamed("[[sim:long:4000:16:100]]");
        let (first, _second) = (switchboard.http().open(&endless).await, switchboard.http().open(&endless).await);
        assert_eq!(first.status(), 200);
        let refused = switchboard.http().respond(&whole("Reply exactly: OK")).await.is(503);
        assert_eq!((refused.json()["error"]["reason"].as_str(), refused.header("retry-after")), (Some("SHED"), "1"));
        let refused = switchboard.grpc().complete(question(MODEL, "Reply exactly: OK")).await.expect_err("full");
        assert_eq!(failure_from_status(&refused, "gateway").reason.as_str(), "SHED");
        let _ = switchboard.http_as(None).respond(&whole("Hello")).await.is(401);
        drop(first);
        eventually("one call is left", || world.sim.state().open_streams() == 1).await;
        switchboard.grpc().complete(question(MODEL, "Reply exactly: OK")).await.expect("there is a place");
        let _ = switchboard.http().respond(&whole("Reply exactly: OK")).await.is(200);
    }

    /// An answer that is put together is counted as it grows; one for which there is no room ends with SHED, is recorded
    /// so, and ends upstream. The same answer streamed needs no room.
    async fn an_answer_without_room_is_not_put_together(topology) {
        let (world, _) = World::with_login().await;
        world.home.set("gateway.max_held_bytes", "1000000").set("gateway.max_body_bytes", "100000");
        let switchboard = world.start(topology).await;
        let long = "[[sim:long:2000:1000]]";
        let refused = switchboard.http().respond(&whole(long)).await.is(503);
        assert_eq!(refused.json()["error"]["reason"], "SHED");
        let refused = switchboard.grpc().complete(question(MODEL, long)).await.expect_err("too much");
        assert_eq!(failure_from_status(&refused, "gateway").reason.as_str(), "SHED");
        eventually("nothing is open", || world.sim.state().open_streams() == 0).await;
        let calls = switchboard.cli(&["calls", "list", "--failed", "--json"]).await.ok().json();
        let reasons: Vec<_> = calls["calls"].as_array().expect("calls").iter().map(|c| c["error"]["reason"].clone()).collect();
        assert_eq!(reasons, ["SHED", "SHED"]);
        let through = switchboard.http().respond(&streamed(long)).await.is(200);
        assert_eq!(through.event_kinds().last().map(String::as_str), Some("response.completed"));
        let _ = switchboard.http().respond(&whole("[[sim:long:50:1000]]")).await.is(200);
    }

    /// One key takes its share of the places and of the bytes, and no more; what it left is there for another key. Who is
    /// refused for the share is told so, and the metrics tell one kind of SHED from the other.
    async fn one_key_leaves_room_for_the_others(topology) {
        let (world, _) = World::with_login().await;
        world.home.set("gateway.max_calls", "4").set("gateway.max_body_bytes", "100000");
        world.home.set("gateway.max_held_bytes", "400000");
        let switchboard = world.start(topology).await;
        let other = switchboard.cli(&["keys", "create", "other"]).await.ok().stdout.trim().to_owned();
        let endless = streamed("[[sim:long:4000:16:100]]");
        let greedy = switchboard.http();
        let _open = [greedy.open(&endless).await, greedy.open(&endless).await];
        let refused = greedy.respond(&whole("Reply exactly: OK")).await.is(503).json();
        assert_eq!(refused["error"]["reason"], "SHED");
        assert!(refused["error"]["message"].as_str().expect("a message").contains("its share"), "{refused}");
        assert!(refused["error"]["next_step"].as_str().expect("a step").contains("max_key_share"), "{refused}");
        let _ = switchboard.http_as(Some(&other)).respond(&whole("Reply exactly: OK")).await.is(200);
        let refused = switchboard.grpc().complete(question(MODEL, "Reply exactly: OK")).await.expect_err("its share");
        assert_eq!(failure_from_status(&refused, "gateway").reason.as_str(), "SHED");
        // The operator has no key, and finds out what goes on while an agent runs wild.
        let _ = switchboard.cli(&["call", "--model", MODEL, "--message", "Reply exactly: OK"]).await.ok();
        drop(_open);
        eventually("nothing is open", || world.sim.state().open_streams() == 0).await;

        // 200,000 bytes are one key's: an answer of 300,000 that is put together is more.
        let refused = greedy.respond(&whole("[[sim:long:300:1000]]")).await.is(503).json();
        assert!(refused["error"]["message"].as_str().expect("a message").contains("held for this agent key"), "{refused}");
        let metrics = Http::new(&switchboard.admin_url(e2e::Part::Gateway), None).get("/metrics").await.is(200).text();
        for kind in ["key_calls\"} 2", "key_bytes\"} 1"] {
            assert!(metrics.contains(&format!("switchboard_shed_total{{what=\"{kind}")), "{metrics}");
        }
    }

    /// transport-svc takes as many upstream requests as it is told to; a further call gets SHED, which names the setting,
    /// and nothing is sent.
    async fn upstream_requests_without_a_place_are_refused(topology) {
        let (world, _) = World::with_login().await;
        world.home.set("transport.max_calls", "1");
        let switchboard = world.start(topology).await;
        let open = switchboard.http().open(&streamed("[[sim:long:4000:16:100]]")).await;
        assert_eq!(open.status(), 200);
        let before = world.upstream().len();
        let refused = switchboard.http().respond(&whole("Reply exactly: OK")).await.is(503).json();
        assert_eq!((&refused["error"]["reason"], &refused["error"]["service"]), (&"SHED".into(), &"transport-svc".into()));
        assert!(refused["error"]["next_step"].as_str().expect("a step").contains("[transport] max_calls"), "{refused}");
        assert_eq!(world.upstream().len(), before);
        drop(open);
        eventually("nothing is open", || world.sim.state().open_streams() == 0).await;
        e2e::eventually_async("the place is the next one's", async || {
            switchboard.http().respond(&whole("Reply exactly: OK")).await.status == 200
        })
        .await;
    }
}
